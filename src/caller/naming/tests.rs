#![allow(clippy::unwrap_used)]

use std::path::Path;

use serde_json::{Map, Value, json};

use super::*;

fn at<T>(value: T) -> At<T> {
    At { value, span: 0..0 }
}

fn text(value: &str) -> At<String> {
    at(value.to_owned())
}

fn raw(preset: Option<&str>, headers: &[(&str, &str)], assertion: bool) -> RawIdentity {
    RawIdentity {
        preset: preset.map(text),
        headers: headers.iter().map(|(name, claim)| (text(name), text(claim))).collect(),
        assertion: Some(at(assertion)),
    }
}

fn compile(raw: &RawIdentity, route_headers: &[&str]) -> Result<Naming, Vec<String>> {
    let mut problems = Problems::new(Path::new("gateway.toml"), "");
    let route_headers: Vec<_> = route_headers.iter().map(|name| text(name)).collect();
    let naming = Naming::compile(raw, &route_headers, &mut problems);
    let errors: Vec<_> = problems
        .errors()
        .iter()
        .map(|problem| format!("{}; {}", problem.message, problem.hint.as_deref().expect("a hint")))
        .collect();
    if errors.is_empty() { Ok(naming) } else { Err(errors) }
}

fn naming(preset: &str) -> Naming {
    compile(&raw(Some(preset), &[], false), &[]).unwrap()
}

fn headers(names: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for name in names {
        headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_static("forged"));
    }
    headers
}

fn names(headers: &HeaderMap) -> Vec<&str> {
    let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    names
}

fn caller(claims: Value) -> Caller {
    let Value::Object(claims) = claims else { unreachable!("tests give objects") };
    Caller::new(Identity {
        issuer: "corp".into(),
        subject: "u-1".to_owned(),
        email: Some("a@example.com".to_owned()),
        name: Some("Jürgen, the 1st".to_owned()),
        roles: vec!["admin".to_owned(), "a,b".to_owned()],
        scopes: Vec::new(),
        token_id: None,
        session_id: None,
        issued_at: None,
        expires_at: 2_000_000_000,
        claims,
    })
}

fn set(naming: &Naming, caller: &Caller) -> Vec<(String, String)> {
    let mut headers = HeaderMap::new();
    naming.set(&mut headers, Some(caller)).unwrap();
    let mut set: Vec<_> =
        headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    set.sort_unstable();
    set
}

fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(String, String)> {
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
}

#[test]
fn the_passgate_preset_is_the_default_and_says_what_the_contract_says() {
    let naming = compile(&RawIdentity::default(), &[]).unwrap();
    let expected = pairs([
        ("x-auth-email", "a@example.com"),
        ("x-auth-issuer", "corp"),
        ("x-auth-name", "J%C3%BCrgen, the 1st"),
        ("x-auth-roles", "admin,a%2Cb"),
        ("x-auth-user", "u-1"),
    ]);
    assert_eq!(set(&naming, &caller(json!({}))), expected);
    assert_eq!(naming.assertion_header(), None);
    let naming = compile(&raw(None, &[], true), &[]).unwrap();
    assert_eq!(naming.assertion_header().unwrap(), "x-auth-assertion");
}

#[test]
fn the_other_presets_say_it_in_their_names_and_the_user_is_always_sub() {
    let who = json!({"preferred_username": "alice", "sub": "u-1"});
    let expected = pairs([
        ("x-forwarded-email", "a@example.com"),
        ("x-forwarded-groups", "admin,a%2Cb"),
        ("x-forwarded-preferred-username", "alice"),
        ("x-forwarded-user", "u-1"),
    ]);
    assert_eq!(set(&naming("oauth2-proxy"), &caller(who.clone())), expected);
    let expected = pairs([
        ("remote-email", "a@example.com"),
        ("remote-groups", "admin,a%2Cb"),
        ("remote-name", "J%C3%BCrgen, the 1st"),
        ("remote-user", "u-1"),
    ]);
    assert_eq!(set(&naming("authelia"), &caller(who)), expected);
}

#[test]
fn configured_claims_are_sent_where_the_token_has_them() {
    let naming =
        compile(&raw(None, &[("X-Tenant", "tenant"), ("X-Level", "org.level"), ("X-Nothing", "org")], false), &[])
            .unwrap();
    let all = set(&naming, &caller(json!({"tenant": ["acme", "b"], "org": {"level": 3}})));
    let ours: Vec<_> = all.into_iter().filter(|(name, _)| !name.starts_with("x-auth-")).collect();
    assert_eq!(ours, pairs([("x-level", "3"), ("x-tenant", "acme,b")]));
}

#[test]
fn every_identity_name_in_any_spelling_is_removed_whoever_sent_it() {
    let naming = compile(&raw(Some("authelia"), &[("X-Tenant", "tenant")], false), &["X-Env"]).unwrap();
    let sent = [
        "X-Auth-User",
        "x_auth_user",
        "X.Auth~Roles",
        "x-auth_email",
        "X-Auth-Name",
        "X-Auth-Issuer",
        "X_AUTH_ASSERTION",
        "Remote-User",
        "remote_groups",
        "Remote.Email",
        "REMOTE|NAME",
        "x_tenant",
        "X-Env",
        "x_env",
        "X-Forwarded-User",
        "x_forwarded_groups",
    ];
    for trusted in [false, true] {
        let mut headers = headers(&sent);
        headers.append("accept", HeaderValue::from_static("*/*"));
        headers.append("x-auth-users", HeaderValue::from_static("another name"));
        naming.strip(&mut headers, trusted);
        assert_eq!(names(&headers), ["accept", "x-auth-users"]);
    }
    for name in sent {
        assert!(naming.is_protected(&HeaderName::try_from(name).unwrap()), "{name}");
    }
    assert!(!naming.is_protected(&HeaderName::from_static("grpc-status")));
}

#[test]
fn every_line_of_a_repeated_name_is_removed() {
    let mut headers = headers(&["X-Auth-User", "X-Auth-User", "x_auth_user", "x_auth_user", "x-auth-user"]);
    naming("passgate").strip(&mut headers, false);
    assert!(headers.is_empty());
}

#[test]
fn forwarding_headers_pass_from_a_trusted_proxy_only_and_in_their_plain_spelling_only() {
    let plain = ["forwarded", "x-forwarded-for", "x-forwarded-port", "x-forwarded-proto", "x-real-ip", "x-request-id"];
    let odd = ["x_forwarded_for", "x-forwarded_proto", "x_real_ip", "x.request.id", "x_forwarded-anything"];
    let naming = naming("passgate");
    let all: Vec<_> = plain.into_iter().chain(odd).collect();
    let mut from_client = headers(&all);
    naming.strip(&mut from_client, false);
    assert!(from_client.is_empty(), "{from_client:?}");
    let mut from_proxy = headers(&all);
    naming.strip(&mut from_proxy, true);
    assert_eq!(names(&from_proxy), plain);
    assert!(all.iter().all(|name| naming.is_protected(&HeaderName::try_from(*name).unwrap())));
}

#[test]
fn a_name_that_a_preset_uses_for_identity_does_not_pass_from_a_trusted_proxy() {
    for preset in ["oauth2-proxy", "passgate"] {
        let mut headers = headers(&["X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Host"]);
        naming(preset).strip(&mut headers, true);
        assert_eq!(names(&headers), ["x-forwarded-host"]);
    }
}

#[test]
fn a_route_may_set_a_forwarding_name_without_taking_a_trusted_proxys_away() {
    let naming = compile(&RawIdentity::default(), &["X-Forwarded-Proto", "X-Forwarded-Prefix"]).unwrap();
    let mut headers = headers(&["X-Forwarded-Proto"]);
    naming.strip(&mut headers, true);
    assert_eq!(names(&headers), ["x-forwarded-proto"]);
}

#[test]
fn a_name_of_a_preset_that_is_not_active_may_be_configured() {
    let naming = compile(&raw(None, &[("X-Forwarded-User", "sub")], false), &["Remote-User"]).unwrap();
    assert!(set(&naming, &caller(json!({"sub": "u-1"}))).contains(&("x-forwarded-user".to_owned(), "u-1".to_owned())));
    let mut headers = headers(&["X-Forwarded-User", "Remote_User"]);
    naming.strip(&mut headers, true);
    assert!(headers.is_empty());
}

#[test]
fn nobody_gets_no_headers_and_a_caller_the_same_ones_at_each_request() {
    let naming = naming("passgate");
    let mut headers = HeaderMap::new();
    naming.set(&mut headers, None).unwrap();
    assert!(headers.is_empty());
    let caller = caller(json!({}));
    let first = set(&naming, &caller);
    let rendered = caller.headers.get().unwrap().as_ptr();
    assert_eq!(set(&naming, &caller), first);
    assert_eq!(caller.headers.get().unwrap().as_ptr(), rendered);
}

#[test]
fn an_absent_value_leaves_no_header() {
    let mut caller = caller(json!({}));
    caller.identity.email = None;
    caller.identity.name = Some(String::new());
    caller.identity.roles.clear();
    assert_eq!(set(&naming("passgate"), &caller), pairs([("x-auth-issuer", "corp"), ("x-auth-user", "u-1")]));
}

#[test]
fn values_that_no_app_would_read_whole_are_refused() {
    let naming = naming("passgate");
    let refused = |change: &dyn Fn(&mut Identity)| {
        let mut caller = caller(json!({}));
        change(&mut caller.identity);
        let mut headers = HeaderMap::new();
        let result = naming.set(&mut headers, Some(&caller));
        assert!(result.is_ok() || headers.is_empty(), "half of it was set");
        result == Err(Refusal::HeadersTooLarge)
    };
    assert!(!refused(&|who| who.subject = "x".repeat(MAX_VALUE)));
    assert!(refused(&|who| who.subject = "x".repeat(MAX_VALUE + 1)));
    assert!(refused(&|who| who.subject = "é".repeat(MAX_VALUE / 6 + 1)));
    assert!(refused(&|who| who.roles = (0..2000).map(|number| format!("role-{number}")).collect()));
    assert!(refused(&|who| {
        who.subject = "x".repeat(MAX_VALUE);
        who.email = Some("x".repeat(MAX_VALUE));
    }));
}

#[test]
fn what_is_wrong_with_the_table_is_said_all_at_once() {
    let errors = compile(
        &raw(
            Some("autelia"),
            &[
                ("X Tenant", "tenant"),
                ("Content_Length", "size"),
                ("X-Real-IP", "ip"),
                ("X_Auth_User", "email"),
                ("X-Auth-Assertion", "email"),
                ("X-Org", "a..b"),
                ("x_org", "org"),
            ],
            false,
        ),
        &["X-Env", "x-auth-roles", "X_Org"],
    )
    .unwrap_err();
    let expected = [
        "no identity preset `autelia`; did you mean `authelia`? there are `authelia`, `oauth2-proxy`, `passgate`",
        "`X Tenant` is not a header name",
        "`Content_Length` has another meaning",
        "`X-Real-IP` has another meaning",
        "`X_Auth_User` is set already",
        "`X-Auth-Assertion` is set already",
        "`a..b` is not a claim path",
        "`X-Org` and `x_org` are one name",
        "`x-auth-roles` says who is calling",
        "`X_Org` says who is calling",
    ];
    assert_eq!(errors.len(), expected.len(), "{errors:#?}");
    for (error, expected) in errors.iter().zip(expected) {
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn claims_cannot_smuggle_a_line_or_an_element() {
    let naming = compile(&raw(None, &[("X-Tenant", "tenant")], false), &[]).unwrap();
    let mut caller = caller(Value::Object(Map::from_iter([("tenant".to_owned(), json!("a\r\nX-Auth-Roles: admin"))])));
    caller.identity.subject = "bob\nX-Auth-User: root".to_owned();
    caller.identity.roles = vec!["user,admin".to_owned()];
    let all = set(&naming, &caller);
    assert!(all.contains(&("x-auth-user".to_owned(), "bob%0AX-Auth-User: root".to_owned())));
    assert!(all.contains(&("x-tenant".to_owned(), "a%0D%0AX-Auth-Roles: admin".to_owned())));
    assert!(all.contains(&("x-auth-roles".to_owned(), "user%2Cadmin".to_owned())));
}

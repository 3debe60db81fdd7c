#![allow(clippy::unwrap_used)]

use std::path::Path;

use http::HeaderValue;
use serde_json::{Map, Value, json};

use super::names::MAX_VALUE;
use super::*;
use crate::config::raw::{RawIdentity, RawRoute, RawServer};
use crate::identity::Identity;

fn at<T>(value: T) -> Spanned<T> {
    Spanned { value, span: 0..0 }
}

fn field(name: &str) -> Spanned<FieldName> {
    at(name.parse().unwrap())
}

fn path(claim: &str) -> Spanned<ClaimPath> {
    at(ClaimPath::parse(claim).unwrap())
}

fn raw(preset: Option<&str>, headers: &[(&str, &str)], assertion: bool) -> RawIdentity {
    RawIdentity {
        preset: preset.map(|name| at(name.to_owned())),
        headers: headers
            .iter()
            .map(|(name, claim)| (field(name), path(claim)))
            .collect(),
        assertion: Some(at(assertion)),
        ..RawIdentity::default()
    }
}

fn file(identity: &RawIdentity, route_headers: &[&str]) -> RawConfig {
    let headers = route_headers
        .iter()
        .map(|name| (field(name), at("x".parse().unwrap())))
        .collect();
    let route = RawRoute {
        headers,
        ..RawRoute::default()
    };
    RawConfig {
        identity: identity.clone(),
        routes: vec![at(route)],
        ..RawConfig::default()
    }
}

fn compile(raw: &RawIdentity, route_headers: &[&str]) -> Result<IdentityHeaders, Vec<String>> {
    compile_file(&file(raw, route_headers))
}

fn compile_file(file: &RawConfig) -> Result<IdentityHeaders, Vec<String>> {
    let mut problems = Problems::new(Path::new("gateway.toml"), "");
    let naming = IdentityHeaders::compile(file, &mut problems);
    let errors: Vec<_> = problems
        .errors()
        .iter()
        .map(|problem| {
            format!(
                "{}; {}",
                problem.message,
                problem.hint.as_deref().expect("a hint")
            )
        })
        .collect();
    if errors.is_empty() {
        Ok(naming)
    } else {
        Err(errors)
    }
}

fn from(trusted: bool) -> Passing<'static> {
    Passing {
        peer_is_trusted: trusted,
        ..Passing::default()
    }
}

fn naming(preset: &str) -> IdentityHeaders {
    compile(&raw(Some(preset), &[], false), &[]).unwrap()
}

fn headers(names: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for name in names {
        headers.append(
            HeaderName::try_from(*name).unwrap(),
            HeaderValue::from_static("forged"),
        );
    }
    headers
}

fn names(headers: &HeaderMap) -> Vec<&str> {
    let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    names
}

fn caller(claims: Value) -> Caller {
    let Value::Object(claims) = claims else {
        unreachable!("tests give objects")
    };
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

fn set(naming: &IdentityHeaders, caller: &Caller) -> Vec<(String, String)> {
    let mut headers = HeaderMap::new();
    naming.set(&mut headers, Some(caller)).unwrap();
    let mut set: Vec<_> = headers
        .iter()
        .map(|(name, value)| {
            (
                name.to_string(),
                std::str::from_utf8(value.as_bytes()).unwrap().to_owned(),
            )
        })
        .collect();
    set.sort_unstable();
    set
}

fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(String, String)> {
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
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
        ("remote-name", "Jürgen, the 1st"),
        ("remote-user", "u-1"),
    ]);
    assert_eq!(set(&naming("authelia"), &caller(who)), expected);
}

#[test]
fn configured_claims_are_sent_where_the_token_has_them() {
    let naming = compile(
        &raw(
            None,
            &[
                ("X-Tenant", "tenant"),
                ("X-Level", "org.level"),
                ("X-Nothing", "org"),
            ],
            false,
        ),
        &[],
    )
    .unwrap();
    let all = set(
        &naming,
        &caller(json!({"tenant": ["acme", "b"], "org": {"level": 3}})),
    );
    let ours: Vec<_> = all
        .into_iter()
        .filter(|(name, _)| !name.starts_with("x-auth-"))
        .collect();
    assert_eq!(ours, pairs([("x-level", "3"), ("x-tenant", "acme,b")]));
}

#[test]
fn every_identity_name_in_any_spelling_is_removed_whoever_sent_it() {
    let naming = compile(
        &raw(Some("authelia"), &[("X-Tenant", "tenant")], false),
        &["X-Env"],
    )
    .unwrap();
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
        naming.strip(&mut headers, from(trusted));
        assert_eq!(names(&headers), ["accept", "x-auth-users"]);
    }
    for name in sent {
        assert!(
            naming.is_protected(&HeaderName::try_from(name).unwrap()),
            "{name}"
        );
    }
    assert!(!naming.is_protected(&HeaderName::from_static("grpc-status")));
}

#[test]
fn every_line_of_a_repeated_name_is_removed() {
    let mut headers = headers(&[
        "X-Auth-User",
        "X-Auth-User",
        "x_auth_user",
        "x_auth_user",
        "x-auth-user",
    ]);
    naming("passgate").strip(&mut headers, from(false));
    assert!(headers.is_empty());
}

#[test]
fn forwarding_headers_pass_from_a_trusted_proxy_only_and_in_their_plain_spelling_only() {
    let plain = [
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-proto",
        "x-request-id",
    ];
    let named = [
        "forwarded",
        "x-forwarded-client-cert",
        "x-real-ip",
        "x-ssl-client-verify",
    ];
    let odd = [
        "x_forwarded_for",
        "x-forwarded_proto",
        "x_real_ip",
        "x.request.id",
        "x_forwarded-anything",
        "x_ssl-client-verify",
    ];
    let other = [
        "x-forwarded-uri",
        "x-forwarded-access-token",
        "x-forwarded-prefix",
        "ssl-client-verify",
        "x-forwarded",
    ];
    let naming = naming("passgate");
    let all: Vec<_> = plain.into_iter().chain(named).chain(odd).chain(other).collect();
    let mut from_client = headers(&all);
    naming.strip(&mut from_client, from(false));
    assert!(from_client.is_empty(), "{from_client:?}");
    let mut from_proxy = headers(&all);
    naming.strip(&mut from_proxy, from(true));
    assert_eq!(names(&from_proxy), plain);

    let trusted_headers = named.map(|name| field(&name.to_uppercase())).to_vec();
    let trusting = RawConfig {
        server: RawServer {
            trusted_headers,
            ..RawServer::default()
        },
        ..RawConfig::default()
    };
    let trusting = compile_file(&trusting).unwrap();
    let mut from_client = headers(&all);
    trusting.strip(&mut from_client, from(false));
    assert!(from_client.is_empty(), "{from_client:?}");
    let mut from_proxy = headers(&all);
    trusting.strip(&mut from_proxy, from(true));
    let mut believed: Vec<_> = plain.into_iter().chain(named).collect();
    believed.sort_unstable();
    assert_eq!(names(&from_proxy), believed);
    assert!(
        all.iter()
            .all(|name| naming.is_protected(&HeaderName::try_from(*name).unwrap()))
    );
}

/// One or more names for each pattern of the embedded list, and what stands beside it.
#[test]
fn what_other_products_say_is_removed_on_every_route_in_every_spelling_and_one_may_be_kept() {
    let naming = naming("passgate");
    let kept = [
        HeaderName::from_static("x-http-method-override"),
        HeaderName::from_static("x-forwarded-uri"),
    ];
    for pattern in foreign::names() {
        let name = match (pattern.strip_suffix('*'), pattern.strip_prefix('*')) {
            (Some(prefix), _) => format!("{prefix}Any"),
            (None, Some(suffix)) => format!("WL{suffix}"),
            (None, None) => pattern.clone(),
        };
        let underscored = name.replace('-', "_");
        for spelling in [
            name.clone(),
            name.to_lowercase(),
            underscored,
            name.replace('-', "."),
            name.replacen('-', "~", 1),
        ] {
            for passing in [
                from(false),
                from(true),
                Passing {
                    kept: &kept,
                    ..from(true)
                },
            ] {
                let mut sent = headers(&[&spelling]);
                naming.strip(&mut sent, passing);
                assert!(sent.is_empty(), "{spelling}");
            }
            assert!(naming.is_protected(&HeaderName::try_from(&*spelling).unwrap()));
        }
    }
    let mut sent = headers(&[
        "X-HTTP-Method-Override",
        "X_HTTP_Method_Override",
        "X-HTTP-Method",
        "X-Forwarded-Uri",
    ]);
    naming.strip(
        &mut sent,
        Passing {
            kept: &kept,
            ..Passing::default()
        },
    );
    assert_eq!(names(&sent), ["x-http-method-override"]);
    // A credential that was verified, and that the app is to have; never what passgate says itself.
    let credential = HeaderName::from_static("cf-access-jwt-assertion");
    let mut sent = headers(&[
        "Cf-Access-Jwt-Assertion",
        "cf_access_jwt_assertion",
        "Cf-Access-Email",
    ]);
    naming.strip(
        &mut sent,
        Passing {
            credential: Some(&credential),
            ..Passing::default()
        },
    );
    assert_eq!(names(&sent), ["cf-access-jwt-assertion"]);
    let ours = HeaderName::from_static("x-auth-assertion");
    let mut sent = headers(&["X-Auth-Assertion"]);
    naming.strip(
        &mut sent,
        Passing {
            credential: Some(&ours),
            kept: std::slice::from_ref(&ours),
            ..from(true)
        },
    );
    assert!(sent.is_empty());
}

#[test]
fn parameters_and_secrets_of_clients_pass() {
    let sent = [
        "x-gitlab-token",
        "x-hasura-role",
        "x-user-id",
        "x-csrf-token",
        "x-requested-with",
        "x-amzn-trace-id",
        "x-api-key",
        "x-correlation-id",
        "x-request-start",
        "x-hub-signature",
        "sec-websocket-key",
        "true-client",
        "remote",
        "proxy-features",
        "client-id",
        "ssl-client",
        "x-auth",
        "x-sslx",
        "content-length",
        "transfer-encoding",
        "authorization",
        "cookie",
    ];
    let mut passed = headers(&sent);
    naming("passgate").strip(&mut passed, Passing::default());
    assert_eq!(passed.len(), sent.len(), "{passed:?}");
}

#[test]
fn what_passes_is_never_what_passgate_sets_or_reads() {
    let never = [
        "X-Auth-User",
        "x-auth-anything",
        "X_AUTH_ROLES",
        "Remote-User",
        "Remote-Groups",
        "X-Forwarded-User",
        "X-Forwarded-Groups",
        "X-Forwarded-Preferred-Username",
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "x-forwarded-host",
        "X-Forwarded-Port",
        "X-Forwarded-Prefix",
        "X-Request-Id",
        "X-Tenant",
        "X-Env",
        "X_Env",
        "Authorization",
        "Cookie",
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "Connection",
    ];
    let errors = |kept: &[&str], trusted: &[&str]| {
        let mut file = file(&raw(None, &[("X-Tenant", "tenant")], false), &["X-Env"]);
        file.routes.push(at(RawRoute {
            keep_headers: kept.iter().map(|name| field(name)).collect(),
            ..RawRoute::default()
        }));
        file.server.trusted_headers = trusted.iter().map(|name| field(name)).collect();
        compile_file(&file).err().unwrap_or_default()
    };
    for name in never {
        for (key, errors) in [
            ("keep_headers", errors(&[name], &[])),
            ("trusted_headers", errors(&[], &[name])),
        ] {
            assert_eq!(errors.len(), 1, "{name}: {errors:?}");
            assert!(
                errors[0].contains(&format!("`{key}` cannot name `{name}`")),
                "{errors:?}"
            );
        }
    }
    for name in ["X_HTTP_Method_Override", "X.SSO.User"] {
        let hint = format!("write `{}`", name.replace(['_', '.'], "-"));
        assert!(
            errors(&[name], &[])[0].contains(&hint) && errors(&[], &[name])[0].contains(&hint),
            "{name}"
        );
    }
    for name in [
        "Forwarded",
        "X-Real-IP",
        "X-Forwarded-Uri",
        "X-Forwarded-Client-Cert",
    ] {
        assert!(errors(&[name], &[])[0].contains("trusted_headers"), "{name}");
        assert_eq!(errors(&[], &[name]), [""; 0], "{name}");
    }
    for name in [
        "X-HTTP-Method-Override",
        "CF-Connecting-IP",
        "X-SSL-Client-Verify",
        "Remote-Addr",
        "X-Unlisted",
    ] {
        assert_eq!(
            (errors(&[name], &[]), errors(&[], &[name])),
            (vec![], vec![]),
            "{name}"
        );
    }
}

#[test]
fn an_encoding_of_the_file_comes_before_that_of_the_preset() {
    for (preset, encoding, name) in [
        ("passgate", None, "J%C3%BCrgen, the 1st"),
        ("passgate", Some("utf-8"), "Jürgen, the 1st"),
        ("authelia", None, "Jürgen, the 1st"),
        ("authelia", Some("percent"), "J%C3%BCrgen, the 1st"),
        ("oauth2-proxy", None, "Jürgen, the 1st"),
        ("oauth2-proxy", Some("percent"), "J%C3%BCrgen, the 1st"),
    ] {
        let raw = RawIdentity {
            encoding: encoding.map(|name| at(name.to_owned())),
            ..raw(Some(preset), &[("X-Full-Name", "name")], false)
        };
        let set = set(
            &compile(&raw, &[]).unwrap(),
            &caller(json!({"name": "Jürgen\n, the 1st"})),
        );
        let found = |header: &str| {
            set.iter()
                .find(|(name, _)| name == header)
                .map(|(_, value)| value.as_str())
        };
        if preset != "oauth2-proxy" {
            assert_eq!(
                found(if preset == "authelia" {
                    "remote-name"
                } else {
                    "x-auth-name"
                }),
                Some(name)
            );
        }
        assert_eq!(
            found("x-full-name"),
            Some(&*name.replace(',', "%0A%2C")),
            "{preset} {encoding:?}"
        );
        let roles = match preset {
            "authelia" => "remote-groups",
            "oauth2-proxy" => "x-forwarded-groups",
            _ => "x-auth-roles",
        };
        assert_eq!(
            found(roles),
            Some("admin,a%2Cb"),
            "a comma of a role is encoded always"
        );
    }
}

#[test]
fn an_unverified_email_is_told_only_where_the_file_says_so() {
    let unverified = || caller(json!({"email": "a@example.com", "email_verified": false}));
    let emails = |on: Option<bool>, caller: Caller| {
        let raw = RawIdentity {
            unverified_email: on.map(at),
            ..raw(None, &[("X-Mail", "email")], false)
        };
        let set = set(&compile(&raw, &[]).unwrap(), &caller);
        set.into_iter()
            .filter(|(_, value)| value == "a@example.com")
            .map(|(name, _)| name)
            .collect::<Vec<_>>()
    };
    assert_eq!(emails(None, unverified()), [""; 0]);
    assert_eq!(emails(Some(false), unverified()), [""; 0]);
    assert_eq!(emails(Some(true), unverified()), ["x-auth-email", "x-mail"]);
    assert_eq!(
        emails(
            None,
            caller(json!({"email": "a@example.com", "email_verified": true}))
        ),
        ["x-auth-email", "x-mail"]
    );
    assert_eq!(
        emails(None, caller(json!({"email": "a@example.com"}))),
        ["x-auth-email", "x-mail"]
    );
}

#[test]
fn a_name_that_a_preset_uses_for_identity_does_not_pass_from_a_trusted_proxy() {
    for preset in ["oauth2-proxy", "passgate"] {
        let mut headers = headers(&["X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Host"]);
        naming(preset).strip(&mut headers, from(true));
        assert_eq!(names(&headers), ["x-forwarded-host"]);
    }
}

#[test]
fn a_route_may_set_a_forwarding_name_without_taking_a_trusted_proxys_away() {
    let naming = compile(
        &RawIdentity::default(),
        &["X-Forwarded-Proto", "X-Forwarded-Prefix"],
    )
    .unwrap();
    let mut headers = headers(&["X-Forwarded-Proto"]);
    naming.strip(&mut headers, from(true));
    assert_eq!(names(&headers), ["x-forwarded-proto"]);
}

#[test]
fn a_name_of_a_preset_that_is_not_active_may_be_configured() {
    let naming = compile(
        &raw(None, &[("X-Forwarded-User", "sub")], false),
        &["Remote-User"],
    )
    .unwrap();
    assert!(
        set(&naming, &caller(json!({"sub": "u-1"})))
            .contains(&("x-forwarded-user".to_owned(), "u-1".to_owned()))
    );
    let mut headers = headers(&["X-Forwarded-User", "Remote_User"]);
    naming.strip(&mut headers, from(true));
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
    assert_eq!(
        set(&naming("passgate"), &caller),
        pairs([("x-auth-issuer", "corp"), ("x-auth-user", "u-1")])
    );
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
    assert!(refused(
        &|who| who.roles = (0..2000).map(|number| format!("role-{number}")).collect()
    ));
    assert!(refused(&|who| {
        who.subject = "x".repeat(MAX_VALUE);
        who.email = Some("x".repeat(MAX_VALUE));
    }));
}

#[test]
fn what_is_wrong_with_the_table_is_said_all_at_once() {
    let errors = compile(
        &raw(
            Some("authelia"),
            &[
                ("Content_Length", "size"),
                ("X-Real-IP", "ip"),
                ("X_Auth_User", "email"),
                ("X-Auth-Assertion", "email"),
                ("X-Org", "a.b"),
                ("x_org", "org"),
            ],
            false,
        ),
        &["X-Env", "x-auth-roles", "X_Org"],
    )
    .unwrap_err();
    let expected = [
        "`Content_Length` has another meaning",
        "`X-Real-IP` has another meaning",
        "`X_Auth_User` is set already",
        "`X-Auth-Assertion` is set already",
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
    let mut caller = caller(Value::Object(Map::from_iter([(
        "tenant".to_owned(),
        json!("a\r\nX-Auth-Roles: admin"),
    )])));
    caller.identity.subject = "bob\nX-Auth-User: root".to_owned();
    caller.identity.roles = vec!["user,admin".to_owned()];
    let all = set(&naming, &caller);
    assert!(all.contains(&("x-auth-user".to_owned(), "bob%0AX-Auth-User: root".to_owned())));
    assert!(all.contains(&("x-tenant".to_owned(), "a%0D%0AX-Auth-Roles: admin".to_owned())));
    assert!(all.contains(&("x-auth-roles".to_owned(), "user%2Cadmin".to_owned())));
}

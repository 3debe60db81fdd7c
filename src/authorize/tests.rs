#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::clock::UnixSeconds;
use crate::config::raw::{RawClaim, RawRoles, RawRoute};
use crate::config::{Problems, Spanned};
use crate::identity::{ClaimPath, Identity, SESSION_ISSUER};
use crate::values::Scope;

const NOW: UnixSeconds = 1_800_000_000;

const FACTS: RequestFacts<'_> = RequestFacts {
    client: None,
    now: NOW,
    method: "GET",
    host: "app.example.com",
    path: "/",
};

const SOURCE: &str = "auth\nroles\nmore\nclaims\nscopes\n";

fn at<T>(value: T, line: usize) -> Spanned<T> {
    let start: usize = SOURCE.lines().take(line - 1).map(|line| line.len() + 1).sum();
    Spanned {
        value,
        span: start..start + 1,
    }
}

fn names(list: &[&str], line: usize) -> Vec<Spanned<String>> {
    list.iter().map(|name| at((*name).to_owned(), line)).collect()
}

fn roles(any: Option<&[&str]>, all: Option<&[&str]>, none: Option<&[&str]>) -> Option<Spanned<RawRoles>> {
    let list = |list: Option<&[&str]>| list.map(|list| names(list, 3));
    Some(at(
        RawRoles {
            any: list(any),
            all: list(all),
            none: list(none),
        },
        2,
    ))
}

fn asked(list: &[&str]) -> Vec<Spanned<Scope>> {
    list.iter().map(|scope| at(scope.parse().unwrap(), 5)).collect()
}

fn claims(list: &[(&str, RawClaim)]) -> Vec<(Spanned<ClaimPath>, Spanned<RawClaim>)> {
    list.iter()
        .map(|(path, value)| (at(ClaimPath::parse(path).unwrap(), 4), at(value.clone(), 4)))
        .collect()
}

fn auth(text: &str) -> Option<Spanned<Auth>> {
    let all = [Auth::None, Auth::Optional, Auth::Required];
    let auth = all.into_iter().find(|auth| auth.as_str() == text);
    Some(at(auth.unwrap(), 1))
}

fn compile(route: &RawRoute) -> (Rules, Problems) {
    let mut problems = Problems::new(Path::new("gateway.toml"), SOURCE);
    let rules = Rules::compile(route, &mut problems);
    (rules, problems)
}

fn rules(route: &RawRoute) -> Rules {
    let (rules, problems) = compile(route);
    assert!(problems.errors().is_empty(), "{:?}", problems.errors());
    rules
}

fn identity(roles: &[&str], scopes: &[&str], claims: Value) -> Identity {
    let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    Identity {
        issuer: "corp".into(),
        subject: "alice".to_owned(),
        email: None,
        name: None,
        roles: owned(roles),
        scopes: owned(scopes),
        token_id: None,
        session_id: None,
        issued_at: None,
        expires_at: 0,
        claims: claims.as_object().unwrap().clone(),
    }
}

fn caller(roles: &[&str], scopes: &[&str], claims: Value) -> Arc<Caller> {
    Arc::new(Caller::new(identity(roles, scopes, claims)))
}

/// The refusal and the rule's text; also checks that `explain` says the same.
fn denied(rules: &Rules, caller: Option<Arc<Caller>>) -> Option<(Refusal, String)> {
    let steps = rules.steps(caller.as_deref(), &FACTS);
    let denial = rules.decide(caller, &FACTS).err();
    let first = steps.iter().find(|step| !step.passed());
    let told = first.map(|step| Denial {
        refusal: step.refusal.unwrap(),
        rule: step.rule.clone(),
    });
    assert_eq!(told, denial);
    denial.map(|denial| (denial.refusal, denial.rule.to_string()))
}

fn refusal(rules: &Rules, caller: Arc<Caller>) -> Option<Refusal> {
    denied(rules, Some(caller)).map(|(refusal, _)| refusal)
}

#[test]
fn auth_decides_whether_nobody_may_pass() {
    let a_caller = || Some(caller(&[], &[], json!({})));
    let nothing_said = rules(&RawRoute::default());
    assert_eq!(nothing_said.auth(), Auth::Required);

    let required = rules(&RawRoute {
        auth: auth("required"),
        ..RawRoute::default()
    });
    let missing = (
        Refusal::CredentialMissing,
        "auth = \"required\" (gateway.toml:1)".to_owned(),
    );
    assert_eq!(denied(&required, None), Some(missing));
    assert!(required.decide(a_caller(), &FACTS).unwrap().caller().is_some());

    let optional = rules(&RawRoute {
        auth: auth("optional"),
        ..RawRoute::default()
    });
    assert!(optional.decide(None, &FACTS).unwrap().caller().is_none());
    assert!(optional.decide(a_caller(), &FACTS).unwrap().caller().is_some());
    assert_eq!(denied(&optional, None), None);

    let none = rules(&RawRoute {
        auth: auth("none"),
        ..RawRoute::default()
    });
    assert!(none.decide(None, &FACTS).unwrap().caller().is_none());
    assert!(none.decide(a_caller(), &FACTS).unwrap().caller().is_none());
    assert_eq!(
        none.steps(a_caller().as_deref(), &FACTS)[0].detail,
        "nothing is read"
    );
}

#[test]
fn roles_are_any_all_or_none_of_a_list() {
    for (wanted, held, passes) in [
        (roles(Some(&["a", "b"]), None, None), &["a"][..], true),
        (roles(Some(&["a", "b"]), None, None), &["x", "b"], true),
        (roles(Some(&["a", "b"]), None, None), &["x"], false),
        (roles(Some(&["a", "b"]), None, None), &[], false),
        (roles(Some(&["a"]), None, None), &["A"], false),
        (
            roles(Some(&["admin"]), None, None),
            &["administrator", "adm", " admin", "admin "],
            false,
        ),
        (roles(None, Some(&["a", "b"]), None), &["a", "b", "c"], true),
        (roles(None, Some(&["a", "b"]), None), &["a"], false),
        (roles(None, Some(&["a", "b"]), None), &[], false),
        (roles(None, None, Some(&["a", "b"])), &[], true),
        (roles(None, None, Some(&["a", "b"])), &["c"], true),
        (roles(None, None, Some(&["a", "b"])), &["c", "b"], false),
        (
            roles(Some(&["a", "b"]), Some(&["c"]), Some(&["d"])),
            &["b", "c"],
            true,
        ),
        (
            roles(Some(&["a", "b"]), Some(&["c"]), Some(&["d"])),
            &["b"],
            false,
        ),
        (
            roles(Some(&["a", "b"]), Some(&["c"]), Some(&["d"])),
            &["b", "c", "d"],
            false,
        ),
        (
            roles(Some(&["a", "b"]), Some(&["c"]), Some(&["d"])),
            &["c"],
            false,
        ),
    ] {
        let shown = format!("{wanted:?} {held:?}");
        let rules = rules(&RawRoute {
            roles: wanted,
            ..RawRoute::default()
        });
        let found = refusal(
            &rules,
            caller(held, &["a", "b", "c"], json!({"roles": ["a", "b", "c"]})),
        );
        assert_eq!(found, (!passes).then_some(Refusal::RoleRefused), "{shown}");
    }
}

#[test]
fn a_claim_equals_or_contains_by_type() {
    let text = |text: &str| RawClaim::Text(text.to_owned());
    for (path, wanted, held, passes) in [
        ("tenant", text("acme"), json!({"tenant": "acme"}), true),
        ("tenant", text("acme"), json!({"tenant": ["x", "acme"]}), true),
        ("tenant", text("acme"), json!({"tenant": "acme corp"}), false),
        ("tenant", text("acme"), json!({"tenant": "ACME"}), false),
        ("tenant", text("acme"), json!({"tenant": ["acme corp"]}), false),
        ("tenant", text("acme"), json!({"tenant": [["acme"]]}), false),
        ("tenant", text("acme"), json!({"tenant": {"acme": true}}), false),
        ("tenant", text("acme"), json!({"tenant": null}), false),
        ("tenant", text("acme"), json!({"tenants": "acme"}), false),
        ("tenant", text(""), json!({"tenant": ""}), true),
        ("tenant", text(""), json!({}), false),
        ("tenant", text(""), json!({"tenant": null}), false),
        ("org.id", RawClaim::Integer(1), json!({"org": {"id": 1}}), true),
        (
            "org.id",
            RawClaim::Integer(1),
            json!({"org": {"id": [2, 1]}}),
            true,
        ),
        ("org.id", RawClaim::Integer(1), json!({"org": {"id": "1"}}), false),
        ("org.id", RawClaim::Integer(1), json!({"org": {"id": 1.0}}), false),
        (
            "org.id",
            RawClaim::Integer(1),
            json!({"org": {"id": true}}),
            false,
        ),
        (
            "org.id",
            RawClaim::Integer(-1),
            json!({"org": {"id": u64::MAX}}),
            false,
        ),
        ("org.id", RawClaim::Integer(1), json!({"org": [{"id": 1}]}), false),
        ("n", text("1"), json!({"n": 1}), false),
        ("b", RawClaim::Boolean(true), json!({"b": true}), true),
        ("b", RawClaim::Boolean(true), json!({"b": "true"}), false),
        ("b", RawClaim::Boolean(true), json!({"b": 1}), false),
        ("b", RawClaim::Boolean(false), json!({}), false),
        ("b", RawClaim::Boolean(false), json!({"b": null}), false),
        (
            "https://x.example/t",
            text("a"),
            json!({"https://x.example/t": "a"}),
            true,
        ),
    ] {
        let rules = rules(&RawRoute {
            claims: claims(&[(path, wanted.clone())]),
            ..RawRoute::default()
        });
        let found = refusal(&rules, caller(&[], &[], held.clone()));
        assert_eq!(
            found,
            (!passes).then_some(Refusal::ClaimRefused),
            "{path} {wanted:?} {held}"
        );
    }
}

#[test]
fn every_scope_is_needed() {
    let rules = rules(&RawRoute {
        scopes: asked(&["reports:read", "openid"]),
        ..RawRoute::default()
    });
    assert_eq!(
        refusal(&rules, caller(&[], &["openid", "reports:read"], json!({}))),
        None
    );
    for held in [
        &["openid"][..],
        &["reports:read"],
        &[],
        &["openid", "reports"],
        &["openid reports:read"],
    ] {
        assert_eq!(
            refusal(&rules, caller(&["reports:read", "openid"], held, json!({}))),
            Some(Refusal::ScopeRefused)
        );
    }
}

#[test]
fn a_denial_names_its_rule_and_line() {
    let rules = rules(&RawRoute {
        roles: roles(Some(&["admin", "ops"]), None, Some(&["guest"])),
        claims: claims(&[
            ("tenant", RawClaim::Text("acme".to_owned())),
            ("level", RawClaim::Integer(3)),
        ]),
        scopes: asked(&["a", "b"]),
        ..RawRoute::default()
    });
    let acme = json!({"tenant": "acme", "level": 3});
    for (caller, wanted) in [
        (
            caller(&["user"], &[], json!({})),
            "any of the roles `admin`, `ops` (gateway.toml:3)",
        ),
        (
            caller(&["ops", "guest"], &[], json!({})),
            "none of the roles `guest` (gateway.toml:3)",
        ),
        (
            caller(&["ops"], &[], json!({})),
            "the claim `tenant` is or contains `\"acme\"` (gateway.toml:4)",
        ),
        (
            caller(&["ops"], &[], json!({"tenant": "acme"})),
            "the claim `level` is or contains `3` (gateway.toml:4)",
        ),
        (
            caller(&["ops"], &["a"], acme.clone()),
            "the scope `b` (gateway.toml:5)",
        ),
    ] {
        assert_eq!(denied(&rules, Some(caller)).unwrap().1, wanted);
    }
    assert_eq!(denied(&rules, Some(caller(&["ops"], &["a", "b"], acme))), None);
    assert_eq!(rules.roles().collect::<Vec<_>>(), ["admin", "ops", "guest"]);
}

#[test]
fn steps_tell_what_the_caller_has_of_each_rule() {
    let rules = rules(&RawRoute {
        roles: roles(Some(&["admin"]), None, None),
        claims: claims(&[("tenant", RawClaim::Text("acme".to_owned()))]),
        scopes: asked(&["a"]),
        ..RawRoute::default()
    });
    let told = |caller: &Caller| {
        rules
            .steps(Some(caller), &FACTS)
            .into_iter()
            .map(|step| (step.passed(), step.detail))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        told(&caller(&["user", "ops"], &["a"], json!({"tenant": ["x"]}))),
        [
            (true, "the caller is `alice`".to_owned()),
            (false, "the caller has the roles `user`, `ops`".to_owned()),
            (false, "the caller has `[\"x\"]`".to_owned()),
            (true, "the caller has the scopes `a`".to_owned()),
        ]
    );
    assert_eq!(
        told(&caller(&[], &[], json!({})))[1..],
        [
            (false, "the caller has no roles".to_owned()),
            (false, "the caller has no such claim".to_owned()),
            (false, "the caller has no scopes".to_owned()),
        ]
    );
    let [step] = &rules.steps(None, &FACTS)[..] else {
        panic!("more than one step about nobody")
    };
    assert_eq!(
        (step.refusal, step.detail.as_str()),
        (Some(Refusal::CredentialMissing), "there is no caller")
    );
}

#[test]
fn a_sign_in_is_enough_by_acr_age_and_provider_and_what_is_unknown_is_not() {
    let route = |acr: &[&str], max_age: Option<u64>, provider: Option<&str>| RawRoute {
        acr: asked(acr),
        max_age: max_age.map(|seconds| at(std::time::Duration::from_secs(seconds), 6)),
        provider: provider.map(|name| at(name.to_owned(), 7)),
        ..RawRoute::default()
    };
    let is_enough = |rules: &Rules, issuer: &str, claims: Value| {
        let mut who = identity(&[], &[], claims);
        who.issuer = issuer.into();
        match refusal(rules, Arc::new(Caller::new(who))) {
            None => true,
            Some(Refusal::AuthenticationInsufficient) => false,
            Some(other) => panic!("{other}"),
        }
    };
    let acr = rules(&route(&["mfa", "hwk"], None, None));
    assert!(is_enough(&acr, "corp", json!({"acr": "hwk"})));
    for claims in [
        json!({}),
        json!({"acr": "MFA"}),
        json!({"acr": ""}),
        json!({"acr": ["mfa"]}),
        json!({"acr": "mfa hwk"}),
        json!({"amr": "mfa"}),
    ] {
        assert!(!is_enough(&acr, "corp", claims.clone()), "{claims}");
    }
    let age = rules(&route(&[], Some(600), None));
    for claims in [
        json!({"auth_time": NOW}),
        json!({"auth_time": NOW - 600}),
        json!({"auth_time": NOW + 60}),
        json!({"auth_time": NOW as f64 - 599.5}),
    ] {
        assert!(is_enough(&age, "corp", claims.clone()), "{claims}");
    }
    for claims in [
        json!({}),
        json!({"iat": NOW}),
        json!({"auth_time": NOW - 601}),
        json!({"auth_time": NOW + 61}),
        json!({"auth_time": NOW * 1000}),
        json!({"auth_time": i64::MIN}),
        json!({"auth_time": u64::MAX}),
        json!({"auth_time": 1e300}),
        json!({"auth_time": NOW.to_string()}),
        json!({"auth_time": null}),
        json!({"auth_time": true}),
    ] {
        assert!(!is_enough(&age, "corp", claims.clone()), "{claims}");
    }
    let provider = rules(&route(&[], None, Some("corp")));
    assert!(is_enough(&provider, SESSION_ISSUER, json!({"idp": "corp"})));
    assert!(!is_enough(&provider, SESSION_ISSUER, json!({"idp": "other"})));
    assert!(!is_enough(&provider, SESSION_ISSUER, json!({})));
    assert!(
        !is_enough(&provider, "corp", json!({"idp": "corp"})),
        "an issuer of tokens says nothing about our providers"
    );
    let all = rules(&route(&["mfa", "hwk"], Some(600), Some("corp")));
    let good = json!({"acr": "mfa", "auth_time": NOW, "idp": "corp"});
    assert!(is_enough(&all, SESSION_ISSUER, good.clone()));
    for missing in ["acr", "auth_time", "idp"] {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(missing);
        assert!(!is_enough(&all, SESSION_ISSUER, claims), "{missing}");
    }
    assert_eq!(
        all.step_up().unwrap().challenge(),
        r#", acr_values="mfa hwk", max_age="600""#
    );
    assert_eq!(
        all.to_string(),
        "a sign-in with the `acr` `mfa`, `hwk`, and a sign-in at most 600 s ago, and a sign-in with the provider `corp`"
    );
    let who = all.who();
    assert_eq!(
        (who.acr, who.max_age),
        (vec!["mfa".to_owned(), "hwk".to_owned()], Some(600))
    );
    assert_eq!(who.provider.as_deref(), Some("corp"));
    assert_eq!(rules(&RawRoute::default()).step_up(), None);
}

#[test]
fn a_missing_role_is_told_before_a_sign_in_that_is_not_enough() {
    let both = rules(&RawRoute {
        roles: roles(Some(&["admin"]), None, None),
        acr: asked(&["mfa"]),
        ..RawRoute::default()
    });
    let has = |roles: &[&str]| refusal(&both, caller(roles, &[], json!({})));
    assert_eq!(has(&[]), Some(Refusal::RoleRefused));
    assert_eq!(has(&["admin"]), Some(Refusal::AuthenticationInsufficient));
}

/// The problems of a file with one route that has the line `rule`, which is line 6.
fn problems_of(rule: &str) -> Problems {
    let text =
        format!("[upstreams.a]\nbuiltin = \"whoami\"\n[[routes]]\npath = \"/*\"\nupstream = \"a\"\n{rule}\n");
    let mut problems = Problems::new(Path::new("gateway.toml"), &text);
    let raw = crate::config::read(&mut problems);
    for route in &raw.routes {
        Rules::compile(&route.value, &mut problems);
    }
    problems
}

#[test]
fn mistakes_are_told_with_their_place() {
    for (rule, message) in [
        (
            "auth = \"require\"",
            "`auth` must be one of the words it knows, found `require`",
        ),
        ("auth = \"\"", "`auth` is empty"),
        (
            "auth = \"none\"; roles = [\"a\"]",
            "`auth = \"none\"` disables the rules of this route",
        ),
        (
            "auth = \"none\"; scopes = [\"a\"]",
            "`auth = \"none\"` disables the rules of this route",
        ),
        (
            "auth = \"optional\"; claims = { a = 1 }",
            "`auth = \"optional\"` lets every request around the rules of this route",
        ),
        ("roles = {}", "`roles` names no roles"),
        ("roles = []", "`roles` names no roles"),
        ("roles = { none = [] }", "`none` names no roles"),
        ("roles = [\"a\", \"\"]", "`roles` is empty"),
        (
            "roles = { all = [\"a\", \"b\"], none = [\"b\"] }",
            "no caller can pass: the role `b` is required and refused",
        ),
        (
            "roles = { any = [\"a\", \"b\"], none = [\"b\", \"a\"] }",
            "no caller can pass: the role `a` is required and refused",
        ),
        ("claims = { \"a..b\" = 1 }", "`a..b` is no path of a claim"),
        ("claims = { \"\" = 1 }", "`` is no path of a claim"),
        (
            "scopes = [\"a b\"]",
            "`scopes` must be a list of scopes, found `a b`",
        ),
        ("scopes = [\"\"]", "`scopes` is empty"),
        ("acr = []", "`acr` is empty"),
        (
            "acr = [\"a b\"]",
            "`acr` must be the name of an authentication context class, found `a b`",
        ),
        ("max_age = \"9s\"", "`max_age` is shorter than 10 seconds"),
        (
            "auth = \"none\"; max_age = \"1m\"",
            "`auth = \"none\"` disables the rules of this route",
        ),
        (
            "auth = \"optional\"; acr = [\"a\"]",
            "`auth = \"optional\"` lets every request around the rules of this route",
        ),
        ("provider = \"x\"", "unknown provider `x`"),
    ] {
        let problems = problems_of(&rule.replace("; ", "\n"));
        let [problem] = problems.errors() else {
            panic!("{message}: {:?}", problems.errors())
        };
        assert_eq!(problem.message, message);
        assert_eq!(problems.place(&problem.span).line, 6, "{message}");
        assert!(problem.hint.is_some());
    }
}

#[test]
fn a_typed_auth_that_is_nearly_right_gets_a_hint() {
    let problems = problems_of("auth = \"nonne\"");
    assert_eq!(problems.errors()[0].hint.as_deref(), Some("did you mean `none`?"));
}

#[test]
fn a_role_that_stands_twice_is_a_warning() {
    let (rules, problems) = compile(&RawRoute {
        roles: roles(Some(&["a", "b", "a"]), None, None),
        ..RawRoute::default()
    });
    assert!(problems.errors().is_empty());
    assert_eq!(problems.warnings()[0].message, "the role `a` appears twice");
    assert_eq!(rules.roles().count(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn explain_and_requests_agree(
        any in prop::option::of(prop::collection::vec("[ab]", 1..3)),
        all in prop::option::of(prop::collection::vec("[bc]", 1..3)),
        none in prop::option::of(prop::collection::vec("[d]", 1..2)),
        scopes in prop::collection::vec("[ab]", 0..2),
        held in prop::collection::vec("[abcd]", 0..4),
        mode in prop::sample::select(vec!["none", "optional", "required"]),
        known in any::<bool>(),
    ) {
        fn strs(list: &[String]) -> Vec<&str> {
            list.iter().map(String::as_str).collect()
        }
        let lists = [&any, &all, &none].map(|list| list.as_deref().map(strs));
        let with_roles = lists.iter().any(Option::is_some);
        let route = RawRoute {
            auth: auth(mode),
            roles: if with_roles { roles(lists[0].as_deref(), lists[1].as_deref(), lists[2].as_deref()) } else { None },
            scopes: asked(&strs(&scopes)),
            ..RawRoute::default()
        };
        let (rules, _) = compile(&route);
        let caller = known.then(|| caller(&strs(&held), &strs(&held), json!({})));
        let has = |role: &String| held.contains(role);
        let passes = any.is_none_or(|list| list.iter().any(has))
            && all.is_none_or(|list| list.iter().all(has))
            && none.is_none_or(|list| !list.iter().any(has))
            && scopes.iter().all(has);
        let ruleless = !with_roles && scopes.is_empty();
        let wanted = match (mode, known) {
            ("none", _) => true,
            ("optional", false) => ruleless,
            (_, known) => known && passes,
        };
        prop_assert_eq!(denied(&rules, caller).is_none(), wanted);
    }
}

#[test]
fn rules_cover_those_that_ask_for_nothing_more() {
    let route = |auth_text: &str, any: Option<&[&str]>, scopes: &[&str]| {
        rules(&RawRoute {
            auth: auth(auth_text),
            roles: any.and_then(|any| roles(Some(any), None, None)),
            scopes: asked(scopes),
            ..RawRoute::default()
        })
    };
    let (open, optional) = (route("none", None, &[]), route("optional", None, &[]));
    let (any_caller, admin) = (
        route("required", None, &[]),
        route("required", Some(&["admin"]), &[]),
    );
    let admin_reading = route("required", Some(&["admin"]), &["read"]);
    let either = route("required", Some(&["admin", "user"]), &[]);
    for rules in [&open, &optional, &any_caller, &admin, &admin_reading, &either] {
        assert!(
            rules.cover(rules) && rules.cover(&open) && rules.cover(&optional),
            "{rules}"
        );
        assert_eq!(
            rules.cover(&any_caller),
            rules.auth() == Auth::Required,
            "{rules}"
        );
    }
    assert!(admin_reading.cover(&admin));
    assert!(!admin.cover(&admin_reading) && !any_caller.cover(&admin) && !optional.cover(&admin));
    assert!(!either.cover(&admin) && !admin.cover(&either), "other words");
}

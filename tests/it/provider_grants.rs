//! Tokens of a provider that the gateway keeps: claims read afresh while a session lives, and the access token for an app.

use std::path::Path;

use serde_json::{Value, json};

use super::support::openid::{Browser, CLIENT_SECRET, OpenId, Trouble};
use super::support::people::{ROUTES, claims};
use super::support::{App, Gateway, Setup, eventually, gateway::before};

const RULES: &str = r#"
refresh = true
roles_claims = ["groups"]
allow = [{ domain = "example.com" }]
roles = [{ role = "admin", group = "sre" }]
"#;

/// Tokens of the gateway live for a second, so that claims are due after each.
fn setup(app: &App, provider: &OpenId, rules: &str, more: &str) -> Setup {
    let server = "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"http://localhost\"\n";
    let session = "[session]\ntoken_lifetime = \"1s\"\n";
    let setup = Setup::new(&before(
        app,
        &format!("{server}{session}{}{more}{ROUTES}", provider.table(rules)),
    ));
    setup.write("sso.secret", CLIENT_SECRET);
    setup
}

fn signed_in(gateway: &Gateway, provider: &OpenId) -> Browser {
    let mut browser = Browser::default();
    browser.sign_in(gateway, provider).expect(303);
    browser.visit(gateway, "/admin/x").expect(200);
    browser
}

fn ann(groups: &[&str]) -> Value {
    json!({
        "sub": "ann-1", "email": "ann@example.com", "email_verified": true, "name": "Ann", "groups": groups,
    })
}

#[test]
fn group_that_is_taken_away_at_the_provider_takes_the_role_away() {
    for with_id_token in [false, true] {
        let (app, provider) = (App::start(), OpenId::start());
        provider.give_refresh_tokens(with_id_token);
        let gateway = setup(&app, &provider, RULES, "").start();
        let mut browser = signed_in(&gateway, &provider);
        let session = claims(&browser.cookies["passgate-session"])["sid"].clone();
        provider.user(ann(&[]));
        eventually("the role is gone", || {
            browser.visit(&gateway, "/admin/x").status == 403
        });
        provider.user(ann(&["sre"]));
        eventually("the role is back", || {
            browser.visit(&gateway, "/admin/x").status == 200
        });
        assert_eq!(claims(&browser.cookies["passgate-session"])["sid"], session);
    }
}

#[test]
fn without_refresh_no_claims_are_read_afresh_and_no_key_is_made() {
    let (app, provider) = (App::start(), OpenId::start());
    provider.give_refresh_tokens(false);
    let gateway = setup(&app, &provider, &RULES.replace("true", "false"), "").start();
    let mut browser = signed_in(&gateway, &provider);
    let first = claims(&browser.cookies["passgate-session"])["jti"].clone();
    eventually("the cookie is renewed twice", || {
        browser.visit(&gateway, "/admin/x").expect(200);
        claims(&browser.cookies["passgate-session"])["jti"] != first
    });
    assert_eq!(provider.refreshed(), 1);
    assert!(
        !gateway.setup.path("passgate.db.key").exists(),
        "no key where none is needed"
    );
}

#[test]
fn parallel_requests_exchange_a_refresh_token_once() {
    let (app, provider) = (App::start(), OpenId::start());
    provider.give_refresh_tokens(false);
    let gateway = setup(&app, &provider, RULES, "").start();
    let browser = signed_in(&gateway, &provider);
    // A token that was used twice would take all others with it, and the session would end.
    eventually("several exchanges", || {
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| gateway.send(&browser.request("/admin/x")).expect(200));
            }
        });
        provider.refreshed() >= 4
    });
    assert!(provider.refreshed() < 1000);
}

#[test]
fn session_ends_whose_grant_the_provider_has_withdrawn_and_no_other_one() {
    let (app, provider) = (App::start(), OpenId::start());
    provider.give_refresh_tokens(false);
    let setup = setup(&app, &provider, RULES, "[password]\n");
    setup.add_account("local@example.com", &["admin"]);
    let gateway = setup.start();
    let mut browser = signed_in(&gateway, &provider);
    provider.withdraw();
    eventually("the session is over", || {
        browser.visit(&gateway, "/admin/x").status == 302
    });
    gateway.diagnostic("its provider has withdrawn the grant");
    let listed = gateway.command(["session", "list", "--format", "json"]).expect(0);
    assert!(!listed.all().contains("Browser"), "{}", listed.all());
    let cookie = gateway.sign_in("local@example.com");
    gateway.get_with(&cookie, "/admin/x").expect(200);
}

#[test]
fn provider_that_is_down_ends_no_session_and_is_asked_again() {
    let (app, provider) = (App::start(), OpenId::start());
    provider.give_refresh_tokens(false);
    let gateway = setup(&app, &provider, RULES, "").start();
    let mut browser = signed_in(&gateway, &provider);
    let asked = provider.count("/token");
    provider.trouble("/token", Some(Trouble::answer("503 Service Unavailable", "", "")));
    eventually("the provider was asked in vain", || {
        browser.visit(&gateway, "/admin/x").expect(200);
        provider.count("/token") > asked
    });
    browser.visit(&gateway, "/admin/x").expect(200);
    provider.user(ann(&[]));
    provider.trouble("/token", None);
    eventually("the role is gone", || {
        browser.visit(&gateway, "/admin/x").status == 403
    });
}

#[test]
fn refreshed_claims_that_allow_does_not_name_or_of_another_user_end_the_session() {
    let users = [
        json!({ "sub": "ann-1", "email": "ann@elsewhere.example", "email_verified": true, "groups": ["sre"] }),
        json!({ "sub": "ann-1", "email": "ann@example.com", "email_verified": false, "groups": ["sre"] }),
        json!({ "sub": "bob-1", "email": "bob@example.com", "email_verified": true, "groups": ["sre"] }),
    ];
    for user in users {
        for with_id_token in [false, true] {
            let (app, provider) = (App::start(), OpenId::start());
            provider.give_refresh_tokens(with_id_token);
            let gateway = setup(&app, &provider, RULES, "").start();
            let mut browser = signed_in(&gateway, &provider);
            provider.user(user.clone());
            eventually("the session is over", || {
                browser.visit(&gateway, "/x").status == 302
            });
        }
    }
}

/// The bytes of all files of the state.
fn state_files(gateway: &Gateway) -> Vec<u8> {
    let directory = gateway.setup.path("passgate.db");
    let directory = directory.parent().unwrap();
    let files = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    files
        .filter(|path| {
            path.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with("passgate.db")
        })
        .flat_map(|path| std::fs::read(path).unwrap())
        .collect()
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).unwrap().mode() & 0o777
}

#[test]
fn tokens_of_a_provider_are_encrypted_at_rest_by_a_key_that_others_cannot_read() {
    let (app, provider) = (App::start(), OpenId::start());
    provider.give_refresh_tokens(false);
    let gateway = setup(&app, &provider, RULES, "").start();
    signed_in(&gateway, &provider);
    let bytes = state_files(&gateway);
    for secret in ["refresh-1", "access-1"] {
        let is_there = bytes
            .windows(secret.len())
            .any(|window| window == secret.as_bytes());
        assert!(!is_there, "{secret}");
    }
    assert_eq!(mode(&gateway.setup.path("passgate.db.key")), 0o600);
    assert!(!gateway.diagnostics().concat().contains("refresh-1"));
    for line in gateway.log_text() {
        assert!(
            !line.contains("refresh-1") && !line.contains("access-1"),
            "{line}"
        );
    }
}

#[test]
fn sessions_end_whose_tokens_were_encrypted_by_another_key() {
    let (app, provider) = (App::start(), OpenId::start());
    provider.give_refresh_tokens(false);
    let gateway = setup(&app, &provider, RULES, "").start();
    let mut browser = signed_in(&gateway, &provider);
    std::fs::remove_file(gateway.setup.path("passgate.db.key")).unwrap();
    let gateway = gateway.restart();
    eventually("the session is over", || {
        browser.visit(&gateway, "/x").status == 302
    });
    gateway.diagnostic("encrypted by another key");
}

#[test]
fn app_gets_the_access_token_of_the_provider_on_its_route_alone() {
    const ROUTE: &str = "[[routes]]\npath = \"/mail/*\"\nupstream = \"app\"\nforward_provider_token = true\n";
    let (app, provider) = (App::start(), OpenId::start());
    provider.give_refresh_tokens(false);
    let setup = setup(&app, &provider, RULES, &format!("[password]\n{ROUTE}"));
    setup.add_account("local@example.com", &[]);
    let gateway = setup.start();
    let mut browser = signed_in(&gateway, &provider);
    let token = |target: &str, browser: &mut Browser| {
        let mut request = browser.request(target);
        for name in ["X-Auth-Access-Token", "x_auth_access_token"] {
            request = request.header(name, "of-the-client");
        }
        gateway.send(&request).expect(200);
        let seen = app.last();
        assert!(!seen.text().contains("of-the-client"), "{}", seen.text());
        seen.header("x-auth-access-token").map(str::to_owned)
    };
    let first = token("/mail/x", &mut browser).unwrap();
    assert!(first.starts_with("access-"), "{first}");
    assert_eq!(token("/x", &mut browser), None);
    assert_eq!(token("/public/x", &mut browser), None);
    let cookie = gateway.sign_in("local@example.com");
    gateway.get_with(&cookie, "/mail/x").expect(200);
    assert_eq!(app.last().header("x-auth-access-token"), None);
}

#[test]
fn access_token_that_ends_is_renewed_for_the_app_or_not_handed_out() {
    const ROUTE: &str = "[[routes]]\npath = \"/mail/*\"\nupstream = \"app\"\nforward_provider_token = true\n";
    for (refresh, seen) in [("true", Some("access-2")), ("false", None)] {
        let (app, provider) = (App::start(), OpenId::start());
        provider.give_refresh_tokens(false);
        // Over before it can be handed out.
        provider.tokens(|tokens| {
            if tokens["access_token"] == "access-1" {
                tokens["expires_in"] = json!(1);
            }
        });
        let server = "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"http://localhost\"\n";
        let rules = RULES.replace("refresh = true", &format!("refresh = {refresh}"));
        let setup = Setup::new(&before(
            &app,
            &format!("{server}{}{ROUTE}{ROUTES}", provider.table(&rules)),
        ));
        setup.write("sso.secret", CLIENT_SECRET);
        let gateway = setup.start();
        let mut browser = signed_in(&gateway, &provider);
        browser.visit(&gateway, "/mail/x").expect(200);
        assert_eq!(app.last().header("x-auth-access-token"), seen);
        browser.visit(&gateway, "/mail/y").expect(200);
        assert_eq!(app.last().header("x-auth-access-token"), seen);
        assert_eq!(provider.refreshed(), if refresh == "true" { 2 } else { 1 });
    }
}

#[test]
fn encryption_key_that_is_short_or_missing_is_an_error_of_the_file() {
    let (app, provider) = (App::start(), OpenId::start());
    let setup = setup(
        &app,
        &provider,
        RULES,
        "[state]\nencryption_key = { file = \"short.key\" }\n",
    );
    let output = setup.command(["check"]).expect(2).all();
    assert!(output.contains("`encryption_key` cannot be used"), "{output}");
    setup.write("short.key", "too short\n");
    let output = setup.command(["check"]).expect(2).all();
    assert!(
        output.contains("at least 32") && !output.contains("too short"),
        "{output}"
    );
    setup.write("short.key", "0123456789abcdef0123456789abcdef\n");
    setup.command(["check"]).expect(0);
    provider.give_refresh_tokens(false);
    let gateway = setup.start();
    signed_in(&gateway, &provider);
    assert!(!gateway.setup.path("passgate.db.key").exists());
}

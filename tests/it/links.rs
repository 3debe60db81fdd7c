//! Accounts and their identities at providers: commands with the address of several accounts.

use serde_json::{Value, json};

use super::support::openid::{Browser, CLIENT_SECRET, OpenId};
use super::support::people::ROUTES;
use super::support::{App, Gateway, Setup, gateway::before};

/// A gateway with the providers `corp` and `partner`, each with further keys, and local accounts.
struct Two {
    app: App,
    corp: OpenId,
    partner: OpenId,
}

impl Two {
    fn start() -> Self {
        let (app, corp, partner) = (App::start(), OpenId::start(), OpenId::start());
        Self { app, corp, partner }
    }

    fn setup(&self, of_corp: &str, of_partner: &str, more: &str) -> Setup {
        let server = "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"http://localhost\"\n";
        let corp = self
            .corp
            .table_of("corp", &format!("allow = \"anyone\"\n{of_corp}"));
        let partner = self
            .partner
            .table_of("partner", &format!("allow = \"anyone\"\n{of_partner}"));
        let tables = format!("{server}{corp}{partner}[password]\n{more}{ROUTES}");
        let setup = Setup::new(&before(&self.app, &tables));
        setup.write("sso.secret", CLIENT_SECRET);
        setup
    }

    fn corp(&self) -> (&str, &OpenId) {
        ("corp", &self.corp)
    }

    fn partner(&self) -> (&str, &OpenId) {
        ("partner", &self.partner)
    }
}

/// What `/auth/me` says in this browser.
#[track_caller]
fn me(gateway: &Gateway, browser: &mut Browser) -> Value {
    browser.visit(gateway, "/auth/me").expect(200).json()
}

#[track_caller]
fn id_of(gateway: &Gateway, browser: &mut Browser) -> String {
    me(gateway, browser)["id"].as_str().unwrap().to_owned()
}

#[track_caller]
fn shown(gateway: &Gateway, who: &str) -> Value {
    gateway
        .command(["user", "show", who, "--format", "json"])
        .expect(0)
        .json()
}

#[test]
fn command_with_the_address_of_several_accounts_lists_their_ids() {
    let two = Two::start();
    let setup = two.setup("", "", "");
    let local = setup.add_account("ann@example.com", &["user"]);
    let gateway = setup.start();
    let mut browser = Browser::default();
    browser.sign_in_by(&gateway, two.corp()).expect(303);
    let of_corp = id_of(&gateway, &mut browser);
    let mut other = Browser::default();
    other.sign_in_by(&gateway, two.partner()).expect(303);
    let of_partner = id_of(&gateway, &mut other);
    for words in [
        &["user", "show"][..],
        &["user", "roles"],
        &["user", "disable"],
        &["user", "enable"],
        &["user", "delete"],
        &["user", "confirm"],
        &["user", "password"],
        &["session", "list"],
        &["session", "revoke", "--all"],
    ] {
        let words: Vec<&str> = words.iter().copied().chain(["ANN@example.com"]).collect();
        let said = gateway
            .command_with_input(&words, "a new long password\n")
            .expect(1);
        for needle in [
            &format!("{local}  local"),
            &format!("{of_corp}  provider `corp`"),
            &format!("{of_partner}  provider `partner`"),
            "hint: use the id",
        ] {
            assert!(said.stderr.contains(needle), "{words:?}: {}", said.stderr);
        }
    }
    assert_eq!(id_of(&gateway, &mut browser), of_corp, "nothing was changed");
    assert_eq!(shown(&gateway, &local)["roles"], json!(["user"]));
    gateway.command(["user", "delete", &local]).expect(0);
    gateway.command(["user", "delete", &of_partner]).expect(0);
    assert_eq!(shown(&gateway, "ann@example.com")["id"], json!(of_corp));
    gateway
        .command(["user", "roles", "ann@example.com", "--add", "ops"])
        .expect(0);
    let sessions = gateway.command(["session", "list", "ann@example.com", "--format", "json"]);
    assert_eq!(sessions.expect(0).json().as_array().unwrap().len(), 1);
}

#[test]
fn identities_of_an_account_are_shown() {
    let two = Two::start();
    let roles = "roles_claims = [\"groups\"]";
    let gateway = two.setup(roles, "", "").start();
    Browser::default().sign_in_by(&gateway, two.corp()).expect(303);
    let account = shown(&gateway, "ann@example.com");
    assert_eq!(
        (&account["provider"], &account["granted_roles"]),
        (&json!("corp"), &json!(["sre"]))
    );
    let [identity] = &account["identities"].as_array().unwrap()[..] else {
        panic!("{account}")
    };
    for (name, value) in [
        ("provider", json!("corp")),
        ("subject", json!("ann-1")),
        ("email", json!("ann@example.com")),
        ("email_verified", json!(true)),
    ] {
        assert_eq!(identity[name], value, "{name}");
    }
    let listed = gateway
        .command(["user", "list", "--format", "json"])
        .expect(0)
        .json();
    assert_eq!(listed[0]["identities"], account["identities"]);
    let text = gateway
        .command(["user", "show", "ann@example.com"])
        .expect(0)
        .stdout;
    assert!(text.contains("provider corp") && text.contains("ann-1"), "{text}");
    gateway.command(["user", "list"]).expect(0);
}

#[test]
fn account_of_a_provider_has_no_password_to_set_or_change() {
    let two = Two::start();
    let gateway = two.setup("", "", "").start();
    let mut browser = Browser::default();
    browser.sign_in_by(&gateway, two.corp()).expect(303);
    let said = gateway
        .command_with_input(["user", "password", "ann@example.com"], "a new long password\n")
        .expect(1);
    assert!(
        said.stderr.contains("provider `corp`") && said.stderr.contains("hint: "),
        "{}",
        said.stderr
    );
    let page = browser.visit(&gateway, "/auth/password").expect(200).text();
    assert!(!page.contains("<form") && page.contains("no password"), "{page}");
}

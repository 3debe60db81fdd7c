//! Accounts and their identities at providers: commands with the address of several accounts.

use serde_json::{Value, json};

use super::support::openid::{Browser, CLIENT_SECRET, OpenId};
use super::support::people::{ROUTES, claims, post_form, post_json};
use super::support::{App, Gateway, Request, Response, Setup, eventually, gateway::before, values};

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
        let with_allow = |more: &str| match more.contains("allow = ") {
            true => more.to_owned(),
            false => format!("allow = \"anyone\"\n{more}"),
        };
        let corp = self.corp.table_of("corp", &with_allow(of_corp));
        let partner = self.partner.table_of("partner", &with_allow(of_partner));
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

/// The reason in the access log line of an answer.
#[track_caller]
fn reason_of(gateway: &Gateway, answer: &Response) -> Value {
    let id = answer.header("x-request-id").unwrap();
    gateway.log_line(|line| line["request_id"] == id)["reason"].clone()
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

/// A browser in which the local account `email` is signed in.
#[track_caller]
fn signed_in(gateway: &Gateway, email: &str) -> Browser {
    let mut browser = Browser::default();
    let cookie = gateway.sign_in(email);
    let (name, value) = cookie.split_once('=').unwrap();
    browser.cookies.insert(name.to_owned(), value.to_owned());
    browser
}

/// The links of the account that is signed in, as JSON.
#[track_caller]
fn links(gateway: &Gateway, browser: &Browser) -> Value {
    let request = Request::get("/auth/links").host("localhost");
    gateway.send(&browser.with_cookies(request)).expect(200).json()
}

fn session_of(browser: &Browser) -> String {
    format!("passgate-session={}", browser.cookies["passgate-session"])
}

#[test]
fn signed_in_user_links_a_provider_and_removes_it() {
    let two = Two::start();
    let setup = two.setup("roles_claims = [\"groups\"]", "", "");
    let local = setup.add_account("bob@example.net", &["user"]);
    let gateway = setup.start();
    let mut browser = signed_in(&gateway, "bob@example.net");
    assert_eq!(
        links(&gateway, &browser),
        json!({ "links": [], "password": true })
    );
    let page = browser.visit(&gateway, "/auth/links").expect(200).text();
    assert!(page.contains("action=\"/auth/links/corp\""), "{page}");

    let back = browser.link(&gateway, two.corp());
    let answer = browser.visit(&gateway, &back).expect(303);
    assert_eq!(answer.header("location"), Some("/auth/links?done=linked"));
    // The account keeps its address, and has the roles of both.
    let other = me(&gateway, &mut browser);
    assert_eq!(
        (&other["id"], &other["email"]),
        (&json!(local), &json!("bob@example.net"))
    );
    assert_eq!(other["roles"], json!(["sre", "user"]));
    eventually("the session has the role", || {
        browser.visit(&gateway, "/x").status == 200
            && two.app.last().header("x-auth-roles") == Some("sre,user")
    });
    let listed = links(&gateway, &browser);
    let [link] = &listed["links"].as_array().unwrap()[..] else {
        panic!("{listed}")
    };
    assert_eq!(
        (&link["provider"], &link["email"], &link["emailVerified"]),
        (&json!("corp"), &json!("ann@example.com"), &json!(true))
    );
    assert!(!listed.to_string().contains("ann-1"), "{listed}");

    // Signing in with the provider is signing in to the same account, which keeps address and name.
    let mut second = Browser::default();
    second.sign_in_by(&gateway, two.corp()).expect(303);
    assert_eq!(me(&gateway, &mut second)["email"], json!("bob@example.net"));
    assert_eq!(id_of(&gateway, &mut second), local);
    let page = browser.visit(&gateway, "/auth/links").expect(200).text();
    assert!(page.contains("ann@example.com"), "{page}");

    let end = format!("/auth/links/{}/end", link["id"].as_str().unwrap());
    let answer = browser.post(&gateway, &end, &[]).expect(303);
    assert_eq!(answer.header("location"), Some("/auth/links?done=removed"));
    assert_eq!(me(&gateway, &mut browser)["roles"], json!(["user"]));
    eventually("the session has lost the role", || {
        browser.visit(&gateway, "/x").status == 200 && two.app.last().header("x-auth-roles") == Some("user")
    });
    // What was opened by it is over, and it is another account from now on.
    assert_eq!(second.visit(&gateway, "/auth/me").status, 302);
    second.sign_in_by(&gateway, two.corp()).expect(303);
    assert_ne!(id_of(&gateway, &mut second), local);
}

#[test]
fn last_way_to_sign_in_cannot_be_removed() {
    let two = Two::start();
    let gateway = two.setup("", "", "").start();
    let mut browser = Browser::default();
    browser.sign_in_by(&gateway, two.corp()).expect(303);
    let first = links(&gateway, &browser)["links"][0]["id"].clone();
    let first = format!("/auth/links/{}", first.as_str().unwrap());
    let delete = |browser: &Browser, target: &str| {
        let request = Request::new("DELETE", target).host("localhost");
        gateway.send(&browser.with_cookies(request))
    };
    let refused = delete(&browser, &first).expect(409);
    assert_eq!(reason_of(&gateway, &refused), json!("last-sign-in"));
    let page = browser.post(&gateway, &format!("{first}/end"), &[]).expect(409);
    assert!(page.text().contains("last way to sign in"), "{}", page.text());

    let back = browser.link(&gateway, two.partner());
    browser.visit(&gateway, &back).expect(303);
    delete(&browser, &first).expect(204);
    delete(&browser, &first).expect(404);
    let rest = links(&gateway, &browser);
    assert_eq!(rest["links"][0]["provider"], json!("partner"));
    let last = format!("/auth/links/{}", rest["links"][0]["id"].as_str().unwrap());
    delete(&browser, &last).expect(409);
}

#[test]
fn identity_of_another_account_is_never_moved() {
    let two = Two::start();
    let setup = two.setup("", "", "");
    let local = setup.add_account("bob@example.net", &[]);
    let gateway = setup.start();
    let mut owner = Browser::default();
    owner.sign_in_by(&gateway, two.corp()).expect(303);
    let id = id_of(&gateway, &mut owner);
    let mut browser = signed_in(&gateway, "bob@example.net");
    let back = browser.link(&gateway, two.corp());
    let refused = browser.visit(&gateway, &back).expect(409);
    assert_eq!(reason_of(&gateway, &refused), json!("identity-taken"));
    assert!(
        refused.text().contains("linked to another account"),
        "{}",
        refused.text()
    );
    assert_eq!(id_of(&gateway, &mut browser), local, "still signed in");
    let mut again = Browser::default();
    again.sign_in_by(&gateway, two.corp()).expect(303);
    assert_eq!(id_of(&gateway, &mut again), id);
}

/// Each way to link the provider account of an attacker to the account of a victim, or the other way round.
#[test]
fn link_is_completed_only_in_the_session_that_began_it() {
    let two = Two::start();
    let setup = two.setup("", "", "");
    setup.add_account("victim@example.net", &[]);
    setup.add_account("mallory@example.net", &[]);
    let gateway = setup.start();
    let refused = |browser: &mut Browser, back: &str| {
        let answer = browser.visit(&gateway, back).expect(400);
        assert_eq!(reason_of(&gateway, &answer), json!("attempt-refused"));
    };
    let nothing = || {
        let victim = shown(&gateway, "victim@example.net");
        assert_eq!(victim["identities"], json!([]));
        let mallory = shown(&gateway, "mallory@example.net");
        assert_eq!(mallory["identities"], json!([]));
    };
    let mut victim = signed_in(&gateway, "victim@example.net");
    let mut mallory = signed_in(&gateway, "mallory@example.net");
    // The way back of another browser.
    let back = mallory.link(&gateway, two.corp());
    refused(&mut victim, &back);
    nothing();
    // Even with the cookie of the attempt, as an app on a sister host could set it.
    let attempts: Vec<String> = mallory.attempts().into_iter().cloned().collect();
    for name in attempts {
        victim
            .cookies
            .insert(name.clone(), mallory.cookies[&name].clone());
    }
    refused(&mut victim, &back);
    nothing();
    // Which has spent it.
    refused(&mut mallory, &back);
    nothing();
    // Signed out meanwhile, or signed in as someone else.
    let back = mallory.link(&gateway, two.corp());
    let mut without = mallory.clone();
    without.cookies.remove("passgate-session");
    refused(&mut without, &back);
    let back = mallory.link(&gateway, two.corp());
    let mut other = mallory.clone();
    let session = victim.cookies["passgate-session"].clone();
    other.cookies.insert("passgate-session".to_owned(), session);
    refused(&mut other, &back);
    // The session has ended meanwhile.
    let back = mallory.link(&gateway, two.corp());
    let ended = mallory.clone();
    gateway
        .send(&ended.with_cookies(post_form("/auth/logout", &[])))
        .expect(303);
    refused(&mut ended.clone(), &back);
    // An attempt to sign in links nothing, in whichever session.
    let back = victim.go_by(&gateway, two.corp(), "/");
    victim.visit(&gateway, &back).expect(303);
    nothing();
}

#[test]
fn only_a_page_of_the_gateway_begins_a_link() {
    let two = Two::start();
    let setup = two.setup("", "", "[session]\norigins = [\"https://spa.example.com\"]\n");
    setup.add_account("bob@example.net", &[]);
    let gateway = setup.start();
    let browser = signed_in(&gateway, "bob@example.net");
    let begin = || Request::post("/auth/links/corp", "").host("localhost");
    let form = |request: Request| request.header("Content-Type", "application/x-www-form-urlencoded");
    for (field, value) in [
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
        ("Origin", "https://evil.example"),
        ("Origin", "null"),
        // A listed origin may sign in and out, and no more.
        ("Origin", "https://spa.example.com"),
    ] {
        let request = form(begin()).header(field, value);
        let answer = gateway.send(&browser.with_cookies(request)).expect(403);
        assert_eq!(answer.header("location"), None, "{field}: {value}");
        assert!(
            values(&answer.fields, "set-cookie").is_empty(),
            "{field}: {value}"
        );
        let request = Request::new("DELETE", "/auth/links/0197").host("localhost");
        let request = request.header(field, value);
        gateway.send(&browser.with_cookies(request)).expect(403);
    }
    // A link or an image cannot.
    let target = "/auth/links/corp";
    gateway.send(&browser.request(target)).expect(405);
    // Without a session, and by a token, which no browser has at the way back.
    gateway.send(&form(begin())).expect(401);
    let token = gateway.sign_in_client("bob@example.net")["accessToken"].clone();
    let bearer = format!("Bearer {}", token.as_str().unwrap());
    let by_token = |request: Request| gateway.send(&request.header("Authorization", &bearer));
    by_token(begin()).expect(401);
    by_token(Request::get("/auth/links").host("localhost")).expect(200);
    gateway
        .send(&browser.with_cookies(post_form("/auth/links/other", &[])))
        .expect(404);
    // A script gets the address.
    let asked = post_json("/auth/links/corp", &json!({})).header("Sec-Fetch-Site", "same-origin");
    let answer = gateway.send(&browser.with_cookies(asked)).expect(200);
    let location = answer.json()["location"].as_str().unwrap().to_owned();
    assert!(location.starts_with(&two.corp.issuer()), "{location}");
    assert_eq!(values(&answer.fields, "set-cookie").len(), 1);
    let other = session_of(&browser);
    assert!(!location.contains(other.split_once('=').unwrap().1));
}

#[test]
fn user_whom_the_provider_does_not_admit_is_not_linked() {
    let two = Two::start();
    let setup = two.setup("", "allow = [{ domain = \"example.org\" }]", "");
    setup.add_account("bob@example.net", &[]);
    let gateway = setup.start();
    let mut browser = signed_in(&gateway, "bob@example.net");
    let back = browser.link(&gateway, two.partner());
    let refused = browser.visit(&gateway, &back).expect(403);
    assert_eq!(reason_of(&gateway, &refused), json!("sign-in-not-allowed"));
    assert_eq!(links(&gateway, &browser)["links"], json!([]));
}

#[test]
fn link_from_a_session_of_more_than_ten_minutes_needs_a_new_sign_in() {
    let two = Two::start();
    let setup = two.setup("", "", "");
    setup.add_account("bob@example.net", &[]);
    let gateway = setup.start();
    let mut browser = signed_in(&gateway, "bob@example.net");
    let state = rusqlite::Connection::open(gateway.setup.path("passgate.db")).unwrap();
    state
        .execute("UPDATE sessions SET created_at = created_at - 601", [])
        .unwrap();
    let answer = browser.post(&gateway, "/auth/links/corp", &[]).expect(303);
    assert_eq!(
        answer.header("location"),
        Some("/auth/login?return_to=/auth/links")
    );
    assert!(browser.attempts().is_empty());
    let asked = post_json("/auth/links/corp", &json!({})).header("Sec-Fetch-Site", "same-origin");
    let refused = gateway.send(&browser.with_cookies(asked)).expect(403);
    assert_eq!(reason_of(&gateway, &refused), json!("sign-in-too-old"));
    let mut browser = signed_in(&gateway, "bob@example.net");
    let back = browser.link(&gateway, two.corp());
    browser.visit(&gateway, &back).expect(303);
}

const AUTHORITY: &str = "authoritative_domains = [\"example.com\"]";

#[test]
fn verified_address_of_an_authoritative_provider_is_that_of_the_confirmed_account() {
    let two = Two::start();
    let setup = two.setup(&format!("{AUTHORITY}\nroles_claims = [\"groups\"]"), "", "");
    let local = setup.add_account("Ann@example.com", &["user"]);
    let gateway = setup.start();
    let mut browser = Browser::default();
    browser.sign_in_by(&gateway, two.corp()).expect(303);
    let account = me(&gateway, &mut browser);
    assert_eq!(
        (&account["id"], &account["roles"]),
        (&json!(local), &json!(["sre", "user"]))
    );
    browser.visit(&gateway, "/x").expect(200);
    assert_eq!(two.app.last().header("x-auth-email"), Some("Ann@example.com"));
    gateway.sign_in("ann@example.com");
    // Another subject with the address, which may be another person by now, is another account.
    two.corp
        .user(json!({ "sub": "ann-2", "email": "ann@example.com", "email_verified": true }));
    let mut second = Browser::default();
    second.sign_in_by(&gateway, two.corp()).expect(303);
    assert_ne!(id_of(&gateway, &mut second), local);
    // A disabled account is not evaded.
    gateway.command(["user", "disable", &local]).expect(0);
    let added = gateway.command(["user", "add", "dora@example.com", "--no-password"]);
    added.expect(0);
    gateway.command(["user", "disable", "dora@example.com"]).expect(0);
    two.corp
        .user(json!({ "sub": "dora-1", "email": "dora@example.com", "email_verified": true }));
    let refused = Browser::default().sign_in_by(&gateway, two.corp()).expect(403);
    assert_eq!(reason_of(&gateway, &refused), json!("account-disabled"));
}

/// Each way to get to the account of an address, or to be taken for its owner, without being it. The victim's account is
/// a confirmed local one.
#[test]
fn address_from_elsewhere_joins_no_account_and_counts_as_unverified() {
    let two = Two::start();
    let rules = "roles = [{ role = \"admin\", domain = \"example.com\" }]";
    let setup = two.setup(
        &format!("{AUTHORITY}\n{rules}"),
        rules,
        "registration = true\ntrust_unconfirmed_email = true\n",
    );
    let victim = setup.add_account("ann@example.com", &["boss"]);
    let gateway = setup.start();
    let user = |email: &str, verified: Value| json!({ "sub": email, "email": email, "email_verified": verified, "name": "x" });
    // (provider, address, verified, whether apps get the address)
    for (name, provider, email, verified, is_told) in [
        (
            "another provider",
            two.partner(),
            "ann@example.com",
            json!(true),
            false,
        ),
        (
            "another provider, in capitals",
            two.partner(),
            "ANN@EXAMPLE.COM",
            json!(true),
            false,
        ),
        (
            "another provider, full-width",
            two.partner(),
            "ann@\u{ff45}xample.com",
            json!(true),
            false,
        ),
        (
            "another provider, unverified",
            two.partner(),
            "ann@example.com",
            json!(false),
            false,
        ),
        (
            "another provider, new address",
            two.partner(),
            "new@example.com",
            json!(true),
            false,
        ),
        ("not verified", two.corp(), "ann@example.com", json!(false), false),
        (
            "verified as text",
            two.corp(),
            "ann@example.com",
            json!("false"),
            false,
        ),
        ("subdomain", two.corp(), "ann@sub.example.com", json!(true), true),
        ("another domain", two.corp(), "ann@example.org", json!(true), true),
        (
            "another domain and provider",
            two.partner(),
            "ann@example.org",
            json!(true),
            true,
        ),
        ("new address", two.corp(), "eve@example.com", json!(true), true),
    ] {
        let mut said = user(email, verified);
        said["sub"] = json!(name);
        provider.1.user(said);
        let mut browser = Browser::default();
        browser.sign_in_by(&gateway, provider).expect(303);
        let account = me(&gateway, &mut browser);
        assert_ne!(account["id"], json!(victim), "{name}");
        let is_admin = is_told && email.ends_with("@example.com");
        assert_eq!(
            account["roles"],
            if is_admin { json!(["admin"]) } else { json!([]) },
            "{name}"
        );
        browser.visit(&gateway, "/x").expect(200);
        assert_eq!(two.app.last().header("x-auth-email").is_some(), is_told, "{name}");
        let token = claims_of(&browser);
        assert_eq!(
            token.get("email_verified"),
            (!is_told).then_some(&json!(false)),
            "{name}"
        );
    }
    // One that was registered is not joined: its password would stay valid.
    let registered = |email: &str| {
        let body = json!({ "email": email, "password": "a long enough password", "name": "x" });
        let id = gateway
            .send(&post_json("/auth/register", &body))
            .expect(201)
            .json()["id"]
            .clone();
        let answer = gateway.send(&post_json(
            "/auth/login",
            &json!({ "email": email, "password": "a long enough password" }),
        ));
        (
            id,
            claims(answer.expect(200).json()["accessToken"].as_str().unwrap()),
        )
    };
    let (id, token) = registered("bob@example.com");
    assert_eq!(token["email_verified"], json!(false));
    two.corp.user(user("bob@example.com", json!(true)));
    let mut browser = Browser::default();
    browser.sign_in_by(&gateway, two.corp()).expect(303);
    assert_ne!(json!(id_of(&gateway, &mut browser)), id);
    assert_eq!(shown(&gateway, id.as_str().unwrap())["identities"], json!([]));
    // Of a domain without an authority, `trust_unconfirmed_email` holds.
    assert_eq!(registered("bob@example.net").1.get("email_verified"), None);
}

fn claims_of(browser: &Browser) -> Value {
    claims(&browser.cookies["passgate-session"])
}

#[test]
fn account_that_was_made_before_stays_apart() {
    let two = Two::start();
    let setup = two.setup(AUTHORITY, "", "");
    let gateway = setup.start();
    let mut browser = Browser::default();
    browser.sign_in_by(&gateway, two.corp()).expect(303);
    let made = id_of(&gateway, &mut browser);
    let said = gateway.command([
        "user",
        "add",
        "ann@example.com",
        "--no-password",
        "--format",
        "json",
    ]);
    let local = said.expect(0).json()["id"].clone();
    let mut again = Browser::default();
    again.sign_in_by(&gateway, two.corp()).expect(303);
    assert_eq!(id_of(&gateway, &mut again), made);
    assert_eq!(shown(&gateway, local.as_str().unwrap())["identities"], json!([]));
}

//! Sign-in with presets: the real response shapes of GitHub, Google, Microsoft, Apple and GitLab, by their public documentation,
//! through the whole flow; OAuth2 without OpenID Connect; each way in which the gateway authenticates as a client.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::support::app::Recorded;
use super::support::openid::{Browser, CLIENT_ID, CLIENT_SECRET, OpenId, back_with, base64url_sha256, parse};
use super::support::people::{ROUTES, form, post_json};
use super::support::tokens::{header, is_signed_by, now, payload};
use super::support::{
    Answer, App, Exchange, Gateway, Key, Request, Response, Setup, eventually, gateway::before, values,
};

/// A gateway in front of `app` with these provider tables, at the origin `public_url`.
#[track_caller]
fn gateway_at(app: &App, public_url: &str, tables: &str, files: &[(&str, String)]) -> Gateway {
    let server = format!("[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"{public_url}\"\n");
    let setup = Setup::new(&before(app, &format!("{server}{tables}{ROUTES}")));
    setup.write("sso.secret", CLIENT_SECRET);
    for (name, content) in files {
        setup.write(name, content);
    }
    setup.start()
}

#[track_caller]
fn gateway(app: &App, tables: &str) -> Gateway {
    gateway_at(app, "http://localhost", tables, &[])
}

/// The refusal of a sign-in.
#[track_caller]
fn refused(gateway: &Gateway, browser: &mut Browser, back: &str, status: u16, reason: &str) {
    let answer = browser.visit(gateway, back).expect(status);
    let id = answer.header("x-request-id").unwrap().to_owned();
    assert_eq!(
        gateway.log_line(|line| line["request_id"] == *id)["reason"],
        json!(reason)
    );
    assert!(!browser.has_session() && browser.attempts().is_empty());
}

/// The page of the app that a signed-in browser sees, as the app saw the request.
#[track_caller]
fn seen(gateway: &Gateway, app: &App, browser: &mut Browser) -> Recorded {
    browser.visit(gateway, "/x").expect(200);
    app.last()
}

/// An OAuth2 server with an API: the token endpoint at `/token`, and documents for a client with the token.
struct Forge {
    app: App,
    pages: Arc<Mutex<BTreeMap<String, (u16, String)>>>,
}

const ACCESS_TOKEN: &str = "gho_16C7e42F292c6912E7710c838347Ae178B4a";

impl Forge {
    fn start() -> Self {
        let pages: Arc<Mutex<BTreeMap<String, (u16, String)>>> = Arc::default();
        let shared = pages.clone();
        let app = App::with(move |exchange| Self::answer(exchange, &shared.lock().unwrap()));
        let forge = Self { app, pages };
        forge.page(
            "/token",
            &json!({ "access_token": ACCESS_TOKEN, "scope": "read:user,user:email", "token_type": "bearer" }),
        );
        forge
    }

    fn answer(exchange: &mut Exchange<'_>, pages: &BTreeMap<String, (u16, String)>) -> Answer {
        exchange.read_body();
        let request = exchange.request();
        let is_known = request.method() == "POST"
            || request.header("authorization") == Some(&*format!("Bearer {ACCESS_TOKEN}"));
        let missing = (404, json!({ "message": "Not Found" }).to_string());
        let (status, body) = pages
            .get(request.target())
            .filter(|_| is_known)
            .unwrap_or(&missing);
        exchange.send(format!(
            "HTTP/1.1 {status} OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        Answer::Close
    }

    fn page(&self, target: &str, document: &Value) {
        self.raw(target, 200, &document.to_string());
    }

    fn raw(&self, target: &str, status: u16, body: &str) {
        let page = (status, body.to_owned());
        self.pages.lock().unwrap().insert(target.to_owned(), page);
    }

    /// The keys that a server of one's own has, with further ones.
    fn table(&self, more: &str) -> String {
        let base = format!("http://{}", self.app.address);
        format!(
            "[providers.sso]\nauthorize_url = \"{base}/authorize\"\ntoken_url = \"{base}/token\"\nuserinfo_url = \"{base}/user\"\n\
             client_id = \"{CLIENT_ID}\"\nclient_secret = {{ file = \"sso.secret\" }}\n{more}\n"
        )
    }

    /// What GitHub says about the user with this id.
    fn github_user(&self, id: u64, login: &str) {
        self.page(
            "/user",
            &json!({
                "login": login, "id": id, "node_id": "MDQ6VXNlcjE=", "type": "User", "site_admin": false,
                "name": "monalisa octocat", "company": "GitHub", "email": "shown@example.com",
                "two_factor_authentication": true, "created_at": "2008-01-14T04:33:35Z",
            }),
        );
    }

    fn github_emails(&self, verified: bool) {
        self.page(
            "/user/emails",
            &json!([
                { "email": "other@example.com", "verified": true, "primary": false, "visibility": null },
                { "email": "octocat@example.com", "verified": verified, "primary": true, "visibility": "public" },
            ]),
        );
    }

    /// Begins at the gateway; what was asked for, and the way back.
    #[track_caller]
    fn go(&self, gateway: &Gateway, browser: &mut Browser) -> (HashMap<String, String>, String) {
        let answer = browser
            .visit(gateway, "/auth/login/sso?return_to=%2Fx")
            .expect(302);
        let location = answer.header("location").unwrap().to_owned();
        let (endpoint, query) = location.split_once('?').unwrap();
        assert_eq!(endpoint, format!("http://{}/authorize", self.app.address));
        let asked = parse(query);
        let back = back_with(&[
            ("code".to_owned(), "e72e16c7e42f292c6912".to_owned()),
            ("state".to_owned(), asked["state"].clone()),
        ]);
        (asked, back)
    }

    #[track_caller]
    fn sign_in(&self, gateway: &Gateway) -> Browser {
        let mut browser = Browser::default();
        let (_, back) = self.go(gateway, &mut browser);
        let answer = browser.visit(gateway, &back).expect(303);
        assert_eq!(answer.header("location"), Some("/x"));
        browser
    }

    fn targets(&self) -> Vec<String> {
        let requests = self.app.requests();
        requests
            .iter()
            .map(|request| request.target().to_owned())
            .collect()
    }
}

#[test]
fn github_user_signs_in_with_organisations_and_teams_as_groups() {
    let (app, forge) = (App::start(), Forge::start());
    let table = forge.table(
        "preset = \"github\"\nallow = [{ group = \"acme\" }]\nroles = [{ role = \"admin\", group = \"acme/sre\" }]",
    );
    let gateway = gateway(&app, &table);
    forge.github_user(583_231, "octocat");
    forge.github_emails(true);
    let org = |login: String| json!({ "login": login, "id": 1, "url": "https://api.github.com/orgs/x" });
    let full: Vec<Value> = (0..100).map(|number| org(format!("org-{number}"))).collect();
    forge.page("/user/orgs?per_page=100&page=1", &json!(full));
    forge.page(
        "/user/orgs?per_page=100&page=2",
        &json!([org("acme".to_owned()), org("admin".to_owned())]),
    );
    forge.page(
        "/user/teams?per_page=100&page=1",
        &json!([{ "id": 1, "name": "SRE", "slug": "sre", "permission": "admin", "organization": org("acme".to_owned()) }]),
    );
    let mut browser = Browser::default();
    let (asked, back) = forge.go(&gateway, &mut browser);
    assert_eq!(asked["scope"], "read:user user:email read:org");
    assert_eq!(
        (&*asked["code_challenge_method"], &*asked["response_type"]),
        ("S256", "code")
    );
    assert!(!asked.contains_key("nonce"));
    browser.visit(&gateway, &back).expect(303);
    let request = seen(&gateway, &app, &mut browser);
    assert_eq!(request.header("x-auth-email"), Some("octocat@example.com"));
    assert_eq!(request.header("x-auth-name"), Some("monalisa octocat"));
    // An organisation named like a role gives no role.
    assert_eq!(request.header("x-auth-roles"), Some("admin"));
    let requests = forge.app.requests();
    let token = &requests[0];
    assert_eq!(token.header("accept"), Some("application/json"));
    let sent = parse(std::str::from_utf8(&token.body).unwrap());
    assert_eq!(
        (&*sent["client_id"], &*sent["client_secret"]),
        (CLIENT_ID, CLIENT_SECRET)
    );
    assert_eq!(sent["code_verifier"].len(), 43);
    for request in &requests[1..] {
        assert_eq!(request.header("x-github-api-version"), Some("2022-11-28"));
        assert!(request.header("user-agent").unwrap().starts_with("passgate/"));
    }
    assert!(!gateway.log_text().join("\n").contains(ACCESS_TOKEN));
    assert!(!gateway.diagnostics().join("\n").contains(ACCESS_TOKEN));
}

#[test]
fn github_is_not_asked_for_groups_that_no_rule_names() {
    let (app, forge) = (App::start(), Forge::start());
    let table = forge.table("preset = \"github\"\nallow = [{ domain = \"example.com\" }]");
    let gateway = gateway(&app, &table);
    forge.github_user(583_231, "octocat");
    forge.github_emails(true);
    let mut browser = Browser::default();
    let (asked, back) = forge.go(&gateway, &mut browser);
    assert_eq!(asked["scope"], "read:user user:email");
    browser.visit(&gateway, &back).expect(303);
    assert_eq!(forge.targets(), ["/token", "/user", "/user/emails"]);
    // The same id is the same account; the same name is none.
    let id = |browser: &mut Browser| {
        let request = seen(&gateway, &app, browser);
        request.header("x-auth-user").unwrap().to_owned()
    };
    let first = id(&mut browser);
    forge.github_user(583_231, "renamed");
    assert_eq!(id(&mut forge.sign_in(&gateway)), first);
    forge.github_user(99, "octocat");
    assert_ne!(id(&mut forge.sign_in(&gateway)), first);
}

#[test]
fn github_address_that_is_not_verified_counts_for_nothing() {
    let (app, forge) = (App::start(), Forge::start());
    forge.github_user(583_231, "octocat");
    forge.github_emails(false);
    let table = forge.table("preset = \"github\"\nallow = [{ domain = \"example.com\" }]");
    let strict = gateway(&app, &table);
    let mut browser = Browser::default();
    let (_, back) = forge.go(&strict, &mut browser);
    refused(&strict, &mut browser, &back, 403, "sign-in-not-allowed");
    let open = gateway(&app, &forge.table("preset = \"github\"\nallow = \"anyone\""));
    let mut browser = forge.sign_in(&open);
    // Nor does the one that the user shows.
    assert_eq!(seen(&open, &app, &mut browser).header("x-auth-email"), None);
}

#[test]
fn github_error_with_status_200_is_refused() {
    let (app, forge) = (App::start(), Forge::start());
    let gateway = gateway(&app, &forge.table("preset = \"github\"\nallow = \"anyone\""));
    forge.github_user(583_231, "octocat");
    forge.github_emails(true);
    let error = json!({
        "error": "bad_verification_code", "error_description": "The code passed is incorrect or expired.",
        "error_uri": "https://docs.github.com/apps/managing-oauth-apps/troubleshooting-oauth-app-access-token-request-errors/",
    });
    for wrong in [
        error.to_string(),
        format!("access_token={ACCESS_TOKEN}&scope=user&token_type=bearer"),
        json!({ "token_type": "bearer" }).to_string(),
        json!({ "access_token": ACCESS_TOKEN, "token_type": "mac" }).to_string(),
        json!({ "access_token": ACCESS_TOKEN, "token_type": "bearer", "error": "x" }).to_string(),
    ] {
        forge.raw("/token", 200, &wrong);
        let mut browser = Browser::default();
        let (_, back) = forge.go(&gateway, &mut browser);
        refused(&gateway, &mut browser, &back, 502, "provider-refused");
    }
    gateway.diagnostic("bad_verification_code");
    assert!(!forge.targets().contains(&"/user".to_owned()));
    forge.page(
        "/token",
        &json!({ "access_token": ACCESS_TOKEN, "token_type": "BEARER" }),
    );
    forge.sign_in(&gateway);
}

#[test]
fn api_of_a_provider_that_fails_signs_no_user_in() {
    let (app, forge) = (App::start(), Forge::start());
    let gateway = gateway(
        &app,
        &forge.table("preset = \"github\"\nallow = [{ group = \"acme\" }]"),
    );
    let ask = |status: u16, reason: &str| {
        let mut browser = Browser::default();
        let (_, back) = forge.go(&gateway, &mut browser);
        refused(&gateway, &mut browser, &back, status, reason);
    };
    ask(502, "provider-refused");
    forge.raw("/user", 503, "{}");
    ask(503, "provider-unavailable");
    forge.raw("/user", 200, "[]");
    ask(502, "provider-refused");
    forge.github_user(583_231, "octocat");
    ask(502, "provider-refused");
    forge.github_emails(true);
    forge.raw("/user/orgs?per_page=100&page=1", 403, "{}");
    ask(502, "provider-refused");
    forge.raw("/user/orgs?per_page=100&page=1", 200, "{}");
    ask(502, "provider-refused");
    forge.page("/user/orgs?per_page=100&page=1", &json!([{ "login": "acme" }]));
    forge.page("/user/teams?per_page=100&page=1", &json!([]));
    forge.sign_in(&gateway);
}

#[test]
fn oauth2_without_a_preset_reads_claims_by_their_paths() {
    let (app, forge) = (App::start(), Forge::start());
    let gateway = gateway(
        &app,
        &forge.table(
            "allow = [{ domain = \"example.com\" }]\nroles_claims = [\"data.groups\"]\n\
             claims = { subject = \"data.id\", email = \"data.mail\", email_verified = \"data.confirmed\", name = \"data.label\" }",
        ),
    );
    let user = json!({ "data": {
        "id": 7, "mail": "ann@example.com", "confirmed": "true", "label": "Ann", "groups": ["admin"],
    } });
    forge.page("/user", &user);
    let mut browser = Browser::default();
    let (asked, back) = forge.go(&gateway, &mut browser);
    assert!(!asked.contains_key("scope"));
    browser.visit(&gateway, &back).expect(303);
    let request = seen(&gateway, &app, &mut browser);
    assert_eq!(request.header("x-auth-email"), Some("ann@example.com"));
    assert_eq!(request.header("x-auth-name"), Some("Ann"));
    assert_eq!(request.header("x-auth-roles"), Some("admin"));
    for (name, value, status, reason) in [
        ("confirmed", json!("yes"), 403, "sign-in-not-allowed"),
        ("confirmed", json!(2), 403, "sign-in-not-allowed"),
        ("confirmed", json!(null), 403, "sign-in-not-allowed"),
        ("id", json!(""), 502, "provider-refused"),
        ("id", json!(7.5), 502, "provider-refused"),
        ("id", json!(["7"]), 502, "provider-refused"),
        ("id", json!(true), 502, "provider-refused"),
    ] {
        let mut user = user.clone();
        user["data"][name] = value;
        forge.page("/user", &user);
        let mut browser = Browser::default();
        let (_, back) = forge.go(&gateway, &mut browser);
        refused(&gateway, &mut browser, &back, status, reason);
    }
}

#[test]
fn google_user_signs_in_with_parameters_of_the_configuration() {
    let (app, provider) = (App::start(), OpenId::start());
    let more = "preset = \"google\"\nallow = [{ domain = \"example.com\" }]\n\
                authorize_parameters = { hd = \"example.com\", prompt = \"select_account\", login_hint = \"a&b=c\" }";
    let gateway = gateway(&app, &provider.table(more));
    provider.user(json!({
        "sub": "110169484474386276334", "email": "ann@example.com", "email_verified": true, "name": "Ann",
        "hd": "example.com", "picture": "https://lh3.example/a", "given_name": "Ann",
    }));
    provider.claims(|claims| claims["azp"] = json!(CLIENT_ID));
    let mut browser = Browser::default();
    // What the browser adds goes nowhere.
    let answer = browser
        .visit(
            &gateway,
            "/auth/login/sso?return_to=%2Fx&login_hint=evil&prompt=none&hd=evil",
        )
        .expect(302);
    let location = answer.header("location").unwrap().to_owned();
    let asked = parse(location.split_once('?').unwrap().1);
    assert_eq!(
        (&*asked["hd"], &*asked["prompt"], &*asked["login_hint"]),
        ("example.com", "select_account", "a&b=c")
    );
    assert!(!location.contains("evil"), "{location}");
    let back = back_with(&provider.agree(&location));
    browser.visit(&gateway, &back).expect(303);
    let request = seen(&gateway, &app, &mut browser);
    assert_eq!(request.header("x-auth-email"), Some("ann@example.com"));
    assert_eq!(provider.count("/userinfo"), 0);
    assert!(!asked.contains_key("access_type"));
}

#[test]
fn google_is_asked_for_a_refresh_token_where_one_is_kept() {
    let (app, provider) = (App::start(), OpenId::start());
    let asked = |more: &str| {
        let more = format!("preset = \"google\"\nallow = \"anyone\"\nrefresh = true\n{more}");
        let gateway = gateway(&app, &provider.table(&more));
        let answer = Browser::default().visit(&gateway, "/auth/login/sso").expect(302);
        let asked = parse(answer.header("location").unwrap().split_once('?').unwrap().1);
        (asked["access_type"].clone(), asked["prompt"].clone())
    };
    assert_eq!(asked(""), ("offline".to_owned(), "consent".to_owned()));
    assert_eq!(
        asked("authorize_parameters = { prompt = \"select_account\" }").1,
        "select_account"
    );
}

#[test]
fn slack_workspace_is_a_group_and_no_code_verifier_is_sent() {
    let (app, provider) = (App::start(), OpenId::start());
    provider.without_pkce();
    let more = "preset = \"slack\"\nallow = [{ group = \"T0123456789\" }]";
    let gateway = gateway(&app, &provider.table(more));
    provider.user(json!({
        "sub": "U0R7MFMJM", "https://slack.com/team_id": "T0123456789", "https://slack.com/user_id": "U0R7MFMJM",
        "email": "ann@example.com", "email_verified": true, "date_email_verified": 1_622_128_723, "name": "Ann",
    }));
    let mut browser = Browser::default();
    browser.sign_in(&gateway, &provider).expect(303);
    let request = seen(&gateway, &app, &mut browser);
    assert_eq!(request.header("x-auth-email"), Some("ann@example.com"));
    assert_eq!(request.header("x-auth-roles"), None);
    provider.claims(|claims| claims["https://slack.com/team_id"] = json!("T0OTHER"));
    let mut browser = Browser::default();
    let back = browser.go(&gateway, &provider, "/");
    refused(&gateway, &mut browser, &back, 403, "sign-in-not-allowed");
    // The nonce is what binds the code to the attempt.
    provider.claims(|claims| claims["nonce"] = json!("another"));
    let mut browser = Browser::default();
    let back = browser.go(&gateway, &provider, "/");
    refused(&gateway, &mut browser, &back, 502, "id-token-refused");
}

#[test]
fn linkedin_is_sent_no_code_verifier() {
    let (app, forge) = (App::start(), Forge::start());
    let more = "preset = \"linkedin\"\nallow = [{ domain = \"example.com\" }]";
    let gateway = gateway(&app, &forge.table(more));
    let user =
        json!({ "sub": "782bbtaQ", "name": "Ann", "email": "ann@example.com", "email_verified": true });
    forge.page("/user", &user);
    let mut browser = Browser::default();
    let (asked, back) = forge.go(&gateway, &mut browser);
    assert!(!asked.contains_key("code_challenge") && !asked.contains_key("code_challenge_method"));
    browser.visit(&gateway, &back).expect(303);
    let sent = parse(std::str::from_utf8(&forge.app.requests()[0].body).unwrap());
    assert!(!sent.contains_key("code_verifier"));
    assert_eq!(
        (&*sent["client_id"], &*sent["client_secret"]),
        (CLIENT_ID, CLIENT_SECRET)
    );
    assert_eq!(
        seen(&gateway, &app, &mut browser).header("x-auth-email"),
        Some("ann@example.com")
    );
}

#[test]
fn x_address_counts_as_verified_where_it_is_asked_for() {
    let (app, forge) = (App::start(), Forge::start());
    let base = format!("http://{}", forge.app.address);
    let table = forge.table(
        "preset = \"x\"\nallow = [{ domain = \"example.com\" }]\nrefresh = true\nscopes = [\"users.read\", \"users.email\"]",
    );
    let own = format!("userinfo_url = \"{base}/user\"");
    let with_field = format!("userinfo_url = \"{base}/me?user.fields=confirmed_email\"");
    let gateway = gateway(&app, &table.replace(&own, &with_field));
    let target = "/me?user.fields=confirmed_email";
    let user = json!({ "data": {
        "id": "2244994945", "name": "Ann", "username": "ann", "confirmed_email": "ann@example.com",
    } });
    forge.page(target, &user);
    let mut browser = Browser::default();
    let (asked, back) = forge.go(&gateway, &mut browser);
    assert_eq!(asked["scope"], "users.read users.email");
    browser.visit(&gateway, &back).expect(303);
    assert_eq!(
        seen(&gateway, &app, &mut browser).header("x-auth-email"),
        Some("ann@example.com")
    );
    // No address, and one that a claim of another name has.
    for data in [
        json!({ "id": "7", "name": "Ann" }),
        json!({ "id": "7", "name": "Ann", "email": "ann@example.com" }),
    ] {
        forge.page(target, &json!({ "data": data, "email": "ann@example.com" }));
        let mut browser = Browser::default();
        let (_, back) = forge.go(&gateway, &mut browser);
        refused(&gateway, &mut browser, &back, 403, "sign-in-not-allowed");
    }
}

#[test]
fn gitlab_groups_come_from_userinfo_and_are_no_roles() {
    let (app, provider) = (App::start(), OpenId::start());
    let more = "preset = \"gitlab\"\nallow = [{ group = \"acme/sre\" }]\nroles = [{ role = \"ops\", group = \"acme\" }]";
    let gateway = gateway(&app, &provider.table(more));
    let user = json!({
        "sub": "23", "name": "Ann", "nickname": "ann", "preferred_username": "ann", "email": "ann@example.com",
        "email_verified": true, "profile": "https://gitlab.com/ann",
    });
    provider.user(user.clone());
    provider.claims(|claims| claims["groups_direct"] = json!(["admin"]));
    let mut userinfo = user;
    userinfo["groups"] = json!(["acme", "acme/sre", "admin"]);
    provider.userinfo(userinfo);
    let mut browser = Browser::default();
    browser.sign_in(&gateway, &provider).expect(303);
    assert_eq!(
        seen(&gateway, &app, &mut browser).header("x-auth-roles"),
        Some("ops")
    );
}

const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";
const OTHER_TENANT: &str = "3338040d-6c67-4c5b-b112-36a304b66dad";
const PERSONAL: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";

/// A gateway that signs in users of `tenants`, and Microsoft's answers.
#[track_caller]
fn microsoft(app: &App, provider: &OpenId, tenants: &str) -> Gateway {
    let base = provider.issuer();
    let template = base.clone();
    provider.discovery(move |document| document["issuer"] = json!(format!("{template}/{{tenantid}}/v2.0")));
    provider.user(json!({
        "sub": "AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ", "oid": "690222be-ff1a-4d56-abd1-7e4f7d38e474",
        "name": "Ann", "preferred_username": "ann@example.com", "email": "ann@example.com", "ver": "2.0",
    }));
    let table = format!(
        "[providers.sso]\npreset = \"microsoft\"\nissuer = \"{base}/{{tid}}/v2.0\"\ntenants = {tenants}\n\
         client_id = \"{CLIENT_ID}\"\nclient_secret = {{ file = \"sso.secret\" }}\nallow = [{{ domain = \"example.com\" }}]\n"
    );
    gateway(app, &table)
}

/// A token of the tenant `tid`, whose issuer has `in_iss`.
fn of_tenant(provider: &OpenId, tid: &'static str, in_iss: &'static str, edov: Value) {
    let base = provider.issuer();
    provider.claims(move |claims| {
        claims["iss"] = json!(format!("{base}/{in_iss}/v2.0"));
        claims["tid"] = json!(tid);
        if !edov.is_null() {
            claims["xms_edov"] = edov.clone();
        }
    });
}

#[test]
fn microsoft_takes_listed_tenants_and_verified_domains() {
    let (app, provider) = (App::start(), OpenId::start());
    let gateway = microsoft(&app, &provider, &format!("[\"{TENANT}\", \"{OTHER_TENANT}\"]"));
    let ask = |status: u16, reason: &str| {
        let mut browser = Browser::default();
        let back = browser.go(&gateway, &provider, "/");
        refused(&gateway, &mut browser, &back, status, reason);
    };
    // A tenant can give its users any address.
    for unverified in [
        json!(null),
        json!(false),
        json!(0),
        json!(2),
        json!("false"),
        json!("0"),
    ] {
        of_tenant(&provider, TENANT, TENANT, unverified);
        ask(403, "sign-in-not-allowed");
    }
    of_tenant(&provider, PERSONAL, PERSONAL, json!(true));
    ask(403, "sign-in-not-allowed");
    gateway.diagnostic("`tenants` of the provider names other tenants");
    of_tenant(&provider, TENANT, OTHER_TENANT, json!(true));
    ask(502, "id-token-refused");
    of_tenant(&provider, "common", "common", json!(true));
    ask(502, "id-token-refused");
    of_tenant(&provider, TENANT, TENANT, json!(true));
    let mut browser = Browser::default();
    browser.sign_in(&gateway, &provider).expect(303);
    assert_eq!(
        seen(&gateway, &app, &mut browser).header("x-auth-email"),
        Some("ann@example.com")
    );
    assert!(provider.count("/organizations/v2.0/.well-known/openid-configuration") > 0);
    // Both are in use.
    for verified in [json!(1), json!("1")] {
        of_tenant(&provider, TENANT, TENANT, verified);
        Browser::default().sign_in(&gateway, &provider).expect(303);
    }
}

#[test]
fn microsoft_organizations_leave_personal_accounts_out() {
    let (app, provider) = (App::start(), OpenId::start());
    let gateway = microsoft(&app, &provider, "\"organizations\"");
    of_tenant(&provider, PERSONAL, PERSONAL, json!(true));
    let mut browser = Browser::default();
    let back = browser.go(&gateway, &provider, "/");
    refused(&gateway, &mut browser, &back, 403, "sign-in-not-allowed");
    of_tenant(&provider, OTHER_TENANT, OTHER_TENANT, json!(true));
    Browser::default().sign_in(&gateway, &provider).expect(303);
}

#[test]
fn microsoft_single_tenant_has_its_own_issuer_and_refuses_others() {
    let (app, provider) = (App::start(), OpenId::start());
    let gateway = microsoft(&app, &provider, &format!("[\"{TENANT}\"]"));
    let issuer = format!("{}/{TENANT}/v2.0", provider.issuer());
    provider.discovery(move |document| document["issuer"] = json!(issuer));
    of_tenant(&provider, OTHER_TENANT, OTHER_TENANT, json!(true));
    let mut browser = Browser::default();
    let back = browser.go(&gateway, &provider, "/");
    refused(&gateway, &mut browser, &back, 502, "id-token-refused");
    of_tenant(&provider, TENANT, TENANT, json!(null));
    let mut browser = Browser::default();
    let back = browser.go(&gateway, &provider, "/");
    refused(&gateway, &mut browser, &back, 403, "sign-in-not-allowed");
    of_tenant(&provider, TENANT, TENANT, json!(true));
    Browser::default().sign_in(&gateway, &provider).expect(303);
    assert!(provider.count(&format!("/{TENANT}/v2.0/.well-known/openid-configuration")) > 0);
}

/// A request that a page of Apple has the browser send.
fn from_apple(browser: &Browser, target: &str, media_type: &str, body: String) -> Request {
    let cookies: Vec<String> = browser
        .cookies
        .iter()
        // The browser leaves out what is `SameSite=Lax`.
        .filter(|(name, _)| name.contains("-nonce-provider-"))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    Request::post(target, body)
        .host("localhost")
        .header("Content-Type", media_type)
        .header("Accept", "text/html,application/xhtml+xml")
        .header("Origin", "https://appleid.apple.com")
        .header("Sec-Fetch-Site", "cross-site")
        .header("Sec-Fetch-Mode", "navigate")
        .header("Sec-Fetch-Dest", "document")
        .header("Cookie", &cookies.join("; "))
}

/// Apple's form.
fn apple_form(browser: &Browser, target: &str, fields: &[(String, String)]) -> Request {
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
    let media_type = "application/x-www-form-urlencoded";
    from_apple(browser, target, media_type, form(&fields))
}

const RETURN: &str = "/auth/login/sso/return";

/// A gateway with Apple and another provider, and the key of the team.
fn apple(app: &App, provider: &OpenId) -> (Gateway, Arc<Key>) {
    apple_with(app, provider, "")
}

/// The same with further tables.
fn apple_with(app: &App, provider: &OpenId, more: &str) -> (Gateway, Arc<Key>) {
    let key = Arc::new(Key::new("ES256", "FGHIJ67890"));
    let base = provider.issuer();
    let table = format!(
        "[providers.sso]\npreset = \"apple\"\nissuer = \"{base}\"\nclient_id = \"{CLIENT_ID}\"\nteam_id = \"ABCDE12345\"\n\
         key_id = \"FGHIJ67890\"\nprivate_key = {{ file = \"apple.p8\" }}\nallow = \"anyone\"\n\
         [providers.other]\nissuer = \"{base}\"\nclient_id = \"{CLIENT_ID}\"\nallow = \"anyone\"\n{more}"
    );
    let files = [("apple.p8", key.private_pem())];
    let gateway = gateway_at(app, "https://localhost", &table, &files);
    provider.scope("openid name email");
    let (jwks, issuer) = (json!({ "keys": [key.jwk()] }), "https://appleid.apple.com");
    provider.authenticate(move |request, form| {
        let secret = &form["client_secret"];
        let claims = payload(secret);
        let lifetime = claims["exp"].as_i64().unwrap() - now();
        request.header("authorization").is_none()
            && form["client_id"] == CLIENT_ID
            && is_signed_by(secret, &jwks)
            && header(secret)["kid"] == "FGHIJ67890"
            && (&claims["iss"], &claims["sub"], &claims["aud"])
                == (&json!("ABCDE12345"), &json!(CLIENT_ID), &json!(issuer))
            && (1..=60).contains(&lifetime)
    });
    provider.user(json!({
        "sub": "001999.b9b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0.0001", "email": "dpdcnf87nu@privaterelay.appleid.com",
        "email_verified": "true", "is_private_email": "true", "auth_time": now(), "nonce_supported": true,
    }));
    (gateway, key)
}

/// Goes to Apple and agrees; the fields of its form.
#[track_caller]
fn go_to_apple(gateway: &Gateway, browser: &mut Browser, provider: &OpenId) -> Vec<(String, String)> {
    let answer = browser
        .visit(gateway, "/auth/login/sso?return_to=%2Fx")
        .expect(302);
    let set = values(&answer.fields, "set-cookie").join("\n");
    assert!(
        set.contains("; SameSite=None; ") && set.contains("; Secure"),
        "{set}"
    );
    let location = answer.header("location").unwrap();
    assert_eq!(
        parse(location.split_once('?').unwrap().1)["response_mode"],
        "form_post"
    );
    provider.agree(location)
}

#[track_caller]
fn sent(gateway: &Gateway, browser: &mut Browser, request: &Request) -> Response {
    let answer = gateway.send(request);
    browser.take(&answer);
    answer
}

#[test]
fn apple_user_comes_back_by_a_form_with_a_name_at_the_first_time() {
    let (app, provider) = (App::start(), OpenId::start());
    let (gateway, _key) = apple(&app, &provider);
    let mut browser = Browser::default();
    let mut fields = go_to_apple(&gateway, &mut browser, &provider);
    let user = json!({ "name": { "firstName": "Ann", "lastName": "B." }, "email": "admin@example.com" });
    fields.push(("user".to_owned(), user.to_string()));
    let form = apple_form(&browser, RETURN, &fields);
    let answer = sent(&gateway, &mut browser, &form).expect(303);
    assert_eq!(answer.header("location"), Some("/x"));
    assert!(browser.attempts().is_empty(), "{:?}", browser.cookies);
    let request = seen(&gateway, &app, &mut browser);
    assert_eq!(request.header("x-auth-name"), Some("Ann B."));
    // Apple does not say the name again.
    let mut second = Browser::default();
    let fields = go_to_apple(&gateway, &mut second, &provider);
    let form = apple_form(&second, RETURN, &fields);
    sent(&gateway, &mut second, &form).expect(303);
    assert_eq!(
        seen(&gateway, &app, &mut second).header("x-auth-name"),
        Some("Ann B.")
    );
    // The address is that of the ID token, never that of the form.
    assert_eq!(
        request.header("x-auth-email"),
        Some("dpdcnf87nu@privaterelay.appleid.com")
    );
}

#[test]
fn form_without_its_attempt_is_refused_wherever_it_comes_from() {
    let (app, provider) = (App::start(), OpenId::start());
    let (gateway, _key) = apple(&app, &provider);
    let reason = |answer: &Response| {
        let id = answer.header("x-request-id").unwrap().to_owned();
        gateway.log_line(|line| line["request_id"] == *id)["reason"].clone()
    };
    let mut attacker = Browser::default();
    let fields = go_to_apple(&gateway, &mut attacker, &provider);
    // A page that has a victim send the attacker's answer.
    let mut victim = Browser::default();
    let answer = gateway.send(&apple_form(&victim, RETURN, &fields)).expect(400);
    assert_eq!(reason(&answer), json!("attempt-refused"));
    go_to_apple(&gateway, &mut victim, &provider);
    let answer = gateway.send(&apple_form(&victim, RETURN, &fields)).expect(400);
    assert_eq!(reason(&answer), json!("attempt-refused"));
    // A provider that does not answer by a form.
    let answer = gateway
        .send(&apple_form(&attacker, "/auth/login/other/return", &fields))
        .expect(400);
    assert_eq!(reason(&answer), json!("provider-answer-invalid"));
    gateway
        .send(&apple_form(&attacker, "/auth/login/none/return", &fields))
        .expect(404);
    // Other ways to send it.
    let json = json!({ "state": fields[1].1, "code": fields[0].1 }).to_string();
    let json = from_apple(&attacker, RETURN, "application/json", json);
    assert_eq!(gateway.send(&json).status, 400);
    let twice = [fields.clone(), fields.clone()].concat();
    assert_eq!(gateway.send(&apple_form(&attacker, RETURN, &twice)).status, 400);
    // Other endpoints take no form of another site.
    let elsewhere = |target: &str| gateway.send(&apple_form(&attacker, target, &fields)).status;
    assert_eq!(elsewhere("/auth/logout"), 403);
    assert_eq!(elsewhere("/auth/login"), 403);
    assert_eq!(provider.count("/token"), 0);
    let form = apple_form(&attacker, RETURN, &fields);
    sent(&gateway, &mut attacker, &form).expect(303);
    assert_eq!(reason(&gateway.send(&form).expect(400)), json!("attempt-refused"));
}

#[test]
fn apple_sign_in_that_was_cancelled_is_denied() {
    let (app, provider) = (App::start(), OpenId::start());
    let (gateway, _key) = apple(&app, &provider);
    let mut browser = Browser::default();
    let fields = go_to_apple(&gateway, &mut browser, &provider);
    let cancelled = [
        ("state".to_owned(), fields[1].1.clone()),
        ("error".to_owned(), "user_cancelled_authorize".to_owned()),
    ];
    let form = apple_form(&browser, RETURN, &cancelled);
    sent(&gateway, &mut browser, &form).expect(403);
    assert!(browser.attempts().is_empty());
}

#[test]
fn gateway_authenticates_by_post_by_key_and_not_at_all() {
    let (app, provider) = (App::start(), OpenId::start());
    let table = |more: &str| {
        format!(
            "[providers.sso]\nissuer = \"{}\"\nclient_id = \"{CLIENT_ID}\"\nallow = \"anyone\"\n{more}\n",
            provider.issuer()
        )
    };
    let secret = "client_secret = { file = \"sso.secret\" }\nclient_authentication = \"post\"";
    provider.authenticate(|request, form| {
        request.header("authorization").is_none()
            && form["client_id"] == CLIENT_ID
            && form["client_secret"] == CLIENT_SECRET
    });
    Browser::default()
        .sign_in(&gateway(&app, &table(secret)), &provider)
        .expect(303);

    provider.authenticate(|request, form| {
        request.header("authorization").is_none()
            && form["client_id"] == CLIENT_ID
            && !form.contains_key("client_secret")
    });
    for more in ["", "client_authentication = \"none\""] {
        Browser::default()
            .sign_in(&gateway(&app, &table(more)), &provider)
            .expect(303);
    }

    let endpoint = format!("{}/token", provider.issuer());
    for algorithm in ["ES256", "RS256", "EdDSA"] {
        let key = Key::new(algorithm, "2026-11");
        let files = [("client.key", key.private_pem())];
        let more = "private_key = { file = \"client.key\" }\nkey_id = \"2026-11\"";
        let gateway = gateway_at(&app, "http://localhost", &table(more), &files);
        let jwks = json!({ "keys": [key.jwk()] });
        let ids: Arc<Mutex<Vec<Value>>> = Arc::default();
        let (shared, endpoint) = (ids.clone(), endpoint.clone());
        provider.authenticate(move |request, form| {
            let assertion = &form["client_assertion"];
            let claims = payload(assertion);
            shared.lock().unwrap().push(claims["jti"].clone());
            let lifetime = claims["exp"].as_i64().unwrap() - now();
            request.header("authorization").is_none()
                && form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
                && !form.contains_key("client_secret")
                && is_signed_by(assertion, &jwks)
                && header(assertion)["alg"] == algorithm
                && header(assertion)["kid"] == "2026-11"
                && (&claims["iss"], &claims["sub"], &claims["aud"])
                    == (&json!(CLIENT_ID), &json!(CLIENT_ID), &json!(endpoint))
                && (1..=60).contains(&lifetime)
        });
        for _ in 0..2 {
            Browser::default().sign_in(&gateway, &provider).expect(303);
        }
        let ids = ids.lock().unwrap();
        assert!(ids.len() == 2 && ids[0] != ids[1], "{ids:?}");
    }
}

#[test]
fn signed_in_user_links_apple_which_comes_back_by_a_form() {
    let (app, provider) = (App::start(), OpenId::start());
    let (gateway, _key) = apple(&app, &provider);
    provider.authenticate(|_, _| true);
    provider.scope("openid email profile");
    let mut browser = Browser::default();
    browser.sign_in_by(&gateway, ("other", &provider)).expect(303);
    provider.scope("openid name email");
    let begin = Request::post("/auth/links/sso", "")
        .host("localhost")
        .header("Content-Type", "application/x-www-form-urlencoded")
        .header("Accept", "text/html,application/xhtml+xml")
        .header("Origin", "https://localhost")
        .header("Sec-Fetch-Site", "same-origin");
    let answer = gateway.send(&browser.with_cookies(begin)).expect(303);
    browser.take(&answer);
    let fields = provider.agree(answer.header("location").unwrap());
    // Another browser's answer, with the attempt of this one or without it, links nothing.
    let asked = apple_form(&browser, RETURN, &fields);
    let answer = gateway.send(&asked).expect(303);
    let address = answer.header("location").unwrap().to_owned();
    assert!(
        address.starts_with("https://localhost/auth/login/sso/return?code="),
        "{address}"
    );
    assert!(values(&answer.fields, "set-cookie").is_empty(), "{answer:?}");
    let target = address.strip_prefix("https://localhost").unwrap();
    let mut other = browser.clone();
    other.cookies.retain(|name, _| name.contains("-nonce-provider-"));
    assert_eq!(gateway.send(&Browser::default().request(target)).status, 400);
    let answer = browser.visit(&gateway, target).expect(303);
    assert_eq!(answer.header("location"), Some("/auth/links?done=linked"));
    assert!(browser.attempts().is_empty(), "{:?}", browser.cookies);
    let listed = browser.visit(&gateway, "/auth/links").expect(200).text();
    assert!(listed.contains("Apple"), "{listed}");
    // The same account by either way, and the answer counts once.
    let id = seen(&gateway, &app, &mut browser)
        .header("x-auth-user")
        .unwrap()
        .to_owned();
    assert_eq!(other.visit(&gateway, target).status, 400);
    let mut second = Browser::default();
    let fields = go_to_apple(&gateway, &mut second, &provider);
    let form = apple_form(&second, RETURN, &fields);
    sent(&gateway, &mut second, &form).expect(303);
    assert_eq!(
        seen(&gateway, &app, &mut second).header("x-auth-user"),
        Some(&*id)
    );
}

#[test]
fn native_client_signs_in_with_apple_which_comes_back_by_a_form() {
    const VERIFIER: &str = "a-code-verifier-of-the-client-that-is-long-enough";
    let (app, provider) = (App::start(), OpenId::start());
    let redirect = "com.example.app:/signed-in";
    let session = format!("[session]\nredirect_uris = [\"{redirect}\"]\n");
    let (gateway, _key) = apple_with(&app, &provider, &session);
    let mut browser = Browser::default();
    let challenge = base64url_sha256(VERIFIER);
    let fields = [
        ("mode", "token"),
        ("redirect_uri", redirect),
        ("state", "of the client"),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ];
    let begin = format!("/auth/login/sso?{}", form(&fields));
    let answer = browser.visit(&gateway, &begin).expect(302);
    let mut fields = provider.agree(answer.header("location").unwrap());
    let user = json!({ "name": { "firstName": "Ann", "lastName": "B." } });
    fields.push(("user".to_owned(), user.to_string()));
    // Without the browser's attempt the client gets nothing.
    let stolen = gateway
        .send(&apple_form(&Browser::default(), RETURN, &fields))
        .expect(400);
    assert_eq!(stolen.header("location"), None);
    let asked = apple_form(&browser, RETURN, &fields);
    let answer = sent(&gateway, &mut browser, &asked).expect(302);
    let location = answer.header("location").unwrap();
    let said = parse(
        location
            .strip_prefix(redirect)
            .unwrap()
            .strip_prefix('?')
            .unwrap(),
    );
    assert_eq!(
        (&*said["state"], &*said["iss"]),
        ("of the client", "https://localhost")
    );
    assert!(browser.cookies.is_empty(), "{:?}", browser.cookies);
    let body = json!({ "code": said["code"], "codeVerifier": VERIFIER, "redirectUri": redirect });
    let tokens = gateway.send(&post_json("/auth/token", &body)).expect(200).json();
    let token = tokens["accessToken"].as_str().unwrap();
    assert_eq!(
        (&payload(token)["idp"], &payload(token)["name"]),
        (&json!("sso"), &json!("Ann B."))
    );
    gateway.get_as(token, "/x").expect(200);
    gateway.send(&post_json("/auth/token", &body)).expect(400);
}

#[test]
fn microsoft_with_any_tenant_takes_personal_accounts_too() {
    let (app, provider) = (App::start(), OpenId::start());
    let gateway = microsoft(&app, &provider, "\"any\"");
    for tenant in [PERSONAL, TENANT, OTHER_TENANT] {
        // The address of a tenant's user counts as verified only where Microsoft says so.
        of_tenant(&provider, tenant, tenant, json!(null));
        let mut browser = Browser::default();
        let back = browser.go(&gateway, &provider, "/");
        refused(&gateway, &mut browser, &back, 403, "sign-in-not-allowed");
        of_tenant(&provider, tenant, tenant, json!(true));
        Browser::default().sign_in(&gateway, &provider).expect(303);
    }
    // The tenant of the token is that of its issuer, whichever it is.
    of_tenant(&provider, TENANT, PERSONAL, json!(true));
    let mut browser = Browser::default();
    let back = browser.go(&gateway, &provider, "/");
    refused(&gateway, &mut browser, &back, 502, "id-token-refused");
    assert!(provider.count("/common/v2.0/.well-known/openid-configuration") > 0);
}

#[test]
fn bitbucket_address_is_the_confirmed_primary_one_of_its_list() {
    let (app, forge) = (App::start(), Forge::start());
    let gateway = gateway(
        &app,
        &forge.table("preset = \"bitbucket\"\nallow = [{ domain = \"example.com\" }]"),
    );
    forge.page(
        "/user",
        &json!({
            "type": "user", "uuid": "{d301aafa-d676-4ee0-88be-962be7417567}", "account_id": "557058:1", "nickname": "ann",
            "username": "ann", "display_name": "Ann", "links": {}, "created_on": "2013-01-01T00:00:00+00:00",
        }),
    );
    let addresses = |primary: bool, confirmed: bool| {
        json!({ "pagelen": 10, "size": 2, "page": 1, "values": [
            { "type": "email", "email": "old@example.com", "is_primary": false, "is_confirmed": true, "links": {} },
            { "type": "email", "email": "ann@example.com", "is_primary": primary, "is_confirmed": confirmed, "links": {} },
        ] })
    };
    forge.page("/user/emails", &addresses(true, true));
    let mut browser = Browser::default();
    let (asked, back) = forge.go(&gateway, &mut browser);
    assert_eq!(asked["scope"], "account email");
    browser.visit(&gateway, &back).expect(303);
    let request = seen(&gateway, &app, &mut browser);
    assert_eq!(request.header("x-auth-email"), Some("ann@example.com"));
    assert_eq!(request.header("x-auth-name"), Some("Ann"));
    assert_eq!(forge.targets(), ["/token", "/user", "/user/emails"]);
    for list in [
        addresses(true, false),
        addresses(false, true),
        json!({ "values": [] }),
        json!({ "values": "ann@example.com" }),
    ] {
        forge.page("/user/emails", &list);
        let mut browser = Browser::default();
        let (_, back) = forge.go(&gateway, &mut browser);
        let answer = browser.visit(&gateway, &back);
        assert!(
            matches!(answer.status, 403 | 502),
            "{list}: {}",
            answer.status_line
        );
        assert!(!browser.has_session());
    }
}

#[test]
fn claims_of_an_oauth2_provider_are_read_afresh_while_a_session_lives() {
    let (app, forge) = (App::start(), Forge::start());
    let rules =
        "allow = \"anyone\"\nrefresh = true\nroles_claims = [\"groups\"]\n[session]\ntoken_lifetime = \"1s\"";
    let gateway = gateway(&app, &forge.table(rules));
    let token = |number: u32| {
        json!({
            "access_token": ACCESS_TOKEN, "token_type": "bearer", "expires_in": 3600,
            "refresh_token": format!("ghr_{number}"),
        })
    };
    let user =
        |groups: &[&str]| json!({ "id": 7, "email": "ann@example.com", "name": "Ann", "groups": groups });
    forge.page("/token", &token(1));
    forge.page("/user", &user(&["admin"]));
    let mut browser = forge.sign_in(&gateway);
    browser.visit(&gateway, "/admin/x").expect(200);
    forge.page("/token", &token(2));
    forge.page("/user", &user(&[]));
    eventually("the role is gone", || {
        browser.visit(&gateway, "/admin/x").status == 403
    });
    let sent: Vec<String> = forge
        .app
        .requests()
        .iter()
        .map(|request| request.text())
        .collect();
    assert!(
        sent.iter()
            .any(|text| text.contains("grant_type=refresh_token&refresh_token=ghr_1")),
        "{sent:?}"
    );
    eventually("the next refresh token is used", || {
        browser.visit(&gateway, "/x").expect(200);
        let requests = forge.app.requests();
        requests
            .iter()
            .any(|request| request.text().contains("refresh_token=ghr_2"))
    });
    // Another user's claims, and a grant that is gone, end the session.
    forge.raw("/token", 400, "{\"error\": \"invalid_grant\"}");
    eventually("the session is over", || {
        browser.visit(&gateway, "/x").status == 302
    });
}

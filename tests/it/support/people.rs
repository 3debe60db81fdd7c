//! People who sign in: accounts, forms, cookies.

use serde_json::{Value, json};

use super::gateway::before;
use super::{App, Gateway, Request, Response, Setup, values};

/// A password that every rule allows.
pub const PASSWORD: &str = "correct horse battery";

/// Routes for all clients, for signed-in users, and for admins; the app is `app`.
pub const ROUTES: &str = r#"
[[routes]]
path = "/*"
upstream = "app"
[[routes]]
path = "/public/*"
auth = "none"
upstream = "app"
[[routes]]
path = "/maybe/*"
auth = "optional"
upstream = "app"
[[routes]]
path = "/admin/*"
roles = ["admin"]
upstream = "app"
"#;

/// A gateway in front of `app` where people can sign in, with these further tables.
#[track_caller]
pub fn sign_in_gateway(app: &App, more: &str) -> Gateway {
    sign_in_setup(app, more).start()
}

/// The same, not started yet.
#[track_caller]
pub fn sign_in_setup(app: &App, more: &str) -> Setup {
    let tables = if more.contains("[password]") {
        ""
    } else {
        "[password]\n"
    };
    let server = "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"http://localhost\"\n";
    Setup::new(&before(app, &format!("{server}{tables}{more}{ROUTES}")))
}

impl Setup {
    /// Adds an account; its id.
    #[track_caller]
    pub fn add_account(&self, email: &str, roles: &[&str]) -> String {
        let mut words = vec!["user", "add", email];
        for role in roles {
            words.extend(["--role", role]);
        }
        self.command_with_input(words, &format!("{PASSWORD}\n")).expect(0);
        let shown = self
            .command(["user", "show", email, "--format", "json"])
            .expect(0)
            .json();
        shown["id"].as_str().expect("an account has an id").to_owned()
    }
}

/// `application/x-www-form-urlencoded`
pub fn form(fields: &[(&str, &str)]) -> String {
    let encode = |text: &str| {
        text.bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(byte).to_string(),
                _ => format!("%{byte:02X}"),
            })
            .collect::<String>()
    };
    fields
        .iter()
        .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
        .collect::<Vec<_>>()
        .join("&")
}

/// A form that a page of the site sends.
pub fn post_form(target: &str, fields: &[(&str, &str)]) -> Request {
    Request::post(target, form(fields))
        .host("localhost")
        .header("Content-Type", "application/x-www-form-urlencoded")
        .header("Accept", "text/html,application/xhtml+xml")
        .header("Origin", "http://localhost")
        .header("Sec-Fetch-Site", "same-origin")
        .header("Sec-Fetch-Dest", "document")
}

/// What an API client sends.
pub fn post_json(target: &str, body: &Value) -> Request {
    Request::post(target, body.to_string())
        .host("localhost")
        .header("Content-Type", "application/json")
}

/// A navigation of a browser.
pub fn navigate(target: &str) -> Request {
    Request::get(target)
        .host("localhost")
        .header("Accept", "text/html,application/xhtml+xml")
        .header("Sec-Fetch-Dest", "document")
        .header("Sec-Fetch-Mode", "navigate")
        .header("Sec-Fetch-Site", "none")
}

/// The session cookie that an answer sets, as `name=value`; `None` where it sets none. A deletion is `name=`.
#[track_caller]
pub fn session_cookie(response: &Response) -> Option<String> {
    let set: Vec<&str> = values(&response.fields, "set-cookie")
        .into_iter()
        .filter(|field| field.starts_with("passgate-session="))
        .collect();
    assert!(set.len() < 2, "two session cookies: {response:?}");
    set.first()
        .map(|field| field.split(';').next().unwrap_or_default().to_owned())
}

impl Gateway {
    /// Signs a browser in by the form; its cookie as `name=value`.
    #[track_caller]
    pub fn sign_in(&self, email: &str) -> String {
        let answer = self
            .send(&post_form(
                "/auth/login",
                &[("email", email), ("password", PASSWORD)],
            ))
            .expect(303);
        session_cookie(&answer).expect("a session cookie is set")
    }

    /// Signs an API client in; the answer's JSON.
    #[track_caller]
    pub fn sign_in_client(&self, email: &str) -> Value {
        self.send(&post_json(
            "/auth/login",
            &json!({ "email": email, "password": PASSWORD }),
        ))
        .expect(200)
        .json()
    }

    /// A GET by a program with a session cookie.
    #[track_caller]
    pub fn get_with(&self, cookie: &str, target: &str) -> Response {
        self.send(&Request::get(target).host("localhost").header("Cookie", cookie))
    }
}

/// The claims of a JWT, unverified.
#[track_caller]
pub fn claims(token: &str) -> Value {
    use base64::Engine as _;
    let payload = token.split('.').nth(1).expect("a JWT has three parts");
    serde_json::from_slice(
        &base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(payload)
            .unwrap(),
    )
    .unwrap()
}

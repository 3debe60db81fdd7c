//! The table on sign-ins with a provider in `docs/troubleshooting.md`: each row comes about as it says.

use passgate::internals::refusal::Refusal;

use super::json;
use super::troubleshooting::{code, rows};
use crate::support::gateway::before;
use crate::support::openid::{Browser, CLIENT_SECRET, OpenId, Trouble, back_with, parse};
use crate::support::people::ROUTES;
use crate::support::{App, Gateway, Response, Setup};

fn user(subject: &str, domain: &str) -> serde_json::Value {
    let email = format!("{subject}@{domain}");
    json!({ "sub": subject, "email": email, "email_verified": true, "name": subject })
}

/// The answer to a sign-in that is refused for this reason.
fn refused(reason: &str, gateway: &Gateway, provider: &OpenId) -> Response {
    let mut browser = Browser::default();
    let broken = |browser: &mut Browser, trouble| {
        provider.trouble("/token", Some(trouble));
        let answer = browser.sign_in(gateway, provider);
        provider.trouble("/token", None);
        answer
    };
    match reason {
        "attempt-refused" => browser.visit(gateway, "/auth/login/sso/return?code=a&state=b"),
        "sign-in-loop" => {
            provider.user(user("bob", "example.com"));
            for _ in 0..3 {
                browser.visit(gateway, "/auth/login?return_to=/x").expect(302);
                let back = browser.go(gateway, provider, "/x");
                browser.visit(gateway, &back).expect(303);
                browser.cookies.clear();
            }
            browser.visit(gateway, "/auth/login?return_to=/x")
        }
        "provider-answer-invalid" => {
            let back = browser.go(gateway, provider, "/");
            browser.visit(gateway, &format!("{back}&iss=https%3A%2F%2Fevil.example"))
        }
        "sign-in-denied" => {
            let back = browser.go(gateway, provider, "/");
            let state = parse(back.split_once('?').unwrap().1)["state"].clone();
            let denied = [("error", "access_denied"), ("state", state.as_str())]
                .map(|(name, value)| (name.to_owned(), value.to_owned()));
            browser.visit(gateway, &back_with(&denied))
        }
        "sign-in-not-allowed" => {
            provider.user(user("eve", "elsewhere.example"));
            browser.sign_in(gateway, provider)
        }
        "account-disabled" => {
            provider.user(user("bob", "example.com"));
            browser.sign_in(gateway, provider).expect(303);
            let accounts = gateway
                .command(["user", "list", "--format", "json"])
                .expect(0)
                .json();
            let id = accounts[0]["id"].as_str().unwrap();
            gateway.command(["user", "disable", id]).expect(0);
            Browser::default().sign_in(gateway, provider)
        }
        "provider-refused" => {
            let answer = Trouble::answer("400 Bad Request", "", r#"{"error": "invalid_client"}"#);
            broken(&mut browser, answer)
        }
        "id-token-refused" => {
            provider.claims(|claims| claims["aud"] = json!("other"));
            let answer = browser.sign_in(gateway, provider);
            provider.claims(|_| {});
            answer
        }
        "provider-unavailable" => broken(&mut browser, Trouble::Closed),
        _ => panic!("no test brings `{reason}` about"),
    }
}

#[test]
fn refused_sign_ins_on_the_page_have_their_status_and_reason() {
    let (app, provider) = (App::start(), OpenId::start());
    let server = "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"http://localhost\"\n";
    let table = provider.table("allow = [{ domain = \"example.com\" }]\n");
    let setup = Setup::new(&before(&app, &format!("{server}{table}{ROUTES}")));
    setup.write("sso.secret", CLIENT_SECRET);
    let gateway = setup.start();
    let rows = rows("A sign-in with a provider fails");
    assert!(rows.len() >= 8, "{rows:?}");
    for row in rows {
        assert_eq!(row.len(), 4, "{row:?}");
        let (status, reason) = (row[0].parse::<u16>().unwrap(), code(&row[2]));
        let refusal = Refusal::ALL.iter().find(|refusal| refusal.reason() == reason);
        assert_eq!(
            refusal.map(|refusal| refusal.message()),
            Some(row[1].as_str()),
            "{reason}"
        );
        let answer = refused(&reason, &gateway, &provider).expect(status);
        let page = answer.text();
        let has_link = page.contains(">Sign in again</a>") || page.contains(">Go to the sign-in page</a>");
        assert!(has_link, "{reason}");
        let id = answer.header("x-request-id").unwrap().to_owned();
        let line = gateway.log_line(|line| line["request_id"] == id.as_str());
        assert_eq!(line["reason"], reason.as_str(), "{line}");
    }
}

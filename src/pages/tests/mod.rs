//! The pages as a browser, a screen reader, a stranger and an operator with templates of their own meet them.

use std::collections::HashSet;
use std::path::PathBuf;

use super::*;
use crate::config::Spanned;

mod custom;

const NOW: UnixSeconds = 1_795_310_280;
const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0";

fn compile(raw: &RawPages) -> (Pages, Problems) {
    let mut problems = Problems::new(&PathBuf::from("gateway.toml"), "[pages]\n");
    let pages = Pages::compile(raw, "/auth", "app.example.com", true, &mut problems);
    (pages, problems)
}

fn pages() -> Pages {
    let (pages, problems) = compile(&RawPages::default());
    assert!(problems.errors().is_empty() && problems.warnings().is_empty());
    pages
}

fn at<T>(value: T) -> Option<Spanned<T>> {
    Some(Spanned { value, span: 0..7 })
}

fn ann() -> Person {
    Person {
        email: "ann@example.com".to_owned(),
        name: Some("Ann".to_owned()),
    }
}

fn session(id: &str, is_current: bool, is_client: bool) -> SessionItem {
    SessionItem {
        id: id.to_owned(),
        is_current,
        is_client,
        user_agent: FIREFOX.to_owned(),
        address: "192.0.2.1".to_owned(),
        created_at: NOW - 2 * 86_400,
        seen_at: NOW - 7_300,
        expires_at: NOW + 86_400,
    }
}

fn link(text: &str) -> LinkItem {
    LinkItem {
        id: text.to_owned(),
        label: text.to_owned(),
        email: Some(text.to_owned()),
        seen_at: NOW - 7_300,
    }
}

fn text(response: &Response<Bytes>) -> String {
    String::from_utf8(response.body().to_vec()).unwrap()
}

/// A refusal with the same text everywhere.
fn error_page<'a>(status: StatusCode, text: &'a str, visitor: Option<Visitor<'a>>) -> ErrorPage<'a> {
    ErrorPage {
        status,
        title: text,
        detail: text,
        request_id: text,
        visitor,
    }
}

/// Every page with `value` in all the places that a client, an operator or a user can fill.
fn all(pages: &Pages, value: &str, message: Option<&str>) -> Vec<Response<Bytes>> {
    let person = Person {
        email: value.to_owned(),
        name: Some(value.to_owned()),
    };
    let item = SessionItem {
        id: value.to_owned(),
        user_agent: value.to_owned(),
        address: value.to_owned(),
        ..session("", false, true)
    };
    let ok = StatusCode::OK;
    let error = message.map(|message| FormError {
        message,
        field: Some("email"),
    });
    vec![
        pages.sign_in(
            ok,
            SignInForm {
                email: value,
                return_to: Some(value),
                attempt: Some(value),
                notice: message,
                person: Some(&person),
                providers: &[ProviderLink {
                    label: value.to_owned(),
                    url: "/auth/login/example".to_owned(),
                }],
                providers_only: false,
            },
            error,
        ),
        pages.sign_in(ok, SignInForm::default(), error),
        pages.register(
            ok,
            RegisterForm {
                email: value,
                name: value,
                setup: Some(value),
            },
            error,
        ),
        pages.register(ok, RegisterForm::default(), error),
        pages.links(
            &person,
            (&[link(value)], true),
            &[ProviderLink {
                label: value.to_owned(),
                url: "/auth/links/example".to_owned(),
            }],
            NOW,
            message,
        ),
        pages.setup_over(ok),
        pages.password(ok, &person, error),
        pages.sign_out(Some(&person)),
        pages.sign_out(None),
        pages.sessions(&person, &[item, session("b", true, false)], NOW, message),
        pages.sessions(&Person::default(), &[], NOW, None),
        pages.elsewhere(ok, value, &format!("https://app.example.com/{value}")),
        Response::new(pages.error(&error_page(StatusCode::BAD_GATEWAY, value, None))),
        Response::new(pages.error(&error_page(
            StatusCode::FORBIDDEN,
            value,
            Some(Visitor::NoAccess {
                account: value,
                sign_in: Some("/auth/login"),
            }),
        ))),
        Response::new(pages.error(&error_page(
            StatusCode::UNAUTHORIZED,
            value,
            Some(Visitor::SessionEnded {
                sign_in: "/auth/login",
            }),
        ))),
    ]
}

/// Everything from `<` to `>`, quotes taken into account, outside of the style sheet and the script.
fn tags(html: &str) -> Vec<String> {
    let (head, rest) = html.split_once("<style>").unwrap();
    let html = [head, rest.split_once("</style>").unwrap().1].concat();
    let html = html.replace(SCRIPT, "");
    let (mut tags, mut quoted) = (Vec::<String>::new(), false);
    let mut open: Option<String> = None;
    for letter in html.chars() {
        match (&mut open, letter) {
            (None, '<') => open = Some(String::new()),
            (None, _) => {}
            (Some(_), '>') if !quoted => tags.extend(open.take()),
            (Some(tag), _) => {
                quoted ^= letter == '"';
                tag.push(letter);
            }
        }
    }
    tags
}

fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    Some(tag.split_once(&format!(" {name}=\""))?.1.split_once('"')?.0)
}

#[test]
fn every_page_is_kept_by_nobody_and_may_load_nothing() {
    for (number, response) in all(&pages(), "ann", None).iter().take(12).enumerate() {
        let header = |name: &str| response.headers()[name].to_str().unwrap();
        assert_eq!(header("content-type"), "text/html; charset=utf-8");
        assert_eq!(header("cache-control"), "no-store");
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("cross-origin-opener-policy"), "same-origin");
        assert_eq!(header("x-frame-options"), "DENY");
        assert_eq!(header("referrer-policy"), "strict-origin");
        let policy = header("content-security-policy");
        assert!(
            policy.starts_with("default-src 'none'; style-src 'sha256-"),
            "{policy}"
        );
        // The first five lead on to an app or a provider, which may redirect to any origin.
        let forms = if number < 5 { "" } else { " form-action 'self';" };
        let end = format!("'; img-src 'self';{forms} base-uri 'none'; frame-ancestors 'none'");
        assert!(
            policy.ends_with(&end) && policy.contains("; script-src 'sha256-"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
    }
}

#[test]
fn on_several_hosts_the_other_forms_may_lead_to_the_sign_in_page_as_well() {
    for (url, sources) in [
        (
            "https://login.example.com:8443",
            "'self' https://login.example.com:8443",
        ),
        ("http://[::1]:8080", "'self'"),
        ("https://a.example;script-src *", "'self'"),
    ] {
        let pages = pages().with_forms_to(url);
        let policy = |response: Response<Bytes>| {
            response.headers()["content-security-policy"]
                .to_str()
                .unwrap()
                .to_owned()
        };
        let sessions = policy(pages.sessions(&Person::default(), &[], NOW, None));
        assert!(
            sessions.contains(&format!("; form-action {sources}; ")),
            "{sessions}"
        );
        assert!(!policy(pages.sign_in(StatusCode::OK, SignInForm::default(), None)).contains("form-action"));
    }
}

#[test]
fn the_policy_names_the_style_sheet_and_the_script_that_are_in_the_page() {
    let pages = pages();
    for response in all(&pages, "ann", Some("Wrong.")) {
        let html = text(&response);
        let style = html
            .split_once("<style>")
            .unwrap()
            .1
            .split_once("</style>")
            .unwrap()
            .0;
        let hash = BASE64.encode(digest::digest(&digest::SHA256, style.as_bytes()));
        assert!(
            pages
                .policy()
                .to_str()
                .unwrap()
                .contains(&format!("style-src 'sha256-{hash}';"))
        );
        assert_eq!(html.matches("<style").count(), 1);
        let script = html
            .split_once("<script>")
            .unwrap()
            .1
            .split_once("</script>")
            .unwrap()
            .0;
        let hash = BASE64.encode(digest::digest(&digest::SHA256, script.as_bytes()));
        assert!(
            pages
                .policy()
                .to_str()
                .unwrap()
                .contains(&format!("script-src 'sha256-{hash}';"))
        );
        assert_eq!(html.matches("<script").count(), 1);
    }
}

#[test]
fn every_page_can_be_read_by_a_screen_reader_and_on_a_phone_and_runs_nothing_but_the_one_script() {
    for response in all(&pages(), "ann", Some("Wrong.")) {
        let html = text(&response);
        let tags = tags(&html);
        let count = |name: &str| {
            tags.iter()
                .filter(|tag| tag.split(' ').next() == Some(name))
                .count()
        };
        assert!(
            html.starts_with("<!doctype html>\n<html lang=\"en\">") && html.trim_end().ends_with("</html>")
        );
        assert_eq!(
            (
                count("h1"),
                count("main"),
                count("title"),
                count("script"),
                count("link")
            ),
            (1, 1, 1, 1, 1)
        );
        assert!(html.contains("content=\"width=device-width, initial-scale=1\""));
        let ids: Vec<&str> = tags.iter().filter_map(|tag| attribute(tag, "id")).collect();
        assert_eq!(ids.len(), ids.iter().collect::<HashSet<_>>().len(), "{ids:?}");
        for tag in &tags {
            assert!(attribute(tag, "style").is_none() && !tag.contains(" on"), "{tag}");
            for of in ["aria-describedby", "for"]
                .into_iter()
                .filter_map(|name| attribute(tag, name))
            {
                assert!(of.split(' ').all(|of| ids.contains(&of)), "{tag}");
            }
            let is_typed_in =
                tag.starts_with("input ") && !tag.contains("type=\"hidden\"") && !tag.ends_with(" hidden");
            if is_typed_in {
                let label = format!("<label for=\"{}\">", attribute(tag, "id").unwrap());
                assert!(
                    html.contains(&label) && attribute(tag, "autocomplete").is_some(),
                    "{tag}"
                );
            }
            for address in ["href", "src", "action"]
                .into_iter()
                .filter_map(|name| attribute(tag, name))
            {
                let is_ours = address.starts_with('/') && !address.starts_with("//");
                let is_home = address.starts_with("https://app.example.com/");
                assert!(address.is_empty() || is_ours || is_home, "{tag}");
            }
        }
    }
}

#[test]
fn the_forms_post_what_our_endpoints_take() {
    let pages = pages();
    let ok = StatusCode::OK;
    let fields = |response: Response<Bytes>| -> Vec<String> {
        let tags = tags(&text(&response));
        let form = tags.iter().find(|tag| tag.starts_with("form ")).unwrap();
        assert_eq!(attribute(form, "method"), Some("post"));
        let inputs = tags.iter().filter(|tag| tag.starts_with("input "));
        let sent = inputs.filter_map(|tag| {
            let secret = attribute(tag, "autocomplete").unwrap_or_default();
            Some(
                format!("{} {secret}", attribute(tag, "name")?)
                    .trim_end()
                    .to_owned(),
            )
        });
        std::iter::once(attribute(form, "action").unwrap().to_owned())
            .chain(sent)
            .collect()
    };
    assert_eq!(
        fields(pages.sign_in(
            ok,
            SignInForm {
                return_to: Some("/x"),
                ..SignInForm::default()
            },
            None
        )),
        [
            "/auth/login",
            "return_to",
            "email username",
            "password current-password"
        ]
    );
    assert_eq!(
        fields(pages.sign_in(ok, SignInForm::default(), None)),
        ["/auth/login", "email username", "password current-password"]
    );
    assert_eq!(
        fields(pages.register(
            ok,
            RegisterForm {
                setup: Some("token"),
                ..RegisterForm::default()
            },
            None
        )),
        [
            "/auth/register?setup=token",
            "setup",
            "name name",
            "email username",
            "password new-password"
        ]
    );
    assert_eq!(
        fields(pages.register(ok, RegisterForm::default(), None)),
        [
            "/auth/register",
            "name name",
            "email username",
            "password new-password"
        ]
    );
    assert_eq!(
        fields(pages.password(ok, &ann(), None)),
        [
            "/auth/password",
            "current_password current-password",
            "new_password new-password"
        ]
    );
}

#[test]
fn what_was_typed_before_is_there_again_and_the_error_is_announced_and_linked() {
    let pages = pages();
    let form = SignInForm {
        email: "ann@example.com",
        return_to: Some("/a?b=c"),
        ..SignInForm::default()
    };
    let error = FormError {
        message: "Wrong & sad.",
        field: Some("password"),
    };
    let html = text(&pages.sign_in(StatusCode::UNAUTHORIZED, form, Some(error)));
    assert!(html.contains("role=\"alert\"") && html.contains("<p>Wrong &amp; sad.</p>"));
    assert!(html.contains("<title>Error: Sign in · app.example.com</title>"));
    let tags = tags(&html);
    let input = |name: &str| {
        tags.iter()
            .find(|tag| attribute(tag, "name") == Some(name))
            .unwrap()
    };
    assert_eq!(attribute(input("email"), "value"), Some("ann@example.com"));
    assert_eq!(attribute(input("return_to"), "value"), Some("/a?b=c"));
    assert!(input("password").contains(" autofocus") && !input("email").contains(" autofocus"));
    assert_eq!(attribute(input("password"), "aria-describedby"), Some("error"));
    assert_eq!(attribute(input("password"), "value"), None);
    let quiet = text(&pages.sign_in(StatusCode::OK, SignInForm::default(), None));
    assert!(
        !quiet.contains("role=\"alert\"") && !quiet.contains("Error") && !quiet.contains("aria-describedby")
    );
}

#[test]
fn the_field_that_is_wrong_is_marked_described_and_has_the_focus_and_no_other() {
    let pages = pages();
    let ok = StatusCode::OK;
    let error = |field| {
        Some(FormError {
            message: "Wrong.",
            field,
        })
    };
    let sign_in = |email, field| {
        text(&pages.sign_in(
            ok,
            SignInForm {
                email,
                ..SignInForm::default()
            },
            Some(FormError {
                message: "Wrong.",
                field,
            }),
        ))
    };
    let register = |field| text(&pages.register(ok, RegisterForm::default(), error(field)));
    let password = |field| text(&pages.password(ok, &ann(), error(field)));
    // The page, the field that is marked, the one that has the focus.
    for (html, marked, focused) in [
        (sign_in("", None), None, "email"),
        (sign_in("a@b", None), None, "password"),
        (sign_in("a@b", Some("email")), Some("email"), "email"),
        (sign_in("a@b", Some("password")), Some("password"), "password"),
        (sign_in("", Some("password")), Some("password"), "password"),
        (
            text(&pages.register(ok, RegisterForm::default(), None)),
            None,
            "email",
        ),
        (register(None), None, "email"),
        (register(Some("email")), Some("email"), "email"),
        (register(Some("name")), Some("name"), "name"),
        (register(Some("password")), Some("password"), "password"),
        (text(&pages.password(ok, &ann(), None)), None, "current_password"),
        (
            password(Some("current_password")),
            Some("current_password"),
            "current_password",
        ),
        (
            password(Some("new_password")),
            Some("new_password"),
            "new_password",
        ),
    ] {
        let tags = tags(&html);
        let names = |with: &str| -> Vec<&str> {
            tags.iter()
                .filter(|tag| tag.contains(with))
                .map(|tag| attribute(tag, "name").unwrap())
                .collect()
        };
        assert_eq!(
            names(" aria-invalid=\"true\""),
            marked.into_iter().collect::<Vec<_>>(),
            "{html}"
        );
        assert_eq!(
            names(" aria-describedby=\"error"),
            marked.into_iter().collect::<Vec<_>>(),
            "{html}"
        );
        assert_eq!(names(" autofocus"), [focused], "{html}");
    }
}

#[test]
fn the_sign_in_page_says_what_was_done_who_is_signed_in_and_where_there_is_help() {
    let raw = RawPages {
        help: at("Forgot it? Call <5555>.".to_owned()),
        ..RawPages::default()
    };
    let (pages, _) = compile(&raw);
    let ann = ann();
    let form = SignInForm {
        notice: Some("You are signed out."),
        person: Some(&ann),
        return_to: Some("/a?b=c"),
        ..SignInForm::default()
    };
    let html = text(&pages.sign_in(StatusCode::OK, form, None));
    assert!(html.contains("role=\"status\"") && html.contains("<p>You are signed out.</p>"));
    assert!(
        html.contains("You are signed in as <bdi>ann@example.com</bdi>.")
            && html.contains("<a href=\"/a?b=c\">Continue")
    );
    assert!(html.contains("<p>Forgot it? Call &lt;5555&gt;.</p>"));
    // Nothing but a path of this site is led to.
    for elsewhere in ["//evil.example", "https://evil.example/", "javascript:alert(1)"] {
        let form = SignInForm {
            return_to: Some(elsewhere),
            person: Some(&ann),
            ..SignInForm::default()
        };
        assert!(
            text(&pages.sign_in(StatusCode::OK, form, None)).contains("<a href=\"/\">Continue"),
            "{elsewhere}"
        );
    }
    let quiet = text(&self::pages().sign_in(StatusCode::OK, SignInForm::default(), None));
    assert!(
        !quiet.contains("signed in as") && !quiet.contains("role=\"status\"") && !quiet.contains("Forgot")
    );
}

#[test]
fn signing_out_is_asked_about_with_the_account_and_a_button() {
    let html = text(&pages().sign_out(Some(&ann())));
    assert!(
        html.contains("<h1>Sign out?</h1>")
            && html.contains("You are signed in as")
            && html.contains("ann@example.com")
    );
    assert!(html.contains("<form method=\"post\" action=\"/auth/logout\">"));
    let html = text(&pages().sign_out(None));
    assert!(
        html.contains("<h1>You are signed out</h1>")
            && html.contains("href=\"/auth/login\"")
            && !html.contains("<form")
    );
}

#[test]
fn who_has_no_access_sees_the_account_and_a_way_on_and_no_role() {
    let page = |sign_in| {
        let visitor = Some(Visitor::NoAccess {
            account: "<bob>@example.com",
            sign_in,
        });
        let page = ErrorPage {
            title: "Forbidden",
            request_id: "0197",
            ..error_page(StatusCode::FORBIDDEN, "A sentence.", visitor)
        };
        String::from_utf8(pages().error(&page).to_vec()).unwrap()
    };
    let html = page(Some("/auth/login?return_to=/x%3Fy"));
    assert!(
        html.contains("<bdi>&lt;bob&gt;@example.com</bdi></strong>. This account does not have access."),
        "{html}"
    );
    assert!(html.contains("href=\"/auth/login?return_to=/x%3Fy\">Use another account</a>"));
    assert!(
        html.contains("data-back>Back</a>")
            && html.contains("Error 403")
            && html.contains("<code>0197</code>")
    );
    assert!(!html.contains("admin"));
    assert!(
        !page(None).contains("Use another account"),
        "without sign-in there is none"
    );
}

#[test]
fn a_form_that_came_too_late_leads_back_by_way_of_the_sign_in_page() {
    let visitor = Some(Visitor::SessionEnded {
        sign_in: "/auth/login?return_to=/notes/7",
    });
    let page = ErrorPage {
        request_id: "0197",
        ..error_page(StatusCode::UNAUTHORIZED, "x", visitor)
    };
    let html = String::from_utf8(pages().error(&page).to_vec()).unwrap();
    assert!(html.contains("<h1>Your session has ended</h1>") && html.contains("copy your text"));
    assert!(
        html.contains("href=\"/auth/login?return_to=/notes/7\">Sign in</a>") && html.contains("Error 401")
    );
}

#[test]
fn the_status_is_the_one_given_and_the_first_account_is_told_from_the_others() {
    let pages = pages().with_min_length(14);
    let first = pages.register(
        StatusCode::CONFLICT,
        RegisterForm {
            setup: Some("s3cret"),
            ..RegisterForm::default()
        },
        Some(FormError {
            message: "Taken.",
            field: None,
        }),
    );
    assert_eq!(first.status(), StatusCode::CONFLICT);
    let first = text(&first);
    assert!(first.contains("<h1>Create the first administrator</h1>") && first.contains("value=\"s3cret\""));
    assert!(first.contains("minlength=\"14\"") && first.contains("At least 14 characters."));
    assert!(
        text(&pages.register(StatusCode::OK, RegisterForm::default(), None))
            .contains("<h1>Create an account</h1>")
    );
    assert!(
        text(&pages.register(
            StatusCode::OK,
            RegisterForm {
                setup: Some(""),
                ..RegisterForm::default()
            },
            None,
        ))
        .contains("<h1>Create an account</h1>")
    );
}

#[test]
fn the_link_to_register_is_there_only_where_one_can() {
    let mut problems = Problems::new(&PathBuf::from("gateway.toml"), "");
    for (registration, links) in [(true, 1), (false, 0)] {
        let pages = Pages::compile(
            &RawPages::default(),
            "/own path",
            "a",
            registration,
            &mut problems,
        );
        let html = text(&pages.sign_in(StatusCode::OK, SignInForm::default(), None));
        assert_eq!(html.matches("href=\"/own%20path/register\"").count(), links);
        assert!(html.contains("action=\"/own%20path/login\""));
    }
}

#[test]
fn the_sessions_are_listed_with_device_and_times_and_a_way_to_end_each() {
    let sessions = [session("0197-a", true, false), session("0197-b", false, true)];
    let html = text(&pages().sessions(&ann(), &sessions, NOW, Some("Password changed.")));
    assert!(html.contains("<bdi>Ann</bdi>") && html.contains("<bdi>ann@example.com</bdi>"));
    assert!(html.contains("role=\"status\"") && html.contains("<p>Password changed.</p>"));
    assert_eq!(html.matches("<h2>Firefox on Linux").count(), 2);
    assert_eq!(html.matches("This device</span>").count(), 1);
    assert_eq!(html.matches("API</span>").count(), 1);
    let seen =
        "<time datetime=\"2026-11-21T23:16:20Z\" title=\"21 November 2026, 23:16 UTC\">2 hours ago</time>";
    assert_eq!(html.matches(seen).count(), 2, "{html}");
    assert_eq!(html.matches(">2 days ago</time>").count(), 2);
    let tags = tags(&html);
    let actions: Vec<&str> = tags.iter().filter_map(|tag| attribute(tag, "action")).collect();
    assert_eq!(
        actions,
        [
            "/auth/logout",
            "/auth/sessions/0197-b/end",
            "/auth/logout?all=true"
        ]
    );
    assert!(html.contains("href=\"/auth/password\"") && html.contains("href=\"/\""));
}

#[test]
fn an_error_has_its_status_and_request_id_and_offers_another_try_where_that_may_help() {
    let pages = pages();
    let error = |status| {
        let page = ErrorPage {
            status,
            title: "A title",
            detail: "A sentence.",
            request_id: "0197-id",
            visitor: None,
        };
        String::from_utf8(pages.error(&page).to_vec()).unwrap()
    };
    let html = error(StatusCode::BAD_GATEWAY);
    assert!(html.contains("<h1>A title</h1>") && html.contains("A sentence.</p>"));
    assert!(
        html.contains("Error 502") && html.contains("<code>0197-id</code>") && html.contains("href=\"/\"")
    );
    assert!(html.contains("Try again"));
    assert!(!error(StatusCode::FORBIDDEN).contains("Try again"));
}

#[test]
fn nothing_that_somebody_sends_becomes_markup() {
    let pages = pages();
    let harmless: Vec<usize> = all(&pages, "x", Some("x"))
        .iter()
        .map(|page| tags(&text(page)).len())
        .collect();
    for hostile in [
        "\"><script>alert(1)</script>",
        "'><img src=x onerror=alert(1)>",
        "{{7*7}}",
        "{% raw %}",
        "</style></main>",
    ] {
        let found = all(&pages, hostile, Some(hostile));
        for (page, tags_before) in found.iter().zip(&harmless) {
            let html = text(page);
            assert_eq!(tags(&html).len(), *tags_before, "{hostile}\n{html}");
            assert_eq!(html.matches("<script").count(), 1, "ours: {html}");
            assert!(!html.contains("<img") && !html.contains(">49<"), "{html}");
        }
    }
    let address = text(&pages.sign_in(
        StatusCode::OK,
        SignInForm {
            return_to: Some("\"><script>"),
            ..SignInForm::default()
        },
        None,
    ));
    assert!(address.contains("value=\"&quot;&gt;&lt;script&gt;\""));
    let item = SessionItem {
        id: "../\"?#".to_owned(),
        ..session("", false, false)
    };
    assert!(
        text(&pages.sessions(&ann(), &[item], NOW, None))
            .contains("action=\"/auth/sessions/../%22%3F%23/end\"")
    );
}

#[test]
fn text_that_turns_the_direction_does_so_within_its_own_element_only() {
    let turned = Person {
        email: "\u{202e}moc.elpmaxe@nna".to_owned(),
        name: Some("\u{202e}nnA".to_owned()),
    };
    let html = text(&pages().sessions(&turned, &[session("a", true, false)], NOW, None));
    assert!(html.contains("<bdi>\u{202e}nnA</bdi>") && html.contains("<bdi>\u{202e}moc.elpmaxe@nna</bdi>"));
    assert_eq!(html.matches('\u{202e}').count(), 2);
}

#[test]
fn no_value_and_no_number_of_sessions_makes_a_page_long() {
    let pages = pages();
    let base: Vec<usize> = all(&pages, "", None)
        .iter()
        .map(|page| page.body().len())
        .collect();
    // Each byte of it is escaped to six.
    for (page, base) in all(&pages, &"\"".repeat(10_000), None).iter().zip(base) {
        assert!(
            page.body().len() < base + 32 * 1_024,
            "{} instead of {base}",
            page.body().len()
        );
    }
    let kept = text(&pages.sign_in(
        StatusCode::OK,
        SignInForm {
            return_to: Some(&"/".repeat(2_560)),
            ..SignInForm::default()
        },
        None,
    ));
    assert!(kept.contains("name=\"return_to\""));
    let dropped = text(&pages.sign_in(
        StatusCode::OK,
        SignInForm {
            return_to: Some(&"/".repeat(2_561)),
            ..SignInForm::default()
        },
        None,
    ));
    assert!(
        !dropped.contains("name=\"return_to\""),
        "half an address is another one"
    );
    let odd = "é".repeat(1_000);
    assert!(
        text(&pages.sign_in(
            StatusCode::OK,
            SignInForm {
                email: &odd,
                ..SignInForm::default()
            },
            None
        ))
        .contains(&odd[..1_024])
    );

    let many = vec![session("a", false, false); 5_000];
    let html = text(&pages.sessions(&ann(), &many, NOW, None));
    assert_eq!(html.matches("Firefox on Linux</h2>").count(), MOST_SESSIONS);
    assert!(html.contains("And 4900 more."));
    let hostile = "\"".repeat(10_000);
    let worst = SessionItem {
        id: hostile.clone(),
        address: hostile.clone(),
        ..session("", false, true)
    };
    let person = Person {
        email: hostile.clone(),
        name: Some(hostile),
    };
    let html = text(&pages.sessions(&person, &vec![worst; 5_000], NOW, None));
    assert!(
        html.contains("And 4900 more.") && html.len() < 256 * 1_024,
        "{}",
        html.len()
    );
}

#[test]
fn the_name_and_the_logo_of_the_operator_are_shown() {
    let directory = tempfile::tempdir().unwrap();
    let logo = directory.path().join("logo.svg");
    std::fs::write(&logo, "<svg xmlns=\"http://www.w3.org/2000/svg\"/>").unwrap();
    let raw = RawPages {
        name: at(" Ann & Co ".to_owned()),
        logo: at(logo),
        ..RawPages::default()
    };
    let (pages, problems) = compile(&raw);
    assert!(problems.errors().is_empty(), "{:?}", problems.errors());
    let html = text(&pages.sign_in(StatusCode::OK, SignInForm::default(), None));
    assert!(html.contains("<title>Sign in · Ann &amp; Co</title>"));
    assert!(html.contains("<img src=\"/auth/logo\" alt=\"Ann &amp; Co\">"));
    assert!(
        pages
            .policy()
            .to_str()
            .unwrap()
            .contains("; img-src 'self'; form-action")
    );
    assert_eq!(pages.logo().unwrap().headers()["content-type"], "image/svg+xml");
    assert!(super::tests::pages().logo().is_none());
}

/// The rows of the table of variables in `docs/pages.md`: name, and the templates where it has a value.
fn documented() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/pages.md")).unwrap();
    let text = text.split_once("\n## Variables\n").unwrap().1;
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| {
        let mut cells = row.split(" | ");
        Some((
            cells.next()?.trim_end_matches('`').to_owned(),
            cells.next()?.to_owned(),
        ))
    })
    .collect()
}

#[test]
fn the_documentation_has_each_variable_and_no_other() {
    let known = templates::variables(&pages().samples());
    let named: std::collections::BTreeSet<String> = documented().into_iter().map(|(name, _)| name).collect();
    let missing: Vec<_> = known.difference(&named).collect();
    let wrong: Vec<_> = named.difference(&known).collect();
    assert!(
        missing.is_empty() && wrong.is_empty(),
        "docs/pages.md lacks {missing:?}, and has {wrong:?}"
    );
}

#[test]
fn the_documentation_names_each_template_that_a_variable_stands_in() {
    let pages = pages();
    let rows = documented();
    for file in Page::ALL.map(Page::file).into_iter().chain([page::LAYOUT]) {
        for used in pages.templates.undeclared(file) {
            let has_row = rows.iter().any(|(name, where_)| {
                let is_it = *name == used
                    || name.starts_with(&format!("{used}."))
                    || name.starts_with(&format!("{used}["));
                is_it && (where_ == "all" || where_.contains(&format!("`{file}`")))
            });
            assert!(
                has_row || used == "loop",
                "docs/pages.md has no row for `{used}` in `{file}`"
            );
        }
    }
}

#[test]
fn the_documented_template_works() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/pages.md")).unwrap();
    let block = text
        .split_once("```html error.html\n")
        .unwrap()
        .1
        .split_once("\n```")
        .unwrap()
        .0;
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("error.html"), block).unwrap();
    let raw = RawPages {
        templates: at(directory.path().to_owned()),
        ..RawPages::default()
    };
    let (pages, problems) = compile(&raw);
    assert!(
        problems.errors().is_empty() && problems.warnings().is_empty(),
        "{problems:?}"
    );
    assert!(
        String::from_utf8_lossy(&pages.error(&error_page(StatusCode::NOT_FOUND, "r-1", None)))
            .contains("r-1")
    );
}

//! Making an account for oneself.

use serde_json::json;

use super::*;

const NEW: &str = "a quiet field of rye";

fn register(email: &str, password: &str) -> Ask {
    Ask::post("/auth/register").json(&json!({"email": email, "password": password, "name": "Bob"}))
}

#[tokio::test]
async fn a_program_gets_an_account_that_is_not_signed_in() {
    let house = House::new();
    let body =
        json!({"email": "Bob@example.com", "password": NEW, "name": "Bob", "roles": ["admin"], "id": "1"});
    let seen = house.ask(Ask::post("/auth/register").json(&body)).await;
    assert_eq!(seen.status, StatusCode::CREATED);
    let bob = house.state.account_by_email("bob@example.com").unwrap().unwrap();
    assert_eq!(seen.json(), json!({"id": bob.id, "email": "Bob@example.com"}));
    assert_eq!(
        (bob.name.as_deref(), bob.roles),
        (Some("Bob"), vec!["user".to_owned()]),
        "nobody chooses their roles"
    );
    assert!(seen.cookie().is_none() && seen.caller.is_none() && house.ids().is_empty());
    let login = Ask::post("/auth/login").json(&json!({"email": "bob@example.com", "password": NEW}));
    assert_eq!(house.ask(login).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_browser_is_signed_in_at_once_and_loses_the_session_it_had() {
    let house = House::new();
    let before = house.browser(&house.ann);
    let fields = [("email", "bob@example.com"), ("password", NEW), ("name", "")];
    let seen = house
        .ask(Ask::post("/auth/register").form(&fields).cookie(&before))
        .await;
    assert_eq!(seen.location(), "/");
    assert!(seen.cookie().unwrap().starts_with("__Host-session=ey"));
    let bob = house.state.account_by_email("bob@example.com").unwrap().unwrap();
    assert_eq!(
        (&seen.caller.as_ref().unwrap().identity.subject, bob.name),
        (&bob.id, None)
    );
    assert!(house.is_revoked(&before));
}

#[tokio::test]
async fn an_address_that_is_taken_is_refused_and_the_form_keeps_all_but_the_password() {
    let house = House::new();
    assert_eq!(
        house.ask(register("ANN@example.com", NEW)).await.refusal,
        Some(Refusal::EmailTaken)
    );
    let fields = [
        ("email", "ann@Example.com"),
        ("password", NEW),
        ("name", "Ann <B>"),
    ];
    let seen = house.ask(Ask::post("/auth/register").form(&fields)).await;
    assert_eq!(seen.status, StatusCode::CONFLICT);
    assert!(
        seen.text
            .contains("An account with this email address already exists.")
    );
    assert!(
        seen.text.contains("ann@Example.com") && seen.text.contains("Ann &lt;B&gt;"),
        "{}",
        seen.text
    );
    assert!(!seen.text.contains(NEW) && seen.cookie().is_none());
    assert_eq!(house.state.accounts().unwrap().len(), 1);
}

#[tokio::test]
async fn what_cannot_be_an_account_is_refused_before_it_is_counted_or_hashed() {
    let house = House::new();
    let long = "x".repeat(4097);
    for _ in 0..5 {
        for (email, password, refusal) in [
            ("bob", NEW, Refusal::EmailInvalid),
            ("bob@example.com", "short", Refusal::PasswordTooShort),
            ("bob@example.com", "1234567890", Refusal::PasswordCommon),
            ("bob@example.com", "BOB@example.com", Refusal::PasswordCommon),
            ("bob@example.com", &long, Refusal::PasswordTooLong),
            ("", NEW, Refusal::FormMalformed),
            ("bob@example.com", "", Refusal::FormMalformed),
        ] {
            assert_eq!(
                house.ask(register(email, password)).await.refusal,
                Some(refusal),
                "{email} {password}"
            );
        }
    }
    let fields = [("email", "bob@example.com"), ("password", "short")];
    let seen = house.ask(Ask::post("/auth/register").form(&fields)).await;
    assert!(
        seen.text.contains("It needs at least 10 characters."),
        "{}",
        seen.text
    );
    let name = json!({"email": "bob@example.com", "password": NEW, "name": "a\u{7}b"});
    let seen = house.ask(Ask::post("/auth/register").json(&name)).await;
    assert_eq!(seen.refusal, Some(Refusal::NameInvalid));
    for _ in 0..20 {
        house.login.throttle.register(HERE.into()).unwrap();
    }
    let seen = house.ask(register("bob@example.com", NEW)).await;
    assert_eq!(
        (seen.refusal, seen.retry_after),
        (Some(Refusal::Throttled), Some(10))
    );
    assert_eq!(house.state.accounts().unwrap().len(), 1);
}

#[tokio::test]
async fn without_registration_there_is_nothing_here() {
    let house = House::new().with(|login| login.registration = false);
    for ask in [
        Ask::get("/auth/register").browser(),
        Ask::get("/auth/register?setup=").browser(),
        Ask::get("/auth/register?setup=x").browser(),
        register("bob@example.com", NEW),
        Ask::post("/auth/register").form(&[("email", "bob@example.com"), ("password", NEW)]),
        Ask::post("/auth/register").form(&[("email", "bob@example.com"), ("password", NEW), ("setup", "x")]),
    ] {
        // Whoever followed a link of the setup is told that it is over.
        let is_link = ask.path.ends_with("setup=x") || ask.body.contains("setup=");
        let seen = house.ask(ask).await;
        assert_eq!(seen.refusal, Some(Refusal::RouteMissing));
        assert_eq!(
            seen.text.contains("This link is not valid any more"),
            is_link,
            "{}",
            seen.text
        );
        assert_eq!(seen.text.is_empty(), !is_link);
    }
    assert_eq!(house.state.accounts().unwrap().len(), 1);
}

#[tokio::test]
async fn the_link_of_the_first_run_makes_one_administrator() {
    let (setup, token) = SetupToken::offer().unwrap();
    let house = House::empty(setup).with(|login| login.registration = false);
    let link = format!("/auth/register?setup={}", *token);
    for _ in 0..2 {
        let seen = house.ask(Ask::get(&link).browser()).await;
        assert!(
            seen.status == StatusCode::OK && seen.text.contains(&*token),
            "to look at it does not use it up"
        );
    }
    let ask = |email: &str, password: &str| {
        Ask::post("/auth/register").form(&[("email", email), ("password", password), ("setup", &token)])
    };
    let seen = house.ask(ask("root@example.com", "short")).await;
    assert_eq!(seen.refusal, Some(Refusal::PasswordTooShort));
    assert!(
        seen.text.contains(&*token),
        "the form that is shown again still works"
    );
    let seen = house.ask(ask("root@example.com", NEW)).await;
    assert_eq!(seen.location(), "/");
    assert_eq!(seen.caller.unwrap().identity.roles, ["admin"]);
    for ask in [ask("evil@example.com", NEW), Ask::get(&link).browser()] {
        let seen = house.ask(ask).await;
        assert_eq!(
            (seen.refusal, seen.status),
            (Some(Refusal::RouteMissing), StatusCode::NOT_FOUND)
        );
        assert!(seen.text.contains("It was used") && seen.text.contains("href=\"/auth/login\">Sign in</a>"));
    }
    assert!(!house.login.setup.is_good(&token));
    let accounts = house.state.accounts().unwrap();
    assert_eq!((accounts.len(), accounts[0].confirmed), (1, true));
}

#[tokio::test]
async fn accounts_without_the_role_of_administrators_leave_the_link_as_it_is() {
    // What is there before the link is used: who, with which roles, disabled or not; whether the link still works.
    for (roles, disabled, works) in [
        (&["user"][..], false, true),
        (&[][..], false, true),
        (&["admin"][..], false, true),
        (&["boss"][..], true, true),
        (&["user", "boss"][..], false, false),
    ] {
        let (setup, token) = SetupToken::offer().unwrap();
        let house = House::empty(setup).with(|login| login.admin_role = "boss".to_owned());
        let row = house.add("ann@example.com", Some(&HASH));
        let roles = roles.iter().map(|&role| role.to_owned()).collect();
        house.change(
            &row,
            AccountChange {
                roles: Some(roles),
                disabled: Some(disabled),
                ..AccountChange::default()
            },
        );
        let page = house
            .ask(Ask::get(&format!("/auth/register?setup={}", *token)).browser())
            .await;
        assert_eq!(page.status == StatusCode::OK, works);
        let fields = [
            ("email", "root@example.com"),
            ("password", NEW),
            ("setup", &**token),
        ];
        let seen = house.ask(Ask::post("/auth/register").form(&fields)).await;
        assert_eq!(seen.status == StatusCode::SEE_OTHER, works);
        if works {
            assert_eq!(seen.caller.unwrap().identity.roles, ["boss"]);
        }
        assert_eq!(house.state.accounts().unwrap().len(), 1 + usize::from(works));
        assert!(!house.login.setup.is_good(&token));
    }
}

#[tokio::test]
async fn after_an_error_the_address_of_the_setup_page_stays_good_and_the_wrong_field_is_marked() {
    let (setup, token) = SetupToken::offer().unwrap();
    let house = House::empty(setup).with(|login| login.registration = false);
    let link = format!("/auth/register?setup={}", *token);
    for (email, password, marked) in [
        ("root@example.com", "short", "password"),
        ("root@example.com", "aaaaaaaaaaaaaaaa", "password"),
        ("root", NEW, "email"),
        ("", NEW, "email"),
        ("root@example.com", "", "password"),
    ] {
        // As the form of the page sends it: to the address with the token.
        let seen = house
            .ask(Ask::post(&link).form(&[("email", email), ("password", password), ("setup", &**token)]))
            .await;
        assert_eq!(seen.status, StatusCode::BAD_REQUEST, "{email} {password}");
        assert!(seen.text.contains(&format!("action=\"{link}\"")), "{}", seen.text);
        let field = seen
            .text
            .split('<')
            .find(|tag| tag.starts_with("input") && tag.contains("aria-invalid"))
            .unwrap();
        assert!(
            field.contains(&format!("name=\"{marked}\"")) && field.contains("autofocus"),
            "{field}"
        );
        assert_eq!(house.ask(Ask::get(&link).browser()).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn an_address_that_was_only_typed_is_not_confirmed() {
    let house = House::new();
    assert_eq!(
        house.ask(register("bob@example.com", NEW)).await.status,
        StatusCode::CREATED
    );
    assert!(
        !house
            .state
            .account_by_email("bob@example.com")
            .unwrap()
            .unwrap()
            .confirmed
    );
    let seen = house.ask(register("\u{430}nn@example.com", NEW)).await;
    assert_eq!(seen.refusal, Some(Refusal::EmailTaken), "it looks like ann's");
}

#[tokio::test]
async fn of_two_who_use_the_link_at_once_one_becomes_administrator() {
    let (setup, token) = SetupToken::offer().unwrap();
    let house = House::empty(setup);
    let ask = |email: &str| {
        let body = json!({"email": email, "password": NEW, "setup": *token});
        house.ask(Ask::post("/auth/register").json(&body))
    };
    let (one, other) = tokio::join!(ask("one@example.com"), ask("other@example.com"));
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [StatusCode::CREATED, StatusCode::NOT_FOUND]);
    let accounts = house.state.accounts().unwrap();
    assert_eq!(
        (accounts.len(), &accounts[0].roles),
        (1, &vec!["admin".to_owned()])
    );
}

#[tokio::test]
async fn the_link_is_void_where_an_administrator_came_by_other_means() {
    for is_page in [true, false] {
        let (setup, token) = SetupToken::offer().unwrap();
        let house = House::empty(setup);
        let ann = house.add("ann@example.com", None);
        house.change(
            &ann,
            AccountChange {
                roles: Some(vec!["admin".to_owned()]),
                ..AccountChange::default()
            },
        );
        let ask = match is_page {
            true => Ask::get(&format!("/auth/register?setup={}", *token)).browser(),
            false => Ask::post("/auth/register")
                .json(&json!({"email": "evil@example.com", "password": NEW, "setup": *token})),
        };
        assert_eq!(house.ask(ask).await.refusal, Some(Refusal::RouteMissing));
        assert!(!house.login.setup.is_good(&token));
        assert_eq!(house.state.accounts().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_void_link_makes_no_ordinary_account_either() {
    let house = House::new();
    let body = json!({"email": "bob@example.com", "password": NEW, "setup": "void"});
    assert_eq!(
        house.ask(Ask::post("/auth/register").json(&body)).await.refusal,
        Some(Refusal::RouteMissing)
    );
    assert_eq!(
        house.ask(Ask::get("/auth/register?setup=void")).await.refusal,
        Some(Refusal::RouteMissing)
    );
    assert_eq!(
        house.ask(Ask::get("/auth/register").browser()).await.status,
        StatusCode::OK
    );
}

//! The command line of accounts and sessions, through the real binary.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;

use crate::support::gateway::{Output, run};
use crate::support::{App, Gateway, Setup, eventually};
use passgate::internals::revocation::Target;
use passgate::internals::state::{self, Authentication, RefreshRow, SessionRow, State};
use serde_json::{Value, json};

const PASSWORD: &str = "correct horse battery staple";
const OTHER: &str = "four random words instead";
/// Of `password`, from the tests of the reference implementation.
const ARGON2I: &str = "$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$wWKIMhR9lyDFvRz9YTZweHKfbftvj+qf+YFY4NeBbtA";
/// Of `U*U`, from the tests of the first implementation.
const BCRYPT: &str = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
const HOUR: i64 = 3600;

fn setup() -> Setup {
    Setup::new("[password]\n[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"https://app.test\"\n")
}

fn add(setup: &Setup, email: &str) -> Output {
    setup.command_with_input(["user", "add", email], &format!("{PASSWORD}\n"))
}

fn show(setup: &Setup, who: &str) -> Value {
    setup
        .command(["user", "show", who, "--format", "json"])
        .expect(0)
        .json()
}

/// An account without a password, which costs nothing; its id.
fn account(setup: &Setup, email: &str) -> String {
    setup.command(["user", "add", email, "--no-password"]).expect(0);
    show(setup, email)["id"].as_str().unwrap().to_owned()
}

fn open(setup: &Setup) -> Arc<dyn State> {
    state::open("sqlite:passgate.db", &setup.path("")).unwrap()
}

fn now() -> i64 {
    passgate::internals::clock::Clock::system().now()
}

/// A session as a gateway would have opened it.
fn session(account_id: &str, id: &str) -> SessionRow {
    SessionRow {
        id: id.to_owned(),
        account_id: account_id.to_owned(),
        created_at: now(),
        seen_at: now(),
        expires_at: now() + HOUR,
        tokens_until: Some(now() + 900),
        user_agent: "Firefox".to_owned(),
        address: "203.0.113.7".to_owned(),
        refresh: None,
        authentication: Authentication::default(),
    }
}

fn sign_in(setup: &Setup, session: &SessionRow) {
    let state = open(setup);
    let account = state.account(&session.account_id).unwrap().unwrap();
    assert!(state.add_session(session, account.password_version).unwrap());
}

/// Whether `id` is gone and its tokens are refused for as long as they live, which [`session`] says, and little longer.
fn is_ended(setup: &Setup, id: &str) -> bool {
    let state = open(setup);
    let target = Target::Session(id.to_owned());
    let revoked = state
        .revocations(now())
        .unwrap()
        .into_iter()
        .find(|revocation| revocation.target == target);
    let remembered = revoked.is_some_and(|revocation| {
        let lives = revocation.expires_at.unwrap() - revocation.revoked_at;
        revocation.issuer == "session" && (600..=960).contains(&lives)
    });
    state.session(id).unwrap().is_none() && remembered
}

/// Whether these credentials can sign in.
fn is_password(setup: &Setup, email: &str, password: &str) -> bool {
    let policy = passgate::internals::account::Policy {
        min_length: 8,
        default_roles: Vec::new(),
    };
    let accounts = passgate::internals::account::Accounts::new(
        open(setup),
        passgate::internals::clock::Clock::system(),
        policy,
    );
    accounts.attempt(email).unwrap().verify(password).is_some()
}

/// All bytes that the state consists of.
fn state_bytes(setup: &Setup) -> Vec<u8> {
    let mut bytes = Vec::new();
    for name in ["passgate.db", "passgate.db-wal"] {
        bytes.extend(std::fs::read(setup.path(name)).unwrap_or_default());
    }
    assert!(!bytes.is_empty());
    bytes
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

// --- user confirm

#[test]
fn accounts_of_an_operator_are_confirmed_and_registered_ones_by_a_command() {
    let setup = setup();
    account(&setup, "ann@example.com");
    import(
        &setup,
        &[],
        &json!({"email": "imported@example.com", "passwordHash": BCRYPT}).to_string(),
    )
    .expect(0);
    let state = open(&setup);
    for (id, email) in [("r1", "bob@example.com"), ("r2", "carol@example.com")] {
        let registered = passgate::internals::state::AccountRow {
            id: id.to_owned(),
            email: email.to_owned(),
            email_key: email.to_owned(),
            confirmed: false,
            ..state.account_by_email("ann@example.com").unwrap().unwrap()
        };
        state.add_account(&registered, None).unwrap();
    }
    let confirmed = |email: &str| show(&setup, email)["confirmed"].as_bool().unwrap();
    assert!(confirmed("ann@example.com") && confirmed("imported@example.com"));
    assert!(!confirmed("bob@example.com") && !confirmed("carol@example.com"));
    let list = setup.succeed(["user", "list"]);
    let line = |email: &str| {
        list.lines()
            .find(|line| line.starts_with(email))
            .unwrap()
            .to_owned()
    };
    assert!(
        line("bob@example.com").contains("unconfirmed") && line("ann@example.com").contains(" active "),
        "{list}"
    );
    assert!(
        setup
            .succeed(["user", "show", "bob@example.com"])
            .contains("no: apps do not get the address")
    );

    let said = setup
        .command(["user", "confirm", "bob@example.com", "nobody@example.com"])
        .expect(2);
    assert!(
        said.stderr.contains("there is no account `nobody@example.com`"),
        "{}",
        said.stderr
    );
    assert!(
        !confirmed("bob@example.com"),
        "all are looked up before the first one is confirmed"
    );
    assert_eq!(
        setup.succeed(["user", "confirm", "bob@example.com"]),
        "confirmed `bob@example.com`\n"
    );
    assert!(confirmed("bob@example.com") && !confirmed("carol@example.com"));
    assert_eq!(
        setup.succeed(["user", "confirm", "bob@example.com"]),
        "`bob@example.com` was confirmed already\n"
    );
    assert_eq!(
        setup.succeed(["user", "confirm", "--all"]),
        "confirmed `carol@example.com`\n"
    );
    assert_eq!(
        setup.succeed(["user", "confirm", "--all"]),
        "all accounts were confirmed already\n"
    );
    assert!(
        setup
            .succeed(["user", "show", "bob@example.com"])
            .contains("confirmed  yes")
    );
    setup.command(["user", "confirm"]).expect(2);
}

#[test]
fn an_address_that_looks_like_another_accounts_is_refused_with_that_account() {
    let setup = setup();
    account(&setup, "ann@example.com");
    for lookalike in ["\u{430}nn@example.com", "ann@ex\u{430}mple.com"] {
        let said = setup
            .command(["user", "add", lookalike, "--no-password"])
            .expect(2)
            .stderr;
        assert!(
            said.contains("looks the same") && said.contains("`passgate user show ann@example.com`"),
            "{said}"
        );
        let said = import(&setup, &[], &json!({ "email": lookalike }).to_string())
            .expect(2)
            .stderr;
        assert!(
            said.contains("line 1: ") && said.contains("looks the same"),
            "{said}"
        );
    }
    // Of two lines of one import as well, before anything is written.
    let lines = [
        json!({"email": "carol@example.com"}),
        json!({"email": "c\u{430}rol@example.com"}),
    ];
    let said = import(&setup, &[], &lines.map(|line| line.to_string()).join("\n"))
        .expect(2)
        .stderr;
    assert!(
        said.contains("line 2: the address of line 1 looks the same"),
        "{said}"
    );
    assert_eq!(emails(&setup), ["ann@example.com"]);
    // Another spelling of the same address is the same one.
    let said = setup
        .command(["user", "add", "\u{ff41}nn@example.com", "--no-password"])
        .expect(2)
        .stderr;
    assert!(
        said.contains("an account with this email address already exists"),
        "{said}"
    );
    for refused in [
        "ann@example.com.",
        "ann\u{200b}@example.com",
        "ann\u{fe0f}@example.com",
    ] {
        let said = setup
            .command(["user", "add", refused, "--no-password"])
            .expect(2)
            .stderr;
        assert!(said.contains("not an email address"), "{said}");
    }
    assert_eq!(show(&setup, "\u{ff21}NN@example.com")["email"], "ann@example.com");
}

// --- user add

#[test]
fn an_account_is_made_and_shown() {
    let setup = setup();
    let words = [
        "user",
        "add",
        "Ann@Example.com",
        "--name",
        "Ann Ämter",
        "--role",
        "ops",
        "--role",
        "admin",
    ];
    let said = setup
        .command_with_input(words, &format!("{PASSWORD}\nnext line"))
        .expect(0);
    assert_eq!(said.stderr, "");
    let shown = show(&setup, "ann@example.com");
    assert!(
        said.stdout.contains(shown["id"].as_str().unwrap()),
        "{}",
        said.stdout
    );
    assert_eq!(
        (
            &shown["email"],
            &shown["name"],
            &shown["disabled"],
            &shown["password_hash"],
            &shown["sessions"]
        ),
        (
            &json!("Ann@Example.com"),
            &json!("Ann Ämter"),
            &json!(false),
            &json!("argon2id"),
            &json!([])
        )
    );
    let roles: Vec<_> = shown["roles"]
        .as_array()
        .unwrap()
        .iter()
        .map(|role| role.as_str().unwrap())
        .collect();
    assert_eq!(roles.len(), 2);
    assert!(roles.contains(&"admin") && roles.contains(&"ops"));
    let id: uuid::Uuid = shown["id"].as_str().unwrap().parse().unwrap();
    assert_eq!(id.get_version_num(), 7);
    let text = setup.succeed(["user", "show", "ann@example.com"]);
    for part in ["Ann@Example.com", "Ann Ämter", "admin", "argon2id", "active"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let listed = setup
        .command(["user", "list", "--format", "json"])
        .expect(0)
        .json();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(listed[0]["id"], shown["id"]);
    assert!(setup.succeed(["user", "list"]).contains("Ann@Example.com"));
    assert!(is_password(&setup, "ann@example.com", PASSWORD));
}

#[test]
fn a_password_is_in_no_output_and_not_in_the_state() {
    let setup = setup();
    let mut said = add(&setup, "ann@example.com").expect(0).all();
    said += &setup
        .command_with_input(["user", "password", "ann@example.com"], OTHER)
        .expect(0)
        .all();
    said += &run(&["hash-password"], &format!("{PASSWORD}\n")).expect(0).all();
    said += &setup
        .command_with_input(["user", "add", "ann@example.com"], PASSWORD)
        .expect(2)
        .all();
    said += &setup
        .command_with_input(["user", "add", "bob@example.com"], "horsey1")
        .expect(2)
        .all();
    for words in [
        &["user", "list"][..],
        &["user", "show", "ann@example.com"],
        &["user", "list", "--format", "json"],
    ] {
        said += &setup.command(words).expect(0).all();
    }
    let state = state_bytes(&setup);
    assert!(holds(&state, "ann@example.com"));
    for secret in [PASSWORD, OTHER, "horsey1"] {
        assert!(!said.contains(secret), "{secret:?} is in\n{said}");
        assert!(!holds(&state, secret), "{secret:?} is in the state");
    }
    let hash = open(&setup)
        .account_by_email("ann@example.com")
        .unwrap()
        .unwrap()
        .password_hash
        .unwrap();
    assert!(!said.contains(&hash), "a hash is worth guessing at:\n{said}");
}

#[test]
fn a_password_is_taken_whole() {
    let setup = setup();
    let long = "ä ".repeat(100);
    setup
        .command_with_input(["user", "add", "ann@example.com"], &format!("{long}\r\n"))
        .expect(0);
    assert!(is_password(&setup, "ann@example.com", &long));
    assert!(!is_password(&setup, "ann@example.com", long.trim_end()));
    assert!(!is_password(&setup, "ann@example.com", &long[..72]));
}

#[test]
fn what_cannot_be_an_account_is_refused_with_its_reason() {
    let setup = setup();
    let refused = |email: &str, more: &[&str], input: &str, why: &str| {
        let said = setup
            .command_with_input([&["user", "add", email], more].concat(), input)
            .expect(2);
        assert!(
            said.stderr.starts_with("error: ") && said.stderr.contains(why),
            "{why:?} is not in\n{}",
            said.stderr
        );
        assert!(
            said.stderr.contains("\nhint: ") && said.stdout.is_empty(),
            "{said:?}"
        );
    };
    refused("ann", &[], PASSWORD, "not an email address");
    refused("ann @example.com", &[], PASSWORD, "not an email address");
    refused("ann@example.com", &["--name", &"n".repeat(129)], PASSWORD, "128");
    refused("ann@example.com", &["--name", "a\nb"], PASSWORD, "name");
    refused("ann@example.com", &["--role", ""], PASSWORD, "role");
    refused("ann@example.com", &["--role", &"r".repeat(65)], PASSWORD, "64");
    refused("ann@example.com", &["--role", "a\u{7}b"], PASSWORD, "role");
    refused("ann@example.com", &[], "short", "at least 8 characters");
    refused("ann@example.com", &[], "äääääää", "at least 8 characters");
    refused("ann@example.com", &[], "password1", "too common");
    refused("ann@example.com", &[], "Ann@example.com", "too common");
    refused("ann.long.name@example.com", &[], "Ann.Long.Name", "too common");
    refused("ann@example.com", &[], &"x".repeat(4097), "4096 bytes");
    refused("ann@example.com", &[], &"x".repeat(100_000), "bytes");
    refused("ann@example.com", &[], "", "no password");
    refused("ann@example.com", &[], &format!("\n{PASSWORD}\n"), "no password");
    assert_eq!(
        setup
            .command(["user", "list", "--format", "json"])
            .expect(0)
            .json(),
        json!([])
    );
}

#[test]
fn the_length_of_a_password_is_what_the_file_says() {
    let setup = setup();
    setup.rewrite(
        "[password]\nmin_length = 20\n[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"https://app.test\"\n",
    );
    let said = setup
        .command_with_input(["user", "add", "ann@example.com"], "nineteen-characters")
        .expect(2);
    assert!(said.stderr.contains("at least 20 characters"), "{}", said.stderr);
    add(&setup, "ann@example.com").expect(0);
}

#[test]
fn an_address_belongs_to_one_account_in_whatever_case() {
    let setup = setup();
    account(&setup, "ann@example.com");
    // Said before anybody is asked for a password: there is none here.
    let said = setup
        .command(["user", "add", " ANN@Example.COM"])
        .expect(2)
        .stderr;
    assert!(said.contains("already") && said.contains("user show"), "{said}");
    assert_eq!(show(&setup, "Ann@EXAMPLE.com")["email"], "ann@example.com");
}

#[test]
fn of_two_that_make_the_same_account_at_once_one_wins() {
    let setup = setup();
    let outputs: Vec<Output> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| add(&setup, "ann@example.com")))
            .collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let won = outputs.iter().filter(|output| output.code == Some(0)).count();
    assert_eq!(won, 1, "{outputs:?}");
    for lost in outputs.iter().filter(|output| output.code != Some(0)) {
        assert_eq!(lost.code, Some(2), "{lost:?}");
        assert!(
            lost.stderr.contains("already") && lost.stdout.is_empty(),
            "{lost:?}"
        );
    }
    assert_eq!(
        setup
            .command(["user", "list", "--format", "json"])
            .expect(0)
            .json()
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn without_the_table_in_the_file_it_is_said_that_nobody_can_sign_in() {
    let setup = Setup::new("");
    let said = add(&setup, "ann@example.com").expect(0);
    assert!(
        said.stderr.contains("warning: ") && said.stderr.contains("`[password]`"),
        "{}",
        said.stderr
    );
    let said = setup
        .command(["user", "add", "bob@example.com", "--no-password"])
        .expect(0);
    assert_eq!(said.stderr, "");
    assert_eq!(show(&setup, "bob@example.com")["password_hash"], Value::Null);
}

#[test]
fn secrets_of_the_file_are_not_needed() {
    let secret = "[issuers.corp]\nissuer = \"https://id.example.com\"\naudiences = [\"api\"]\nalgorithms = [\"HS256\"]\n\
                  secret = { credential = \"corp\" }\n";
    let setup = Setup::new(&format!(
        "{secret}[password]\n[server]\npublic_url = \"https://app.test\"\n[server.tls]\ncertificate = \"none.pem\"\n\
         private_key = \"none.key\"\n"
    ));
    setup.command(["check"]).expect(2);
    let id = account(&setup, "ann@example.com");
    sign_in(&setup, &session(&id, "s-1"));
    setup.command(["user", "list"]).expect(0);
    setup.command(["session", "list"]).expect(0);
    setup.command(["session", "revoke", "s-1"]).expect(0);
    setup.command(["user", "delete", &id, "--yes"]).expect(0);
}

// --- user roles

fn roles(setup: &Setup, options: &[&str]) -> Vec<String> {
    let words = [
        &["user", "roles", "ann@example.com"],
        options,
        &["--format", "json"],
    ]
    .concat();
    serde_json::from_value(setup.command(words).expect(0).json()).unwrap()
}

#[test]
fn roles_are_shown_added_removed_and_set() {
    let setup = setup();
    account(&setup, "ann@example.com");
    assert!(roles(&setup, &[]).is_empty());
    assert_eq!(
        roles(&setup, &["--add", "admin", "--add", "ops"]),
        ["admin", "ops"]
    );
    assert_eq!(roles(&setup, &["--add", "ops"]), ["admin", "ops"], "each once");
    assert_eq!(
        roles(&setup, &["--add", "user", "--remove", "admin"]),
        ["ops", "user"]
    );
    assert_eq!(roles(&setup, &["--set", "x"]), ["x"]);
    assert_eq!(
        roles(&setup, &["--set", "x y", "--set", "a,b"]),
        ["a", "b", "x y"]
    );
    assert_eq!(roles(&setup, &[]), ["a", "b", "x y"]);
    assert_eq!(setup.succeed(["user", "roles", "ann@example.com"]), "a\nb\nx y\n");
    setup
        .command(["user", "roles", "ann@example.com", "--set", "x", "--add", "y"])
        .expect(2);
}

#[test]
fn a_role_that_is_not_there_cannot_be_removed_by_a_slip_of_the_finger() {
    let setup = setup();
    account(&setup, "ann@example.com");
    roles(&setup, &["--set", "admin"]);
    let words = [
        "user",
        "roles",
        "ann@example.com",
        "--add",
        "ops",
        "--remove",
        "amdin",
    ];
    let said = setup.command(words).expect(2).stderr;
    assert!(said.contains("did you mean `admin`?"), "{said}");
    assert_eq!(roles(&setup, &[]), ["admin"], "nothing was changed");
}

#[test]
fn an_account_has_no_more_roles_than_fit_into_a_token() {
    let setup = setup();
    account(&setup, "ann@example.com");
    let set = |roles: &[String]| {
        let mut words = vec!["user", "roles", "ann@example.com"];
        words.extend(roles.iter().flat_map(|role| ["--set", role.as_str()]));
        setup.command(words)
    };
    let many = |count: usize| (0..count).map(|number| format!("r{number}")).collect::<Vec<_>>();
    set(&many(64)).expect(0);
    assert!(set(&many(65)).expect(2).stderr.contains("64 roles"));
    let long = |count: usize| {
        (0..count)
            .map(|number| format!("{number:0>60}"))
            .collect::<Vec<_>>()
    };
    set(&long(16)).expect(0);
    assert!(set(&long(17)).expect(2).stderr.contains("1024 bytes"));
    assert!(set(&["r".repeat(65)]).expect(2).stderr.contains("64 bytes"));
    assert_eq!(roles(&setup, &[]).len(), 16);
}

#[test]
fn with_open_sessions_it_is_said_when_new_roles_hold() {
    let setup = setup();
    let id = account(&setup, "ann@example.com");
    assert_eq!(
        setup
            .command(["user", "roles", &id, "--add", "ops"])
            .expect(0)
            .stderr,
        ""
    );
    sign_in(&setup, &session(&id, "s-1"));
    let said = setup.command(["user", "roles", &id, "--add", "admin"]).expect(0);
    assert!(
        said.stderr.contains("two seconds") && said.stderr.contains("session revoke --all"),
        "{}",
        said.stderr
    );
    assert_eq!(said.stdout, "admin\nops\n");
}

// --- user password, disable, enable, delete

#[test]
fn a_new_password_ends_all_sessions() {
    let setup = setup();
    add(&setup, "ann@example.com").expect(0);
    let id = show(&setup, "ann@example.com")["id"].as_str().unwrap().to_owned();
    sign_in(&setup, &session(&id, "s-1"));
    let other = account(&setup, "bob@example.com");
    sign_in(&setup, &session(&other, "s-2"));
    setup
        .command_with_input(["user", "password", "ann@example.com"], "short")
        .expect(2);
    setup
        .command_with_input(["user", "password", "ann@example.com"], "")
        .expect(2);
    assert!(!is_ended(&setup, "s-1") && is_password(&setup, "ann@example.com", PASSWORD));
    let said = setup
        .command_with_input(["user", "password", "ANN@example.com"], &format!("{OTHER}\n"))
        .expect(0);
    assert!(said.stdout.contains("1 session"), "{}", said.stdout);
    assert!(is_ended(&setup, "s-1") && !is_ended(&setup, "s-2"));
    assert!(is_password(&setup, "ann@example.com", OTHER));
    assert!(!is_password(&setup, "ann@example.com", PASSWORD));
    assert_eq!(show(&setup, "ann@example.com")["id"], id.as_str());
}

#[test]
fn a_disabled_account_has_no_sessions_and_nobody_signs_in_to_it() {
    let setup = setup();
    add(&setup, "ann@example.com").expect(0);
    let id = show(&setup, "ann@example.com")["id"].as_str().unwrap().to_owned();
    for name in ["s-1", "s-2"] {
        sign_in(&setup, &session(&id, name));
    }
    let said = setup.command(["user", "disable", "ann@example.com"]).expect(0);
    assert!(said.stdout.contains("2 sessions"), "{}", said.stdout);
    assert!(is_ended(&setup, "s-1") && is_ended(&setup, "s-2"));
    assert_eq!(show(&setup, &id)["disabled"], true);
    assert!(setup.succeed(["user", "list"]).contains("disabled"));
    assert!(!is_password(&setup, "ann@example.com", PASSWORD));
    setup.command(["user", "disable", "ann@example.com"]).expect(0);
    setup.command(["user", "enable", "ann@example.com"]).expect(0);
    assert_eq!(show(&setup, &id)["disabled"], false);
    assert!(is_password(&setup, "ann@example.com", PASSWORD));
    assert!(is_ended(&setup, "s-1"), "what has ended stays so");
}

#[test]
fn a_deleted_account_is_gone_and_its_id_is_never_given_again() {
    let setup = setup();
    let id = account(&setup, "ann@example.com");
    sign_in(&setup, &session(&id, "s-1"));
    // Only somebody at a terminal is asked.
    setup.command(["user", "delete", "ann@example.com"]).expect(0);
    assert!(is_ended(&setup, "s-1"));
    setup.command(["user", "show", &id]).expect(2);
    setup
        .command(["user", "delete", "ann@example.com", "--yes"])
        .expect(2);
    assert_ne!(account(&setup, "ann@example.com"), id);
}

#[test]
fn an_unknown_account_is_an_error_with_the_nearest_one() {
    let setup = setup();
    let unknown = |who: &str| {
        for words in [
            vec!["user", "show", who],
            vec!["user", "roles", who],
            vec!["user", "roles", who, "--add", "x"],
            vec!["user", "password", who],
            vec!["user", "disable", who],
            vec!["user", "enable", who],
            vec!["user", "delete", who, "--yes"],
            vec!["session", "list", who],
            vec!["session", "revoke", "--all", who],
        ] {
            let said = setup.command_with_input(&words, PASSWORD).expect(2).stderr;
            assert!(said.contains(&format!("no account `{who}`")), "{words:?}: {said}");
        }
        setup.command(["user", "show", who]).expect(2).stderr
    };
    assert!(unknown("ann@example.com").contains("user add"));
    let id = account(&setup, "ann@example.com");
    assert!(unknown("anm@example.com").contains("did you mean `ann@example.com`?"));
    assert!(unknown("Ann").contains("did you mean `ann@example.com`?"));
    assert!(unknown(&id[1..]).contains(&format!("did you mean `{id}`?")));
    assert!(unknown("somebody.else@example.org").contains("user list"));
    assert!(
        !setup
            .command(["user", "show", "\u{1b}[2J"])
            .expect(2)
            .stderr
            .contains('\u{1b}')
    );
}

#[test]
fn an_account_is_found_by_its_id() {
    let setup = setup();
    let id = account(&setup, "ann@example.com");
    assert_eq!(show(&setup, &id)["email"], "ann@example.com");
    setup
        .command_with_input(["user", "password", &id], PASSWORD)
        .expect(0);
    setup.command(["user", "disable", &id]).expect(0);
    setup.command(["session", "revoke", "--all", &id]).expect(0);
    setup.command(["user", "delete", &id, "--yes"]).expect(0);
}

// --- sessions

#[test]
fn open_sessions_are_listed() {
    let setup = setup();
    let (ann, bob) = (
        account(&setup, "ann@example.com"),
        account(&setup, "bob@example.com"),
    );
    let client = RefreshRow {
        current: [7; 32],
        previous: None,
        rotated_at: now(),
    };
    sign_in(&setup, &session(&ann, "s-browser"));
    sign_in(
        &setup,
        &SessionRow {
            refresh: Some(client),
            ..session(&bob, "s-client")
        },
    );
    // Past its end; unused for longer than a browser's session may be; a client's of the same age.
    sign_in(
        &setup,
        &SessionRow {
            expires_at: now() - 1,
            ..session(&ann, "s-over")
        },
    );
    sign_in(
        &setup,
        &SessionRow {
            seen_at: now() - 25 * HOUR,
            ..session(&ann, "s-idle")
        },
    );
    sign_in(
        &setup,
        &SessionRow {
            seen_at: now() - 25 * HOUR,
            refresh: Some(client),
            ..session(&bob, "s-quiet")
        },
    );
    let ids = |words: &[&str]| -> Vec<String> {
        let words = [&["session", "list"], words, &["--format", "json"]].concat();
        let listed = setup.command(words).expect(0).json();
        listed
            .as_array()
            .unwrap()
            .iter()
            .map(|session| session["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let mut all = ids(&[]);
    assert_eq!(
        all.last().map(String::as_str),
        Some("s-quiet"),
        "the one last seen is first"
    );
    all.sort();
    assert_eq!(all, ["s-browser", "s-client", "s-quiet"]);
    assert_eq!(ids(&["ann@example.com"]), ["s-browser"]);
    let listed = setup
        .command(["session", "list", &ann, "--format", "json"])
        .expect(0)
        .json();
    let shown = &listed[0];
    for (name, value) in [
        ("account_id", ann.as_str()),
        ("email", "ann@example.com"),
        ("kind", "browser"),
        ("user_agent", "Firefox"),
        ("address", "203.0.113.7"),
    ] {
        assert_eq!(shown[name], value, "{shown}");
    }
    for name in ["created_at", "last_seen_at", "expires_at"] {
        assert!(shown[name].as_str().unwrap().ends_with('Z'), "{shown}");
    }
    let text = setup.succeed(["session", "list"]);
    for part in [
        "s-browser",
        "s-client",
        "ann@example.com",
        "203.0.113.7",
        "Firefox",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    assert_eq!(show(&setup, "ann@example.com")["sessions"][0]["id"], "s-browser");
    assert!(
        setup
            .succeed(["user", "show", "ann@example.com"])
            .contains("s-browser")
    );
}

#[test]
fn a_list_of_sessions_fits_a_hundred_columns() {
    let setup = setup();
    let long = format!("{}@{}.example.com", "a".repeat(60), "b".repeat(60));
    for (email, address, user_agent) in [
        (
            "alice@example.com",
            "203.0.113.107",
            "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0",
        ),
        (
            &long,
            "2001:db8:1234:5678:9abc:def0:1234:5678",
            "Mozilla/5.0 (Linux; Android 14) SamsungBrowser/26.0",
        ),
    ] {
        let id = account(&setup, email);
        let row = session(
            &id,
            &format!("01976f0e-7c1d-7a52-a0a4-8c1f5e3b9d{:02}", address.len()),
        );
        sign_in(
            &setup,
            &SessionRow {
                address: address.to_owned(),
                user_agent: user_agent.to_owned(),
                ..row
            },
        );
    }
    let text = setup.succeed(["session", "list"]);
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    assert_eq!(
        text.matches("01976f0e-7c1d-7a52-a0a4-8c1f5e3b9d").count(),
        2,
        "ids are whole:\n{text}"
    );
    let one = setup.succeed(["session", "list", &long]);
    assert!(one.lines().all(|line| line.chars().count() <= 100), "{one}");
    // Where there is room, nothing is cut.
    setup.command(["user", "delete", "--yes", &long]).expect(0);
    let text = setup.succeed(["session", "list"]);
    assert!(
        text.contains("alice@example.com  ")
            && text.contains("203.0.113.107")
            && text.contains("Firefox on Linux"),
        "{text}"
    );
}

#[test]
fn a_new_account_is_printed_for_programs() {
    let setup = setup();
    let words = [
        "user",
        "add",
        "carl@example.com",
        "--role",
        "a,b",
        "--role",
        "c",
        "--format",
        "json",
    ];
    let added = setup
        .command_with_input(words, &format!("{PASSWORD}\n"))
        .expect(0)
        .json();
    let shown = show(&setup, "carl@example.com");
    assert_eq!(
        added,
        serde_json::json!({ "id": shown["id"], "email": "carl@example.com" })
    );
    assert_eq!(shown["roles"], serde_json::json!(["a", "b", "c"]));
    setup
        .command(["user", "roles", "carl@example.com", "--set", "x,y"])
        .expect(0);
    assert_eq!(
        show(&setup, "carl@example.com")["roles"],
        serde_json::json!(["x", "y"])
    );
    setup
        .command([
            "user",
            "roles",
            "carl@example.com",
            "--add",
            "z,w",
            "--remove",
            "x,y",
        ])
        .expect(0);
    assert_eq!(
        show(&setup, "carl@example.com")["roles"],
        serde_json::json!(["w", "z"])
    );
}

#[test]
fn no_stranger_commands_the_terminal_of_the_operator() {
    let setup = setup();
    let id = account(&setup, "ann@example.com");
    sign_in(
        &setup,
        &SessionRow {
            user_agent: "\u{1b}[2J\u{202e}x".to_owned(),
            ..session(&id, "s-1")
        },
    );
    let text = setup.succeed(["session", "list"]);
    assert!(
        text.contains("s-1") && !text.contains(['\u{1b}', '\u{202e}']),
        "{text:?}"
    );
}

#[test]
fn a_session_is_ended_by_its_id() {
    let setup = setup();
    let id = account(&setup, "ann@example.com");
    for name in ["s-1", "s-2"] {
        sign_in(&setup, &session(&id, name));
    }
    setup.command(["session", "revoke", "s-1"]).expect(0);
    assert!(is_ended(&setup, "s-1") && !is_ended(&setup, "s-2"));
    let said = setup.command(["session", "revoke", "s-1"]).expect(2).stderr;
    assert!(
        said.contains("no session `s-1`") && said.contains("did you mean `s-2`?"),
        "{said}"
    );
    assert!(
        setup
            .command(["session", "revoke", "nothing-like-it"])
            .expect(2)
            .stderr
            .contains("session list")
    );
}

#[test]
fn all_sessions_of_an_account_are_ended() {
    let setup = setup();
    let (ann, bob) = (
        account(&setup, "ann@example.com"),
        account(&setup, "bob@example.com"),
    );
    for (account, name) in [(&ann, "s-1"), (&ann, "s-2"), (&bob, "s-3")] {
        sign_in(&setup, &session(account, name));
    }
    let said = setup.succeed(["session", "revoke", "--all", "ann@example.com"]);
    assert!(said.contains("2 sessions"), "{said}");
    assert!(is_ended(&setup, "s-1") && is_ended(&setup, "s-2") && !is_ended(&setup, "s-3"));
    assert!(
        setup
            .succeed(["session", "revoke", "--all", "ann@example.com"])
            .contains("0 sessions")
    );
}

#[test]
fn revoking_what_was_issued_to_an_account_ends_its_sessions() {
    let setup = setup();
    let (ann, bob) = (
        account(&setup, "ann@example.com"),
        account(&setup, "bob@example.com"),
    );
    sign_in(&setup, &session(&ann, "s-1"));
    sign_in(&setup, &session(&bob, "s-2"));
    let said = setup.succeed(["revoke", "--issuer", "session", "--subject", &ann]);
    assert!(said.contains("1 session"), "{said}");
    assert!(is_ended(&setup, "s-1") && !is_ended(&setup, "s-2"));
    // Who types the address means the account.
    setup.succeed([
        "revoke",
        "--issuer",
        "https://app.test",
        "--subject",
        "BOB@example.com",
    ]);
    assert!(is_ended(&setup, "s-2"));
    let revoked = open(&setup).revocations(now()).unwrap();
    for subject in [ann, bob, "BOB@example.com".to_owned()] {
        let target = Target::Subject(subject);
        assert!(
            revoked
                .iter()
                .any(|row| row.issuer == "session" && row.target == target),
            "{target:?}"
        );
    }
    assert_eq!(show(&setup, "ann@example.com")["disabled"], false);
}

#[test]
fn a_namesake_of_another_issuer_keeps_its_sessions() {
    let setup = Setup::new(&format!(
        "{}[password]\n[server]\npublic_url = \"https://app.test\"\n",
        crate::support::gateway::CORP_ISSUER
    ));
    let id = account(&setup, "ann@example.com");
    sign_in(&setup, &session(&id, "s-1"));
    setup.succeed(["revoke", "--issuer", "corp", "--subject", &id]);
    setup.succeed(["revoke", "--issuer", "corp", "--subject", "ann@example.com"]);
    setup.succeed(["revoke", "--issuer", "session", "--token-id", &id]);
    assert!(!is_ended(&setup, "s-1"));
}

#[test]
fn an_ended_session_is_refused_by_a_running_gateway() {
    let app = App::start();
    let gateway = Gateway::before(&app, "[[routes]]\npath = \"/*\"\nupstream = \"app\"\n");
    let id = account(&gateway.setup, "ann@example.com");
    let mint = |name: &str| {
        sign_in(&gateway.setup, &session(&id, name));
        let claim = format!("sid={name}");
        gateway
            .setup
            .succeed(["token", "mint", "--subject", &id, "--claim", &claim])
            .trim()
            .to_owned()
    };
    let tokens: Vec<String> = ["s-1", "s-2", "s-3"].into_iter().map(mint).collect();
    for token in &tokens {
        eventually("the token is accepted", || {
            gateway.get_as(token, "/x").status == 200
        });
    }
    gateway.command(["session", "revoke", "s-1"]).expect(0);
    eventually("the token of the first session is refused", || {
        gateway.get_as(&tokens[0], "/x").status == 401
    });
    gateway.get_as(&tokens[1], "/x").expect(200);
    gateway.command(["user", "disable", "ann@example.com"]).expect(0);
    for token in &tokens[1..] {
        eventually("the tokens of the others are refused", || {
            gateway.get_as(token, "/x").status == 401
        });
    }
}

// --- keys

#[test]
fn a_retired_key_verifies_as_long_as_a_session_may_last_and_longer_where_a_token_does() {
    let verifies_for = |table: &str, mint: &[&str]| {
        let setup = Setup::new(table);
        for lifetime in mint {
            setup.succeed(["token", "mint", "--subject", "u", "--lifetime", lifetime]);
        }
        let before = now();
        setup.command(["key", "rotate"]).expect(0);
        let keys = setup
            .command(["key", "list", "--format", "json"])
            .expect(0)
            .json();
        let retired = keys
            .as_array()
            .unwrap()
            .iter()
            .find(|key| key["state"] == "retired")
            .unwrap()
            .clone();
        let until: jiff::Timestamp = retired["verifies_until"].as_str().unwrap().parse().unwrap();
        (until.as_second() - before) / 60
    };
    let day = 24 * 60;
    let near =
        |minutes: i64, expected: i64| assert!((expected..expected + 10).contains(&minutes), "{minutes}");
    near(verifies_for("", &["15m"]), 8 * day);
    near(verifies_for("[session]\nlifetime = \"1d\"\n", &["15m"]), 8 * day);
    near(
        verifies_for("[session]\nlifetime = \"30d\"\n", &["15m"]),
        31 * day,
    );
    near(verifies_for("", &["40d", "1h"]), 40 * day - 1);
}

// --- user import

fn import(setup: &Setup, options: &[&str], lines: &str) -> Output {
    setup.command_with_input([&["user", "import"], options].concat(), lines)
}

fn emails(setup: &Setup) -> Vec<String> {
    let listed = setup
        .command(["user", "list", "--format", "json"])
        .expect(0)
        .json();
    listed
        .as_array()
        .unwrap()
        .iter()
        .map(|account| account["email"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn accounts_are_imported_with_the_hashes_that_another_program_made() {
    let setup = setup();
    let lines = [
        json!({"id": "64f0c0ffee", "email": "Ann@example.com", "name": "Ann", "passwordHash": BCRYPT, "roles": ["admin", "user"]}),
        json!({"email": "bob@example.com", "passwordHash": ARGON2I}),
    ]
    .map(|line| format!("{line}\n"))
    .concat();
    setup.write("users.jsonl", &lines);
    let said = import(&setup, &[setup.path("users.jsonl").to_str().unwrap()], "").expect(0);
    assert!(said.stdout.contains("2 accounts"), "{said:?}");
    let ann = show(&setup, "ann@example.com");
    assert_eq!((&ann["id"], &ann["name"]), (&json!("64f0c0ffee"), &json!("Ann")));
    assert_eq!(
        (&ann["roles"], &ann["password_hash"]),
        (&json!(["admin", "user"]), &json!("bcrypt"))
    );
    assert_eq!(show(&setup, "bob@example.com")["password_hash"], "argon2i");
    assert!(
        is_password(&setup, "ann@example.com", "U*U") && is_password(&setup, "bob@example.com", "password")
    );
    assert!(!is_password(&setup, "bob@example.com", "U*U"));
    assert!(
        !said.all().contains(BCRYPT) && !said.all().contains(ARGON2I),
        "{said:?}"
    );
}

#[test]
fn an_import_takes_hashes_of_our_own_from_standard_input() {
    let setup = setup();
    let hash = run(&["hash-password"], &format!("{PASSWORD}\n")).expect(0).stdout;
    let line = json!({"email": "ann@example.com", "passwordHash": hash.trim()}).to_string();
    import(&setup, &[], &line).expect(0);
    assert!(is_password(&setup, "ann@example.com", PASSWORD));
}

const MIXED: &str = r#"{"email": "ann@example.com"}
{"email": "nobody"}
not json

{"email": "bob@example.com", "passwordHash": "secret-in-plain-text"}
{"email": "ANN@example.com"}
{"email": "cat@example.com"}
"#;

#[test]
fn nothing_is_imported_unless_all_lines_are_good_and_each_bad_one_is_named() {
    let setup = setup();
    account(&setup, "cat@example.com");
    let said = import(&setup, &[], MIXED).expect(2);
    for line in [2, 3, 5, 6, 7] {
        assert!(
            said.stderr.contains(&format!("line {line}: ")),
            "line {line} is not named in\n{}",
            said.stderr
        );
    }
    assert!(
        !said.stderr.contains("line 1: ") && !said.stderr.contains("line 4: "),
        "{}",
        said.stderr
    );
    assert!(
        said.stderr.contains("line 1") && said.stderr.contains("nothing was imported"),
        "{}",
        said.stderr
    );
    assert!(!said.all().contains("secret-in-plain-text"), "{said:?}");
    assert_eq!(emails(&setup), ["cat@example.com"]);
}

#[test]
fn the_good_lines_alone_are_imported_where_that_is_asked_for() {
    let setup = setup();
    account(&setup, "cat@example.com");
    let said = import(&setup, &["--skip-bad"], MIXED).expect(0);
    assert!(
        said.stderr.contains("line 5: ") && said.stdout.contains("1 account"),
        "{said:?}"
    );
    assert!(said.stdout.contains("5 bad lines"), "{said:?}");
    assert_eq!(emails(&setup), ["ann@example.com", "cat@example.com"]);
}

#[test]
fn a_rehearsal_imports_nothing() {
    let setup = setup();
    let said = import(&setup, &["--dry-run"], "{\"email\": \"ann@example.com\"}\n").expect(0);
    assert!(said.stdout.contains("1 account"), "{said:?}");
    import(&setup, &["--dry-run"], MIXED).expect(2);
    assert!(emails(&setup).is_empty());
}

#[test]
fn an_import_changes_the_accounts_that_exist_only_when_told_to() {
    let setup = setup();
    let first = json!({"id": "1", "email": "ann@example.com", "name": "Ann", "passwordHash": BCRYPT, "roles": ["user"]});
    import(&setup, &[], &first.to_string()).expect(0);
    sign_in(&setup, &session("1", "s-1"));
    let said = import(&setup, &[], &first.to_string()).expect(2).stderr;
    assert!(said.contains("line 1: ") && said.contains("--update"), "{said}");
    // The same again changes nothing and ends nothing.
    let said = import(&setup, &["--update"], &first.to_string()).expect(0).stdout;
    assert!(said.contains("1 unchanged"), "{said}");
    assert!(!is_ended(&setup, "s-1"));
    let roles =
        json!({"email": "ANN@example.com", "name": "Ann B", "passwordHash": BCRYPT, "roles": ["admin"]});
    import(&setup, &["--update"], &roles.to_string()).expect(0);
    let shown = show(&setup, "ann@example.com");
    assert_eq!(
        (&shown["id"], &shown["name"], &shown["roles"]),
        (&json!("1"), &json!("Ann B"), &json!(["admin"]))
    );
    assert!(!is_ended(&setup, "s-1"));
    let hash = json!({"email": "ann@example.com", "passwordHash": ARGON2I, "roles": ["admin"]});
    import(&setup, &["--update"], &hash.to_string()).expect(0);
    assert!(is_ended(&setup, "s-1"), "who knew the old password is out");
    assert!(is_password(&setup, "ann@example.com", "password"));
    assert_eq!(
        show(&setup, "ann@example.com")["name"],
        "Ann B",
        "what a line does not say stays"
    );
}

#[test]
fn an_import_gives_no_id_twice() {
    let setup = setup();
    let line = |id: &str, email: &str| format!("{}\n", json!({"id": id, "email": email}));
    let twice = line("1", "ann@example.com") + &line("1", "bob@example.com");
    let said = import(&setup, &[], &twice).expect(2).stderr;
    assert!(said.contains("line 2: ") && said.contains("line 1"), "{said}");
    import(&setup, &[], &line("1", "ann@example.com")).expect(0);
    let said = import(&setup, &[], &line("1", "bob@example.com"))
        .expect(2)
        .stderr;
    assert!(said.contains("line 1: ") && said.contains("id"), "{said}");
    let said = import(&setup, &["--update"], &line("2", "ann@example.com"))
        .expect(2)
        .stderr;
    assert!(
        said.contains("line 1: ") && said.contains("`1`"),
        "an account keeps its id: {said}"
    );
}

#[test]
fn an_import_without_lines_or_without_its_file_says_so() {
    let setup = setup();
    assert!(import(&setup, &[], "").expect(0).stdout.contains("0 accounts"));
    let said = import(&setup, &["/nonexistent/users.jsonl"], "").expect(2).stderr;
    assert!(said.contains("/nonexistent/users.jsonl"), "{said}");
}

// --- the rest

#[test]
fn a_password_is_hashed_for_whoever_wants_the_hash() {
    let hash = || run(&["hash-password"], &format!("{PASSWORD}\n")).expect(0).stdout;
    let (one, two) = (hash(), hash());
    assert!(
        one.starts_with("$argon2id$v=19$m=19456,t=2,p=1$") && one.ends_with('\n'),
        "{one}"
    );
    assert_ne!(one, two, "each has a salt of its own");
    run(&["hash-password"], "").expect(2);
    run(&["hash-password"], &"x".repeat(4097)).expect(2);
    run(&["hash-password", PASSWORD], "").expect(2);
}

#[test]
fn a_password_is_never_an_argument() {
    let setup = setup();
    let account = "ann@example.com";
    for words in [
        &["user", "add", account, PASSWORD][..],
        &["user", "add", account, "--password", PASSWORD],
    ] {
        setup.command_with_input(words, PASSWORD).expect(2);
    }
    setup
        .command_with_input(["user", "password", account, PASSWORD], PASSWORD)
        .expect(2);
}

#[test]
fn wrong_usage_is_explained() {
    for words in [
        &["user"][..],
        &["user", "add"],
        &["user", "show"],
        &["user", "frobnicate"],
        &["user", "roles", "a@b", "--set"],
        &["session"],
        &["session", "revoke"],
        &["session", "revoke", "s-1", "--all", "a@b"],
    ] {
        let said = run(words, "").expect(2);
        assert!(
            said.stderr.contains("--help") || said.stderr.contains("Usage"),
            "{words:?}: {}",
            said.stderr
        );
    }
}

#[test]
fn the_manual_and_completions_have_every_command() {
    let manual = run(&["man"], "").expect(0).stdout.replace("\\-", "-");
    for command in [
        "passgate-user-add",
        "passgate-user-roles",
        "passgate-user-import",
        "passgate-session-revoke",
        "passgate-hash-password",
        "passgate-token-mint",
    ] {
        assert!(manual.contains(command), "{command} is not in the manual");
    }
    for option in ["--no-password", "--skip-bad", "--update", "--all"] {
        assert!(manual.contains(option), "{option} is not in the manual");
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completions", shell], "").expect(0).stdout;
        for word in ["hash-password", "disable", "no-password", "skip-bad"] {
            assert!(
                script.contains(word),
                "{word} is not in the completions of {shell}"
            );
        }
    }
}

#[test]
fn what_is_written_is_readable_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let setup = setup();
    account(&setup, "ann@example.com");
    let mode = setup.path("passgate.db").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
}

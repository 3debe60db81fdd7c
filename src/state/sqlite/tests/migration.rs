//! Files of earlier versions.
#![allow(clippy::unwrap_used)]

use rusqlite::params;

use super::*;
use crate::revocation::{Revocation, Target};
use crate::state::CodeStore as _;
use crate::state::contract::{END, account, client, exchange, seen};
use crate::state::{AccountChange, AccountRow, Added, CodeRow, Rotation, SessionSelector, SigningKeyRow};

/// As version 0.1 left it.
fn first_version(path: &Path) {
    drop(file::prepare(path).unwrap());
    let file = Connection::open(path).unwrap();
    file.pragma_update(None, "journal_mode", "WAL").unwrap();
    file.execute_batch(schema::STEPS[0]).unwrap();
    let revocation = "INSERT INTO revocations VALUES (?1, ?2, ?3, ?4, ?5)";
    file.execute(revocation, params!["corp", "token", "t1", 100, 200])
        .unwrap();
    file.execute(revocation, params!["corp", "token", "t2", 101, None::<i64>])
        .unwrap();
    file.execute(revocation, params!["corp", "subject", "t1", 102, 300])
        .unwrap();
    let key = "INSERT INTO signing_keys VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    file.execute(key, params!["k1", b"k1", None::<Vec<u8>>, 10, 20, 120])
        .unwrap();
    file.execute(
        key,
        params!["k2", b"k2", b"private part of k2", 20, None::<i64>, None::<i64>],
    )
    .unwrap();
    file.execute(
        "INSERT INTO key_sets VALUES ('corp', 'https://id.example/keys', x'7b7d', 5)",
        [],
    )
    .unwrap();
    file.pragma_update(None, "application_id", 0x7067_6174).unwrap();
    file.pragma_update(None, "user_version", 1).unwrap();
}

#[test]
fn a_file_of_the_first_version_is_brought_along_with_all_that_is_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("passgate.db");
    first_version(&path);
    // The second opening finds nothing to do.
    for _ in 0..2 {
        let state = Sqlite::open(&path).unwrap();
        let mut known = state.revocations(0).unwrap();
        known.sort_by_key(|known| known.revoked_at);
        let subject = Revocation {
            target: Target::Subject("t1".to_owned()),
            ..token("", 102, Some(300))
        };
        assert_eq!(
            known,
            [token("t1", 100, Some(200)), token("t2", 101, None), subject]
        );
        let retired = SigningKeyRow {
            private_key: None,
            retired_at: Some(20),
            verify_until: Some(120),
            ..key("k1", 10)
        };
        // Keys of before the algorithm was kept are Ed25519, as `key` is.
        assert_eq!(state.signing_keys().unwrap(), [key("k2", 20), retired]);
        let set = state.load_jwks("corp", "https://id.example/keys").unwrap();
        assert_eq!(set, Some((b"{}".to_vec(), 5)));
    }
    let state = Sqlite::open(&path).unwrap();
    // What is new works on it.
    assert_eq!(
        state.add_account(&account("a"), Some("ops")).unwrap(),
        Added::Done
    );
    assert!(state.add_session(&client("s1", "a", 1), 1).unwrap());
    assert_eq!(
        state
            .rotate_refresh(&exchange("s1", &[1; 32], &[2; 32], 10, seen(5, "::1", 0)))
            .unwrap(),
        Rotation::Rotated
    );
    assert_eq!(
        state.end_sessions(SessionSelector::Account("a"), &END).unwrap(),
        ["s1"]
    );
    assert_eq!(state.revocations(0).unwrap().len(), 4);
    state.note_token("k2", 900).unwrap();
    assert_eq!(
        state.rotate_signing_key(&key("k3", 30), 30, 130).unwrap()[1].verify_until,
        Some(900)
    );
    let writer = lock(&state.writer);
    for pragma in ["integrity_check", "foreign_key_check"] {
        let found: Vec<String> = writer
            .prepare(&format!("PRAGMA {pragma}"))
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        assert!(found.is_empty() || found == ["ok"], "{pragma}: {found:?}");
    }
}

/// As the version before accounts were confirmed left it, with these accounts: id, address, key, hash, time.
fn second_version(path: &Path, accounts: &[(&str, &str, &str, Option<&str>, i64)]) {
    first_version(path);
    let file = Connection::open(path).unwrap();
    file.execute_batch(schema::STEPS[1]).unwrap();
    for (id, email, key, hash, created_at) in accounts {
        let kind = hash.map(crate::state::account::hash_kind);
        file.execute(
            "INSERT INTO accounts (id, email, email_key, name, roles, password_hash, hash_kind, disabled, created_at,
                                   password_version, revision)
             VALUES (?1, ?2, ?3, NULL, '[\"user\"]', ?4, ?5, 0, ?6, 1, 0)",
            params![id, email, key, hash, kind, created_at],
        )
        .unwrap();
    }
    file.pragma_update(None, "user_version", 2).unwrap();
}

#[test]
fn of_the_accounts_of_before_those_that_may_have_been_registered_are_not_confirmed() {
    const OURS: &str = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaA";
    const BCRYPT: &str = "$2b$12$abcdefghijklmnopqrstuuQhyBhl8ZdqfGpMGhDHnQR9l9nqo4z9W";
    let id = |number: u8| format!("0197a1b2-c3d4-7e5f-8a6b-0000000000{number:02}");
    let ids: Vec<String> = (0..4).map(id).collect();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("passgate.db");
    second_version(
        &path,
        &[
            // Registered, or made by `user add`: nobody knows.
            (&ids[0], "a@example.com", "a@example.com", Some(OURS), 1),
            // Without a password, of another program, with an id of another program.
            (&ids[1], "b@example.com", "b@example.com", None, 2),
            (&ids[2], "c@example.com", "c@example.com", Some(BCRYPT), 3),
            (
                "507f1f77bcf86cd799439011",
                "d@example.com",
                "d@example.com",
                Some(OURS),
                4,
            ),
            (
                "1b4e28ba-2fa1-41d2-883f-0016d3cca427",
                "e@example.com",
                "e@example.com",
                Some(OURS),
                5,
            ),
        ],
    );
    for _ in 0..2 {
        let state = Sqlite::open(&path).unwrap();
        let confirmed: Vec<bool> = state
            .accounts()
            .unwrap()
            .into_iter()
            .map(|account| account.confirmed)
            .collect();
        assert_eq!(confirmed, [false, true, true, true, true]);
    }
    let state = Sqlite::open(&path).unwrap();
    let change = AccountChange {
        confirmed: Some(true),
        ..AccountChange::default()
    };
    assert!(
        state
            .change_account(&ids[0], &change, &END)
            .unwrap()
            .unwrap()
            .confirmed
    );
    // What is new works on it.
    let cyrillic = AccountRow {
        email_key: "\u{430}@example.com".to_owned(),
        ..account("x")
    };
    assert_eq!(state.add_account(&cyrillic, None).unwrap(), Added::Lookalike);
}

#[test]
fn the_addresses_of_before_are_compared_as_new_ones_are_and_of_two_that_are_one_now_the_older_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("passgate.db");
    second_version(
        &path,
        &[
            ("1", "Jose\u{301}@b", "jose\u{301}@b", None, 10),
            ("2", "\u{ff41}nn@b", "\u{ff41}nn@b", None, 30),
            ("3", "Ann@b", "ann@b", None, 40),
            ("4", "\u{ff42}ob@b", "\u{ff42}ob@b", None, 20),
            ("5", "\u{ff22}OB@b", "\u{ff42}ob@b\u{200b}", None, 15),
        ],
    );
    let state = Sqlite::open(&path).unwrap();
    let found = |key: &str| state.account_by_email(key).unwrap().map(|account| account.id);
    assert_eq!(found("jos\u{e9}@b").as_deref(), Some("1"));
    assert_eq!(
        found("ann@b").as_deref(),
        Some("3"),
        "whose key it was already keeps it"
    );
    assert_eq!(found("bob@b").as_deref(), Some("5"), "the older one");
    // The others are there still, and are found by their ids.
    for id in ["1", "2", "3", "4", "5"] {
        assert!(state.account(id).unwrap().is_some(), "{id}");
    }
    assert_eq!(state.accounts().unwrap().len(), 5);
    assert!(
        state
            .lookalike("jos\u{435}\u{301}@b")
            .unwrap()
            .is_some_and(|account| account.id == "1")
    );
}

#[test]
fn a_file_with_sessions_is_brought_along_and_takes_codes_for_them() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("passgate.db");
    first_version(&path);
    let file = Connection::open(&path).unwrap();
    file.execute_batch(schema::STEPS[1]).unwrap();
    file.pragma_update(None, "user_version", 2).unwrap();
    let account = "INSERT INTO accounts VALUES ('a', 'a@Example.com', 'a@example.com', NULL, '[]', NULL, NULL, 0, 1, 1, 0)";
    file.execute(account, []).unwrap();
    let session = "INSERT INTO sessions VALUES ('s1', 'a', 100, 100, 1000, '', '', NULL, NULL, NULL)";
    file.execute(session, []).unwrap();
    drop(file);
    let state = Sqlite::open(&path).unwrap();
    assert_eq!(state.session("s1").unwrap().unwrap().1.id, "a");
    let code = |number| CodeRow {
        hash: [number; 32],
        session_id: "s1".to_owned(),
        host: "app.example.com".to_owned(),
        nonce: [9; 32],
        return_to: "/".to_owned(),
        expires_at: 160,
    };
    for number in [1, 2] {
        assert!(state.add_code(&code(number), 100).unwrap());
    }
    assert_eq!(state.take_code(&[1; 32]).unwrap(), Some(code(1)));
    assert_eq!(
        state.end_sessions(SessionSelector::One("s1"), &END).unwrap(),
        ["s1"]
    );
    assert_eq!(state.take_code(&[2; 32]).unwrap(), None);
}

#[test]
fn several_that_open_an_old_file_at_once_bring_it_along_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("passgate.db");
    first_version(&path);
    let start = std::sync::Barrier::new(4);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                start.wait();
                assert_eq!(Sqlite::open(&path).unwrap().revocations(0).unwrap().len(), 3);
            });
        }
    });
}

/// State files in use have run them: a change is another migration after the last.
#[test]
fn the_released_steps_are_as_they_were_released() {
    let released = [
        "aee43536254e4fd1f06ce91270812bd51fb12cf94d7c5981756a75aac53382a1",
        "aab68eceb2b3847f3dc4c539c47e2c9f94bc3a3a3b67eef4600e0fd46e281bb7",
    ];
    for (step, digest) in schema::STEPS.iter().zip(released) {
        assert_eq!(blake3::hash(step.as_bytes()).to_hex().as_str(), digest);
    }
}

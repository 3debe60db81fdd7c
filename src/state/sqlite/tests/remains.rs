//! What is replaced or deleted is nowhere in the files.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::state::contract::{END, account, seen};
use crate::state::{AccountChange, AccountRow};

/// Whether `text` is in the database, and in its log.
fn holds(directory: &tempfile::TempDir, text: &str) -> [bool; 2] {
    ["passgate.db", "passgate.db-wal"].map(|name| {
        let content = fs::read(directory.path().join(name)).unwrap();
        memchr::memmem::find(&content, text.as_bytes()).is_some()
    })
}

fn with_hash(id: &str, hash: &str) -> AccountRow {
    AccountRow {
        password_hash: Some(hash.to_owned()),
        ..account(id)
    }
}

fn new_hash(hash: &str) -> AccountChange {
    AccountChange {
        password_hash: Some(hash.to_owned()),
        ..AccountChange::default()
    }
}

#[test]
fn a_rotated_private_key_is_nowhere_in_the_files() {
    let directory = tempfile::tempdir().unwrap();
    let state = Sqlite::open(&directory.path().join("passgate.db")).unwrap();
    state.ensure_signing_key(&key("first", 1)).unwrap();
    assert!(holds(&directory, "private part of first")[0]);
    state.rotate_signing_key(&key("second", 2), 2, 100).unwrap();
    assert_eq!(holds(&directory, "private part of first"), [false; 2]);
    assert_eq!(holds(&directory, "private part of second"), [true, false]);
}

#[test]
fn a_hash_that_was_replaced_or_deleted_is_nowhere_in_the_files() {
    let directory = tempfile::tempdir().unwrap();
    let state = Sqlite::open(&directory.path().join("passgate.db")).unwrap();
    state
        .add_account(&with_hash("a", "$2b$12$the-first"), Some("ops"))
        .unwrap();
    assert!(holds(&directory, "the-first")[0]);
    assert!(
        state
            .rehash_account("a", "$2b$12$the-first", "$argon2id$the$second")
            .unwrap()
    );
    assert_eq!(holds(&directory, "the-first"), [false; 2]);
    assert!(holds(&directory, "the$second")[0]);
    state
        .change_account("a", &new_hash("$argon2id$the$third"), &END)
        .unwrap();
    assert_eq!(holds(&directory, "the$second"), [false; 2]);
    assert!(holds(&directory, "the$third")[0]);
    assert!(state.delete_account("a", &END).unwrap());
    assert_eq!(holds(&directory, "the$third"), [false; 2]);
    assert_eq!(holds(&directory, "a@Example.com"), [false; 2]);
}

#[test]
fn what_a_killed_process_left_in_the_log_goes_with_the_next_write_of_another() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("passgate.db");
    // It does not come to the emptying.
    let killed = Sqlite::open(&path).unwrap();
    killed
        .add_account(&with_hash("a", "$2b$12$the-first"), Some("ops"))
        .unwrap();
    killed
        .write("die", |it| {
            accounts::rehash(it, "a", "$2b$12$the-first", "$2b$12$the-second")
        })
        .unwrap();
    killed
        .write("die", |it| {
            accounts::rehash(it, "a", "$2b$12$the-second", "$2b$12$the-third")
        })
        .unwrap();
    assert_eq!(
        holds(&directory, "the-second"),
        [false, true],
        "else this shows nothing"
    );
    let next = Sqlite::open(&path).unwrap();
    next.touch_session("nobody's", &seen(1, "192.0.2.1", 1)).unwrap();
    assert_eq!(holds(&directory, "the-second"), [false; 2]);
    assert_eq!(holds(&directory, "the-first"), [false; 2]);
    drop(killed);
}

#[test]
fn whoever_closes_the_file_last_leaves_no_log() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("passgate.db");
    let state = Sqlite::open(&path).unwrap();
    state.add_account(&account("a"), Some("ops")).unwrap();
    drop(state);
    let names: Vec<_> = fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["passgate.db"]);
    assert!(Sqlite::open(&path).unwrap().account("a").unwrap().is_some());
}

#[test]
fn of_many_accounts_on_many_pages_no_hash_is_left_behind() {
    let directory = tempfile::tempdir().unwrap();
    let state = Sqlite::open(&directory.path().join("passgate.db")).unwrap();
    let old = |number: usize| format!("$2b$12$old{number:04}of-about-the-length-of-a-hash-by-bcrypt-or-so");
    // In an order in which pages are split everywhere.
    let ids: Vec<_> = (0..300).map(|number| number * 181 % 300).collect();
    state
        .write("prepare a test", |transaction| {
            ids.iter().try_for_each(|&number| {
                accounts::add(
                    transaction,
                    &with_hash(&format!("{number:04}"), &old(number)),
                    None,
                )
                .map(drop)
            })
        })
        .unwrap();
    let longer = format!("$argon2id${}$new", "x".repeat(90));
    state
        .write("change most", |transaction| {
            for &number in &ids[1..] {
                let id = format!("{number:04}");
                match number % 3 {
                    0 => assert!(accounts::delete(transaction, &id, &END)?),
                    1 => assert!(accounts::change(transaction, &id, &new_hash(&longer), &END)?.is_some()),
                    _ => assert!(accounts::rehash(transaction, &id, &old(number), "$short")?),
                }
            }
            Ok(())
        })
        .unwrap();
    assert!(state.delete_account("0000", &END).unwrap());
    assert_eq!(holds(&directory, "$2b$12$old"), [false; 2]);
}

#[test]
fn where_another_reader_is_in_the_way_the_log_is_emptied_by_a_later_write() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("passgate.db");
    let state = Sqlite::open(&path).unwrap();
    state
        .add_account(&with_hash("a", "$2b$12$the-first"), Some("ops"))
        .unwrap();
    let mut backup = Connection::open(&path).unwrap();
    let reading = backup.transaction().unwrap();
    reading
        .query_row("SELECT count(*) FROM accounts", [], |row| row.get::<_, i64>(0))
        .unwrap();
    state
        .change_account("a", &new_hash("$2b$12$the-second"), &END)
        .unwrap();
    assert_ne!(
        holds(&directory, "the-first"),
        [false; 2],
        "else this shows nothing"
    );
    drop(reading);
    state.touch_session("nobody's", &seen(1, "192.0.2.1", 1)).unwrap();
    assert_eq!(holds(&directory, "the-first"), [false; 2]);
    // The patience with other writers is back.
    let timeout: i64 = lock(&state.writer)
        .pragma_query_value(None, "busy_timeout", |row| row.get(0))
        .unwrap();
    assert_eq!(timeout, 5000);
}

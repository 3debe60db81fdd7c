//! What is true of the SQLite engine beyond the contract: the file, its locks, its searches.
#![allow(clippy::unwrap_used)]

mod migration;
mod processes;
mod remains;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;
use crate::state::contract::{self, END, Opened, account, key, session, token};
use crate::state::{
    AccountStore, RevocationStore, SessionSelector, SessionStore, SigningKeyStore, State, StateErrorKind,
};

fn open() -> Opened {
    let directory = tempfile::tempdir().unwrap();
    let open = || Arc::new(Sqlite::open(&directory.path().join("passgate.db")).unwrap());
    Opened {
        one: open(),
        other: open(),
        _directory: Some(directory),
    }
}

contract::suite!(open);

mod in_memory {
    use super::*;

    fn open() -> Opened {
        let state: Arc<dyn State> = Arc::new(Sqlite::in_memory().unwrap());
        Opened {
            one: Arc::clone(&state),
            other: state,
            _directory: None,
        }
    }

    contract::suite!(open);
}

fn is_replaced<T>(outcome: Result<T, StateError>) -> bool {
    outcome.is_err_and(|error| error.kind() == StateErrorKind::Replaced)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn commits_are_flushed_and_references_enforced() {
    let directory = tempfile::tempdir().unwrap();
    let state = Sqlite::open(&directory.path().join("passgate.db")).unwrap();
    let connection = lock(&state.writer);
    let pragma = |name| {
        connection
            .pragma_query_value(None, name, |row| row.get::<_, i64>(0))
            .unwrap()
    };
    assert_eq!(pragma("synchronous"), 2);
    assert_eq!(pragma("foreign_keys"), 1);
    assert_eq!(pragma("secure_delete"), 1);
    assert_eq!(pragma("busy_timeout"), 5000);
    assert_eq!(
        connection
            .pragma_query_value(None, "journal_mode", |row| row.get::<_, String>(0))
            .unwrap(),
        "wal"
    );
}

#[test]
fn what_others_can_write_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("passgate.db");
    drop(Sqlite::open(&path).unwrap());
    for lax in [0o620, 0o602] {
        set_mode(&path, lax);
        let error = Sqlite::open(&path).unwrap_err();
        assert!(
            matches!(error, SqliteError::WritableByOthers { mode, .. } if mode == lax),
            "{error}"
        );
        assert!(error.to_string().contains("chmod go-w"), "{error}");
    }
    // Readable is a warning only.
    set_mode(&path, 0o644);
    drop(Sqlite::open(&path).unwrap());
    set_mode(&path, 0o600);
    fs::write(directory.path().join("passgate.db-wal"), b"planted").unwrap();
    set_mode(&directory.path().join("passgate.db-wal"), 0o666);
    assert!(matches!(
        Sqlite::open(&path),
        Err(SqliteError::WritableByOthers { .. })
    ));
    fs::remove_file(directory.path().join("passgate.db-wal")).unwrap();
    set_mode(directory.path(), 0o777);
    assert!(matches!(Sqlite::open(&path), Err(SqliteError::WritableByOthers { path, .. }) if path.is_dir()));
    set_mode(directory.path(), 0o1777);
    drop(Sqlite::open(&path).unwrap());
}

#[test]
fn a_path_that_cannot_hold_a_file_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let missing = Sqlite::open(&directory.path().join("no/such/passgate.db"))
        .unwrap_err()
        .to_string();
    assert!(
        missing.contains("no/such/passgate.db") && missing.contains("create its directory"),
        "{missing}"
    );
    assert!(matches!(
        Sqlite::open(directory.path()),
        Err(SqliteError::NotAFile { .. })
    ));
    let dangling = directory.path().join("link.db");
    symlink(directory.path().join("nowhere.db"), &dangling).unwrap();
    assert!(matches!(Sqlite::open(&dangling), Err(SqliteError::File { .. })));
}

#[test]
fn a_file_of_a_newer_version_of_another_program_or_of_noise_is_a_clear_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("passgate.db");
    let state = Sqlite::open(&path).unwrap();
    lock(&state.writer)
        .pragma_update(None, "user_version", 1000)
        .unwrap();
    drop(state);
    let error = Sqlite::open(&path).unwrap_err().to_string();
    assert!(
        error.contains("newer passgate") && error.contains("1000"),
        "{error}"
    );

    let other = directory.path().join("app.db");
    Connection::open(&other)
        .unwrap()
        .execute_batch("CREATE TABLE users (id)")
        .unwrap();
    assert!(matches!(
        Sqlite::open(&other),
        Err(SqliteError::OtherProgram { .. })
    ));

    let noise = directory.path().join("noise.db");
    fs::write(&noise, [b'x'; 8192]).unwrap();
    let error = Sqlite::open(&noise).unwrap_err();
    assert!(matches!(error, SqliteError::Damaged { .. }), "{error}");
}

#[test]
fn a_file_that_was_made_and_never_filled_is_taken_as_new() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("passgate.db");
    file::prepare(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), 0);
    Sqlite::open(&path).unwrap().revoke(&token("t", 1, None)).unwrap();
    assert_eq!(Sqlite::open(&path).unwrap().revocations(0).unwrap().len(), 1);
}

#[test]
fn a_file_that_is_deleted_or_replaced_while_open_is_an_error_at_every_call() {
    for victim in ["passgate.db", "passgate.db-wal", "passgate.db-shm"] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("passgate.db");
        let state = Sqlite::open(&path).unwrap();
        state.version().unwrap();
        fs::remove_file(directory.path().join(victim)).unwrap();
        for _ in 0..2 {
            assert!(is_replaced(state.version()), "{victim}");
        }
        assert!(is_replaced(state.revoke(&token("t", 1, None))));
        assert!(is_replaced(state.revocations(0)));
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("passgate.db");
    let state = Sqlite::open(&path).unwrap();
    fs::rename(&path, directory.path().join("old.db")).unwrap();
    fs::copy(directory.path().join("old.db"), &path).unwrap();
    assert!(is_replaced(state.version()));
}

#[test]
fn a_link_that_is_turned_elsewhere_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let link = directory.path().join("link.db");
    drop(Sqlite::open(&directory.path().join("a.db")).unwrap());
    drop(Sqlite::open(&directory.path().join("b.db")).unwrap());
    symlink("a.db", &link).unwrap();
    let state = Sqlite::open(&link).unwrap();
    state.revoke(&token("t", 1, None)).unwrap();
    assert_eq!(
        Sqlite::open(&directory.path().join("a.db"))
            .unwrap()
            .revocations(0)
            .unwrap()
            .len(),
        1
    );
    fs::remove_file(&link).unwrap();
    symlink("b.db", &link).unwrap();
    assert!(is_replaced(state.version()));
}

#[test]
fn readings_wait_for_no_write() {
    let state = open();
    state.one.add_account(&account("a"), Some("ops")).unwrap();
    state.one.revoke(&token("t", 1, None)).unwrap();
    let path = state._directory.as_ref().unwrap().path().join("passgate.db");
    let state = Sqlite::open(&path).unwrap();
    // Another process holds the lock, and a write of ours waits for it.
    let mut another = Connection::open(&path).unwrap();
    let writing = another
        .transaction_with_behavior(TransactionBehavior::Exclusive)
        .unwrap();
    writing.execute("UPDATE accounts SET disabled = 1", []).unwrap();
    writing.execute("DELETE FROM revocations", []).unwrap();
    let waiting = lock(&state.writer);
    let before = state.version().unwrap();
    assert!(!state.account("a").unwrap().unwrap().disabled);
    assert_eq!(state.revocations(0).unwrap().len(), 1);
    writing.commit().unwrap();
    assert!(state.account("a").unwrap().unwrap().disabled);
    assert_ne!(state.version().unwrap(), before);
    drop(waiting);
}

#[test]
fn where_what_was_read_is_no_longer_all_that_was_all_is_read_again() {
    type Deed = fn(&Connection) -> rusqlite::Result<()>;
    let deeds: [(&str, bool, Deed); 4] = [
        ("one more", false, |it| {
            it.execute_batch(
                "UPDATE version SET revocations = 4;
                 INSERT INTO revocations VALUES ('corp', 'token', 't4', 1, NULL, NULL, 4)",
            )
        }),
        ("one is deleted by hand", true, |it| {
            it.execute_batch("DELETE FROM revocations WHERE value = 't2'")
        }),
        // The backup had two of the three.
        ("a backup is restored in place", true, |it| {
            it.execute_batch(
                "DELETE FROM revocations WHERE sequence > 2; UPDATE version SET revocations = 2, lost = 0",
            )
        }),
        ("a backup is restored, and one is added", true, |it| {
            it.execute_batch(
                "DELETE FROM revocations WHERE sequence > 1;
                 INSERT INTO revocations VALUES ('corp', 'token', 't9', 1, NULL, NULL, 2);
                 UPDATE version SET revocations = 2, lost = 0",
            )
        }),
    ];
    for (what, is_whole, deed) in deeds {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("passgate.db");
        let state = Sqlite::open(&path).unwrap();
        for id in ["t1", "t2", "t3"] {
            state.revoke(&token(id, 1, None)).unwrap();
        }
        let seen = state.revocations_after(None, 0).unwrap().version;
        let mut by_hand = Connection::open(&path).unwrap();
        let transaction = by_hand.transaction().unwrap();
        deed(&transaction).unwrap();
        transaction.commit().unwrap();
        assert_ne!(state.version().unwrap(), seen, "{what}");
        let reading = state.revocations_after(Some(seen), 0).unwrap();
        assert_eq!(reading.is_whole, is_whole, "{what}");
        if is_whole {
            assert_eq!(reading.rows.len(), state.revocations(0).unwrap().len(), "{what}");
        }
    }
}

#[test]
fn what_was_written_is_seen_by_the_next_reading() {
    let directory = tempfile::tempdir().unwrap();
    let state = Sqlite::open(&directory.path().join("passgate.db")).unwrap();
    state.add_account(&account("a"), Some("ops")).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let state = &state;
            scope.spawn(move || {
                for number in 0..25 {
                    let id = format!("{thread}-{number}");
                    assert!(state.add_session(&session(&id, "a"), 1).unwrap());
                    assert!(state.session(&id).unwrap().is_some(), "{id}");
                }
            });
        }
    });
}

#[test]
fn a_reading_can_write_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let state = Sqlite::open(&directory.path().join("passgate.db")).unwrap();
    assert!(
        state
            .read("try", |connection| connection.execute("DELETE FROM accounts", []))
            .is_err()
    );
}

#[test]
fn however_many_sessions_are_over_all_are_ended() {
    let directory = tempfile::tempdir().unwrap();
    let state = Sqlite::open(&directory.path().join("passgate.db")).unwrap();
    state.add_account(&account("a"), Some("ops")).unwrap();
    let many = 2 * sessions::OVER_AT_ONCE + 1;
    let ids: Vec<_> = (0..many).map(|number| format!("s{number:05}")).collect();
    state
        .write("prepare a test", |it| {
            ids.iter()
                .try_for_each(|id| sessions::add(it, &session(id, "a"), 1).map(drop))
        })
        .unwrap();
    let mut ended = state
        .end_sessions(SessionSelector::Over { now: 1000, idle: 1 }, &END)
        .unwrap();
    ended.sort();
    assert_eq!(ended, ids);
    assert_eq!(state.sessions(None).unwrap(), []);
    assert_eq!(state.revocations(0).unwrap().len(), many);
}

#[test]
fn what_is_asked_at_every_sign_in_reads_no_whole_table() {
    let directory = tempfile::tempdir().unwrap();
    let state = Sqlite::open(&directory.path().join("passgate.db")).unwrap();
    let plan = |statement: &str| {
        state.read("plan", |connection| {
            let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {statement}"))?;
            let count = statement.parameter_count();
            let rows = statement.query_map(rusqlite::params_from_iter((0..count).map(|_| 1)), |row| {
                row.get(3)
            })?;
            rows.collect::<rusqlite::Result<Vec<String>>>()
        })
    };
    let ended = |condition: &str| format!("DELETE FROM sessions WHERE {condition} AND id IS NOT ?1");
    let over = format!("DELETE FROM sessions WHERE {} RETURNING id", sessions::OVER);
    for statement in [
        accounts::IMPORTED_HASH,
        accounts::LOOKALIKE,
        sessions::WITH_ACCOUNT,
        &over,
        &ended(sessions::OF_PROVIDER_SESSION),
        &ended(sessions::OF_PROVIDER_SUBJECT),
        revocations::LIVE,
        revocations::LATER,
    ] {
        let plan = plan(statement).unwrap().join("; ");
        for table in ["accounts", "sessions", "revocations"] {
            assert!(!plan.contains(&format!("SCAN {table}")), "{statement}: {plan}");
        }
        assert!(plan.contains("SEARCH "), "{plan}");
    }
}

#[test]
fn a_row_that_somebody_broke_is_an_error_that_repeats_none_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let state = Sqlite::open(&directory.path().join("passgate.db")).unwrap();
    state.add_account(&account("a"), Some("ops")).unwrap();
    lock(&state.writer)
        .execute("UPDATE accounts SET roles = '{\"CONTENT\":1}'", [])
        .unwrap();
    let error = state.account("a").unwrap_err();
    assert!(!format!("{error} {error:?}").contains("CONTENT"), "{error:?}");
}

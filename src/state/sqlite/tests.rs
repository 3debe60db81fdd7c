//! What is true of the SQLite engine beyond the contract: the file, other processes, and death at any point.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Child, Command, Stdio};

use super::*;
use crate::state::State;
use crate::state::contract::{self, Opened, key, token};

fn open() -> Opened {
    let directory = tempfile::tempdir().unwrap();
    let open = || Arc::new(Sqlite::open(&directory.path().join("passgate.db")).unwrap());
    Opened { one: open(), other: open(), _directory: Some(directory) }
}

contract::suite!(open);

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn the_file_and_its_log_are_for_the_owner_alone_whatever_the_umask() {
    let directory = tempfile::tempdir().unwrap();
    set_mode(directory.path(), 0o700);
    let path = directory.path().join("passgate.db");
    let mut writer = child(&path, "revoke-forever");
    let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
    assert!(revoked(&mut lines).is_some());
    for name in ["passgate.db", "passgate.db-wal", "passgate.db-shm"] {
        assert_eq!(mode(&directory.path().join(name)), 0o600, "{name}");
    }
    kill(writer);
}

#[test]
fn commits_are_flushed_and_references_enforced() {
    let directory = tempfile::tempdir().unwrap();
    let state = Sqlite::open(&directory.path().join("passgate.db")).unwrap();
    let connection = lock(&state.writer);
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(pragma("synchronous"), 2);
    assert_eq!(pragma("foreign_keys"), 1);
    assert_eq!(pragma("secure_delete"), 1);
    assert_eq!(pragma("busy_timeout"), 5000);
    assert_eq!(connection.pragma_query_value(None, "journal_mode", |row| row.get::<_, String>(0)).unwrap(), "wal");
}

#[test]
fn what_others_can_write_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("passgate.db");
    drop(Sqlite::open(&path).unwrap());
    for lax in [0o620, 0o602] {
        set_mode(&path, lax);
        let error = Sqlite::open(&path).unwrap_err();
        assert!(matches!(error, StateError::WritableByOthers { mode, .. } if mode == lax), "{error}");
        assert!(error.to_string().contains("chmod go-w"), "{error}");
    }
    // Readable is a warning only.
    set_mode(&path, 0o644);
    drop(Sqlite::open(&path).unwrap());
    set_mode(&path, 0o600);
    fs::write(directory.path().join("passgate.db-wal"), b"planted").unwrap();
    set_mode(&directory.path().join("passgate.db-wal"), 0o666);
    assert!(matches!(Sqlite::open(&path), Err(StateError::WritableByOthers { .. })));
    fs::remove_file(directory.path().join("passgate.db-wal")).unwrap();
    set_mode(directory.path(), 0o777);
    assert!(matches!(Sqlite::open(&path), Err(StateError::WritableByOthers { path, .. }) if path.is_dir()));
    set_mode(directory.path(), 0o1777);
    drop(Sqlite::open(&path).unwrap());
}

#[test]
fn a_path_that_cannot_hold_a_file_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let missing = Sqlite::open(&directory.path().join("no/such/passgate.db")).unwrap_err().to_string();
    assert!(missing.contains("no/such/passgate.db") && missing.contains("create its directory"), "{missing}");
    assert!(matches!(Sqlite::open(directory.path()), Err(StateError::NotAFile { .. })));
    let dangling = directory.path().join("link.db");
    symlink(directory.path().join("nowhere.db"), &dangling).unwrap();
    assert!(matches!(Sqlite::open(&dangling), Err(StateError::File { .. })));
}

#[test]
fn a_file_of_a_newer_version_of_another_program_or_of_noise_is_a_clear_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("passgate.db");
    let state = Sqlite::open(&path).unwrap();
    lock(&state.writer).pragma_update(None, "user_version", 1000).unwrap();
    drop(state);
    let error = Sqlite::open(&path).unwrap_err().to_string();
    assert!(error.contains("newer passgate") && error.contains("1000"), "{error}");

    let other = directory.path().join("app.db");
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE users (id)").unwrap();
    assert!(matches!(Sqlite::open(&other), Err(StateError::Foreign { .. })));

    let noise = directory.path().join("noise.db");
    fs::write(&noise, [b'x'; 8192]).unwrap();
    let error = Sqlite::open(&noise).unwrap_err();
    assert!(matches!(error, StateError::Damaged { .. }), "{error}");
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
            assert!(matches!(state.version(), Err(StateError::Replaced { .. })), "{victim}");
        }
        assert!(matches!(state.revoke(&token("t", 1, None)), Err(StateError::Replaced { .. })));
        assert!(matches!(state.revocations(0), Err(StateError::Replaced { .. })));
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("passgate.db");
    let state = Sqlite::open(&path).unwrap();
    fs::rename(&path, directory.path().join("old.db")).unwrap();
    fs::copy(directory.path().join("old.db"), &path).unwrap();
    assert!(matches!(state.version(), Err(StateError::Replaced { .. })));
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
    assert_eq!(Sqlite::open(&directory.path().join("a.db")).unwrap().revocations(0).unwrap().len(), 1);
    fs::remove_file(&link).unwrap();
    symlink("b.db", &link).unwrap();
    assert!(matches!(state.version(), Err(StateError::Replaced { .. })));
}

#[test]
fn two_openings_in_one_process_keep_the_log_while_another_process_comes_and_goes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("passgate.db");
    let first = Sqlite::open(&path).unwrap();
    let second = Sqlite::open(&path).unwrap();
    // It would delete the log if it believed itself the last one.
    assert!(child(&path, "ensure-key").wait_with_output().unwrap().status.success());
    for state in [first, second] {
        state.version().unwrap();
        assert_eq!(state.signing_keys().unwrap().len(), 1);
    }
}

#[test]
fn a_rotated_private_key_is_nowhere_in_the_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("passgate.db");
    let state = Sqlite::open(&path).unwrap();
    let holds = |name: &str, text: &str| {
        let content = fs::read(directory.path().join(name)).unwrap();
        memchr::memmem::find(&content, text.as_bytes()).is_some()
    };
    state.ensure_signing_key(&key("first", 1)).unwrap();
    assert!(holds("passgate.db-wal", "private part of first"));
    state.rotate_signing_key(&key("second", 2), 2, 100).unwrap();
    assert!(!holds("passgate.db", "private part of first") && !holds("passgate.db-wal", "private part of first"));
    assert!(holds("passgate.db", "private part of second"));
}

// What follows starts this test binary again as another process, in `works_as_another_process`.

const TASK: &str = "PASSGATE_TEST_STATE_TASK";
const PATH: &str = "PASSGATE_TEST_STATE_PATH";

/// With a umask that takes no permission away.
fn child(path: &Path, task: &str) -> Child {
    Command::new("/bin/sh")
        .args(["-c", "umask 0; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "state::sqlite::tests::works_as_another_process", "--nocapture"])
        .env(TASK, task)
        .env(PATH, path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The id in the next line `revoked ID` of a child.
fn revoked(lines: &mut impl Iterator<Item = std::io::Result<String>>) -> Option<String> {
    lines.find_map(|line| line.unwrap().split_once("revoked ").map(|(_, id)| id.to_owned()))
}

#[test]
fn works_as_another_process() {
    let (Ok(task), Ok(path)) = (std::env::var(TASK), std::env::var(PATH)) else { return };
    let state = Sqlite::open(Path::new(&path)).unwrap();
    match task.as_str() {
        "revoke-forever" => {
            for number in 0.. {
                let id = format!("{}-{number}", std::process::id());
                state.revoke(&token(&id, 1, None)).unwrap();
                // A parent that is gone ends it.
                if writeln!(std::io::stdout(), "\nrevoked {id}").is_err() {
                    return;
                }
            }
        }
        "ensure-key" => {
            let keys = state.ensure_signing_key(&key(&std::process::id().to_string(), 1)).unwrap();
            println!("\nkeys {}", keys.iter().map(|key| key.key_id.as_str()).collect::<Vec<_>>().join(" "));
        }
        _ => unreachable!("no such task"),
    }
}

#[test]
fn what_was_acknowledged_survives_a_kill_at_any_point() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("passgate.db");
    let mut acknowledged = Vec::new();
    for lives in [1, 7, 40] {
        let mut writer = child(&path, "revoke-forever");
        let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        for _ in 0..lives {
            acknowledged.push(revoked(&mut lines).unwrap());
        }
        kill(writer);
        acknowledged.extend(std::iter::from_fn(|| revoked(&mut lines)));
        let kept = Sqlite::open(&path).unwrap().revocations(0).unwrap();
        for id in &acknowledged {
            assert!(kept.contains(&token(id, 1, None)), "{id} was acknowledged and is lost");
        }
        // At most the one that was under way when it died is there beyond those.
        assert!(kept.len() <= acknowledged.len() + 3);
    }
}

#[test]
fn processes_that_start_at_once_on_a_new_file_end_with_one_key() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("passgate.db");
    let children: Vec<_> = (0..4).map(|_| child(&path, "ensure-key")).collect();
    let outputs: Vec<_> = children
        .into_iter()
        .map(|child| String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap())
        .map(|text| text.lines().find_map(|line| line.strip_prefix("keys ").map(str::to_owned)).expect("a key"))
        .collect();
    let kept = Sqlite::open(&path).unwrap().signing_keys().unwrap();
    assert_eq!(kept.len(), 1);
    assert!(outputs.iter().all(|seen| *seen == kept[0].key_id), "{outputs:?}");
}

#[test]
fn the_version_sees_a_write_of_another_process_before_that_write_is_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("passgate.db");
    let state = Sqlite::open(&path).unwrap();
    let before = state.version().unwrap();
    let mut writer = child(&path, "revoke-forever");
    let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
    assert!(revoked(&mut lines).is_some());
    assert_ne!(state.version().unwrap(), before);
    kill(writer);
}

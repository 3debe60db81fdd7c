//! Other processes, and death at any point: this test binary is started again, as `works_as_another_process`.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use super::*;
use crate::state::contract::{END, account, argon2, client, exchange, seen};
use crate::state::{AccountChange, Added, RefreshRow, Rotation, SessionRow, SessionSelector, TokenHash};

const TASK: &str = "PASSGATE_TEST_STATE_TASK";
const PATH: &str = "PASSGATE_TEST_STATE_PATH";

/// With a umask that takes no permission away.
fn child(path: &Path, task: &str) -> Child {
    Command::new("/bin/sh")
        .args(["-c", "umask 0; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "state::sqlite::tests::processes::works_as_another_process",
            "--nocapture",
        ])
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
    let (Ok(task), Ok(path)) = (std::env::var(TASK), std::env::var(PATH)) else {
        return;
    };
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
        "sign-in-forever" => sign_in_forever(&state),
        "ensure-key" => {
            let keys = state
                .ensure_signing_key(&key(&std::process::id().to_string(), 1))
                .unwrap();
            println!(
                "\nkeys {}",
                keys.iter()
                    .map(|key| key.key_id.as_str())
                    .collect::<Vec<_>>()
                    .join(" ")
            );
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
            assert!(
                kept.contains(&token(id, 1, None)),
                "{id} was acknowledged and is lost"
            );
        }
        // At most the one that was under way when it died is there beyond those.
        assert!(kept.len() <= acknowledged.len() + 3);
    }
}

/// The hash of the token of an account's session after so many exchanges.
fn nth_token(number: u64) -> TokenHash {
    *blake3::hash(&number.to_le_bytes()).as_bytes()
}

const EXCHANGES: u64 = 4;

/// Each write is a line as soon as it is acknowledged: `NAME did WORD`. Every other account goes all the way to its end.
fn sign_in_forever(state: &Sqlite) {
    let say = |name: &str, word: &str| writeln!(std::io::stdout(), "\n{name} did {word}").is_ok();
    let refresh = Some(RefreshRow {
        current: nth_token(0),
        previous: None,
        rotated_at: 0,
    });
    for number in 0.. {
        let name = format!("{}-{number}", std::process::id());
        assert_eq!(state.add_account(&account(&name), None).unwrap(), Added::Done);
        let mut is_heard = say(&name, "register");
        assert!(
            state
                .add_session(
                    &SessionRow {
                        refresh,
                        ..client(&name, &name, 0)
                    },
                    1
                )
                .unwrap()
        );
        is_heard &= say(&name, "sign-in");
        for number in 0..EXCHANGES {
            let (presented, successor) = (nth_token(number), nth_token(number + 1));
            let now = 1000 + number.cast_signed();
            let rotation = state
                .rotate_refresh(&exchange(
                    &name,
                    &presented,
                    &successor,
                    10,
                    seen(now, "192.0.2.7", 240),
                ))
                .unwrap();
            assert_eq!(rotation, Rotation::Rotated);
            is_heard &= say(&name, "exchange");
        }
        if number % 2 == 1 {
            let change = AccountChange {
                password_hash: Some(argon2(1)),
                ..AccountChange::default()
            };
            state.change_account(&name, &change, &END).unwrap().unwrap();
            is_heard &= say(&name, "change");
            assert_eq!(
                state.end_sessions(SessionSelector::One(&name), &END).unwrap(),
                [name.as_str()]
            );
            is_heard &= say(&name, "end");
        }
        // A parent that is gone ends it.
        if !is_heard {
            return;
        }
    }
}

/// How many writes were acknowledged about each name: they come in one order.
fn acknowledge(lines: impl Iterator<Item = String>, known: &mut BTreeMap<String, u64>) {
    for line in lines {
        if let Some((name, _)) = line.split_once(" did ") {
            *known.entry(name.to_owned()).or_default() += 1;
        }
    }
}

#[test]
fn accounts_sessions_and_exchanges_survive_a_kill_at_any_point() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("passgate.db");
    let mut acknowledged = BTreeMap::new();
    for lives in [1, 2, 6, 13, 60] {
        let mut writer = child(&path, "sign-in-forever");
        let mut lines = BufReader::new(writer.stdout.take().unwrap())
            .lines()
            .map(Result::unwrap);
        acknowledge(
            lines.by_ref().filter(|line| line.contains(" did ")).take(lives),
            &mut acknowledged,
        );
        kill(writer);
        acknowledge(lines, &mut acknowledged);
        let state = Sqlite::open(&path).unwrap();
        let revocations = state.revocations(0).unwrap();
        // Nothing beyond what was acknowledged but the one write that was under way.
        assert!(state.accounts().unwrap().len() <= acknowledged.len() + 1);
        for (name, writes) in &acknowledged {
            let account = state
                .account(name)
                .unwrap()
                .expect("an account that was acknowledged");
            let is_revoked = revocations.contains(&END.revocation(name, Some(240)));
            // One write more may have arrived.
            let after = |write: u64| (*writes >= write, *writes + 1 >= write);
            let holds = |is: bool, write: u64| {
                let (must, may) = after(write);
                assert!(
                    is >= must && is <= may,
                    "{name} after {writes}: {is} for write {write}"
                );
            };
            holds(
                account.password_version == 2 && account.password_hash == Some(argon2(1)),
                EXCHANGES + 3,
            );
            holds(is_revoked, EXCHANGES + 4);
            let Some((session, _)) = state.session(name).unwrap() else {
                assert!(is_revoked || *writes < 2, "{name} after {writes} has no session");
                continue;
            };
            assert!(!is_revoked, "{name} ended, and is there");
            let refresh = session.refresh.unwrap();
            let exchanges = (0..=EXCHANGES)
                .find(|number| nth_token(*number) == refresh.current)
                .unwrap();
            assert!(
                exchanges + 2 == (*writes).min(EXCHANGES + 2) || exchanges + 1 == *writes,
                "{name}: {exchanges}"
            );
            assert_eq!(refresh.previous, exchanges.checked_sub(1).map(nth_token));
        }
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
        .map(|text| {
            text.lines()
                .find_map(|line| line.strip_prefix("keys ").map(str::to_owned))
                .expect("a key")
        })
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
fn two_openings_in_one_process_keep_the_log_while_another_process_comes_and_goes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("passgate.db");
    let first = Sqlite::open(&path).unwrap();
    let second = Sqlite::open(&path).unwrap();
    // It would delete the log if it believed itself the last one.
    assert!(
        child(&path, "ensure-key")
            .wait_with_output()
            .unwrap()
            .status
            .success()
    );
    for state in [first, second] {
        state.version().unwrap();
        assert_eq!(state.signing_keys().unwrap().len(), 1);
    }
}

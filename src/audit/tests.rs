#![allow(clippy::unwrap_used)]
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use serde_json::Value;

use super::*;
use crate::state::sqlite::Sqlite;
use crate::state::{AccountRow, AccountStore as _, EndCause, EndSessions};

fn at(directory: &tempfile::TempDir) -> (Audit, PathBuf) {
    let path = directory.path().join("audit.log");
    (Audit::at(Some(path.clone())), path)
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn refused(email: &str) -> Event {
    Event::SignInRefused {
        email: Some(text(email)),
        provider: None,
        reason: "login-refused",
    }
}

fn account(id: &str) -> AccountRow {
    AccountRow {
        id: id.to_owned(),
        email: format!("{id}@example.com"),
        email_key: format!("{id}@example.com"),
        name: None,
        roles: vec!["user".to_owned()],
        password_hash: None,
        disabled: false,
        confirmed: true,
        created_at: 1,
        granted_roles: Vec::new(),
        password_version: 0,
        revision: 0,
    }
}

#[test]
fn file_is_made_for_its_owner_and_lines_are_there_at_return() {
    let directory = tempfile::tempdir().unwrap();
    let (audit, path) = at(&directory);
    audit
        .record(&Origin::gateway(), &[refused("a@example.com"), refused("b")])
        .unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let lines = lines(&path);
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["event"], "sign-in-refused");
    assert_eq!(lines[0]["email"], "a@example.com");
    assert_eq!(lines[0]["actor"]["kind"], "gateway");
    let time = lines[0]["time"].as_str().unwrap();
    assert!(
        time.len() == 24 && time.ends_with('Z') && time.as_bytes()[19] == b'.',
        "{time}"
    );
}

#[test]
fn without_a_file_nothing_is_written_and_nothing_fails() {
    let audit = Audit::default();
    audit.record(&Origin::gateway(), &[refused("a")]).unwrap();
    assert_eq!(audit.scoped(&Origin::gateway(), || 7), Ok(7));
}

#[test]
fn text_of_a_client_neither_breaks_a_line_nor_makes_it_long() {
    let directory = tempfile::tempdir().unwrap();
    let (audit, path) = at(&directory);
    let hostile = format!("\u{1b}[2J\n\"}}{{\u{2028}\u{9b}\u{202e}{}", "x".repeat(100_000));
    audit.record(&Origin::gateway(), &[refused(&hostile)]).unwrap();
    let written = std::fs::read_to_string(&path).unwrap();
    assert!(written.len() < 2000 && written.lines().count() == 1);
    assert!(
        !written.contains(['\u{1b}', '\u{2028}', '\u{9b}', '\u{202e}']),
        "{written}"
    );
}

#[test]
fn line_that_another_process_left_half_stays_apart() {
    let directory = tempfile::tempdir().unwrap();
    let (audit, path) = at(&directory);
    std::fs::write(&path, "{\"time\":\"20").unwrap();
    audit.record(&Origin::gateway(), &[refused("a")]).unwrap();
    let written = std::fs::read_to_string(&path).unwrap();
    let (half, whole) = written.split_once('\n').unwrap();
    assert_eq!(half, "{\"time\":\"20");
    assert!(serde_json::from_str::<Value>(whole).is_ok(), "{whole}");
}

#[test]
fn many_writers_at_once_lose_and_mix_no_line() {
    let directory = tempfile::tempdir().unwrap();
    let (audit, path) = at(&directory);
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let audit = &audit;
            scope.spawn(move || {
                for number in 0..50 {
                    let email = format!("{writer}-{number}");
                    audit.record(&Origin::gateway(), &[refused(&email)]).unwrap();
                }
            });
        }
    });
    let mut emails: Vec<String> = lines(&path)
        .iter()
        .map(|line| line["email"].to_string())
        .collect();
    emails.sort();
    emails.dedup();
    assert_eq!(emails.len(), 400);
}

#[test]
fn full_disk_is_an_error_and_recovers_with_another_file() {
    let directory = tempfile::tempdir().unwrap();
    let (_, path) = at(&directory);
    let full = File::options().append(true).read(true).open("/dev/full").unwrap();
    let shared = Shared {
        path: path.clone(),
        writer: Mutex::new(Some(start(full).unwrap())),
    };
    let audit = Audit(Some(Arc::new(shared)));
    let error = audit.record(&Origin::gateway(), &[refused("a")]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    let opened = || Event::SignedIn {
        account: Whom::new("a", None),
        session: "s1".to_owned(),
        kind: "browser",
        provider: None,
    };
    let scoped = audit.scoped(&Origin::gateway(), || scope::note(vec![opened()]).is_none());
    assert_eq!(scoped.unwrap_err().opened, ["s1"], "the session has to end");
    audit.reopen().unwrap();
    audit.record(&Origin::gateway(), &[refused("b")]).unwrap();
    assert_eq!(lines(&path)[0]["email"], "b");
}

#[test]
fn what_is_no_file_or_has_no_directory_is_refused_before_anything_is_done() {
    let directory = tempfile::tempdir().unwrap();
    assert!(check_place(directory.path()).is_err());
    assert!(check_place(Path::new("/dev/null")).is_err());
    let gone = directory.path().join("gone/audit.log");
    assert!(check_place(&gone).unwrap_err().contains("gone"));
    let place = directory.path().join("audit.log");
    check_place(&place).unwrap();
    assert!(!place.exists(), "a check makes nothing");
    let state = RecordedState::new(
        Arc::new(Sqlite::in_memory().unwrap()),
        Audit::at(Some(gone)),
        Outside::Command(Origin::command()),
    );
    state.add_account(&account("ann"), None).unwrap_err();
    assert!(
        state.accounts().unwrap().is_empty(),
        "the command changed nothing"
    );
}

#[test]
fn work_that_panics_leaves_the_lines_of_what_it_did_and_no_scope() {
    let directory = tempfile::tempdir().unwrap();
    let (audit, path) = at(&directory);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        audit.scoped(&Origin::gateway(), || {
            assert!(scope::note(vec![refused("a")]).is_none());
            panic!("as it happens");
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(lines(&path).len(), 1);
    assert!(
        scope::note(vec![refused("b")]).is_some(),
        "the thread works for no request now"
    );
}

#[test]
fn change_of_an_account_names_what_was_before_and_what_is_after() {
    let directory = tempfile::tempdir().unwrap();
    let (audit, path) = at(&directory);
    let origin = Origin::command();
    let state = RecordedState::new(
        Arc::new(Sqlite::in_memory().unwrap()),
        audit,
        Outside::Command(origin),
    );
    state.add_account(&account("ann"), None).unwrap();
    let end = EndSessions {
        now: 10,
        revoked_until: 20,
        keep: None,
        cause: EndCause::Command,
    };
    let change = crate::state::AccountChange {
        roles: Some(vec!["admin".to_owned(), "user".to_owned()]),
        password_hash: Some("$2b$04$SECRET".to_owned()),
        ends_sessions: true,
        ..Default::default()
    };
    state.change_account("ann", &change, &end).unwrap();
    state.delete_account("ann", &end).unwrap();
    let lines = lines(&path);
    let names: Vec<&str> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "account-created",
            "password-changed",
            "roles-changed",
            "account-deleted"
        ]
    );
    assert_eq!(lines[2]["before"], serde_json::json!(["user"]));
    assert_eq!(lines[2]["after"], serde_json::json!(["admin", "user"]));
    assert_eq!(
        lines[2]["account"],
        serde_json::json!({"id": "ann", "email": "ann@example.com"})
    );
    assert_eq!(lines[2]["actor"]["kind"], "command");
    assert_eq!(
        lines[2]["actor"]["uid"],
        serde_json::json!(rustix::process::getuid().as_raw())
    );
    assert!(!std::fs::read_to_string(&path).unwrap().contains("SECRET"));
}

/// The source is read, so that an event without a line in the page fails.
#[test]
fn page_of_the_audit_log_names_every_event_and_every_cause() {
    let page = include_str!("../../docs/audit-log.md");
    let variants = |source: &str, head: &str| -> Vec<String> {
        let body = source.split_once(head).unwrap().1;
        let body = body.split_once("\n}").unwrap().0;
        let names = body.lines().filter_map(|line| {
            let rest = line.strip_prefix("    ")?;
            let name: String = rest.chars().take_while(char::is_ascii_alphabetic).collect();
            rest.starts_with(|first: char| first.is_ascii_uppercase())
                .then_some(name)
        });
        names
            .map(|name| {
                let letters = name.chars().flat_map(|letter| {
                    let dash = letter.is_ascii_uppercase().then_some('-');
                    dash.into_iter().chain([letter.to_ascii_lowercase()])
                });
                letters.collect::<String>()[1..].to_owned()
            })
            .collect()
    };
    let events = variants(include_str!("event.rs"), "pub(crate) enum Event {");
    let causes = variants(include_str!("../state/ending.rs"), "pub enum EndCause {");
    assert!(events.len() > 15 && causes.len() > 10, "{events:?} {causes:?}");
    for name in events.iter().chain(&causes).filter(|name| *name != "expired") {
        assert!(
            page.contains(&format!("`{name}`")),
            "docs/audit-log.md lacks `{name}`"
        );
    }
}

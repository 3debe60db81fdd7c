//! What is in force, who hears of it, and that a reading from before a write never undoes it.
use super::*;
use serde_json::Map;

fn identity(issuer: &str, subject: &str, token_id: Option<&str>, issued_at: Option<UnixSeconds>) -> Identity {
    Identity {
        issuer: issuer.into(),
        subject: subject.to_owned(),
        email: None,
        name: None,
        roles: Vec::new(),
        scopes: Vec::new(),
        token_id: token_id.map(str::to_owned),
        session_id: None,
        issued_at,
        expires_at: 1_000,
        claims: Map::new(),
    }
}

fn row(issuer: &str, target: Target, revoked_at: UnixSeconds) -> Revocation {
    Revocation {
        issuer: issuer.to_owned(),
        target,
        revoked_at,
        expires_at: None,
    }
}

#[test]
fn a_token_id_is_revoked_at_its_own_issuer_only() {
    let revocations = Revocations::new();
    let now = Instant::now();
    assert_eq!(
        revocations.check("corp", &identity("corp", "ann", Some("1"), None), now),
        Ok(())
    );
    revocations.replace([row("corp", Target::Token("1".into()), 100)]);
    assert_eq!(
        revocations.check("corp", &identity("corp", "ann", Some("1"), Some(500)), now),
        Err(Refusal::Revoked)
    );
    assert_eq!(
        revocations.check("corp", &identity("corp", "ann", Some("2"), Some(500)), now),
        Ok(())
    );
    assert_eq!(
        revocations.check("corp", &identity("corp", "1", None, Some(500)), now),
        Ok(())
    );
    assert_eq!(
        revocations.check("other", &identity("other", "ann", Some("1"), Some(500)), now),
        Ok(())
    );
    revocations.replace([]);
    assert_eq!(
        revocations.check("corp", &identity("corp", "ann", Some("1"), None), now),
        Ok(())
    );
}

#[test]
fn everything_that_a_subject_was_issued_up_to_the_moment_is_revoked() {
    let revocations = Revocations::new();
    let now = Instant::now();
    let subject = |at| row("corp", Target::Subject("ann".into()), at);
    revocations.replace([subject(100), subject(200), subject(150)]);
    assert_eq!(revocations.len(), 1);
    for (issued_at, expected) in [
        (Some(199), Err(Refusal::Revoked)),
        (Some(200), Err(Refusal::Revoked)),
        (Some(201), Ok(())),
        (None, Err(Refusal::Revoked)),
    ] {
        assert_eq!(
            revocations.check("corp", &identity("corp", "ann", None, issued_at), now),
            expected,
            "{issued_at:?}"
        );
    }
    assert_eq!(
        revocations.check("corp", &identity("corp", "bob", None, None), now),
        Ok(())
    );
}

#[test]
fn nobody_is_let_in_while_an_attached_store_is_silent() {
    let revocations = Revocations::new();
    let ann = identity("corp", "ann", None, None);
    let start = revocations.start;
    let after = |seconds| start + Duration::from_secs(seconds);
    assert_eq!(revocations.check("corp", &ann, after(1_000)), Ok(()), "no store");
    revocations.attach();
    assert_eq!(
        revocations.check("corp", &ann, after(1)),
        Err(Refusal::StateUnavailable),
        "never read"
    );
    revocations.touch(after(1));
    assert_eq!(revocations.check("corp", &ann, after(11)), Ok(()));
    assert_eq!(
        revocations.check("corp", &ann, after(12)),
        Err(Refusal::StateUnavailable),
        "not read for too long"
    );
    revocations.touch(after(20));
    revocations.touch(after(5));
    revocations.attach();
    assert_eq!(revocations.check("corp", &ann, after(30)), Ok(()));
    // What is known to be revoked stays so, however old that knowledge is.
    assert!(!revocations.covers("corp", &ann));
    revocations.replace([row("corp", Target::Subject("ann".into()), 100)]);
    assert!(revocations.covers("corp", &ann));
    assert_eq!(
        revocations.check("corp", &ann, after(40)),
        Err(Refusal::StateUnavailable)
    );
}

fn session(id: &str) -> Revocation {
    row("session", Target::Session(id.to_owned()), 100)
}

fn of_session(id: &str) -> Identity {
    Identity {
        session_id: Some(id.to_owned()),
        ..identity("session", "ann", Some("t"), Some(500))
    }
}

fn of_revision(session_id: Option<&str>, revision: Option<i64>) -> Identity {
    let claims = revision
        .map(|revision| (REVISION_CLAIM.to_owned(), revision.into()))
        .into_iter()
        .collect();
    Identity {
        session_id: session_id.map(str::to_owned),
        claims,
        ..of_session("s1")
    }
}

#[test]
fn a_token_of_an_earlier_revision_is_stale_and_one_without_a_session_never() {
    let revocations = Revocations::new();
    let now = Instant::now();
    let stale = |revision| {
        row(
            "session",
            Target::Stale {
                subject: "ann".to_owned(),
                revision,
            },
            100,
        )
    };
    revocations.replace([stale(3), stale(5), stale(4)]);
    assert_eq!(revocations.len(), 1);
    for (revision, expected) in [
        (None, Err(Refusal::Stale)),
        (Some(4), Err(Refusal::Stale)),
        (Some(5), Ok(())),
        (Some(6), Ok(())),
    ] {
        assert_eq!(
            revocations.check("session", &of_revision(Some("s1"), revision), now),
            expected,
            "{revision:?}"
        );
        assert_eq!(
            revocations.check("session", &of_revision(None, revision), now),
            Ok(()),
            "{revision:?}"
        );
        assert_eq!(
            revocations.check("corp", &of_revision(Some("s1"), revision), now),
            Ok(()),
            "{revision:?}"
        );
    }
    let bob = Identity {
        subject: "bob".to_owned(),
        ..of_revision(Some("s1"), None)
    };
    assert_eq!(revocations.check("session", &bob, now), Ok(()));
    assert!(
        !revocations.covers_session("session", "s1", "ann", 0),
        "its session goes on"
    );
}

#[test]
fn what_is_revoked_and_stale_is_revoked() {
    let revocations = Revocations::new();
    let now = Instant::now();
    let stale = row(
        "session",
        Target::Stale {
            subject: "ann".to_owned(),
            revision: 1,
        },
        100,
    );
    revocations.replace([stale.clone()]);
    assert_eq!(revocations.generation(), 1);
    let earlier = of_revision(Some("s1"), Some(0));
    assert_eq!(revocations.check("session", &earlier, now), Err(Refusal::Stale));
    assert!(!revocations.covers("session", &earlier), "what is open goes on");
    revocations.replace([stale.clone()]);
    assert_eq!(revocations.generation(), 1, "nothing new");
    revocations.replace([stale, session("s1")]);
    assert_eq!(revocations.check("session", &earlier, now), Err(Refusal::Revoked));
    assert!(revocations.covers("session", &earlier));
    assert_eq!(
        revocations.check("session", &of_revision(Some("s1"), Some(1)), now),
        Err(Refusal::Revoked)
    );
}

#[test]
fn a_session_is_over_for_all_its_tokens_and_for_no_others() {
    let revocations = Revocations::new();
    let now = Instant::now();
    revocations.replace([session("s1")]);
    assert_eq!(
        revocations.check("session", &of_session("s1"), now),
        Err(Refusal::Revoked)
    );
    assert_eq!(revocations.check("session", &of_session("s2"), now), Ok(()));
    assert_eq!(revocations.check("corp", &of_session("s1"), now), Ok(()));
    assert!(revocations.covers_session("session", "s1", "ann", 500));
    assert!(!revocations.covers_session("session", "s2", "ann", 500));
    revocations.replace([row("session", Target::Subject("ann".into()), 100)]);
    assert!(revocations.covers_session("session", "s2", "ann", 100));
    assert!(!revocations.covers_session("session", "s2", "ann", 101));
    assert!(!revocations.covers_session("session", "s2", "bob", 100));
    assert!(!revocations.covers_session("corp", "s2", "ann", 100));
}

#[test]
fn what_is_added_leaves_the_rest_in_force() {
    let revocations = Revocations::new();
    let subject = |at| row("session", Target::Subject("bob".into()), at);
    revocations.replace([
        session("s1"),
        row("corp", Target::Token("1".into()), 100),
        subject(200),
    ]);
    let add =
        |rows: &[Revocation]| revocations.reconcile(|| Ok::<_, Refusal>(((), Change::Add(rows.to_vec()))));
    assert_eq!(add(&[session("s2"), subject(100)]), Ok(()));
    assert_eq!(revocations.len(), 4);
    let now = Instant::now();
    for id in ["s1", "s2"] {
        assert_eq!(
            revocations.check("session", &of_session(id), now),
            Err(Refusal::Revoked),
            "{id}"
        );
    }
    let bob = identity("session", "bob", None, Some(200));
    assert_eq!(
        revocations.check("session", &bob, now),
        Err(Refusal::Revoked),
        "the later one counts"
    );
}

#[test]
fn work_that_failed_changes_nothing_and_what_it_returns_comes_back() {
    let revocations = Revocations::new();
    revocations.replace([session("s1")]);
    let failed: Result<(), _> = revocations.reconcile(|| Err(Refusal::StateUnavailable));
    assert_eq!((failed, revocations.len()), (Err(Refusal::StateUnavailable), 1));
    let done = revocations.reconcile(|| Ok::<_, Refusal>((7, Change::Replace(Vec::new()))));
    assert_eq!((done, revocations.is_empty()), (Ok(7), true));
}

#[test]
fn the_bell_rings_for_what_was_not_in_force_before_and_for_nothing_else() {
    let revocations = Revocations::new();
    let mut bell = revocations.subscribe();
    let subject = |at| row("corp", Target::Subject("ann".into()), at);
    let mut rings = |what: Change, expected: bool| {
        let before = revocations.generation();
        let text = format!("{what:?}");
        revocations.reconcile(|| Ok::<_, Refusal>(((), what))).unwrap();
        assert_eq!(bell.has_changed().unwrap(), expected, "{text}");
        assert_eq!(revocations.generation(), before + u64::from(expected), "{text}");
        assert_eq!(*bell.borrow_and_update(), revocations.generation(), "{text}");
    };
    rings(Change::Replace(Vec::new()), false);
    rings(Change::Add(Vec::new()), false);
    rings(Change::Replace(vec![session("s1"), subject(100)]), true);
    rings(Change::Replace(vec![subject(100), session("s1")]), false);
    rings(Change::Add(vec![session("s1")]), false);
    rings(Change::Add(vec![session("s2"), session("s3")]), true);
    rings(Change::Replace(vec![session("s3")]), false);
    rings(Change::Replace(vec![session("s3"), subject(100)]), true);
    rings(Change::Add(vec![subject(99)]), false);
    rings(Change::Add(vec![subject(101)]), true);
    rings(
        Change::Add(vec![row("other", Target::Session("s3".into()), 100)]),
        true,
    );
    rings(
        Change::Add(vec![row("session", Target::Token("s3".into()), 100)]),
        true,
    );
}

#[tokio::test]
async fn who_hears_the_bell_finds_the_row_in_force() {
    let revocations = Arc::new(Revocations::new());
    let ringer = Arc::clone(&revocations);
    let mut bell = revocations.subscribe();
    let rows = 200;
    let thread = std::thread::spawn(move || {
        for index in 1..=rows {
            let added = Change::Add(vec![session(&index.to_string())]);
            ringer.reconcile(|| Ok::<_, Refusal>(((), added))).unwrap();
        }
    });
    let mut heard = 0;
    while heard < rows {
        bell.changed().await.unwrap();
        heard = *bell.borrow_and_update();
        let verdict = revocations.check("session", &of_session(&heard.to_string()), Instant::now());
        assert_eq!(verdict, Err(Refusal::Revoked), "{heard}");
    }
    thread.join().unwrap();
    assert_eq!(revocations.len() as u64, rows);
}

#[test]
fn a_reading_from_before_a_write_does_not_undo_it() {
    let revocations = Arc::new(Revocations::new());
    // What the store holds.
    let store = Arc::new(Mutex::new(Vec::new()));
    let (read, is_read) = std::sync::mpsc::sync_channel(0);
    let watcher = {
        let (revocations, store) = (Arc::clone(&revocations), Arc::clone(&store));
        std::thread::spawn(move || {
            revocations.reconcile(|| {
                let stale = store.lock().unwrap().clone();
                read.send(()).unwrap();
                // The writer has every chance to come in between here, if it can.
                for _ in 0..10_000 {
                    std::thread::yield_now();
                }
                Ok::<_, Refusal>(((), Change::Replace(stale)))
            })
        })
    };
    is_read.recv().unwrap();
    revocations
        .reconcile(|| {
            store.lock().unwrap().push(session("s1"));
            Ok::<_, Refusal>(((), Change::Add(vec![session("s1")])))
        })
        .unwrap();
    watcher.join().unwrap().unwrap();
    let verdict = revocations.check("session", &of_session("s1"), Instant::now());
    assert_eq!(verdict, Err(Refusal::Revoked));
}

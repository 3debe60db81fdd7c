//! Watches the state, which other processes write too, and the certificates. One thread, because both block.
//!
//! Input: the state. Output: revocations and signing keys as the workers read them. Invariants: our keys are announced before
//! a token is signed with a new one; a clock that is wrong for a moment forgets no revocation.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::clock::{Clock, UnixSeconds};
use crate::server::tls::{Certificates, News};
use crate::signing::SigningKeys;
use crate::state::{Reading, State, StateError, Version};
use crate::values::SigningAlgorithm;
use crate::verify::{Change, Revocations};

/// The longest wait for a change of the state: a revocation of another process holds after a second at most.
const STATE_INTERVAL: Duration = Duration::from_millis(250);
/// How far apart two looks at the clock are that both find a revocation to have expired before it is forgotten: a clock
/// that is wrong for a moment forgets none.
const CERTAINTY_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// How often certificates are looked at.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(2);
/// How often a certificate that ends soon is warned of.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(86_400);

/// The part of the state that workers read.
#[derive(Debug)]
pub(super) struct StateSnapshot {
    pub(super) state: Arc<dyn State>,
    pub(super) revocations: Arc<Revocations>,
    pub(super) signing: Arc<ArcSwap<SigningKeys>>,
    pub(super) clock: Clock,
    /// Of the first key of a state without one.
    algorithm: SigningAlgorithm,
    /// The version that was read at the start.
    opened: Version,
}

impl StateSnapshot {
    /// Reads everything for the first time.
    ///
    /// # Errors
    /// The state cannot be read; then nothing must be served.
    pub(super) fn open(
        state: Arc<dyn State>,
        algorithm: SigningAlgorithm,
        clock: Clock,
    ) -> anyhow::Result<Self> {
        let now = clock.now();
        let signing = SigningKeys::load_or_create(&*state, algorithm, now)?;
        let revocations = Arc::new(Revocations::new());
        revocations.attach();
        // What has expired as well: the clock may be wrong at a start.
        let version = read_all(&revocations, |seen| {
            state.revocations_after(seen, UnixSeconds::MIN)
        })?;
        Ok(Self {
            state,
            revocations,
            signing: Arc::new(ArcSwap::from_pointee(signing)),
            clock,
            algorithm,
            opened: version,
        })
    }

    /// Reads what is new since the last time. `announce` gets our keys before the first token is signed with a new one:
    /// otherwise a session that is renewed at that moment would be refused.
    fn refresh(&self, seen: &mut Seen, announce: &dyn Fn(&SigningKeys)) -> Result<(), StateError> {
        let asked = Instant::now();
        let now = self.clock.now();
        seen.look_at_the_clock(asked, now);
        let version = self.state.version()?;
        if seen.version != version {
            // In one piece, so that what this process revokes meanwhile is not forgotten again.
            let read = self.revocations.reconcile(|| {
                self.state
                    .revocations_after(Some(seen.version), seen.over)
                    .map(change)
            })?;
            seen.are_keys_new |= !read.has_keys_of(&seen.version);
            seen.version = read;
        }
        if seen.are_keys_new {
            match SigningKeys::load_or_create(&*self.state, self.algorithm, now) {
                Ok(keys) => {
                    announce(&keys);
                    self.signing.store(Arc::new(keys));
                }
                Err(error) => tracing::error!(%error, "cannot read the signing keys; those in use are kept"),
            }
            seen.are_keys_new = false;
        }
        self.revocations.touch(asked);
        self.revocations.sweep(seen.over);
        if seen.has_old {
            seen.has_old = self.state.purge_revocations(seen.over)?;
        }
        Ok(())
    }
}

/// Reads all revocations, and then those that were written meanwhile. A million rows take longer to read than a reading counts
/// as fresh: after the first reading alone the gateway would start with refusals.
fn read_all(
    revocations: &Revocations,
    mut read: impl FnMut(Option<Version>) -> Result<Reading, StateError>,
) -> Result<Version, StateError> {
    let all = read(None)?;
    revocations.replace(all.rows);
    let asked = Instant::now();
    let version = revocations.reconcile(|| read(Some(all.version)).map(change))?;
    revocations.touch(asked);
    Ok(version)
}

fn change(reading: Reading) -> (Version, Change) {
    let change = if reading.is_whole {
        Change::Replace(reading.rows)
    } else {
        Change::Add(reading.rows)
    };
    (reading.version, change)
}

/// What the thread that watches knows.
#[derive(Debug)]
struct Seen {
    /// What was read up to.
    version: Version,
    /// Whether the keys have changed, and were not read since.
    are_keys_new: bool,
    /// When the clock was last looked at, and what it said.
    clock: (Instant, UnixSeconds),
    /// What has expired at this time has certainly expired.
    over: UnixSeconds,
    /// Whether there may be something in the state that has.
    has_old: bool,
}

impl Seen {
    fn new(version: Version, asked: Instant, now: UnixSeconds) -> Self {
        Self {
            version,
            are_keys_new: true,
            clock: (asked, now),
            over: UnixSeconds::MIN,
            has_old: false,
        }
    }

    fn look_at_the_clock(&mut self, asked: Instant, now: UnixSeconds) {
        let (before, then) = self.clock;
        if asked.saturating_duration_since(before) >= CERTAINTY_INTERVAL {
            self.over = then.min(now);
            self.has_old = true;
            self.clock = (asked, now);
        }
    }
}

/// The thread that watches. It ends soon after this is dropped.
#[derive(Debug)]
pub(super) struct StateWatcher {
    is_stopped: Arc<AtomicBool>,
}

impl StateWatcher {
    /// Starts it. `announce` gets our keys before they are used, also where they have not changed.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub(super) fn start(
        mirror: Arc<StateSnapshot>,
        certificates: Option<Arc<Certificates>>,
        announce: impl Fn(&SigningKeys) + Send + 'static,
    ) -> std::io::Result<Self> {
        let is_stopped = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&is_stopped);
        std::thread::Builder::new()
            .name("state".to_owned())
            .spawn(move || watch(&mirror, certificates.as_deref(), &announce, &stopped))?;
        Ok(Self { is_stopped })
    }
}

impl Drop for StateWatcher {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }
}

fn watch(
    mirror: &StateSnapshot,
    certificates: Option<&Certificates>,
    announce: &dyn Fn(&SigningKeys),
    is_stopped: &AtomicBool,
) {
    let mut seen = Seen::new(mirror.opened, Instant::now(), mirror.clock.now());
    let mut failing = false;
    let mut certificates_seen = Instant::now();
    let mut expiry_said: Option<Instant> = None;
    loop {
        let changed = mirror.state.wait_for_change(seen.version, STATE_INTERVAL);
        if is_stopped.load(Ordering::Relaxed) {
            return;
        }
        match changed.and_then(|_| mirror.refresh(&mut seen, announce)) {
            Ok(()) => {
                if std::mem::take(&mut failing) {
                    tracing::info!("the state can be read again");
                }
            }
            // Logged once: the state is read four times a second.
            Err(error) if !std::mem::replace(&mut failing, true) => tracing::error!(
                %error,
                "cannot read the state, so revocations may be missed; authenticated requests will be refused with 503 after \
                 10 seconds"
            ),
            Err(_) => {}
        }
        if let Some(certificates) = certificates
            && certificates_seen.elapsed() >= CERTIFICATE_INTERVAL
        {
            certificates_seen = Instant::now();
            let now = mirror.clock.now();
            for news in certificates.refresh(now) {
                match news {
                    News::Taken(text) => tracing::info!("{text}"),
                    News::Kept(text) => tracing::warn!("{text}"),
                }
            }
            if expiry_said.is_none_or(|said| said.elapsed() >= EXPIRY_INTERVAL) {
                expiry_said = Some(Instant::now());
                certificates
                    .expiring(now)
                    .iter()
                    .for_each(|text| tracing::warn!("{text}"));
            }
        }
        // A key's time runs out also where nothing has changed, and a configuration may have been read again meanwhile.
        announce(&mirror.signing.load());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::revocation::{Revocation, Target};
    use crate::state::sqlite::Sqlite;

    #[test]
    fn revocation_written_during_the_first_reading_is_read_at_the_start() {
        let state: &dyn State = &Sqlite::in_memory().unwrap();
        let revoke = |token: &str| {
            state
                .revoke(&Revocation {
                    issuer: "corp".to_owned(),
                    target: Target::Token(token.to_owned()),
                    revoked_at: 1000,
                    expires_at: None,
                })
                .unwrap();
        };
        revoke("first");
        let revocations = Revocations::new();
        let mut asked = Vec::new();
        let version = read_all(&revocations, |seen| {
            let reading = state.revocations_after(seen, UnixSeconds::MIN)?;
            if seen.is_none() {
                revoke("meanwhile");
            }
            asked.push((seen.is_some(), reading.rows.len()));
            Ok(reading)
        })
        .unwrap();
        // The second reading has only what is new, so that it is short.
        assert_eq!(asked, [(false, 1), (true, 1)]);
        assert_eq!(revocations.len(), 2);
        assert_eq!(version, state.version().unwrap());
        assert!(revocations.is_fresh(Instant::now()));
    }

    #[test]
    fn a_clock_that_is_wrong_for_a_moment_forgets_nothing() {
        let start = Instant::now();
        let state: &dyn State = &crate::state::sqlite::Sqlite::in_memory().expect("in memory");
        let mut seen = Seen::new(state.version().expect("in memory"), start, 1000);
        let mut look = |minutes: u64, now| {
            seen.look_at_the_clock(start + Duration::from_secs(60 * minutes), now);
            seen.over
        };
        assert_eq!(
            [look(0, 1000), look(4, 900_000), look(5, 1300)],
            [UnixSeconds::MIN, UnixSeconds::MIN, 1000]
        );
        assert_eq!(
            [look(6, 900_000), look(9, 1540), look(10, 900_000)],
            [1000, 1000, 1300]
        );
        // It was wrong at a look, and right again at the next.
        assert_eq!(
            [look(15, 1900), look(20, 2200), look(25, 2500)],
            [1900, 1900, 2200]
        );
    }
}

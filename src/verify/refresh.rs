//! The task that keeps the keys of one issuer fresh, on the control runtime.
//!
//! Input: an issuer with a `KeySource`. Output: key sets in the issuer's keys. Invariant: a failed or unreadable answer changes
//! nothing. The last good set stays, so that an outage neither lets anyone in nor refuses a token whose key is known.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{sleep, timeout};

use super::issuer::Issuer;
use super::jwks::Origin;
use super::key_source::KeySource;
use super::keys::KeySet;
use crate::clock::Clock;
use crate::net::client::TIME_LIMIT;

/// The longest wait after a failure.
const LAST_RETRY: Duration = Duration::from_secs(60);

/// Keeps the last good set of an issuer over restarts. Both may block; they are called off the request path.
pub(crate) trait KeyStore: Send + Sync {
    /// The text of the set that was last saved for this `iss` and location.
    ///
    /// # Errors
    /// The store cannot be read.
    fn load_jwks(&self, issuer: &str, url: &str) -> Result<Option<Vec<u8>>, String>;

    /// Saves the text of a set.
    ///
    /// # Errors
    /// The store cannot be written.
    fn save_jwks(&self, issuer: &str, url: &str, text: &[u8]) -> Result<(), String>;
}

/// Fetches the keys of `issuer` until `shutdown`: now, then at each interval, sooner after a failure, and at once when a
/// request asks. Returns at once for an issuer whose keys are not fetched. One task an issuer.
pub(crate) async fn keep_fresh(
    issuer: Arc<Issuer>,
    store: Arc<dyn KeyStore>,
    shutdown: impl Future<Output = ()>,
) {
    let Some(source) = &issuer.source else { return };
    let _stop = StopOnDrop(source);
    let mut shutdown = pin!(shutdown);
    let work = async {
        let mut saved = load_saved(&issuer, source, &store).await;
        let mut failures = 0;
        loop {
            source.begin_round();
            let outcome = timeout(TIME_LIMIT, source.fetch(&issuer.issuer)).await;
            let outcome = outcome
                .unwrap_or_else(|_| Err(format!("no key set within {} seconds", TIME_LIMIT.as_secs())));
            let pause = match outcome {
                Ok((text, set, skipped)) => {
                    failures = 0;
                    take(&issuer, source, set, skipped);
                    source.end_round();
                    if saved.as_ref() != Some(&text) && save(&issuer, source, &store, text.clone()).await {
                        saved = Some(text);
                    }
                    source.interval
                }
                Err(error) => {
                    let meanwhile = match issuer.keys.generation() {
                        0 => "requests with its tokens are refused (503) until they are had",
                        _ => "the last ones stay in use",
                    };
                    tracing::warn!(issuer = &*issuer.name, %error, "keys could not be fetched, {meanwhile}");
                    source.note(|status| {
                        status.failed += 1;
                        status.last_error = Some(error);
                    });
                    source.end_round();
                    let pause = source
                        .first_retry
                        .saturating_mul(1 << failures.min(16))
                        .min(LAST_RETRY);
                    failures += 1;
                    pause.min(source.interval.max(source.first_retry))
                }
            };
            tokio::select! {
                () = sleep(jittered(pause)) => {}
                () = source.wanted.notified() => {}
            }
        }
    };
    tokio::select! {
        () = &mut shutdown => {}
        () = work => {}
    }
}

/// No request waits for a task that is over.
struct StopOnDrop<'a>(&'a KeySource);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.turn().stopped = true;
        self.0.end_round();
    }
}

fn take(issuer: &Issuer, source: &KeySource, set: KeySet, skipped: Vec<String>) {
    let keys = set.len();
    if issuer.keys.replace(set) {
        tracing::info!(issuer = &*issuer.name, keys, ?skipped, "keys changed");
    } else if !skipped.is_empty() && source.status().skipped != skipped {
        tracing::warn!(issuer = &*issuer.name, keys, ?skipped, "keys are left out");
    }
    source.note(|status| {
        status.last_success = Some(Clock::system().now());
        status.last_error = None;
        status.keys = keys;
        status.skipped = skipped;
        status.fetched += 1;
    });
}

/// Puts the set that was saved last in place, where there is none yet. It is read as strictly as one that was fetched.
async fn load_saved(issuer: &Arc<Issuer>, source: &KeySource, store: &Arc<dyn KeyStore>) -> Option<Bytes> {
    let (of, from) = (issuer.clone(), store.clone());
    let url = source.location().url().as_str().to_owned();
    let loaded = tokio::task::spawn_blocking(move || from.load_jwks(&of.issuer, &url)).await;
    let text = match loaded {
        Ok(Ok(text)) => text?,
        Ok(Err(error)) => {
            tracing::warn!(issuer = &*issuer.name, %error, "saved keys could not be read");
            return None;
        }
        Err(_) => return None,
    };
    match KeySet::from_jwks(&text, Origin::Fetched) {
        Ok((set, _)) if issuer.keys.generation() == 0 => {
            source.note_keys(set.len());
            issuer.keys.replace(set);
            // Requests that wait for the first fetch go on.
            source.rounds.send_modify(|rounds| *rounds += 1);
        }
        Ok(_) => {}
        Err(error) => {
            tracing::warn!(issuer = &*issuer.name, %error, "saved keys could not be read");
            return None;
        }
    }
    Some(text.into())
}

async fn save(issuer: &Arc<Issuer>, source: &KeySource, store: &Arc<dyn KeyStore>, text: Bytes) -> bool {
    let (of, to) = (issuer.clone(), store.clone());
    let url = source.location().url().as_str().to_owned();
    let saved = tokio::task::spawn_blocking(move || to.save_jwks(&of.issuer, &url, &text)).await;
    match saved {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::warn!(issuer = &*issuer.name, %error, "keys could not be saved");
            false
        }
        Err(_) => false,
    }
}

/// `pause`, up to a tenth shorter, so that many gateways do not ask at one moment.
fn jittered(pause: Duration) -> Duration {
    let mut random = [0; 2];
    // Without randomness they ask together, which is no harm.
    let _ = getrandom::fill(&mut random);
    pause - pause.mul_f64(f64::from(u16::from_le_bytes(random)) / f64::from(u16::MAX) / 10.0)
}

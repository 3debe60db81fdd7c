//! Where the keys of an issuer are fetched from, and the requests that wait for them.
//!
//! Input: a URL of a JWK set or of a discovery document. Output: key sets, and how the fetches go. Requests never fetch: one
//! that met an unknown `kid` asks for a fetch, at most once a cooldown however many there are, and waits a bounded time for
//! the one answer.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

use super::algorithm::Algorithm;
use super::issuer_keys::IssuerKeys;
use super::json;
use super::jwks::Origin;
use super::keys::KeySet;
use super::tenant::IssuerName;
use crate::clock::UnixSeconds;
use crate::http::url::Url;
use crate::net::client::{self, Client};
use crate::net::server_clock::seconds_ahead;

/// The longest key set or discovery document, in bytes.
const MAX_BODY_BYTES: usize = 512 * 1024;
/// How often a set is fetched again, unless the TOML says otherwise.
pub(super) const REFRESH_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// The shortest time between two fetches that unknown `kid`s caused, unless the TOML says otherwise.
pub(super) const REFRESH_COOLDOWN: Duration = Duration::from_secs(10);
/// The longest time that a request waits for a fetch.
const REQUEST_PATIENCE: Duration = Duration::from_secs(2);
/// The wait after the first failure; it doubles with each further one.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// Where keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A JWK set.
    Jwks(Url),
    /// A discovery document that says where the set is (OpenID Connect Discovery 1.0 section 4).
    Discovery(Url),
}

impl Location {
    /// The discovery document of an issuer (OpenID Connect Discovery 1.0 section 4.1).
    ///
    /// # Errors
    /// The issuer is not a URL that may be asked.
    pub fn discovery(issuer: &str, allow_http: bool) -> Result<Self, String> {
        if issuer.contains('?') {
            return Err("a URL with a query, which an issuer cannot have".to_owned());
        }
        let issuer = IssuerName::parse(issuer)
            .ok_or("a URL in which `{tid}` is not one whole segment")?
            .of_discovery();
        let base = issuer.strip_suffix('/').unwrap_or(&issuer);
        client::url(&format!("{base}/.well-known/openid-configuration"), allow_http).map(Self::Discovery)
    }

    /// The document that is asked for first.
    #[must_use]
    pub fn url(&self) -> &Url {
        match self {
            Self::Jwks(url) | Self::Discovery(url) => url,
        }
    }
}

/// How the keys of one issuer are doing, for metrics and `/ready`.
#[derive(Clone, Debug, Default)]
pub struct KeyStatus {
    /// When a fetch last succeeded.
    pub last_success: Option<UnixSeconds>,
    /// Why the last fetch failed; none where it succeeded.
    pub last_error: Option<String>,
    /// Keys in use.
    pub keys: usize,
    /// Keys of the last set that were left out, with the reasons.
    pub skipped: Vec<String>,
    /// Fetches that succeeded.
    pub fetched: u64,
    /// Fetches that failed.
    pub failed: u64,
}

/// What an issuer's task and the requests that wait for it share.
pub struct KeySource {
    location: Location,
    client: Client,
    pub(super) interval: Duration,
    cooldown: Duration,
    pub(super) first_retry: Duration,
    patience: Duration,
    turn: Mutex<Turn>,
    pub(super) wanted: Notify,
    /// One more each time that a waiting request should look again.
    pub(super) rounds: watch::Sender<u64>,
    status: Mutex<KeyStatus>,
}

#[derive(Debug)]
pub(super) struct Turn {
    /// A fetch is under way, or is about to start.
    in_flight: bool,
    /// When a request last caused a fetch.
    asked: Option<Instant>,
    /// The task is over; there are no further fetches.
    pub(super) stopped: bool,
}

impl KeySource {
    /// Keys at `location`. The first fetch is taken to be under way, so that requests wait for it.
    #[must_use]
    pub fn new(location: Location, client: Client, interval: Duration, cooldown: Duration) -> Self {
        Self {
            location,
            client,
            interval,
            cooldown,
            first_retry: FIRST_RETRY,
            patience: REQUEST_PATIENCE,
            turn: Mutex::new(Turn {
                in_flight: true,
                asked: None,
                stopped: false,
            }),
            wanted: Notify::new(),
            rounds: watch::Sender::new(0),
            status: Mutex::default(),
        }
    }

    /// Where the keys are.
    #[must_use]
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// How they are doing.
    #[must_use]
    pub fn status(&self) -> KeyStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Another patience than is polite, for tests.
    #[cfg(test)]
    pub(super) fn hurry(&mut self, first_retry: Duration, patience: Duration) {
        (self.first_retry, self.patience) = (first_retry, patience);
    }

    /// Hears of the end of each round.
    #[cfg(test)]
    pub(super) fn rounds(&self) -> watch::Receiver<u64> {
        self.rounds.subscribe()
    }

    pub(super) fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that keys came from elsewhere.
    pub(super) fn note_keys(&self, keys: usize) {
        self.note(|status| status.keys = keys);
    }

    pub(super) fn note(&self, change: impl FnOnce(&mut KeyStatus)) {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Whether there is a fetch to wait for: the one under way, or one that this call caused.
    fn ask(&self) -> bool {
        let mut turn = self.turn();
        if turn.stopped || turn.in_flight {
            return !turn.stopped;
        }
        if turn.asked.is_some_and(|asked| asked.elapsed() < self.cooldown) {
            return false;
        }
        turn.asked = Some(Instant::now());
        turn.in_flight = true;
        self.wanted.notify_one();
        true
    }

    pub(super) fn begin_round(&self) {
        self.turn().in_flight = true;
    }

    pub(super) fn end_round(&self) {
        self.turn().in_flight = false;
        self.rounds.send_modify(|rounds| *rounds += 1);
    }

    /// Waits for keys that a token with this `kid` and `alg` may need. True where they may be there now, so that it is
    /// worth to verify once more.
    pub(super) async fn await_key(&self, keys: &IssuerKeys, kid: Option<&str>, algorithm: Algorithm) -> bool {
        // In this order: a round that ends from here on is seen.
        let mut rounds = self.rounds.subscribe();
        let generation = keys.generation();
        if keys.has(kid, algorithm) {
            return true;
        }
        if !self.ask() {
            return false;
        }
        let has_come = || keys.has(kid, algorithm) || keys.generation() != generation;
        let waiting = async {
            while !has_come() && rounds.changed().await.is_ok() {
                if !self.turn().in_flight {
                    break;
                }
            }
        };
        let _ = timeout(self.patience, waiting).await;
        has_come()
    }

    /// The text of the set, and what it says; with the keys that are left out, and why.
    ///
    /// # Errors
    /// There is no set, or it cannot be used.
    pub(crate) async fn fetch(&self, issuer: &str) -> Result<(Bytes, KeySet, Vec<String>), String> {
        let get = async |url: &Url| {
            let document = self.client.get(url, MAX_BODY_BYTES).await;
            document.map_err(|error| error.to_string())
        };
        let text = match &self.location {
            Location::Jwks(url) => get(url).await?,
            Location::Discovery(url) => {
                let document = get(url).await?;
                let allow_http = self.client.allows_http();
                get(&jwks_uri(&document, url, issuer, allow_http)?).await?
            }
        };
        let (set, skipped) = KeySet::from_jwks(&text, Origin::Fetched)?;
        Ok((text, set, skipped))
    }

    /// By how many seconds the clock of the server is ahead of this one, where it answers and says the time.
    pub(crate) async fn seconds_ahead(&self) -> Option<i64> {
        let request = Request::new(Bytes::new());
        let answer = self.client.send(self.location.url(), request, MAX_BODY_BYTES);
        seconds_ahead(&answer.await.ok()?)
    }
}

impl std::fmt::Debug for KeySource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeySource")
            .field("location", &self.location)
            .finish_non_exhaustive()
    }
}

/// Where a discovery document says that the set is. It must be the document of this very issuer (OpenID Connect
/// Discovery 1.0 section 4.3), and a document that came by TLS cannot lead to one that does not.
fn jwks_uri(document: &[u8], from: &Url, issuer: &str, allow_http: bool) -> Result<Url, String> {
    let document =
        json::parse_object(document).map_err(|_| "the discovery document is not a JSON object".to_owned())?;
    let text = |name: &str| document.get(name).and_then(Value::as_str);
    match text("issuer") {
        Some(named) if named == issuer => {}
        // With another word in the place of the tenant.
        Some(named) if IssuerName::published(named).is_some_and(|named| named.as_str() == issuer) => {}
        Some(named) => {
            return Err(format!(
                "the discovery document is of the issuer `{}`",
                named.escape_default()
            ));
        }
        None => return Err("the discovery document has no `issuer`".to_owned()),
    }
    let uri = text("jwks_uri").ok_or_else(|| "the discovery document has no `jwks_uri`".to_owned())?;
    let url = client::url(uri, allow_http)
        .map_err(|fault| format!("`jwks_uri` of the discovery document is {fault}"))?;
    if from.is_tls() && !url.is_tls() && !allow_http {
        return Err("`jwks_uri` of the discovery document is an `http://` URL".to_owned());
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_discovery_document_that_came_by_tls_cannot_lead_away_from_it() {
        let document = br#"{"issuer": "i", "jwks_uri": "http://127.0.0.1:9/keys"}"#;
        let from = |text| client::url(text, false).expect("a URL");
        assert!(jwks_uri(document, &from("http://localhost/d"), "i", false).is_ok());
        assert!(jwks_uri(document, &from("https://id.example.com/d"), "i", false).is_err());
        assert!(jwks_uri(document, &from("https://id.example.com/d"), "i", true).is_ok());
    }
}

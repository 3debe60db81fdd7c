//! What the gateway keeps an eye on beside its requests: the state file, written by other processes too, and the
//! certificates. One thread, because both block.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::clock::Clock;
use crate::server::tls::{Certificates, News};
use crate::signing::SigningKeys;
use crate::state::{Revocation, RevocationTarget, State, StateError, Version};
use crate::verify::{Change, RevocationRow, Revocations, Revoked};

/// How often the state is looked at: a revocation of another process holds after a second at most.
const STATE_INTERVAL: Duration = Duration::from_millis(250);
/// How often certificates are looked at.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(2);
/// How often a certificate that ends soon is warned of.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(86_400);

/// What the state says, as the workers read it.
#[derive(Debug)]
pub(super) struct Mirror {
    pub(super) state: Arc<dyn State>,
    pub(super) revocations: Arc<Revocations>,
    pub(super) signing: Arc<ArcSwap<SigningKeys>>,
    pub(super) clock: Clock,
}

impl Mirror {
    /// Reads everything for the first time.
    ///
    /// # Errors
    /// The state cannot be read; then nothing must be served.
    pub(super) fn open(state: Arc<dyn State>, clock: Clock) -> anyhow::Result<Self> {
        let now = clock.now();
        let signing = SigningKeys::load_or_create(&*state, now)?;
        let revocations = Arc::new(Revocations::new());
        revocations.attach();
        revocations.replace(state.revocations(now)?.into_iter().map(row));
        revocations.touch(Instant::now());
        Ok(Self { state, revocations, signing: Arc::new(ArcSwap::from_pointee(signing)), clock })
    }

    /// Reads again what has changed since `seen`. `announce` hears of our keys before the first token is signed with a new
    /// one: a session that is renewed at that moment would be nobody's.
    fn refresh(&self, seen: &mut Option<Version>, announce: &dyn Fn(&SigningKeys)) -> Result<(), StateError> {
        let asked = Instant::now();
        let version = self.state.version()?;
        if *seen != Some(version) {
            let now = self.clock.now();
            // In one piece, so that what this process revokes meanwhile is not forgotten again.
            self.revocations.reconcile(|| {
                let rows = self.state.revocations(now)?.into_iter().map(row).collect();
                Ok::<_, StateError>(((), Change::Replace(rows)))
            })?;
            match SigningKeys::load_or_create(&*self.state, now) {
                Ok(keys) => {
                    announce(&keys);
                    self.signing.store(Arc::new(keys));
                }
                Err(error) => tracing::error!(%error, "cannot read the signing keys; those in use are kept"),
            }
            *seen = Some(version);
        }
        self.revocations.touch(asked);
        Ok(())
    }
}

fn row(kept: Revocation) -> RevocationRow {
    let kind = match kept.target {
        RevocationTarget::Token(id) => Revoked::TokenId(id),
        RevocationTarget::Subject(subject) => Revoked::Subject(subject),
        RevocationTarget::Session(id) => Revoked::Session(id),
        RevocationTarget::Stale { subject, revision } => Revoked::Stale { subject, revision },
    };
    RevocationRow { issuer: kept.issuer, kind, revoked_at: kept.revoked_at, expires_at: kept.expires_at }
}

/// The thread that watches. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Watch {
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Starts it. `announce` gets our keys before they are used, also where they have not changed.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub(super) fn start(
        mirror: Arc<Mirror>,
        certificates: Option<Arc<Certificates>>,
        announce: impl Fn(&SigningKeys) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = sync_channel(0); // never sent on: its end is the message
        let thread = std::thread::Builder::new()
            .name("state".to_owned())
            .spawn(move || watch(&mirror, certificates.as_deref(), &announce, &stopped))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn watch(
    mirror: &Mirror,
    certificates: Option<&Certificates>,
    announce: &dyn Fn(&SigningKeys),
    stopped: &Receiver<()>,
) {
    let mut seen = None;
    let mut failing = false;
    let mut certificates_seen = Instant::now();
    let mut expiry_said: Option<Instant> = None;
    while stopped.recv_timeout(STATE_INTERVAL) == Err(RecvTimeoutError::Timeout) {
        match mirror.refresh(&mut seen, announce) {
            Ok(()) => {
                if std::mem::take(&mut failing) {
                    tracing::info!("the state can be read again");
                }
            }
            // Said once: it is looked at four times a second.
            Err(error) if !std::mem::replace(&mut failing, true) => tracing::error!(
                %error,
                "cannot read the state, so revocations may be missed; requests that need a caller are refused from \
                 10 seconds on (503)"
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
                certificates.expiring(now).iter().for_each(|text| tracing::warn!("{text}"));
            }
        }
        // A key's time runs out also where nothing has changed, and a configuration may have been read again meanwhile.
        announce(&mirror.signing.load());
    }
}

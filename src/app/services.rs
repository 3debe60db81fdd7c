//! What signing in needs beside the configuration, and keeps while that changes: threads, counts of attempts, and the
//! first link.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::Handle;
use zeroize::Zeroizing;

use super::control::Mirror;
use super::plan::SignInPlan;
use crate::account::Hasher;
use crate::blocking::Blocking;
use crate::login::{Setup, Throttle};
use crate::session::Openings;

/// Pieces of work on the state that wait or run at a time.
const WORK_AT_A_TIME: usize = 256;
/// The longest wait for one of them, a little longer than SQLite waits for another process.
const PATIENCE: Duration = Duration::from_secs(6);

/// One set a process.
pub(super) struct Services {
    pub(super) blocking: Arc<Blocking>,
    pub(super) hasher: Arc<Hasher>,
    pub(super) throttle: Arc<Throttle>,
    pub(super) openings: Arc<Openings>,
    pub(super) setup: Arc<Setup>,
    /// The secret of the first link, until it has been said.
    offered: Option<Zeroizing<String>>,
}

impl Services {
    /// Starts the threads. Half of the cores at most compute passwords, and only where nothing else wants them.
    ///
    /// # Errors
    /// The system has no thread or no random numbers left, or the state cannot be read.
    pub(super) fn start(mirror: &Mirror, control: Handle) -> anyhow::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let hasher = Hasher::start((cores / 2).max(1)).context("cannot start the threads that check passwords")?;
        let (setup, offered) = if mirror.state.has_accounts().context("cannot read the accounts")? {
            (Setup::none(), None)
        } else {
            let (setup, token) = Setup::offer().map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
            (setup, Some(token))
        };
        Ok(Self {
            blocking: Arc::new(Blocking::new(control, WORK_AT_A_TIME, PATIENCE)),
            hasher: Arc::new(hasher),
            throttle: Arc::default(),
            openings: Arc::default(),
            setup: Arc::new(setup),
            offered,
        })
    }

    /// What to say once to an operator who has no account yet: where the first one is made.
    pub(super) fn first_link(&mut self, sign_in: Option<&SignInPlan>, own_prefix: &str) -> Option<String> {
        let sign_in = sign_in?;
        let token = self.offered.take()?;
        Some(format!(
            "no account yet: open this link to make the first administrator; it works once, and until passgate is restarted:\n\n  {}{own_prefix}/register?setup={}\n\n",
            sign_in.session.public_url, &*token
        ))
    }
}

//! What is beside the configuration and kept across a reload: threads, counts of requests and of attempts to sign in, and
//! the link of the first administrator.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::Handle;
use zeroize::Zeroizing;

use super::config::SignInPlan;
use super::state_sync::StateSnapshot;
use crate::account::Hasher;
use crate::audit::Audit;
use crate::blocking::Blocking;
use crate::login::{Bounces, SetupToken, Throttle};
use crate::rate_limit::RateLimits;
use crate::session::Openings;
use crate::state::State;

/// Pieces of work on the state that wait or run at a time.
const WORK_AT_A_TIME: usize = 256;
/// The longest wait for one of them, a little longer than SQLite waits for another process.
const PATIENCE: Duration = Duration::from_secs(6);

/// One set a process.
pub(super) struct Services {
    pub(super) blocking: Arc<Blocking>,
    pub(super) hasher: Arc<Hasher>,
    pub(super) throttle: Arc<Throttle>,
    pub(super) bounces: Arc<Bounces>,
    pub(super) openings: Arc<Openings>,
    pub(super) setup: Arc<SetupToken>,
    pub(super) rate_limits: Arc<RateLimits>,
    pub(super) audit: Audit,
    /// The runtime on which providers are asked.
    pub(super) control: Handle,
    /// The secret of the first link, until it has been said.
    offered: Option<Zeroizing<String>>,
    state: Arc<dyn State>,
}

impl Services {
    /// Starts the threads. Half of the cores at most compute passwords, and only where nothing else wants them.
    ///
    /// # Errors
    /// The system has no thread or no random numbers left, or the state cannot be read.
    pub(super) fn start(mirror: &StateSnapshot, control: Handle, audit: Audit) -> anyhow::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let hasher =
            Hasher::start((cores / 2).max(1)).context("cannot start the threads that check passwords")?;
        let (setup, token) =
            SetupToken::offer().map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
        Ok(Self {
            blocking: Arc::new(Blocking::new(control.clone(), WORK_AT_A_TIME, PATIENCE)),
            hasher: Arc::new(hasher),
            throttle: Arc::default(),
            bounces: Arc::default(),
            openings: Arc::default(),
            setup: Arc::new(setup),
            rate_limits: Arc::default(),
            audit,
            control,
            offered: Some(token),
            state: Arc::clone(&mirror.state),
        })
    }

    /// What to say at the start, where people can sign in, as long as no enabled account is an administrator: where the
    /// first one is made.
    ///
    /// # Errors
    /// The state cannot be read.
    pub(super) fn first_link(
        &mut self,
        sign_in: Option<&SignInPlan>,
        own_prefix: &str,
    ) -> anyhow::Result<Option<String>> {
        let Some(sign_in) = sign_in.filter(|sign_in| sign_in.password) else {
            return Ok(None);
        };
        let Some(token) = self.offered.take() else {
            return Ok(None);
        };
        let role = &sign_in.admin_role;
        if self
            .state
            .has_enabled_account(role)
            .context("cannot read the accounts")?
        {
            self.setup.void();
            return Ok(None);
        }
        Ok(Some(format!(
            "no administrator yet (an enabled account with the role `{role}`): open this link to make one; it works once, and until passgate is restarted:\n\n  {}{own_prefix}/register?setup={}\n\n",
            sign_in.session.public_url, &*token
        )))
    }
}

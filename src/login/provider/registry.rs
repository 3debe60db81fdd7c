//! The providers of a configuration, each with what is known of it.
//!
//! Input: their tables, and the state. Output: providers that are asked on the control runtime. Invariants: a bounded number
//! of requests waits for providers; a provider that was never asked is as ready as any other.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::attempt::{AttemptKeys, Jar};
use super::config::ProviderPlan;
use super::exchange::Exchange;
use super::id_token::IdTokenVerifier;
use super::metadata::{Metadata, Source};
use crate::clock::UnixSeconds;
use crate::login::sites::Sites;
use crate::refusal::Refusal;
use crate::signing::SigningError;
use crate::state::State;
use crate::verify::{Issuer, Issuers, KeySet, Revocations, Verifier};

/// How many requests wait for providers at a time, over all of them.
const MOST_AT_ONCE: usize = 64;

/// A provider, and what is known of it.
#[derive(Debug)]
pub(super) struct Provider {
    pub(super) plan: ProviderPlan,
    source: Source,
    issuer: Arc<Issuer>,
    verifier: Verifier,
}

/// The providers of a configuration.
#[derive(Debug)]
pub(crate) struct Providers {
    list: Vec<Arc<Provider>>,
    pub(super) keys: AttemptKeys,
    pub(super) jar: Jar,
    /// The runtime on which providers are asked.
    control: Handle,
    places: Arc<Semaphore>,
}

/// A way to sign in, for the sign-in page.
#[derive(Clone, Debug)]
pub(in crate::login) struct Choice<'a> {
    pub(in crate::login) name: &'a str,
    pub(in crate::login) label: &'a str,
}

impl Providers {
    /// Blocks, on the state.
    ///
    /// # Errors
    /// The state cannot be used, or the system has no random numbers.
    pub(crate) fn new(
        plans: &[ProviderPlan],
        state: &dyn State,
        revocations: &Arc<Revocations>,
        sites: &Sites,
        control: Handle,
    ) -> Result<Self, SigningError> {
        let open = |plan: &ProviderPlan| {
            let (name, iss) = (&plan.name, &plan.issuer);
            let made = Issuers::of_id_tokens(name, iss, &plan.client_id, plan.roles_claims.clone());
            let (issuers, issuer) = made.expect("one issuer has nothing to conflict with");
            Arc::new(Provider {
                plan: plan.clone(),
                source: Source::default(),
                issuer,
                verifier: Verifier::new(issuers, Arc::clone(revocations)),
            })
        };
        Ok(Self {
            list: plans.iter().map(open).collect(),
            keys: AttemptKeys::load_or_create(state)?,
            jar: Jar::new(sites.nonce_prefix(), sites.is_https()),
            control,
            places: Arc::new(Semaphore::new(MOST_AT_ONCE)),
        })
    }

    /// In the order of the file.
    pub(in crate::login) fn choices(&self) -> impl ExactSizeIterator<Item = Choice<'_>> {
        self.list.iter().map(|provider| Choice {
            name: &provider.plan.name,
            label: &provider.plan.label,
        })
    }

    pub(super) fn find(&self, name: &str) -> Option<&Arc<Provider>> {
        self.list.iter().find(|provider| provider.plan.name == name)
    }

    /// Runs `work` on the control runtime. It goes on, for a bounded time, where the client does not wait any more.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Refusal>> + Send + 'static,
    ) -> Result<T, Refusal> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| Refusal::Overloaded)?;
        let running = self.control.spawn(async move {
            let _place = place;
            work.await
        });
        running.await.map_err(|error| {
            tracing::error!(%error, "asking a provider did not end as it should");
            Refusal::Internal
        })?
    }
}

impl Provider {
    pub(super) async fn metadata(&self) -> Result<Arc<Metadata>, Refusal> {
        let metadata = self.source.metadata(&self.plan).await;
        metadata.ok_or(Refusal::ProviderUnavailable)
    }

    /// Its keys, without asking for them: for the fuzz targets only.
    pub(super) fn use_keys(&self, keys: KeySet) {
        self.issuer.keys.replace(keys);
    }

    /// For the fuzz targets only.
    pub(super) fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    pub(super) fn exchange<'a>(&'a self, metadata: &'a Metadata, now: UnixSeconds) -> Exchange<'a> {
        let id_tokens = IdTokenVerifier {
            plan: &self.plan,
            source: &self.source,
            issuer: &self.issuer,
            verifier: &self.verifier,
            metadata,
            now,
        };
        Exchange { id_tokens }
    }
}

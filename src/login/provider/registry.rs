//! The providers of a configuration, each with what is known of it.
//!
//! Input: their tables, and the state. Output: providers that are asked on the control runtime. Invariants: a bounded number
//! of requests waits for providers; a provider that was never asked is as ready as any other.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::attempt::{AttemptKeys, Jar};
use super::config::{Protocol, ProviderPlan};
use super::exchange::{ClaimSource, Exchange};
use super::id_token::IdTokenVerifier;
use super::metadata::{Metadata, Source};
use crate::clock::UnixSeconds;
use crate::identity_headers::client_network;
use crate::login::sites::Sites;
use crate::login::throttle::ClientAddress;
use crate::refusal::Refusal;
use crate::signing::SigningError;
use crate::state::State;
use crate::verify::{Issuer, Issuers, KeySet, Revocations, Tenants, Verifier};

/// How many requests wait for providers at a time, over all of them.
const MOST_AT_ONCE: usize = 64;
/// How many of one client, as [`client_network`] groups addresses.
const MOST_OF_ONE_CLIENT: usize = 8;

/// A provider, and what is known of it.
#[derive(Debug)]
pub(super) struct Provider {
    pub(super) plan: ProviderPlan,
    source: Source,
    id_tokens: Option<IdTokenIssuer>,
}

/// An OpenID provider as the issuer of its ID tokens.
#[derive(Debug)]
struct IdTokenIssuer {
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
    waiting: Arc<Waiting>,
}

/// How many requests of each client wait for providers. It has no more entries than [`MOST_AT_ONCE`].
#[derive(Debug, Default)]
struct Waiting(Mutex<HashMap<IpAddr, usize>>);

/// One request that waits, until it is dropped.
struct Place {
    waiting: Arc<Waiting>,
    network: Option<IpAddr>,
    _place: OwnedSemaphorePermit,
}

impl Waiting {
    fn enter(&self, network: IpAddr) -> Result<(), Refusal> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = waiting.entry(network).or_default();
        if *count >= MOST_OF_ONE_CLIENT {
            return Err(Refusal::Overloaded);
        }
        *count += 1;
        Ok(())
    }

    fn leave(&self, network: IpAddr) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = waiting.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&network);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(network) = self.network {
            self.waiting.leave(network);
        }
    }
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
        let id_tokens = |plan: &ProviderPlan| {
            let Protocol::OpenId(open_id) = &plan.protocol else {
                return None;
            };
            let (name, iss) = (&plan.name, &open_id.issuer);
            // Which of the tenants can sign in is judged after the token.
            let tenants = open_id.tenants.as_ref().map(|_| Tenants::Any);
            let made = Issuers::of_id_tokens(name, iss, &plan.client_id, tenants);
            let (issuers, issuer) = made.expect("one issuer has nothing to conflict with");
            let verifier = Verifier::new(issuers, Arc::clone(revocations));
            Some(IdTokenIssuer { issuer, verifier })
        };
        let open = |plan: &ProviderPlan| {
            Arc::new(Provider {
                plan: plan.clone(),
                source: Source::default(),
                id_tokens: id_tokens(plan),
            })
        };
        Ok(Self {
            list: plans.iter().map(open).collect(),
            keys: AttemptKeys::load_or_create(state)?,
            jar: Jar::new(sites.nonce_prefix(), sites.is_https()),
            control,
            places: Arc::new(Semaphore::new(MOST_AT_ONCE)),
            waiting: Arc::default(),
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

    /// A place for one request. `client` is `None` for the gateway's own requests. Where all clients may have one address, that
    /// of a proxy, only all places count.
    fn place(&self, client: Option<ClientAddress>) -> Result<Place, Refusal> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| Refusal::Overloaded)?;
        let client = client.filter(|client| !client.may_be_proxy);
        let network = client.map(|client| client_network(client.ip));
        if let Some(network) = network {
            self.waiting.enter(network)?;
        }
        Ok(Place {
            waiting: Arc::clone(&self.waiting),
            network,
            _place: place,
        })
    }

    /// Runs `work` on the control runtime. It goes on, for a bounded time, where the client does not wait any more.
    ///
    /// # Errors
    /// `Overloaded` where too many requests wait, and those of `work`.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        client: Option<ClientAddress>,
        work: impl Future<Output = Result<T, Refusal>> + Send + 'static,
    ) -> Result<T, Refusal> {
        let place = self.place(client)?;
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

    /// Whether `iss` in an answer names it (RFC 9207 section 2.4). An OAuth2 server has no issuer to compare with.
    pub(super) fn is_issuer(&self, iss: &str) -> bool {
        let own = self.id_tokens.as_ref();
        own.is_none_or(|own| own.issuer.is_iss(iss))
    }

    /// Its keys, without asking for them: for the fuzz targets only.
    pub(super) fn use_keys(&self, keys: KeySet) {
        if let Some(own) = &self.id_tokens {
            own.issuer.keys.replace(keys);
        }
    }

    pub(super) fn exchange<'a>(&'a self, metadata: &'a Metadata, now: UnixSeconds) -> Exchange<'a> {
        let plan = &self.plan;
        let claims = match (&plan.protocol, &self.id_tokens) {
            (Protocol::OAuth2(oauth2), _) => ClaimSource::OAuth2(oauth2),
            (Protocol::OpenId(open_id), own) => {
                let own = own.as_ref().expect("every OpenID provider has an issuer");
                ClaimSource::IdToken(IdTokenVerifier {
                    plan,
                    open_id,
                    source: &self.source,
                    issuer: &own.issuer,
                    verifier: &own.verifier,
                    metadata,
                    now,
                })
            }
        };
        Exchange {
            plan,
            metadata,
            claims,
            now,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_client_waits_for_providers_eight_times_at_once() {
        let waiting = Waiting::default();
        let network: IpAddr = "2001:db8::".parse().unwrap();
        for _ in 0..MOST_OF_ONE_CLIENT {
            waiting.enter(network).unwrap();
        }
        assert_eq!(waiting.enter(network), Err(Refusal::Overloaded));
        waiting.enter("192.0.2.1".parse().unwrap()).unwrap();
        waiting.leave(network);
        waiting.enter(network).unwrap();
        for _ in 0..MOST_OF_ONE_CLIENT {
            waiting.leave(network);
        }
        assert_eq!(
            waiting.0.lock().unwrap().len(),
            1,
            "what waits no more is forgotten"
        );
    }
}

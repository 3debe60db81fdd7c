//! The key sets of issuers in the state: implements the store of `verify` by `state`.

use std::sync::Arc;

use super::state_sync::StateSnapshot;
use crate::clock::Clock;
use crate::state::State;
use crate::verify::KeyStore;

/// The store of a running gateway.
pub(super) fn shared(mirror: &StateSnapshot) -> Arc<dyn KeyStore> {
    Arc::new(Kept {
        state: Arc::clone(&mirror.state),
        clock: mirror.clock.clone(),
    })
}

struct Kept {
    state: Arc<dyn State>,
    clock: Clock,
}

impl KeyStore for Kept {
    fn load_jwks(&self, issuer: &str, url: &str) -> Result<Option<Vec<u8>>, String> {
        self.state
            .load_jwks(issuer, url)
            .map(|found| found.map(|(text, _)| text))
            .map_err(|error| error.to_string())
    }

    fn save_jwks(&self, issuer: &str, url: &str, text: &[u8]) -> Result<(), String> {
        self.state
            .save_jwks(issuer, url, text, self.clock.now())
            .map_err(|error| error.to_string())
    }
}

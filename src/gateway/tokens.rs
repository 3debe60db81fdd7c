//! How a token is verified: by a worker's table of known tokens, or anew with every check in a trace.

use std::sync::{Arc, Mutex, PoisonError};

use super::trace::Trace;
use crate::clock::UnixSeconds;
use crate::session::Sessions;
use crate::verify::{LocalCache, Refused, Verified, Verifier};

/// How a token is verified.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tokens<'g> {
    /// By a worker's table of known tokens.
    Cached(&'g Mutex<LocalCache>),
    /// Anew, with every check in the trace.
    Examined(Option<&'g Sessions>),
}

impl Tokens<'_> {
    pub(super) fn verify<T: Trace>(
        self,
        verifier: &Verifier,
        token: &str,
        now: UnixSeconds,
        trace: &mut T,
    ) -> Result<Arc<Verified>, Refused> {
        match self {
            Self::Cached(cache) => {
                let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
                verifier.try_verify(&mut cache, token, now)
            }
            Self::Examined(_) => Ok(verifier.examine(token, now, &mut |check| trace.check(check))?),
        }
    }
}

//! How a token is verified: by a worker's table of known tokens, or anew with every check in a trace.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::trace::Trace;
use crate::clock::UnixSeconds;
use crate::rate_limit::RateLimits;
use crate::refusal::Refusal;
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

/// Keeps a client that sends many tokens with a bad signature from having each of them verified. Tokens that are known to be
/// good are not concerned, so that others at the same address go on.
#[derive(Clone, Copy, Debug)]
pub(super) struct SignatureGuard<'g> {
    pub(super) rate_limits: &'g RateLimits,
    pub(super) client: IpAddr,
}

impl SignatureGuard<'_> {
    fn check(self) -> Result<(), Refusal> {
        if self.rate_limits.has_bad_signatures(self.client) {
            return Err(Refusal::SignaturesThrottled);
        }
        Ok(())
    }
}

impl Tokens<'_> {
    /// `guard` is that of the client that sent the token; `None` for one of the gateway's own making.
    pub(super) fn verify<T: Trace>(
        self,
        verifier: &Verifier,
        token: &str,
        now: UnixSeconds,
        guard: Option<SignatureGuard<'_>>,
        trace: &mut T,
    ) -> Result<Arc<Verified>, Refused> {
        match self {
            Self::Cached(cache) => {
                let gate = || guard.map_or(Ok(()), SignatureGuard::check);
                let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
                let verified = verifier.try_verify(&mut cache, token, now, gate);
                drop(cache);
                if let (Err(refused), Some(guard)) = (&verified, guard)
                    && refused.is_badly_signed()
                {
                    guard.rate_limits.note_bad_signature(guard.client);
                }
                verified
            }
            Self::Examined(_) => Ok(verifier.examine(token, now, &mut |check| trace.check(check))?),
        }
    }
}

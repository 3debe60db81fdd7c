//! The one-time token of the first run, by which the operator makes the first administrator.
//!
//! It is in memory and ends with the process; only its hash is kept. The state makes sure that it makes only one
//! administrator: it adds the account as the first one or not at all, in one step, so that of two requests with the same
//! token one is refused. Invariants: the answer does not tell why a token is not valid.

use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// Whether, and by which token, the first account may be made.
pub struct SetupToken(Mutex<Option<[u8; 32]>>);

impl std::fmt::Debug for SetupToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Setup")
    }
}

impl SetupToken {
    /// There is no token.
    #[cfg(test)]
    pub fn none() -> Self {
        Self(Mutex::new(None))
    }

    /// A new token: 43 characters of base64url, to be printed once.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn offer() -> Result<(Self, Zeroizing<String>), getrandom::Error> {
        let mut secret = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *secret)?;
        let token = Zeroizing::new(URL_SAFE_NO_PAD.encode(*secret));
        Ok((Self(Mutex::new(Some(hash(&token)))), token))
    }

    /// Whether `token` is the one. Takes the same time for every wrong one.
    #[must_use]
    pub fn is_good(&self, token: &str) -> bool {
        let held = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.is_some_and(|held| held.ct_eq(&hash(token)).into())
    }

    /// From now on no token is good: there is an account.
    pub fn void(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn hash(token: &str) -> [u8; 32] {
    *blake3::hash(token.as_bytes()).as_bytes()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_token_is_good_until_it_is_void_and_no_other_is() {
        let (setup, token) = SetupToken::offer().unwrap();
        assert!(setup.is_good(&token));
        assert!(setup.is_good(&token), "looking at the page does not use it up");
        for wrong in [
            "",
            "x",
            &token[1..],
            &format!("{}=", *token),
            &token.to_lowercase(),
        ] {
            assert!(!setup.is_good(wrong));
        }
        setup.void();
        assert!(!setup.is_good(&token));
    }

    #[test]
    fn without_an_offer_nothing_is_good_and_two_offers_differ() {
        assert!(!SetupToken::none().is_good(""));
        let ((_, one), (other, _)) = (SetupToken::offer().unwrap(), SetupToken::offer().unwrap());
        assert!(!other.is_good(&one));
        assert_eq!(one.len(), 43);
    }

    #[test]
    fn debug_output_holds_nothing() {
        assert_eq!(format!("{:?}", SetupToken::offer().unwrap().0), "Setup");
    }
}

//! One-time codes, by which a browser's session goes from the host of `public_url` to another one.
//!
//! Input: a session and its destination; later the code that a browser presents there. Output: a code, of which only the hash
//! is kept; or what was kept with it. A code is base64url of 32 random bytes and a tag of 16 over them, by which a foreign
//! one is recognized without the state. Invariants: no log, error or Debug output has a code; no code is valid twice, on
//! another host, in another browser, or for a session that has ended.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::error::SessionError;
use super::{Cookie, Sessions};
use crate::clock::UnixSeconds;
use crate::signing::SigningError;
use crate::state::{AccountRow, CodeRow, State, TokenHash};

/// Seconds for which a code is good.
pub(crate) const CODE_LIFETIME: UnixSeconds = 60;

/// What the state knows our secret by.
const NAME: &str = "codes";
const TAG_CONTEXT: &str = "passgate 2026-11 one-time code: tag";

const SECRET: usize = 32;
const TAG: usize = 16;
const BYTES: usize = SECRET + TAG;
/// Characters of a code.
const LENGTH: usize = BYTES / 3 * 4;

/// The key that codes are tagged with; every process that shares the state has the same.
pub(super) struct CodeKey(Zeroizing<[u8; 32]>);

impl CodeKey {
    /// The key of `state`; made where there is none.
    ///
    /// # Errors
    /// The state cannot be used, or the system has no random numbers.
    pub(super) fn load_or_create(state: &dyn State) -> Result<Self, SigningError> {
        let mut candidate = Zeroizing::new([0; 32]);
        fill(&mut candidate[..], "make a secret for one-time codes")?;
        let secret = state.ensure_secret(NAME, &candidate)?;
        Ok(Self(Zeroizing::new(blake3::derive_key(TAG_CONTEXT, &secret[..]))))
    }

    pub(super) fn make(&self) -> Result<(Zeroizing<String>, TokenHash), SigningError> {
        let mut bytes = Zeroizing::new([0; BYTES]);
        fill(&mut bytes[..SECRET], "make a one-time code")?;
        let tag = self.tag(&bytes[..SECRET]);
        bytes[SECRET..].copy_from_slice(&tag);
        let text = Zeroizing::new(URL_SAFE_NO_PAD.encode(&bytes[..]));
        let hash = hash(&text);
        Ok((text, hash))
    }

    /// The hash of `text`, if it was made here.
    pub(super) fn parse(&self, text: &str) -> Option<TokenHash> {
        if text.len() != LENGTH {
            return None;
        }
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(text).ok()?);
        let (secret, tag) = bytes.split_at_checked(SECRET)?;
        bool::from(self.tag(secret)[..].ct_eq(tag)).then(|| hash(text))
    }

    fn tag(&self, secret: &[u8]) -> [u8; TAG] {
        let mut tag = [0; TAG];
        tag.copy_from_slice(&blake3::keyed_hash(&self.0, secret).as_bytes()[..TAG]);
        tag
    }
}

impl std::fmt::Debug for CodeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CodeKey")
    }
}

fn fill(bytes: &mut [u8], action: &'static str) -> Result<(), SigningError> {
    getrandom::fill(bytes).map_err(|_| SigningError::Cryptography { action })
}

fn hash(text: &str) -> TokenHash {
    *blake3::hash(text.as_bytes()).as_bytes()
}

/// Where a browser is to go with its session.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The host, with its port where that is not the scheme's own.
    pub host: String,
    /// The hash of the nonce that the browser has there.
    pub nonce: TokenHash,
    /// A path on that host.
    pub return_to: String,
}

/// What a browser has come with.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The host that was asked, as [`Destination::host`].
    pub host: String,
    /// The same without a port, for the token in the cookie.
    pub host_name: String,
    /// The hashes of the nonces in its cookies.
    pub nonces: Vec<TokenHash>,
    /// The session that it has on this host already.
    pub session_id: Option<String>,
    /// The client's address.
    pub address: IpAddr,
}

/// Where a code leads.
#[derive(Debug)]
pub struct Landing {
    /// The path that the browser goes to.
    pub return_to: String,
    /// The session that has arrived; `None` where the browser has it on this host already.
    pub arrived: Option<Arrived>,
}

/// A session that has arrived on another host.
#[derive(Debug)]
pub struct Arrived {
    /// The cookie for that host.
    pub cookie: Cookie,
    /// Whose session it is.
    pub account: AccountRow,
    /// Which of [`Arrival::nonces`] was the one.
    pub nonce: TokenHash,
}

impl Sessions {
    /// A one-time code for a browser's session; `None` where the session is over, or is not this account's.
    ///
    /// # Errors
    /// The state cannot be used, or the system has no random numbers.
    pub fn issue_code(
        &self,
        session_id: &str,
        account_id: &str,
        to: &Destination,
    ) -> Result<Option<Zeroizing<String>>, SessionError> {
        let now = self.clock.now();
        let found = self.browser_of(session_id, account_id)?;
        if found.is_none_or(|(session, _)| self.is_over(&session, now)) {
            return Ok(None);
        }
        let (text, hash) = self.codes.make()?;
        let row = CodeRow {
            hash,
            session_id: session_id.to_owned(),
            host: to.host.clone(),
            nonce: to.nonce,
            return_to: to.return_to.clone(),
            expires_at: now.saturating_add(CODE_LIFETIME),
        };
        Ok(self.state.add_code(&row, now)?.then_some(text))
    }

    /// Whether `code` was made here, used or not. Does not block.
    #[must_use]
    pub fn is_code(&self, code: &str) -> bool {
        self.codes.parse(code).is_some()
    }

    /// Takes a code, whatever comes of it, and gives its session's cookie for the host where it was presented.
    ///
    /// # Errors
    /// [`SessionError::CodeRefused`], for whichever reason; the state cannot be used, or signing fails.
    pub fn redeem_code(&self, code: &str, arrival: &Arrival) -> Result<Landing, SessionError> {
        let hash = self.codes.parse(code).ok_or(SessionError::CodeRefused)?;
        let row = self.state.take_code(&hash)?.ok_or(SessionError::CodeRefused)?;
        let left = row.expires_at.saturating_sub(self.clock.now());
        // More than all of it is left where the clock was set back: then it is not known how old the code is.
        if !(1..=CODE_LIFETIME).contains(&left) || row.host != arrival.host {
            return Err(SessionError::CodeRefused);
        }
        let is_here = arrival
            .nonces
            .iter()
            .fold(false, |found, nonce| found | bool::from(nonce.ct_eq(&row.nonce)));
        if !is_here {
            // Back to the sign-in page, after its attempt was completed, leads here once more. Nothing is given to who has it.
            let is_known = arrival.session_id.as_ref() == Some(&row.session_id);
            return if is_known {
                Ok(Landing {
                    return_to: row.return_to,
                    arrived: None,
                })
            } else {
                Err(SessionError::CodeRefused)
            };
        }
        // After the code was taken, so that a session that has ended meanwhile gives no cookie.
        let found = self.state.session(&row.session_id)?;
        let account_id = found
            .map(|(session, _)| session.account_id)
            .ok_or(SessionError::CodeRefused)?;
        let renewed = self.renew_for(&row.session_id, &account_id, &arrival.host_name, arrival.address)?;
        let (cookie, account) = renewed.ok_or(SessionError::CodeRefused)?;
        Ok(Landing {
            return_to: row.return_to,
            arrived: Some(Arrived {
                cookie,
                account,
                nonce: row.nonce,
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_code_has_one_spelling_and_no_bit_to_spare() {
        let key = CodeKey(Zeroizing::new([1; 32]));
        let (text, made) = key.make().unwrap();
        assert_eq!((text.len(), key.parse(&text)), (LENGTH, Some(made)));
        let bytes = URL_SAFE_NO_PAD.decode(text.as_bytes()).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut forged = bytes.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key.parse(&URL_SAFE_NO_PAD.encode(forged)), None, "bit {bit}");
        }
        for wrong in [
            "",
            "a",
            &format!("{}=", *text),
            &format!("{} ", *text),
            &text[1..],
            &"é".repeat(32),
        ] {
            assert_eq!(key.parse(wrong), None, "{wrong}");
        }
        assert_eq!(
            CodeKey(Zeroizing::new([2; 32])).parse(&text),
            None,
            "made elsewhere"
        );
        assert_ne!(key.make().unwrap().0, text);
    }
}

//! Refresh tokens as they are written: base64url of the session's id, 32 secret bytes and a tag of 16 bytes over both.
//!
//! Input: a session's id, or the text that a client presents. Output: a token with its hash, or the content of a presented
//! token. The tag tells a token of ours without the state: a made-up token cannot end a session, as the reuse of a spent one
//! does. A successor is computed from the token before, so that a retry gets the same one without any storage. Invariants:
//! no error, log or Debug output has a token.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq as _;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::signing::SigningError;
use crate::state::{State, TokenHash};

/// What the state knows our secret by.
const NAME: &str = "refresh";
/// Keys for different purposes out of one secret.
const TAG_CONTEXT: &str = "passgate 2026-11 refresh token: tag";
const SUCCESSOR_CONTEXT: &str = "passgate 2026-11 refresh token: successor";

const ID: usize = 16;
const SECRET: usize = 32;
const TAG: usize = 16;
const BYTES: usize = ID + SECRET + TAG;
/// Characters of a token.
const LENGTH: usize = (BYTES * 4).div_ceil(3);

/// The keys that refresh tokens are made with; every process that shares the state has the same.
pub(super) struct RefreshKeys {
    tag: Zeroizing<[u8; 32]>,
    successor: Zeroizing<[u8; 32]>,
}

/// A token to be given away.
pub(super) struct Made {
    pub(super) text: Zeroizing<String>,
    pub(super) hash: TokenHash,
}

/// A token that has come back, and is one of ours.
pub(super) struct Presented {
    pub(super) session_id: String,
    pub(super) hash: TokenHash,
    bytes: Zeroizing<[u8; BYTES]>,
}

impl RefreshKeys {
    /// The keys of `state`; made where there are none.
    ///
    /// # Errors
    /// The state cannot be used, or the system has no random numbers.
    pub(super) fn load_or_create(state: &dyn State) -> Result<Self, SigningError> {
        let mut candidate = Zeroizing::new([0; 32]);
        fill(&mut candidate[..], "make a secret for refresh tokens")?;
        let secret = state.ensure_secret(NAME, &candidate)?;
        let derive = |context| Zeroizing::new(blake3::derive_key(context, &secret[..]));
        Ok(Self {
            tag: derive(TAG_CONTEXT),
            successor: derive(SUCCESSOR_CONTEXT),
        })
    }

    /// The first token of a session.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub(super) fn make(&self, session: Uuid) -> Result<Made, SigningError> {
        let mut secret = Zeroizing::new([0; SECRET]);
        fill(&mut secret[..], "make a refresh token")?;
        Ok(self.write(session.as_bytes(), &secret))
    }

    /// What `text` says, if it was made here.
    pub(super) fn parse(&self, text: &str) -> Option<Presented> {
        if text.len() != LENGTH {
            return None;
        }
        // One spelling for each token: padding and spare bits are refused.
        let decoded = Zeroizing::new(URL_SAFE_NO_PAD.decode(text).ok()?);
        let bytes = Zeroizing::new(<[u8; BYTES]>::try_from(&decoded[..]).ok()?);
        let (content, tag) = bytes.split_at(ID + SECRET);
        if !bool::from(self.tag(content).ct_eq(tag)) {
            return None;
        }
        let id = Uuid::from_slice(&content[..ID]).ok()?;
        Some(Presented {
            session_id: id.to_string(),
            hash: *blake3::hash(text.as_bytes()).as_bytes(),
            bytes,
        })
    }

    /// The token that follows `presented`: always the same one.
    pub(super) fn successor(&self, presented: &Presented) -> Made {
        let secret = Zeroizing::new(*blake3::keyed_hash(&self.successor, &presented.bytes[..]).as_bytes());
        let mut id = [0; ID];
        id.copy_from_slice(&presented.bytes[..ID]);
        self.write(&id, &secret)
    }

    fn write(&self, id: &[u8; ID], secret: &[u8; SECRET]) -> Made {
        let mut bytes = Zeroizing::new([0; BYTES]);
        bytes[..ID].copy_from_slice(id);
        bytes[ID..ID + SECRET].copy_from_slice(secret);
        let tag = self.tag(&bytes[..ID + SECRET]);
        bytes[ID + SECRET..].copy_from_slice(&tag);
        let text = Zeroizing::new(URL_SAFE_NO_PAD.encode(&bytes[..]));
        let hash = *blake3::hash(text.as_bytes()).as_bytes();
        Made { text, hash }
    }

    fn tag(&self, content: &[u8]) -> [u8; TAG] {
        let mut tag = [0; TAG];
        tag.copy_from_slice(&blake3::keyed_hash(&self.tag, content).as_bytes()[..TAG]);
        tag
    }
}

impl std::fmt::Debug for RefreshKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RefreshKeys").finish_non_exhaustive()
    }
}

fn fill(bytes: &mut [u8], action: &'static str) -> Result<(), SigningError> {
    getrandom::fill(bytes).map_err(|_| SigningError::Cryptography { action })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn keys(secret: u8) -> RefreshKeys {
        RefreshKeys {
            tag: Zeroizing::new([secret; 32]),
            successor: Zeroizing::new([!secret; 32]),
        }
    }

    #[test]
    fn a_token_comes_back_with_its_session_and_hash() {
        let (keys, id) = (keys(1), Uuid::from_u128(7));
        let made = keys.make(id).unwrap();
        assert_eq!(made.text.len(), 86);
        let presented = keys.parse(&made.text).unwrap();
        assert_eq!(presented.session_id, id.to_string());
        assert_eq!(presented.hash, made.hash);
        assert_eq!(made.hash, *blake3::hash(made.text.as_bytes()).as_bytes());
        assert_ne!(*keys.make(id).unwrap().text, *made.text, "each one is of its own");
    }

    #[test]
    fn a_token_that_differs_in_one_bit_is_none_of_ours() {
        let keys = keys(1);
        let made = keys.make(Uuid::from_u128(7)).unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(made.text.as_bytes()).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut forged = bytes.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert!(keys.parse(&URL_SAFE_NO_PAD.encode(forged)).is_none(), "bit {bit}");
        }
        assert!(self::keys(2).parse(&made.text).is_none(), "made elsewhere");
    }

    #[test]
    fn a_token_has_one_spelling() {
        let keys = keys(1);
        let text = keys.make(Uuid::from_u128(7)).unwrap().text;
        let (start, last) = text.split_at(text.len() - 1);
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        for letter in alphabet.chars() {
            assert_eq!(
                keys.parse(&format!("{start}{letter}")).is_some(),
                letter.to_string() == last,
                "{letter}"
            );
        }
        for wrong in [
            "",
            "a",
            &format!("{}==", *text),
            &format!("{} ", *text),
            &text[1..],
            &"é".repeat(43),
        ] {
            assert!(keys.parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_token_has_one_successor_of_the_same_session() {
        let (keys, id) = (keys(1), Uuid::from_u128(7));
        let [one, other] = [(); 2].map(|()| keys.parse(&keys.make(id).unwrap().text).unwrap());
        let next = keys.successor(&one);
        assert_eq!(*keys.successor(&one).text, *next.text);
        assert_ne!(*keys.successor(&other).text, *next.text);
        let next = keys.parse(&next.text).unwrap();
        assert_eq!(next.session_id, id.to_string());
        assert_ne!(keys.successor(&next).hash, next.hash);
    }
}

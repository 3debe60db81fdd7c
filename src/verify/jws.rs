//! The compact serialization of a signed token (RFC 7515 section 7.1), taken apart.
//!
//! Enters: the text that a client sent. Leaves: header, payload and signature, exactly as they were signed, or a
//! [`Refusal`]. Nothing in the header chooses a key: `jwk`, `jku`, `x5u` and `x5c` are not looked at.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::algorithm::Algorithm;
use super::keys::KeySet;
use super::{MAX_TOKEN_BYTES, json};
use crate::refusal::Refusal;

/// A token in its parts; nothing about it is verified yet.
#[derive(Debug)]
pub(super) struct Jws<'a> {
    /// The header's members.
    pub(super) header: Map<String, Value>,
    /// What was signed: the first two parts with their dot, as they were sent.
    pub(super) signing_input: &'a [u8],
    /// The bytes of the payload.
    pub(super) payload: Vec<u8>,
    /// The bytes of the signature.
    pub(super) signature: Vec<u8>,
}

impl<'a> Jws<'a> {
    /// Takes `token` apart, which may be `most` bytes long.
    ///
    /// # Errors
    /// [`Refusal::TokenTooLarge`], [`Refusal::TokenEncrypted`], [`Refusal::TokenMalformed`],
    /// [`Refusal::TokenDuplicateName`].
    pub(super) fn parse(token: &'a str, most: usize) -> Result<Self, Refusal> {
        if token.len() > most {
            return Err(Refusal::TokenTooLarge);
        }
        let mut dots = memchr::memchr_iter(b'.', token.as_bytes());
        let (first, second) = match (dots.next(), dots.next(), dots.count()) {
            (Some(first), Some(second), 0) => (first, second),
            (Some(_), Some(_), 2) => return Err(Refusal::TokenEncrypted),
            _ => return Err(Refusal::TokenMalformed),
        };
        let decode = |part: &str| decode_base64url(part).ok_or(Refusal::TokenMalformed);
        Ok(Self {
            header: object(&decode(&token[..first])?)?,
            signing_input: &token.as_bytes()[..second],
            payload: decode(&token[first + 1..second])?,
            signature: decode(&token[second + 1..])?,
        })
    }

    /// Refuses a header that changes what a token means: `crit` (RFC 7515 section 4.1.11), and `b64` (RFC 7797), which
    /// must be in `crit` and would make the payload something else than base64url.
    pub(super) fn extensions(&self) -> Result<(), Refusal> {
        if self.header.contains_key("crit") || self.header.contains_key("b64") {
            return Err(Refusal::TokenCritical);
        }
        Ok(())
    }

    /// `alg`, where it is one that we know.
    pub(super) fn algorithm(&self) -> Result<Algorithm, Refusal> {
        self.header
            .get("alg")
            .and_then(Value::as_str)
            .and_then(Algorithm::parse)
            .ok_or(Refusal::AlgorithmRefused)
    }

    /// `kid`, where there is one; it must be a string (RFC 7515 section 4.1.4).
    pub(super) fn kid(&self) -> Result<Option<&str>, Refusal> {
        match self.header.get("kid") {
            None => Ok(None),
            Some(Value::String(kid)) => Ok(Some(kid)),
            Some(_) => Err(Refusal::TokenMalformed),
        }
    }

    /// The claims (RFC 7519 section 4), unverified.
    pub(super) fn claims(&self) -> Result<Map<String, Value>, Refusal> {
        object(&self.payload)
    }
}

/// The bytes that `text` spells, in the one way that JOSE has for them: no padding, no white space, no `+` or `/`, and zero
/// in the bits that the last character does not need (RFC 7515 section 2, RFC 4648 section 3.5). With a laxer decoder, one
/// signature has many spellings.
pub(super) fn decode_base64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

fn object(text: &[u8]) -> Result<Map<String, Value>, Refusal> {
    json::parse_object(text).map_err(|fault| match fault {
        json::Fault::Malformed => Refusal::TokenMalformed,
        json::Fault::DuplicateName => Refusal::TokenDuplicateName,
    })
}

/// The payload of `token`, if a key of `keys` signed it with one of `algorithms`. Nothing of the payload is looked at:
/// this is not yet a verdict about a caller.
///
/// # Errors
/// The refusal of the first check that failed.
pub fn verify_signature(token: &str, keys: &KeySet, algorithms: &[Algorithm]) -> Result<Vec<u8>, Refusal> {
    let jws = Jws::parse(token, MAX_TOKEN_BYTES)?;
    jws.extensions()?;
    let algorithm = jws.algorithm()?;
    if !algorithms.contains(&algorithm) {
        return Err(Refusal::AlgorithmRefused);
    }
    keys.verify(None, jws.kid()?, algorithm, jws.signing_input, &jws.signature)?;
    Ok(jws.payload)
}

/// A token of which nothing was verified.
#[derive(Clone, Debug)]
pub struct Unverified {
    /// The members of its header.
    pub header: Map<String, Value>,
    /// What it claims.
    pub claims: Map<String, Value>,
}

/// Header and claims of a token which anyone could have written: for `token inspect`, and for no decision.
///
/// # Errors
/// The refusal of the first part that cannot be read.
pub fn read_unverified(token: &str) -> Result<Unverified, Refusal> {
    let jws = Jws::parse(token, usize::MAX)?;
    let claims = jws.claims()?;
    Ok(Unverified {
        header: jws.header,
        claims,
    })
}

//! JWK sets (RFC 7517) into keys.
//!
//! Enters: the text of a set, from an issuer's server or from a file. Leaves: a [`KeySet`] and the reasons why keys were
//! left out. What a JWK says about its use is enforced here: `use`, `key_ops`, `alg`, `crv`. A shared secret that comes
//! over the network is not one, and is never taken.

use serde_json::{Map, Value};

use super::algorithm::{Algorithm, Family};
use super::keys::{Key, KeySet, MAX_KEYS, Unusable, key_name, other, weak};
use super::tenant::IssuerName;
use super::{base64url, json};

/// Where a set came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From an issuer's server. Others choose what stands in it: what cannot be used is left out.
    Fetched,
    /// From a file of the operator: what is weak or secret in it is an error.
    File,
}

impl KeySet {
    /// Reads a JWK set (RFC 7517 section 5). The strings say which keys were left out, and why.
    ///
    /// # Errors
    /// Not a JWK set, more than 100 keys, shared secrets beside public keys, and in a file a weak or a private key.
    pub fn from_jwks(text: &[u8], origin: Origin) -> Result<(Self, Vec<String>), String> {
        let entries = json::parse_entries(text, "keys").map_err(|fault| match fault {
            json::Fault::Malformed => "not a JSON object".to_owned(),
            json::Fault::DuplicateName => "a name stands twice in one JSON object".to_owned(),
        })?;
        let entries = entries.ok_or_else(|| "not a JWK set: no array `keys`".to_owned())?;
        if entries.len() > MAX_KEYS {
            return Err(format!("{} keys, more than {MAX_KEYS}", entries.len()));
        }
        let mut keys = Vec::with_capacity(entries.len());
        let mut skipped = Vec::new();
        let mut jwks = 0;
        for (index, entry) in entries.iter().enumerate() {
            // One that another program wrote wrongly says nothing about the others.
            let jwk = match entry {
                json::Entry::Object(jwk) => jwk,
                json::Entry::DuplicateName => {
                    skipped.push(format!(
                        "entry {} of `keys`: a name stands twice in it",
                        index + 1
                    ));
                    continue;
                }
                json::Entry::NotAnObject => {
                    skipped.push(format!("entry {} of `keys`: not a JSON object", index + 1));
                    continue;
                }
            };
            jwks += 1;
            match Key::from_jwk(jwk, origin) {
                Ok(key) => keys.push(key),
                Err(reason) => {
                    let line = format!("{}: {reason}", key_name(jwk.get("kid").and_then(Value::as_str)));
                    if origin == Origin::File && matches!(reason, Unusable::Weak(_)) {
                        return Err(line);
                    }
                    skipped.push(line);
                }
            }
        }
        if jwks == 0 && !entries.is_empty() {
            return Err("not a JWK set: no entry of `keys` is a JWK".to_owned());
        }
        let (set, ambiguous) = Self::named(keys)?;
        skipped.extend(ambiguous);
        Ok((set, skipped))
    }
}

impl Key {
    /// Reads one JWK (RFC 7517 section 4, RFC 7518 section 6, RFC 8037 section 2).
    ///
    /// # Errors
    /// The reason why it cannot verify, or should not.
    pub fn from_jwk(jwk: &Map<String, Value>, origin: Origin) -> Result<Self, Unusable> {
        let kid = match jwk.get("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid.clone()),
            Some(_) => return Err(other("`kid` is not a string")),
        };
        let issuer =
            match jwk.get("issuer") {
                None => None,
                Some(Value::String(issuer)) => Some(IssuerName::published(issuer).ok_or_else(|| {
                    other("`issuer` holds a tenant that is not one whole segment of its path")
                })?),
                Some(_) => return Err(other("`issuer` is not a string")),
            };
        match jwk.get("use") {
            None => {}
            Some(Value::String(usage)) if usage == "sig" => {}
            Some(_) => return Err(other("`use` is not `sig`")),
        }
        match jwk.get("key_ops") {
            None => {}
            Some(Value::Array(operations)) if operations.iter().any(|operation| operation == "verify") => {}
            Some(_) => return Err(other("`key_ops` does not have `verify`")),
        }
        let only = match jwk.get("alg") {
            None => None,
            // A slip of the pen for ES512 that is out there (also in test vectors); no key on P-521 can mean anything else.
            Some(Value::String(name)) if name == "ES521" => Some(Algorithm::ES512),
            Some(name) => {
                let known = name.as_str().and_then(Algorithm::parse);
                Some(known.ok_or_else(|| other("`alg` is not a signature algorithm that we know"))?)
            }
        };
        let kty = jwk
            .get("kty")
            .and_then(Value::as_str)
            .ok_or_else(|| other("no `kty`"))?;
        if kty != "oct" && jwk.contains_key("d") {
            return Err(weak("a private key, where only public ones belong"));
        }
        let mut key = match kty {
            "RSA" => Self::rsa(&number(jwk, "n")?, &number(jwk, "e")?, only)?,
            "EC" => match jwk.get("crv").and_then(Value::as_str) {
                Some("P-256") => Self::curve(Family::P256, &point::<32>(jwk)?, only)?,
                Some("P-384") => Self::curve(Family::P384, &point::<48>(jwk)?, only)?,
                Some("P-521") => Self::curve(Family::P521, &point::<66>(jwk)?, only)?,
                _ => return Err(other("`crv` is not `P-256`, `P-384` or `P-521`")),
            },
            "OKP" => match jwk.get("crv").and_then(Value::as_str) {
                Some("Ed25519") => Self::curve(Family::Ed25519, &bytes::<32>(jwk, "x")?, only)?,
                _ => return Err(other("`crv` is not `Ed25519`")),
            },
            "oct" if origin == Origin::Fetched => {
                return Err(other(
                    "a shared secret (`oct`), which is not taken from the network",
                ));
            }
            // Two readers could take a secret that is not spelled strictly for two secrets.
            "oct" => shared_secret(
                &number(jwk, "k").map_err(|reason| weak(reason.to_string()))?,
                only,
            )?,
            _ => return Err(other("`kty` is not one that we know")),
        };
        key.kid = kid;
        key.issuer = issuer;
        Ok(key)
    }
}

fn shared_secret(secret: &[u8], only: Option<Algorithm>) -> Result<Key, Unusable> {
    if let Some(algorithm) = only {
        return Key::secret(secret, &[algorithm]);
    }
    let fitting: Vec<_> = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512]
        .into_iter()
        .filter(|algorithm| algorithm.secret_bytes() <= secret.len())
        .collect();
    if fitting.is_empty() {
        // Says how long it should have been.
        return Key::secret(secret, &[Algorithm::HS256]);
    }
    Key::secret(secret, &fitting)
}

/// A member of base64url text, of any length.
fn number(jwk: &Map<String, Value>, name: &str) -> Result<Vec<u8>, Unusable> {
    let text = jwk
        .get(name)
        .and_then(Value::as_str)
        .ok_or_else(|| other(format!("no `{name}`")))?;
    base64url::decode(text).ok_or_else(|| other(format!("`{name}` is not base64url")))
}

/// A member of base64url text of exactly `N` bytes (RFC 7518 section 6.2.1.2).
fn bytes<const N: usize>(jwk: &Map<String, Value>, name: &str) -> Result<[u8; N], Unusable> {
    number(jwk, name)?
        .try_into()
        .map_err(|_| other(format!("`{name}` is not {N} bytes long")))
}

/// The uncompressed point (SEC 1 section 2.3.3) that `x` and `y` are.
fn point<const N: usize>(jwk: &Map<String, Value>) -> Result<Vec<u8>, Unusable> {
    Ok([&[4][..], &bytes::<N>(jwk, "x")?, &bytes::<N>(jwk, "y")?].concat())
}

//! JWK sets (RFC 7517) into keys.
//!
//! Enters: the text of a set, from an issuer's server or from a file. Leaves: a [`KeySet`] and the reasons why keys were
//! left out. What a JWK says about its use is enforced here: `use`, `key_ops`, `alg`, `crv`. A shared secret that comes
//! over the network is not one, and is never taken.

use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, EllipticCurveKeyParameters};
use serde::Deserialize as _;
use serde_json::{Map, Value};

use super::algorithm::{Algorithm, Family};
use super::json;
use super::jws::decode_base64url;
use super::keys::{Key, KeySet, MAX_KEYS, key_name};
use super::prepared::{Unusable, other, weak};
use super::tenant::IssuerName;

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
        if kty == "oct" && origin == Origin::Fetched {
            return Err(other(
                "a shared secret (`oct`), which is not taken from the network",
            ));
        }
        let unread = || missing_parameter(kty, jwk);
        let mut key = match AlgorithmParameters::deserialize(jwk).map_err(|_| unread())? {
            AlgorithmParameters::RSA(rsa) => {
                let material =
                    DecodingKey::from_rsa_raw_components(&bytes("n", &rsa.n)?, &bytes("e", &rsa.e)?);
                Self::public(Family::Rsa, &material, only)?
            }
            AlgorithmParameters::EllipticCurve(ec) => {
                let (family, length) = match ec.curve {
                    EllipticCurve::P256 => (Family::P256, 32),
                    EllipticCurve::P384 => (Family::P384, 48),
                    EllipticCurve::P521 => (Family::P521, 66),
                    _ => return Err(unread()),
                };
                Self::public(family, &DecodingKey::from_ec_der(&point(&ec, length)?), only)?
            }
            AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
                let material = DecodingKey::from_ed_der(&exactly(32, "x", &pair.x)?);
                Self::public(Family::Ed25519, &material, only)?
            }
            // Two readers could take a secret that is not spelled strictly for two secrets.
            AlgorithmParameters::OctetKey(secret) => {
                let secret = bytes("k", &secret.value).map_err(|reason| weak(reason.to_string()))?;
                shared_secret(&secret, only)?
            }
            _ => return Err(unread()),
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

/// Why a JWK of this `kty` has not the parameters of a key (RFC 7518 section 6, RFC 8037 section 2).
fn missing_parameter(kty: &str, jwk: &Map<String, Value>) -> Unusable {
    let (names, otherwise): (&[_], _) = match kty {
        "RSA" => (&["n", "e"], "not an RSA key"),
        "EC" => (&["crv", "x", "y"], "`crv` is not `P-256`, `P-384` or `P-521`"),
        "OKP" => (&["crv", "x"], "`crv` is not `Ed25519`"),
        "oct" => return weak("no `k`"),
        _ => return other("`kty` is not one that we know"),
    };
    let missing = names
        .iter()
        .find(|name| !jwk.get(**name).is_some_and(Value::is_string));
    missing.map_or_else(|| other(otherwise), |name| other(format!("no `{name}`")))
}

/// A parameter of base64url text, of any length.
fn bytes(name: &str, text: &str) -> Result<Vec<u8>, Unusable> {
    decode_base64url(text).ok_or_else(|| other(format!("`{name}` is not base64url")))
}

/// A parameter of base64url text of exactly that many bytes (RFC 7518 section 6.2.1.2).
fn exactly(length: usize, name: &str, text: &str) -> Result<Vec<u8>, Unusable> {
    let bytes = bytes(name, text)?;
    if bytes.len() == length {
        Ok(bytes)
    } else {
        Err(other(format!("`{name}` is not {length} bytes long")))
    }
}

/// The uncompressed point (SEC 1 section 2.3.3) that `x` and `y` are.
fn point(ec: &EllipticCurveKeyParameters, length: usize) -> Result<Vec<u8>, Unusable> {
    Ok([
        &[4][..],
        &exactly(length, "x", &ec.x)?,
        &exactly(length, "y", &ec.y)?,
    ]
    .concat())
}

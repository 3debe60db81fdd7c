//! PEM files (RFC 7468) into keys.
//!
//! Enters: the text of a file of the operator. Leaves: the public keys in it. A private key is refused, whole file and
//! all: it does not belong on this machine.

use aws_lc_rs::rsa;
use jsonwebtoken::DecodingKey;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{PemObject as _, SectionKind};

use super::algorithm::Family;
use super::keys::{Key, KeySet, MAX_KEYS};

impl KeySet {
    /// Reads public keys (`PUBLIC KEY`, several for a time of rotation) or the key of one certificate (`CERTIFICATE`).
    /// The certificate is a wrapping only: neither its dates nor its issuer are looked at.
    ///
    /// # Errors
    /// No key, a private key, a chain of certificates, a key that is weak or of another kind than RSA, P-256, P-384,
    /// P-521 and Ed25519.
    pub fn from_pem(text: &[u8]) -> Result<Self, String> {
        if memchr::memmem::find(text, b"PRIVATE KEY-----").is_some() {
            return Err("it holds a private key, and only the public half belongs here".to_owned());
        }
        let mut keys = Vec::new();
        let mut certificates = 0;
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
            let (kind, der) = section.map_err(|_| "it is not valid PEM".to_owned())?;
            match kind {
                SectionKind::PublicKey => keys.push(from_spki(&der)?),
                SectionKind::Certificate => {
                    certificates += 1;
                    keys.push(from_certificate(der)?);
                }
                _ => {}
            }
        }
        match keys.len() {
            0 => Err("it holds no `PUBLIC KEY` and no `CERTIFICATE` section".to_owned()),
            // The authorities of a chain do not sign tokens.
            2.. if certificates > 0 => {
                Err("it holds a certificate and more; keep only the one that signs".to_owned())
            }
            count if count > MAX_KEYS => Err(format!("it holds {count} keys, more than {MAX_KEYS}")),
            _ => Ok(Self::unnamed(keys)),
        }
    }
}

fn from_certificate(der: Vec<u8>) -> Result<Key, String> {
    let certificate = CertificateDer::from(der);
    let certificate = webpki::EndEntityCert::try_from(&certificate)
        .map_err(|_| "its certificate is not a valid X.509 version 3 certificate".to_owned())?;
    from_spki(&certificate.subject_public_key_info())
}

/// A `SubjectPublicKeyInfo` (RFC 5280 section 4.1.2.7). It names its own kind, so that at most one of these reads it.
fn from_spki(der: &[u8]) -> Result<Key, String> {
    if let Ok(key) = rsa::PublicKey::from_der(der) {
        let (n, e) = (key.modulus(), key.exponent());
        let material = DecodingKey::from_rsa_raw_components(
            n.big_endian_without_leading_zero(),
            e.big_endian_without_leading_zero(),
        );
        return Key::public(Family::Rsa, &material, None).map_err(|reason| format!("it holds {reason}"));
    }
    let material = DecodingKey::from_ec_der(der);
    [Family::P256, Family::P384, Family::P521, Family::Ed25519]
        .into_iter()
        .find_map(|family| Key::public(family, &material, None).ok())
        .ok_or_else(|| {
            "it holds a key that is not a valid RSA, P-256, P-384, P-521 or Ed25519 key".to_owned()
        })
}

//! TLS towards clients: certificates by server name, re-read when their files change.
//!
//! Enters: pairs of PEM files. Leaves: a [`rustls::ServerConfig`] for TLS 1.2 and 1.3 with ALPN `h2` and `http/1.1`.
//! A pair that cannot be read or does not fit never replaces one that is in use.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

/// One certificate chain and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// PEM, leaf first.
    pub certificate: PathBuf,
    /// PEM.
    pub private_key: PathBuf,
}

/// Which of the two files of a pair cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The chain.
    Certificate,
    /// The key, also where it is not the one of the certificate.
    PrivateKey,
}

/// Why a pair cannot be used.
#[derive(Debug)]
pub struct Fault {
    /// Its number in the list of pairs.
    pub pair: usize,
    /// Which file.
    pub part: Part,
    /// What is wrong, naming the file.
    pub text: String,
}

/// Reads one pair and makes sure that the key belongs to the certificate.
///
/// # Errors
/// A text for each of its files that cannot be used.
fn load(pair: &Pair) -> Result<CertifiedKey, Vec<(Part, String)>> {
    let (certificate, private_key) = (pair.certificate.display(), pair.private_key.display());
    let chain = CertificateDer::pem_file_iter(&pair.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| format!("cannot read certificates from `{certificate}`: {error}"))
        .and_then(|chain| match chain.is_empty() {
            true => Err(format!("`{certificate}` holds no certificate in PEM form")),
            false => Ok(chain),
        });
    let key = PrivateKeyDer::from_pem_file(&pair.private_key)
        .map_err(|error| format!("cannot read a private key from `{private_key}`: {error}"));
    match (chain, key) {
        (Ok(chain), Ok(key)) => CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map_err(|error| {
            let text =
                format!("the key in `{private_key}` does not go with the certificate in `{certificate}`: {error}");
            vec![(Part::PrivateKey, text)]
        }),
        (chain, key) => {
            let faults =
                [chain.err().map(|text| (Part::Certificate, text)), key.err().map(|text| (Part::PrivateKey, text))];
            Err(faults.into_iter().flatten().collect())
        }
    }
}

/// All certificates of the gateway, and the files that they were read from.
pub struct Certificates {
    pairs: Vec<Pair>,
    current: ArcSwap<Vec<Arc<CertifiedKey>>>,
    stamps: std::sync::Mutex<Vec<Stamp>>,
}

/// What tells one version of a pair of files from the next.
type Stamp = [Option<(SystemTime, u64)>; 2];

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("pairs", &self.pairs).finish_non_exhaustive()
    }
}

impl Certificates {
    /// Reads all pairs. The first one serves clients that send no name, and names that no other pair has.
    ///
    /// # Errors
    /// Every file that cannot be used.
    pub fn load(pairs: Vec<Pair>) -> Result<Self, Vec<Fault>> {
        let stamps = pairs.iter().map(stamp).collect();
        let mut current = Vec::with_capacity(pairs.len());
        let mut faults = Vec::new();
        for (number, pair) in pairs.iter().enumerate() {
            match load(pair) {
                Ok(key) => current.push(Arc::new(key)),
                Err(found) => {
                    faults.extend(found.into_iter().map(|(part, text)| Fault { pair: number, part, text }));
                }
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Self { pairs, current: ArcSwap::from_pointee(current), stamps: std::sync::Mutex::new(stamps) })
    }

    /// The files.
    #[must_use]
    pub fn pairs(&self) -> &[Pair] {
        &self.pairs
    }

    /// Reads again what has changed on disk since the last look. Returns a text for each pair that was read, `Err` for
    /// one that cannot be used and is kept as it was.
    pub fn refresh(&self) -> Vec<Result<String, String>> {
        let mut stamps = self.stamps.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut current = Vec::clone(&self.current.load());
        let mut news = Vec::new();
        for (index, pair) in self.pairs.iter().enumerate() {
            let seen = stamp(pair);
            if seen == stamps[index] {
                continue;
            }
            match load(pair) {
                Ok(key) => {
                    stamps[index] = seen;
                    current[index] = Arc::new(key);
                    news.push(Ok(format!("certificate `{}` read again", pair.certificate.display())));
                }
                // Certificate and key are two files, and a renewal may be between the two: look again next time, and
                // say it once a version.
                Err(faults) => {
                    stamps[index] = seen;
                    let texts: Vec<String> = faults.into_iter().map(|(_, text)| text).collect();
                    news.push(Err(format!("{}; the certificate in use is kept", texts.join(", and "))));
                }
            }
        }
        self.current.store(Arc::new(current));
        news
    }

    /// The configuration for accepting connections.
    #[must_use]
    pub fn server_config(self: &Arc<Self>) -> Arc<ServerConfig> {
        let resolver: Arc<dyn ResolvesServerCert> = Arc::<Self>::clone(self);
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider supports TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // One ticketer for all workers, so that a session resumes whichever worker took the connection.
        if let Ok(ticketer) = aws_lc_rs::Ticketer::new() {
            config.ticketer = ticketer;
        }
        Arc::new(config)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.current.load();
        let named = hello.server_name().and_then(|name| ServerName::try_from(name).ok()).and_then(|name| {
            current.iter().find(|key| {
                key.cert
                    .first()
                    .and_then(|leaf| webpki::EndEntityCert::try_from(leaf).ok())
                    .is_some_and(|leaf| leaf.verify_is_valid_for_subject_name(&name).is_ok())
            })
        });
        named.or_else(|| current.first()).cloned()
    }
}

fn stamp(pair: &Pair) -> Stamp {
    let of = |path: &Path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    [of(&pair.certificate), of(&pair.private_key)]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn write_pair(directory: &Path, name: &str) -> Pair {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let pair = Pair {
            certificate: directory.join(format!("{name}.pem")),
            private_key: directory.join(format!("{name}.key")),
        };
        std::fs::write(&pair.certificate, made.cert.pem()).unwrap();
        std::fs::write(&pair.private_key, made.signing_key.serialize_pem()).unwrap();
        pair
    }

    #[test]
    fn a_renewed_certificate_is_taken_and_a_broken_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let pair = write_pair(directory.path(), "a.example");
        let certificates = Certificates::load(vec![pair.clone()]).unwrap();
        let first = certificates.current.load()[0].cert[0].clone();
        assert!(certificates.refresh().is_empty());

        std::fs::write(&pair.certificate, "not a certificate").unwrap();
        assert!(certificates.refresh()[0].is_err());
        assert_eq!(certificates.current.load()[0].cert[0], first);

        write_pair(directory.path(), "a.example");
        assert!(certificates.refresh()[0].is_ok());
        assert_ne!(certificates.current.load()[0].cert[0], first);
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let (a, b) = (write_pair(directory.path(), "a.example"), write_pair(directory.path(), "b.example"));
        let errors =
            Certificates::load(vec![Pair { certificate: a.certificate, private_key: b.private_key }]).unwrap_err();
        assert!(errors[0].text.contains("does not go with"), "{errors:?}");
        assert_eq!((errors[0].pair, errors[0].part), (0, Part::PrivateKey));
    }
}

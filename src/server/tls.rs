//! TLS towards clients: certificates by server name, re-read when their files change.
//!
//! Input: pairs of PEM files. Output: a [`rustls::ServerConfig`] for TLS 1.2 and 1.3 with ALPN `h2` and `http/1.1`.
//! Invariant: a pair that cannot be read or does not fit never replaces one in use.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use zeroize::Zeroizing;

use crate::clock::UnixSeconds;
use crate::config::raw::RawSecret;
use crate::net::certificate::{Validity, chain_fault};
use crate::net::tls_roots::system_roots;

/// Where one half of a pair is kept, in PEM form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A file.
    File(PathBuf),
    /// A place of a secret; a relative file starts from the directory.
    Secret {
        /// The place.
        secret: RawSecret,
        /// The directory of the TOML file.
        directory: PathBuf,
    },
}

impl Source {
    fn read(&self) -> Result<Zeroizing<Vec<u8>>, String> {
        match self {
            Self::File(path) => std::fs::read(path)
                .map(Zeroizing::new)
                .map_err(|error| error.to_string()),
            Self::Secret { secret, directory } => secret
                .load(directory)
                .map(|secret| Zeroizing::new(secret.expose().to_vec())),
        }
    }

    /// Whether it is a copy that the system made at the start of the service.
    fn is_credential(&self) -> bool {
        matches!(
            self,
            Self::Secret {
                secret: RawSecret::Credential(_),
                ..
            }
        )
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path)
            | Self::Secret {
                secret: RawSecret::File(path),
                ..
            } => write!(f, "`{}`", path.display()),
            Self::Secret {
                secret: RawSecret::Env(name),
                ..
            } => write!(f, "the environment variable `{name}`"),
            Self::Secret {
                secret: RawSecret::Credential(name),
                ..
            } => write!(f, "the credential `{name}`"),
        }
    }
}

/// One certificate chain and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    /// Leaf first.
    pub certificate: Source,
    /// The key of the leaf.
    pub private_key: Source,
}

/// Which of the two halves of a pair cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The chain.
    Certificate,
    /// The key, also where it is not the one of the certificate.
    PrivateKey,
}

/// Why a pair cannot be used.
#[derive(Debug)]
pub(crate) struct CertificateError {
    /// Its number in the list of pairs.
    pub pair: usize,
    /// Which half.
    pub part: Part,
    /// What is wrong, naming the place.
    pub text: String,
}

/// What a look at the places of all pairs brought, in words for the log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// A pair was read and is in use from now on.
    Taken(String),
    /// A pair has changed and cannot be used; the one before it stays.
    Kept(String),
}

/// The bytes of one pair, and what tells them from other ones: not the time stamps, which a copy keeps, and not the length,
/// which renewed keys have in common.
struct Content {
    certificate: Result<Zeroizing<Vec<u8>>, String>,
    private_key: Result<Zeroizing<Vec<u8>>, String>,
}

type Digest = [Option<blake3::Hash>; 2];

impl Content {
    fn read(pair: &Pair) -> Self {
        Self {
            certificate: pair.certificate.read(),
            private_key: pair.private_key.read(),
        }
    }

    fn digest(&self) -> Digest {
        [&self.certificate, &self.private_key].map(|half| half.as_ref().ok().map(|bytes| blake3::hash(bytes)))
    }

    /// Makes sure that the key belongs to the certificate.
    fn parse(&self, pair: &Pair) -> Result<CertifiedKey, Vec<(Part, String)>> {
        let Pair {
            certificate,
            private_key,
        } = pair;
        let chain = match &self.certificate {
            Ok(bytes) => CertificateDer::pem_slice_iter(bytes)
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| format!("cannot read certificates from {certificate}: {error}"))
                .and_then(|chain| match chain.is_empty() {
                    true => Err(format!("{certificate} holds no certificate in PEM form")),
                    false => Ok(chain),
                }),
            Err(reason) => Err(format!("cannot read certificates from {certificate}: {reason}")),
        };
        let key = match &self.private_key {
            Ok(bytes) => PrivateKeyDer::from_pem_slice(bytes)
                .map_err(|error| format!("cannot read a private key from {private_key}: {error}")),
            Err(reason) => Err(format!("cannot read a private key from {private_key}: {reason}")),
        };
        match (chain, key) {
            (Ok(chain), Ok(key)) => CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
                .map_err(|error| {
                    let text = format!(
                        "the key in {private_key} does not go with the certificate in {certificate}: {error}"
                    );
                    vec![(Part::PrivateKey, text)]
                }),
            (chain, key) => {
                let errors = [
                    chain.err().map(|text| (Part::Certificate, text)),
                    key.err().map(|text| (Part::PrivateKey, text)),
                ];
                Err(errors.into_iter().flatten().collect())
            }
        }
    }
}

/// All certificates of the gateway, and the places that they were read from.
pub struct Certificates {
    pairs: Vec<Pair>,
    current: ArcSwap<Vec<Arc<CertifiedKey>>>,
    digests: Mutex<Vec<Digest>>,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates")
            .field("pairs", &self.pairs)
            .finish_non_exhaustive()
    }
}

impl Certificates {
    /// Reads all pairs. The first one serves clients that send no name, and names that no other pair has.
    ///
    /// # Errors
    /// Every half that cannot be used.
    pub(crate) fn load(pairs: Vec<Pair>) -> Result<Self, Vec<CertificateError>> {
        let mut digests = Vec::with_capacity(pairs.len());
        let mut current = Vec::with_capacity(pairs.len());
        let mut errors = Vec::new();
        for (number, pair) in pairs.iter().enumerate() {
            let content = Content::read(pair);
            digests.push(content.digest());
            match content.parse(pair) {
                Ok(key) => current.push(Arc::new(key)),
                Err(found) => {
                    errors.extend(found.into_iter().map(|(part, text)| CertificateError {
                        pair: number,
                        part,
                        text,
                    }));
                }
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Self {
            pairs,
            current: ArcSwap::from_pointee(current),
            digests: Mutex::new(digests),
        })
    }

    /// Takes what has changed since the last look. A pair that cannot be used is said once for each of its versions.
    pub(crate) fn refresh(&self, now: UnixSeconds) -> Vec<News> {
        let mut digests = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        let mut current = Vec::clone(&self.current.load());
        let mut news = Vec::new();
        for (index, pair) in self.pairs.iter().enumerate() {
            let content = Content::read(pair);
            let digest = content.digest();
            if digest == digests[index] {
                continue;
            }
            digests[index] = digest;
            match content.parse(pair) {
                Ok(key) => {
                    current[index] = Arc::new(key);
                    news.push(News::Taken(format!(
                        "certificate in {} read again",
                        pair.certificate
                    )));
                }
                // A renewal may be between its two files; the next look finds both.
                Err(errors) => {
                    let texts: Vec<String> = errors.into_iter().map(|(_, text)| text).collect();
                    let expiry = validity(&current[index]).map_or_else(String::new, |validity| {
                        format!(", which {}", validity.expiry(now))
                    });
                    let hint = match (pair.certificate.is_credential(), pair.private_key.is_credential()) {
                        (false, false) => "",
                        _ => "; a credential is read when the service starts: restart it",
                    };
                    news.push(News::Kept(format!(
                        "{}; the certificate in use is kept{expiry}{hint}",
                        texts.join(", and ")
                    )));
                }
            }
        }
        self.current.store(Arc::new(current));
        news
    }

    /// A text for each certificate in use that expires soon, or has.
    #[must_use]
    pub(crate) fn expiring(&self, now: UnixSeconds) -> Vec<String> {
        let current = self.current.load();
        let pairs = self.pairs.iter().zip(current.iter());
        pairs
            .filter_map(|(pair, key)| Some((pair, validity(key)?)))
            .filter(|(_, validity)| validity.ends_soon(now))
            .map(|(pair, validity)| {
                format!(
                    "the certificate from {} {}",
                    pair.certificate,
                    validity.expiry(now)
                )
            })
            .collect()
    }

    /// Each certificate in use: its place, when it expires, and whether that is not soon.
    pub(crate) fn expiries(&self, now: UnixSeconds) -> Vec<(String, String, bool)> {
        let current = self.current.load();
        let pairs = self.pairs.iter().zip(current.iter());
        let told = |(pair, key): (&Pair, &Arc<CertifiedKey>)| {
            let validity = validity(key)?;
            Some((
                pair.certificate.to_string().replace('`', ""),
                validity.expiry(now),
                !validity.ends_soon(now),
            ))
        };
        pairs.filter_map(told).collect()
    }

    /// Each certificate in use, with what is to be said of it. Reads the authorities of the system.
    pub(crate) fn inspect(&self, now: UnixSeconds) -> Vec<Inspected> {
        let roots = system_roots();
        let current = self.current.load();
        let pairs = self.pairs.iter().zip(current.iter());
        pairs
            .map(|(pair, key)| Inspected {
                place: pair.certificate.to_string(),
                key_file: match &pair.private_key {
                    Source::File(path) => Some(path.clone()),
                    Source::Secret { .. } => None,
                },
                validity: validity(key),
                chain_fault: roots
                    .as_ref()
                    .and_then(|roots| chain_fault(&key.cert, roots, now)),
            })
            .collect()
    }

    /// Whether one of them is made out to `name`.
    pub(crate) fn covers(&self, name: &str) -> bool {
        let Ok(name) = ServerName::try_from(name) else {
            return false;
        };
        self.current.load().iter().any(|key| is_for(key, &name))
    }

    /// The configuration for accepting connections.
    #[must_use]
    pub(crate) fn server_config(self: &Arc<Self>) -> Arc<ServerConfig> {
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
        let named = hello
            .server_name()
            .and_then(|name| ServerName::try_from(name).ok())
            .and_then(|name| current.iter().find(|key| is_for(key, &name)));
        named.or_else(|| current.first()).cloned()
    }
}

/// One certificate in use.
#[derive(Debug)]
pub(crate) struct Inspected {
    /// Where it was read from.
    pub(crate) place: String,
    /// The file of its key, where it is one by its path.
    pub(crate) key_file: Option<PathBuf>,
    /// `None`: it cannot be told.
    pub(crate) validity: Option<Validity>,
    /// Why no authority of the system vouches for it, in words.
    pub(crate) chain_fault: Option<String>,
}

fn is_for(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    key.cert
        .first()
        .and_then(|leaf| webpki::EndEntityCert::try_from(leaf).ok())
        .is_some_and(|leaf| leaf.verify_is_valid_for_subject_name(name).is_ok())
}

fn validity(key: &CertifiedKey) -> Option<Validity> {
    Validity::of(key.cert.first()?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::time::Duration;

    use super::*;

    const NOW: UnixSeconds = 1_800_000_000;

    fn pair_in(directory: &Path, name: &str) -> Pair {
        Pair {
            certificate: Source::File(directory.join(format!("{name}.pem"))),
            private_key: Source::File(directory.join(format!("{name}.key"))),
        }
    }

    fn path(source: &Source) -> &Path {
        let Source::File(path) = source else {
            panic!("a file")
        };
        path
    }

    /// PEM texts of a certificate that is good for these seconds around [`NOW`], and its key.
    fn made(name: &str, from: i64, to: i64) -> (String, String) {
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        let start = rcgen::date_time_ymd(2027, 1, 15); // the day of `NOW`, at midnight
        let at = |seconds: i64| {
            if seconds < 0 {
                start - Duration::from_secs(seconds.unsigned_abs())
            } else {
                start + Duration::from_secs(seconds.unsigned_abs())
            }
        };
        (params.not_before, params.not_after) = (at(from), at(to));
        let key = rcgen::KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn write(pair: &Pair, (certificate, key): &(String, String)) {
        std::fs::write(path(&pair.certificate), certificate).unwrap();
        std::fs::write(path(&pair.private_key), key).unwrap();
    }

    fn write_pair(directory: &Path, name: &str) -> Pair {
        let pair = pair_in(directory, name);
        write(&pair, &made(name, -DAY, 90 * DAY));
        pair
    }

    const DAY: i64 = 86_400;

    fn leaf(certificates: &Certificates) -> CertificateDer<'static> {
        certificates.current.load()[0].cert[0].clone()
    }

    #[test]
    fn a_renewed_certificate_is_taken_and_a_broken_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let pair = write_pair(directory.path(), "a.example");
        let certificates = Certificates::load(vec![pair.clone()]).unwrap();
        let first = leaf(&certificates);
        assert_eq!(certificates.refresh(NOW), []);

        std::fs::write(path(&pair.certificate), "not a certificate").unwrap();
        assert!(matches!(certificates.refresh(NOW)[..], [News::Kept(_)]));
        assert_eq!(certificates.refresh(NOW), [], "it is said once");
        assert_eq!(leaf(&certificates), first);

        write_pair(directory.path(), "a.example");
        assert!(matches!(certificates.refresh(NOW)[..], [News::Taken(_)]));
        assert_ne!(leaf(&certificates), first);
    }

    #[test]
    fn a_renewal_of_the_same_length_and_time_stamp_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let pair = write_pair(directory.path(), "a.example");
        let certificates = Certificates::load(vec![pair.clone()]).unwrap();
        let first = leaf(&certificates);
        let places = [path(&pair.certificate), path(&pair.private_key)];
        let stamps = places.map(|path| {
            let data = path.metadata().unwrap();
            (data.len(), data.modified().unwrap())
        });
        // A signature of ECDSA has one of a few lengths, so that a twin is found soon.
        let twin = std::iter::repeat_with(|| made("a.example", -DAY, 90 * DAY))
            .take(1000)
            .find(|(certificate, key)| {
                [certificate.len() as u64, key.len() as u64] == stamps.map(|(length, _)| length)
            })
            .unwrap();
        write(&pair, &twin);
        for (path, (length, modified)) in places.into_iter().zip(stamps) {
            std::fs::File::options()
                .append(true)
                .open(path)
                .unwrap()
                .set_modified(modified)
                .unwrap();
            let data = path.metadata().unwrap();
            assert_eq!((data.len(), data.modified().unwrap()), (length, modified));
        }
        assert!(matches!(certificates.refresh(NOW)[..], [News::Taken(_)]));
        assert_ne!(leaf(&certificates), first);
    }

    #[test]
    fn a_renewed_certificate_without_its_key_is_said_with_the_expiry_of_the_one_in_use() {
        let directory = tempfile::tempdir().unwrap();
        let pair = write_pair(directory.path(), "a.example");
        let certificates = Certificates::load(vec![pair.clone()]).unwrap();
        std::fs::write(path(&pair.certificate), made("a.example", 0, 90 * DAY).0).unwrap();
        let [News::Kept(text)] = &certificates.refresh(NOW)[..] else {
            panic!("it is kept")
        };
        assert!(text.contains("does not go with the certificate"), "{text}");
        assert!(
            text.ends_with("in use is kept, which expires 2027-04-15T00:00:00Z, in 89 days"),
            "{text}"
        );
    }

    #[test]
    fn a_certificate_is_warned_of_before_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let text = |from: i64, to: i64| {
            let pair = pair_in(directory.path(), "a.example");
            write(&pair, &made("a.example", from, to));
            Certificates::load(vec![pair]).unwrap().expiring(NOW).pop()
        };
        assert_eq!(text(-DAY, 90 * DAY), None);
        assert_eq!(text(-76 * DAY, 15 * DAY), None);
        let soon = text(-76 * DAY, 14 * DAY).unwrap();
        assert!(
            soon.ends_with("a.example.pem` expires 2027-01-29T00:00:00Z, in 13 days"),
            "{soon}"
        );
        assert!(text(-76 * DAY, DAY).unwrap().ends_with("in 16 hours"));
        assert!(
            text(-76 * DAY, 0)
                .unwrap()
                .ends_with(" expired 2027-01-15T00:00:00Z")
        );
        // One of six days is renewed shortly before its end.
        assert_eq!(text(-3 * DAY, 3 * DAY), None);
        assert!(text(-5 * DAY, DAY).is_some());
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let (a, b) = (
            write_pair(directory.path(), "a.example"),
            write_pair(directory.path(), "b.example"),
        );
        let errors = Certificates::load(vec![Pair {
            certificate: a.certificate,
            private_key: b.private_key,
        }])
        .unwrap_err();
        assert!(errors[0].text.contains("does not go with"), "{errors:?}");
        assert_eq!((errors[0].pair, errors[0].part), (0, Part::PrivateKey));
    }

    #[test]
    fn a_key_can_be_kept_where_secrets_are() {
        let directory = tempfile::tempdir().unwrap();
        let pair = write_pair(directory.path(), "a.example");
        let secret = |name: &str| Source::Secret {
            secret: RawSecret::File(name.into()),
            directory: directory.path().to_owned(),
        };
        std::fs::set_permissions(path(&pair.private_key), std::fs::Permissions::from_mode(0o600)).unwrap();
        let both = Pair {
            certificate: secret("a.example.pem"),
            private_key: secret("a.example.key"),
        };
        Certificates::load(vec![both]).unwrap();
        std::fs::set_permissions(path(&pair.private_key), std::fs::Permissions::from_mode(0o602)).unwrap();
        let open = Pair {
            certificate: pair.certificate,
            private_key: secret("a.example.key"),
        };
        let errors = Certificates::load(vec![open]).unwrap_err();
        assert!(errors[0].text.contains("is writable by every user"), "{errors:?}");
    }
}

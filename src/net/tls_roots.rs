//! The certificate authorities by which servers are trusted, and the TLS settings of a client that trusts them.
//!
//! Input: the certificates of the system, or those of a `ca_file`. Output: a [`ClientConfig`], with a client certificate or
//! without, TLS 1.2 and 1.3, by aws-lc.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// The authorities of this system; `None` where it has none. Reads files.
#[must_use]
pub(crate) fn system_roots() -> Option<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    Some(roots).filter(|roots| !roots.is_empty())
}

/// The files and directories that [`system_roots`] reads.
#[must_use]
pub(crate) fn system_files() -> Vec<PathBuf> {
    let places = openssl_probe::probe();
    places.cert_file.into_iter().chain(places.cert_dir).collect()
}

/// The authorities in a PEM file. Reads it.
///
/// # Errors
/// What is wrong with the file, to stand after its name.
pub(crate) fn file_roots(path: &Path) -> Result<RootCertStore, String> {
    let text = std::fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates.map_err(|_| "is not valid PEM")?);
    if roots.is_empty() {
        return Err("holds no `CERTIFICATE` of an authority".to_owned());
    }
    Ok(roots)
}

/// The certificates in a PEM text, at least one.
///
/// # Errors
/// What is wrong with the text, to stand after the name of its file.
pub(crate) fn certificate_chain(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let chain = chain.map_err(|_| "is not valid PEM")?;
    if chain.is_empty() {
        return Err("holds no `CERTIFICATE`".to_owned());
    }
    Ok(chain)
}

/// The settings of a client that trusts servers by `roots`.
#[must_use]
pub(crate) fn client_config(roots: RootCertStore) -> ClientConfig {
    trusting(roots).with_no_client_auth()
}

/// The same for a client that shows servers a certificate, its own first in `chain`, where they ask for one.
///
/// # Errors
/// The key cannot be used, or is not that of the certificate.
pub(crate) fn client_config_as(
    roots: RootCertStore,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ClientConfig, rustls::Error> {
    trusting(roots).with_client_auth_cert(chain, key)
}

fn trusting(roots: RootCertStore) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for TLS 1.2 and 1.3")
        .with_root_certificates(roots)
}

//! Self-signed certificates, and TLS over blocking streams.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::{Client, Wire};

/// A self-signed certificate with its key.
pub struct Certificate {
    pub chain_pem: String,
    pub key_pem: String,
}

impl Certificate {
    /// For these names.
    pub fn for_names(names: &[&str]) -> Self {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let certified = rcgen::generate_simple_self_signed(names).unwrap();
        Self {
            chain_pem: certified.cert.pem(),
            key_pem: certified.signing_key.serialize_pem(),
        }
    }

    /// The certificate alone.
    pub fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.chain_pem.as_bytes()).unwrap()
    }

    /// The same for a server that offers these protocols, and that asks clients for one of these certificates.
    pub fn server_config_for(&self, alpn: &[&str], clients: &[&Self]) -> Arc<ServerConfig> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if clients.is_empty() {
            builder.with_no_client_auth()
        } else {
            let mut roots = RootCertStore::empty();
            clients.iter().for_each(|client| roots.add(client.der()).unwrap());
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
                .build()
                .unwrap();
            builder.with_client_cert_verifier(verifier)
        };
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).unwrap();
        let mut config = builder.with_single_cert(vec![self.der()], key).unwrap();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// What a server with this certificate is configured with.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.server_config_for(&[], &[])
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// What a client is configured with that trusts these certificates and offers these protocols.
pub fn client_config(trusted: &[&Certificate], alpn: &[&str]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in trusted {
        roots.add(certificate.der()).unwrap();
    }
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Arc::new(config)
}

type ClientStream = StreamOwned<ClientConnection, TcpStream>;
type ServerStream = StreamOwned<ServerConnection, TcpStream>;

/// A TLS connection with its handshake done, or the reason why there is none.
pub fn connect(config: &Arc<ClientConfig>, address: SocketAddr, name: &str) -> std::io::Result<ClientStream> {
    connect_after(b"", config, address, name)
}

/// The same with `first` in front of TLS.
pub fn connect_after(
    first: &[u8],
    config: &Arc<ClientConfig>,
    address: SocketAddr,
    name: &str,
) -> std::io::Result<ClientStream> {
    let mut socket = TcpStream::connect(address)?;
    socket.write_all(first)?;
    socket.set_read_timeout(Some(super::DEADLINE))?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut connection = ClientConnection::new(config.clone(), name).map_err(std::io::Error::other)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut socket)?;
    }
    Ok(StreamOwned::new(connection, socket))
}

/// A raw HTTP/1.1 client over TLS.
#[track_caller]
pub fn client(config: &Arc<ClientConfig>, address: SocketAddr, name: &str) -> Client {
    Client::over(Box::new(connect(config, address, name).unwrap()))
}

/// The server's side; the handshake is done with the first read.
pub fn accept(config: &Arc<ServerConfig>, socket: TcpStream) -> ServerStream {
    StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), socket)
}

impl Wire for ClientStream {
    fn set_timeout(&self, timeout: Duration) {
        self.sock.set_read_timeout(Some(timeout)).unwrap();
    }
    fn finish_sending(&mut self) {
        self.conn.send_close_notify();
        let _ = self.flush();
    }
}

impl Wire for ServerStream {
    fn set_timeout(&self, timeout: Duration) {
        self.sock.set_read_timeout(Some(timeout)).unwrap();
    }
    fn finish_sending(&mut self) {
        self.conn.send_close_notify();
        let _ = self.flush();
    }
}

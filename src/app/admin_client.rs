//! Asks the running gateway, for `why` and `diff`.
//!
//! Input: the configuration file, and a path on the admin port. Output: the JSON of the answer. The unix socket beside the state
//! is tried first, then `[admin] listen`, on this machine. Invariant: the token of the file is sent to a loopback address alone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Failure;
use super::config::outline;
use super::offline::directory;
use crate::net::client::bearer;
use crate::state;
use crate::values::Listen;

/// The name of the socket in the directory of the state.
const SOCKET: &str = "passgate-admin.sock";
/// For the whole answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// All decisions take some megabytes.
const MAX_ANSWER: usize = 256 * 1024 * 1024;

/// The admin socket of a gateway whose state is at `url`, seen from the TOML file; `None`: the state is in no file.
pub(super) fn socket(url: &str, file: &Path) -> Option<PathBuf> {
    Some(state::file(url, directory(file))?.with_file_name(SOCKET))
}

/// What the gateway that runs with `file` has at `path`; `None`: nothing.
///
/// # Errors
/// The file cannot be used, no gateway answers, or it refuses to.
pub(super) fn ask(file: &Path, path: &str) -> Result<Option<Value>, Failure> {
    let outline = outline(file)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(super::failed)?;
    let admin = outline.raw.admin.as_ref();
    let mut told: Vec<String> = Vec::new();
    runtime.block_on(async {
        if let Some(socket) = socket(&outline.state_url, file) {
            match tokio::net::UnixStream::connect(&socket).await {
                Ok(stream) => return exchange(stream, path, None).await,
                Err(error) => told.push(format!("unix:{}: {error}", socket.display())),
            }
        }
        match admin.map(|admin| &admin.listen.value) {
            Some(Listen::Unix(socket)) => {
                let socket = directory(file).join(socket);
                match tokio::net::UnixStream::connect(&socket).await {
                    Ok(stream) => return exchange(stream, path, None).await,
                    Err(error) => told.push(format!("unix:{}: {error}", socket.display())),
                }
            }
            Some(Listen::Tcp(address)) => {
                let address = here(*address);
                let token = admin.and_then(|admin| admin.token.as_ref());
                let token = token.filter(|_| address.ip().is_loopback());
                let token = token.and_then(|token| token.load(directory(file)).ok());
                let token = token.and_then(|token| bearer(token.expose()).ok());
                match tokio::net::TcpStream::connect(address).await {
                    Ok(stream) => return exchange(stream, path, token).await,
                    Err(error) => told.push(format!("{address}: {error}")),
                }
            }
            Some(Listen::Systemd(_)) | None => {}
        }
        let tried = told.join("; ");
        Err(Failure::Refused(format!(
            "error: no running gateway answers for `{}` ({tried})\n\
             hint: start it, name its configuration file with `-c`, and run this as the user of the gateway or as root\n",
            file.display()
        )))
    })
}

/// The same port on this machine, where it listens on all addresses.
fn here(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, address.port())
}

async fn exchange<S>(stream: S, path: &str, token: Option<HeaderValue>) -> Result<Option<Value>, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let answered = tokio::time::timeout(PATIENCE, send(stream, path, token)).await;
    let (status, body) = answered
        .map_err(|_| anyhow::anyhow!("the gateway did not answer within {PATIENCE:?}"))
        .flatten()?;
    match status {
        StatusCode::OK => Ok(Some(serde_json::from_slice(&body).map_err(|error| {
            anyhow::anyhow!("the answer of the gateway cannot be read: {error}")
        })?)),
        StatusCode::NOT_FOUND => Ok(None),
        status => {
            let why = String::from_utf8_lossy(&body);
            Err(Failure::Refused(format!(
                "error: the gateway answered {status}: {}\n",
                why.trim_end()
            )))
        }
    }
}

async fn send<S>(stream: S, path: &str, token: Option<HeaderValue>) -> anyhow::Result<(StatusCode, Bytes)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let mut request = Request::get(path)
        .header(HOST, "localhost")
        .body(Empty::<Bytes>::new())?;
    if let Some(token) = token {
        request.headers_mut().insert(AUTHORIZATION, token);
    }
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("{error}"))?.to_bytes();
    connection.abort();
    Ok((status, body))
}

//! The admin port: health, metrics, the operator's page and remembered decisions, on the control runtime and never on a public
//! listener.
//!
//! Input: GET and HEAD requests. Output: text, JSON and pages. Invariants: nothing here changes anything in the gateway;
//! decisions, which name callers, are for the clients that [`access`] admits.

mod access;

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, VARY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

use super::listen::Listener;
use crate::http::percent::escape_at;
use crate::http::reply::wants_page;
pub(crate) use access::{AdminToken, Tried};
use access::{Client, Denied, may_see_decisions, refuse_host};

/// Connections at once; a scraper and a load balancer need few.
const MAX_CONNECTIONS: usize = 64;
/// Where decisions are.
const DECISIONS: &str = "/decisions";
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// What the admin port tells.
pub(crate) trait Report: Send + Sync + 'static {
    /// `Err` with the reasons while the gateway should be restarted.
    fn health(&self) -> Result<(), Vec<String>>;
    /// Whether `name`, in lower case, is one that requests to the admin port may be for.
    fn is_named(&self, name: &str) -> bool;
    /// `Err` with the reasons while the gateway should get no traffic.
    fn ready(&self) -> Result<(), Vec<String>>;
    /// What an operator should look at, where the gateway serves all the same.
    fn notes(&self) -> Vec<String>;
    /// The metrics and their content type.
    fn metrics(&self) -> (&'static str, String);
    /// Whether there is a token for decisions.
    fn has_token(&self) -> bool;
    /// What becomes of the token that a client sent for decisions.
    fn try_token(&self, client: std::net::IpAddr, token: &[u8]) -> Tried;
    /// The page for operators. It names callers only where the client `sees_decisions`; `is_live`: it is loaded again by itself.
    fn overview(&self, sees_decisions: bool, is_live: bool) -> Response<Bytes>;
    /// The decision about a request, as JSON; `None`: there is none under this id.
    fn decision(&self, request_id: &str) -> Option<String>;
    /// The same as a page.
    fn decision_page(&self, request_id: &str) -> Response<Bytes>;
    /// All decisions that are remembered, as JSON.
    fn decisions(&self) -> String;
}

impl fmt::Debug for dyn Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Report")
    }
}

/// Answers on `listener` until the process ends.
///
/// # Errors
/// When the socket cannot be handed to the runtime.
pub(crate) async fn serve(listener: Listener, report: Arc<dyn Report>) -> std::io::Result<()> {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    match listener {
        Listener::Tcp(listener) => {
            let listener = TcpListener::from_std(listener)?;
            loop {
                let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
                    return Ok(());
                };
                match listener.accept().await {
                    Ok((stream, peer)) => {
                        spawn(stream, Arc::clone(&report), Client::Network(peer.ip()), permit)
                    }
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        }
        Listener::Unix(listener, _) => {
            let listener = UnixListener::from_std(listener)?;
            loop {
                let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
                    return Ok(());
                };
                match listener.accept().await {
                    Ok((stream, _)) => spawn(stream, Arc::clone(&report), Client::File, permit),
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        }
    }
}

fn spawn<I>(io: I, report: Arc<dyn Report>, client: Client, permit: tokio::sync::OwnedSemaphorePermit)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        let service = service_fn(move |request: Request<Incoming>| {
            let report = Arc::clone(&report);
            let (parts, _) = request.into_parts();
            async move {
                let path = parts.uri.path();
                let response = if path == "/" || path.starts_with(DECISIONS) {
                    // There can be thousands of decisions, and health checks must not wait for them.
                    let answered =
                        tokio::task::spawn_blocking(move || respond(&*report, client, &parts)).await;
                    let failed = |_| plain(StatusCode::INTERNAL_SERVER_ERROR, "internal error\n".to_owned());
                    answered.unwrap_or_else(failed)
                } else {
                    respond(&*report, client, &parts)
                };
                Ok::<_, Infallible>(response.map(Full::new))
            }
        });
        let served = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .serve_connection(TokioIo::new(io), service)
            .await;
        drop(permit);
        if let Err(error) = served {
            tracing::debug!(%error, "admin connection ended");
        }
    });
}

fn respond(report: &dyn Report, client: Client, request: &Parts) -> Response<Bytes> {
    if let Some(refused) = refuse_host(report, client, request) {
        return refused;
    }
    if !matches!(request.method, Method::GET | Method::HEAD) {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".to_owned());
    }
    let path = request.uri.path();
    if path == "/" {
        let sees_decisions = may_see_decisions(report, client, &request.headers).is_ok();
        return report.overview(sees_decisions, request.uri.query() != Some("refresh=off"));
    }
    let Some(rest) = path
        .strip_prefix(DECISIONS)
        .filter(|rest| rest.is_empty() || rest.starts_with('/'))
    else {
        return answer(report, path);
    };
    if let Err(denied) = may_see_decisions(report, client, &request.headers) {
        return deny(denied);
    }
    let json = |body| text(StatusCode::OK, "application/json", body);
    let Some(id) = rest.strip_prefix('/').filter(|id| !id.is_empty()) else {
        return json(report.decisions());
    };
    let Some(id) = decode(id) else {
        return plain(StatusCode::BAD_REQUEST, "the request id is no text\n".to_owned());
    };
    let mut response = if wants_page(&request.headers) {
        report.decision_page(&id)
    } else {
        report.decision(&id).map_or_else(
            || {
                plain(
                    StatusCode::NOT_FOUND,
                    "no decision is remembered under this request id\n".to_owned(),
                )
            },
            json,
        )
    };
    response
        .headers_mut()
        .insert(VARY, HeaderValue::from_static("accept"));
    response
}

fn decode(id: &str) -> Option<String> {
    let (bytes, mut at) = (id.as_bytes(), 0);
    let mut decoded = Vec::with_capacity(bytes.len());
    while let Some(&byte) = bytes.get(at) {
        let (byte, length) = if byte == b'%' {
            (escape_at(bytes, at)?, 3)
        } else {
            (byte, 1)
        };
        decoded.push(byte);
        at += length;
    }
    String::from_utf8(decoded).ok()
}

fn deny(denied: Denied) -> Response<Bytes> {
    let (status, why) = match denied {
        Denied::TokenWrong => (
            StatusCode::UNAUTHORIZED,
            "the token is not the one of `[admin] token`\n",
        ),
        Denied::TokenMissing => (
            StatusCode::UNAUTHORIZED,
            "decisions are for clients on this machine, and for those with the token of `[admin] token`\n",
        ),
        Denied::TooManyTokens => (StatusCode::TOO_MANY_REQUESTS, "too many wrong tokens\n"),
        Denied::CrossSite => (
            StatusCode::FORBIDDEN,
            "a page of another site made the browser send this\n",
        ),
        Denied::Elsewhere => (
            StatusCode::FORBIDDEN,
            "decisions are for clients on this machine that no proxy stands before; for others, set `token` in `[admin]`\n",
        ),
    };
    let mut response = plain(status, why.to_owned());
    if status == StatusCode::UNAUTHORIZED {
        let challenge = HeaderValue::from_static("Bearer realm=\"passgate admin\"");
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    response
}

fn answer(report: &dyn Report, path: &str) -> Response<Bytes> {
    match path {
        "/health" => match report.health() {
            Ok(()) => plain(StatusCode::OK, "ok\n".to_owned()),
            Err(reasons) => {
                let reasons = reasons.join("\n");
                plain(
                    StatusCode::SERVICE_UNAVAILABLE,
                    format!("not healthy\n{reasons}\n"),
                )
            }
        },
        "/ready" => match report.ready() {
            Ok(()) => {
                let notes = report.notes().into_iter().map(|note| format!("note: {note}\n"));
                let body = std::iter::once("ready\n".to_owned()).chain(notes).collect();
                plain(StatusCode::OK, body)
            }
            Err(reasons) => {
                let reasons = reasons.join("\n");
                plain(StatusCode::SERVICE_UNAVAILABLE, format!("not ready\n{reasons}\n"))
            }
        },
        // Browsers ask for it beside every page.
        "/favicon.ico" => plain(StatusCode::NO_CONTENT, String::new()),
        "/metrics" => {
            let (kind, metrics) = report.metrics();
            text(StatusCode::OK, kind, metrics)
        }
        _ => plain(
            StatusCode::NOT_FOUND,
            "/, /health, /ready, /metrics, /decisions, /decisions/{request id}\n".to_owned(),
        ),
    }
}

fn plain(status: StatusCode, body: String) -> Response<Bytes> {
    text(status, "text/plain; charset=utf-8", body)
}

fn text(status: StatusCode, kind: &'static str, body: String) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
        .headers_mut()
        .insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests;

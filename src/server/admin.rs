//! The admin port: `/health`, `/ready` and `/metrics`, on the control runtime and never on a public listener.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

use super::listen::Listener;

/// Connections at once; a scraper and a load balancer need few.
const MAX_CONNECTIONS: usize = 64;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// What the admin port tells.
pub trait Report: Send + Sync + 'static {
    /// `Err` with the reasons while the gateway should get no traffic.
    fn ready(&self) -> Result<(), Vec<String>>;
    /// What an operator should look at, where the gateway serves all the same.
    fn notes(&self) -> Vec<String>;
    /// The metrics and their content type.
    fn metrics(&self) -> (&'static str, String);
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
pub async fn serve(listener: Listener, report: Arc<dyn Report>) -> std::io::Result<()> {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    match listener {
        Listener::Tcp(listener) => {
            let listener = TcpListener::from_std(listener)?;
            loop {
                let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return Ok(()) };
                match listener.accept().await {
                    Ok((stream, _)) => spawn(stream, Arc::clone(&report), permit),
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        }
        Listener::Unix(listener, _) => {
            let listener = UnixListener::from_std(listener)?;
            loop {
                let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return Ok(()) };
                match listener.accept().await {
                    Ok((stream, _)) => spawn(stream, Arc::clone(&report), permit),
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        }
    }
}

fn spawn<I>(io: I, report: Arc<dyn Report>, permit: tokio::sync::OwnedSemaphorePermit)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        let service = service_fn(move |request: Request<Incoming>| {
            let response = answer(&*report, request.method(), request.uri().path());
            async move { Ok::<_, Infallible>(response.map(Full::new)) }
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

fn answer(report: &dyn Report, method: &Method, path: &str) -> Response<Bytes> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "text/plain; charset=utf-8", "only GET and HEAD\n".to_owned());
    }
    match path {
        "/health" => text(StatusCode::OK, "text/plain; charset=utf-8", "ok\n".to_owned()),
        "/ready" => match report.ready() {
            Ok(()) => {
                let notes = report.notes().into_iter().map(|note| format!("note: {note}\n"));
                let body = std::iter::once("ready\n".to_owned()).chain(notes).collect();
                text(StatusCode::OK, "text/plain; charset=utf-8", body)
            }
            Err(reasons) => {
                let reasons = reasons.join("\n");
                text(StatusCode::SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", format!("not ready\n{reasons}\n"))
            }
        },
        "/metrics" => {
            let (kind, metrics) = report.metrics();
            text(StatusCode::OK, kind, metrics)
        }
        _ => text(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "/health, /ready, /metrics\n".to_owned()),
    }
}

fn text(status: StatusCode, kind: &'static str, body: String) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

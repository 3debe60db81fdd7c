//! The one HTTP/2 connection of a worker to a server (`h2c://`), shared by all requests under way.
//!
//! Input: a request ready to be sent. Output: the response head; its body is a stream, and only its window tells the app how
//! much the client takes. The app limits the number of streams; the pool queues the rest. Nothing is sent again here: the caller
//! is told what the app may have done with a request.

use std::error::Error;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::{Instant, timeout_at};

use super::body::{Progress, RequestBody};
use super::connect::Link;
use super::http1::{self, ExchangeError, Fate, HeadTimeout};
use super::names::Place;
use crate::refusal::Refusal;

/// What a stream may hold for a client that does not read.
const STREAM_WINDOW: u32 = 256 * 1024;
/// So large that streams whose clients do not read cannot hold up the others; they are limited one by one.
const CONNECTION_WINDOW: u32 = 1 << 30;
const MAX_HEADER_BYTES: u32 = 64 * 1024;
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
pub(super) struct Http2 {
    send: http2::SendRequest<RequestBody>,
    /// The requests that the server allows to be under way at once (RFC 9113 section 5.1.2).
    streams: Arc<AtomicUsize>,
    /// Where it leads to.
    pub(super) place: Place,
    /// The app said on this handle that it takes no more requests; hyper may not have noticed yet.
    going: bool,
}

impl Http2 {
    /// Speaks HTTP/2 on `link`.
    pub(super) async fn new(link: Link) -> hyper::Result<Self> {
        let place = link.socket().place;
        let (send, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(MAX_HEADER_BYTES)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .handshake(TokioIo::new(link))
            .await?;
        let streams = Arc::new(AtomicUsize::new(connection.current_max_send_streams()));
        let told = Arc::clone(&streams);
        // Ends when the last handle is dropped and the last stream is over, or with the connection.
        tokio::spawn(async move {
            let mut connection = pin!(connection);
            poll_fn(|cx| {
                let ended = connection.as_mut().poll(cx).map(drop);
                if ended.is_pending() {
                    told.store(connection.current_max_send_streams(), Ordering::Relaxed);
                }
                ended
            })
            .await;
        });
        Ok(Self {
            send,
            streams,
            place,
            going: false,
        })
    }

    /// How many requests the server allows to be under way at once, as far as it has said so.
    pub(super) fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    /// Whether it takes further requests.
    pub(super) fn is_open(&self) -> bool {
        !self.going && self.send.is_ready()
    }

    /// Sends `request` and waits for the head of the response, at most `wait` from `since` and from the last byte of the
    /// request.
    pub(super) async fn exchange(
        &mut self,
        request: Request<RequestBody>,
        since: Instant,
        wait: Duration,
    ) -> Result<Response<Incoming>, ExchangeError> {
        let progress = request.body().progress();
        let mut response = pin!(self.send.try_send_request(request));
        let patience = HeadTimeout {
            timeout: wait,
            since,
            progress,
        };
        loop {
            // A request that waits for one of the app's streams counts as well.
            let Ok(result) = timeout_at(patience.deadline(), &mut response).await else {
                if patience.is_over() {
                    return Err(Refusal::UpstreamTimeout.into());
                }
                continue;
            };
            let mut error = match result {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            let unsent = error.take_message().map(Box::new);
            let error = error.into_error();
            tracing::debug!(%error, cause = error.source(), "no response over HTTP/2");
            self.going |= h2_error(&error).is_some_and(h2::Error::is_go_away);
            let refusal = match patience.progress.as_deref().and_then(Progress::failure) {
                Some(failure) => failure.refusal(),
                None => refusal(&error),
            };
            let fate = match refusal {
                _ if unsent.is_some() || was_not_processed(&error) => Fate::Unprocessed,
                Refusal::UpstreamClosed => Fate::Reset,
                _ => Fate::Unknown,
            };
            return Err(ExchangeError {
                refusal,
                fate,
                unsent,
            });
        }
    }
}

fn h2_error(error: &hyper::Error) -> Option<&h2::Error> {
    error.source().and_then(|source| source.downcast_ref())
}

/// Whether the app has promised that it did nothing with the request: its stream was refused (RFC 9113 section 8.7), or
/// is beyond the last one that the app names when it goes away (section 6.8).
fn was_not_processed(error: &hyper::Error) -> bool {
    h2_error(error).is_some_and(|error| {
        error.is_remote()
            && ((error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM))
                || error.is_go_away())
    })
}

fn refusal(error: &hyper::Error) -> Refusal {
    match h2_error(error) {
        // What the app sent was against the rules, and h2 said so to it.
        Some(error) if error.is_library() => Refusal::UpstreamProtocol,
        Some(_) => Refusal::UpstreamClosed,
        None => http1::refusal(error),
    }
}

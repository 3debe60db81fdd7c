//! One HTTP/1.1 connection to an app, polled by the request that uses it.
//!
//! Input: a request ready to be sent. Output: the response head, and the connection in a known state: idle and reusable, or
//! to be closed. There is no task behind a connection: the request's own task polls it, so that a request costs no wake-ups
//! between tasks, and dropping the request closes the connection.
//!
//! Invariants: a request comes back only where nothing of it was sent; no connection is reused on which something is
//! still under way; bytes that the app sent before a request are never taken for the response to it. For the last, each
//! request begins with a read that asks the kernel, in the same poll as its first write and before it: bytes found there end
//! the connection, and the request goes to another. Bytes that an app sends after that moment are a response as far as
//! HTTP/1.1 can tell, so that a connection is kept only if nothing more can be expected on it.

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, Sleep};

use super::body::{BodyFailure, Progress, RequestBody};
use super::connect::{Link, Socket};
use super::upstream::Upstream;
use super::waker::ConnectionWaker;
use crate::refusal::Refusal;

/// Bytes of a response head, and of what is read ahead of a slow client.
const MAX_BUFFER: usize = 64 * 1024;

type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

pub(super) struct Http1 {
    send: http1::SendRequest<RequestBody>,
    /// hyper's side of the connection; `None` once it has ended.
    driver: Option<Driver>,
    socket: Socket,
    /// The app's end of it.
    app: ServerRef,
    connection_waker: Arc<ConnectionWaker>,
    waker: Waker,
    /// Wound up for the first request and moved on only when it runs out, not for each request.
    timer: Option<Pin<Box<Sleep>>>,
    /// `false` once something was seen that makes a further request on this connection unsafe.
    reusable: bool,
    /// `false` where the app answered before it had been sent all of the request.
    sent_whole: bool,
}

/// One server of an upstream.
#[derive(Clone, Debug)]
pub(super) struct ServerRef {
    pub(super) upstream: Arc<Upstream>,
    pub(super) server: usize,
}

impl fmt::Debug for Http1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http1")
            .field("open", &self.driver.is_some())
            .finish_non_exhaustive()
    }
}

/// How long the head of a response is waited for. An upload is not a wait for the app: the time counts from the last
/// byte of the request.
pub(super) struct HeadTimeout {
    pub(super) timeout: Duration,
    pub(super) since: Instant,
    pub(super) progress: Option<Arc<Progress>>,
}

impl HeadTimeout {
    pub(super) fn deadline(&self) -> Instant {
        let moved = self
            .progress
            .as_ref()
            .map_or(self.since, |progress| progress.last_moved().max(self.since));
        moved + self.timeout
    }

    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.deadline()
    }
}

/// Why there is no response.
#[derive(Debug)]
pub(super) struct ExchangeError {
    /// What the client is told.
    pub(super) refusal: Refusal,
    /// What the app may have done with the request.
    pub(super) fate: Fate,
    /// The request, where nothing of it was sent.
    pub(super) unsent: Option<Box<Request<RequestBody>>>,
}

/// What an app may have done with a request that it did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Certainly nothing.
    Unprocessed,
    /// The connection or the stream ended before a byte of an answer.
    Reset,
    /// Anything.
    Unknown,
}

impl From<Refusal> for ExchangeError {
    fn from(refusal: Refusal) -> Self {
        Self {
            refusal,
            fate: Fate::Unknown,
            unsent: None,
        }
    }
}

impl Http1 {
    /// Speaks HTTP/1.1 on `link` with `app`. Sends nothing yet.
    pub(super) async fn new(link: Link, app: ServerRef) -> hyper::Result<Self> {
        let socket = link.socket();
        let (send, connection) = http1::Builder::new()
            .max_buf_size(MAX_BUFFER)
            // The buffer's size alone lets a head pass that arrives in one piece.
            .max_header_size(MAX_BUFFER)
            .handshake::<_, RequestBody>(TokioIo::new(link))
            .await?;
        let connection_waker = Arc::new(ConnectionWaker::default());
        Ok(Self {
            send,
            driver: Some(Box::pin(connection.with_upgrades())),
            socket,
            app,
            waker: connection_waker.clone().into(),
            connection_waker,
            timer: None,
            reusable: true,
            sent_whole: true,
        })
    }

    /// Sends `request` and waits for the head of the response, at most `timeout` from `since` and from the last byte of the
    /// request.
    pub(super) async fn exchange(
        &mut self,
        request: Request<RequestBody>,
        since: Instant,
        timeout: Duration,
    ) -> Result<Response<Incoming>, ExchangeError> {
        let progress = request.body().progress();
        let is_head = request.method() == Method::HEAD;
        let patience = HeadTimeout {
            timeout,
            since,
            progress,
        };
        // hyper reads an idle connection before it takes the request up, and gives the request back if anything is there.
        self.socket.begin();
        let mut response = pin!(self.send.try_send_request(request));
        let result = poll_fn(|cx| {
            if let Poll::Ready(result) = self.drive(cx, |here| response.as_mut().poll(here)) {
                return Poll::Ready(Some(result));
            }
            self.timed_out(&patience, cx).map(|()| None)
        })
        .await;
        match result {
            Some(Ok(_)) if !self.socket.has_sent() => {
                // hyper had taken the request up and could not write it yet: this answers something else.
                self.app.spoke_unasked();
                Err(Refusal::UpstreamProtocol.into())
            }
            Some(Ok(response)) => {
                let is_body_sent = patience.progress.is_none_or(|progress| progress.is_complete());
                self.sent_whole = is_body_sent && self.socket.was_flushed_before_the_answer();
                // To an HTTP/1.0 peer hyper would send the next request as HTTP/1.0, and drop a chunked body.
                self.reusable = self.sent_whole
                    && response.version() == http::Version::HTTP_11
                    && !may_be_followed_by_a_body(is_head, &response);
                Ok(response)
            }
            Some(Err(error)) => {
                if error
                    .error()
                    .source()
                    .and_then(|source| source.downcast_ref())
                    .is_some_and(is_unasked)
                {
                    self.app.spoke_unasked();
                }
                Err(failure(error, self.socket.was_answered()))
            }
            None => Err(Refusal::UpstreamTimeout.into()),
        }
    }

    fn timed_out(&mut self, patience: &HeadTimeout, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(patience.deadline())));
        while timer.as_mut().poll(cx).is_ready() {
            if patience.is_over() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(patience.deadline());
        }
        Poll::Pending
    }

    /// Lets the connection read and write what it can, then polls `receiver`, the other end of one of hyper's channels
    /// out of it. `cx` is woken when more can be done.
    ///
    /// Both ends are polled here by one task, so their wake-ups for each other are not passed on to it.
    pub(super) fn drive<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut receiver: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.connection_waker.mute(cx.waker());
        self.settle();
        let received = receiver(&mut Context::from_waker(&self.waker));
        self.connection_waker.unmute(received.is_pending());
        received
    }

    /// As [`Http1::drive`], but does nothing with the connection while something lies in the channel already.
    pub(super) fn drain<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut receiver: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.connection_waker.mute(cx.waker());
        let received = receiver(&mut Context::from_waker(&self.waker));
        if received.is_pending() {
            return self.drive(cx, receiver);
        }
        self.connection_waker.unmute(false);
        received
    }

    /// Whether the exchange is over in both directions, so that another request may follow.
    pub(super) fn is_idle(&mut self) -> bool {
        self.connection_waker.disarm();
        if !self.send.is_ready() {
            self.settle();
        }
        let server = &self.app.upstream.servers[self.app.server];
        server.addresses.has(&mut self.socket.place)
            && self.reusable
            && self.driver.is_some()
            && self.send.is_ready()
    }

    /// Whether the app has neither closed this idle connection nor said anything unasked on it, as far as this machine
    /// knows at this moment.
    pub(super) fn is_fresh(&mut self) -> bool {
        self.socket.look();
        self.settle();
        self.is_idle()
    }

    /// Whether all of the request had been sent when the app began to answer it.
    pub(super) fn was_sent_whole(&self) -> bool {
        self.sent_whole
    }

    /// The socket below.
    pub(super) fn socket(&self) -> Socket {
        self.socket.clone()
    }

    /// hyper's side, to be run as a task; `None` where the connection has ended.
    pub(super) fn take_driver(&mut self) -> Option<Driver> {
        self.connection_waker.disarm();
        self.driver.take()
    }

    fn settle(&mut self) {
        let Some(running) = &mut self.driver else { return };
        let Poll::Ready(ended) = running.as_mut().poll(&mut Context::from_waker(&self.waker)) else {
            return;
        };
        self.driver = None;
        // hyper reports other errors to the future of the response or to its body.
        if ended.is_err_and(|error| is_unasked(&error)) {
            self.app.spoke_unasked();
        }
    }
}

impl ServerRef {
    fn spoke_unasked(&self) {
        self.upstream.spoke_unasked(self.server);
    }
}

/// Whether an app that sends a body where there is none could send it after this answer: its bytes would be the answer
/// to the next request. One that names no length with 204 or 304 has no body to send.
fn may_be_followed_by_a_body<B>(is_head: bool, response: &Response<B>) -> bool {
    let is_empty = matches!(
        response.status(),
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
    );
    let headers = response.headers();
    is_head || (is_empty && (headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING)))
}

/// Whether the app sent something on a connection on which nothing was asked. hyper has no predicate for this one.
fn is_unasked(error: &hyper::Error) -> bool {
    error.to_string() == "received unexpected message from connection"
}

fn failure(mut error: TrySendError<Request<RequestBody>>, was_answered: bool) -> ExchangeError {
    let unsent = error.take_message().map(Box::new);
    let error = error.into_error();
    tracing::debug!(%error, cause = error.source(), unsent = unsent.is_some(), "no response over HTTP/1.1");
    let refusal = refusal(&error);
    ExchangeError {
        fate: match &unsent {
            Some(_) => Fate::Unprocessed,
            None if refusal == Refusal::UpstreamClosed && !was_answered => Fate::Reset,
            None => Fate::Unknown,
        },
        refusal,
        unsent,
    }
}

/// What an error of hyper's means to the client.
pub(super) fn refusal(error: &hyper::Error) -> Refusal {
    if let Some(body) = error
        .source()
        .and_then(|source| source.downcast_ref::<BodyFailure>())
    {
        return body.refusal();
    }
    if error.is_parse() {
        return Refusal::UpstreamProtocol;
    }
    Refusal::UpstreamClosed
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Write;

    use super::*;
    use crate::forward::connect::{Purpose, connect};
    use crate::forward::testing::{compile, raw};

    #[test]
    fn the_wait_for_an_answer_counts_from_the_last_byte_of_the_request() {
        let timeout = Duration::from_secs(30);
        let since = Instant::now() - Duration::from_secs(100);
        let over = |progress| {
            HeadTimeout {
                timeout,
                since,
                progress,
            }
            .is_over()
        };
        assert!(over(None));
        let progress = Arc::new(Progress::new());
        progress.moved(1);
        assert!(!over(Some(progress)), "something was sent just now");
    }

    /// An app on a thread of its own, so that what it does is in the kernel before this task's runtime has heard of it.
    fn app(
        then: impl FnOnce(&mut std::net::TcpStream) + Send + 'static,
    ) -> (String, std::thread::JoinHandle<()>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || then(&mut listener.accept().unwrap().0));
        (url, thread)
    }

    async fn connection(url: String) -> Http1 {
        let upstream = compile(&raw(&[url]));
        let deadline = Instant::now() + Duration::from_secs(5);
        let link = connect(&upstream.servers[0], Purpose::OWN, deadline)
            .await
            .unwrap();
        Http1::new(link, ServerRef { upstream, server: 0 }).await.unwrap()
    }

    fn request() -> Request<RequestBody> {
        Request::builder()
            .uri("/x")
            .header("x-a", "b")
            .body(RequestBody::empty())
            .unwrap()
    }

    /// What an app may have done to a connection before a request is written to it, and whether that was to speak.
    const DONE: [(&str, bool); 5] = [
        ("", false),
        ("x", true),
        ("\r\n", true),
        ("HTTP/1.1 408 Request Timeout\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nsecrets", true),
    ];

    #[tokio::test]
    async fn what_lies_on_a_connection_before_a_request_is_no_answer_to_it_and_the_request_comes_back_whole()
    {
        for (said, is_unasked) in DONE {
            let (url, app) = app(move |stream| stream.write_all(said.as_bytes()).unwrap());
            let mut connection = connection(url).await;
            // Joined without a turn of the event loop: tokio knows of nothing yet.
            app.join().unwrap();
            let failure = connection
                .exchange(request(), Instant::now(), Duration::from_secs(5))
                .await
                .unwrap_err();
            let unsent = failure.unsent.expect("nothing of it was sent");
            assert_eq!(
                (unsent.uri().path(), &unsent.headers()["x-a"]),
                ("/x", &"b".parse().unwrap()),
                "{said:?}"
            );
            assert_eq!(!connection.app.upstream.is_reusable(0), is_unasked, "{said:?}");
        }
    }

    #[tokio::test]
    async fn only_a_connection_that_is_open_and_silent_is_fresh() {
        let (end, ended) = std::sync::mpsc::sync_channel::<()>(1);
        let (url, app_thread) = app(move |_| assert!(ended.recv().is_err()));
        let mut quiet = connection(url).await;
        assert!(quiet.is_fresh() && quiet.is_fresh());
        drop(end);
        app_thread.join().unwrap();
        for (said, is_unasked) in DONE {
            let (url, app) = app(move |stream| stream.write_all(said.as_bytes()).unwrap());
            let mut connection = connection(url).await;
            app.join().unwrap();
            assert!(!connection.is_fresh(), "{said:?}");
            assert_eq!(!connection.app.upstream.is_reusable(0), is_unasked, "{said:?}");
        }
    }

    #[tokio::test]
    async fn hypers_error_for_bytes_that_were_not_asked_for_is_told_from_others() {
        // The text is all that there is to tell it by: if it changes, the two tests above fail as well.
        let (url, app) = app(|stream| stream.write_all(b"HTTP/1.1 200 OK\r\na b: c\r\n\r\n").unwrap());
        let link = {
            let upstream = compile(&raw(&[url]));
            let deadline = Instant::now() + Duration::from_secs(5);
            connect(&upstream.servers[0], Purpose::OWN, deadline)
                .await
                .unwrap()
        };
        app.join().unwrap();
        link.socket().look();
        let (_send, connection) = http1::handshake::<_, RequestBody>(TokioIo::new(link))
            .await
            .unwrap();
        let error = connection.await.unwrap_err();
        assert!(is_unasked(&error), "{error}");
        assert!(!error.is_parse() && !error.is_closed() && !error.is_incomplete_message());
    }
}

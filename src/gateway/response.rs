//! The answer on its way to the client.
//!
//! Input: a response, and the exchange that it ends. Output: the same response with a body that counts its bytes and ends
//! when the caller is signed out or revoked. The exchange is closed when the last byte went out, or the client went away.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::upgrade::OnUpgrade;
use tokio::time::Sleep;

use super::exchange::Exchange;
use crate::forward::{ResponseBody, Upgrade, is_grpc, tunnel};
use crate::http::reply;

/// What the answer consists of.
#[derive(Debug)]
pub(crate) enum Content {
    /// The gateway's own words.
    Own(Bytes),
    /// A message of gRPC.
    Grpc(GrpcContent),
    /// The app's.
    App(ResponseBody),
    /// Nothing: the protocol of the connection changes, and its bytes go between client and app.
    Switched {
        /// The client's side.
        client: OnUpgrade,
        /// The app's side.
        app: Upgrade,
    },
}

/// The gateway's answer to a proxy that asks by gRPC.
#[derive(Debug)]
pub(crate) struct GrpcContent {
    /// With its prefix; empty for a call that cannot be read.
    pub(super) message: Bytes,
    /// `grpc-status`
    pub(super) status: HeaderValue,
    /// What the client of the proxy gets, for the log.
    pub(super) meant: StatusCode,
}

/// The body of every response that leaves the gateway.
#[derive(Debug)]
pub struct Answer {
    body: AnswerBody,
    /// `None` where another task closes it.
    exchange: Option<Box<Exchange>>,
    /// What broke, while the bytes before it are on their way.
    broken: Option<io::Error>,
    /// How it ends if its caller may not be here any more.
    ending: Ending,
    /// Runs from the moment on at which that became known.
    grace: Option<Pin<Box<Sleep>>>,
}

/// Gives `response` to the client. The exchange is closed when its body has ended, and after a switch of protocols when
/// that connection has.
pub(super) fn respond(mut exchange: Box<Exchange>, response: Response<Content>) -> Response<Answer> {
    let (mut parts, content) = response.into_parts();
    let is_measured = !(matches!(content, Content::App(_)) && is_grpc(&parts.headers));
    let status = match &content {
        Content::Grpc(grpc) => grpc.meant,
        Content::Own(_) | Content::App(_) | Content::Switched { .. } => parts.status,
    };
    exchange.answered(status, is_measured);
    let answer = match content {
        Content::Own(bytes) => {
            let bytes = reply::finish(exchange.record.sent_method(), &mut parts, bytes);
            Answer::own(bytes, Some(exchange))
        }
        Content::Grpc(grpc) => Answer::grpc(grpc, exchange),
        Content::App(body) => Answer::app(body, Ending::of(&parts.headers), exchange),
        Content::Switched { client, app } => {
            let exit = Arc::clone(&exchange.record.exit);
            let task = tokio::spawn(async move {
                let caller_gone = exchange.caller_gone();
                let mut is_over = false;
                let close = async {
                    caller_gone.await;
                    is_over = true;
                };
                let traffic = tunnel(client, app, close).await;
                exchange.record.is_ended = is_over;
                exchange.record.bytes = traffic.received;
                drop(exchange);
            });
            exit.leads_to(task.abort_handle());
            Answer::own(Bytes::new(), None)
        }
    };
    Response::from_parts(parts, answer)
}

/// How long an ordinary answer goes on after its caller was signed out or revoked. It was asked for before that; cut at
/// once, the client would get a broken connection for an answer.
const GRACE: Duration = Duration::from_secs(2);

/// How a client learns that an answer was ended by the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// By the connection's or the stream's end, after [`GRACE`]: half an answer must not look like a whole one.
    Abrupt,
    /// An event stream may end at any time; the client asks again, and is told.
    Clean,
    /// By `grpc-status: 16`, `UNAUTHENTICATED`.
    Grpc,
}

impl Ending {
    /// By the content type of the answer.
    fn of(headers: &HeaderMap) -> Self {
        let Some(kind) = headers.get(CONTENT_TYPE) else {
            return Self::Abrupt;
        };
        let is = |wanted: &[u8]| {
            kind.as_bytes()
                .get(..wanted.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(wanted))
                && !kind
                    .as_bytes()
                    .get(wanted.len())
                    .is_some_and(u8::is_ascii_alphanumeric)
        };
        match kind {
            _ if is(b"text/event-stream") => Self::Clean,
            // Not `application/grpc-web`, whose trailers are part of the body.
            _ if is(b"application/grpc") && !is(b"application/grpc-web") => Self::Grpc,
            _ => Self::Abrupt,
        }
    }

    fn last_frame(self) -> Option<io::Result<Frame<Bytes>>> {
        match self {
            Self::Abrupt => Some(Err(io::Error::other("the caller has been signed out"))),
            Self::Clean => None,
            Self::Grpc => {
                let mut trailers = HeaderMap::new();
                trailers.insert(
                    HeaderName::from_static("grpc-status"),
                    HeaderValue::from_static("16"),
                );
                trailers.insert(
                    HeaderName::from_static("grpc-message"),
                    HeaderValue::from_static("session ended"),
                );
                Some(Ok(Frame::trailers(trailers)))
            }
        }
    }
}

#[derive(Debug)]
enum AnswerBody {
    Own(Option<Bytes>),
    Grpc(Option<Bytes>, Option<HeaderMap>),
    App(ResponseBody),
}

impl Answer {
    fn own(bytes: Bytes, exchange: Option<Box<Exchange>>) -> Self {
        let body = AnswerBody::Own(Some(bytes).filter(|bytes| !bytes.is_empty()));
        Self {
            body,
            exchange,
            broken: None,
            ending: Ending::Abrupt,
            grace: None,
        }
    }

    fn grpc(content: GrpcContent, exchange: Box<Exchange>) -> Self {
        let mut trailers = HeaderMap::new();
        trailers.insert(HeaderName::from_static("grpc-status"), content.status);
        let message = Some(content.message).filter(|message| !message.is_empty());
        Self {
            body: AnswerBody::Grpc(message, Some(trailers)),
            exchange: Some(exchange),
            broken: None,
            ending: Ending::Abrupt,
            grace: None,
        }
    }

    fn app(body: ResponseBody, ending: Ending, exchange: Box<Exchange>) -> Self {
        Self {
            body: AnswerBody::App(body),
            exchange: Some(exchange),
            broken: None,
            ending,
            grace: None,
        }
    }
}

impl Answer {
    /// Whether the rate counts at which the client takes it: not for gRPC.
    #[must_use]
    pub fn is_measured(&self) -> bool {
        self.exchange
            .as_ref()
            .is_none_or(|exchange| exchange.is_measured())
    }

    /// The gateway ends it here, because the client takes it too slowly.
    pub fn was_too_slow(&mut self) {
        if let Some(exchange) = &mut self.exchange {
            exchange.record.is_too_slow = true;
        }
    }

    /// The next frame: the app's, or the last one if its caller may not be here any more.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let body = match &mut self.body {
            AnswerBody::Own(bytes) => return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            AnswerBody::Grpc(message, trailers) => {
                let data = message.take().map(Frame::data);
                let next = data.or_else(|| trailers.take().map(Frame::trailers));
                return Poll::Ready(next.map(Ok));
            }
            AnswerBody::App(body) => body,
        };
        let Some(exchange) = &mut self.exchange else {
            return Pin::new(body).poll_frame(cx);
        };
        if self.grace.is_none() && !exchange.is_caller_gone() {
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Ready(next) => return Poll::Ready(next),
                // While the app has nothing to say, only a revocation can end this.
                Poll::Pending => ready!(exchange.poll_caller_gone(cx)),
            }
        }
        if self.ending == Ending::Abrupt {
            let grace = self
                .grace
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(GRACE)));
            if grace.as_mut().poll(cx).is_pending() {
                return Pin::new(body).poll_frame(cx);
            }
        }
        exchange.ended();
        // With the body goes the exchange with the app.
        self.body = AnswerBody::Own(None);
        Poll::Ready(self.ending.last_frame())
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        if let Some(error) = this.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let next = ready!(this.poll_next(cx));
        if let Some(exchange) = &mut this.exchange {
            let record = &mut exchange.record;
            match &next {
                Some(Ok(frame)) => record.bytes += frame.data_ref().map_or(0, |data| data.len() as u64),
                // The head has gone out, so that the client learns of it by the connection's end.
                Some(Err(_)) => record.is_broken = true,
                None => {}
            }
        }
        // An error makes the library drop what it has not written yet. The client gets as much as the app gave: one
        // turn for writing, then the error.
        if let Some(Err(error)) = next {
            this.broken = Some(error);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(next)
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            AnswerBody::Own(bytes) => bytes.is_none(),
            AnswerBody::Grpc(message, trailers) => message.is_none() && trailers.is_none(),
            AnswerBody::App(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            AnswerBody::Own(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            AnswerBody::Grpc(message, _) => {
                SizeHint::with_exact(message.as_ref().map_or(0, |message| message.len() as u64))
            }
            AnswerBody::App(body) => body.size_hint(),
        }
    }
}

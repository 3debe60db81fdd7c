//! The body of a request on its way from the client to the app.
//!
//! Input: what hyper reads from the client. Output: the same bytes, frame by frame; counted, limited, and ended when the
//! client stops sending. Invariants: a body is never collected, and an app never gets a shortened body that looks complete:
//! every failure here is an error of the stream and ends the connection to the app.

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, header};
use http_body::{Body, Frame, SizeHint};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

use crate::http::headers::{has_padded_value, is_forbidden_trailer};
use crate::http::incoming::{ClientBody, ClientBodyError};
use crate::http::pace::{Pace, PaceRules};
use crate::refusal::Refusal;

/// How long the rest of a body is read after an early answer of the app.
const PASSING: Duration = Duration::from_secs(2);

/// What holds for every request body of a server.
pub struct BodyRules {
    /// The longest body in bytes; `None` for no limit.
    pub max_bytes: Option<u64>,
    /// How slowly a body may come: the longest wait for more of it and, until the answer begins, its least rate.
    pub pace: PaceRules,
    /// Says which trailer fields the app must not get from a client, above those of RFC 9110 section 6.5.1: every name
    /// that an app could take for one of ours.
    pub protected: Box<dyn Fn(&HeaderName) -> bool + Send + Sync>,
}

impl fmt::Debug for BodyRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyRules")
            .field("max_bytes", &self.max_bytes)
            .field("pace", &self.pace)
            .finish_non_exhaustive()
    }
}

/// How far a request body has come. Shared, because the body itself is handed on to the connection.
#[derive(Debug)]
pub(crate) struct Progress {
    since: Instant,
    /// Milliseconds from `since` to the last bytes.
    moved: AtomicU64,
    bytes: AtomicU64,
    complete: AtomicBool,
    /// Whether the answer has begun. From then on it is the app that decides how long it takes the body.
    answer_began: AtomicBool,
    failure: OnceLock<BodyFailure>,
    /// The task that waits for more of it.
    waiting: Mutex<Option<Waker>>,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            since: Instant::now(),
            moved: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            complete: AtomicBool::new(false),
            answer_began: AtomicBool::new(false),
            failure: OnceLock::new(),
            waiting: Mutex::default(),
        }
    }

    /// Lets nothing more of it through: over HTTP/2 the connection to the app has it, and goes on with
    /// it when the exchange that it belongs to is over already.
    pub(crate) fn end(&self) {
        self.stop(BodyFailure::Ended);
    }

    /// The app's whole answer is there: lets nothing more of it through either. What the client still sends is read for
    /// a moment, so that the client can read the answer.
    pub(super) fn answered(&self) {
        self.stop(BodyFailure::Answered);
    }

    fn stop(&self, failure: BodyFailure) {
        if self.is_complete() {
            return;
        }
        let _ = self.failure.set(failure);
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }

    /// The answer has begun.
    pub(crate) fn answer_began(&self) {
        self.answer_began.store(true, Ordering::Relaxed);
    }

    /// `task` is woken by [`Progress::stop`].
    fn await_end(&self, task: &Waker) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if !waiting.as_ref().is_some_and(|known| known.will_wake(task)) {
            let before = waiting.replace(task.clone());
            drop(waiting);
            drop(before);
        }
    }

    pub(super) fn moved(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.moved.store(
            u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
    }

    /// When bytes last went towards the app, to the millisecond.
    pub(super) fn last_moved(&self) -> Instant {
        self.since + Duration::from_millis(self.moved.load(Ordering::Relaxed))
    }

    /// Bytes of the body that went towards the app so far.
    #[must_use]
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether the whole body, trailers included, went towards the app.
    #[must_use]
    pub(crate) fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Relaxed)
    }

    /// Why it ended before its end, if it did.
    #[must_use]
    pub(crate) fn failure(&self) -> Option<BodyFailure> {
        self.failure.get().copied()
    }
}

/// Why a request body ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyFailure {
    /// Longer than [`BodyRules::max_bytes`].
    TooLarge,
    /// Nothing came, or too little, by [`BodyRules::pace`].
    TimedOut,
    /// The client closed the connection or reset the stream.
    Broken,
    /// The chunked coding was not well formed (RFC 9112 section 7.1).
    Malformed,
    /// Its sender was signed out or revoked.
    Ended,
    /// The app has answered without waiting for it.
    Answered,
}

impl BodyFailure {
    /// What the client is told, where nothing was answered yet.
    #[must_use]
    pub(crate) fn refusal(self) -> Refusal {
        match self {
            Self::TooLarge => Refusal::BodyTooLarge,
            Self::TimedOut | Self::Broken => Refusal::ClientTimeout,
            Self::Malformed => Refusal::AmbiguousFraming,
            Self::Ended => Refusal::Revoked,
            // There is an answer, so that this one is not sent.
            Self::Answered => Refusal::UpstreamClosed,
        }
    }
}

impl From<ClientBodyError> for BodyFailure {
    fn from(error: ClientBodyError) -> Self {
        match error {
            ClientBodyError::Broken => Self::Broken,
            ClientBodyError::Malformed => Self::Malformed,
        }
    }
}

impl fmt::Display for BodyFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "request body is too large",
            Self::TimedOut => "client stopped sending the request body",
            Self::Broken => "client closed the connection inside the request body",
            Self::Malformed => "request body is not well-formed chunked coding",
            Self::Ended => "the session of the request body's sender has ended",
            Self::Answered => "the app has answered before the end of the request body",
        })
    }
}

impl Error for BodyFailure {}

/// A request body on its way to the app.
///
/// One machine word where there is no body, which is most requests.
#[derive(Debug)]
pub(crate) struct RequestBody(Option<Box<Streaming>>);

#[derive(Debug)]
struct Streaming {
    incoming: ClientBody,
    rules: Arc<BodyRules>,
    left: u64,
    pace: Pace,
    /// Whether it is gRPC, where either side may be silent for as long as it likes.
    is_grpc: bool,
    progress: Arc<Progress>,
}

impl RequestBody {
    /// The body of a request that a client sent.
    ///
    /// # Errors
    /// [`Refusal::BodyTooLarge`] where the declared length is over the limit already; then nothing need be read.
    pub(crate) fn new(
        incoming: impl Into<ClientBody>,
        headers: &HeaderMap,
        rules: &Arc<BodyRules>,
    ) -> Result<Self, Refusal> {
        let incoming = incoming.into();
        if incoming.is_end_stream() {
            return Ok(Self::empty());
        }
        let left = rules.max_bytes.unwrap_or(u64::MAX);
        if incoming.size_hint().lower() > left {
            return Err(Refusal::BodyTooLarge);
        }
        Ok(Self(Some(Box::new(Streaming {
            incoming,
            rules: rules.clone(),
            left,
            pace: Pace::default(),
            is_grpc: is_grpc(headers),
            progress: Arc::new(Progress::new()),
        }))))
    }

    /// No body.
    #[must_use]
    pub(crate) fn empty() -> Self {
        Self(None)
    }

    /// How far it has come, from now on; `None` where there is no body.
    #[must_use]
    pub(crate) fn progress(&self) -> Option<Arc<Progress>> {
        self.0.as_ref().map(|streaming| streaming.progress.clone())
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Some(rest) = self.0.take()
            && rest.progress.failure() == Some(BodyFailure::Answered)
            // Without a runtime the client's connection is gone as well.
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(rest.read_in_passing());
        }
    }
}

impl Streaming {
    /// Reads what the client still sends, and drops it. A connection that is closed with bytes unread is reset, and the
    /// answer may be lost with it.
    async fn read_in_passing(mut self: Box<Self>) {
        let reading = poll_fn(|cx| {
            while let Some(Ok(_)) = ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {}
            Poll::Ready(())
        });
        let _ = timeout(PASSING, reading).await;
    }

    fn fail(&mut self, failure: BodyFailure) -> Poll<Option<Result<Frame<Bytes>, BodyFailure>>> {
        // Set once: a body that failed is not polled on.
        let _ = self.progress.failure.set(failure);
        Poll::Ready(Some(Err(failure)))
    }

    fn complete(&self) {
        self.progress.complete.store(true, Ordering::Relaxed);
    }

    fn data(&mut self, data: Bytes) -> Poll<Option<Result<Frame<Bytes>, BodyFailure>>> {
        let length = data.len() as u64;
        let Some(left) = self.left.checked_sub(length) else {
            return self.fail(BodyFailure::TooLarge);
        };
        self.left = left;
        self.progress.moved(length);
        if self.incoming.is_end_stream() {
            self.complete();
        }
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn trailers(&mut self, mut trailers: HeaderMap) -> Poll<Option<Result<Frame<Bytes>, BodyFailure>>> {
        // hyper trims what HTTP/1 sends.
        if has_padded_value(&trailers) {
            return self.fail(BodyFailure::Malformed);
        }
        drop_trailers(&mut trailers, &*self.rules.protected);
        self.complete();
        if trailers.is_empty() {
            Poll::Ready(None)
        } else {
            Poll::Ready(Some(Ok(Frame::trailers(trailers))))
        }
    }

    /// The client has sent nothing more yet: looks at the clock, which is wound up only now.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFailure>>> {
        let answered = self.progress.answer_began.load(Ordering::Relaxed);
        // Once a call of gRPC is answered, its stream of requests may be silent until the app ends it.
        let is_held = !(self.is_grpc && answered);
        if is_held
            && self
                .pace
                .poll_too_slow(&self.rules.pace, !(self.is_grpc || answered), cx)
                .is_ready()
        {
            return self.fail(BodyFailure::TimedOut);
        }
        // Subscribe before checking, so that an end in between is not missed.
        self.progress.await_end(cx.waker());
        match self.progress.failure() {
            Some(failure) => Poll::Ready(Some(Err(failure))),
            None => Poll::Pending,
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyFailure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFailure>>> {
        let Some(this) = self.0.as_deref_mut() else {
            return Poll::Ready(None);
        };
        if let Some(failure) = this.progress.failure() {
            return Poll::Ready(Some(Err(failure)));
        }
        let Poll::Ready(next) = Pin::new(&mut this.incoming).poll_frame(cx) else {
            return this.wait(cx);
        };
        let bytes = next
            .as_ref()
            .and_then(|next| next.as_ref().ok()?.data_ref())
            .map_or(0, |data| data.len() as u64);
        this.pace.moved(bytes);
        match next {
            None => {
                this.complete();
                Poll::Ready(None)
            }
            Some(Err(error)) => this.fail(error.into()),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => this.data(data),
                Err(frame) => match frame.into_trailers() {
                    Ok(trailers) => this.trailers(trailers),
                    Err(_unknown) => this.fail(BodyFailure::Malformed),
                },
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0
            .as_ref()
            .is_none_or(|this| this.progress.failure().is_none() && this.incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), |this| this.incoming.size_hint())
    }
}

/// Whether a message is one of gRPC, by its content type: `application/grpc`, `application/grpc+proto`,
/// `application/grpc-web` and the like.
#[must_use]
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    const TYPE: &[u8] = b"application/grpc";
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| {
        let (start, rest) = kind.as_bytes().split_at(TYPE.len().min(kind.len()));
        start.eq_ignore_ascii_case(TYPE) && !rest.first().is_some_and(u8::is_ascii_alphanumeric)
    })
}

/// Drops the fields that are not allowed in trailers because they would say something about framing, routing, caching
/// or the caller after those have been decided (RFC 9110 section 6.5.1), and the `protected` ones.
pub(super) fn drop_trailers(trailers: &mut HeaderMap, protected: &dyn Fn(&HeaderName) -> bool) {
    let forbidden: Vec<HeaderName> = trailers
        .keys()
        .filter(|name| is_forbidden_trailer(name) || protected(name))
        .cloned()
        .collect();
    for name in forbidden {
        trailers.remove(name);
    }
}

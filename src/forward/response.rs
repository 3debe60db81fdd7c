//! The body of a response on its way from the app to the client.
//!
//! Enters: what hyper reads from the app, and the connection it comes on. Leaves: the same bytes, frame by frame, as fast
//! as the client takes them. At the end the connection goes back to the pool, before the end it is closed.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::task::JoinHandle;

use super::pool::{Lease, Slot};

/// A response body on its way to the client.
///
/// Dropping it before its end cancels the exchange: an HTTP/1.1 connection is closed, an HTTP/2 stream reset. At its end
/// the connection goes back to the pool.
#[derive(Debug)]
pub struct ResponseBody(Kind);

#[derive(Debug)]
enum Kind {
    /// Bytes of our own.
    Whole(Option<Bytes>),
    /// The connection makes progress while, and only while, this body is polled: no second task is woken.
    Driven { incoming: Incoming, lease: Option<Lease> },
    /// The request body was still on its way when the response began. The connection runs as a task of its own, so that
    /// a client that sends without reading cannot block itself; it is not used again.
    Detached { incoming: Incoming, task: Option<Detached> },
    /// A stream of an HTTP/2 connection.
    Stream { incoming: Incoming, slot: Option<Slot> },
}

/// How long the rest of an upload may take after the whole response was there. A client that is cut off in the middle of
/// its body may not read the answer, and cannot use its connection again.
const UPLOAD_PATIENCE: Duration = Duration::from_secs(2);

/// A connection that runs as a task. Dropped, it is closed at once.
#[derive(Debug)]
pub(super) struct Detached {
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    task: JoinHandle<hyper::Result<()>>,
    /// Counts against the server's connections for as long as the task may live.
    slot: Slot,
}

impl Detached {
    pub(super) fn new(task: JoinHandle<hyper::Result<()>>, slot: Slot) -> Self {
        Self { running: Some(Running { task, slot }) }
    }

    /// The response is over: what is left of the upload still goes to the app, for a moment.
    fn finish(mut self) {
        let Some(Running { mut task, slot }) = self.running.take() else { return };
        tokio::spawn(async move {
            if tokio::time::timeout(UPLOAD_PATIENCE, &mut task).await.is_err() {
                task.abort();
            }
            drop(slot);
        });
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.task.abort();
        }
    }
}

impl ResponseBody {
    /// No body.
    #[must_use]
    pub fn empty() -> Self {
        Self(Kind::Whole(None))
    }

    /// Bytes of our own.
    #[must_use]
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        Self(Kind::Whole(Some(bytes.into()).filter(|bytes| !bytes.is_empty())))
    }

    pub(super) fn driven(incoming: Incoming, lease: Lease) -> Self {
        if incoming.is_end_stream() {
            lease.give_back();
            return Self::empty();
        }
        Self(Kind::Driven { incoming, lease: Some(lease) })
    }

    pub(super) fn detached(incoming: Incoming, task: Detached) -> Self {
        if incoming.is_end_stream() {
            task.finish();
            return Self::empty();
        }
        Self(Kind::Detached { incoming, task: Some(task) })
    }

    pub(super) fn stream(incoming: Incoming, slot: Slot) -> Self {
        if incoming.is_end_stream() {
            return Self::empty();
        }
        Self(Kind::Stream { incoming, slot: Some(slot) })
    }
}

fn poll_driven(
    incoming: &mut Incoming,
    lease: &mut Option<Lease>,
    cx: &mut Context<'_>,
) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
    let Some(connection) = lease.as_mut().and_then(Lease::connection) else {
        return Poll::Ready(None);
    };
    connection.drain(cx, |here| Pin::new(&mut *incoming).poll_frame(here))
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let next = match &mut self.0 {
            Kind::Whole(bytes) => return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Driven { incoming, lease } => {
                let next = poll_driven(incoming, lease, cx);
                match &next {
                    Poll::Pending => {}
                    Poll::Ready(Some(Err(_))) => drop(lease.take()),
                    // hyper asks `is_end_stream` after a chunk and then does not poll again.
                    Poll::Ready(Some(Ok(_))) if !incoming.is_end_stream() => {}
                    Poll::Ready(_) => drop(lease.take().map(Lease::give_back)),
                }
                next
            }
            Kind::Detached { incoming, task } => {
                let next = Pin::new(&mut *incoming).poll_frame(cx);
                match &next {
                    Poll::Ready(Some(Err(_))) => drop(task.take()),
                    Poll::Ready(None) => drop(task.take().map(Detached::finish)),
                    _ if incoming.is_end_stream() => drop(task.take().map(Detached::finish)),
                    _ => {}
                }
                next
            }
            Kind::Stream { incoming, slot } => {
                let next = Pin::new(&mut *incoming).poll_frame(cx);
                if matches!(next, Poll::Ready(None | Some(Err(_)))) || incoming.is_end_stream() {
                    slot.take();
                }
                next
            }
        };
        next.map_err(io::Error::other)
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole(bytes) => bytes.is_none(),
            Kind::Driven { incoming, .. } | Kind::Detached { incoming, .. } | Kind::Stream { incoming, .. } => {
                incoming.is_end_stream()
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Kind::Driven { incoming, .. } | Kind::Detached { incoming, .. } | Kind::Stream { incoming, .. } => {
                incoming.size_hint()
            }
        }
    }
}

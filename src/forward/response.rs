//! The body of a response on its way from the app to the client.
//!
//! Input: what hyper reads from the app, and the connection. Output: the same bytes, frame by frame, as fast as the client
//! takes them. At its end the connection goes back to the pool; dropped before its end, the connection is closed. If the
//! request is still being sent at the end of the response, the rest of it does not go to the app, which could take it for
//! another request.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::task::JoinHandle;

use super::body::{Progress, drop_trailers};
use super::connect::Socket;
use super::pool::{ConnectionPermit, PooledConnection};

/// A response body on its way to the client.
///
/// Dropping it before its end cancels the exchange: an HTTP/1.1 connection is closed, an HTTP/2 stream reset. At its end
/// the connection goes back to the pool.
#[derive(Debug)]
pub(crate) struct ResponseBody(BodySource);

#[derive(Debug)]
enum BodySource {
    /// Bytes of our own.
    Whole(Option<Bytes>),
    /// The connection makes progress while, and only while, this body is polled: no second task is woken.
    Driven {
        incoming: Incoming,
        pooled: Option<PooledConnection>,
    },
    /// The request body was still on its way when the response began. The connection runs as a task of its own, so that
    /// a client that sends without reading cannot block itself; it is not used again.
    Uploading {
        incoming: Incoming,
        uploading: Option<Uploading>,
    },
    /// A stream of an HTTP/2 connection.
    Stream {
        incoming: Incoming,
        permit: Option<ConnectionPermit>,
        uploaded: Option<Arc<Progress>>,
    },
}

/// A connection that runs as a task, because it still takes the request's body. Dropped, it is closed at once.
#[derive(Debug)]
pub(super) struct Uploading {
    pub(super) task: JoinHandle<hyper::Result<()>>,
    pub(super) socket: Socket,
    pub(super) uploaded: Option<Arc<Progress>>,
    /// Counts against the server's connections for as long as the task lives.
    pub(super) _permit: ConnectionPermit,
}

impl Uploading {
    /// The response is over: what is left of the upload does not go to the app any more, not even what the kernel holds.
    fn finish(self) {
        if let Some(uploaded) = &self.uploaded {
            uploaded.answered();
        }
        self.socket.cut();
    }
}

impl Drop for Uploading {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ResponseBody {
    /// No body.
    #[must_use]
    pub(crate) fn empty() -> Self {
        Self(BodySource::Whole(None))
    }

    /// Bytes of our own.
    #[must_use]
    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self(BodySource::Whole(
            Some(bytes.into()).filter(|bytes| !bytes.is_empty()),
        ))
    }

    pub(super) fn driven(incoming: Incoming, pooled: PooledConnection) -> Self {
        if incoming.is_end_stream() {
            pooled.give_back();
            return Self::empty();
        }
        Self(BodySource::Driven {
            incoming,
            pooled: Some(pooled),
        })
    }

    pub(super) fn uploading(incoming: Incoming, uploading: Uploading) -> Self {
        if incoming.is_end_stream() {
            uploading.finish();
            return Self::empty();
        }
        Self(BodySource::Uploading {
            incoming,
            uploading: Some(uploading),
        })
    }

    pub(super) fn stream(
        incoming: Incoming,
        permit: ConnectionPermit,
        uploaded: Option<Arc<Progress>>,
    ) -> Self {
        if incoming.is_end_stream() {
            if let Some(uploaded) = uploaded {
                uploaded.answered();
            }
            return Self::empty();
        }
        Self(BodySource::Stream {
            incoming,
            permit: Some(permit),
            uploaded,
        })
    }
}

/// What an app may not say to a client behind the body, as [`super::head::clean`] has it for the head.
fn without_forbidden_trailers(frame: Frame<Bytes>) -> Frame<Bytes> {
    if !frame.is_trailers() {
        return frame;
    }
    frame.into_trailers().map_or_else(
        |frame| frame,
        |mut trailers| {
            drop_trailers(&mut trailers, &|_| false);
            Frame::trailers(trailers)
        },
    )
}

fn poll_driven(
    incoming: &mut Incoming,
    pooled: &mut Option<PooledConnection>,
    cx: &mut Context<'_>,
) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
    let Some(connection) = pooled.as_mut().and_then(PooledConnection::connection) else {
        return Poll::Ready(None);
    };
    connection.drain(cx, |here| Pin::new(&mut *incoming).poll_frame(here))
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let next = match &mut self.0 {
            BodySource::Whole(bytes) => return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            BodySource::Driven { incoming, pooled } => {
                let next = poll_driven(incoming, pooled, cx);
                match &next {
                    Poll::Pending => {}
                    Poll::Ready(Some(Err(_))) => drop(pooled.take()),
                    // hyper asks `is_end_stream` after a chunk and then does not poll again.
                    Poll::Ready(Some(Ok(_))) if !incoming.is_end_stream() => {}
                    Poll::Ready(_) => drop(pooled.take().map(PooledConnection::give_back)),
                }
                next
            }
            BodySource::Uploading { incoming, uploading } => {
                let next = Pin::new(&mut *incoming).poll_frame(cx);
                match &next {
                    Poll::Ready(Some(Err(_))) => drop(uploading.take()),
                    Poll::Ready(None) => drop(uploading.take().map(Uploading::finish)),
                    _ if incoming.is_end_stream() => drop(uploading.take().map(Uploading::finish)),
                    _ => {}
                }
                next
            }
            BodySource::Stream {
                incoming,
                permit,
                uploaded,
            } => {
                let next = Pin::new(&mut *incoming).poll_frame(cx);
                let is_over = matches!(next, Poll::Ready(None)) || incoming.is_end_stream();
                if is_over && let Some(uploaded) = uploaded.take() {
                    uploaded.answered();
                }
                if is_over || matches!(next, Poll::Ready(Some(Err(_)))) {
                    permit.take();
                }
                next
            }
        };
        next.map(|next| next.map(|frame| frame.map(without_forbidden_trailers).map_err(io::Error::other)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            BodySource::Whole(bytes) => bytes.is_none(),
            BodySource::Driven { incoming, .. }
            | BodySource::Uploading { incoming, .. }
            | BodySource::Stream { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            BodySource::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            BodySource::Driven { incoming, .. }
            | BodySource::Uploading { incoming, .. }
            | BodySource::Stream { incoming, .. } => incoming.size_hint(),
        }
    }
}

//! The body of a request as it comes from a client, whatever the version of HTTP.
//!
//! Input: what the HTTP libraries read. Output: frames, or the error that ends them. Invariant: a body that was cut short
//! never looks whole; a stream that the client cancels is an error too.

use std::error::Error;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

/// A request's body.
#[derive(Debug)]
pub struct ClientBody(Source);

#[derive(Debug)]
enum Source {
    Http1(Incoming),
    Http2 {
        stream: RecvStream,
        /// Bytes that are still to come, where `content-length` says how many; h2 holds the client to it.
        left: Option<u64>,
        data_done: bool,
    },
}

/// Why a body ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientBodyError {
    /// The client closed the connection, or reset the stream.
    Broken,
    /// The chunked coding was not well formed (RFC 9112 section 7.1).
    Malformed,
}

impl fmt::Display for ClientBodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Broken => "client closed the connection inside the request body",
            Self::Malformed => "request body is not well-formed chunked coding",
        })
    }
}

impl Error for ClientBodyError {}

impl From<Incoming> for ClientBody {
    fn from(incoming: Incoming) -> Self {
        Self(Source::Http1(incoming))
    }
}

impl ClientBody {
    /// The body of an HTTP/2 stream; `length` is its `content-length`.
    #[must_use]
    pub fn http2(stream: RecvStream, length: Option<u64>) -> Self {
        Self(Source::Http2 {
            stream,
            left: length,
            data_done: false,
        })
    }
}

fn of_http1(error: &hyper::Error) -> ClientBodyError {
    match error
        .source()
        .and_then(|source| source.downcast_ref::<io::Error>())
        .map(io::Error::kind)
    {
        Some(io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) => ClientBodyError::Malformed,
        _ => ClientBodyError::Broken,
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = ClientBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ClientBodyError>>> {
        let (stream, left, data_done) = match &mut self.0 {
            Source::Http1(incoming) => {
                return Pin::new(incoming)
                    .poll_frame(cx)
                    .map(|next| next.map(|frame| frame.map_err(|error| of_http1(&error))));
            }
            Source::Http2 {
                stream,
                left,
                data_done,
            } => (stream, left, data_done),
        };
        if !*data_done {
            match ready!(stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // The window opens as the body is taken, never ahead of that.
                    let _ = stream.flow_control().release_capacity(data.len());
                    *left = left.map(|left| left.saturating_sub(data.len() as u64));
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(_)) => return Poll::Ready(Some(Err(ClientBodyError::Broken))),
                None => *data_done = true,
            }
        }
        match ready!(stream.poll_trailers(cx)) {
            Ok(trailers) => Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers)))),
            Err(_) => Poll::Ready(Some(Err(ClientBodyError::Broken))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Source::Http1(incoming) => incoming.is_end_stream(),
            Source::Http2 { stream, .. } => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Source::Http1(incoming) => incoming.size_hint(),
            Source::Http2 { stream, .. } if stream.is_end_stream() => SizeHint::with_exact(0),
            Source::Http2 { left, .. } => left.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

//! The body of an answer, and with it the request's end: when the last byte went out, or the client went away, the
//! record is closed.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::upgrade::OnUpgrade;

use super::record::Record;
use crate::forward::{ResponseBody, Upgrade};

/// What the answer consists of.
#[derive(Debug)]
pub enum Content {
    /// Our own words.
    Own(Bytes),
    /// The app's.
    App(ResponseBody),
    /// Nothing: the connection is handed over to client and app, who speak something else from here on.
    Switched {
        /// The client's side.
        client: OnUpgrade,
        /// The app's side.
        app: Upgrade,
    },
}

/// The body of every response that leaves the gateway.
#[derive(Debug)]
pub struct Answer {
    body: AnswerBody,
    /// `None` once it is somebody else's to close.
    record: Option<Box<Record>>,
    /// What broke, while the bytes before it are on their way.
    broken: Option<io::Error>,
}

#[derive(Debug)]
enum AnswerBody {
    Own(Option<Bytes>),
    App(ResponseBody),
}

impl Answer {
    pub(super) fn own(bytes: Bytes, record: Option<Box<Record>>) -> Self {
        Self { body: AnswerBody::Own(Some(bytes).filter(|bytes| !bytes.is_empty())), record, broken: None }
    }

    pub(super) fn app(body: ResponseBody, record: Box<Record>) -> Self {
        Self { body: AnswerBody::App(body), record: Some(record), broken: None }
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
        let next = match &mut this.body {
            AnswerBody::Own(bytes) => bytes.take().map(|bytes| Ok(Frame::data(bytes))),
            AnswerBody::App(body) => ready!(Pin::new(body).poll_frame(cx)),
        };
        if let Some(record) = &mut this.record {
            match &next {
                Some(Ok(frame)) => record.bytes += frame.data_ref().map_or(0, |data| data.len() as u64),
                // The head has gone out, so that the client learns of it by the connection's end.
                Some(Err(_)) => record.broke_off(),
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
            AnswerBody::App(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            AnswerBody::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            AnswerBody::App(body) => body.size_hint(),
        }
    }
}

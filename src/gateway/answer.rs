//! The body of an answer, and with it the request's end: when the last byte went out, or the client went away, the log
//! line is written.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use hyper::upgrade::OnUpgrade;

use super::record::Record;
use crate::forward::ResponseBody;

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
        app: OnUpgrade,
    },
}

/// The body of every response that leaves the gateway.
#[derive(Debug)]
pub struct Answer {
    body: AnswerBody,
    /// Dropped last, so that the line is written when all the rest is done.
    record: Option<Record>,
    /// What the connection wants to keep until then.
    hold: Option<Box<dyn std::any::Any + Send>>,
}

#[derive(Debug)]
enum AnswerBody {
    Own(Option<Bytes>),
    App(ResponseBody),
}

impl Answer {
    /// Puts the parts together.
    pub(super) fn new(content: Content, record: Option<Record>) -> Self {
        let body = match content {
            Content::Own(bytes) => AnswerBody::Own(Some(bytes).filter(|bytes| !bytes.is_empty())),
            Content::App(body) => AnswerBody::App(body),
            Content::Switched { .. } => AnswerBody::Own(None),
        };
        Self { body, record, hold: None }
    }
}

/// Keeps `hold` until the answer has ended.
#[must_use]
pub fn hold(response: Response<Answer>, hold: impl std::any::Any + Send) -> Response<Answer> {
    response.map(|mut answer| {
        answer.hold = Some(Box::new(hold));
        answer
    })
}

//! A request that is under way: its log line, how much of its body has been read, and whether its caller may still be
//! here.
//!
//! Input: the client's request; then the app's body and the caller's credential. Output: whether the connection may be used
//! again, and that the caller was signed out or revoked. Dropping it ends the request.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, StatusCode};
use http_body::Body;

use super::WorkerContext;
use super::access_record::AccessRecord;
use super::connection::ConnectionInfo;
use super::rejection::Rejection;
use super::revocation_watch::RevocationWatch;
use crate::forward::Progress;
use crate::http::client::{Exit, Holder};
use crate::http::incoming::ClientBody;
use crate::identity_headers::Peer;
use crate::refusal::Refusal;

/// Bytes of a body that are read after the answer for the sake of the connection.
const READ_IN_PASSING: u64 = 64 * 1024;

/// One request. It is boxed: it moves through many functions, and would be copied in each.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) record: AccessRecord,
    upload: Upload,
    watch: Option<RevocationWatch>,
    /// Whether the rate at which the client takes the answer is not measured.
    is_unmeasured: bool,
}

/// The body of the request.
#[derive(Debug)]
struct Upload {
    /// Whether something of it is not known to be read.
    is_unread: bool,
    /// Its length, where that is known.
    length: Option<u64>,
    /// How far it has come, once it is on its way to the app.
    progress: Option<Arc<Progress>>,
}

impl Exchange {
    pub(super) fn start(
        lane: &Arc<WorkerContext>,
        client: &Arc<ConnectionInfo>,
        exit: Arc<Exit>,
        peer: &Peer,
        request: &Request<ClientBody>,
    ) -> Box<Self> {
        Box::new(Self {
            record: AccessRecord::start(lane, client, exit, peer, request),
            upload: Upload {
                is_unread: !request.body().is_end_stream(),
                length: request.body().size_hint().exact(),
                progress: None,
            },
            watch: None,
            is_unmeasured: false,
        })
    }

    /// The client, as limits count it that all clients share.
    pub(super) fn holder(&self) -> Holder {
        Holder {
            key: self.record.client_ip.into(),
            exit: Arc::clone(&self.record.exit),
        }
    }

    /// The body goes to an app.
    pub(super) fn upload(&mut self, progress: Option<Arc<Progress>>) {
        self.upload.progress = progress;
    }

    /// The body was read to its end, and not for an app.
    pub(super) fn body_was_read(&mut self) {
        self.upload.is_unread = false;
    }

    /// Whether something of the body has not been read. What the connection does with the rest is not known here: the
    /// connection must not be used again.
    pub(super) fn is_body_pending(&self) -> bool {
        let progress = self.upload.progress.as_ref();
        self.upload.is_unread && !progress.is_some_and(|progress| progress.is_complete())
    }

    /// Whether so much of the body is left, now that the app has begun to answer, that the connection is better not used
    /// again. A little more is read in passing.
    pub(super) fn is_much_pending(&self) -> bool {
        let gone = self.upload.progress.as_ref().map_or(0, |body| body.bytes());
        let is_long = |length: u64| length.saturating_sub(gone) > READ_IN_PASSING;
        self.is_body_pending() && self.upload.length.is_none_or(is_long)
    }

    /// Whether the app has not got all of the request yet, which may go on for long.
    fn is_uploading(&self) -> bool {
        let progress = self.upload.progress.as_ref();
        progress.is_some_and(|progress| !progress.is_complete())
    }

    /// From now on a revocation of the caller's credential ends this.
    pub(super) fn watch(&mut self, watch: RevocationWatch) {
        self.watch = Some(watch);
    }

    /// Whether the caller has been signed out or revoked since.
    pub(super) fn is_caller_gone(&mut self) -> bool {
        let revocations = self.record.lane.gateway.verifier.revocations();
        self.watch
            .as_mut()
            .is_some_and(|watch| watch.is_over(revocations))
    }

    /// Ready when the caller has been signed out or revoked.
    pub(super) fn poll_caller_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let revocations = self.record.lane.gateway.verifier.revocations();
        self.watch
            .as_mut()
            .map_or(Poll::Pending, |watch| watch.poll_over(revocations, cx))
    }

    /// The same to be awaited, beside this.
    pub(super) fn caller_gone(&self) -> impl Future<Output = ()> + Send + use<> {
        let revocations = self.record.lane.gateway.verifier.revocations();
        let over = self.watch.as_ref().map(|watch| watch.over(revocations));
        async {
            match over {
                Some(over) => over.await,
                None => std::future::pending().await,
            }
        }
    }

    /// Does `work`, which sends the request to an app, for as long as the caller may be here.
    ///
    /// # Errors
    /// [`Refusal::Revoked`].
    pub(super) async fn while_in_force<T>(
        &mut self,
        mut work: Pin<&mut impl Future<Output = Result<T, Refusal>>>,
    ) -> Result<T, Refusal> {
        poll_fn(|cx| {
            if self.is_caller_gone() {
                return Poll::Ready(Err(Refusal::Revoked));
            }
            match work.as_mut().poll(cx) {
                // An answer that is waited for is refused when it comes; an upload must not go on until then.
                Poll::Pending if self.is_uploading() => {
                    self.poll_caller_gone(cx).map(|()| Err(Refusal::Revoked))
                }
                polled => polled,
            }
        })
        .await
    }

    /// The gateway answers instead of the app.
    pub(super) fn refused(&mut self, rejection: &Rejection<'_>) {
        if rejection.refusal == Refusal::Revoked {
            self.end_upload();
        }
        self.record.refused(rejection);
    }

    /// The gateway ends the answer, because the caller may not be here any more.
    pub(super) fn ended(&mut self) {
        self.record.is_ended = true;
        self.end_upload();
    }

    fn end_upload(&self) {
        if let Some(progress) = &self.upload.progress {
            progress.end();
        }
    }

    /// The head of the answer is ready. `is_measured`: the rate counts at which the client takes it.
    pub(super) fn answered(&mut self, status: StatusCode, is_measured: bool) {
        self.record.answered(status);
        if let Some(progress) = &self.upload.progress {
            progress.answer_began();
        }
        if !is_measured {
            self.is_unmeasured = true;
            self.record.client.activity.begin_unmeasured();
        }
    }

    /// Whether the rate counts at which the client takes the answer.
    pub(super) fn is_measured(&self) -> bool {
        !self.is_unmeasured
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.is_unmeasured {
            self.record.client.activity.end_unmeasured();
        }
    }
}

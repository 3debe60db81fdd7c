//! WebSockets: after the app's 101 the bytes of both sides are forwarded as they are.
//!
//! Input: both connections after the handshake. Output: the bytes of each side, to the other, until both have finished.
//! Invariants: no byte of the client goes to the app before its 101, because nothing is read here before. When the gateway
//! closes a tunnel, it first sends the client a close frame (1008), and no more bytes of the client reach the app.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};

use super::pool::ConnectionPermit;
use super::websocket_close::CloseFrame;

/// Bytes held for each direction.
const BUFFER: usize = 16 * 1024;

/// How long a client has to read the close frame and close its side.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The app's side of an upgrade, from a [`super::Forwarded`] with status 101. Dropped, it closes the connection.
#[derive(Debug)]
pub(crate) struct Upgrade {
    pub(super) upgraded: OnUpgrade,
    /// The connection still counts against the server's limit.
    pub(super) permit: ConnectionPermit,
}

/// What went through an upgraded connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// Bytes from the client to the app.
    pub sent: u64,
    /// Bytes from the app to the client.
    pub received: u64,
}

/// Copies in both directions until both sides have finished, one of them fails, or `close` is ready; then closes both. When one side stops sending, the other is told and may go on. After `close` the client gets
/// a Close frame with status 1008 where the app's frame under way ends, and two seconds.
pub(crate) async fn tunnel(client: OnUpgrade, app: Upgrade, close: impl Future<Output = ()>) -> Traffic {
    let Upgrade { upgraded, permit } = app;
    let (sent, received) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let ending = Arc::new(AtomicBool::new(false));
    let copy = async {
        let (client, app) = tokio::try_join!(client, upgraded)?;
        let mut client = Side {
            inner: TokioIo::new(client),
            read: sent.clone(),
            ending: ending.clone(),
            frames: None,
        };
        let frames = Some(CloseFrame::default());
        let mut app = Side {
            inner: TokioIo::new(app),
            read: received.clone(),
            ending: ending.clone(),
            frames,
        };
        // A failure of either side ends both; neither can be told any more.
        let _ = copy_bidirectional_with_sizes(&mut client, &mut app, BUFFER, BUFFER).await;
        Ok::<(), hyper::Error>(())
    };
    let traffic = || Traffic {
        sent: sent.load(Ordering::Relaxed),
        received: received.load(Ordering::Relaxed),
    };
    let mut copy = std::pin::pin!(copy);
    let is_ended = tokio::select! {
        _ = &mut copy => false,
        () = close => true,
    };
    if is_ended {
        ending.store(true, Ordering::Relaxed);
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, copy).await;
    }
    drop(permit);
    traffic()
}

/// One side of the connection: counts what is read, and knows how to end.
struct Side {
    inner: TokioIo<Upgraded>,
    read: Arc<AtomicU64>,
    /// Whether the gateway ends the connection.
    ending: Arc<AtomicBool>,
    /// Where the app's frames end; `None` on the client's side.
    frames: Option<CloseFrame>,
}

impl Side {
    /// What is read of the app once the connection is to end: the rest of the frame under way, then our Close frame.
    fn poll_last(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(frames) = &mut self.frames else {
            return self.poll_discard(cx);
        };
        let most = frames.room().min(buffer.remaining()).min(1024);
        if most == 0 {
            buffer.put_slice(frames.say(buffer.remaining()));
            return Poll::Ready(Ok(()));
        }
        let mut room = [0; 1024];
        let mut rest = ReadBuf::new(&mut room[..most]);
        ready!(Pin::new(&mut self.inner).poll_read(cx, &mut rest))?;
        frames.pass(rest.filled());
        buffer.put_slice(rest.filled());
        Poll::Ready(Ok(()))
    }

    /// What the client still sends is taken, so that its system does not answer our last words with a reset, and dropped.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        for _ in 0..16 {
            let mut room = [0; 1024];
            let mut dropped = ReadBuf::new(&mut room);
            ready!(Pin::new(&mut self.inner).poll_read(cx, &mut dropped))?;
            if dropped.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl AsyncRead for Side {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ending.load(Ordering::Relaxed) {
            return self.poll_last(cx, buffer);
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        let this = &mut *self;
        let new = &buffer.filled()[before..];
        this.read.fetch_add(new.len() as u64, Ordering::Relaxed);
        if let Some(frames) = &mut this.frames {
            frames.pass(new);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Side {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

//! A connection from a client as its socket sees it, below TLS: whether the client takes what is written.
//!
//! Input: writes. Output: the same, or the error that the client takes bytes too slowly. The socket is measured and not the
//! layers above it: bytes that a layer holds back must not look like a client that reads.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::gateway::Activity;
use crate::http::client::Exit;
use crate::http::pace::{Pace, PaceRules};

/// A client's socket.
#[derive(Debug)]
pub(super) struct Metered<I> {
    io: I,
    rules: PaceRules,
    pace: Pace,
    is_blocked: bool,
    activity: Arc<Activity>,
    exit: Arc<Exit>,
}

impl<I> Metered<I> {
    /// Holds the client at the other end of `io` to `rules`.
    pub(super) fn new(io: I, rules: PaceRules, activity: Arc<Activity>, exit: Arc<Exit>) -> Self {
        Self {
            io,
            rules,
            pace: Pace::default(),
            is_blocked: false,
            activity,
            exit,
        }
    }

    /// The socket takes nothing more just now.
    fn wait<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if !self.is_blocked {
            self.is_blocked = true;
            self.activity.block();
            self.exit.wait();
        }
        // What the two ends of an upgraded connection want of each other is theirs to decide.
        if self.activity.is_switched()
            || self
                .pace
                .poll_too_slow(&self.rules, self.activity.is_measured(), cx)
                .is_pending()
        {
            return Poll::Pending;
        }
        self.activity.mark_too_slow();
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client takes what is sent too slowly",
        )))
    }

    fn written(&mut self, written: Poll<io::Result<usize>>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Pending => self.wait(cx),
            Poll::Ready(Ok(bytes)) => {
                self.pace.moved(bytes as u64);
                if self.is_blocked {
                    self.is_blocked = false;
                    self.activity.unblock();
                    self.exit.go_on();
                }
                Poll::Ready(Ok(bytes))
            }
            failed => failed,
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Metered<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Metered<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.written(written, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.written(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

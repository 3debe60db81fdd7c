//! A check of the frames that an HTTP/2 client sends, in front of the library that reads them.
//!
//! Input: the bytes of a connection, as they are read. Output: the same bytes, or the error that ends the connection. The
//! library keeps the rules of the protocol. Here is what it does not check: that the preface, the first SETTINGS and the head
//! of a request arrive in time, and that a client does not keep the gateway busy with frames that move nothing (RFC 9113
//! section 10.5).

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::context::PREFACE;

/// Frames that move nothing, after which the connection ends: PING, SETTINGS, WINDOW_UPDATE, PRIORITY, RST_STREAM, DATA
/// without data, and whatever has no meaning.
const MAX_IDLE_FRAMES: u32 = 4000;

/// Length, kind, flags and stream (RFC 9113 section 4.1).
const HEAD: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// Frames that came since bytes last moved. Shared with the tasks that move bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct IdleFrames(Arc<AtomicU32>);

impl IdleFrames {
    /// Something moved.
    pub(crate) fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    fn add(&self) -> u32 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// Follows the frames of one connection.
#[derive(Debug)]
pub(crate) struct Scanner {
    /// Bytes of the preface that are still to come.
    preface: usize,
    head: [u8; HEAD],
    have: usize,
    /// Bytes of the payload under way that are still to come.
    left: usize,
    /// Whether the client has sent its SETTINGS, with which it begins (RFC 9113 section 3.4).
    has_begun: bool,
    /// Whether the head of a request has begun and not ended.
    in_head: bool,
    idle: IdleFrames,
}

impl Scanner {
    /// At the beginning of a connection.
    #[must_use]
    pub(crate) fn new(idle: IdleFrames) -> Self {
        let preface = PREFACE.len();
        Self {
            preface,
            head: [0; HEAD],
            have: 0,
            left: 0,
            has_begun: false,
            in_head: false,
            idle,
        }
    }

    /// Whether something has begun that must have an end soon.
    #[must_use]
    pub(crate) fn is_urgent(&self) -> bool {
        !self.has_begun || self.in_head
    }

    /// Reads on. False where the client has sent too many frames that move nothing.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> bool {
        let skipped = self.preface.min(bytes.len());
        self.preface -= skipped;
        bytes = &bytes[skipped..];
        while !bytes.is_empty() {
            if self.left > 0 {
                let part = self.left.min(bytes.len());
                self.left -= part;
                bytes = &bytes[part..];
                if self.left == 0 {
                    self.end_frame();
                }
                continue;
            }
            let part = (HEAD - self.have).min(bytes.len());
            self.head[self.have..self.have + part].copy_from_slice(&bytes[..part]);
            self.have += part;
            bytes = &bytes[part..];
            if self.have == HEAD {
                self.have = 0;
                self.left = usize::from(self.head[0]) << 16
                    | usize::from(self.head[1]) << 8
                    | usize::from(self.head[2]);
                if !self.begin_frame() {
                    return false;
                }
                if self.left == 0 {
                    self.end_frame();
                }
            }
        }
        true
    }

    fn begin_frame(&mut self) -> bool {
        match self.head[3] {
            HEADERS => {
                self.in_head = true;
                self.idle.reset();
                true
            }
            DATA if self.left > 0 => {
                self.idle.reset();
                true
            }
            _ => self.idle.add() <= MAX_IDLE_FRAMES,
        }
    }

    fn end_frame(&mut self) {
        self.has_begun |= self.head[3] == SETTINGS;
        if matches!(self.head[3], HEADERS | CONTINUATION) && self.head[4] & END_HEADERS != 0 {
            self.in_head = false;
        }
    }
}

/// A connection whose incoming frames are watched by a [`Scanner`].
#[derive(Debug)]
pub(crate) struct Framed<I> {
    io: I,
    scanner: Scanner,
    header_timeout: Duration,
    /// Runs while something urgent is under way: from the start to the first SETTINGS, and inside of a head.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<I> Framed<I> {
    /// Watches `io`; the preface and the first SETTINGS must be there at `by`, each head of a request `header_timeout`
    /// after its first byte.
    pub(crate) fn new(io: I, by: Instant, header_timeout: Duration, idle: IdleFrames) -> Self {
        Self {
            io,
            scanner: Scanner::new(idle),
            header_timeout,
            deadline: Some(Box::pin(sleep_until(by))),
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Framed<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        if Pin::new(&mut this.io).poll_read(cx, buf)?.is_ready() {
            if !this.scanner.feed(&buf.filled()[before..]) {
                return Poll::Ready(Err(io::Error::other("too many frames that move nothing")));
            }
            if !this.scanner.is_urgent() {
                this.deadline = None;
            }
            return Poll::Ready(Ok(()));
        }
        if !this.scanner.is_urgent() {
            return Poll::Pending;
        }
        let header_timeout = this.header_timeout;
        let deadline = this
            .deadline
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(header_timeout)));
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client did not say in time what it wants",
        )))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Framed<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
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
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u8::try_from(payload).expect("short");
        [vec![0, 0, length, kind, flags, 0, 0, 0, 1], vec![0; payload]].concat()
    }

    #[test]
    fn what_has_begun_is_known_however_the_bytes_are_cut() {
        let settings = [PREFACE.to_vec(), frame(4, 0, 6)].concat();
        let head = [
            frame(HEADERS, 0, 20),
            frame(CONTINUATION, 0, 0),
            frame(CONTINUATION, END_HEADERS, 3),
        ]
        .concat();
        for step in 1..60 {
            let mut scanner = Scanner::new(IdleFrames::default());
            let mut feed =
                |bytes: &[u8]| bytes.chunks(step).all(|piece| scanner.feed(piece)) && scanner.is_urgent();
            assert!(feed(&settings[..settings.len() - 1]));
            assert!(!feed(&settings[settings.len() - 1..]));
            assert!(feed(&head[..head.len() - 1]));
            assert!(!feed(&head[head.len() - 1..]));
            assert!(!feed(&frame(DATA, 0, 100)));
            assert!(feed(&frame(HEADERS, 0, 0)));
        }
    }

    #[test]
    fn frames_that_move_nothing_are_counted_until_something_moves() {
        for idle in [
            frame(6, 0, 8),
            frame(4, 0, 0),
            frame(8, 0, 4),
            frame(2, 0, 5),
            frame(0, 0, 0),
            frame(99, 0, 1),
        ] {
            for movement in [frame(HEADERS, END_HEADERS, 1), frame(DATA, 0, 1)] {
                let mut scanner = Scanner::new(IdleFrames::default());
                assert!(scanner.feed(PREFACE));
                let mut repeat = |count, frame: &[u8]| (0..count).all(|_| scanner.feed(frame));
                assert!(repeat(MAX_IDLE_FRAMES, &idle));
                assert!(repeat(1, &movement));
                assert!(repeat(MAX_IDLE_FRAMES, &idle));
                assert!(!repeat(1, &idle));
            }
        }
    }
}

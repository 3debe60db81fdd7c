//! A strict check of the framing of HTTP/1 requests, in front of the HTTP library's own parser.
//!
//! Input: the bytes of a connection, as they are read. Output: the same bytes, or the first [`Refusal`]. By hand, and fuzzed,
//! because the library is more lenient than two parties should be with each other: it takes a bare LF as the end of a line, a
//! `#` in the target, `Transfer-Encoding: gzip, chunked`, a doubled `Transfer-Encoding`. Whatever lets two parties disagree
//! about where a request ends (RFC 9112 sections 2.2, 6.3, 7.1 and 11.2) is found here, before the library sees it.
//!
//! The scanner follows requests to their ends by itself. Should it ever disagree with the library about where one ends, it
//! expects a request line in the middle of something else, does not find one, and the connection is closed: a disagreement is
//! a refusal too.

#[cfg(test)]
mod tests;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::rewind::Rewind;
use crate::gateway::Activity;
use crate::http::target::MAX_TARGET_BYTES;
use crate::refusal::Refusal;

/// Chunk-size line with its extensions, in bytes; clients send no extensions, and attackers have used them to smuggle requests.
const MAX_CHUNK_LINE: usize = 256;
/// Trailer section, in bytes.
const MAX_TRAILER_BYTES: usize = 8 * 1024;
/// Empty lines in front of a request line (RFC 9112 section 2.2: at least one should be ignored).
const MAX_LEADING_EMPTY_LINES: u8 = 1;
/// The longest method, before the target starts, that is worth waiting for.
const MAX_METHOD_BYTES: usize = 32;
/// How the line of a request for a head begins.
const HEAD: &[u8] = b"HEAD ";

/// Follows the bytes of one connection from request to request.
#[derive(Debug)]
pub struct Scanner {
    max_header_bytes: usize,
    state: State,
    /// The beginning of a line whose end has not been read yet.
    partial: Vec<u8>,
    head: Head,
    /// Whether the last request line began with `HEAD`.
    is_head: bool,
    /// Heads that have been read to their ends.
    heads: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In front of the request line.
    RequestLine,
    HeaderLine,
    Body(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEndCr,
    ChunkEndLf,
    TrailerLine,
}

/// What the head under way has said so far about its body.
#[derive(Debug, Default)]
struct Head {
    bytes: usize,
    empty_lines: u8,
    http_1_0: bool,
    content_length: Option<u64>,
    chunked: bool,
}

impl Scanner {
    /// A scanner at the start of a connection whose request heads may have `max_header_bytes`.
    #[must_use]
    pub fn new(max_header_bytes: usize) -> Self {
        let (state, partial, head) = (State::RequestLine, Vec::new(), Head::default());
        Self {
            max_header_bytes,
            state,
            partial,
            head,
            is_head: false,
            heads: 0,
        }
    }

    /// Whether part of a request head has been read, and its end has not.
    #[must_use]
    pub fn is_inside_head(&self) -> bool {
        match self.state {
            State::RequestLine => self.head.bytes > 0 || !self.partial.is_empty(),
            State::HeaderLine => true,
            _ => false,
        }
    }

    /// Whether something has been read of which the rest must follow soon: part of a head, or an empty line before one.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.is_inside_head() || self.is_blank()
    }

    /// Whether an empty line has been read in front of a request, and nothing of the request itself.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.state == State::RequestLine && self.head.empty_lines > 0 && !self.is_inside_head()
    }

    /// Whether a whole head has been read, of whatever follows it.
    #[must_use]
    pub fn has_passed_head(&self) -> bool {
        self.heads > 0
    }

    /// Whether the last request has been read to its end, and nothing of a next one.
    #[must_use]
    pub fn is_between_requests(&self) -> bool {
        self.state == State::RequestLine && !self.is_inside_head()
    }

    /// HEAD where the last request line began with it, however it went on; else GET. An answer to HEAD has no body.
    #[must_use]
    pub fn method(&self) -> &'static Method {
        let begins = self.state == State::RequestLine && self.partial.starts_with(HEAD);
        if self.is_head || begins {
            &Method::HEAD
        } else {
            &Method::GET
        }
    }

    /// Reads on.
    ///
    /// # Errors
    /// The reason why the connection must be closed; the scanner must not be fed again.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), Refusal> {
        while !bytes.is_empty() {
            bytes = match self.state {
                State::Body(left) => self.skip(bytes, left, State::RequestLine, State::Body),
                State::ChunkData(left) => self.skip(bytes, left, State::ChunkEndCr, State::ChunkData),
                State::ChunkEndCr => self.expect(bytes, b'\r', State::ChunkEndLf)?,
                State::ChunkEndLf => self.expect(bytes, b'\n', State::ChunkSize)?,
                State::RequestLine | State::HeaderLine | State::ChunkSize | State::TrailerLine => {
                    self.read_line(bytes)?
                }
            };
        }
        Ok(())
    }

    fn skip<'a>(&mut self, bytes: &'a [u8], left: u64, done: State, more: fn(u64) -> State) -> &'a [u8] {
        let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let left = left - here as u64;
        self.state = if left == 0 { done } else { more(left) };
        &bytes[here..]
    }

    fn expect<'a>(&mut self, bytes: &'a [u8], wanted: u8, next: State) -> Result<&'a [u8], Refusal> {
        if bytes[0] != wanted {
            return Err(Refusal::AmbiguousFraming);
        }
        self.state = next;
        Ok(&bytes[1..])
    }

    fn read_line<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Refusal> {
        if self.state == State::RequestLine {
            let begins = if self.partial.is_empty() {
                bytes
            } else {
                &self.partial
            };
            self.is_head = begins.starts_with(HEAD);
        }
        let Some(end) = memchr::memchr(b'\n', bytes) else {
            self.check_line_length(self.partial.len() + bytes.len())?;
            self.partial.extend_from_slice(bytes);
            return Ok(&[]);
        };
        let rest = &bytes[end + 1..];
        if self.partial.is_empty() {
            self.take_line(&bytes[..end])?;
        } else {
            let mut line = std::mem::take(&mut self.partial);
            line.extend_from_slice(&bytes[..end]);
            self.take_line(&line)?;
            line.clear();
            self.partial = line;
        }
        Ok(rest)
    }

    /// `line` is without its LF.
    fn take_line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        self.check_line_length(line.len() + 1)?;
        let Some((b'\r', line)) = line.split_last() else {
            return Err(Refusal::AmbiguousFraming); // a bare LF
        };
        match self.state {
            State::RequestLine => self.take_request_line(line),
            State::HeaderLine => {
                self.head.bytes += line.len() + 2;
                if line.is_empty() {
                    self.end_head()
                } else {
                    self.take_header_line(line)
                }
            }
            State::ChunkSize => self.take_chunk_size(line),
            _ => self.take_trailer_line(line),
        }
    }

    fn check_line_length(&self, line: usize) -> Result<(), Refusal> {
        match self.state {
            State::RequestLine if line > MAX_TARGET_BYTES + MAX_METHOD_BYTES + 16 => {
                Err(Refusal::TargetTooLong)
            }
            State::RequestLine | State::HeaderLine if self.head.bytes + line > self.max_header_bytes => {
                Err(Refusal::HeadersTooLarge)
            }
            State::TrailerLine if self.head.bytes + line > MAX_TRAILER_BYTES => Err(Refusal::HeadersTooLarge),
            State::ChunkSize if line > MAX_CHUNK_LINE => Err(Refusal::AmbiguousFraming),
            _ => Ok(()),
        }
    }

    fn take_request_line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        if line.is_empty() {
            self.head.empty_lines += 1;
            if self.head.empty_lines > MAX_LEADING_EMPTY_LINES {
                return Err(Refusal::MalformedHead);
            }
            return Ok(());
        }
        self.head.bytes = line.len() + 2;
        // method SP request-target SP HTTP-version (RFC 9112 section 3), single spaces.
        let method_end = memchr::memchr(b' ', line).ok_or(Refusal::MalformedHead)?;
        let version_start = memchr::memrchr(b' ', line).ok_or(Refusal::MalformedHead)?;
        if method_end == 0 || method_end > MAX_METHOD_BYTES || version_start <= method_end + 1 {
            return Err(Refusal::MalformedHead);
        }
        let target = &line[method_end + 1..version_start];
        if target.len() > MAX_TARGET_BYTES {
            return Err(Refusal::TargetTooLong);
        }
        if target.contains(&b' ') {
            return Err(Refusal::MalformedHead);
        }
        // No request target contains a `#`; the library would cut it off silently.
        if !target.iter().all(|byte| matches!(byte, 0x21..=0x7e)) || target.contains(&b'#') {
            return Err(Refusal::TargetByte);
        }
        self.head.http_1_0 = match &line[version_start + 1..] {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            _ => return Err(Refusal::MalformedHead),
        };
        self.state = State::HeaderLine;
        Ok(())
    }

    fn take_header_line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        if matches!(line[0], b' ' | b'\t') {
            return Err(Refusal::AmbiguousFraming); // obs-fold (RFC 9112 section 5.2)
        }
        let colon = memchr::memchr(b':', line).ok_or(Refusal::MalformedHead)?;
        let name = &line[..colon];
        // White space before the colon (RFC 9112 section 5.1).
        if matches!(name.last(), None | Some(b' ' | b'\t')) {
            return Err(Refusal::AmbiguousFraming);
        }
        if name.len() == "content-length".len() && name.eq_ignore_ascii_case(b"content-length") {
            let length = decimal(trim(&line[colon + 1..])).ok_or(Refusal::AmbiguousFraming)?;
            if self.head.content_length.replace(length).is_some() {
                return Err(Refusal::AmbiguousFraming);
            }
        } else if name.len() == "transfer-encoding".len() && name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.head.chunked || !trim(&line[colon + 1..]).eq_ignore_ascii_case(b"chunked") {
                return Err(Refusal::AmbiguousFraming);
            }
            self.head.chunked = true;
        }
        Ok(())
    }

    fn end_head(&mut self) -> Result<(), Refusal> {
        let head = std::mem::take(&mut self.head);
        self.heads += 1;
        self.state = match (head.chunked, head.content_length) {
            // RFC 9112 section 6.3: both at once ought to be handled as an error; 6.1: HTTP/1.0 has no transfer codings.
            (true, Some(_)) => return Err(Refusal::AmbiguousFraming),
            (true, None) if head.http_1_0 => return Err(Refusal::AmbiguousFraming),
            (true, None) => State::ChunkSize,
            (false, None | Some(0)) => State::RequestLine,
            (false, Some(length)) => State::Body(length),
        };
        Ok(())
    }

    fn take_chunk_size(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let extension = &line[digits..];
        let is_plain = |byte: &u8| matches!(byte, b'\t' | 0x20..=0x7e);
        if !(1..=15).contains(&digits)
            || !(extension.is_empty() || extension[0] == b';' && extension.iter().all(is_plain))
        {
            return Err(Refusal::AmbiguousFraming);
        }
        let size = line[..digits].iter().fold(0_u64, |size, digit| {
            size << 4 | u64::from(char::from(*digit).to_digit(16).unwrap_or_default())
        });
        self.state = if size == 0 {
            State::TrailerLine
        } else {
            State::ChunkData(size)
        };
        Ok(())
    }

    fn take_trailer_line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        if line.is_empty() {
            self.head = Head::default();
            self.state = State::RequestLine;
            return Ok(());
        }
        self.head.bytes += line.len() + 2;
        match memchr::memchr(b':', line) {
            Some(colon)
                if colon > 0
                    && !matches!(line[0], b' ' | b'\t')
                    && !matches!(line[colon - 1], b' ' | b'\t') =>
            {
                Ok(())
            }
            _ => Err(Refusal::AmbiguousFraming),
        }
    }
}

fn trim(value: &[u8]) -> &[u8] {
    let start = value
        .iter()
        .position(|byte| !matches!(byte, b' ' | b'\t'))
        .unwrap_or(value.len());
    let end = value
        .iter()
        .rposition(|byte| !matches!(byte, b' ' | b'\t'))
        .map_or(start, |last| last + 1);
    &value[start..end]
}

/// `1*DIGIT` (RFC 9110 section 8.6): no sign, no list, and no number that does not fit.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        digit
            .is_ascii_digit()
            .then(|| number * 10 + u64::from(digit - b'0'))
    })
}

/// A connection whose incoming bytes are watched by a [`Scanner`], and whose request heads have a time limit.
#[derive(Debug)]
pub(crate) struct Framed<I> {
    io: Rewind<I>,
    scanner: Scanner,
    fault: Option<Refusal>,
    header_timeout: Duration,
    /// Runs only while a head has begun and not ended, which is rare: heads mostly arrive whole.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Says when the bytes are not HTTP any more.
    activity: Arc<Activity>,
}

impl<I> Framed<I> {
    /// Watches `io`, of which `first` has been read already.
    pub(crate) fn new(
        io: I,
        first: Bytes,
        max_header_bytes: usize,
        header_timeout: Duration,
        activity: Arc<Activity>,
    ) -> Self {
        let io = Rewind::new(io, first);
        Self {
            io,
            scanner: Scanner::new(max_header_bytes),
            fault: None,
            header_timeout,
            deadline: None,
            activity,
        }
    }

    /// The connection itself, to end it.
    pub(crate) fn inner(&mut self) -> &mut I {
        self.io.inner()
    }

    /// Why reading failed, where it was the scanner's word.
    pub(crate) fn fault(&self) -> Option<Refusal> {
        self.fault
    }

    /// The scanner, which knows how far the current request has come.
    pub(crate) fn scanner(&self) -> &Scanner {
        &self.scanner
    }

    fn fail(&mut self, refusal: Refusal) -> io::Error {
        self.fault = Some(refusal);
        io::Error::new(io::ErrorKind::InvalidData, refusal)
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Framed<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.activity.is_switched() {
            return Pin::new(&mut this.io).poll_read(cx, buf);
        }
        if let Some(refusal) = this.fault {
            return Poll::Ready(Err(this.fail(refusal)));
        }
        let before = buf.filled().len();
        if Pin::new(&mut this.io).poll_read(cx, buf)?.is_ready() {
            if let Err(refusal) = this.scanner.feed(&buf.filled()[before..]) {
                return Poll::Ready(Err(this.fail(refusal)));
            }
            return Poll::Ready(Ok(()));
        }
        if !this.scanner.has_begun() {
            this.deadline = None;
            return Poll::Pending;
        }
        let header_timeout = this.header_timeout;
        let deadline = this
            .deadline
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(header_timeout)));
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Err(this.fail(Refusal::ClientTimeout)))
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
        if self.fault.is_some() {
            return Poll::Ready(Ok(())); // the answer that says so is still to be written
        }
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

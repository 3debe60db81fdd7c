//! The harness of the end-to-end tests: the real binary, a raw client, an app that records, an issuer with faults.
//!
//! Everything listens on loopback at ports that the system chooses. A test waits for a condition ([`eventually`]), never
//! for an amount of time.
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods
)]

pub mod app;
pub mod client;
pub mod egress;
pub mod gateway;
pub mod http2;
pub mod openid;
pub mod people;
pub mod provider;
pub mod server;
pub mod tls;
pub mod tokens;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

pub use app::{Answer, App, Exchange};
pub use client::{Client, Request, Response};
pub use egress::EgressProxy;
pub use gateway::{Gateway, Setup};
pub use provider::{Fault, Provider};
pub use tokens::{Key, corp_claims, corp_token, corp_token_of};

/// How long anything may take before a test gives up. Generous, because the machine may be busy: no test measures time.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until `condition` holds; fails the test with `what` after [`DEADLINE`].
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let give_up = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < give_up, "gave up waiting until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A byte stream with a read timeout: TCP, a unix socket, or TLS over TCP.
pub trait Wire: Read + Write + Send {
    /// Reads fail with `WouldBlock` or `TimedOut` after this long.
    fn set_timeout(&self, timeout: Duration);
    /// Tells the peer that nothing more will be sent.
    fn finish_sending(&mut self);
}

impl Wire for TcpStream {
    fn set_timeout(&self, timeout: Duration) {
        self.set_read_timeout(Some(timeout)).unwrap();
    }
    fn finish_sending(&mut self) {
        let _ = self.shutdown(std::net::Shutdown::Write);
    }
}

impl Wire for UnixStream {
    fn set_timeout(&self, timeout: Duration) {
        self.set_read_timeout(Some(timeout)).unwrap();
    }
    fn finish_sending(&mut self) {
        let _ = self.shutdown(std::net::Shutdown::Write);
    }
}

/// Closed until a test opens it: how a test holds an app in the middle of an answer.
#[derive(Default)]
pub struct Gate {
    open: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    /// Lets everybody through, now and later.
    pub fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.changed.notify_all();
    }

    /// Waits until it is open; gives up quietly after [`DEADLINE`], so that a failed test ends.
    pub fn pass(&self) {
        let open = self.open.lock().unwrap();
        drop(
            self.changed
                .wait_timeout_while(open, DEADLINE, |open| !*open)
                .unwrap(),
        );
    }
}

/// One field of a message head, name as it was on the wire.
pub type Field = (String, String);

/// The values of all fields called `name`, in any case.
pub fn values<'a>(fields: &'a [Field], name: &str) -> Vec<&'a str> {
    fields
        .iter()
        .filter(|(field, _)| field.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
        .collect()
}

/// Splits a message head into its first line and its fields.
pub fn parse_head(head: &[u8]) -> (String, Vec<Field>) {
    let text: String = head.iter().map(|byte| char::from(*byte)).collect();
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default().to_owned();
    let fields = lines
        .filter(|line| !line.is_empty())
        .map(|line| {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            (name.to_owned(), value.trim().to_owned())
        })
        .collect();
    (first, fields)
}

/// Bytes read but not yet used, and the reading of HTTP/1.1 messages from them.
pub struct Reader<W> {
    pub wire: W,
    pub buffer: Vec<u8>,
}

impl<W: Read> Reader<W> {
    /// Reads more; `Ok(false)` at the end of the stream.
    pub fn fill(&mut self) -> std::io::Result<bool> {
        let mut chunk = [0; 16 * 1024];
        let read = self.wire.read(&mut chunk)?;
        self.buffer.extend_from_slice(&chunk[..read]);
        Ok(read > 0)
    }

    /// Exactly `length` bytes, or an error when the stream ends before.
    pub fn take(&mut self, length: usize) -> std::io::Result<Vec<u8>> {
        while self.buffer.len() < length {
            if !self.fill()? {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.buffer.drain(..length).collect())
    }

    /// Everything up to and including `end`; `Ok(None)` when the stream ends before the first byte.
    pub fn take_through(&mut self, end: &[u8]) -> std::io::Result<Option<Vec<u8>>> {
        let mut searched = 0;
        loop {
            if let Some(found) = self.buffer[searched..]
                .windows(end.len())
                .position(|window| window == end)
            {
                return self.take(searched + found + end.len()).map(Some);
            }
            searched = self.buffer.len().saturating_sub(end.len() - 1);
            if !self.fill()? {
                if self.buffer.is_empty() {
                    return Ok(None);
                }
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// A chunked body: its content, and the bytes it had on the wire (chunk sizes and trailers included).
    pub fn take_chunked(&mut self) -> std::io::Result<(Vec<u8>, Vec<Field>, Vec<u8>)> {
        let eof = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        let mut content = Vec::new();
        let mut raw = Vec::new();
        loop {
            let line = self.take_through(b"\r\n")?.ok_or_else(eof)?;
            raw.extend_from_slice(&line);
            let text = String::from_utf8_lossy(&line);
            let size = text
                .trim()
                .split(';')
                .next()
                .unwrap_or_default()
                .trim()
                .to_owned();
            let size = usize::from_str_radix(&size, 16).map_err(|_| std::io::ErrorKind::InvalidData)?;
            if size == 0 {
                break;
            }
            let chunk = self.take(size + 2)?;
            raw.extend_from_slice(&chunk);
            content.extend_from_slice(&chunk[..size]);
        }
        let mut trailers = Vec::new();
        loop {
            let line = self.take_through(b"\r\n")?.ok_or_else(eof)?;
            raw.extend_from_slice(&line);
            if line == b"\r\n" {
                return Ok((content, trailers, raw));
            }
            let (_, mut field) = parse_head(&[b"x\r\n", &line[..]].concat());
            trailers.append(&mut field);
        }
    }
}

//! Connections to servers: TCP to the addresses of a name or a unix socket, the header of the PROXY protocol, TLS.
//!
//! Input: a [`Server`], what the connection is for, and a deadline for all steps together. Output: a [`Link`] that HTTP can
//! be spoken on. Nothing is retried here, and only the header and a handshake are sent.

use std::io::{self, IoSlice, Read};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::names::{Addresses, Place};
use super::server::{Address, Protocol, Server, Speaks};
use crate::net::coalesce::{ROOM, coalesce};
use crate::net::proxy_protocol::{self, Announced};
use crate::refusal::Refusal;

/// How long an address is waited for before the next one is tried beside it (RFC 8305 section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// How long sent bytes may stay without an acknowledgement (RFC 5482) before the connection counts as dead.
const UNACKNOWLEDGED: Duration = Duration::from_secs(45);
/// Bytes that a look at an idle connection reads at once.
const LOOK: usize = 256;

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum ConnectError {
    /// No address, or none that accepts.
    Unreachable(io::Error),
    /// Not within `connect_timeout`.
    TimedOut,
    /// The TLS handshake failed; the certificate may not be acceptable.
    Tls(io::Error),
    /// The connection was made, and the app did not speak HTTP/2 on it.
    Protocol(hyper::Error),
}

impl ConnectError {
    pub(super) fn refusal(&self) -> Refusal {
        match self {
            Self::Unreachable(_) => Refusal::UpstreamUnreachable,
            Self::TimedOut => Refusal::UpstreamConnectTimeout,
            Self::Tls(_) => Refusal::UpstreamTls,
            Self::Protocol(_) => Refusal::UpstreamProtocol,
        }
    }
}

impl std::fmt::Display for ConnectError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreachable(error) => write!(f, "{error}"),
            Self::TimedOut => f.write_str("no connection within `connect_timeout`"),
            Self::Tls(error) => write!(f, "TLS: {error}"),
            Self::Protocol(error) => write!(f, "HTTP/2: {error}"),
        }
    }
}

/// What a connection is made for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Purpose {
    /// Whose requests it carries, for a server that is told.
    pub(super) client: Announced,
    /// Whether HTTP/2 is of no use: for an upgrade.
    pub(super) is_http1_only: bool,
}

impl Purpose {
    /// A request of the gateway's own.
    pub(super) const OWN: Self = Self {
        client: Announced::Proxy,
        is_http1_only: false,
    };

    /// A request of a client; `None`: its address is not known.
    pub(super) fn request_of(client: Option<IpAddr>, is_upgrade: bool) -> Self {
        Self {
            client: client.map_or(Announced::Unknown, Announced::Client),
            is_http1_only: is_upgrade,
        }
    }
}

/// Connects to `server` until `deadline`, TLS included.
pub(super) async fn connect(
    server: &Server,
    purpose: Purpose,
    deadline: Instant,
) -> Result<Link, ConnectError> {
    let (socket, place) = timeout_at(deadline, open(server))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => ConnectError::TimedOut,
            _ => ConnectError::Unreachable(error),
        })?;
    let mut socket = Socket {
        stream: Arc::new(Mutex::new(socket)),
        marks: Arc::default(),
        place,
    };
    if server.proxy_protocol {
        let header = proxy_protocol::header(purpose.client);
        match timeout_at(deadline, socket.write_all(&header)).await {
            Ok(written) => written.map_err(ConnectError::Unreachable)?,
            Err(_elapsed) => return Err(ConnectError::TimedOut),
        }
    }
    let Some(tls) = &server.tls else {
        return Ok(Link::Plain(socket));
    };
    let config = match purpose.is_http1_only {
        true => &tls.http1,
        false => &tls.config,
    };
    let handshake = TlsConnector::from(Arc::clone(config)).connect(tls.name.clone(), socket);
    match timeout_at(deadline, handshake).await {
        Ok(Ok(stream)) => Ok(Link::Tls(Box::new(stream))),
        Ok(Err(error)) => Err(ConnectError::Tls(error)),
        Err(_elapsed) => Err(ConnectError::TimedOut),
    }
}

async fn open(server: &Server) -> io::Result<(Stream, Place)> {
    match &server.address {
        Address::Ip(address) => Ok((open_tcp(*address).await?, Place::default())),
        Address::Unix(path) => Ok((Stream::Unix(UnixStream::connect(path).await?), Place::default())),
        Address::Name { .. } => {
            let (found, generation) = server.addresses.find().await?;
            // Also where the deadline comes first.
            let mut unless_opened = AskAgain(Some(&server.addresses));
            let (stream, address) = open_first(&found).await?;
            unless_opened.0 = None;
            let place = Place {
                address: Some(address),
                generation,
            };
            Ok((stream, place))
        }
    }
}

/// Has the resolver asked again when it is dropped.
struct AskAgain<'a>(Option<&'a Addresses>);

impl Drop for AskAgain<'_> {
    fn drop(&mut self) {
        if let Some(addresses) = self.0 {
            addresses.ask_again();
        }
    }
}

/// The first of `addresses` that accepts (RFC 8305): each is tried when the one before it has failed, or has not accepted
/// within [`ATTEMPT_DELAY`], and those that were tried may still win.
async fn open_first(addresses: &[SocketAddr]) -> io::Result<(Stream, SocketAddr)> {
    let mut attempts = JoinSet::new();
    let mut untried = by_turns(addresses).into_iter();
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    loop {
        match untried.next() {
            Some(address) => {
                attempts.spawn(async move { open_tcp(address).await.map(|stream| (stream, address)) });
            }
            None if attempts.is_empty() => return Err(last),
            None => {}
        }
        tokio::select! {
            Some(ended) = attempts.join_next() => match ended.map_err(io::Error::other).flatten() {
                // Dropping the others ends them.
                Ok(opened) => return Ok(opened),
                Err(error) => last = error,
            },
            () = sleep(ATTEMPT_DELAY), if untried.len() > 0 => {}
        }
    }
}

/// The addresses of the two families by turns, beginning with the family of the first, each family in its order (RFC 8305
/// section 4).
fn by_turns(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let family = addresses.first().map(SocketAddr::is_ipv4);
    let (first, second): (Vec<_>, Vec<_>) = addresses
        .iter()
        .copied()
        .partition(|address| Some(address.is_ipv4()) == family);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut turns = Vec::with_capacity(addresses.len());
    while first.len() + second.len() > 0 {
        turns.extend(first.next());
        turns.extend(second.next());
    }
    turns
}

async fn open_tcp(address: SocketAddr) -> io::Result<Stream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    // A peer that vanished is noticed also where the operating system has no such option; then it only takes longer.
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(30))
        .with_interval(Duration::from_secs(10))
        .with_retries(3);
    let _ = socket.set_tcp_keepalive(&keepalive);
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    Ok(Stream::Tcp(stream))
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// What a [`Link`] remembers of the exchange under way. Written and read by one thread.
#[derive(Debug, Default)]
struct ExchangeMarks {
    /// The next read asks the kernel, and not what tokio knows.
    looking: AtomicBool,
    /// Bytes of HTTP that were written.
    written: AtomicU64,
    /// `written` when the first byte after it was read; [`UNANSWERED`] before.
    answered_at: AtomicU64,
    /// Whether all that was handed over to be written has been.
    flushed: AtomicBool,
}

/// Nothing was read since the request began.
const UNANSWERED: u64 = u64::MAX;

/// A socket that both hyper and the pool can look at. The lock is held for one system call by one of two owners on the
/// same thread, so it is always free.
#[derive(Clone, Debug)]
pub(super) struct Socket {
    stream: Arc<Mutex<Stream>>,
    marks: Arc<ExchangeMarks>,
    /// Where it leads to.
    pub(super) place: Place,
}

impl Socket {
    fn stream(&self) -> MutexGuard<'_, Stream> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the next read ask the kernel what lies in the socket. tokio's own knowledge is as old as the last round of
    /// its event loop, so that a read without this does not see what came since.
    pub(super) fn look(&self) {
        self.marks.looking.store(true, Ordering::Relaxed);
    }

    /// A request begins: looks before its first byte is written.
    pub(super) fn begin(&self) {
        self.look();
        self.marks.written.store(0, Ordering::Relaxed);
        self.marks.answered_at.store(UNANSWERED, Ordering::Relaxed);
        self.marks.flushed.store(true, Ordering::Relaxed);
    }

    /// Whether a byte of the request that [`Socket::begin`] spoke of was written.
    pub(super) fn has_sent(&self) -> bool {
        self.marks.written.load(Ordering::Relaxed) > 0
    }

    /// Whether a byte came after [`Socket::begin`].
    pub(super) fn was_answered(&self) -> bool {
        self.marks.answered_at.load(Ordering::Relaxed) != UNANSWERED
    }

    /// Whether all that was to be written went out before the first byte of the answer came.
    pub(super) fn was_flushed_before_the_answer(&self) -> bool {
        let marks = &self.marks;
        marks.flushed.load(Ordering::Relaxed)
            && marks.answered_at.load(Ordering::Relaxed) == marks.written.load(Ordering::Relaxed)
    }

    /// Makes the kernel drop what it has not sent yet when the socket is closed, instead of sending it first.
    pub(super) fn cut(&self) {
        // On a unix socket the bytes are at the other end already. Without the option they are merely sent.
        if let Stream::Tcp(stream) = &*self.stream() {
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }

    /// What lies in the socket at this moment; `None`: nothing, or no look was asked for.
    fn poll_look(&self, buffer: &mut ReadBuf<'_>) -> Option<io::Result<()>> {
        if !self.marks.looking.load(Ordering::Relaxed) {
            return None;
        }
        // As a rule nothing is there, and a large buffer would be wiped for nothing.
        let room = buffer.initialize_unfilled_to(buffer.remaining().min(LOOK));
        let read = match &*self.stream() {
            Stream::Tcp(stream) => (&*SockRef::from(stream)).read(room),
            Stream::Unix(stream) => (&*SockRef::from(stream)).read(room),
        };
        // After a record of TLS another may follow.
        self.marks
            .looking
            .store(matches!(read, Ok(1..)), Ordering::Relaxed);
        match read {
            Ok(read) => {
                buffer.advance(read);
                Some(Ok(()))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => Some(Err(error)),
        }
    }

    fn with<T>(&self, then: impl FnOnce(Pin<&mut dyn Duplex>) -> T) -> T {
        match &mut *self.stream() {
            Stream::Tcp(stream) => then(Pin::new(stream)),
            Stream::Unix(stream) => then(Pin::new(stream)),
        }
    }
}

/// What can be read and written.
trait Duplex: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(seen) = self.poll_look(buffer) {
            return Poll::Ready(seen);
        }
        self.with(|stream| stream.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.with(|stream| stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.with(|stream| match coalesce(slices, &mut [0; ROOM]) {
            Some(piece) => stream.poll_write(cx, piece),
            None => stream.poll_write_vectored(cx, slices),
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.with(|stream| stream.poll_flush(cx)))?;
        self.marks.flushed.store(true, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_shutdown(cx))
    }
}

/// A connection as HTTP sees it.
#[derive(Debug)]
pub(super) enum Link {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
}

impl Link {
    /// The socket below.
    pub(super) fn socket(&self) -> Socket {
        match self {
            Self::Plain(socket) => socket.clone(),
            Self::Tls(stream) => stream.get_ref().0.clone(),
        }
    }

    /// What is spoken on it, on a connection to a server that speaks this.
    pub(super) fn protocol(&self, server: Speaks) -> Protocol {
        match (server, self) {
            (Speaks::Http2, _) => Protocol::Http2,
            (Speaks::Either, Self::Tls(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                Protocol::Http2
            }
            // Also where the server chose nothing.
            (Speaks::Http1 | Speaks::Either, _) => Protocol::Http1,
        }
    }

    /// The certificates of the server, leaf first; none without TLS.
    pub(super) fn certificates(&self) -> &[CertificateDer<'static>] {
        match self {
            Self::Plain(_) => &[],
            Self::Tls(stream) => stream.get_ref().1.peer_certificates().unwrap_or_default(),
        }
    }

    fn marks(&self) -> &ExchangeMarks {
        match self {
            Self::Plain(socket) => &socket.marks,
            Self::Tls(stream) => &stream.get_ref().0.marks,
        }
    }

    /// Something of HTTP was read.
    fn note_read(&self) {
        let marks = self.marks();
        if marks.answered_at.load(Ordering::Relaxed) == UNANSWERED {
            marks
                .answered_at
                .store(marks.written.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// Something of HTTP is to be written; it was, as far as `outcome` says.
    fn note_write(&self, outcome: &Poll<io::Result<usize>>) {
        let marks = self.marks();
        marks.flushed.store(false, Ordering::Relaxed);
        if let Poll::Ready(Ok(written)) = outcome {
            marks.written.fetch_add(*written as u64, Ordering::Relaxed);
        }
    }
}

impl AsyncRead for Link {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let outcome = match this {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        };
        if buffer.filled().len() > before {
            this.note_read();
        }
        outcome
    }
}

impl AsyncWrite for Link {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = match this {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        };
        this.note_write(&outcome);
        outcome
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = match this {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        };
        this.note_write(&outcome);
        outcome
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn families_take_turns_and_keep_their_order() {
        let addresses = |list: &[&str]| {
            let parsed = list.iter().map(|address| address.parse().unwrap());
            parsed.collect::<Vec<SocketAddr>>()
        };
        for (given, tried) in [
            (
                &["[::1]:1", "[::2]:1", "1.1.1.1:1"][..],
                &["[::1]:1", "1.1.1.1:1", "[::2]:1"][..],
            ),
            (
                &["1.1.1.1:1", "1.1.1.2:1", "1.1.1.3:1", "[::1]:1"],
                &["1.1.1.1:1", "[::1]:1", "1.1.1.2:1", "1.1.1.3:1"],
            ),
            (&["1.1.1.1:1"], &["1.1.1.1:1"]),
            (&[], &[]),
        ] {
            assert_eq!(by_turns(&addresses(given)), addresses(tried));
        }
    }

    /// A listener whose queue is full: a connection to it neither fails nor comes about.
    fn full() -> (socket2::Socket, Vec<std::net::TcpStream>, SocketAddr) {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket
            .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let mut queued = Vec::new();
        while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            queued.push(stream);
        }
        (socket, queued, address)
    }

    #[tokio::test]
    async fn address_that_does_not_answer_holds_the_next_one_up_for_a_moment_only() {
        let (_socket, _queued, silent) = full();
        let app = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let refused = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        let good = app.local_addr().unwrap();
        for addresses in [
            &[silent, good][..],
            &[refused, silent, good],
            &[silent, refused, good],
            &[good, silent],
        ] {
            let opened = timeout_at(Instant::now() + Duration::from_secs(20), open_first(addresses));
            assert_eq!(
                opened.await.expect("it does not wait for the first").unwrap().1,
                good
            );
        }
        assert!(open_first(&[refused, refused]).await.is_err());
        assert!(open_first(&[]).await.is_err());
    }
}

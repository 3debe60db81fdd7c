//! How connections and streams end that a client, or an app, does not bring to an end: every line of the table of
//! deadlines, on every wire; and who gets a connection where there are no more.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)]

mod deadlines;

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::gateway::before;
use crate::support::tls::{Certificate, client_config};
use crate::support::*;
use deadlines::{Deadline, Ends, Row, State, TABLE, Wire};
use rustls::{ClientConfig, ClientConnection, StreamOwned};

/// How long an end is waited for: a rate is measured over 20 seconds, and the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(50);
/// The length of a body of which only a part is ever sent.
const UPLOAD: usize = 1024 * 1024;
/// How long it is looked on where there is no deadline: longer than all of the others in these configurations.
const NO_DEADLINE: Duration = Duration::from_secs(6);

const ROUTES: &str = "[[routes]]\npath = \"/*\"\nauth = \"none\"\nupstream = \"app\"\n\
    [[routes]]\npath = \"/mute/*\"\nauth = \"none\"\nupstream = \"mute\"\n[password]\n";

// --- the app

/// What the app has seen the end of, by the targets of its requests.
#[derive(Clone, Default)]
struct Ended(Arc<Mutex<HashSet<String>>>);

impl Ended {
    fn has(&self, target: &str) -> bool {
        self.0.lock().unwrap().contains(target)
    }
}

/// An app that does with each request what its path says, and notes when it is over.
fn app() -> (App, Ended) {
    let ended = Ended::default();
    let noted = ended.clone();
    let app = App::with(move |exchange| {
        let target = exchange.request().target().to_owned();
        match target.split('/').nth(1).unwrap() {
            "short" => {
                exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                return Answer::Keep;
            }
            "endless" => {
                exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                let chunk = [&b"2000\r\n"[..], &[b'x'; 0x2000], b"\r\n"].concat();
                while exchange.send(&chunk) {}
            }
            "silent" => {
                exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhi\n\r\n");
                while !exchange.wait_until_closed() {}
            }
            "socket" => {
                exchange.send(
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Accept: x\r\n\r\n",
                );
                while !exchange.wait_until_closed() {}
            }
            // Reads what comes and says nothing.
            _ => while !exchange.wait_until_closed() {},
        }
        noted.0.lock().unwrap().insert(target);
        Answer::Close
    });
    (app, ended)
}

// --- the gateways

/// Gateways whose deadlines differ, so that each end has one cause.
struct Gateways {
    /// `header_timeout` is short and `idle_timeout` long; in the clear and over TLS.
    heads: [Gateway; 2],
    /// `idle_timeout` is short.
    idle: [Gateway; 2],
    redirect: SocketAddr,
    tls: Arc<Certificate>,
    ended: Ended,
    _app: App,
}

impl Gateways {
    fn start() -> Self {
        let (app, ended) = app();
        let tls = Arc::new(Certificate::for_names(&["a.test"]));
        let mute = format!(
            "[upstreams.mute]\nservers = [{}]\nresponse_timeout = \"1s\"\n",
            app.url()
        );
        let gateway = |server: &str, is_tls: bool| {
            let table = match is_tls {
                true => "[server.tls]\ncertificate = \"a.pem\"\nprivate_key = \"a.key\"\n",
                false => "",
            };
            let server = format!(
                "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"https://a.test\"\n{server}{table}"
            );
            let setup = Setup::new(&before(&app, &format!("{server}{mute}{ROUTES}")));
            setup.write("a.pem", &tls.chain_pem).write("a.key", &tls.key_pem);
            setup.start()
        };
        let heads = "header_timeout = \"1s\"\nidle_timeout = \"60s\"\n";
        let idle = "header_timeout = \"3s\"\nidle_timeout = \"1s\"\nmin_rate = 0\n";
        let heads = [
            gateway(heads, false),
            gateway(&format!("{heads}redirect_http = \"127.0.0.1:0\"\n"), true),
        ];
        let redirect = heads[1].diagnostics().iter().find_map(|line| {
            line.strip_prefix("redirecting http://")?
                .split(' ')
                .next()?
                .parse()
                .ok()
        });
        Self {
            heads,
            idle: [gateway(idle, false), gateway(idle, true)],
            redirect: redirect.expect("the listener that redirects is announced"),
            tls,
            ended,
            _app: app,
        }
    }

    fn address(&self, row: &Row, wire: Wire) -> SocketAddr {
        let [clear, tls] = match row.deadline {
            Deadline::IdleTimeout | Deadline::Ping | Deadline::Goaway | Deadline::None => &self.idle,
            Deadline::HeaderTimeout
            | Deadline::MinRate
            | Deadline::Linger
            | Deadline::AtOnce
            | Deadline::Form
            | Deadline::ResponseTimeout => &self.heads,
        };
        match wire {
            Wire::Http1 | Wire::H2c => clear.address,
            Wire::TlsHttp1 | Wire::TlsHttp2 => tls.address,
        }
    }
}

// --- the client

/// A connection on which exactly those bytes are sent that a case wants.
enum Line {
    Clear(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Line {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Clear(socket) => socket,
            Self::Tls(stream) => &stream.sock,
        }
    }

    /// A peer that has closed already is no failure here.
    fn send(&mut self, bytes: &[u8]) -> bool {
        match self {
            Self::Clear(socket) => socket.write_all(bytes).is_ok(),
            Self::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()).is_ok(),
        }
    }

    /// What comes within `wait`: `None` is the end of the connection, an empty piece is silence.
    fn read(&mut self, wait: Duration) -> Option<Vec<u8>> {
        self.tcp().set_read_timeout(Some(wait)).unwrap();
        let mut piece = vec![0; 16 * 1024];
        let read = match self {
            Self::Clear(socket) => socket.read(&mut piece),
            Self::Tls(stream) => stream.read(&mut piece),
        };
        match read {
            Ok(0) => None,
            Ok(read) => Some(piece[..read].to_vec()),
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) =>
            {
                Some(Vec::new())
            }
            Err(_) => None,
        }
    }
}

/// A socket that takes little ahead of its reader.
fn connect_tcp(address: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.set_tcp_nodelay(true).unwrap();
    socket.connect(&address.into()).unwrap();
    socket.into()
}

fn is_http2(wire: Wire) -> bool {
    matches!(wire, Wire::H2c | Wire::TlsHttp2)
}

fn connect(gateways: &Gateways, address: SocketAddr, wire: Wire) -> Line {
    let socket = connect_tcp(address);
    let alpn = match wire {
        Wire::Http1 | Wire::H2c => return Line::Clear(socket),
        Wire::TlsHttp1 => "http/1.1",
        Wire::TlsHttp2 => "h2",
    };
    let config = client_config(&[&gateways.tls], &[alpn]);
    Line::Tls(Box::new(handshake(&config, socket)))
}

fn handshake(config: &Arc<ClientConfig>, mut socket: TcpStream) -> StreamOwned<ClientConnection, TcpStream> {
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut connection = ClientConnection::new(config.clone(), "a.test".try_into().unwrap()).unwrap();
    while connection.is_handshaking() {
        connection.complete_io(&mut socket).unwrap();
    }
    StreamOwned::new(connection, socket)
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// An HTTP/2 frame (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// SETTINGS with this INITIAL_WINDOW_SIZE.
fn settings(window: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[&[0, 4][..], &window.to_be_bytes()].concat())
}

/// Fields of a request as literals without a name in the table (RFC 7541 section 6.2.2).
fn fields(method: &str, target: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let pseudo = [
        (":method", method),
        (":scheme", "http"),
        (":authority", "a.test"),
        (":path", target),
    ];
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    pseudo
        .iter()
        .chain(more)
        .flat_map(|(name, value)| [vec![0], text(name), text(value)].concat())
        .collect()
}

/// One connection of one case.
struct Client {
    line: Line,
    wire: Wire,
    /// Frames that have come in part.
    rest: Vec<u8>,
    answers_pings: bool,
    /// Over HTTP/2: stream 1 was reset, or has come to its end.
    has_ended: bool,
    /// What came of stream 1: DATA, or over HTTP/1 anything.
    came: Vec<u8>,
    /// Over HTTP/2: the frames that came, by kind and stream.
    frames: Vec<(u8, u32)>,
}

impl Client {
    fn new(line: Line, wire: Wire) -> Self {
        let (rest, came, frames) = Default::default();
        Self {
            line,
            wire,
            rest,
            answers_pings: true,
            has_ended: false,
            came,
            frames,
        }
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.line.send(bytes.as_ref())
    }

    /// Begins HTTP/2 with this window for each stream.
    fn begin_http2(&mut self, window: u32) {
        self.send([PREFACE, &settings(window)].concat());
    }

    /// A request on stream 1, with a body of `body` bytes that is still to be sent.
    fn request(&mut self, method: &str, target: &str, body: Option<usize>) {
        let length = body.map(|body| body.to_string()).unwrap_or_default();
        let form = ("content-type", "application/x-www-form-urlencoded");
        let mut more = vec![("accept", "text/html")];
        if body.is_some() {
            more.extend([("content-length", &*length), form]);
        }
        if is_http2(self.wire) {
            let flags = END_HEADERS | if body.is_none() { END_STREAM } else { 0 };
            self.send(frame(HEADERS, flags, 1, &fields(method, target, &more)));
            return;
        }
        let lines: String = more
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        self.send(format!(
            "{method} {target} HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n"
        ));
    }

    /// A piece of the body of the request.
    fn body(&mut self, bytes: &[u8]) -> bool {
        match is_http2(self.wire) {
            true => self.send(frame(DATA, 0, 1, bytes)),
            false => self.send(bytes),
        }
    }

    /// Reads for at most `wait`. False at the end of the connection.
    fn read(&mut self, wait: Duration) -> bool {
        let Some(piece) = self.line.read(wait) else {
            return false;
        };
        if !is_http2(self.wire) {
            self.came.extend_from_slice(&piece);
            return true;
        }
        self.rest.extend_from_slice(&piece);
        while self.rest.len() >= 9 {
            let length =
                usize::from(self.rest[0]) << 16 | usize::from(self.rest[1]) << 8 | usize::from(self.rest[2]);
            if self.rest.len() < 9 + length {
                break;
            }
            let whole: Vec<u8> = self.rest.drain(..9 + length).collect();
            let stream = u32::from_be_bytes(whole[5..9].try_into().unwrap());
            self.frames.push((whole[3], stream));
            match (whole[3], stream) {
                (SETTINGS, _) if whole[4] & ACK == 0 => drop(self.send(frame(SETTINGS, ACK, 0, &[]))),
                (PING, _) if whole[4] & ACK == 0 && self.answers_pings => {
                    self.send(frame(PING, ACK, 0, &whole[9..]));
                }
                (DATA, 1) => self.came.extend_from_slice(&whole[9..]),
                (RST_STREAM, 1) => self.has_ended = true,
                _ => {}
            }
            self.has_ended |= stream == 1 && matches!(whole[3], DATA | HEADERS) && whole[4] & END_STREAM != 0;
        }
        true
    }

    /// Reads until the connection ends.
    fn is_closed(&mut self) -> bool {
        let give_up = Instant::now() + PATIENCE;
        while Instant::now() < give_up {
            if !self.read(Duration::from_millis(50)) {
                return true;
            }
        }
        false
    }

    /// Reads until stream 1 ends, while the connection goes on; over HTTP/1, until the connection ends.
    fn is_over(&mut self) -> bool {
        if !is_http2(self.wire) {
            return self.is_closed();
        }
        let give_up = Instant::now() + PATIENCE;
        while Instant::now() < give_up {
            if !self.read(Duration::from_millis(50)) {
                return false;
            }
            if self.has_ended {
                return true;
            }
        }
        false
    }

    /// Reads until something of an answer has come.
    fn has_answer(&mut self) -> bool {
        let give_up = Instant::now() + DEADLINE;
        while Instant::now() < give_up {
            let has_begun = !self.came.is_empty() || self.frames.contains(&(HEADERS, 1));
            if has_begun || !self.read(Duration::from_millis(20)) {
                return has_begun;
            }
        }
        false
    }

    /// Sends a piece ten times a second until the connection takes no more, although the gateway has ended its side.
    fn is_cut_off(&mut self) -> bool {
        let give_up = Instant::now() + PATIENCE;
        let mut is_open = true;
        while Instant::now() < give_up {
            is_open = is_open && self.read(Duration::from_millis(1));
            std::thread::sleep(Duration::from_millis(100));
            if !self.send("x") {
                return true;
            }
        }
        false
    }

    /// HTTP/2: sends a piece of the body ten times a second until stream 1 is reset, and says whether the connection
    /// goes on.
    fn uploads_until_reset(&mut self) -> bool {
        let give_up = Instant::now() + PATIENCE;
        while Instant::now() < give_up && !self.frames.contains(&(RST_STREAM, 1)) {
            self.body(b"x");
            if !self.read(Duration::from_millis(100)) {
                return false;
            }
        }
        self.send(frame(
            HEADERS,
            END_HEADERS | END_STREAM,
            3,
            &fields("GET", "/short", &[]),
        ));
        while Instant::now() < give_up && !self.frames.contains(&(HEADERS, 3)) {
            if !self.read(Duration::from_millis(20)) {
                return false;
            }
        }
        self.frames.contains(&(RST_STREAM, 1)) && self.frames.contains(&(HEADERS, 3))
    }

    /// Sends a piece again and again until the connection takes no more, or ends; a second or so between.
    fn keeps_sending(&mut self, piece: &[u8], pause: Duration) -> bool {
        let give_up = Instant::now() + PATIENCE;
        while Instant::now() < give_up {
            if !self.send(piece) || !self.read(pause) {
                return true;
            }
        }
        false
    }
}

fn eventually_ended(gateways: &Gateways, target: &str) -> bool {
    let give_up = Instant::now() + PATIENCE;
    while Instant::now() < give_up {
        if gateways.ended.has(target) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

// --- the table

/// Brings a connection into the state, and says whether it ends as the row says.
fn ends(gateways: &Gateways, row: &Row, wire: Wire) -> bool {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let address = gateways.address(row, wire);
    let http2 = is_http2(wire);
    let open = || Client::new(connect(gateways, address, wire), wire);
    let begun = || {
        let mut client = open();
        if http2 {
            client.begin_http2(65_535);
        }
        client
    };
    let bare = |address| Client::new(Line::Clear(connect_tcp(address)), Wire::Http1);
    match row.state {
        State::Connected => bare(address).is_closed(),
        State::HalfHandshake => {
            let mut hello = Vec::new();
            let config = client_config(&[&gateways.tls], &[if http2 { "h2" } else { "http/1.1" }]);
            let mut tls = ClientConnection::new(config, "a.test".try_into().unwrap()).unwrap();
            tls.write_tls(&mut hello).unwrap();
            let mut client = bare(address);
            client.send(&hello[..hello.len() / 2]);
            client.is_closed()
        }
        State::AfterHandshake => open().is_closed(),
        State::CleartextOnTls => {
            let mut client = bare(address);
            client.request("GET", "/", None);
            client.is_cut_off()
                && client.came.starts_with(b"HTTP/1.1 400 ")
                && String::from_utf8_lossy(&client.came).contains("This port speaks HTTPS")
        }
        State::HalfPreface => {
            let mut client = open();
            client.send(&PREFACE[..PREFACE.len() / 2]);
            client.is_closed()
        }
        State::NoSettings => {
            let mut client = open();
            client.send(PREFACE);
            client.keeps_sending(&frame(PING, 0, 0, &[0; 8]), Duration::from_millis(200))
        }
        State::EmptyLine => {
            let mut client = open();
            client.send("\r\n");
            client.is_closed() && client.came.is_empty()
        }
        State::HalfHead if http2 => {
            let mut client = begun();
            let head = frame(HEADERS, END_HEADERS, 1, &fields("GET", "/short", &[]));
            client.send(&head[..head.len() / 2]);
            client.is_closed()
        }
        State::HalfHead => {
            let mut client = open();
            client.send("GET /short HTTP/1.1\r\nHost: a.te");
            client.is_closed() && client.came.starts_with(b"HTTP/1.1 408 ")
        }
        State::HeadByPieces if http2 => {
            let mut client = begun();
            client.send(frame(HEADERS, 0, 1, &fields("GET", "/short", &[])));
            // The library takes but a few of these.
            std::thread::sleep(Duration::from_millis(500));
            client.send(frame(CONTINUATION, 0, 1, &[0, 1, b'a', 1, b'b']));
            client.is_closed()
        }
        State::HeadByPieces => {
            let mut client = open();
            client.send("GET /short HTTP/1.1\r\nHost: a.test\r\nX: ");
            client.keeps_sending(b"x", Duration::from_millis(100))
        }
        State::Idle | State::IdleWithPings | State::Goaway | State::HalfClosed => {
            let mut client = begun();
            let target = if row.state == State::HalfClosed {
                "/quiet"
            } else {
                "/short"
            };
            client.request("GET", &format!("{target}/{number}"), None);
            if row.state == State::HalfClosed {
                std::thread::sleep(Duration::from_millis(300)); // so that it is under way; it ends in any case
                match &mut client.line {
                    Line::Clear(socket) => drop(socket.shutdown(std::net::Shutdown::Write)),
                    Line::Tls(stream) => {
                        stream.conn.send_close_notify();
                        let _ = stream.flush();
                        let _ = stream.sock.shutdown(std::net::Shutdown::Write);
                    }
                }
                return client.is_closed();
            }
            if !client.has_answer() {
                return false;
            }
            if row.state == State::Goaway {
                client.answers_pings = false;
            }
            if row.state == State::IdleWithPings {
                return client.keeps_sending(&frame(PING, 0, 0, &[0; 8]), Duration::from_millis(100));
            }
            client.is_closed()
        }
        State::IdleFrames => [
            frame(PING, 0, 0, &[0; 8]),
            frame(PING, ACK, 0, &[0; 8]),
            settings(65_535),
            frame(SETTINGS, ACK, 0, &[]),
            frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()),
        ]
        .iter()
        .all(|idle| {
            let mut client = begun();
            let many = idle.repeat(100);
            (0..100).any(|_| !client.send(&many) || !client.read(Duration::from_millis(1)))
                || client.is_closed()
        }),
        State::Refused => {
            let mut client = open();
            client.send("GET /short HTTP/1.1\r\nHost: a.test\r\nContent-Length: x\r\n\r\n");
            client.is_cut_off() && client.came.starts_with(b"HTTP/1.1 400 ")
        }
        State::OwnPageUnread => [0, 1].into_iter().all(|window| {
            let mut client = open();
            client.begin_http2(window);
            client.request("GET", "/auth/login", None);
            let is_over = client.is_over();
            is_over && client.frames.contains(&(RST_STREAM, 1)) && client.came.len() == window as usize
        }),
        State::AnswerUnread => {
            let target = format!("/endless/{number}");
            let mut client = open();
            if http2 {
                client.begin_http2(0);
            }
            client.request("GET", &target, None);
            // Over HTTP/1 nothing may be read before the end.
            (!http2 || client.is_over())
                && eventually_ended(gateways, &target)
                && (http2 || client.is_closed())
        }
        State::AnswerTrickles => {
            let target = format!("/endless/{number}");
            let mut client = open();
            if http2 {
                client.begin_http2(0);
            }
            client.request("GET", &target, None);
            let give_up = Instant::now() + PATIENCE;
            while Instant::now() < give_up && !gateways.ended.has(&target) {
                if http2 {
                    client.send(frame(WINDOW_UPDATE, 0, 1, &10_u32.to_be_bytes()));
                    client.read(Duration::from_millis(1));
                } else {
                    let _ = client.line.tcp().read(&mut [0; 32]);
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            gateways.ended.has(&target) && (!http2 || client.has_ended || client.is_over())
        }
        State::UploadStalls | State::UploadTrickles => {
            let target = format!("/quiet/{number}");
            let mut client = begun();
            client.request("POST", &target, Some(100_000));
            client.body(b"abc");
            if row.state == State::UploadTrickles {
                let give_up = Instant::now() + PATIENCE;
                while Instant::now() < give_up && !gateways.ended.has(&target) {
                    client.body(b"x");
                    client.read(Duration::from_millis(1));
                    std::thread::sleep(Duration::from_millis(200));
                }
            }
            let is_over = client.is_over();
            is_over
                && eventually_ended(gateways, &target)
                && (http2 || client.came.starts_with(b"HTTP/1.1 408 "))
        }
        State::UploadStallsAfterHead => {
            let target = format!("/silent/{number}");
            let mut client = begun();
            client.request("POST", &target, Some(100_000));
            client.has_answer() && client.is_over() && eventually_ended(gateways, &target)
        }
        State::FormStalls => {
            let mut client = begun();
            client.request("POST", "/auth/login", Some(100));
            client.body(b"email=");
            client.is_over() && (http2 || client.came.starts_with(b"HTTP/1.1 408 "))
        }
        State::AppMute => {
            let target = format!("/mute/{number}");
            let mut client = begun();
            client.request("GET", &target, None);
            client.has_answer() && eventually_ended(gateways, &target)
        }
        State::UploadAfterAnswer => {
            let begun_at = Instant::now();
            let mut client = begun();
            client.request("POST", &format!("/short/{number}"), Some(UPLOAD));
            let is_answered = client.has_answer();
            let is_cut = match http2 {
                // The answer ends its half of the stream; the reset is of the other half.
                true => {
                    let is_reset = client.uploads_until_reset();
                    is_reset && client.came == b"ok"
                }
                false => client.is_cut_off() && client.came.ends_with(b"\r\n\r\nok"),
            };
            // The gateway goes on reading for two seconds, which begin after the request.
            is_answered && is_cut && begun_at.elapsed() >= Duration::from_secs(2)
        }
        State::AppSilent => {
            let target = format!("/silent/{number}");
            let mut client = begun();
            client.request("GET", &target, None);
            let is_answered = client.has_answer();
            let until = Instant::now() + NO_DEADLINE;
            let mut is_open = true;
            while is_open && Instant::now() < until {
                is_open = client.read(Duration::from_millis(100)) && !client.has_ended;
            }
            is_answered && is_open && !gateways.ended.has(&target)
        }
        State::PingUnanswered => {
            let target = format!("/silent/{number}");
            let mut client = begun();
            client.answers_pings = false;
            client.request("GET", &target, None);
            client.has_answer() && client.is_closed() && eventually_ended(gateways, &target)
        }
        State::Upgraded => {
            let target = format!("/socket/{number}");
            let mut client = open();
            client.send(format!(
                "GET {target} HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
            ));
            let is_answered = client.has_answer();
            let until = Instant::now() + NO_DEADLINE;
            let mut is_open = true;
            while is_open && Instant::now() < until {
                is_open = client.read(Duration::from_millis(100));
            }
            is_answered && is_open && !gateways.ended.has(&target)
        }
        State::RedirectConnected => bare(gateways.redirect).is_closed(),
        State::RedirectHalfHead => {
            let mut client = bare(gateways.redirect);
            client.send("GET / HTTP/1.1\r\nHost: a.test\r\nX: ");
            client.keeps_sending(b"x", Duration::from_millis(100))
        }
        State::RedirectAnswered => {
            let mut client = bare(gateways.redirect);
            client.request("GET", "/a?b=c", None);
            client.is_cut_off()
                && client.came.starts_with(b"HTTP/1.1 308 ")
                && String::from_utf8_lossy(&client.came).contains("location: https://a.test/a?b=c\r\n")
        }
    }
}

#[test]
fn every_connection_and_stream_state_ends_by_its_deadline() {
    let gateways = Gateways::start();
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for row in TABLE {
            for wire in row.wires {
                let (gateways, failed) = (&gateways, &failed);
                scope.spawn(move || {
                    let begun = Instant::now();
                    let holds =
                        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ends(gateways, row, *wire)));
                    if !matches!(holds, Ok(true)) {
                        let took = begun.elapsed();
                        failed
                            .lock()
                            .unwrap()
                            .push(format!("{:?} on {wire:?} after {took:?}: {row:?}", row.state));
                    }
                });
            }
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn deadline_table_has_each_state_and_its_exceptions() {
    assert!(TABLE.len() >= 20);
    for row in TABLE {
        assert!(!row.wires.is_empty() && !row.holder.is_empty(), "{row:?}");
        assert_eq!(
            row.deadline == Deadline::None,
            row.ends == Ends::Nothing,
            "{row:?}"
        );
        let twice = TABLE.iter().filter(|other| other.state == row.state);
        let wires: Vec<Wire> = twice.flat_map(|row| row.wires).copied().collect();
        assert!(
            wires
                .iter()
                .all(|wire| wires.iter().filter(|other| *other == wire).count() == 1),
            "{row:?}"
        );
    }
}

/// Reads at this rate until `time` is over; whether the answer still comes then.
fn takes_slowly(client: &mut Client, step: usize, time: Duration) -> bool {
    let until = Instant::now() + time;
    let mut took = 0;
    while Instant::now() < until {
        if is_http2(client.wire) {
            client.send(frame(
                WINDOW_UPDATE,
                0,
                1,
                &u32::try_from(step).unwrap().to_be_bytes(),
            ));
            if !client.read(Duration::from_millis(1)) || client.has_ended {
                return false;
            }
        } else {
            let mut piece = vec![0; step];
            match client.line.tcp().read(&mut piece) {
                Ok(read) if read > 0 => took += read,
                _ => return false,
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    took > 0 || !client.came.is_empty()
}

#[test]
fn slow_client_above_min_rate_gets_its_answer() {
    let (app, _ended) = app();
    let gateway = Gateway::before(&app, ROUTES_OF_ONE_APP);
    std::thread::scope(|scope| {
        for wire in [Wire::Http1, Wire::H2c] {
            let gateway = &gateway;
            scope.spawn(move || {
                let mut client = Client::new(Line::Clear(connect_tcp(gateway.address)), wire);
                if is_http2(wire) {
                    client.begin_http2(0);
                }
                client.request("GET", "/endless", None);
                assert!(
                    takes_slowly(&mut client, 400, Duration::from_secs(24)),
                    "4 kB/s over {wire:?}"
                );
            });
        }
    });
}

// --- who gets a connection

const ROUTES_OF_ONE_APP: &str = "[[routes]]\npath = \"/*\"\nauth = \"none\"\nupstream = \"app\"\n";

/// A connection that comes from this address of the loopback network.
fn connect_from(from: [u8; 4], to: SocketAddr) -> Client {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    Client::new(Line::Clear(socket.into()), Wire::Http1)
}

fn is_served(client: &mut Client) -> bool {
    client.came.clear();
    client.request("GET", "/short", None);
    client.has_answer() && client.came.starts_with(b"HTTP/1.1 200 ")
}

#[test]
fn full_gateway_closes_connections_of_the_largest_client() {
    const A: [u8; 4] = [127, 0, 0, 2];
    const B: [u8; 4] = [127, 0, 0, 3];
    let (app, _ended) = app();
    let server = "[server]\nlisten = \"127.0.0.1:0\"\nmax_connections = 4\nworkers = 1\n";
    let gateway = Gateway::before(&app, &format!("{server}{ROUTES_OF_ONE_APP}"));
    let mut held: Vec<Client> = Vec::new();
    for _ in 0..4 {
        let mut client = connect_from(A, gateway.address);
        assert!(
            is_served(&mut client),
            "a share does not bind while there is room"
        );
        held.push(client);
    }
    // Where all are taken, it does.
    assert!(connect_from(A, gateway.address).is_closed());
    let mut other = connect_from(B, gateway.address);
    assert!(is_served(&mut other));
    assert!(
        held[0].is_closed(),
        "the one that has been idle longest has given way"
    );
    assert!(is_served(&mut held[3]), "the others have not");
    assert!(is_served(&mut other));
    gateway.diagnostic("`max_connections` = 4 is reached");
}

#[test]
fn trusted_proxies_are_not_counted_as_clients() {
    let (app, _ended) = app();
    let server = "[server]\nlisten = \"127.0.0.1:0\"\nmax_connections = 4\nworkers = 1\ntrusted_proxies = [\"127.0.0.2\"]\n";
    let gateway = Gateway::before(&app, &format!("{server}{ROUTES_OF_ONE_APP}"));
    let mut held: Vec<Client> = (0..3)
        .map(|_| connect_from([127, 0, 0, 2], gateway.address))
        .collect();
    held.iter_mut().for_each(|client| assert!(is_served(client)));
    let mut direct = connect_from([127, 0, 0, 3], gateway.address);
    assert!(is_served(&mut direct));
    let mut proxy = connect_from([127, 0, 0, 2], gateway.address);
    assert!(is_served(&mut proxy), "the only one that is counted gives way");
    assert!(direct.is_closed());
    held.iter_mut().for_each(|client| assert!(is_served(client)));
}

#[test]
fn unread_answer_holds_no_upstream_connection_others_need() {
    let (app, ended) = app();
    let toml = format!(
        "[upstreams.app]\nservers = [{}]\nmax_connections = 8\n{ROUTES_OF_ONE_APP}\
         [server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\ntrusted_proxies = [\"127.0.0.0/8\"]\n",
        app.url()
    );
    let gateway = Gateway::start(&toml);
    // Of one subscriber, whatever addresses it writes from.
    for addresses in [
        ["192.0.2.1"; 8],
        std::array::from_fn(|number| HOSTS_OF_ONE_NETWORK[number]),
    ] {
        let mut attacker = Client::new(Line::Clear(connect_tcp(gateway.address)), Wire::H2c);
        attacker.begin_http2(0);
        let number = app.count();
        for (index, address) in addresses.iter().enumerate() {
            let stream = u32::try_from(2 * index + 1).unwrap();
            let head = fields(
                "GET",
                &format!("/endless/{number}/{index}"),
                &[("x-forwarded-for", address)],
            );
            attacker.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, &head));
        }
        app.wait_for(number + 8);
        let get = |from: &str| gateway.send(&Request::get("/short").header("X-Forwarded-For", from));
        get("198.51.100.1").expect(200);
        eventually("one of them has given way", || {
            (0..8).any(|index| ended.has(&format!("/endless/{number}/{index}")))
        });
        let line = gateway.log_line(|line| line["reason"] == "gave-way");
        assert_eq!(line["path"].as_str().unwrap().split('/').nth(1), Some("endless"));
        drop(attacker);
        eventually("the app is rid of it", || {
            (0..8).all(|index| ended.has(&format!("/endless/{number}/{index}")))
        });
    }
}

const HOSTS_OF_ONE_NETWORK: [&str; 8] = [
    "2001:db8::1",
    "2001:db8::2",
    "2001:db8::3",
    "2001:db8::4",
    "2001:db8::5",
    "2001:db8::6",
    "2001:db8::7",
    "2001:db8::8",
];

#[test]
fn client_that_reads_nothing_is_named_in_the_log() {
    let (app, _ended) = app();
    let server = "[server]\nlisten = \"127.0.0.1:0\"\nidle_timeout = \"500ms\"\n";
    let gateway = Gateway::before(&app, &format!("{server}{ROUTES_OF_ONE_APP}"));
    for wire in [Wire::Http1, Wire::H2c] {
        let mut client = Client::new(Line::Clear(connect_tcp(gateway.address)), wire);
        if is_http2(wire) {
            client.begin_http2(0);
        }
        let path = format!("/endless/{wire:?}");
        client.request("GET", &path, None);
        let line = gateway.log_line(|line| line["path"] == path.as_str());
        assert_eq!(
            (line["status"].as_u64(), line["reason"].as_str()),
            (Some(200), Some("client-too-slow"))
        );
    }
}

#[test]
fn client_that_ignores_goaway_does_not_delay_shutdown() {
    let (app, _ended) = app();
    let mut gateway = Gateway::before(&app, ROUTES_OF_ONE_APP);
    let mut client = Client::new(Line::Clear(connect_tcp(gateway.address)), Wire::H2c);
    client.begin_http2(65_535);
    client.request("GET", "/short", None);
    assert!(client.has_answer());
    // It never answers the PING that comes with GOAWAY. The drain_timeout is longer than this test waits.
    assert_eq!(gateway.stop(), Some(0));
}

// --- HTTPS only

#[test]
fn https_site_sends_strict_transport_security() {
    let app = App::saying(|request| request.target().to_owned());
    let own = App::answering(
        "HTTP/1.1 200 OK\r\nStrict-Transport-Security: max-age=1\r\nContent-Length: 2\r\n\r\nok",
    );
    let tls = Certificate::for_names(&["a.test", "b.test"]);
    let routes = format!(
        "[upstreams.own]\nservers = [{}]\n{ROUTES_OF_ONE_APP}\
         [[routes]]\npath = \"/own\"\nauth = \"none\"\nupstream = \"own\"\n\
         [[routes]]\npath = \"/private\"\nupstream = \"app\"\n[password]\n",
        own.url()
    );
    let start = |url: &str, table: &str| {
        let server = format!("[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"{url}\"\n{table}");
        let setup = Setup::new(&before(&app, &format!("{server}{routes}")));
        setup.write("a.pem", &tls.chain_pem).write("a.key", &tls.key_pem);
        setup.start()
    };
    let table = "[server.tls]\ncertificate = \"a.pem\"\nprivate_key = \"a.key\"\n";
    let config = client_config(&[&tls], &[]);
    let told = |gateway: &Gateway, host: &str, target: &str| {
        let name = host.split(':').next().unwrap();
        let mut client = crate::support::tls::client(&config, gateway.address, name);
        let answer = Request::get(target).host(host).over(&mut client);
        answer.header("strict-transport-security").map(str::to_owned)
    };
    let year = Some("max-age=31536000".to_owned());
    let gateway = start("https://a.test", table);
    for (host, target, expected) in [
        ("a.test", "/x", &year),
        ("a.test:443", "/x", &year),
        ("a.test", "/private", &year),
        ("a.test", "/auth/login", &year),
        ("a.test", "/.well-known/jwks.json", &year),
        ("a.test", "/auth/nothing", &year),
        ("a.test", "/own", &Some("max-age=1".to_owned())),
        ("b.test", "/x", &None),
    ] {
        assert_eq!(told(&gateway, host, target), *expected, "{host}{target}");
    }
    assert_eq!(
        told(&start("https://a.test:8443", table), "a.test:8443", "/x"),
        None,
        "other ports are not ours"
    );
    // Behind a proxy that speaks TLS, what it says counts; over HTTP nothing is told (RFC 6797 section 7.2).
    let gateway = start("https://a.test", "trusted_proxies = [\"127.0.0.1\"]\n");
    let told = |proto: Option<&str>| {
        let mut request = Request::get("/x").host("a.test");
        if let Some(proto) = proto {
            request = request.header("X-Forwarded-Proto", proto);
        }
        gateway
            .send(&request)
            .header("strict-transport-security")
            .map(str::to_owned)
    };
    assert_eq!(
        [
            told(None),
            told(Some("http")),
            told(Some("https")),
            told(Some("http, https"))
        ],
        [None, None, year, None]
    );
}

#[test]
fn http_on_a_tls_port_gets_a_readable_answer() {
    let (app, _ended) = app();
    let tls = Certificate::for_names(&["a.test"]);
    let server = "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"https://a.test\"\n\
        [server.tls]\ncertificate = \"a.pem\"\nprivate_key = \"a.key\"\n";
    let setup = Setup::new(&before(&app, &format!("{server}{ROUTES_OF_ONE_APP}")));
    setup.write("a.pem", &tls.chain_pem).write("a.key", &tls.key_pem);
    let gateway = setup.start();
    for request in [
        Request::get("/x"),
        Request::post("/x", "body"),
        Request::get("/x").header("Accept", "text/html"),
    ] {
        let answer = gateway.send(&request).expect(400);
        assert!(answer.text().contains("This port speaks HTTPS"), "{answer:?}");
        let is_page = answer
            .header("content-type")
            .is_some_and(|kind| kind.starts_with("text/html"));
        assert_eq!(is_page, answer.text().contains("<html"), "{answer:?}");
        assert_eq!(answer.header("strict-transport-security"), None);
    }
    gateway.log_line(|line| line["reason"] == "cleartext-on-tls" && line["status"] == 400);
    assert_eq!(app.count(), 0);
}

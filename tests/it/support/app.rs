//! An app that records the exact bytes it gets and answers as the test says.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{DEADLINE, Field, Reader, Wire, eventually, parse_head, tls, values};

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The number of the connection, from 1.
    pub connection: usize,
    /// `METHOD target HTTP/1.1`
    pub request_line: String,
    pub fields: Vec<Field>,
    /// The head as it was on the wire.
    pub raw_head: Vec<u8>,
    /// The content of the body, so far as it was read.
    pub body: Vec<u8>,
    /// The body as it was on the wire: chunk sizes and trailers included.
    pub raw_body: Vec<u8>,
}

impl Recorded {
    pub fn method(&self) -> &str {
        self.request_line.split(' ').next().unwrap_or_default()
    }

    pub fn target(&self) -> &str {
        self.request_line.split(' ').nth(1).unwrap_or_default()
    }

    /// The one value of a field.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = values(&self.fields, name);
        assert!(found.len() < 2, "`{name}` came {} times: {self:?}", found.len());
        found.first().copied()
    }

    /// All that arrived, as text: for looking for something that must not be there.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&[&self.raw_head[..], &self.raw_body[..]].concat()).into_owned()
    }
}

/// What becomes of the connection after an answer.
pub enum Answer {
    /// The next request may come.
    Keep,
    /// It is closed.
    Close,
}

/// One request being answered.
pub struct Exchange<'a> {
    reader: &'a mut Reader<Box<dyn Wire>>,
    record: &'a Mutex<Vec<Recorded>>,
    index: usize,
    body_read: bool,
}

impl Exchange<'_> {
    /// The request so far.
    pub fn request(&self) -> Recorded {
        self.record.lock().unwrap()[self.index].clone()
    }

    /// Reads and records the body; false when the client broke off.
    pub fn read_body(&mut self) -> bool {
        if self.body_read {
            return true;
        }
        self.body_read = true;
        let request = self.request();
        if values(&request.fields, "expect")
            .iter()
            .any(|value| value.eq_ignore_ascii_case("100-continue"))
        {
            self.send("HTTP/1.1 100 Continue\r\n\r\n");
        }
        let read = if values(&request.fields, "transfer-encoding")
            .iter()
            .any(|value| value.contains("chunked"))
        {
            self.reader.take_chunked().map(|(body, _, raw)| (body, raw))
        } else {
            let length = values(&request.fields, "content-length")
                .first()
                .and_then(|value| value.parse().ok());
            self.reader
                .take(length.unwrap_or(0))
                .map(|body| (body.clone(), body))
        };
        let Ok((body, raw)) = read else { return false };
        let mut record = self.record.lock().unwrap();
        record[self.index].body = body;
        record[self.index].raw_body = raw;
        true
    }

    /// Sends exactly these bytes; false when the peer is gone.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.reader
            .wire
            .write_all(bytes.as_ref())
            .and_then(|()| self.reader.wire.flush())
            .is_ok()
    }

    /// Exactly so many bytes beyond the head, not recorded.
    pub fn read_exact(&mut self, length: usize) -> std::io::Result<Vec<u8>> {
        self.reader.take(length)
    }

    /// How many bytes have come behind the head without being asked for, waiting a little for the first of them.
    pub fn unread_after(&mut self, wait: Duration) -> usize {
        if self.reader.buffer.is_empty() {
            self.reader.wire.set_timeout(wait);
            let _ = self.reader.fill();
            self.reader.wire.set_timeout(DEADLINE);
        }
        self.reader.buffer.len()
    }

    /// Waits until the other side closes the connection; false if it has not by the deadline.
    pub fn wait_until_closed(&mut self) -> bool {
        self.reader.wire.set_timeout(DEADLINE);
        loop {
            match self.reader.fill() {
                Ok(true) => {}
                Ok(false) => return true,
                Err(error) => {
                    return !matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    );
                }
            }
        }
    }
}

type Handler = Arc<dyn Fn(&mut Exchange<'_>) -> Answer + Send + Sync>;

/// An app on loopback. Its threads end with the process; its connections when the other side closes them.
pub struct App {
    /// Where it listens; an unused port for a unix socket.
    pub address: SocketAddr,
    record: Arc<Mutex<Vec<Recorded>>>,
    connections: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
}

impl App {
    /// Answers everything with 200 and `ok`.
    pub fn start() -> Self {
        Self::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    }

    /// Answers everything with these bytes, after the body was read.
    pub fn answering(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::with(move |exchange| {
            if exchange.read_body() && exchange.send(&bytes) {
                Answer::Keep
            } else {
                Answer::Close
            }
        })
    }

    /// Answers with the text that `body` makes of the request.
    pub fn saying(body: impl Fn(&Recorded) -> String + Send + Sync + 'static) -> Self {
        Self::with(move |exchange| {
            if !exchange.read_body() {
                return Answer::Close;
            }
            let body = body(&exchange.request());
            let sent = exchange.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ));
            if sent { Answer::Keep } else { Answer::Close }
        })
    }

    /// Answers as `handler` does, which is called when the head of a request has come.
    pub fn with(handler: impl Fn(&mut Exchange<'_>) -> Answer + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), handler)
    }

    /// As [`App::with`], for connections to `listener`.
    pub fn on(
        listener: TcpListener,
        handler: impl Fn(&mut Exchange<'_>) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let app = Self::empty(listener.local_addr().unwrap());
        let accept = move || {
            let (stream, _) = listener.accept()?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Wire>)
        };
        app.serve(accept, Arc::new(handler));
        app
    }

    /// As [`App::with`], over TLS with this certificate.
    pub fn with_tls(
        certificate: &tls::Certificate,
        handler: impl Fn(&mut Exchange<'_>) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let app = Self::empty(listener.local_addr().unwrap());
        let config = certificate.server_config();
        let accept = move || {
            let (stream, _) = listener.accept()?;
            stream.set_nodelay(true)?;
            Ok(Box::new(tls::accept(&config, stream)) as Box<dyn Wire>)
        };
        app.serve(accept, Arc::new(handler));
        app
    }

    /// As [`App::with`], on a unix socket.
    pub fn with_unix(
        path: &Path,
        handler: impl Fn(&mut Exchange<'_>) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let app = Self::empty(([127, 0, 0, 1], 0).into());
        app.serve(
            move || Ok(Box::new(listener.accept()?.0) as Box<dyn Wire>),
            Arc::new(handler),
        );
        app
    }

    fn empty(address: SocketAddr) -> Self {
        Self {
            address,
            record: Arc::default(),
            connections: Arc::default(),
            open: Arc::default(),
        }
    }

    fn serve(&self, accept: impl Fn() -> std::io::Result<Box<dyn Wire>> + Send + 'static, handler: Handler) {
        let (record, connections, open) = (self.record.clone(), self.connections.clone(), self.open.clone());
        std::thread::spawn(move || {
            while let Ok(wire) = accept() {
                let (record, open, handler) = (record.clone(), open.clone(), handler.clone());
                let connection = connections.fetch_add(1, Ordering::SeqCst) + 1;
                open.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || {
                    converse(wire, connection, &record, &handler);
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
    }

    /// Its `servers` entry, in quotes.
    pub fn url(&self) -> String {
        format!("\"http://{}\"", self.address)
    }

    /// Everything that came so far, in order of arrival.
    pub fn requests(&self) -> Vec<Recorded> {
        self.record.lock().unwrap().clone()
    }

    /// How many requests came so far.
    pub fn count(&self) -> usize {
        self.record.lock().unwrap().len()
    }

    /// The latest request.
    #[track_caller]
    pub fn last(&self) -> Recorded {
        self.requests().pop().expect("the app got no request")
    }

    /// The only request.
    #[track_caller]
    pub fn only(&self) -> Recorded {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        self.last()
    }

    /// Waits until so many requests have come.
    #[track_caller]
    pub fn wait_for(&self, count: usize) {
        eventually(&format!("{count} requests reach the app"), || {
            self.count() >= count
        });
    }

    /// How many connections were made so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// How many connections are open now.
    pub fn open_connections(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

fn converse(wire: Box<dyn Wire>, connection: usize, record: &Mutex<Vec<Recorded>>, handler: &Handler) {
    let mut reader = Reader {
        wire,
        buffer: Vec::new(),
    };
    while let Ok(Some(head)) = reader.take_through(b"\r\n\r\n") {
        let (request_line, fields) = parse_head(&head);
        let index = {
            let mut record = record.lock().unwrap();
            record.push(Recorded {
                connection,
                request_line,
                fields,
                raw_head: head,
                body: Vec::new(),
                raw_body: Vec::new(),
            });
            record.len() - 1
        };
        let mut exchange = Exchange {
            reader: &mut reader,
            record,
            index,
            body_read: false,
        };
        match handler(&mut exchange) {
            Answer::Keep => {}
            Answer::Close => return,
        }
    }
}

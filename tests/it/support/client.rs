//! A client that sends exactly the bytes it is given, and reads answers without being helpful.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::{DEADLINE, Field, Reader, Wire, parse_head, values};

/// One answer.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub status_line: String,
    pub fields: Vec<Field>,
    pub body: Vec<u8>,
    pub trailers: Vec<Field>,
}

impl Response {
    /// The one value of a field; `None` where there is none, a failure where there are several.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = values(&self.fields, name);
        assert!(found.len() < 2, "`{name}` came {} times: {self:?}", found.len());
        found.first().copied()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// Fails unless this is the status; shows the whole answer.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}\n{}", self.status_line, self.text());
        self
    }
}

/// One connection.
pub struct Client {
    reader: Reader<Box<dyn Wire>>,
}

impl Client {
    /// Connects by TCP.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(Box::new(stream))
    }

    /// Connects to a unix socket.
    #[track_caller]
    pub fn connect_unix(path: &Path) -> Self {
        Self::over(Box::new(UnixStream::connect(path).unwrap()))
    }

    /// Speaks over a stream that is there already.
    pub fn over(wire: Box<dyn Wire>) -> Self {
        wire.set_timeout(DEADLINE);
        Self {
            reader: Reader {
                wire,
                buffer: Vec::new(),
            },
        }
    }

    /// Sends exactly these bytes. A peer that has closed already is no failure here: its answer tells.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let _ = self.reader.wire.write_all(bytes.as_ref());
        let _ = self.reader.wire.flush();
        self
    }

    /// The next final answer, to a request that was not HEAD. Interim answers (1xx) are passed over, except 101.
    #[track_caller]
    pub fn response(&mut self) -> Response {
        self.response_to("GET")
    }

    /// The next final answer to a request with this method.
    #[track_caller]
    pub fn response_to(&mut self, method: &str) -> Response {
        match self.try_response_to(method) {
            Ok(Some(response)) => response,
            Ok(None) => panic!("the connection was closed without an answer"),
            Err(error) => {
                panic!(
                    "no answer: {error}; so far: {:?}",
                    String::from_utf8_lossy(&self.reader.buffer)
                )
            }
        }
    }

    /// The next final answer; `Ok(None)` when the connection was closed instead.
    pub fn try_response_to(&mut self, method: &str) -> std::io::Result<Option<Response>> {
        loop {
            let Some(response) = self.try_any_response(method)? else {
                return Ok(None);
            };
            if response.status == 101 || response.status >= 200 {
                return Ok(Some(response));
            }
        }
    }

    /// The next answer, interim or not.
    pub fn try_any_response(&mut self, method: &str) -> std::io::Result<Option<Response>> {
        let Some(mut response) = self.try_head()? else {
            return Ok(None);
        };
        let bodiless = method == "HEAD" || response.status < 200 || matches!(response.status, 204 | 304);
        if bodiless {
            return Ok(Some(response));
        }
        let chunked = values(&response.fields, "transfer-encoding")
            .iter()
            .any(|value| value.contains("chunked"));
        if chunked {
            let (body, trailers, _) = self.reader.take_chunked()?;
            response.body = body;
            response.trailers = trailers;
        } else if let Some(length) = values(&response.fields, "content-length").first() {
            let length = length.parse().map_err(|_| std::io::ErrorKind::InvalidData)?;
            response.body = self.reader.take(length)?;
        } else {
            while self.reader.fill()? {}
            response.body = std::mem::take(&mut self.reader.buffer);
        }
        Ok(Some(response))
    }

    /// The head of the next answer; the body stays unread.
    #[track_caller]
    pub fn head(&mut self) -> Response {
        self.try_head()
            .unwrap()
            .expect("the connection was closed without an answer")
    }

    fn try_head(&mut self) -> std::io::Result<Option<Response>> {
        let Some(head) = self.reader.take_through(b"\r\n\r\n")? else {
            return Ok(None);
        };
        let (status_line, fields) = parse_head(&head);
        let status = status_line
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap_or_else(|| panic!("not a status line: {status_line:?}"));
        Ok(Some(Response {
            status,
            status_line,
            fields,
            body: Vec::new(),
            trailers: Vec::new(),
        }))
    }

    /// Reads on until `text` has come, and returns everything before and with it.
    #[track_caller]
    pub fn read_through(&mut self, text: &[u8]) -> Vec<u8> {
        self.reader
            .take_through(text)
            .unwrap()
            .expect("the connection was closed")
    }

    /// Exactly so many bytes.
    #[track_caller]
    pub fn read_exact(&mut self, length: usize) -> Vec<u8> {
        self.reader.take(length).unwrap()
    }

    /// Whether the gateway closes the connection (an end or a reset) within the deadline. Bytes before that are dropped.
    pub fn is_closed(&mut self) -> bool {
        self.reader.wire.set_timeout(DEADLINE);
        loop {
            match self.reader.fill() {
                Ok(true) => self.reader.buffer.clear(),
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

    /// Everything until the gateway closes the connection.
    pub fn rest(&mut self) -> Vec<u8> {
        while matches!(self.reader.fill(), Ok(true)) {}
        std::mem::take(&mut self.reader.buffer)
    }

    /// Tells the gateway that nothing more will be sent.
    pub fn finish_sending(&mut self) {
        self.reader.wire.finish_sending();
    }

    /// Reads fail after this long instead of after the deadline.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.reader.wire.set_timeout(timeout);
    }
}

/// An ordinary request that is put together piece by piece.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    pub target: String,
    host: String,
    fields: Vec<Field>,
    body: Option<Vec<u8>>,
}

impl Request {
    /// `METHOD target`, Host `app.test`, no body.
    pub fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            host: "app.test".to_owned(),
            fields: Vec::new(),
            body: None,
        }
    }

    /// A GET.
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// A POST with a body.
    pub fn post(target: &str, body: impl Into<Vec<u8>>) -> Self {
        let mut request = Self::new("POST", target);
        request.body = Some(body.into());
        request
    }

    /// Asks another host.
    #[must_use]
    pub fn host(mut self, host: &str) -> Self {
        self.host = host.to_owned();
        self
    }

    /// Adds a field.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds `Authorization: Bearer …`.
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    /// The bytes of it.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\n",
            self.method, self.target, self.host
        )
        .into_bytes();
        for (name, value) in &self.fields {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        if let Some(body) = &self.body {
            bytes.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }

    /// Sends it over a connection that is there, and reads the answer.
    #[track_caller]
    pub fn over(&self, client: &mut Client) -> Response {
        client.send(self.bytes()).response_to(&self.method)
    }

    /// Sends it over a connection of its own, and reads the answer.
    #[track_caller]
    pub fn send_to(&self, address: SocketAddr) -> Response {
        self.over(&mut Client::connect(address))
    }
}

//! Bodies on their way through the gateway: padding of HTTP/2 frames and fields, and sockets that hold little.

use super::*;

const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;

/// Fields as literals without a name in the table (RFC 7541 section 6.2.2).
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    fields
        .iter()
        .flat_map(|(name, value)| [vec![0], text(name), text(value)].concat())
        .collect()
}

/// The head of a POST whose body is still to come.
fn post(path: &str) -> Vec<u8> {
    block(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "app.test"),
        (":path", path),
    ])
}

/// The payload of a DATA or HEADERS frame with so much padding (RFC 9113 section 6.1).
fn padded(payload: &[u8], padding: u8) -> Vec<u8> {
    [&[padding], payload, &vec![0; usize::from(padding)]].concat()
}

/// The bytes that a connection and its stream 1 may send (RFC 9113 section 6.9).
struct Windows {
    connection: i64,
    stream: i64,
}

impl Windows {
    /// Takes the next frame of the gateway into account.
    #[track_caller]
    fn take(&mut self, frame: &RawFrame) {
        let number = |bytes: &[u8]| i64::from(u32::from_be_bytes(bytes.try_into().unwrap()));
        match (frame.kind, frame.stream) {
            (SETTINGS, 0) => {
                for setting in frame.payload.chunks(6).filter(|setting| setting[..2] == [0, 4]) {
                    self.stream += number(&setting[2..]) - 65_535;
                }
            }
            (WINDOW_UPDATE, 0) => self.connection += number(&frame.payload),
            (WINDOW_UPDATE, 1) => self.stream += number(&frame.payload),
            (RawFrame::GOAWAY | RawFrame::RST_STREAM, _) => panic!("{frame:?}"),
            _ => {}
        }
    }
}

const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;

/// Padding takes part in flow control: where the gateway did not give it back, the upload would come to a halt.
#[test]
fn padded_data_over_http_2_arrives_without_padding() {
    // With their 256 bytes of padding each, more than the window of 1 MiB.
    const PIECES: usize = 5_000;
    // Many shorter frames at once would be an attack to the HTTP library.
    const LENGTH: i64 = 512 + 1 + 255;
    let app = App::start();
    let gateway = Gateway::before(&app, OPEN);
    let mut frames = Frames::connect(gateway.address);
    let mut windows = Windows {
        connection: 65_535,
        stream: 65_535,
    };
    frames.send(RawFrame::HEADERS, END_HEADERS, 1, &post("/x"));
    let (piece, last) = (padded(&[b'a'; 512], 255), padded(b"z", 0));
    for _ in 1..PIECES {
        while windows.connection.min(windows.stream) < LENGTH {
            windows.take(&frames.try_next().expect("the connection goes on"));
        }
        frames.send(RawFrame::DATA, PADDED, 1, &piece);
        windows.connection -= LENGTH;
        windows.stream -= LENGTH;
    }
    frames.send(RawFrame::DATA, PADDED | END_STREAM, 1, &last);
    // Updates of the window come before it.
    assert!(
        frames
            .answer(1)
            .iter()
            .any(|frame| frame.kind == RawFrame::HEADERS)
    );
    let body = app.only().body;
    assert_eq!(body, [&b"a".repeat(512 * (PIECES - 1))[..], b"z"].concat());
}

/// Padding longer than its frame is an error of the connection (RFC 9113 section 6.1).
#[test]
fn data_shorter_than_its_padding_ends_the_connection() {
    let app = App::start();
    let gateway = Gateway::before(&app, OPEN);
    let mut frames = Frames::connect(gateway.address);
    frames.send(RawFrame::HEADERS, END_HEADERS, 1, &post("/x"));
    frames.send(RawFrame::DATA, PADDED | END_STREAM, 1, &[9, b'a']);
    let goaway = std::iter::from_fn(|| frames.try_next()).find(|frame| frame.kind == RawFrame::GOAWAY);
    assert_eq!(goaway.expect("GOAWAY").payload[4..8], [0, 0, 0, 1]);
    gateway.get("/x").expect(200);
}

/// RFC 9113 section 8.2.1: what an HTTP/1 app would read without its padding is malformed.
#[test]
fn trailer_with_padded_value_fails_and_its_app_gets_no_end() {
    let app = App::with(|exchange| {
        exchange.read_body();
        exchange.wait_until_closed();
        Answer::Close
    });
    let gateway = Gateway::before(&app, OPEN);
    for (index, value) in [" b", "b ", "\tb", "b\t", " "].into_iter().enumerate() {
        let mut frames = Frames::connect(gateway.address);
        frames.send(RawFrame::HEADERS, END_HEADERS, 1, &post("/x"));
        frames.send(RawFrame::DATA, 0, 1, b"body");
        eventually("the app has the head", || app.count() == index + 1);
        let trailers = block(&[("x-sum", value)]);
        frames.send(RawFrame::HEADERS, END_HEADERS | END_STREAM, 1, &trailers);
        frames.answer(1);
        eventually("the request is refused", || {
            let refused = gateway.log().into_iter().filter(|line| line["status"] == 400);
            refused.count() == index + 1
        });
        assert!(
            app.last().raw_body.is_empty(),
            "{value:?}: the body came to an end"
        );
    }
}

/// A frame of trailers may be padded; its fields are what they are.
#[test]
fn padded_frame_of_trailers_arrives_as_trailers() {
    let app = App::start();
    let gateway = Gateway::before(&app, OPEN);
    let mut frames = Frames::connect(gateway.address);
    frames.send(RawFrame::HEADERS, END_HEADERS, 1, &post("/x"));
    frames.send(RawFrame::DATA, PADDED, 1, &padded(b"body", 7));
    let trailers = padded(&block(&[("x-sum", "1")]), 200);
    frames.send(RawFrame::HEADERS, END_HEADERS | END_STREAM | PADDED, 1, &trailers);
    assert_eq!(frames.answer(1)[0].kind, RawFrame::HEADERS);
    assert_eq!(app.only().body, b"body");
}

/// Sockets of unix listeners have a small send buffer: the gateway writes in many pieces, as the client reads.
#[test]
fn large_download_over_a_unix_socket_arrives_whole() {
    const LENGTH: usize = 32 * 1024 * 1024;
    let mut content = b"seventeen letters".repeat(LENGTH / 17 + 1);
    content.truncate(LENGTH);
    let content = Arc::new(content);
    let sent = content.clone();
    let app = App::with(move |exchange| {
        exchange.read_body();
        exchange.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n"));
        match exchange.send(&*sent) {
            true => Answer::Keep,
            false => Answer::Close,
        }
    });
    let server = "[server]\nlisten = [\"127.0.0.1:0\", \"unix:gateway.sock\"]\n";
    let gateway = Gateway::before(&app, &format!("{server}{OPEN}"));
    let path = gateway.setup.path("gateway.sock");
    eventually("the unix socket is there", || path.exists());
    let mut client = Client::connect_unix(&path);
    for _ in 0..2 {
        let response = Request::get("/x").over(&mut client).expect(200);
        assert!(response.body == *content, "{} bytes", response.body.len());
    }
    gateway.log_line(|line| line["status"] == 200 && line["bytes"] == LENGTH);
}

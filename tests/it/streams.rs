//! What is open when its caller is signed out or revoked: event streams, downloads, uploads, gRPC, WebSockets. Streams of
//! other callers stay open.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)]

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::gateway::{CORP_ISSUER, before};
use crate::support::http2::{Http2, Http2Stream};
use crate::support::people::*;
use crate::support::*;
use bytes::Bytes;
use serde_json::json;

const ALICE: &str = "alice@example.com";
const BOB: &str = "bob@example.com";

const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: x\r\n\r\n";

/// A Close frame with status 1008, as far as its status.
const CLOSE: &[u8] = b"\x88\x0f\x03\xf0";

/// A gateway with two accounts.
fn with_people(app: &App, more: &str) -> Gateway {
    let setup = sign_in_setup(app, more);
    setup.add_account(ALICE, &[]);
    setup.add_account(BOB, &[]);
    setup.start()
}

fn sign_out(gateway: &Gateway, cookie: &str) {
    gateway
        .send(&post_form("/auth/logout", &[]).header("Cookie", cookie))
        .expect(303);
}

/// An app whose answers begin and do not end by themselves.
fn streaming_app() -> App {
    App::with(|exchange| {
        let kind = match exchange.request().target() {
            "/download" | "/maybe/download" => "application/zip",
            _ => "text/event-stream",
        };
        exchange.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\ndata\n\r\n"
        ));
        exchange.wait_until_closed();
        Answer::Close
    })
}

fn open_websocket(gateway: &Gateway, cookie: &str) -> Client {
    let request = Request::get("/chat")
        .host("localhost")
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Cookie", cookie);
    let mut client = gateway.connect();
    client.send(request.bytes());
    assert_eq!(client.head().status, 101);
    client
}

/// How many requests have ended that way by what the metrics say.
fn count_revoked(gateway: &Gateway, status: u16) -> u64 {
    let metrics = gateway.admin_get("/metrics").expect(200).text();
    let fits = |line: &&str| {
        line.starts_with("passgate_requests_total{")
            && line.contains("reason=\"revoked\"")
            && line.contains(&format!("status=\"{status}\""))
    };
    metrics
        .lines()
        .filter(fits)
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}

// --- over HTTP/2, to an app that speaks it too

/// What the app has seen of a request: its path, the bytes of its body, and whether its stream was reset.
type Seen = Arc<Mutex<Vec<(String, Vec<u8>, bool)>>>;

/// An h2c app. It begins to answer `/talk` at once, as gRPC, and never answers `/upload`.
fn grpc_app() -> (SocketAddr, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Seen::default();
    let noted = seen.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let noted = noted.clone();
                tokio::spawn(async move {
                    let mut connection = h2::server::handshake(stream).await.unwrap();
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        tokio::spawn(converse(request, respond, noted.clone()));
                    }
                });
            }
        });
    });
    (address, seen)
}

async fn converse(
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    noted: Seen,
) {
    let path = request.uri().path().to_owned();
    let index = {
        let mut noted = noted.lock().unwrap();
        noted.push((path.clone(), Vec::new(), false));
        noted.len() - 1
    };
    let mut answer = None;
    if path == "/talk" {
        let head = http::Response::builder()
            .header("content-type", "application/grpc")
            .body(())
            .unwrap();
        let mut body = respond.send_response(head, false).unwrap();
        body.send_data(Bytes::from_static(b"hello"), false).unwrap();
        answer = Some(body);
    }
    let mut body = request.into_body();
    while let Some(data) = body.data().await {
        let Ok(data) = data else {
            noted.lock().unwrap()[index].2 = true;
            break;
        };
        let _ = body.flow_control().release_capacity(data.len());
        noted.lock().unwrap()[index].1.extend_from_slice(&data);
    }
    drop((answer, respond));
}

fn grpc_gateway(address: SocketAddr) -> Gateway {
    let toml = format!(
        "{CORP_ISSUER}[upstreams.app]\nservers = [\"h2c://{address}\"]\n[server]\nlisten = \"127.0.0.1:0\"\n\
         public_url = \"http://localhost\"\n[password]\n[[routes]]\npath = \"/*\"\nupstream = \"app\"\n"
    );
    let setup = Setup::new(&toml);
    setup.add_account(ALICE, &[]);
    setup.start()
}

fn access_token(gateway: &Gateway) -> String {
    gateway.sign_in_client(ALICE)["accessToken"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn call<'a>(client: &'a Http2, path: &str, token: &str) -> Http2Stream<'a> {
    let request = http::Request::post(format!("http://localhost{path}"))
        .header("te", "trailers")
        .header("content-type", "application/grpc")
        .header("authorization", format!("Bearer {token}"));
    client.open(request.body(()).unwrap())
}

#[test]
fn revoked_grpc_stream_ends_with_16_and_forwards_no_more() {
    let (address, seen) = grpc_app();
    let gateway = grpc_gateway(address);
    let (token, other) = (access_token(&gateway), access_token(&gateway));
    let client = Http2::connect(gateway.address);
    let (mut ended, mut kept) = (call(&client, "/talk", &token), call(&client, "/talk", &other));
    for stream in [&mut ended, &mut kept] {
        assert_eq!(stream.head().status(), 200);
        assert_eq!(stream.next().unwrap().unwrap(), "hello");
        assert!(stream.upload(b"first"));
    }
    eventually("both uploads have begun", || {
        seen.lock().unwrap().iter().all(|(_, body, _)| body == b"first")
    });
    gateway
        .send(&post_json("/auth/logout", &json!({})).bearer(&token))
        .expect(200);
    assert!(ended.next().is_none(), "no more data");
    assert_eq!(ended.trailers().expect("trailers")["grpc-status"], "16");
    assert_eq!(
        gateway.log_line(|line| line["path"] == "/talk")["reason"],
        "revoked"
    );
    assert_eq!(count_revoked(&gateway, 200), 1);

    // It goes on all the same, and so does the other one.
    let _ = ended.upload(b"second");
    assert!(kept.upload(b"second"));
    eventually("the app hears that one is over, and the other goes on", || {
        let seen = seen.lock().unwrap();
        seen.iter().filter(|(_, _, is_reset)| *is_reset).count() == 1
            && seen
                .iter()
                .any(|(_, body, is_reset)| body == b"firstsecond" && !is_reset)
    });
    assert!(
        seen.lock()
            .unwrap()
            .iter()
            .any(|(_, body, is_reset)| body == b"first" && *is_reset)
    );
    assert!(kept.is_silent());
}

#[test]
fn unanswered_http_2_upload_ends_with_its_session() {
    let (address, seen) = grpc_app();
    let gateway = grpc_gateway(address);
    let token = access_token(&gateway);
    let client = Http2::connect(gateway.address);
    let mut upload = call(&client, "/upload", &token);
    assert!(upload.upload(b"first"));
    eventually("it has begun", || {
        seen.lock()
            .unwrap()
            .first()
            .is_some_and(|(_, body, _)| body == b"first")
    });
    gateway
        .send(&post_json("/auth/logout", &json!({})).bearer(&token))
        .expect(200);
    assert_eq!(upload.head().status(), 401, "without a word of the app");
    let _ = upload.upload(b"second");
    eventually("the app hears of it", || seen.lock().unwrap()[0].2);
    assert_eq!(seen.lock().unwrap()[0].1, b"first");
    let line = gateway.log_line(|line| line["path"] == "/upload");
    assert_eq!(
        (&line["reason"], &line["status"]),
        (&json!("revoked"), &json!(401))
    );
}

// --- over HTTP/1.1

#[test]
fn unanswered_upload_ends_with_its_session() {
    let app = App::with(|exchange| {
        // All of what comes is read, and nothing is said.
        exchange.wait_until_closed();
        Answer::Close
    });
    let gateway = with_people(&app, "");
    let (cookie, other) = (gateway.sign_in(ALICE), gateway.sign_in(ALICE));
    let begin = |cookie: &str| {
        let head = format!(
            "POST /upload HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nCookie: {cookie}\r\n\
             Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"
        );
        let mut client = gateway.connect();
        client.send(head);
        client
    };
    let (mut ended, mut kept) = (begin(&cookie), begin(&other));
    app.wait_for(2);
    sign_out(&gateway, &cookie);
    let answer = ended.response();
    assert_eq!((answer.status, answer.header("connection")), (401, Some("close")));
    assert!(ended.is_closed());
    eventually("the app hears of it", || app.open_connections() == 1);
    kept.send("5\r\nafter\r\n").set_timeout(Duration::from_millis(50));
    assert!(kept.rest().is_empty(), "it is somebody else's");
    assert_eq!(app.open_connections(), 1);
}

#[test]
fn revoked_http_2_event_stream_ends_and_download_breaks() {
    let app = streaming_app();
    let gateway = with_people(&app, "");
    let (cookie, other) = (gateway.sign_in(ALICE), gateway.sign_in(BOB));
    let client = Http2::connect(gateway.address);
    let open = |target: &str, cookie: Option<&str>| {
        let mut request = http::Request::get(format!("http://localhost{target}"));
        if let Some(cookie) = cookie {
            request = request.header("cookie", cookie);
        }
        let mut stream = client.open(request.body(()).unwrap());
        assert_eq!(stream.head().status(), 200, "{target}");
        assert_eq!(stream.next().unwrap().unwrap(), "data\n");
        stream
    };
    let mut events = [
        open("/events", Some(&cookie)),
        open("/maybe/events", Some(&cookie)),
    ];
    let mut downloads = [
        open("/download", Some(&cookie)),
        open("/maybe/download", Some(&cookie)),
    ];
    // Somebody else's, nobody's, and one where nobody was asked who it is.
    let mut kept = [
        open("/events", Some(&other)),
        open("/maybe/events", None),
        open("/public/events", Some(&cookie)),
    ];
    sign_out(&gateway, &cookie);
    for stream in &mut events {
        assert!(stream.next().is_none());
        assert!(stream.trailers().is_none());
    }
    for stream in &mut downloads {
        assert!(
            stream.next().unwrap().unwrap_err().is_reset(),
            "half a file must not look like a whole one"
        );
    }
    for stream in &mut kept {
        assert!(stream.is_silent());
    }
    eventually("the app hears of them and of no other", || {
        app.open_connections() == 3
    });
    assert_eq!(count_revoked(&gateway, 200), 4);
}

// --- tokens of others

#[test]
fn revoke_command_ends_streams_of_an_issuers_token() {
    let app = streaming_app();
    let gateway = Gateway::start(&before(&app, "[[routes]]\npath = \"/*\"\nupstream = \"app\"\n"));
    let open = |subject: &str, id: &str| {
        let mut claims = corp_claims(subject);
        claims["jti"] = json!(id);
        let mut client = gateway.connect();
        client.send(Request::get("/events").bearer(&corp_token_of(&claims)).bytes());
        client.read_through(b"data\n\r\n");
        client
    };
    let (mut first, mut second, mut other) = (open("ann", "1"), open("ann", "2"), open("bob", "3"));
    let is_open = |client: &mut Client| {
        client.set_timeout(Duration::from_millis(50));
        client.rest().is_empty()
    };
    gateway
        .command(["revoke", "--issuer", "corp", "--token-id", "1"])
        .expect(0);
    assert_eq!(first.read_through(b"0\r\n\r\n"), b"0\r\n\r\n");
    assert!(is_open(&mut second) && is_open(&mut other));
    gateway
        .command(["revoke", "--issuer", "corp", "--subject", "ann"])
        .expect(0);
    second.set_timeout(DEADLINE);
    assert_eq!(second.read_through(b"0\r\n\r\n"), b"0\r\n\r\n");
    assert!(is_open(&mut other));
    let revoked = || {
        gateway
            .log()
            .iter()
            .filter(|line| line["reason"] == "revoked")
            .count()
    };
    eventually("the log says so", || revoked() == 2);
    assert_eq!(count_revoked(&gateway, 200), 2);
}

// --- WebSockets

#[test]
fn revoked_websocket_is_closed_between_two_frames() {
    const LENGTH: usize = 200_000;
    let gate = Arc::new(Gate::default());
    let held = gate.clone();
    let app = App::with(move |exchange| {
        let mut frame = vec![0x82, 127];
        frame.extend_from_slice(&(LENGTH as u64).to_be_bytes());
        frame.resize(frame.len() + LENGTH, b'x');
        exchange.send(SWITCHING);
        exchange.send(&frame[..70_000]);
        held.pass();
        exchange.send([&frame[70_000..], b"\x81\x05after"].concat());
        exchange.wait_until_closed();
        Answer::Close
    });
    let gateway = with_people(&app, "");
    let cookie = gateway.sign_in(ALICE);
    let mut client = open_websocket(&gateway, &cookie);
    let begun = client.read_exact(70_000);
    // One after the other: whoever is told has been told.
    sign_out(&gateway, &cookie);
    client.set_timeout(Duration::from_millis(50));
    assert!(client.rest().is_empty(), "not inside of the frame");
    gate.open();
    client.set_timeout(DEADLINE);
    let rest = client.rest();
    let (payload, close) = rest.split_at(LENGTH + 10 - begun.len());
    assert!(payload.iter().all(|byte| *byte == b'x'));
    assert_eq!(&close[..4], CLOSE);
    assert_eq!(close.len(), usize::from(close[1]) + 2, "and nothing behind it");
}

#[test]
fn revoked_websocket_ends_when_the_client_does_not_read() {
    let app = App::with(|exchange| {
        exchange.send(SWITCHING);
        let frame = [&b"\x82\x7e\xff\xff"[..], &[b'x'; 65_535]].concat();
        while exchange.send(&frame) {}
        Answer::Close
    });
    let gateway = with_people(&app, "");
    let cookie = gateway.sign_in(ALICE);
    let client = open_websocket(&gateway, &cookie);
    sign_out(&gateway, &cookie);
    eventually("the app's side is closed", || app.open_connections() == 0);
    assert_eq!(
        gateway.log_line(|line| line["status"] == 101)["reason"],
        "revoked"
    );
    assert_eq!(count_revoked(&gateway, 101), 1);
    drop(client);
}

#[test]
fn revocation_ends_1000_websockets_of_one_account_only() {
    const OPEN: usize = 1000;
    let app = App::with(|exchange| {
        exchange.send(SWITCHING);
        exchange.wait_until_closed();
        Answer::Close
    });
    let setup = sign_in_setup(&app, "");
    let toml = std::fs::read_to_string(setup.path("gateway.toml")).unwrap();
    setup.write(
        "gateway.toml",
        toml.replacen("[upstreams.app]", "[upstreams.app]\nmax_connections = 10000", 1),
    );
    setup.add_account(ALICE, &[]);
    setup.add_account(BOB, &[]);
    let gateway = setup.start();
    let (cookie, other) = (gateway.sign_in(ALICE), gateway.sign_in(BOB));
    let mut all: Vec<Client> = (0..OPEN).map(|_| open_websocket(&gateway, &cookie)).collect();
    let mut kept: Vec<Client> = (0..10).map(|_| open_websocket(&gateway, &other)).collect();
    let out = post_form("/auth/logout?all=true", &[]).header("Cookie", &cookie);
    gateway.send(&out).expect(303);
    for client in &mut all {
        assert_eq!(&client.rest()[..4], CLOSE);
    }
    drop(all);
    eventually("the app hears of them", || app.open_connections() == kept.len());
    assert_eq!(count_revoked(&gateway, 101), OPEN as u64);
    for client in &mut kept {
        client.set_timeout(Duration::from_millis(5));
        assert!(client.rest().is_empty());
    }
}

//! Which server a request goes to, how it is reached, and the table that says so.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)] // what a test sends is bounded by the test

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};

use super::*;
use crate::config::raw::{RawHealthCheck, RawPem, RawUpstream};
use crate::config::{Problems, Spanned};
use crate::forward::{Upstream, watch_health};

/// An address without a listener.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn a_server_that_is_busy_gets_no_request_while_another_is_idle() {
    let (told, mut held) = tokio::sync::mpsc::unbounded_channel();
    let app = async |name: &'static str| {
        let told = told.clone();
        App::start(move |mut wire, _| {
            let told = told.clone();
            async move {
                while let (head, _) = wire.message().await
                    && !head.contains("/hold")
                {
                    wire.send(&format!("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{name}"))
                        .await;
                }
                told.send(name).unwrap();
                wire.rest().await;
            }
        })
        .await
    };
    let (one, two) = (app("one").await, app("two").await);
    let gateway = Gateway::to(&[one.url(), two.url()]).await;
    let mut client = Wire::connect(gateway.address).await;
    client.send("GET /hold HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let busy = held.recv().await.unwrap();
    for _ in 0..20 {
        assert_ne!(gateway.ask(GET).await.1, busy);
    }
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_costs_the_client_nothing_where_there_is_another() {
    let app = App::answering(OK).await;
    let gateway = Gateway::to(&[nobody().await, app.url()]).await;
    for _ in 0..4 {
        let answer = gateway
            .ask("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc")
            .await;
        assert_eq!(answer.1, "ok");
    }
}

#[tokio::test]
async fn where_no_server_can_be_reached_the_client_is_told() {
    for servers in [vec![nobody().await], vec![nobody().await, nobody().await]] {
        let gateway = Gateway::to(&servers).await;
        for _ in 0..2 {
            let answer = gateway.ask(GET).await;
            assert_eq!(
                (status(&answer), answer.1.as_str()),
                ("502", "upstream-unreachable")
            );
        }
    }
    let gateway = Gateway::to(&["http://nobody.invalid:1".to_owned()]).await;
    assert_eq!(gateway.ask(GET).await.1, "upstream-unreachable");
}

#[tokio::test]
async fn a_server_that_comes_back_is_used_at_once_where_it_is_the_only_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let gateway = Gateway::to(&[format!("http://{address}")]).await;
    assert_eq!(gateway.ask(GET).await.1, "upstream-unreachable");
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        let mut wire = Wire::new(listener.accept().await.unwrap().0);
        wire.message().await;
        wire.send(OK).await;
    });
    assert_eq!(gateway.ask(GET).await.1, "ok");
}

#[tokio::test]
async fn a_server_with_room_takes_what_a_full_one_cannot() {
    let stuck = App::start(|mut wire, _| async move { drop(wire.rest().await) }).await;
    let app = App::answering(OK).await;
    let mut table = raw(&[stuck.url(), app.url()]);
    table.max_connections = Some(at(1));
    let gateway = Gateway::start(compile(&table), rules()).await;
    let mut held = Wire::connect(gateway.address).await;
    loop {
        held.send(GET).await;
        tokio::select! {
            answer = held.message() => assert_eq!(answer.1, "ok"),
            () = async { while stuck.connections() == 0 { tokio::task::yield_now().await } } => break,
        }
    }
    for _ in 0..10 {
        assert_eq!(gateway.ask(GET).await.1, "ok");
    }
}

#[tokio::test]
async fn a_name_is_resolved() {
    let app = App::answering(OK).await;
    let gateway = Gateway::to(&[format!("http://localhost:{}", app.address.port())]).await;
    assert_eq!(gateway.ask(GET).await.1, "ok");
    assert_eq!(gateway.ask(GET).await.1, "ok");
    assert_eq!(app.connections(), 1);
}

#[tokio::test]
async fn a_unix_socket_is_as_good_as_an_address() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        // Two connections: the second because the first is closed while it is idle.
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().await.unwrap();
            for _ in 0..2 {
                let mut head = vec![0; 1024];
                assert!(stream.read(&mut head).await.unwrap() > 0);
                stream.write_all(OK.as_bytes()).await.unwrap();
            }
        }
    });
    let gateway = Gateway::to(&[format!("unix:{}", path.display())]).await;
    for _ in 0..4 {
        assert_eq!(gateway.ask(GET).await.1, "ok");
    }
}

struct Certificates {
    directory: tempfile::TempDir,
    server: Arc<rustls::ServerConfig>,
}

impl Certificates {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), made.cert.pem()).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut server = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self {
            directory,
            server: Arc::new(server),
        }
    }

    fn file(&self) -> Option<Spanned<PathBuf>> {
        Some(at(self.directory.path().join("ca.pem")))
    }

    /// A server that answers `requests` on each connection, then closes it and says so.
    async fn serve(
        &self,
        requests: usize,
    ) -> (std::net::SocketAddr, tokio::sync::mpsc::UnboundedReceiver<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(self.server.clone());
        let (told, closed) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    continue;
                };
                assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
                for _ in 0..requests {
                    let mut head = vec![0; 1024];
                    assert!(stream.read(&mut head).await.unwrap() > 0);
                    stream.write_all(OK.as_bytes()).await.unwrap();
                    stream.flush().await.unwrap();
                }
                // With close_notify: bytes before the end of the connection.
                stream.shutdown().await.unwrap();
                drop(stream);
                told.send(()).unwrap();
            }
        });
        (address, closed)
    }
}

#[tokio::test]
async fn a_server_with_a_certificate_of_our_authority_is_spoken_to_in_http_1_1() {
    let certificates = Certificates::new();
    let (address, mut closed) = certificates.serve(2).await;
    let mut table = raw(&[format!("https://localhost:{}", address.port())]);
    table.ca_file = certificates.file();
    table.http2 = Some(at(false));
    let gateway = Gateway::start(compile(&table), rules()).await;
    for _ in 0..3 {
        for _ in 0..2 {
            assert_eq!(gateway.ask(GET).await.1, "ok");
        }
        closed.recv().await.unwrap();
    }
}

#[tokio::test]
async fn a_server_with_any_other_certificate_is_not_spoken_to() {
    let (certificates, others) = (Certificates::new(), Certificates::new());
    let (address, _closed) = certificates.serve(1).await;
    for (name, file) in [("localhost", others.file()), ("127.0.0.1", certificates.file())] {
        let mut table = raw(&[format!("https://{name}:{}", address.port())]);
        table.ca_file = file;
        let gateway = Gateway::start(compile(&table), rules()).await;
        let answer = gateway.ask(GET).await;
        assert_eq!((status(&answer), answer.1.as_str()), ("502", "upstream-tls"));
    }
}

#[tokio::test]
async fn a_handshake_that_does_not_come_ends_at_the_connect_timeout() {
    let app = App::start(|mut wire, _| async move { drop(wire.rest().await) }).await;
    let certificates = Certificates::new();
    let mut table = raw(&[format!("https://{}", app.address)]);
    table.ca_file = certificates.file();
    table.connect_timeout = Some(at(Duration::from_millis(50)));
    let gateway = Gateway::start(compile(&table), rules()).await;
    let answer = gateway.ask(GET).await;
    assert_eq!(
        (status(&answer), answer.1.as_str()),
        ("504", "upstream-connect-timeout")
    );
}

#[tokio::test]
async fn a_server_whose_health_check_fails_twice_gets_nothing_until_one_succeeds() {
    let healthy = Arc::new(AtomicBool::new(true));
    let state = healthy.clone();
    let app = App::start(move |mut wire, _| {
        let state = state.clone();
        async move {
            let (head, _) = wire.message().await;
            if !head.starts_with("get /healthz?full ") || state.load(Ordering::SeqCst) {
                wire.send(OK).await;
            } else {
                wire.send("HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n")
                    .await;
            }
        }
    })
    .await;
    let mut table = raw(&[app.url()]);
    // Also the time that an answer may take.
    let interval = Some(at(Duration::from_millis(200)));
    table.health_check = Some(at(RawHealthCheck {
        path: at("/healthz?full".parse().unwrap()),
        interval,
    }));
    let gateway = Gateway::start(compile(&table), rules()).await;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let watch = tokio::spawn(watch_health(gateway.upstream.clone(), async move {
        drop(stopped.await)
    }));
    let becomes = async |up: bool| {
        while gateway.upstream.is_up() != up {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert_eq!(gateway.ask(GET).await.1, "ok");
    healthy.store(false, Ordering::SeqCst);
    becomes(false).await;
    let answer = gateway.ask(GET).await;
    assert_eq!((status(&answer), answer.1.as_str()), ("502", "upstream-down"));
    healthy.store(true, Ordering::SeqCst);
    becomes(true).await;
    assert_eq!(gateway.ask(GET).await.1, "ok");
    stop.send(()).unwrap();
    watch.await.unwrap();
}

#[tokio::test]
async fn whoami_shows_the_request_as_an_app_would_get_it() {
    let mut table = RawUpstream {
        builtin: Some(at(crate::values::Builtin::Whoami)),
        ..RawUpstream::default()
    };
    table.host = Some(at("app.internal".parse().unwrap()));
    let gateway = Gateway::start(compile(&table), rules()).await;
    let (head, body) = gateway
        .ask("POST /a?b=c HTTP/1.1\r\nhost: x\r\nx-auth-user: alice\r\naccept: */*\r\ncontent-length: 3\r\n\r\nabc")
        .await;
    assert!(
        head.contains("content-type: text/plain") && head.contains("cache-control: no-store"),
        "{head}"
    );
    assert!(body.starts_with("POST /a?b=c HTTP/1.1\n"), "{body}");
    assert!(
        body.contains("\nX-Auth-User: alice\n") && body.contains("\nHost: app.internal\n"),
        "{body}"
    );
    assert!(body.ends_with("\n\n3 bytes of body\n"), "{body}");

    let (head, body) = gateway
        .ask("GET /a?b=c HTTP/1.1\r\nhost: x\r\naccept: text/html, application/json;q=0.9\r\nx-a: 1\r\nx-a: 2\r\n\r\n")
        .await;
    assert!(head.contains("content-type: application/json\r\n"), "{head}");
    let json: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (&json["method"], &json["path"], &json["query"]),
        (&"GET".into(), &"/a".into(), &"b=c".into())
    );
    assert_eq!(
        (&json["version"], &json["body_bytes"]),
        (&"HTTP/1.1".into(), &0.into())
    );
    assert_eq!(
        (&json["headers"]["host"], &json["headers"]["x-a"][1]),
        (&"app.internal".into(), &"2".into())
    );
}

fn problems(raw: &RawUpstream) -> (Vec<String>, Vec<String>) {
    let mut problems = Problems::new(Path::new("gateway.toml"), "");
    Upstream::compile(&at("app".to_owned()), raw, 4, &mut problems);
    let text = |problem: &crate::config::problems::Problem| {
        format!(
            "{} | {}",
            problem.message,
            problem.hint.as_deref().unwrap_or("no hint")
        )
    };
    (
        problems.errors().iter().map(text).collect(),
        problems.warnings().iter().map(text).collect(),
    )
}

#[test]
fn addresses_of_servers_are_read() {
    for (written, label) in [
        ("http://127.0.0.1:3000", "127.0.0.1:3000"),
        ("http://app", "app:80"),
        ("http://[::1]:81", "[::1]:81"),
        ("http://[::1]", "[::1]:80"),
        ("h2c://app:50051", "app:50051"),
        ("unix:/run/app.sock", "unix:/run/app.sock"),
    ] {
        let upstream = compile(&raw(&[written.to_owned()]));
        assert_eq!(&*upstream.servers[0].label, label);
    }
}

#[test]
fn the_path_of_servers_is_one_and_in_its_canonical_spelling() {
    for (servers, base) in [
        (&["http://a:3000"][..], ""),
        (&["http://a:3000/", "http://b:3000"], ""),
        (
            &["http://a:3000/base", "https://b/base/", "h2c://c/%62ase"],
            "/base",
        ),
        (&["http://[::1]/a/b.c"], "/a/b.c"),
    ] {
        let servers: Vec<String> = servers.iter().map(|server| (*server).to_owned()).collect();
        assert_eq!(compile(&raw(&servers)).base(), base, "{servers:?}");
    }
    for servers in [
        ["http://a/base", "http://b"],
        ["http://a", "http://b/base"],
        ["http://a/x", "http://b/y"],
    ] {
        let (errors, _) = problems(&raw(&servers.map(str::to_owned)));
        assert_eq!(errors.len(), 1, "{servers:?}: {errors:?}");
        assert!(errors[0].contains("have different paths"), "{errors:?}");
    }
}

#[test]
fn every_problem_of_a_table_is_reported() {
    let text = "[upstreams.app]\nservers = [\"http://a:1\"]\nbuiltin = \"whoam\"\nconnect_timeout = \"0s\"\n\
         response_timeout = \"0s\"\nidle_timeout = \"0s\"\nmax_connections = 0\nhost = \"a/b\"\n\
         health_check = { path = \"healthz\" }\n";
    let mut found = Problems::new(Path::new("gateway.toml"), text);
    crate::config::read(&mut found);
    let messages: Vec<_> = found
        .errors()
        .iter()
        .map(|error| error.message.as_str())
        .collect();
    assert_eq!(messages.len(), 8, "{messages:#?}");
    let mut hints = found.errors().iter().filter_map(|error| error.hint.as_deref());
    assert!(hints.any(|hint| hint.contains("did you mean `whoami`?")));
    assert!(
        messages.iter().any(|message| message.contains("found `healthz`")),
        "{messages:#?}"
    );
    for (text, part) in [
        ("", "`servers` is missing in `[upstreams.app]`"),
        (
            "builtin = \"whoami\"\nhealth_check = { path = \"/\" }",
            "something built in has no health",
        ),
    ] {
        let text = format!("[upstreams.app]\n{text}\n");
        let mut found = Problems::new(Path::new("gateway.toml"), &text);
        crate::config::read(&mut found);
        assert!(found.errors()[0].message.contains(part), "{text}");
    }
    let (errors, _) = problems(&raw(&["http://a:1".to_owned(), "http://a:1".to_owned()]));
    assert!(
        errors.len() == 1 && errors[0].contains("is listed twice"),
        "{errors:?}"
    );
    let mut table = raw(&["http://a:1".to_owned()]);
    table.ca_file = Some(at("ca.pem".into()));
    assert_eq!(problems(&table).1.len(), 1);
    let mut table = raw(&["https://a:1".to_owned(), "https://b:1".to_owned()]);
    table.ca_file = Some(at("/nowhere/ca.pem".into()));
    assert_eq!(problems(&table).0.len(), 1, "said once");
}

#[test]
fn keys_of_connections_that_do_not_go_together_are_reported() {
    let mut table = raw(&["h2c://a:1".to_owned(), "http://b:1".to_owned()]);
    table.proxy_protocol = Some(at(true));
    let (errors, _) = problems(&table);
    assert!(
        errors.len() == 1 && errors[0].contains("`h2c://`") && errors[0].contains("`proxy_protocol`"),
        "{errors:?}"
    );
    table.proxy_protocol = Some(at(false));
    table.server_name = Some(at("a.test".try_into().unwrap()));
    table.http2 = Some(at(true));
    let (errors, warnings) = problems(&table);
    assert_eq!((errors.len(), warnings.len()), (0, 2), "{warnings:?}");
    // A certificate that is not there, a key that is not there, and a pair that does not fit.
    let (certificates, others) = (Certificates::new(), Certificates::new());
    let write = |name: &str, text: &str| {
        let path = certificates.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let pair = |certificate: &std::path::Path, key: &std::path::Path| {
        let mut table = raw(&["https://a:1".to_owned(), "https://b:1".to_owned()]);
        table.ca_file = certificates.file();
        table.client_certificate = Some(at(certificate.to_owned()));
        table.client_key = Some(at(RawPem::Path(key.to_owned())));
        problems(&table).0
    };
    let own = |certificates: &Certificates| certificates.file().unwrap().value;
    let (nowhere, empty) = (Path::new("/nowhere/a.pem"), write("empty.pem", ""));
    let stranger = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let stranger = write("stranger.key", &stranger);
    for (certificate, key, part) in [
        (nowhere, &*stranger, "cannot be read"),
        (&empty, &stranger, "holds no `CERTIFICATE`"),
        (&own(&others), nowhere, "cannot read a private key"),
        (&own(&others), &empty, "cannot read a private key"),
        (&own(&others), &stranger, "does not go with the certificate"),
    ] {
        let errors = pair(certificate, key);
        assert!(errors.len() == 1 && errors[0].contains(part), "{errors:?}");
    }
}

#[test]
fn connections_are_shared_among_workers() {
    let limit = |max: u64, workers| {
        let mut table = raw(&["http://a:1".to_owned()]);
        table.max_connections = Some(at(max));
        let mut problems = Problems::new(Path::new("gateway.toml"), "");
        Upstream::compile(&at("app".to_owned()), &table, workers, &mut problems).max_connections
    };
    assert_eq!((limit(100, 4), limit(3, 8), limit(5, 2)), (25, 1, 2));
}

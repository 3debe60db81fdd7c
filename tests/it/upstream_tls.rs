//! TLS to apps: the name in the certificate, the gateway's own certificate, and the version of HTTP that the app chooses.

use super::support::server::Server;
use super::support::tls::Certificate;
use super::support::{Gateway, Request, Setup, eventually};

const ROUTE: &str = "[[routes]]\npath = \"/*\"\nauth = \"none\"\nupstream = \"app\"\n";
const BOTH: &[&str] = &["h2", "http/1.1"];

/// A gateway in front of `server`, which it trusts by `certificate`, with these further keys of the upstream.
fn setup(server: &Server, certificate: &Certificate, more: &str) -> Setup {
    let setup = Setup::new(&toml(server, more));
    setup.write("ca.pem", &certificate.chain_pem);
    setup
}

fn toml(server: &Server, more: &str) -> String {
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"http://app.test\"\nworkers = 1\n\
         [upstreams.app]\nservers = [\"https://{}\"]\nca_file = \"ca.pem\"\n{more}\n{ROUTE}",
        server.address
    )
}

fn reload(gateway: &Gateway, count: usize, said: &str) {
    gateway.signal("HUP");
    eventually("it was read again", || {
        let lines = gateway.diagnostics();
        lines.iter().filter(|line| line.contains(said)).count() >= count
    });
}

#[test]
fn server_name_is_asked_for_and_must_be_in_the_certificate() {
    let certificate = Certificate::for_names(&["app.internal"]);
    let server = Server::with_tls(certificate.server_config_for(&[], &[]));
    let gateway = setup(&server, &certificate, "").start();
    let response = gateway.get("/").expect(502);
    assert_eq!(gateway.log_of(&response)["reason"], "upstream-tls");
    drop(gateway);
    let check = "health_check = { path = \"/healthz\", interval = \"1s\" }";
    let gateway = setup(
        &server,
        &certificate,
        &format!("server_name = \"app.internal\"\n{check}"),
    )
    .start();
    gateway.get("/").expect(200);
    assert_eq!(server.last().server_name.as_deref(), Some("app.internal"));
    let checks = || {
        let came = server.came();
        came.into_iter()
            .filter(|came| came.uri.ends_with("/healthz"))
            .collect::<Vec<_>>()
    };
    eventually("the app was checked", || !checks().is_empty());
    gateway.get("/").expect(200);
    assert_eq!(checks()[0].server_name.as_deref(), Some("app.internal"));
    drop(gateway);
    let gateway = setup(&server, &certificate, "server_name = \"other.internal\"").start();
    gateway.get("/").expect(502);
}

#[test]
fn app_that_asks_for_a_certificate_gets_the_one_of_the_file() {
    let certificate = Certificate::for_names(&["127.0.0.1"]);
    let (first, second, stranger) = (
        Certificate::for_names(&["gateway"]),
        Certificate::for_names(&["gateway"]),
        Certificate::for_names(&["gateway"]),
    );
    let server = Server::with_tls(certificate.server_config_for(BOTH, &[&first, &second]));
    // Without one, or with one that the app does not know.
    let gateway = setup(&server, &certificate, "").start();
    gateway.get("/").expect(502);
    drop(gateway);
    let keys = "client_certificate = \"gateway.pem\"\nclient_key = { file = \"gateway.secret\" }\n";
    let check = "health_check = { path = \"/healthz\", interval = \"1s\" }";
    let setup = setup(&server, &certificate, &format!("{keys}{check}"));
    let write = |setup: &Setup, certificate: &Certificate| {
        setup
            .write("gateway.secret", &certificate.key_pem)
            .write("gateway.pem", &certificate.chain_pem);
    };
    write(&setup, &stranger);
    let gateway = setup.start();
    assert_eq!(gateway.get("/").status / 100, 5);
    assert_eq!(server.came().len(), 0);
    write(&gateway.setup, &first);
    reload(&gateway, 1, "configuration read again");
    gateway.get("/").expect(200);
    assert_eq!(server.last().certificates, [first.der().to_vec()]);
    eventually("the app was checked", || {
        server.came().iter().any(|came| came.uri.ends_with("/healthz"))
    });
    gateway.get("/").expect(200);
    // A pair that does not fit changes nothing.
    gateway.setup.write("gateway.pem", &second.chain_pem);
    reload(&gateway, 1, "the key does not go with the certificate");
    gateway.get("/").expect(200);
    assert_eq!(server.last().certificates, [first.der().to_vec()]);
    write(&gateway.setup, &second);
    eventually("the new pair is in use", || {
        gateway.get("/").status == 200 && server.last().certificates == [second.der().to_vec()]
    });
}

#[test]
fn app_chooses_http2_and_one_connection_carries_all_requests() {
    let certificate = Certificate::for_names(&["127.0.0.1"]);
    let server = Server::with_tls(certificate.server_config_for(BOTH, &[]));
    let check = "health_check = { path = \"/healthz\", interval = \"1h\" }";
    let gateway = setup(&server, &certificate, check).start();
    eventually("the app was checked", || server.came().len() == 1);
    assert!(server.came()[0].is_http2);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| gateway.get("/a?b=c").expect(200));
        }
    });
    let came = server.came().split_off(1);
    assert_eq!(came.len(), 16);
    assert!(came.iter().all(|came| came.is_http2), "{came:?}");
    assert_eq!(came[0].uri, "https://app.test/a?b=c");
    assert_eq!(server.connections(), 2, "that of the check, and one for all");
}

#[test]
fn websocket_goes_over_http1_beside_http2() {
    let certificate = Certificate::for_names(&["127.0.0.1"]);
    let server = Server::with_tls(certificate.server_config_for(BOTH, &[]));
    let gateway = setup(&server, &certificate, "").start();
    gateway.get("/").expect(200);
    assert!(server.last().is_http2);
    let mut client = gateway.connect();
    client.send(
        "GET /ws HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    client.response().expect(101);
    assert!(!server.last().is_http2);
    client.send("hello");
    assert_eq!(client.read_exact(5), b"hello");
    gateway.get("/").expect(200);
    assert!(server.last().is_http2);
    assert_eq!(server.connections(), 2);
}

#[test]
fn app_without_http2_gets_http1_and_its_connections_are_kept() {
    let certificate = Certificate::for_names(&["127.0.0.1"]);
    for (alpn, key) in [(&["http/1.1"][..], ""), (&[], ""), (BOTH, "http2 = false")] {
        let server = Server::with_tls(certificate.server_config_for(alpn, &[]));
        let gateway = setup(&server, &certificate, key).start();
        for _ in 0..3 {
            gateway.send(&Request::get("/")).expect(200);
        }
        assert!(!server.last().is_http2, "{alpn:?}");
        assert_eq!(server.connections(), 1, "{alpn:?}");
    }
}

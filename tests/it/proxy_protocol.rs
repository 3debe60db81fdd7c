//! The PROXY protocol in front of connections: which peers it is taken from, what it says, and what a client behind the proxy
//! cannot make of it.

use std::io::Write;
use std::net::TcpStream;

use http::Request as Http2Request;

use super::support::http2::Http2;
use super::support::server::Server;
use super::support::tls::{self, Certificate};
use super::support::{App, Client, Gateway, Request, Response, Setup, eventually};

const TRUSTED: &str = "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"http://localhost\"\nproxy_protocol = true\n\
                       trusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]\n";

const ROUTES: &str = r#"
[[routes]]
path = "/*"
auth = "none"
upstream = "app"
[[routes]]
path = "/office/*"
auth = "none"
from = ["192.0.2.0/24"]
upstream = "app"
"#;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn header(version_and_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[version_and_command, family], &length, rest].concat()
}

/// The header of a client with this address, IPv4 or IPv6.
fn of(client: &str) -> Vec<u8> {
    let ports = [0x30, 0x39, 0, 80];
    match client.parse().unwrap() {
        std::net::IpAddr::V4(ip) => header(0x21, 0x11, &[&ip.octets()[..], &[10, 0, 0, 9], &ports].concat()),
        std::net::IpAddr::V6(ip) => header(0x21, 0x21, &[&ip.octets()[..], &[9; 16], &ports].concat()),
    }
}

fn gateway(app: &App) -> Gateway {
    Gateway::before(app, &format!("{TRUSTED}{ROUTES}"))
}

/// The answer to these bytes on a connection of their own.
#[track_caller]
fn answer(gateway: &Gateway, pieces: &[&[u8]]) -> Response {
    gateway.send_bytes(pieces.concat())
}

#[track_caller]
fn is_refused(gateway: &Gateway, bytes: &[u8]) {
    let mut client = gateway.connect();
    client.send(bytes);
    assert_eq!(client.rest(), b"", "{bytes:?}");
}

fn refused(gateway: &Gateway) -> String {
    let metrics = gateway.admin_get("/metrics").text();
    let mut lines = metrics.lines();
    lines
        .find_map(|line| line.strip_prefix("passgate_proxy_headers_refused_total "))
        .unwrap()
        .to_owned()
}

#[test]
fn address_in_the_header_is_that_of_the_client() {
    let app = App::start();
    let gateway = gateway(&app);
    for (client, named) in [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("::ffff:192.0.2.8", "192.0.2.8"),
    ] {
        answer(&gateway, &[&of(client), GET]).expect(200);
        assert_eq!(app.last().header("x-forwarded-for"), Some(named));
        gateway.log_line(|line| line["client"] == named);
    }
    let office = b"GET /office/a HTTP/1.1\r\nHost: localhost\r\n\r\n";
    answer(&gateway, &[&of("192.0.2.7"), office]).expect(200);
    answer(&gateway, &[&of("198.51.100.7"), office]).expect(403);
    assert_eq!(refused(&gateway), "0");
}

#[test]
fn header_that_comes_byte_by_byte_is_read_to_its_end_and_no_further() {
    let app = App::start();
    let gateway = gateway(&app);
    let mut bytes = of("192.0.2.7");
    // Two type-length-value vectors.
    let mut rest = bytes.split_off(16);
    rest.extend([3, 0, 4, 1, 2, 3, 4, 4, 0, 1, 0]);
    let mut socket = TcpStream::connect(gateway.address).unwrap();
    socket.set_nodelay(true).unwrap();
    for byte in header(0x21, 0x11, &rest) {
        socket.write_all(&[byte]).unwrap();
    }
    let mut client = Client::over(Box::new(socket));
    for _ in 0..2 {
        client.send(GET).response().expect(200);
    }
    assert_eq!(app.connections(), 1);
    assert_eq!(app.last().header("x-forwarded-for"), Some("192.0.2.7"));
}

#[test]
fn client_behind_the_proxy_cannot_name_another_address() {
    let app = App::start();
    let gateway = gateway(&app);
    let forged = b"GET /office/a HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n\r\n";
    answer(&gateway, &[&of("198.51.100.7"), forged]).expect(403);
    // Nor where the proxy does not know its address.
    for unknown in [
        header(0x21, 0x00, b""),
        header(0x21, 0x31, &[b'/'; 216]),
        of("0.0.0.0"),
    ] {
        answer(&gateway, &[&unknown, forged]).expect(403);
    }
    // A second header is a request, and a bad one.
    answer(&gateway, &[&of("198.51.100.7"), &of("192.0.2.7"), forged]).expect(400);
    assert_eq!(app.count(), 0);
    // Another proxy in front of the one that sends the header says who the client is.
    answer(&gateway, &[&of("10.0.0.5"), forged]).expect(200);
    assert_eq!(app.last().header("x-forwarded-for"), Some("192.0.2.7, 10.0.0.5"));
    assert_eq!(app.last().header("x-forwarded-proto"), Some("https"));
    gateway.log_line(|line| line["client"] == "192.0.2.7");
    answer(&gateway, &[&of("203.0.113.9"), forged]).expect(403);
    assert!(
        !gateway
            .diagnostics()
            .iter()
            .any(|line| line.contains("from a peer that is not in")),
        "the proxy is listed"
    );
}

#[test]
fn connection_of_the_proxy_itself_is_one_of_a_trusted_proxy() {
    let app = App::start();
    let gateway = gateway(&app);
    let local = header(0x20, 0x00, b"");
    answer(&gateway, &[&local, GET]).expect(200);
    assert_eq!(app.last().header("x-forwarded-for"), Some("127.0.0.1"));
    let with_leftovers = header(0x20, 0x11, &[9; 12]);
    let named = b"GET /office/a HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n";
    answer(&gateway, &[&with_leftovers, named]).expect(200);
    assert_eq!(app.last().header("x-forwarded-for"), Some("192.0.2.7, 127.0.0.1"));
}

#[test]
fn connection_of_a_trusted_proxy_without_a_right_header_is_closed() {
    let app = App::start();
    let gateway = gateway(&app);
    let client = of("192.0.2.7");
    let mut count = 0;
    for bytes in [
        GET.to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        [b"PROXY TCP4 192.0.2.7 10.0.0.9 1 80\r\n", GET].concat(),
        [&header(0x11, 0x11, &client[16..]), GET].concat(),
        [&header(0x22, 0x11, &client[16..]), GET].concat(),
        [&header(0x21, 0x12, &client[16..]), GET].concat(),
        [&header(0x21, 0x21, &client[16..]), GET].concat(),
        [&header(0x21, 0x11, &[&client[16..], &[4, 0, 9, 0]].concat()), GET].concat(),
        header(0x21, 0x11, &[0; 4081]),
        header(0x20, 0x11, &[0; 65535]),
    ] {
        is_refused(&gateway, &bytes);
        count += 1;
        assert_eq!(refused(&gateway), count.to_string(), "{bytes:?}");
    }
    let mut cut_off = gateway.connect();
    cut_off.send(&client[..20]).finish_sending();
    assert!(cut_off.is_closed());
    eventually("it is counted", || refused(&gateway) == (count + 1).to_string());
    assert_eq!(app.count(), 0);
    let said: Vec<String> = gateway
        .diagnostics()
        .into_iter()
        .filter(|line| line.contains("`proxy_protocol = true`"))
        .collect();
    assert_eq!(said.len(), 1, "once a minute: {said:?}");
    assert!(said[0].contains("peer=127.0.0.1"), "{said:?}");
}

#[test]
fn header_of_the_longest_length_is_taken() {
    let app = App::start();
    let gateway = gateway(&app);
    let mut rest = of("192.0.2.7")[16..].to_vec();
    let padding = 4080 - rest.len() - 3;
    rest.push(4);
    rest.extend(u16::try_from(padding).unwrap().to_be_bytes());
    rest.resize(4080, 0);
    answer(&gateway, &[&header(0x21, 0x11, &rest), GET]).expect(200);
}

#[test]
fn connection_that_is_closed_without_a_byte_is_a_health_check() {
    let app = App::start();
    let gateway = gateway(&app);
    for _ in 0..3 {
        let mut check = gateway.connect();
        check.finish_sending();
        assert!(check.is_closed());
    }
    assert_eq!(refused(&gateway), "0");
    assert!(!gateway.diagnostics().join("\n").contains("proxy_protocol"));
}

#[test]
fn slow_header_is_given_up_after_header_timeout() {
    let app = App::start();
    let gateway = Gateway::before(&app, &format!("{TRUSTED}header_timeout = \"300ms\"\n{ROUTES}"));
    let mut silent = gateway.connect();
    let mut slow = gateway.connect();
    slow.send(&of("192.0.2.7")[..20]);
    assert_eq!(silent.rest(), b"");
    assert_eq!(slow.rest(), b"");
    eventually("both are counted", || refused(&gateway) == "2");
}

#[test]
fn header_of_a_peer_that_is_not_trusted_is_a_bad_request() {
    let app = App::start();
    let server = TRUSTED.replace("\"127.0.0.1\", ", "");
    let gateway = Gateway::before(&app, &format!("{server}{ROUTES}"));
    let response = answer(&gateway, &[&of("192.0.2.7"), GET]).expect(400);
    assert_eq!(app.count(), 0);
    gateway.log_of(&response);
    gateway.get("/").expect(200);
    assert_eq!(app.last().header("x-forwarded-for"), Some("127.0.0.1"));
}

#[test]
fn without_the_key_a_header_is_a_bad_request() {
    let app = App::start();
    let server = TRUSTED.replace("proxy_protocol = true\n", "");
    let gateway = Gateway::before(&app, &format!("{server}{ROUTES}"));
    answer(&gateway, &[&of("192.0.2.7"), GET]).expect(400);
    assert_eq!(app.count(), 0);
}

#[test]
fn header_comes_before_tls_and_before_http2() {
    let app = App::start();
    let certificate = Certificate::for_names(&["localhost"]);
    let server = TRUSTED.replace("http://localhost", "https://localhost");
    let tables =
        format!("{server}\n[server.tls]\ncertificate = \"cert.pem\"\nprivate_key = \"key.pem\"\n{ROUTES}");
    let setup = Setup::new(&super::support::gateway::before(&app, &tables));
    setup
        .write("cert.pem", &certificate.chain_pem)
        .write("key.pem", &certificate.key_pem);
    let gateway = setup.start();
    let h1 = tls::client_config(&[&certificate], &["http/1.1"]);
    let stream = tls::connect_after(&of("192.0.2.7"), &h1, gateway.address, "localhost").unwrap();
    Client::over(Box::new(stream)).send(GET).response().expect(200);
    assert_eq!(app.last().header("x-forwarded-for"), Some("192.0.2.7"));
    assert_eq!(app.last().header("x-forwarded-proto"), Some("https"));
    let h2 = tls::client_config(&[&certificate], &["h2"]);
    let client = Http2::connect_tls_after(&of("2001:db8::9"), &h2, gateway.address, "localhost");
    for _ in 0..2 {
        let request = Http2Request::get("https://localhost/").body(()).unwrap();
        assert_eq!(client.send(request).status, 200);
        assert_eq!(app.last().header("x-forwarded-for"), Some("2001:db8::9"));
    }
    assert!(
        tls::connect(&h1, gateway.address, "localhost").is_err(),
        "a connection without the header"
    );
}

#[test]
fn scheme_behind_a_proxy_that_ends_tls_is_that_of_public_url() {
    let app = App::start();
    let server = TRUSTED.replace("http://localhost", "https://localhost");
    let gateway = Gateway::before(&app, &format!("{server}{ROUTES}"));
    answer(&gateway, &[&of("192.0.2.7"), GET]).expect(200);
    assert_eq!(app.last().header("x-forwarded-proto"), Some("https"));
}

#[test]
fn peers_on_a_unix_socket_announce_their_clients_too() {
    let app = App::start();
    let setup = Setup::new("");
    let socket = setup.path("s.sock");
    let server = format!(
        "[server]\nlisten = [\"127.0.0.1:0\", \"unix:{}\"]\npublic_url = \"http://localhost\"\n\
         proxy_protocol = true\ntrusted_proxies = [\"unix\"]\n",
        socket.display()
    );
    setup.rewrite(&super::support::gateway::before(
        &app,
        &format!("{server}{ROUTES}"),
    ));
    let gateway = setup.start();
    let mut client = Client::connect_unix(&socket);
    client
        .send([&of("192.0.2.7"), GET].concat())
        .response()
        .expect(200);
    assert_eq!(app.last().header("x-forwarded-for"), Some("192.0.2.7"));
    let mut client = Client::connect_unix(&socket);
    client.send(GET);
    assert_eq!(client.rest(), b"");
    gateway.diagnostic("peer=unix socket");
    // By TCP the peer is not trusted, and speaks HTTP.
    gateway.get("/").expect(200);
}

#[test]
fn connections_are_counted_by_the_address_in_the_header() {
    let app = App::start();
    let limits = "max_connections = 4\nmax_connections_per_client = 2\nworkers = 1\n";
    let gateway = Gateway::before(&app, &format!("{TRUSTED}{limits}{ROUTES}"));
    let connect = |client: &str| {
        let mut connection = gateway.connect();
        connection.send([&of(client), GET].concat());
        connection
    };
    let mut first: Vec<Client> = ["192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2"]
        .map(|client| {
            let mut connection = connect(client);
            connection.response().expect(200);
            connection
        })
        .into();
    // All are taken: the client that holds most loses the one that is idle longest.
    connect("192.0.2.3").response().expect(200);
    assert!(first[0].is_closed());
    first[3].send(GET).response().expect(200);
    gateway.diagnostic("the client 192.0.2.1 holds 3 connections");
}

#[test]
fn reload_switches_the_header_on_for_new_connections() {
    let app = App::start();
    let without = TRUSTED.replace("proxy_protocol = true\n", "");
    let gateway = Gateway::before(&app, &format!("{without}{ROUTES}"));
    let mut kept = gateway.connect();
    kept.send(GET).response().expect(200);
    gateway.setup.rewrite(&super::support::gateway::before(
        &app,
        &format!("{TRUSTED}{ROUTES}"),
    ));
    gateway.signal("HUP");
    gateway.diagnostic("configuration read again");
    answer(&gateway, &[&of("192.0.2.7"), GET]).expect(200);
    is_refused(&gateway, GET);
    kept.send(GET).response().expect(200);
}

#[test]
fn redirect_listener_takes_the_header_too() {
    let app = App::start();
    let server = TRUSTED.replace("http://localhost", "https://localhost");
    let tables = format!("{server}redirect_http = \"127.0.0.1:0\"\n{ROUTES}");
    let gateway = Gateway::before(&app, &tables);
    let said = gateway.diagnostics().join(" ");
    let redirect = said.split_once("redirecting http://").unwrap().1;
    let address: std::net::SocketAddr = redirect.split_once(' ').unwrap().0.parse().unwrap();
    assert_ne!(address, gateway.address);
    let mut client = Client::connect(address);
    let response = client
        .send([&of("192.0.2.7"), GET].concat())
        .response()
        .expect(308);
    assert_eq!(response.header("location"), Some("https://localhost/"));
    let mut client = Client::connect(address);
    client.send(GET);
    assert_eq!(client.rest(), b"");
}

/// An upstream whose servers are told the client's address, behind a proxy that names its clients.
fn told(server: &str, more: &str) -> Setup {
    Setup::new(&format!(
        "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"http://localhost\"\ntrusted_proxies = [\"127.0.0.1\"]\nworkers = 1\n\
         [upstreams.app]\nservers = [\"{server}\"]\nproxy_protocol = true\n{more}\n\
         [[routes]]\npath = \"/*\"\nauth = \"none\"\nupstream = \"app\"\n"
    ))
}

/// The header that announces a client; only the address is known.
fn announcement(client: &str) -> Vec<u8> {
    match client.parse().unwrap() {
        std::net::IpAddr::V4(ip) => header(0x21, 0x11, &[&ip.octets()[..], &[0; 8]].concat()),
        std::net::IpAddr::V6(ip) => header(0x21, 0x21, &[&ip.octets()[..], &[0; 20]].concat()),
    }
}

#[test]
fn app_is_told_the_client_of_each_request_and_no_connection_is_used_twice() {
    let server = Server::announced();
    let gateway = told(&format!("http://{}", server.address), "").start();
    let clients = ["192.0.2.1", "2001:db8::2", "192.0.2.1", "198.51.100.3"];
    // One connection of the proxy in front carries requests of several clients.
    let mut proxy = gateway.connect();
    for (number, client) in clients.iter().enumerate() {
        let request = Request::get("/").header("X-Forwarded-For", client);
        request.over(&mut proxy).expect(200);
        let came = server.last();
        assert_eq!(came.announced, announcement(client), "{client}");
        assert_eq!(came.connection, number + 1);
        assert_eq!(came.option.as_deref(), Some("close"));
    }
    // Without an address in `X-Forwarded-For` the client is not known.
    gateway.get("/").expect(200);
    assert_eq!(server.last().announced, header(0x21, 0x00, b""));
}

#[test]
fn requests_that_wait_for_a_connection_do_not_get_one_of_another_client() {
    let server = Server::announced();
    let gateway = told(&format!("http://{}", server.address), "max_connections = 1").start();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (gateway, client) = (&gateway, format!("192.0.2.{number}"));
            scope.spawn(move || {
                let request = Request::get(&format!("/{client}")).header("X-Forwarded-For", &client);
                gateway.send(&request).expect(200);
            });
        }
    });
    let came = server.came();
    assert_eq!(came.len(), 8);
    for came in came {
        let client = came.uri.trim_start_matches('/');
        assert_eq!(came.announced, announcement(client), "{client}");
    }
}

#[test]
fn header_for_the_app_comes_before_tls_and_http2_is_not_offered() {
    let certificate = Certificate::for_names(&["127.0.0.1"]);
    let server = Server::announced_with_tls(certificate.server_config_for(&["h2", "http/1.1"], &[]));
    let setup = told(&format!("https://{}", server.address), "ca_file = \"ca.pem\"");
    setup.write("ca.pem", &certificate.chain_pem);
    let gateway = setup.start();
    for client in ["192.0.2.1", "192.0.2.2"] {
        gateway
            .send(&Request::get("/").header("X-Forwarded-For", client))
            .expect(200);
        let came = server.last();
        assert_eq!(came.announced, announcement(client));
        assert!(!came.is_http2);
    }
    assert_eq!(server.connections(), 2);
}

#[test]
fn health_check_announces_the_gateway_itself() {
    let server = Server::announced();
    let check = "health_check = { path = \"/healthz\", interval = \"1s\" }";
    let _gateway = told(&format!("http://{}", server.address), check).start();
    eventually("the app is checked", || !server.came().is_empty());
    assert_eq!(server.came()[0].announced, header(0x20, 0x00, b""));
    assert_eq!(server.came()[0].uri, "/healthz");
}

//! Sockets that systemd hands over, by name and without: each serves what the file says, and no socket serves two things.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};

use super::support::Setup;

const ROUTES: &str = "[upstreams.whoami]\nbuiltin = \"whoami\"\n[[routes]]\npath = \"/*\"\nauth = \"none\"\nupstream = \"whoami\"\n";

/// The gateway with these two sockets, as systemd starts it.
fn start(setup: &Setup, names: &str, one: impl Into<OwnedFd>, other: impl Into<OwnedFd>) -> Child {
    let script = "exec 3<&0 4<&1 </dev/null >/dev/null; LISTEN_PID=$$ LISTEN_FDS=2 exec \"$0\" run -c \"$1\"";
    Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_passgate")])
        .arg(setup.path("gateway.toml"))
        .env("LISTEN_FDNAMES", names)
        .stdin(one.into())
        .stdout(other.into())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The answer on a socket, which waits there until the gateway has started.
fn ask(listener: &TcpListener, target: &str) -> String {
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    write!(
        stream,
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn listener() -> (TcpListener, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    (listener.try_clone().unwrap(), listener)
}

fn end(mut gateway: Child) {
    let id = gateway.id().to_string();
    assert!(Command::new("kill").arg(id).status().unwrap().success());
    assert!(gateway.wait().unwrap().success());
}

#[test]
fn named_sockets_serve_what_names_them() {
    let toml = format!("[server]\nlisten = \"systemd:web\"\n[admin]\nlisten = \"systemd:ops\"\n{ROUTES}");
    let setup = Setup::new(&toml);
    let ((web, given_web), (ops, given_ops)) = (listener(), listener());
    let gateway = start(&setup, "ops:web", given_ops, given_web);
    let answer = ask(&web, "/health");
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("GET /health"),
        "{answer}"
    );
    let answer = ask(&ops, "/health");
    assert!(answer.ends_with("\r\n\r\nok\n"), "{answer}");
    end(gateway);
}

#[test]
fn all_sockets_are_public_where_none_is_named() {
    let setup = Setup::new(&format!("[server]\nlisten = \"systemd\"\n{ROUTES}"));
    let ((one, given_one), (other, given_other)) = (listener(), listener());
    let gateway = start(&setup, "a:b", given_one, given_other);
    for listener in [one, other] {
        assert!(ask(&listener, "/x").contains("GET /x"));
    }
    end(gateway);
}

fn expect_failure(gateway: Child, text: &str) {
    let output = gateway.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains(text), "{said}");
}

#[test]
fn name_that_systemd_did_not_give_stops_the_start() {
    let setup = Setup::new(&format!("[server]\nlisten = \"systemd:web\"\n{ROUTES}"));
    let ((_one, given_one), (_other, given_other)) = (listener(), listener());
    let gateway = start(&setup, "passgate.socket:http", given_one, given_other);
    expect_failure(gateway, "are called `passgate.socket`, `http`");
}

#[test]
fn admin_socket_that_others_may_open_stops_the_start() {
    let toml = format!("[server]\nlisten = \"systemd:web\"\n[admin]\nlisten = \"systemd:ops\"\n{ROUTES}");
    let setup = Setup::new(&toml);
    let path = setup.path("ops.sock");
    for (mode, is_refused) in [(0o666, true), (0o600, false)] {
        let _ = std::fs::remove_file(&path);
        let ops = UnixListener::bind(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let (web, given_web) = listener();
        let gateway = start(&setup, "web:ops", given_web, ops);
        if is_refused {
            expect_failure(gateway, "write `SocketMode=0600`");
        } else {
            assert!(ask(&web, "/x").contains("GET /x"));
            end(gateway);
        }
    }
}

#[test]
fn all_sockets_beside_a_named_one_is_an_error_of_the_file() {
    for (more, text) in [
        (
            "[admin]\nlisten = \"systemd:ops\"\n",
            "one of them is named elsewhere",
        ),
        (
            "[admin]\nlisten = \"systemd\"\n",
            "the admin port cannot be all sockets of systemd",
        ),
    ] {
        let setup = Setup::new(&format!("[server]\nlisten = \"systemd\"\n{more}{ROUTES}"));
        let said = setup.command(["check"]).expect(2).stderr;
        assert!(said.contains(text) && said.contains("gateway.toml:"), "{said}");
    }
    let twice = "[server]\nlisten = \"systemd:a\"\n[admin]\nlisten = \"systemd:a\"\n";
    let said = Setup::new(&format!("{twice}{ROUTES}"))
        .command(["check"])
        .expect(2)
        .stderr;
    assert!(said.contains("`systemd:a` is listened on twice"), "{said}");
}

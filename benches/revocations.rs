//! What signing in and out costs beside a million revocations, and without one: the real binary, its state in a file, one
//! client on loopback.
//!
//! Each round signs in (a session is written) and signs out (it is deleted, and a revocation is written). Printed are the
//! median and the longest time of a round, the CPU time of the gateway for each, and what the gateway costs while idle.
//! The password is most of it; the difference between the rows is what revocations cost.

#![allow(clippy::print_stdout, clippy::disallowed_methods)]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};
use serde_json::Value;

const PASSWORD: &str = "correct horse battery staple";
const ROUNDS: usize = 60;

fn main() {
    // `cargo test --benches` asks whether there is anything to test.
    if std::env::args().any(|argument| argument == "--list") {
        return;
    }
    println!(
        "{:>12}  {:>10}  {:>10}  {:>10}  {:>12}",
        "revocations", "median", "longest", "CPU/round", "CPU/s idle"
    );
    for rows in [0, 1_000_000] {
        measure(rows);
    }
}

fn measure(rows: u32) {
    let directory = tempfile::tempdir().expect("a directory");
    let port = free_port();
    let file = directory.path().join("gateway.toml");
    let admin = free_port();
    fs::write(
        &file,
        format!(
            "[server]\nlisten = \"127.0.0.1:{port}\"\npublic_url = \"http://127.0.0.1:{port}\"\nworkers = 1\n\
             [admin]\nlisten = \"127.0.0.1:{admin}\"\n[state]\nurl = \"sqlite:passgate.db\"\n[password]\n\
             [upstreams.app]\nbuiltin = \"whoami\"\n[[routes]]\npath = \"/*\"\nupstream = \"app\"\n"
        ),
    )
    .expect("a file");
    let mut adding = command(&file, &["user", "add", "ann@example.com"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("it runs");
    writeln!(adding.stdin.take().expect("a pipe"), "{PASSWORD}").expect("it reads");
    assert!(adding.wait().expect("it ends").success());
    fill(&directory.path().join("passgate.db"), rows);

    let gateway = Running(
        command(&file, &["run"])
            .stdout(Stdio::null())
            .spawn()
            .expect("it runs"),
    );
    let started = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "the gateway does not start"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    for _ in 0..3 {
        round(port);
    }
    let before = gateway.cpu();
    let mut times: Vec<Duration> = (0..ROUNDS).map(|_| round(port)).collect();
    let spent = gateway.cpu() - before;
    times.sort_unstable();
    let before = gateway.cpu();
    std::thread::sleep(Duration::from_secs(5));
    let idle = gateway.cpu() - before;
    let ms = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
    println!(
        "{rows:>12}  {:>10}  {:>10}  {:>10}  {:>12}",
        ms(times[ROUNDS / 2]),
        ms(times[ROUNDS - 1]),
        ms(spent / u32::try_from(ROUNDS).expect("a few")),
        ms(idle / 5),
    );
}

fn command(file: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_passgate"));
    command
        .args(arguments)
        .env("PASSGATE_CONFIG", file)
        .env("RUST_LOG", "warn");
    command
}

struct Running(Child);

impl Running {
    /// User and system time so far (proc(5), `/proc/pid/stat`; the unit is a hundredth of a second on Linux).
    fn cpu(&self) -> Duration {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).expect("it runs");
        let fields: Vec<&str> = text
            .rsplit(") ")
            .next()
            .expect("a name in parentheses")
            .split(' ')
            .collect();
        let ticks: u64 = [11, 12]
            .iter()
            .map(|&field| fields[field].parse::<u64>().expect("a number"))
            .sum();
        Duration::from_millis(ticks * 10)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sessions that ended a moment ago, as another gateway would have written them.
fn fill(path: &Path, rows: u32) {
    let mut state = Connection::open(path).expect("the state");
    let now =
        i64::try_from(std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_secs()).expect("before 9999");
    let transaction = state.transaction().expect("a transaction");
    for row in 0..rows {
        let id = blake3::hash(&row.to_le_bytes()).to_hex();
        transaction
            .prepare_cached(
                "INSERT INTO revocations (issuer, kind, value, revoked_at, expires_at, sequence)
                 VALUES ('session', 'session', ?1, ?2, ?3, ?4)",
            )
            .and_then(|mut insert| insert.execute(params![&id.as_str()[..36], now, now + 3600, row + 1]))
            .expect("a row");
    }
    transaction
        .execute("UPDATE version SET revocations = ?1", [rows])
        .expect("the version");
    transaction.commit().expect("it is written");
}

/// Signs in and out again.
fn round(port: u16) -> Duration {
    let start = Instant::now();
    let body = format!(r#"{{"email":"ann@example.com","password":"{PASSWORD}"}}"#);
    let (status, answer) = post(port, "/auth/login", "", &body);
    assert_eq!(status, 200, "{answer}");
    let token = serde_json::from_str::<Value>(&answer).expect("JSON")["accessToken"]
        .as_str()
        .expect("a token")
        .to_owned();
    let (status, answer) = post(
        port,
        "/auth/logout",
        &format!("Authorization: Bearer {token}\r\n"),
        "{}",
    );
    assert!((200..300).contains(&status), "{status} {answer}");
    start.elapsed()
}

fn post(port: u16, path: &str, headers: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\nConnection: close\r\n\
         {headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let status = answer
        .get(9..12)
        .and_then(|status| status.parse().ok())
        .expect("a status");
    (
        status,
        answer
            .split_once("\r\n\r\n")
            .map(|(_, body)| body.to_owned())
            .unwrap_or_default(),
    )
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("it is bound").port()
}

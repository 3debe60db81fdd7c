//! The real binary, started on ports of the system's choice, with everything that it prints.

use std::fmt::Display;
use std::io::{BufRead, BufReader, PipeReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use passgate::internals::app::{ExplainRequest, explain};
use serde_json::Value;
use tempfile::TempDir;

use super::tokens::CORP_SECRET;
use super::{DEADLINE, Request, Response, eventually};

/// The issuer `corp` of most tests: HS256 with a secret in a file, roles in `roles`.
pub const CORP_ISSUER: &str = r#"
[issuers.corp]
issuer = "https://id.example.com"
audiences = ["api"]
algorithms = ["HS256"]
secret = { file = "corp.secret" }
roles_claims = ["roles"]
"#;

/// A directory with a configuration in it: what a gateway is started from, once or several times.
pub struct Setup {
    directory: TempDir,
    /// Further variables in the environment of the gateway and of commands.
    environment: Vec<(String, String)>,
    /// The most bytes of a file that the gateway writes.
    file_limit: Option<u64>,
}

impl Setup {
    /// Writes `toml` and the secret of the issuer `corp`. Tables that only the harness cares about are added at the end
    /// where they are missing, so that lines keep their numbers: `[server]`, `[admin]` and `[state]`.
    #[track_caller]
    pub fn new(toml: &str) -> Self {
        let setup = Self {
            directory: tempfile::tempdir().unwrap(),
            environment: Vec::new(),
            file_limit: None,
        };
        setup.write("corp.secret", CORP_SECRET);
        setup.write("gateway.toml", complete(toml));
        setup
    }

    /// The same, without adding anything.
    #[track_caller]
    pub fn exactly(toml: &str) -> Self {
        let setup = Self::new("");
        setup.write("gateway.toml", toml);
        setup
    }

    /// Sets a variable in the environment of the gateway and of commands.
    pub fn environment(mut self, name: &str, value: impl AsRef<Path>) -> Self {
        self.environment
            .push((name.to_owned(), value.as_ref().display().to_string()));
        self
    }

    /// Limits the files that the gateway can write, as a full disk does.
    pub fn file_limit(mut self, bytes: u64) -> Self {
        self.file_limit = Some(bytes);
        self
    }

    /// Writes another configuration, completed in the same way.
    #[track_caller]
    pub fn rewrite(&self, toml: &str) {
        self.write("gateway.toml", complete(toml));
    }

    /// Writes a file beside the configuration.
    #[track_caller]
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> &Self {
        std::fs::write(self.path(name), content).unwrap();
        if name.ends_with(".secret") {
            std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        self
    }

    /// A path beside the configuration.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts the gateway and waits until it listens.
    #[track_caller]
    pub fn start(self) -> Gateway {
        Gateway::launch(self)
    }

    /// Starts the gateway with standard output and standard error on one pipe, and reads that until it listens, and then no
    /// more. Returns the pipe.
    #[track_caller]
    pub fn start_unread(self) -> (Gateway, PipeReader) {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut command = self.run_command();
        command.stdout(writer.try_clone().unwrap()).stderr(writer);
        let child = command.spawn().unwrap();
        // It holds the other ends of the pipe.
        drop(command);
        let mut said = Vec::new();
        let lines = loop {
            let mut byte = [0];
            assert_eq!(
                reader.read(&mut byte).unwrap(),
                1,
                "{}",
                String::from_utf8_lossy(&said)
            );
            said.push(byte[0]);
            let lines: Vec<String> = String::from_utf8_lossy(&said)
                .lines()
                .map(str::to_owned)
                .collect();
            if byte == *b"\n" && !announced(&lines, "admin on ").is_empty() {
                break lines;
            }
        };
        let gateway = Gateway {
            setup: self,
            address: address(&announced(&lines, "listening on ")[0]).unwrap(),
            admin: address(&announced(&lines, "admin on ")[0]).unwrap(),
            child,
            log: Arc::default(),
            diagnostics: Arc::new(Mutex::new(lines)),
        };
        (gateway, reader)
    }

    fn run_command(&self) -> Command {
        let mut command = match self.file_limit {
            Some(bytes) => limited(bytes),
            None => binary(),
        };
        command
            .args(["run", "-c"])
            .arg(self.path("gateway.toml"))
            .stdin(Stdio::null());
        command.envs(self.environment.iter().cloned());
        command
    }

    /// Runs a command to its end. `-c FILE` goes behind the words before the first option, or where `-c` stands.
    #[track_caller]
    pub fn command<S: AsRef<str>>(&self, words: impl IntoIterator<Item = S>) -> Output {
        self.command_with_input(words, "")
    }

    /// The same with something on standard input.
    #[track_caller]
    pub fn command_with_input<S: AsRef<str>>(
        &self,
        words: impl IntoIterator<Item = S>,
        input: &str,
    ) -> Output {
        let mut words: Vec<String> = words.into_iter().map(|word| word.as_ref().to_owned()).collect();
        let subcommand = match words.first().map(String::as_str) {
            Some("token" | "key" | "user" | "session") => 2,
            _ => 1,
        };
        let file = self.path("gateway.toml").display().to_string();
        words.splice(subcommand..subcommand, ["-c".to_owned(), file]);
        run_in(&self.environment, &words, input)
    }

    /// Fails unless a command with these words exits with 0; its standard output.
    #[track_caller]
    pub fn succeed<S: AsRef<str>>(&self, words: impl IntoIterator<Item = S>) -> String {
        self.command(words).expect(0).stdout
    }
}

/// What a command said and how it ended.
#[derive(Debug)]
pub struct Output {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Fails unless it ended with this exit code; shows everything.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "stdout:\n{}\nstderr:\n{}",
            self.stdout,
            self.stderr
        );
        self
    }

    /// Both streams.
    pub fn all(&self) -> String {
        format!("{}\n{}", self.stdout, self.stderr)
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

/// Runs the binary to its end with exactly these words; killed, and without an exit code, when it does not end.
#[track_caller]
pub fn run<S: AsRef<str>>(words: &[S], input: &str) -> Output {
    run_in(&[], words, input)
}

#[track_caller]
fn run_in<S: AsRef<str>>(environment: &[(String, String)], words: &[S], input: &str) -> Output {
    let mut child = binary()
        .envs(environment.iter().cloned())
        .args(words.iter().map(AsRef::as_ref))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that reads nothing may be gone already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let stdout = read_all(child.stdout.take().unwrap());
    let stderr = read_all(child.stderr.take().unwrap());
    let give_up = Instant::now() + DEADLINE;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > give_up {
            let _ = child.kill();
            break child.wait().unwrap();
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    };
    Output {
        code: status.code(),
        stdout: stdout.join().unwrap(),
        stderr: stderr.join().unwrap(),
    }
}

fn read_all(mut stream: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_passgate"));
    command
        .env_remove("PASSGATE_CONFIG")
        .env_remove("RUST_LOG")
        .env("NO_COLOR", "1");
    // The tests may themselves run in a service.
    command
        .env_remove("PASSGATE_LOG")
        .env_remove("STATE_DIRECTORY")
        .env_remove("CREDENTIALS_DIRECTORY");
    command
}

/// The binary with a limit on files; a write beyond it fails, and does not end the process.
fn limited(bytes: u64) -> Command {
    let binary = binary();
    let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$@\"", bytes / 512);
    let mut command = Command::new("sh");
    command.args(["-c", &script, "sh"]).arg(binary.get_program());
    for (name, value) in binary.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

fn complete(toml: &str) -> String {
    let has = |table: &str| toml.lines().any(|line| line.trim() == table);
    let mut toml = toml.to_owned();
    toml.push('\n');
    if !has("[server]") {
        toml.push_str("[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"http://app.test\"\n");
    }
    if !has("[admin]") {
        toml.push_str("[admin]\nlisten = \"127.0.0.1:0\"\n");
    }
    if !has("[state]") {
        toml.push_str("[state]\nurl = \"sqlite:passgate.db\"\n");
    }
    toml
}

/// A running gateway. It is killed when this is dropped.
pub struct Gateway {
    /// Its directory.
    pub setup: Setup,
    /// The first TCP address it listens on; port 0 where it only listens on unix sockets.
    pub address: SocketAddr,
    /// Where its admin endpoints are; port 0 where that is a unix socket.
    pub admin: SocketAddr,
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    diagnostics: Arc<Mutex<Vec<String>>>,
}

impl Gateway {
    /// Starts the gateway with this configuration (see [`Setup::new`]) and waits until it listens.
    #[track_caller]
    pub fn start(toml: &str) -> Self {
        Setup::new(toml).start()
    }

    /// What `explain` says of a request with this gateway's file.
    #[track_caller]
    pub fn explain(&self, method: &str, url: &str, fields: &[(impl Display, impl Display)]) -> Value {
        let question = ExplainRequest {
            method: method.to_owned(),
            url: url.to_owned(),
            headers: fields
                .iter()
                .map(|(name, value)| format!("{name}: {value}"))
                .collect(),
            subject: None,
            roles: Vec::new(),
            scopes: Vec::new(),
            claims: Vec::new(),
            from: None,
        };
        explain(&self.setup.path("gateway.toml"), &question).unwrap().json
    }

    /// Starts it with the issuer `corp`, an upstream `app` of these servers, and these further tables.
    #[track_caller]
    pub fn before(app: &super::App, toml: &str) -> Self {
        Self::start(&before(app, toml))
    }

    #[track_caller]
    fn launch(setup: Setup) -> Self {
        let mut child = setup
            .run_command()
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = collect(child.stdout.take().unwrap());
        let diagnostics = collect(child.stderr.take().unwrap());
        let unknown = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut gateway = Self {
            setup,
            address: unknown,
            admin: unknown,
            child,
            log,
            diagnostics,
        };
        let give_up = Instant::now() + DEADLINE;
        loop {
            let said = gateway.diagnostics();
            let listening = announced(&said, "listening on ");
            if let (Some(place), Some(admin)) = (listening.first(), announced(&said, "admin on ").first()) {
                gateway.address = address(place).unwrap_or(unknown);
                gateway.admin = address(admin).unwrap_or(unknown);
                return gateway;
            }
            if let Some(status) = gateway.child.try_wait().unwrap() {
                panic!(
                    "the gateway ended at once with {status}:\n{}",
                    gateway.diagnostics().join("\n")
                );
            }
            assert!(
                Instant::now() < give_up,
                "the gateway does not listen:\n{}",
                said.join("\n")
            );
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }

    /// Everything it said it listens on.
    pub fn listening(&self) -> Vec<String> {
        announced(&self.diagnostics(), "listening on ")
    }

    /// Sends a request over a connection of its own.
    #[track_caller]
    pub fn send(&self, request: &Request) -> Response {
        request.send_to(self.address)
    }

    /// A GET without a credential.
    #[track_caller]
    pub fn get(&self, target: &str) -> Response {
        self.send(&Request::get(target))
    }

    /// A GET with a bearer token.
    #[track_caller]
    pub fn get_as(&self, token: &str, target: &str) -> Response {
        self.send(&Request::get(target).bearer(token))
    }

    /// Exactly these bytes, and the first answer to them.
    #[track_caller]
    pub fn send_bytes(&self, bytes: impl AsRef<[u8]>) -> Response {
        self.connect().send(bytes).response()
    }

    /// A raw connection.
    #[track_caller]
    pub fn connect(&self) -> super::Client {
        super::Client::connect(self.address)
    }

    /// A GET on the admin port.
    #[track_caller]
    pub fn admin_get(&self, target: &str) -> Response {
        Request::get(target)
            .host(&self.admin.to_string())
            .send_to(self.admin)
    }

    /// All access log lines so far.
    pub fn log(&self) -> Vec<Value> {
        self.log_text()
            .iter()
            .filter(|line| !line.trim().is_empty())
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in log line {line:?}"))
            })
            .collect()
    }

    /// All lines on standard output so far.
    pub fn log_text(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// The first access log line that fits, waiting for it.
    #[track_caller]
    pub fn log_line(&self, mut fits: impl FnMut(&Value) -> bool) -> Value {
        let mut found = None;
        let give_up = Instant::now() + DEADLINE;
        while found.is_none() {
            found = self.log().into_iter().find(|line| fits(line));
            if found.is_none() {
                assert!(
                    Instant::now() < give_up,
                    "no such log line in:\n{}",
                    self.log_text().join("\n")
                );
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
        found.unwrap()
    }

    /// The access log line of this answer, found by its request id.
    #[track_caller]
    pub fn log_of(&self, response: &Response) -> Value {
        let id = response.json()["request_id"]
            .as_str()
            .expect("`request_id` is a string")
            .to_owned();
        self.log_line(|line| line["request_id"] == id.as_str())
    }

    /// All lines on standard error so far.
    pub fn diagnostics(&self) -> Vec<String> {
        self.diagnostics.lock().unwrap().clone()
    }

    /// Waits until a line on standard error holds this text.
    #[track_caller]
    pub fn diagnostic(&self, text: &str) {
        eventually(&format!("standard error says {text:?}"), || {
            self.diagnostics().iter().any(|line| line.contains(text))
        });
    }

    /// Runs a command with the configuration of this gateway.
    #[track_caller]
    pub fn command<S: AsRef<str>>(&self, words: impl IntoIterator<Item = S>) -> Output {
        self.setup.command(words)
    }

    /// The same with something on standard input.
    #[track_caller]
    pub fn command_with_input<S: AsRef<str>>(
        &self,
        words: impl IntoIterator<Item = S>,
        input: &str,
    ) -> Output {
        self.setup.command_with_input(words, input)
    }

    /// Sends a signal, `TERM` or `HUP`.
    #[track_caller]
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", name, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Bytes of its memory that are not swapped out.
    pub fn resident_bytes(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .expect("a running process has one");
        line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
    }

    /// Waits for the end of the process.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the gateway ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Whether the process has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// SIGTERM, and the exit code.
    #[track_caller]
    pub fn stop(&mut self) -> Option<i32> {
        self.signal("TERM");
        self.wait().code()
    }

    /// Starts it again from the same directory, after it has ended in whatever way.
    #[track_caller]
    pub fn revive(mut self) -> Self {
        assert!(self.has_ended(), "it is still running");
        let unused = Setup {
            file_limit: None,
            directory: tempfile::tempdir().unwrap(),
            environment: Vec::new(),
        };
        let setup = std::mem::replace(&mut self.setup, unused);
        setup.start()
    }

    /// Stops it and starts it again from the same directory.
    #[track_caller]
    pub fn restart(mut self) -> Self {
        assert_eq!(self.stop(), Some(0));
        self.revive()
    }
}

impl Drop for Gateway {
    #[expect(
        clippy::print_stderr,
        reason = "what the gateway said belongs beside the failure of a test"
    )]
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the gateway said:\n{}", self.diagnostics().join("\n"));
            let log = self.log_text();
            eprintln!(
                "--- its access log ends with:\n{}",
                log[log.len().saturating_sub(20)..].join("\n")
            );
        }
    }
}

/// The configuration of [`Gateway::before`].
pub fn before(app: &super::App, toml: &str) -> String {
    format!(
        "{CORP_ISSUER}\n[upstreams.app]\nservers = [{}]\n\n{toml}",
        app.url()
    )
}

fn collect(stream: impl Read + Send + 'static) -> Arc<Mutex<Vec<String>>> {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let shared = lines.clone();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            shared
                .lock()
                .unwrap()
                .push(String::from_utf8_lossy(&line).trim_end().to_owned());
            line.clear();
        }
    });
    lines
}

/// What follows `words` in each line that has them, up to the next space.
fn announced(lines: &[String], words: &str) -> Vec<String> {
    lines
        .iter()
        .filter_map(|line| line.split_once(words))
        .map(|(_, place)| place.split_whitespace().next().unwrap_or_default().to_owned())
        .collect()
}

fn address(place: &str) -> Option<SocketAddr> {
    place.split_once("://")?.1.parse().ok()
}

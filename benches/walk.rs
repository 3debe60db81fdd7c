//! A whole request: a client's bytes in, an app's answer out, with everything between them real: the connection, routes,
//! an RS256 token that the worker knows, a role, revocations in force, identity headers, the access log and metrics.
//!
//! One thread, as a worker is. Clients hand their requests over in memory; the app is a stub that answers every request
//! with the same bytes over a unix socket, on the same thread. `(floor)` is what clients and app cost without a gateway
//! between them, over the same kind of socket: it is in every other row as well.
//!
//! Instructions are those in user space; of about ten microseconds that the kernel takes for a request's system calls
//! they show nothing, and the nanoseconds show it for unix sockets instead of TCP.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use arc_swap::ArcSwap;
use passgate::internals::app::{self, Joined};
use passgate::internals::clock::Clock;
use passgate::internals::forward::Pool;
use passgate::internals::gateway::{SignIn, WorkerContext};
use passgate::internals::http::client::Share;
use passgate::internals::identity::SESSION_ISSUER;
use passgate::internals::login::Sites;
use passgate::internals::observe::{AccessLog, Decisions, Metrics, WorkerTelemetry};
use passgate::internals::revocation::{self, Revocation};
use passgate::internals::route::NamedHosts;
use passgate::internals::server::connection::{Accepted, serve};
use passgate::internals::server::context::Context;
use passgate::internals::signing::{Kind, SigningAlgorithm, SigningKeys};
use passgate::internals::state::sqlite::Sqlite;
use passgate::internals::verify::{Issuers, KeySet, LocalCache, Origin, Revocations, Verifier};
use serde_json::{Map, Value, json};
use support::tokens::{Key, jwks, now};
use support::{Bench, main as measure};
use tikv_jemallocator::Jemalloc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;

mod support;

/// As in the binary.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Connections at once; each sends its next request when it has the answer to the last one.
const CONNECTIONS: usize = 16;
/// What fits into the pipe between a client and the gateway.
const PIPE: usize = 64 * 1024;
/// The name of the session cookie.
const COOKIE: &str = "__Host-session";
/// What the app says to everything.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nserver: stub\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
    content-type: application/json\r\ncontent-length: 28\r\n\r\n{\"id\":42,\"name\":\"a gadget\"}\n";

const TOML: &str = r#"
[server]
listen = "127.0.0.1:0"
public_url = "http://app.example.com"
workers = 1
min_rate = 0
[issuers.corp]
issuer = "https://id.example.com"
audiences = ["api"]
algorithms = ["RS256"]
roles_claims = ["realm_access.roles"]
jwks_file = "corp.jwks"
[upstreams.app]
servers = ["unix:app.sock"]
[upstreams.whoami]
builtin = "whoami"
[[routes]]
path = "/public/*"
auth = "none"
upstream = "app"
[[routes]]
path = "/whoami/*"
roles = ["admin", "ops"]
upstream = "whoami"
[[routes]]
path = "/api/{version}/items/*"
roles = ["admin", "ops"]
upstream = "app"
[[routes]]
path = "/internal/*"
roles = ["root"]
upstream = "app"
"#;

fn main() {
    let get = |path: &'static str| move |credential: Option<&str>| request("GET", path, credential, "");
    let post = |credential: Option<&str>| request("POST", "/api/v1/items/42", credential, &"x".repeat(1024));
    measure(
        write_fixture,
        vec![
            Bench::new("app alone (floor)", |directory| {
                let runtime = runtime();
                let app = start_app(&runtime, directory);
                let request = request("GET", "/api/v1/items/42?page=3", Some(&bearer(directory)), "");
                let streams = (0..CONNECTIONS)
                    .map(|_| {
                        runtime
                            .block_on(UnixStream::connect(&app))
                            .expect("the app listens")
                    })
                    .collect();
                converse(runtime, streams, request, 200)
            }),
            bench(
                "no authentication",
                "",
                200,
                Credential::None,
                get("/public/items/42?page=3"),
            ),
            bench(
                "role",
                "",
                200,
                Credential::Bearer,
                get("/api/v1/items/42?page=3"),
            ),
            bench(
                "role, session cookie",
                "",
                200,
                Credential::Cookie,
                get("/api/v1/items/42?page=3"),
            ),
            bench(
                "role, assertion",
                "[identity]\nassertion = true\n",
                200,
                Credential::Bearer,
                get("/api/v1/items/42?page=3"),
            ),
            bench("role, body of 1 KiB", "", 200, Credential::Bearer, post),
            bench(
                "role, whoami",
                "",
                200,
                Credential::Bearer,
                get("/whoami/items/42?page=3"),
            ),
            bench(
                "refused, 401",
                "",
                401,
                Credential::None,
                get("/api/v1/items/42?page=3"),
            ),
            bench(
                "refused, 403",
                "",
                403,
                Credential::Bearer,
                get("/internal/items/42?page=3"),
            ),
        ],
    );
}

/// Who asks, and how it is said.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Credential {
    None,
    /// A token of another issuer, by RS256.
    Bearer,
    /// One of our own sessions, by ES256.
    Cookie,
}

/// A bench of one request through a gateway that is configured with [`TOML`] and `more`.
fn bench(
    name: &str,
    more: &'static str,
    status: u16,
    credential: Credential,
    request: impl Fn(Option<&str>) -> String + 'static,
) -> Bench {
    Bench::new(name, move |directory| {
        let runtime = runtime();
        let app = start_app(&runtime, directory);
        let gateway = Running::new(directory, &app, more, credential == Credential::Cookie);
        let line = match credential {
            Credential::None => None,
            Credential::Bearer => Some(bearer(directory)),
            Credential::Cookie => Some(format!("cookie: theme=dark; {COOKIE}={}", gateway.session)),
        };
        let streams = (0..CONNECTIONS).map(|_| gateway.connect(&runtime)).collect();
        let mut run = converse(runtime, streams, request(line.as_deref()), status);
        move |times| {
            let gateway = &gateway; // all of it: the gateway ends with its last part
            // As the watcher of the state does; without it every request that needs a caller is refused with 503.
            gateway.revocations.touch(Instant::now());
            run(times);
        }
    })
}

// The gateway.

/// What the composition root makes of a file, on one worker.
struct Running {
    context: Arc<Context>,
    /// What a session cookie holds.
    session: String,
    revocations: Arc<Revocations>,
    /// The gateway ends when it is dropped.
    _draining: watch::Sender<bool>,
}

impl Running {
    fn new(directory: &Path, app: &Path, more: &str, has_sign_in: bool) -> Self {
        let file = directory.join("gateway.toml");
        let toml = TOML.replace("unix:app.sock", &format!("unix:{}", app.display()));
        std::fs::write(&file, toml + more).expect("the fixture can be written");
        let metrics = Metrics::new();
        let (mut plan, _) = app::load(&file).expect("the fixture is a good file");
        for route in plan.routes.iter_mut() {
            route.label.series = metrics.route(&route.label.origin.text);
        }
        let settings = &plan.settings;

        // Some are in force, or nothing would be looked up.
        let revocations = Arc::new(Revocations::new());
        revocations.touch(Instant::now());
        revocations.replace((0..100).map(|number| Revocation {
            issuer: "corp".to_owned(),
            target: revocation::Target::Subject(format!("revoked-{number}")),
            revoked_at: now(),
            expires_at: None,
        }));
        let signing = SigningKeys::load_or_create(
            &Sqlite::in_memory().expect("a state in memory"),
            SigningAlgorithm::default(),
            now(),
        )
        .expect("a new key");
        let session = signing
            .sign(Kind::Session, &session_claims(settings.public_url.as_str()))
            .expect("a token");
        let sign_in = has_sign_in.then(|| {
            let (keys, _) =
                KeySet::from_jwks(signing.jwks(now()).to_string().as_bytes(), Origin::File).expect("keys");
            let url = settings.public_url.as_str();
            let (issuers, _) = Issuers::of_own_sessions(SESSION_ISSUER, url, url, keys);
            let verifier = Verifier::new(issuers, Arc::clone(&revocations));
            let sites = Arc::new(Sites::new(&settings.public_url, NamedHosts::default()));
            SignIn {
                bounces: Arc::default(),
                cookie: COOKIE.to_owned(),
                same_site_none: false,
                sites,
                verifier,
                renewal: None,
            }
        });
        let joined = Joined {
            revocations: Arc::clone(&revocations),
            signing: Arc::new(ArcSwap::from_pointee(signing)),
            clock: Clock::system(),
            login: None,
            sign_in,
            rate_limits: Arc::default(),
        };
        let limits = plan.settings.limits.clone();
        let gateway = app::gateway(plan, joined, &metrics).expect("random numbers");
        let log = AccessLog::start(1, Box::new(std::io::sink())).expect("a thread for the log");
        let lane = WorkerContext {
            gateway: Arc::new(gateway),
            pool: Pool::new(Share::Percent(25)),
            cache: Arc::new(Mutex::new(LocalCache::new())),
            session_cache: Arc::new(Mutex::new(LocalCache::new())),
            desk: Arc::new(
                WorkerTelemetry::new(log.worker(0), metrics.worker(), Decisions::new(1).worker(0))
                    .expect("random numbers"),
            ),
        };
        // The log ends when it is dropped, and this process is as short-lived as it.
        std::mem::forget(log);
        let draining = watch::Sender::new(false);
        let context = Context {
            worker: Arc::new(ArcSwap::from_pointee(lane)),
            tls: None,
            limits,
            draining: draining.subscribe(),
        };
        Self {
            context: Arc::new(context),
            session,
            revocations,
            _draining: draining,
        }
    }

    fn connect(&self, runtime: &Runtime) -> DuplexStream {
        let (client, server) = tokio::io::duplex(PIPE);
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let (activity, exit) = Default::default();
        let accepted = Accepted {
            address: address.into(),
            activity,
            exit,
            step: 0,
            hold: Box::new(()),
        };
        runtime.spawn(serve(Arc::clone(&self.context), server, accepted));
        client
    }
}

// Its neighbours.

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

/// Starts an app on `runtime` and returns where it listens.
fn start_app(runtime: &Runtime, directory: &Path) -> PathBuf {
    static APPS: AtomicU64 = AtomicU64::new(0);
    let number = APPS.fetch_add(1, Ordering::Relaxed);
    let socket = directory.join(format!("app-{}-{number}.sock", std::process::id()));
    let _inside = runtime.enter();
    let listener = UnixListener::bind(&socket).expect("a socket");
    runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer_all(stream));
        }
    });
    socket
}

/// Answers every head that ends, after the body that it announces.
async fn answer_all(mut stream: UnixStream) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(16 * 1024);
    loop {
        let length = loop {
            if let Some(end) = memchr::memmem::find(&buffer, b"\r\n\r\n") {
                let has_body = buffer.starts_with(b"POST ");
                break end + 4 + if has_body { 1024 } else { 0 };
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        while buffer.len() < length {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        buffer.drain(..length);
        stream.write_all(ANSWER).await?;
    }
}

/// A client at each of `streams`, who sends `request` and reads the answer, which must have this status; all of them
/// together as often as they are told.
fn converse<S>(runtime: Runtime, streams: Vec<S>, request: String, status: u16) -> impl FnMut(u64)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let request: Arc<str> = request.into();
    let beginning: Arc<str> = format!("HTTP/1.1 {status} ").into();
    let mut clients: Vec<_> = streams
        .into_iter()
        .map(|stream| Client {
            stream,
            request: Arc::clone(&request),
            beginning: Arc::clone(&beginning),
            length: None,
            buffer: vec![0; PIPE],
        })
        .collect();
    move |times| {
        let left = Arc::new(AtomicU64::new(times));
        clients = runtime.block_on(async {
            let mut working = JoinSet::new();
            for client in clients.drain(..) {
                working.spawn(client.work(Arc::clone(&left)));
            }
            working.join_all().await
        });
    }
}

struct Client<S> {
    stream: S,
    request: Arc<str>,
    /// Of every answer.
    beginning: Arc<str>,
    /// Of the first answer; all others are as long.
    length: Option<usize>,
    buffer: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    async fn work(mut self, left: Arc<AtomicU64>) -> Self {
        while left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .is_ok()
        {
            self.stream
                .write_all(self.request.as_bytes())
                .await
                .expect("the connection stays open");
            let mut read = 0;
            while self.length.is_none_or(|length| read < length) {
                let more = self
                    .stream
                    .read(&mut self.buffer[read..])
                    .await
                    .expect("the connection stays open");
                assert!(more > 0, "the connection was closed");
                read += more;
                if self.length.is_none() {
                    self.length = whole(&self.buffer[..read]);
                }
            }
            let answer = &self.buffer[..read];
            assert_eq!(self.length, Some(read));
            assert!(
                answer.starts_with(self.beginning.as_bytes()),
                "{}",
                String::from_utf8_lossy(answer)
            );
        }
        self
    }
}

/// The length of an answer, once it is all there.
fn whole(answer: &[u8]) -> Option<usize> {
    let end = memchr::memmem::find(answer, b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&answer[..end])
        .expect("a head in ASCII")
        .to_ascii_lowercase();
    let (_, rest) = head
        .split_once("content-length: ")
        .expect("answers here say how long they are");
    let length: usize = rest.split("\r\n").next()?.parse().expect("a number");
    (answer.len() >= end + length).then_some(end + length)
}

// What they say.

fn write_fixture(directory: &Path) {
    let key = Key::new("RS256", "2027-01");
    let write = |name: &str, text: String| {
        std::fs::write(directory.join(name), text).expect("the fixture can be written");
    };
    write("corp.jwks", jwks([&key]));
    let now = now();
    let claims = json!({
        "iss": "https://id.example.com", "aud": ["api"], "sub": "0b8f53e2-6ad4-44a9-b7e7-2a9d4c7f1e10",
        "iat": now, "nbf": now, "exp": now + 86_400, "jti": "7c1be0a4-5a3c-4c0f-9d61-70f1a3c2b9de", "azp": "spa",
        "email": "ann@example.com", "email_verified": true, "name": "Ann Example",
        "realm_access": { "roles": ["user", "admin"] }, "scope": "openid email profile",
    });
    write("token", key.token(&claims));
}

/// A header line with the token of the fixture.
fn bearer(directory: &Path) -> String {
    let token = std::fs::read_to_string(directory.join("token")).expect("the fixture is there");
    format!("authorization: Bearer {token}")
}

/// What our own session tokens say.
fn session_claims(public_url: &str) -> Map<String, Value> {
    let now = now();
    let claims = json!({
        "iss": public_url, "aud": public_url, "sub": "0b8f53e2-6ad4-44a9-b7e7-2a9d4c7f1e10",
        "email": "ann@example.com", "name": "Ann Example", "roles": ["admin", "user"],
        "sid": "01a2010c-1979-7280-b349-5493364df83c", "jti": "01a2010c-1979-7280-b349-5493364df83d",
        "iat": now, "exp": now + 86_400,
    });
    claims.as_object().cloned().unwrap_or_default()
}

/// A request as a program sends it.
fn request(method: &str, target: &str, credential: Option<&str>, body: &str) -> String {
    let mut request = format!(
        "{method} {target} HTTP/1.1\r\nhost: app.example.com\r\nuser-agent: orders/4.1\r\naccept: application/json\r\n\
         accept-encoding: gzip\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n"
    );
    if let Some(line) = credential {
        request += &format!("{line}\r\n");
    }
    if !body.is_empty() {
        request += &format!("content-type: text/plain\r\ncontent-length: {}\r\n", body.len());
    }
    request + "\r\n" + body
}

//! What the running gateway prints for people: standard error and the lines of the start.
//!
//! Input: addresses, settings, the plan. Output: text through [`Diagnostics`], which never blocks the thread that prints.

use std::cell::OnceCell;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::config::Plan;
use super::config_tests;
use super::settings::Settings;
use crate::clock::Clock;
use crate::identity::{Caller, SESSION_ISSUER};
use crate::observe::{Diagnostics, LevelSwitch};
use crate::refusal::Refusal;
use crate::server::listen::{Address, Listener};
use crate::server::worker::OpenSocket;
use crate::values::RequestLine;

/// The longest wait at the end of the process for readers of standard error and of the access log.
pub(super) const READER_PATIENCE: Duration = Duration::from_secs(1);

/// Standard error, for diagnostics; standard output is the access log.
pub(super) struct Console {
    pub(super) diagnostics: Diagnostics,
    pub(super) level: LevelSwitch,
    /// When to stop waiting for a reader, once the end has begun. One reader may have both streams, so both share it.
    until: OnceCell<Instant>,
}

impl Console {
    /// Starts the thread that prints and makes it the destination of `tracing`.
    ///
    /// # Errors
    /// The system has no thread or file descriptor left.
    pub(super) fn start() -> std::io::Result<Self> {
        let diagnostics = Diagnostics::start()?;
        Ok(Self {
            level: diagnostics.install(super::has_color()),
            diagnostics,
            until: OnceCell::new(),
        })
    }

    pub(super) fn say(&self, text: &str) {
        self.diagnostics.say(text);
    }

    /// The end has begun: from now on a reader gets [`READER_PATIENCE`].
    pub(super) fn begin_end(&self) -> Instant {
        *self.until.get_or_init(|| Instant::now() + READER_PATIENCE)
    }

    /// Waits until all is printed, or for the rest of [`READER_PATIENCE`].
    pub(super) fn flush(&self) {
        let left = self.begin_end().saturating_duration_since(Instant::now());
        self.diagnostics.flush(left);
    }

    /// The addresses that the gateway accepts connections on.
    pub(super) fn say_addresses(
        &self,
        settings: &Settings,
        sockets: &[Arc<OpenSocket>],
        admin: Option<&Listener>,
    ) {
        for socket in sockets {
            let address = socket.listener.address();
            self.say(&if socket.redirects {
                format!(
                    "redirecting {} to {}\n",
                    shown(&address, false),
                    settings.public_url
                )
            } else {
                format!("listening on {}\n", shown(&address, settings.tls.is_some()))
            });
        }
        if let Some(admin) = admin {
            self.say(&format!("admin on {}\n", shown(&admin.address(), false)));
        }
    }
}

fn shown(address: &Address, tls: bool) -> String {
    match address {
        Address::Tcp(address) => format!("{}://{address}", if tls { "https" } else { "http" }),
        other => other.to_string(),
    }
}

/// Whether the commands of [`introduction`] work with this configuration.
pub(super) fn is_demo(plan: &Plan) -> bool {
    let alice = config_tests::identity(
        SESSION_ISSUER,
        "alice",
        vec!["user".to_owned()],
        Vec::new(),
        serde_json::Map::new(),
    );
    let alice = Arc::new(Caller::new(alice));
    let refusal = |path, caller| {
        let line = RequestLine::parse("GET", path).ok()?;
        Some(
            config_tests::decide(plan, &line, None, caller, None, Clock::system().now(), false)
                .err()
                .map(|rejection| rejection.refusal),
        )
    };
    plan.upstreams
        .iter()
        .any(|upstream| upstream.is_builtin() && !upstream.is_served_elsewhere())
        && refusal("/hello", None) == Some(Some(Refusal::CredentialMissing))
        && refusal("/hello", Some(Arc::clone(&alice))) == Some(None)
        && refusal("/admin/users", Some(alice)) == Some(Some(Refusal::RoleRefused))
}

/// Commands to try the gateway out with.
pub(super) fn introduction(file: &Path, settings: &Settings, listener: Option<&Listener>) -> String {
    let program = std::env::current_exe().ok();
    let here = std::env::current_dir().ok();
    let program = match (&program, &here) {
        (Some(program), Some(here)) => program
            .strip_prefix(here)
            .unwrap_or(program)
            .display()
            .to_string(),
        _ => "passgate".to_owned(),
    };
    let url = match listener.map(Listener::address) {
        Some(Address::Tcp(address)) => shown(&Address::Tcp(address), settings.tls.is_some()),
        _ => settings.public_url.to_string(),
    };
    let file = file.display();
    format!(
        "
try it in another terminal, in the same directory:

  TOKEN=$({program} token mint -c {file} --subject alice --role user)
  curl -H \"Authorization: Bearer $TOKEN\" {url}/hello                 # 200: the app gets X-Auth-User: alice
  curl -i {url}/hello                                                # 401: no token
  curl -i -H \"Authorization: Bearer $TOKEN\" {url}/admin/users        # 403: alice has no role `admin`
  {program} explain -c {file} GET {url}/admin/users --as alice --role user

"
    )
}

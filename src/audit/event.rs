//! What the audit log says: a closed list of events, who did it, and from where.
//!
//! Input: values of the state and of a request. Output: one line of JSON (RFC 8259). Invariants: an event has no field for a
//! password, a token or a hash; text that a client chose has passed [`text`].

use std::io;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::Serialize;

use crate::clock::UnixSeconds;
use crate::state::{AccountRow, EndCause};
use crate::values::text::is_unprintable;

/// The most characters of a text of foreign origin.
const LONGEST: usize = 256;

/// Foreign text as a line shows it: at most 256 characters, without those that break a line or say something to a terminal.
#[must_use]
pub(crate) fn text(foreign: &str) -> String {
    let mut letters = foreign.chars();
    let printable = |letter: char| match is_unprintable(letter) {
        true => char::REPLACEMENT_CHARACTER,
        false => letter,
    };
    let mut kept: String = letters.by_ref().take(LONGEST).map(printable).collect();
    if letters.next().is_some() {
        kept.push('…');
    }
    kept
}

/// The account that an act is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Whom {
    id: String,
    email: Option<String>,
}

impl Whom {
    pub(crate) fn new(id: &str, email: Option<&str>) -> Self {
        Self {
            id: text(id),
            email: email.map(text),
        }
    }
}

impl From<&AccountRow> for Whom {
    fn from(account: &AccountRow) -> Self {
        Self::new(&account.id, account.known_email())
    }
}

/// Who did it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum Actor {
    /// A caller with a session.
    Account(Whom),
    /// A client that is not signed in.
    Client,
    /// A provider, by what it sent itself.
    Provider { name: String },
    /// A user of the machine, by a command.
    Command { uid: u32, user: Option<String> },
    /// The gateway itself.
    Gateway,
}

/// Who did it, and from where.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) actor: Actor,
    /// The address of the client.
    pub(crate) client: Option<IpAddr>,
    /// The id in the access log.
    pub(crate) request_id: Option<String>,
}

impl Origin {
    /// What happens without a request.
    pub(crate) fn gateway() -> Self {
        Self {
            actor: Actor::Gateway,
            client: None,
            request_id: None,
        }
    }

    /// A command that the user of this process runs.
    pub(crate) fn command() -> Self {
        let uid = rustix::process::getuid().as_raw();
        let name_of = |users: String| {
            let mut named = users.lines().filter_map(|line| {
                let mut fields = line.split(':');
                let (name, _, id) = (fields.next()?, fields.next()?, fields.next()?);
                (id.parse() == Ok(uid)).then(|| text(name))
            });
            named.next()
        };
        Self {
            actor: Actor::Command {
                uid,
                user: std::fs::read_to_string("/etc/passwd").ok().and_then(name_of),
            },
            client: None,
            request_id: None,
        }
    }

    /// What a provider did.
    pub(crate) fn provider(name: &str) -> Self {
        Self {
            actor: Actor::Provider { name: text(name) },
            client: None,
            request_id: None,
        }
    }
}

/// An act.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(crate) enum Event {
    /// The gateway started with this configuration.
    Started {
        file: String,
        sha256: Option<String>,
    },
    /// A changed configuration was taken.
    Reloaded {
        file: String,
        sha256: Option<String>,
    },
    /// A changed configuration was refused, and the one in use stays.
    ReloadRefused {
        file: String,
        sha256: Option<String>,
        reason: String,
    },
    /// A session was opened.
    SignedIn {
        account: Whom,
        session: String,
        /// `browser` or `client`
        kind: &'static str,
        /// The provider; `None`: a password.
        provider: Option<String>,
    },
    /// What was presented did not open a session.
    SignInRefused {
        /// As it was typed, or as the provider named it.
        email: Option<String>,
        provider: Option<String>,
        reason: &'static str,
    },
    /// A session ended before its time.
    SessionEnded {
        /// `None` where a provider named its own session.
        account: Option<Whom>,
        session: String,
        cause: EndCause,
    },
    /// An account was added.
    AccountCreated {
        account: Whom,
        roles: Vec<String>,
        /// The provider that it was made by.
        provider: Option<String>,
    },
    AccountConfirmed {
        account: Whom,
    },
    AccountDisabled {
        account: Whom,
    },
    AccountEnabled {
        account: Whom,
    },
    AccountDeleted {
        account: Whom,
        roles: Vec<String>,
    },
    NameChanged {
        account: Whom,
    },
    PasswordChanged {
        account: Whom,
    },
    /// All roles, also those that its identities at providers give.
    RolesChanged {
        account: Whom,
        before: Vec<String>,
        after: Vec<String>,
    },
    /// An identity at a provider was added to an account.
    LinkAdded {
        account: Whom,
        provider: String,
        subject: String,
    },
    /// One was removed.
    LinkRemoved {
        account: Whom,
        provider: String,
        subject: String,
    },
    /// The first signing key of a state was made.
    SigningKeyCreated {
        key: String,
        algorithm: &'static str,
    },
    /// A new signing key took the place of the active one.
    SigningKeyRotated {
        key: String,
        algorithm: &'static str,
    },
    /// A token was made by a command.
    TokenMinted {
        subject: String,
        roles: Vec<String>,
        key: String,
        expires: Option<String>,
    },
    /// Tokens of an issuer are refused from now on.
    Revoked {
        issuer: String,
        /// `token`, `subject` or `session`
        kind: &'static str,
        name: String,
    },
}

/// RFC 3339 in UTC.
pub(crate) fn rfc3339(at: UnixSeconds) -> Option<String> {
    Timestamp::from_second(at).ok().map(|at| at.to_string())
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    #[serde(flatten)]
    event: &'a Event,
    actor: &'a Actor,
    client: Option<IpAddr>,
    request_id: Option<&'a str>,
}

/// Appends the line of an event.
///
/// # Errors
/// Never, for what these types hold.
pub(super) fn append(lines: &mut Vec<u8>, now: Timestamp, origin: &Origin, event: &Event) -> io::Result<()> {
    // Who signs in is known once it is done.
    let itself = match (event, &origin.actor) {
        (Event::SignedIn { account, .. }, Actor::Client | Actor::Account(_)) => {
            Some(Actor::Account(account.clone()))
        }
        _ => None,
    };
    let line = Line {
        time: now.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
        event,
        actor: itself.as_ref().unwrap_or(&origin.actor),
        client: origin.client,
        request_id: origin.request_id.as_deref(),
    };
    serde_json::to_writer(&mut *lines, &line)?;
    lines.push(b'\n');
    Ok(())
}

//! What outlives the process: accounts, sessions, revocations, our own signing keys, the last good key set of each issuer.
//!
//! Input: `state.url` of the TOML and values to keep. Output: the same values, also after `kill -9` at any point, and a
//! [`Version`] that tells cheaply whether another process wrote. Invariants: no decision about a request, and no call from
//! a worker thread: every method blocks; call them from the control runtime's blocking pool and from the command line.
//!
//! An engine is a folder and one line in [`KINDS`]; `contract/` is the suite that each one passes. To keep something new:
//! its rows and the methods of its trait here, a step at the end of `sqlite/schema.rs`, a file of statements beside
//! `sqlite/revocations.rs`, and its promises in `contract/`.

mod account;
mod authority;
mod code;
#[cfg(test)]
mod contract;
pub(crate) mod email;
mod ending;
mod error;
mod grant;
mod identity;
mod key;
mod revocation;
mod session;
pub(crate) mod sqlite;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use account::AccountRow;
pub(crate) use account::{AccountChange, AccountStore, Added};
pub use authority::Authorities;
pub(crate) use code::{ClientCodeRow, CodeRow, CodeStore, MOST_CODES};
pub(crate) use ending::{EndCause, EndSessions, TOKEN_MARGIN};
pub(crate) use error::{StateError, StateErrorKind};
pub(crate) use grant::{GrantRow, GrantStore, Lease};
pub(crate) use identity::{IdentityRow, IdentityStore, Linked, MOST_IDENTITIES, Unlinked, Ways};
pub(crate) use key::{SigningKeyRow, SigningKeyStore};
pub(crate) use revocation::{PURGED_AT_ONCE, Reading, RevocationStore, Version};
pub use session::{Authentication, RefreshRow, SessionRow};
pub(crate) use session::{RefreshExchange, Rotation, SessionSelector, SessionStore, Sighting, TokenHash};

/// What is kept. Each method that writes has written durably when it returns `Ok`.
pub trait State:
    AccountStore + IdentityStore + SessionStore + GrantStore + CodeStore + RevocationStore + SigningKeyStore
{
}

impl<T> State for T where
    T: AccountStore
        + IdentityStore
        + SessionStore
        + GrantStore
        + CodeStore
        + RevocationStore
        + SigningKeyStore
{
}

/// An engine that `state.url` can name: all that the rest of the gateway knows of it.
#[derive(Debug)]
pub(crate) struct Kind {
    /// The part of the URL before the first colon.
    pub scheme: &'static str,
    /// An example of a URL, for hints.
    pub example: &'static str,
    /// The file at the rest of the URL, seen from a directory, where the engine keeps everything in one.
    file: fn(&str, &Path) -> Option<PathBuf>,
    /// Opens it, and makes it where there is nothing.
    open: Open,
}

type Open = fn(&str, &Path) -> Result<Arc<dyn State>, StateError>;

/// All engines.
pub(crate) const KINDS: &[Kind] = &[sqlite::KIND];

/// Finds the engine of a URL without opening anything; the rest of the URL comes with it.
///
/// # Errors
/// No engine has the scheme, or nothing follows it.
pub(crate) fn recognize(url: &str) -> Result<(&'static Kind, &str), StateError> {
    let refused = |text: String| StateError::new(StateErrorKind::Url, text);
    // Only the scheme is repeated in an error: the rest of a database URL may hold a password.
    let (scheme, rest) = url.split_once(':').unwrap_or((url, ""));
    let Some(kind) = KINDS.iter().find(|kind| kind.scheme == scheme) else {
        let scheme: String = scheme.chars().take(32).collect();
        let examples: Vec<_> = KINDS.iter().map(|kind| format!("`{}`", kind.example)).collect();
        return Err(refused(format!(
            "there is no state of kind `{scheme}:`; write {}",
            examples.join(", ")
        )));
    };
    if rest.is_empty() {
        return Err(refused(format!(
            "the state URL names no file; write it like `{}`",
            kind.example
        )));
    }
    Ok((kind, rest))
}

/// The file with the key by which values in the state that `url` names are encrypted, where the configuration names no key.
pub(crate) fn key_file(url: &str, base: &Path) -> PathBuf {
    let beside = |mut path: PathBuf| {
        path.as_mut_os_string().push(".key");
        path
    };
    file(url, base).map_or_else(|| base.join("passgate.key"), beside)
}

/// The file that `url` names, from `base`, where it names one.
pub(crate) fn file(url: &str, base: &Path) -> Option<PathBuf> {
    let (kind, rest) = recognize(url).ok()?;
    (kind.file)(rest, base)
}

/// Opens the state that `url` names, and brings it to the present schema. A relative path starts at `base`.
///
/// # Errors
/// The reason why it cannot be used, with the file and what to do about it.
pub fn open(url: &str, base: &Path) -> Result<Arc<dyn State>, StateError> {
    let (kind, rest) = recognize(url)?;
    (kind.open)(rest, base)
}

/// The same, but where there is nothing yet, nothing is made: the state is then an empty one in memory.
///
/// # Errors
/// As [`open`].
pub(crate) fn open_if_there(url: &str, base: &Path) -> Result<Arc<dyn State>, StateError> {
    let (kind, rest) = recognize(url)?;
    if (kind.file)(rest, base).is_none_or(|file| file.exists()) {
        (kind.open)(rest, base)
    } else {
        Ok(Arc::new(sqlite::Sqlite::in_memory()?))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_url_of_no_known_kind_is_an_error_that_repeats_only_the_scheme() {
        let error = recognize("postgres://gateway:hunter2@db/passgate")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("`postgres:`") && error.contains("`sqlite:passgate.db`"),
            "{error}"
        );
        assert!(!error.contains("hunter2"), "{error}");
        assert!(recognize("memory:").is_err());
        assert!(recognize("").is_err());
        assert!(matches!(
            recognize("sqlite:"),
            Err(error) if error.kind() == StateErrorKind::Url
        ));
        assert_eq!(recognize("sqlite:a.db").unwrap().1, "a.db");
    }

    #[test]
    fn a_relative_path_starts_at_the_base_directory() {
        let directory = tempfile::tempdir().unwrap();
        open("sqlite:passgate.db", directory.path()).unwrap();
        assert!(directory.path().join("passgate.db").is_file());
    }
}

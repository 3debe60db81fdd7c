//! Why the state cannot be used, whatever the engine.

use std::error::Error;
use std::fmt;

/// Why the state cannot be opened, read or written: what, where, what to do. No text of it holds anything that was stored.
#[derive(Debug)]
pub struct StateError {
    kind: StateErrorKind,
    source: Box<dyn Error + Send + Sync>,
}

/// What a [`StateError`] means, whatever the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateErrorKind {
    /// `state.url` names no engine, or nothing that the engine could open.
    Url,
    /// What the URL names must not be used as it is: its rights, its owner, its content or its schema.
    Unusable,
    /// What is open is no longer what other processes would open.
    Replaced,
    /// Another process holds a lock for too long.
    Locked,
    /// A reading or a write failed.
    Failed,
}

impl StateError {
    /// An engine's own error.
    pub fn new(kind: StateErrorKind, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            kind,
            source: source.into(),
        }
    }

    /// What it means.
    #[must_use]
    pub fn kind(&self) -> StateErrorKind {
        self.kind
    }
}

/// Two errors are the same where they say the same.
impl PartialEq for StateError {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && self.to_string() == other.to_string()
    }
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl Error for StateError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.source()
    }
}

//! Local accounts: what an email address and a password may be, hashing, and who has proven to be whom.
#![allow(clippy::todo, unused_variables, dead_code, missing_docs)]

use std::sync::Arc;

use crate::clock::Clock;
use crate::refusal::Refusal;
use crate::state::{AccountRow, EndSessions, State, StateError};

/// Runs password hashing on few threads of its own, of the lowest priority.
#[derive(Debug)]
pub struct Hasher;

impl Hasher {
    pub fn start(threads: usize) -> std::io::Result<Self> {
        todo!()
    }
    /// `Err(Refusal::Overloaded)` where too many wait already.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
        todo!()
    }
}

#[derive(Clone, Debug)]
pub struct Policy {
    pub min_length: usize,
    pub default_roles: Vec<String>,
}

#[derive(Debug)]
pub struct NewAccount {
    /// `None`: a new UUID v7.
    pub id: Option<String>,
    pub email: String,
    pub name: Option<String>,
    pub roles: Vec<String>,
    pub password_hash: Option<String>,
    pub disabled: bool,
}

/// All methods block, on the state.
#[derive(Debug)]
pub struct Accounts {
    state: Arc<dyn State>,
    clock: Clock,
    policy: Policy,
}

impl Accounts {
    pub fn new(state: Arc<dyn State>, clock: Clock, policy: Policy) -> Self {
        Self { state, clock, policy }
    }
    pub fn policy(&self) -> &Policy {
        &self.policy
    }
    /// Without the state and without hashing.
    pub fn check_new(&self, email: &str, name: Option<&str>, password: &str) -> Result<(), Refusal> {
        todo!()
    }
    pub fn check_password(&self, email: &str, password: &str) -> Result<(), Refusal> {
        todo!()
    }
    /// Inner error: `EmailTaken`, `EmailInvalid`, …; with `first`, `RouteMissing` where it is not the first.
    pub fn add(&self, new: NewAccount, first: bool) -> Result<Result<AccountRow, Refusal>, StateError> {
        todo!()
    }
    pub fn by_id(&self, id: &str) -> Result<Option<AccountRow>, StateError> {
        todo!()
    }
    pub fn has_any(&self) -> Result<bool, StateError> {
        todo!()
    }
    /// Also where there is no such account, or a disabled one: verifying it then costs the same and fails.
    pub fn candidate(&self, email: &str) -> Result<Candidate, StateError> {
        todo!()
    }
    pub fn candidate_by_id(&self, id: &str) -> Result<Candidate, StateError> {
        todo!()
    }
    pub fn rehash(&self, proven: &Proven) -> Result<(), StateError> {
        todo!()
    }
    /// Ends the account's sessions but for `end.keep`.
    pub fn change_password(
        &self,
        id: &str,
        hash: String,
        end: &EndSessions<'_>,
    ) -> Result<Option<AccountRow>, StateError> {
        todo!()
    }
}

/// Computes for tens of milliseconds: on the [`Hasher`], or on the command line.
pub fn hash(password: &str) -> Result<String, Refusal> {
    todo!()
}

#[derive(Debug)]
pub struct Candidate;

impl Candidate {
    /// Computes for tens of milliseconds. `None` for unknown, wrong and disabled alike, after the same work.
    pub fn verify(self, password: &str) -> Option<Proven> {
        todo!()
    }
}

/// Somebody who has given the right password of an account that is not disabled.
#[derive(Debug)]
pub struct Proven {
    pub account: AccountRow,
    /// The hash to be replaced and its replacement, where it is an imported or outdated one.
    pub rehash: Option<(String, String)>,
}

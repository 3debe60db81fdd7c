//! Local accounts as they are kept.

use crate::clock::UnixSeconds;

/// One account.
#[derive(Clone, PartialEq, Eq)]
pub struct AccountRow {
    /// What our tokens have as `sub`, and apps as `X-Auth-User`: it never changes and is never given again. A UUID of
    /// version 7 unless it was imported.
    pub id: String,
    /// The address as it was typed.
    pub email: String,
    /// The address as it is compared: no two accounts have the same.
    pub email_key: String,
    /// The display name.
    pub name: Option<String>,
    /// The roles, in order, each once.
    pub roles: Vec<String>,
    /// The hash of the password, in PHC or modular crypt format; `None`: nobody can sign in by password.
    pub password_hash: Option<String>,
    /// Whether nobody may sign in.
    pub disabled: bool,
    /// When it was made.
    pub created_at: UnixSeconds,
    /// Counts the passwords that it had: who proved to know one may open a session only while it is the present one.
    pub password_version: i64,
}

/// A hash is worth guessing at, so it stands in no log.
impl std::fmt::Debug for AccountRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccountRow")
            .field("id", &self.id)
            .field("email", &self.email)
            .field("roles", &self.roles)
            .field("disabled", &self.disabled)
            .finish_non_exhaustive()
    }
}

/// What adding an account came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is there.
    Done,
    /// Another one has this `email_key`.
    EmailTaken,
    /// Another one has this id.
    IdTaken,
    /// It was to be the first one, and is not.
    NotFirst,
}

/// What is to be different about an account; `None` leaves it as it is.
#[derive(Clone, Default)]
pub struct AccountChange {
    /// The display name.
    pub name: Option<Option<String>>,
    /// All roles.
    pub roles: Option<Vec<String>>,
    /// Whether nobody may sign in.
    pub disabled: Option<bool>,
    /// The hash of a new password; raises `password_version`.
    pub password_hash: Option<String>,
}

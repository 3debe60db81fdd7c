//! Errors of accounts, passwords and hashes.

use super::limits::{MAX_ID_BYTES, MAX_NAME, MAX_PASSWORD_BYTES, MAX_ROLE_BYTES, MAX_ROLES, MAX_ROLES_BYTES};
use crate::state::StateError;

/// Why an account is not added or changed.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum AccountError {
    /// No email address.
    #[error(
        "not an email address: it needs one `@` with text on both sides, no space, and at most 254 bytes"
    )]
    EmailInvalid,
    /// Another account has it.
    #[error("an account with this email address already exists")]
    EmailTaken,
    /// Another account's looks the same.
    #[error("an account exists whose email address looks the same in letters of another script")]
    EmailLookalike,
    /// Cannot be a `sub`.
    #[error("an id has 1 to {MAX_ID_BYTES} bytes of visible text")]
    IdInvalid,
    /// Another account has it.
    #[error("an account with this id already exists")]
    IdTaken,
    /// The account was to be the first one with its role.
    #[error("an enabled account with this role already exists")]
    NotFirst,
    /// Too long, or with characters that end a line or turn it around.
    #[error("a name has at most {MAX_NAME} characters, none of them a control character")]
    NameInvalid,
    /// Empty, too long, or not text that can be seen.
    #[error(
        "`{role}` is not a role: a role is 1 to {MAX_ROLE_BYTES} bytes of visible text, without a space at either end"
    )]
    RoleInvalid {
        /// Its beginning, with what cannot be seen escaped.
        role: String,
    },
    /// Too many.
    #[error("an account has at most {MAX_ROLES} roles")]
    RolesTooMany,
    /// Too long together.
    #[error(
        r#"the roles of an account have at most {MAX_ROLES_BYTES} bytes together, `"` and `\` counted twice"#
    )]
    RolesTooLong,
    /// Easily guessed.
    #[error("the password needs at least {least} characters")]
    PasswordTooShort {
        /// The fewest characters.
        least: usize,
    },
    /// Longer than any password is.
    #[error("the password has more than {MAX_PASSWORD_BYTES} bytes")]
    PasswordTooLong,
    /// On the list of common passwords.
    #[error("the password is too common, or it is the email address")]
    PasswordCommon,
    /// The system has none.
    #[error("cannot make an id: the system has no random numbers")]
    NoRandomNumbers,
    /// The system has no random numbers, or no memory for it.
    #[error("the password could not be hashed: the system has no random numbers or too little memory")]
    HashingFailed,
    /// The state cannot be read or written.
    #[error(transparent)]
    State(#[from] StateError),
    /// An imported hash that cannot be verified.
    #[error("the password hash cannot be used: {0}")]
    Hash(#[from] HashError),
}

/// Why a hash cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// Another format, or no hash at all.
    #[error("its format is none of `$argon2id$`, `$argon2i$`, `$argon2d$`, `$2a$`, `$2b$`, `$2y$`")]
    Unknown,
    /// It begins like a hash and does not go on like one.
    #[error("it begins like {kind}, but its {part} is damaged or cut off")]
    Damaged {
        /// What it begins like.
        kind: &'static str,
        /// What is wrong.
        part: &'static str,
    },
    /// Verifying it would take too much memory or time.
    #[error("`{parameter}` is {value}, and at most {most} is verified here")]
    TooCostly {
        /// Its name in the hash; `cost` for bcrypt's.
        parameter: &'static str,
        /// What it is.
        value: u32,
        /// What it may be.
        most: u32,
    },
}

//! Why a session is not opened, renewed, refreshed or ended.

use crate::signing::SigningError;
use crate::state::StateError;

/// Why a session is not opened, renewed, refreshed or ended.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The account was disabled, deleted or got another password since it was read.
    #[error("the account has changed meanwhile")]
    AccountChanged,
    /// The session at the provider ended while the user signed in by it.
    #[error("the session at the provider has ended")]
    OverAtProvider,
    /// The account has opened too many sessions within a minute.
    #[error("the account opens too many sessions")]
    Throttled,
    /// A refresh token that is not ours, or whose session is over.
    #[error("the refresh token is not valid")]
    RefreshRefused,
    /// A refresh token that was spent before; its session has ended.
    #[error("the refresh token was used before")]
    RefreshReused,
    /// A one-time code that is not valid, for any reason.
    #[error("the one-time code is not valid")]
    CodeRefused,
    /// Browsers would not keep the cookie.
    #[error(
        "the session cookie of account `{account}` would have {bytes} bytes, more than browsers keep (4096): \
         give the account fewer or shorter roles, or a shorter name"
    )]
    CookieTooLong {
        /// Its id.
        account: String,
        /// The length of the token.
        bytes: usize,
    },
    /// A token was not made.
    #[error("cannot make a token of a session: {0}")]
    Signing(#[from] SigningError),
    /// The state cannot be read or written.
    #[error("cannot read or write the sessions: {0}")]
    State(#[from] StateError),
}

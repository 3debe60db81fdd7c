//! Errors of accounts, sessions and the state as refusals. Details go to the log; the client learns only that the service is
//! not available.

use crate::account::{AccountError, HasherError};
use crate::refusal::Refusal;
use crate::session::SessionError;
use crate::state::StateError;

impl From<AccountError> for Refusal {
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::EmailInvalid => Self::EmailInvalid,
            AccountError::EmailTaken | AccountError::EmailLookalike | AccountError::IdTaken => {
                Self::EmailTaken
            }
            // For the second administrator by the link of the first run there is no such endpoint.
            AccountError::NotFirst => Self::RouteMissing,
            AccountError::NameInvalid => Self::NameInvalid,
            AccountError::PasswordTooShort { .. } => Self::PasswordTooShort,
            AccountError::PasswordTooLong => Self::PasswordTooLong,
            AccountError::PasswordCommon => Self::PasswordCommon,
            AccountError::NoRandomNumbers | AccountError::HashingFailed => Self::Internal,
            AccountError::State(error) => error.into(),
            // A client has no field for any of these.
            AccountError::IdInvalid
            | AccountError::RoleInvalid { .. }
            | AccountError::RolesTooMany
            | AccountError::RolesTooLong
            | AccountError::Hash(_) => Self::FormMalformed,
        }
    }
}

impl From<HasherError> for Refusal {
    fn from(error: HasherError) -> Self {
        match error {
            HasherError::Overloaded => Self::Overloaded,
            HasherError::Panicked => Self::Internal,
        }
    }
}

impl From<SessionError> for Refusal {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::AccountChanged => Self::LoginRefused,
            SessionError::OverAtProvider => Self::AttemptRefused,
            SessionError::Throttled => Self::SessionsThrottled,
            SessionError::RefreshRefused => Self::RefreshRefused,
            SessionError::RefreshReused => Self::RefreshReused,
            SessionError::CodeRefused => Self::CodeRefused,
            SessionError::CookieTooLong { .. } | SessionError::Signing(_) => {
                tracing::error!(%error, "cannot open or renew a session");
                Self::Internal
            }
            SessionError::State(error) => error.into(),
        }
    }
}

impl From<StateError> for Refusal {
    fn from(error: StateError) -> Self {
        tracing::error!(%error, "cannot use the state");
        Self::StateUnavailable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_first_account_finds_no_such_endpoint() {
        assert_eq!(Refusal::from(AccountError::NotFirst), Refusal::RouteMissing);
        for taken in [
            AccountError::EmailTaken,
            AccountError::EmailLookalike,
            AccountError::IdTaken,
        ] {
            assert_eq!(Refusal::from(taken), Refusal::EmailTaken);
        }
        for malformed in [AccountError::IdInvalid, AccountError::RolesTooMany] {
            assert_eq!(Refusal::from(malformed), Refusal::FormMalformed);
        }
    }
}

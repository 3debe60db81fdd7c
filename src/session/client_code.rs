//! One-time codes of clients without cookies: a sign-in with a provider ends in one, and the client exchanges it for tokens
//! (RFC 6749 section 4.1, RFC 7636).
//!
//! Input: an account that has signed in, and the client's redirect URI and code challenge; later the code with the verifier.
//! Output: a code, of which only the hash is kept; or the tokens of a new session. Invariants: a code is good once, whatever
//! comes of it, for a minute, with the redirect URI and the verifier of its attempt alone; no log has a code.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::code::CODE_LIFETIME;
use super::error::SessionError;
use super::{Device, Sessions, Tokens};
use crate::clock::UnixSeconds;
use crate::state::{AccountRow, Authentication, ClientCodeRow};

/// What a client began a sign-in with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientAttempt {
    pub(crate) redirect_uri: String,
    /// Base64url of the SHA-256 hash of the verifier (RFC 7636 section 4.2).
    pub(crate) challenge: String,
}

impl Sessions {
    /// A code for an account that has signed in, authenticated as `how` says by a sign-in that began at `begun`; `None` where it
    /// has been deleted.
    ///
    /// # Errors
    /// [`SessionError::OverAtProvider`]; the state cannot be used, or the system has no random numbers.
    pub(crate) fn issue_client_code(
        &self,
        account_id: &str,
        how: Authentication,
        begun: UnixSeconds,
        attempt: ClientAttempt,
    ) -> Result<Option<Zeroizing<String>>, SessionError> {
        let now = self.clock.now();
        if self.is_ended_since(&how, begun)? {
            return Err(SessionError::OverAtProvider);
        }
        let (text, hash) = self.codes.make()?;
        let row = ClientCodeRow {
            hash,
            account_id: account_id.to_owned(),
            redirect_uri: attempt.redirect_uri,
            challenge: attempt.challenge,
            authentication: how,
            expires_at: now.saturating_add(CODE_LIFETIME),
        };
        Ok(self.state.add_client_code(&row, now)?.then_some(text))
    }

    /// Takes a code, whatever comes of it, and opens a session.
    ///
    /// # Errors
    /// [`SessionError::CodeRefused`], for whichever reason; [`SessionError::Throttled`]; the state cannot be used, or signing
    /// fails.
    pub(crate) fn redeem_client_code(
        &self,
        code: &str,
        redirect_uri: &str,
        verifier: &str,
        device: &Device,
    ) -> Result<(Tokens, AccountRow), SessionError> {
        let hash = self.codes.parse(code).ok_or(SessionError::CodeRefused)?;
        let row = self.state.take_client_code(&hash)?;
        let row = row.ok_or(SessionError::CodeRefused)?;
        let left = row.expires_at.saturating_sub(self.clock.now());
        let hash = digest::digest(&digest::SHA256, verifier.as_bytes());
        let challenge = URL_SAFE_NO_PAD.encode(hash);
        // More than all of it is left where the clock was set back: then it is not known how old the code is.
        let is_good = (1..=CODE_LIFETIME).contains(&left)
            && row.redirect_uri == redirect_uri
            && bool::from(challenge.as_bytes().ct_eq(row.challenge.as_bytes()));
        if !is_good {
            return Err(SessionError::CodeRefused);
        }
        let account = self.state.account(&row.account_id)?;
        let account = account.ok_or(SessionError::CodeRefused)?;
        let how = row.authentication.clone();
        let tokens = match self.open_client(&account, row.authentication, device) {
            Err(SessionError::AccountChanged) => return Err(SessionError::CodeRefused),
            opened => opened?,
        };
        // In the second of the code as well: it was made after what had been heard before.
        let issued = row.expires_at.saturating_sub(CODE_LIFETIME);
        self.end_if_over(&tokens.session_id, &how, issued.saturating_sub(1))?;
        Ok((tokens, account))
    }
}

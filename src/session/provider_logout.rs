//! Sessions end because the session at their provider has ended.
//!
//! Input: what a provider said, verified before. Output: the sessions are over, and one that is just being opened by the
//! same session at the provider is over as well. Invariants: what was said once is not heard twice; the marks of it expire.

use super::{SessionError, Sessions};
use crate::clock::UnixSeconds;
use crate::state::{Authentication, EndCause, SessionRow, SessionSelector, State, TokenHash};

/// For how many seconds a session at a provider that has ended opens no session here: as long as a sign-in may take.
const REMEMBERED: UnixSeconds = 10 * 60;

const SESSION_CONTEXT: &str = "passgate 2026-11 provider logout: session";
const SUBJECT_CONTEXT: &str = "passgate 2026-11 provider logout: subject";
const TOKEN_CONTEXT: &str = "passgate 2026-11 provider logout: token";

/// Which sessions a provider ends: those of one of its sessions, or else those of a user.
#[derive(Clone, Debug)]
pub struct ProviderLogout {
    /// The provider's name in the TOML.
    pub provider: String,
    /// The session at the provider.
    pub sid: Option<String>,
    /// The user at the provider.
    pub subject: Option<String>,
}

impl Sessions {
    /// Ends what a logout token says is over; how many sessions that were. The token is remembered for `lifetime` seconds.
    /// `None`: it is known already.
    ///
    /// # Errors
    /// The state cannot be used; then the token can be sent again.
    pub fn end_by_provider(
        &self,
        logout: &ProviderLogout,
        token_id: &str,
        lifetime: UnixSeconds,
    ) -> Result<Option<usize>, SessionError> {
        let (provider, now) = (&*logout.provider, self.clock.now());
        let token = mark(TOKEN_CONTEXT, provider, token_id);
        if self.state.is_spent(&token, now)? {
            return Ok(None);
        }
        let which = match (&logout.sid, &logout.subject) {
            (Some(sid), _) => {
                // Before the sessions are ended: one that is added afterwards finds the mark.
                let hash = mark(SESSION_CONTEXT, provider, sid);
                self.state
                    .spend_attempt(&hash, now.saturating_add(REMEMBERED), now)?;
                SessionSelector::ProviderSession { provider, sid }
            }
            (None, Some(subject)) => {
                // The user may sign in again right away, so that the mark is of this moment.
                let hash = mark_of_subject(provider, subject, now);
                self.state
                    .spend_attempt(&hash, now.saturating_add(REMEMBERED), now)?;
                SessionSelector::ProviderSubject { provider, subject }
            }
            (None, None) => return Ok(Some(0)),
        };
        let ended = self.end(which, EndCause::Provider)?.len();
        // Afterwards, so that a token whose sessions could not be ended is not lost.
        let is_first = self
            .state
            .spend_attempt(&token, now.saturating_add(lifetime), now)?;
        Ok(is_first.then_some(ended))
    }

    /// Whether the provider has ended all sessions of the user since `begun`, when the sign-in began that `how` is of.
    ///
    /// # Errors
    /// The state cannot be used.
    pub(crate) fn is_ended_since(
        &self,
        how: &Authentication,
        begun: UnixSeconds,
    ) -> Result<bool, SessionError> {
        let (Some(provider), Some(subject)) = (&how.provider, &how.provider_subject) else {
            return Ok(false);
        };
        let now = self.clock.now();
        // Longer than marks are kept, there is nothing to find.
        let begun = begun.max(now.saturating_sub(REMEMBERED));
        for moment in begun.saturating_add(1)..=now {
            if self
                .state
                .is_spent(&mark_of_subject(provider, subject, moment), now)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Ends a session that has just been opened, where [`Sessions::is_ended_since`]. To be asked after it was added, so that one
    /// of the two finds the other.
    ///
    /// # Errors
    /// [`SessionError::OverAtProvider`] where it has ended; the state cannot be used.
    pub(crate) fn end_if_over(
        &self,
        session_id: &str,
        how: &Authentication,
        begun: UnixSeconds,
    ) -> Result<(), SessionError> {
        if !self.is_ended_since(how, begun)? {
            return Ok(());
        }
        self.end(SessionSelector::One(session_id), EndCause::Provider)?;
        Err(SessionError::OverAtProvider)
    }
}

fn mark_of_subject(provider: &str, subject: &str, moment: UnixSeconds) -> TokenHash {
    mark(SUBJECT_CONTEXT, provider, &format!("{moment} {subject}"))
}

/// Whether the session at the provider by which `session` was opened has ended meanwhile. To be asked after `session` was
/// added, so that one of the two finds the other.
pub(super) fn is_over_at_provider(
    state: &dyn State,
    session: &SessionRow,
    now: UnixSeconds,
) -> Result<bool, SessionError> {
    let how = &session.authentication;
    let (Some(provider), Some(sid)) = (&how.provider, &how.provider_sid) else {
        return Ok(false);
    };
    Ok(state.is_spent(&mark(SESSION_CONTEXT, provider, sid), now)?)
}

/// A hash that no other kind of mark has. The length keeps the two parts apart.
fn mark(context: &str, provider: &str, name: &str) -> TokenHash {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    hasher.update(&(provider.len() as u64).to_le_bytes());
    hasher.update(provider.as_bytes());
    hasher.update(name.as_bytes());
    *hasher.finalize().as_bytes()
}

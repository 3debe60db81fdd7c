//! What is done to the sessions in memory, each method under the one lock.

use super::Content;
use crate::clock::UnixSeconds;
use crate::state::{EndSessions, RefreshRow, Rotation, SessionRow, SessionSelector, Sighting, TokenHash};

impl Content {
    pub(super) fn add_session(&mut self, session: &SessionRow, password_version: i64) -> bool {
        let may = self
            .accounts
            .get(&session.account_id)
            .is_some_and(|account| !account.disabled && account.password_version == password_version);
        if !may || self.sessions.contains_key(&session.id) {
            return false;
        }
        self.sessions.insert(session.id.clone(), session.clone());
        true
    }

    pub(super) fn sessions_of(&self, account_id: Option<&str>) -> Vec<SessionRow> {
        let of_account = |session: &&SessionRow| account_id.is_none_or(|id| session.account_id == id);
        let mut found: Vec<_> = self.sessions.values().filter(of_account).cloned().collect();
        found.sort_by(|one, other| (other.seen_at, &other.id).cmp(&(one.seen_at, &one.id)));
        found
    }

    pub(super) fn touch_session(&mut self, id: &str, seen: &Sighting<'_>) -> bool {
        let Some(session) = self.sessions.get_mut(id) else {
            return false;
        };
        if session.seen_at <= seen.at {
            session.seen_at = seen.at;
            seen.address.clone_into(&mut session.address);
        }
        session.tokens_until = session.tokens_until.map(|known| known.max(seen.tokens_until));
        true
    }

    pub(super) fn rotate_refresh(
        &mut self,
        id: &str,
        presented: &TokenHash,
        successor: &TokenHash,
        grace: UnixSeconds,
        seen: &Sighting<'_>,
    ) -> Rotation {
        let Some(session) = self.sessions.get_mut(id) else {
            return Rotation::Missing;
        };
        if self
            .accounts
            .get(&session.account_id)
            .is_none_or(|account| account.disabled)
        {
            return Rotation::Missing;
        }
        let Some(refresh) = &mut session.refresh else {
            return Rotation::Missing;
        };
        let judged = refresh.judge(presented, seen.at, grace);
        if judged == Rotation::Rotated {
            *refresh = RefreshRow {
                current: *successor,
                previous: Some(*presented),
                rotated_at: seen.at,
            };
            self.touch_session(id, seen);
        }
        judged
    }

    pub(super) fn end_sessions(&mut self, which: SessionSelector<'_>, end: &EndSessions<'_>) -> Vec<String> {
        let is_meant = |session: &SessionRow| match which {
            SessionSelector::One(id) => session.id == id,
            SessionSelector::Own { id, account_id } => session.id == id && session.account_id == account_id,
            SessionSelector::Account(account_id) => session.account_id == account_id,
            SessionSelector::Others { account_id, keep } => {
                session.account_id == account_id && session.id != keep
            }
            SessionSelector::Over { now, idle } => {
                session.expires_at <= now
                    || (session.refresh.is_none() && session.seen_at <= now.saturating_sub(idle))
            }
        };
        let meant = self
            .sessions
            .values()
            .filter(|session| is_meant(session) && end.keep != Some(&session.id));
        let ended: Vec<_> = meant.map(|session| session.id.clone()).collect();
        for id in &ended {
            let tokens_until = self.sessions.remove(id).and_then(|session| session.tokens_until);
            self.codes.retain(|code| code.session_id != *id);
            self.revoke(end.revocation(id, tokens_until));
        }
        ended
    }
}

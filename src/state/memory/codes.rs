//! What is done to the one-time codes in memory, each method under the one lock.

use super::Content;
use crate::clock::UnixSeconds;
use crate::state::{CodeRow, MOST_CODES, TokenHash};

impl Content {
    pub(super) fn add_code(&mut self, code: &CodeRow, now: UnixSeconds) -> bool {
        if !self.sessions.contains_key(&code.session_id) {
            return false;
        }
        let is_own = |known: &CodeRow| known.session_id == code.session_id;
        self.codes
            .retain(|known| !is_own(known) || known.expires_at > now);
        while self.codes.iter().filter(|known| is_own(known)).count() >= MOST_CODES {
            let oldest = self.codes.iter().position(is_own);
            oldest.map(|oldest| self.codes.remove(oldest));
        }
        self.codes.push(code.clone());
        true
    }

    pub(super) fn take_code(&mut self, hash: &TokenHash) -> Option<CodeRow> {
        let place = self.codes.iter().position(|known| known.hash == *hash)?;
        Some(self.codes.remove(place))
    }
}

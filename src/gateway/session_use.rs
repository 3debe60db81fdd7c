//! What is known of a new session once its cookie has come back: the browser keeps it, and it counts.
//!
//! Input: a request and the decision about it. Output: a note for the pages that stop loops of sign-ins. Invariants: it takes no
//! lock and allocates nothing; a refusal by a role or a network says as much about the cookie as an answer of the app.

use super::Gateway;
use super::authenticate::page_of;
use super::decide::Decision;
use super::head::RequestHead;
use super::rejection::Rejection;
use crate::refusal::Refusal;

impl Gateway {
    /// Notes that the session cookie of a request counted, where one did.
    pub(super) fn note_use(
        &self,
        head: &RequestHead<'_>,
        decided: &Result<Decision<'_>, Box<Rejection<'_>>>,
    ) {
        let Some(sign_in) = &self.sign_in else { return };
        let caller = match decided {
            Ok(Decision::Forward(allowed)) => allowed
                .authenticated
                .as_ref()
                .filter(|authenticated| authenticated.source.is_none())
                .map(|authenticated| &**authenticated.caller()),
            // A sign-in that is not enough for the route is followed by another one, which may not be either.
            Err(rejection) if rejection.refusal == Refusal::AuthenticationInsufficient => None,
            Err(rejection) if rejection.by_session => rejection.caller.as_deref(),
            Ok(_) | Err(_) => None,
        };
        if let Some(identity) = caller.map(|caller| &caller.identity)
            && let (Some(session), Some(issued_at)) = (&identity.session_id, identity.issued_at)
        {
            let now = self.clock.now();
            sign_in.bounces.note_use(session, issued_at, page_of(head), now);
        }
    }
}

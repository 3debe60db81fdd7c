//! Revocations: seen by everybody, widened, and forgotten in time.

use std::collections::BTreeSet;

use super::{Opened, token};
use crate::state::{PURGE_AFTER, Revocation, RevocationTarget};

fn targets(revocations: &[Revocation]) -> BTreeSet<(String, RevocationTarget)> {
    revocations.iter().map(|known| (known.issuer.clone(), known.target.clone())).collect()
}

pub(in crate::state) fn a_revocation_is_seen_by_the_other_side_once_it_has_expired_no_more(state: &Opened) {
    let revocation = token("t1", 100, Some(200));
    state.one.revoke(&revocation).unwrap();
    for now in [0, 100, 199] {
        assert_eq!(state.other.revocations(now).unwrap(), std::slice::from_ref(&revocation));
    }
    assert_eq!(state.other.revocations(200).unwrap(), []);
}

pub(in crate::state) fn revoking_again_widens_and_never_narrows(state: &Opened) {
    state.one.revoke(&token("t1", 100, Some(300))).unwrap();
    state.other.revoke(&token("t1", 90, Some(200))).unwrap();
    assert_eq!(state.one.revocations(0).unwrap(), [token("t1", 100, Some(300))]);
    state.other.revoke(&token("t1", 120, None)).unwrap();
    state.one.revoke(&token("t1", 110, Some(400))).unwrap();
    assert_eq!(state.one.revocations(0).unwrap(), [token("t1", 120, None)]);
}

pub(in crate::state) fn tokens_and_subjects_and_sessions_and_issuers_are_kept_apart(state: &Opened) {
    let subject = Revocation { target: RevocationTarget::Subject("x".to_owned()), ..token("", 1, None) };
    let session = Revocation { target: RevocationTarget::Session("x".to_owned()), ..token("", 1, None) };
    let elsewhere = Revocation { issuer: "partner".to_owned(), ..token("x", 1, None) };
    let stale = RevocationTarget::Stale { subject: "x".to_owned(), revision: 1 };
    let stale = Revocation { target: stale, ..token("", 1, None) };
    let all = [token("x", 1, None), token("X", 1, None), subject, session, stale, elsewhere];
    for revocation in &all {
        state.one.revoke(revocation).unwrap();
    }
    assert_eq!(targets(&state.other.revocations(0).unwrap()), targets(&all));
}

pub(in crate::state) fn expired_revocations_are_deleted_after_a_day(state: &Opened) {
    state.one.revoke(&token("t1", 100, Some(200))).unwrap();
    state.one.revoke(&token("t2", 100, None)).unwrap();
    // A clock that ran ahead and came back finds it again within the day,
    assert_eq!(state.one.revocations(200 + PURGE_AFTER - 1).unwrap().len(), 1);
    assert_eq!(state.one.revocations(150).unwrap().len(), 2);
    // and not after it.
    assert_eq!(state.one.revocations(200 + PURGE_AFTER).unwrap().len(), 1);
    assert_eq!(state.other.revocations(150).unwrap(), [token("t2", 100, None)]);
}

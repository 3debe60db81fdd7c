//! One-time codes of clients without cookies: taken once, gone with their account, few.

use super::{END, Opened, add_two, at_once};
use crate::state::{AccountChange, Authentication, ClientCodeRow, MOST_CODES};

fn code(number: u8, account_id: &str) -> ClientCodeRow {
    ClientCodeRow {
        hash: [number; 32],
        account_id: account_id.to_owned(),
        redirect_uri: "com.example.app:/signed-in?a=b".to_owned(),
        challenge: "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM".to_owned(),
        authentication: Authentication {
            auth_time: Some(90),
            acr: Some("urn:mfa".to_owned()),
            provider: Some("corp".to_owned()),
            provider_subject: Some("248289761001".to_owned()),
            provider_sid: Some("s7".to_owned()),
        },
        expires_at: 160,
    }
}

pub(in crate::state) fn a_client_code_is_taken_once_by_either_side(state: &Opened) {
    add_two(state);
    let before = state.one.version().unwrap();
    let bare = ClientCodeRow {
        authentication: Authentication::default(),
        ..code(2, "a")
    };
    assert!(state.one.add_client_code(&code(1, "a"), 100).unwrap());
    assert!(state.other.add_client_code(&bare, 100).unwrap());
    assert_eq!(state.other.take_client_code(&[3; 32]).unwrap(), None);
    assert_eq!(
        state.other.take_client_code(&[1; 32]).unwrap(),
        Some(code(1, "a"))
    );
    for side in [&state.one, &state.other] {
        assert_eq!(side.take_client_code(&[1; 32]).unwrap(), None);
        // A code of a host is another kind.
        assert_eq!(side.take_code(&[2; 32]).unwrap(), None);
    }
    assert_eq!(state.one.take_client_code(&[2; 32]).unwrap(), Some(bare));
    assert_eq!(
        state.one.version().unwrap(),
        before,
        "nothing that a process holds in memory"
    );
}

pub(in crate::state) fn of_many_that_take_one_client_code_one_gets_it(state: &Opened) {
    add_two(state);
    assert!(state.one.add_client_code(&code(1, "a"), 100).unwrap());
    let taken = at_once(state, 8, |side, _| side.take_client_code(&[1; 32]).unwrap());
    assert_eq!(taken.iter().flatten().collect::<Vec<_>>(), [&code(1, "a")]);
}

pub(in crate::state) fn a_client_code_needs_its_account_and_goes_with_it(state: &Opened) {
    add_two(state);
    assert!(!state.one.add_client_code(&code(1, "gone"), 100).unwrap());
    assert_eq!(state.one.take_client_code(&[1; 32]).unwrap(), None);
    assert!(state.one.add_client_code(&code(2, "b"), 100).unwrap());
    assert!(state.other.delete_account("b", &END).unwrap());
    assert_eq!(state.one.take_client_code(&[2; 32]).unwrap(), None);
    let disabled = AccountChange {
        disabled: Some(true),
        ..AccountChange::default()
    };
    state.other.change_account("a", &disabled, &END).unwrap();
    assert!(
        !state.one.add_client_code(&code(3, "a"), 100).unwrap(),
        "of a disabled account"
    );
}

pub(in crate::state) fn of_one_account_a_few_client_codes_are_kept_and_none_that_has_expired(state: &Opened) {
    add_two(state);
    assert!(state.one.add_client_code(&code(200, "b"), 100).unwrap());
    let most = u8::try_from(MOST_CODES).unwrap();
    for number in 0..most + 2 {
        assert!(state.one.add_client_code(&code(number, "a"), 100).unwrap());
    }
    let is_there = |number: u8| state.other.take_client_code(&[number; 32]).unwrap().is_some();
    assert_eq!(
        [0, 1, 2, most + 1].map(is_there),
        [false, false, true, true],
        "the oldest go"
    );
    assert!(is_there(200), "another account's stay");
    let later = ClientCodeRow {
        expires_at: 300,
        ..code(100, "a")
    };
    assert!(state.one.add_client_code(&later, 160).unwrap());
    assert_eq!(
        [3, most, 100].map(is_there),
        [false, false, true],
        "what has expired goes on the way"
    );
}

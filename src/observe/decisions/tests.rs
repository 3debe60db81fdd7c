#![allow(clippy::unwrap_used)]
use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::observe::Decision;
use crate::refusal::Refusal;

fn decision(number: u64, client: [u8; 4], refusal: Option<Refusal>) -> Remembered {
    let id = format!("id-{number}");
    Remembered::new(Finding {
        request_id: &id,
        ..finding(number, client, refusal)
    })
}

fn finding(time: u64, client: [u8; 4], refusal: Option<Refusal>) -> Finding<'static> {
    Finding {
        time,
        request_id: "id",
        method: "GET",
        host: "app.example.com",
        path: "/items",
        client: IpAddr::V4(Ipv4Addr::from(client)),
        is_client_known: true,
        is_peer_trusted: false,
        is_forward_auth: false,
        route: None,
        caller: None,
        rule: None,
        is_only_logged: false,
        deciding: Deciding::default(),
        attempts: Attempts::default(),
        decision: if refusal.is_some() {
            Decision::Refuse
        } else {
            Decision::Allow
        },
        reason: None,
        refusal,
        status: 200,
    }
}

#[test]
fn allowed_requests_push_no_refusal_out() {
    let decisions = Decisions::new(2);
    let worker = decisions.worker(1);
    worker.remember(decision(1, [10, 0, 0, 1], Some(Refusal::RoleRefused)));
    for number in 2..20_000 {
        worker.remember(decision(number, [10, 0, 0, 1], None));
    }
    assert_eq!(
        decisions.find("id-1").unwrap().refusal,
        Some(Refusal::RoleRefused)
    );
    assert!(decisions.find("id-2").is_none(), "the oldest gives way");
    assert!(decisions.find("id-19999").is_some());
    assert_eq!(decisions.refused(10).len(), 1);
}

#[test]
fn one_client_does_not_push_out_what_all_others_did() {
    let decisions = Decisions::new(1);
    let worker = decisions.worker(0);
    for other in 0..64 {
        worker.remember(decision(
            other,
            [10, 0, 1, u8::try_from(other).unwrap()],
            Some(Refusal::RoleRefused),
        ));
    }
    for number in 1000..100_000 {
        worker.remember(decision(number, [192, 0, 2, 1], Some(Refusal::Expired)));
    }
    let kept = (0..64)
        .filter(|other| decisions.find(&format!("id-{other}")).is_some())
        .count();
    // Those in the part that the busy client shares are gone.
    assert!((40..64).contains(&kept), "{kept}");
    assert!(decisions.all().len() <= KEPT);
}

#[test]
fn entries_are_read_once_and_the_latest_first() {
    let decisions = Decisions::new(2);
    for number in 0..500 {
        decisions
            .worker(usize::from(number % 2 == 0))
            .remember(decision(number, [10, 0, 0, 1], None));
    }
    let times: Vec<u64> = decisions.all().iter().map(|kept| kept.time).collect();
    assert_eq!(times, (0..500).rev().collect::<Vec<_>>());
}

#[test]
fn long_texts_are_cut_and_a_query_is_not_kept() {
    let long = format!("/{}", "é".repeat(400));
    let kept = Remembered::new(Finding {
        path: &long,
        ..finding(1, [10, 0, 0, 1], None)
    });
    assert!(kept.is_cut && long.starts_with(kept.path()) && kept.path().len() > 250);
    let host = format!("{}.example", "h".repeat(400));
    let kept = Remembered::new(Finding {
        host: &host,
        method: "A-METHOD-THAT-IS-LONGER-THAN-ANY-OTHER",
        path: "/a?access_token=secret",
        ..finding(1, [10, 0, 0, 1], None)
    });
    assert!(kept.is_cut);
    assert_eq!(kept.path(), "/a");
    assert_eq!((kept.method().len(), kept.host().len()), (24, 128));
    assert!(!format!("{kept:?}").contains("115, 101, 99, 114, 101, 116"));
}

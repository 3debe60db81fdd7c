//! Tests of the pool: limits, waiting, shares of clients.

#![allow(clippy::unwrap_used, clippy::panic)]
use std::net::IpAddr;

use super::*;
use crate::forward::testing::{at, compile, raw};

/// A pool with that many connections, half of them for one client.
fn server_pool(limit: u64) -> Arc<ServerPool> {
    let mut raw = raw(&["http://127.0.0.1:1".to_owned()]);
    raw.max_connections = Some(at(limit));
    Arc::new(ServerPool::new(compile(&raw), 0, Share::Percent(50)))
}

fn holder(ip: &str) -> Holder {
    Holder {
        key: ip.parse::<IpAddr>().unwrap().into(),
        exit: Arc::default(),
    }
}

fn checkout(server_pool: &Arc<ServerPool>, holder: &Holder) -> PooledConnection {
    match server_pool.checkout(holder) {
        Checkout::Granted(pooled) => pooled,
        Checkout::Full => panic!("there is room"),
    }
}

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_client_that_holds_its_share_has_its_turn_after_the_others() {
    let server_pool = server_pool(2);
    let (greedy, other) = (holder("192.0.2.1"), holder("192.0.2.2"));
    let pooled = checkout(&server_pool, &greedy);
    let kept = checkout(&server_pool, &greedy);
    assert!(
        matches!(server_pool.checkout(&greedy), Checkout::Full),
        "a share does not bind while there is room"
    );
    let (lane_1, lane_2, again) = (server_pool.clone(), server_pool.clone(), greedy.clone());
    let first = tokio::spawn(async move { lane_1.wait(&again, LONG).await });
    while lock(&server_pool.state).waiting[1].is_empty() {
        tokio::task::yield_now().await;
    }
    let second = tokio::spawn(async move { lane_2.wait(&other, LONG).await });
    while lock(&server_pool.state).waiting[0].is_empty() {
        tokio::task::yield_now().await;
    }
    drop(pooled);
    let pooled = second.await.unwrap().unwrap();
    assert!(!first.is_finished());
    drop(kept);
    drop((first.await.unwrap().unwrap(), pooled));
    let state = lock(&server_pool.state);
    assert_eq!((state.open, state.held.iter().flatten().count()), (0, 0));
}

/// Lets others run until so many requests wait.
async fn pending(server_pool: &Arc<ServerPool>, count: usize) {
    let waiting = || {
        lock(&server_pool.state)
            .waiting
            .iter()
            .map(VecDeque::len)
            .sum::<usize>()
    };
    while waiting() != count {
        tokio::task::yield_now().await;
    }
    let health = &server_pool.app.upstream.servers[0].health;
    assert_eq!(health.pending.load(Ordering::Relaxed), count as u64);
}

#[tokio::test]
async fn a_request_beyond_max_pending_is_refused_at_once_or_takes_the_place_of_a_greedy_clients() {
    let mut raw = raw(&["http://127.0.0.1:1".to_owned()]);
    raw.max_connections = Some(at(2));
    raw.max_pending = Some(at(2));
    let server_pool = Arc::new(ServerPool::new(compile(&raw), 0, Share::Percent(50)));
    let (greedy, other) = (holder("192.0.2.1"), holder("192.0.2.2"));
    let held = [checkout(&server_pool, &greedy), checkout(&server_pool, &greedy)];
    let wait = |holder: &Holder| {
        let (server_pool, holder) = (server_pool.clone(), holder.clone());
        tokio::spawn(async move { server_pool.wait(&holder, LONG).await })
    };
    let first = wait(&greedy);
    pending(&server_pool, 1).await;
    let last = wait(&greedy);
    pending(&server_pool, 2).await;
    let refused = server_pool.wait(&greedy, LONG).await;
    assert_eq!(
        refused.unwrap_err(),
        Refusal::UpstreamFull,
        "its own requests are before it"
    );
    let served = wait(&other);
    assert_eq!(last.await.unwrap().unwrap_err(), Refusal::UpstreamFull);
    pending(&server_pool, 2).await;
    drop(held);
    drop((served.await.unwrap().unwrap(), first.await.unwrap().unwrap()));
    pending(&server_pool, 0).await;
}

#[tokio::test]
async fn where_no_other_client_waits_a_client_gives_way_to_none() {
    let server_pool = server_pool(2);
    let greedy = holder("192.0.2.1");
    let held = [checkout(&server_pool, &greedy), checkout(&server_pool, &greedy)];
    assert!(
        server_pool
            .wait(&greedy, Duration::from_millis(50))
            .await
            .is_err()
    );
    assert!(!greedy.exit.is_used());
    drop(held);
}

#[tokio::test]
async fn who_gives_way_holds_more_than_its_share_or_lets_bytes_wait() {
    let server_pool = server_pool(4);
    let mut held: Vec<(Holder, PooledConnection)> = Vec::new();
    for ip in ["192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.2"] {
        let holder = holder(ip);
        let pooled = checkout(&server_pool, &holder);
        held.push((holder, pooled));
    }
    let newcomer = holder("192.0.2.3");
    let look = || {
        lock(&server_pool.state).looked = None;
        let exit = lock(&server_pool.state).longest_idle(newcomer.key, server_pool.share);
        exit.map(|exit| {
            held.iter()
                .position(|(holder, _)| Arc::ptr_eq(&holder.exit, &exit))
                .unwrap()
        })
    };
    assert_eq!(
        look(),
        None,
        "all within their shares, and none waits for its client"
    );
    held[3].0.exit.wait();
    assert_eq!(look(), None, "not for long yet");
    tokio::time::sleep(STALLED).await;
    assert_eq!(look(), Some(3));
    assert_eq!(
        lock(&server_pool.state)
            .longest_idle(newcomer.key, server_pool.share)
            .map(|_| ()),
        None,
        "not at every look"
    );
    held[3].0.exit.go_on();
    assert_eq!(look(), None);
    let one_more = lock(&server_pool.state).hold(held[0].0.clone());
    assert_eq!(look(), Some(0), "more than its share: what it has held longest");
    lock(&server_pool.state).release(one_more);
}

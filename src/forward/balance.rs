//! Which server of an upstream takes the next request, and what is learned from how a request ended.
//!
//! Input: the results of health checks and of requests, in the atomics of each server; the requests under way of one worker.
//! Output: a server. Invariants: a server that its health check calls down gets no request. A server that is ejected gets
//! none where another is left, but for the one that tries it. Two servers are drawn by their weights, and the one with fewer
//! requests under way per weight is taken; a worker counts its own requests alone, so that no request waits for another core.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::HeaderValue;

use super::affinity::{self, Affinity};
use super::ejection::{Failure, Ticket};
use super::pool::UpstreamPool;
use super::upstream::Upstream;

/// How long a server that has sent bytes that no request asked for gets a connection of its own for each request.
const NO_REUSE: Duration = Duration::from_secs(60 * 60);
/// How long failures at a server that stays in use are not logged again.
const QUIET: Duration = Duration::from_secs(5);

/// The server that a request goes to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chosen {
    pub(super) index: usize,
    ticket: Ticket,
}

impl UpstreamPool {
    /// The server for the next request: not one of `tried`, and ejected ones only where there is no other. `None`: there is
    /// none.
    pub(super) fn choose(&self, affinity: Affinity, tried: &[usize]) -> Option<Chosen> {
        let upstream = &*self.upstream;
        let is_up = |index: usize| {
            !tried.contains(&index) && !upstream.servers[index].health.down.load(Ordering::Relaxed)
        };
        let is_suspect = |index: usize| upstream.servers[index].health.is_suspect();
        let kept_to = match affinity {
            Affinity::None | Affinity::Cookie(None) => None,
            Affinity::Cookie(server) => {
                server.filter(|index| *index < upstream.servers.len() && is_up(*index))
            }
            Affinity::Hash(hash) => {
                let takes = |index: &usize| {
                    is_up(*index)
                        && !upstream.servers[*index]
                            .health
                            .is_ejected(|| upstream.uptime.now())
                };
                let score = |index: &usize| affinity::score(&upstream.servers[*index], hash);
                let all = (0..upstream.servers.len()).filter(takes);
                all.max_by(|one, other| score(one).total_cmp(&score(other)))
            }
        };
        if let Some(chosen) = kept_to.and_then(|index| self.admit(index)) {
            return Some(chosen);
        }
        // A server whose ejection is over gets one request, before it takes its share.
        let mut suspects = (0..upstream.servers.len()).filter(|index| is_suspect(*index) && is_up(*index));
        if let Some(probe) = suspects.find_map(|index| self.admit(index)) {
            return Some(probe);
        }
        self.draw(|index| is_up(index) && !is_suspect(index))
            .or_else(|| self.draw(is_up))
    }

    /// The server at `index`, where it takes a request.
    fn admit(&self, index: usize) -> Option<Chosen> {
        let upstream = &*self.upstream;
        let ticket = upstream.servers[index].health.admit(|| upstream.uptime.now())?;
        Some(Chosen { index, ticket })
    }

    /// One of the servers that `is_eligible`: of two that are drawn by weight, the one with less to do.
    fn draw(&self, is_eligible: impl Fn(usize) -> bool) -> Option<Chosen> {
        let servers = &self.upstream.servers;
        let weight = |index: usize| {
            if is_eligible(index) {
                u64::from(servers[index].weight)
            } else {
                0
            }
        };
        let first = self.draw_one(&weight)?;
        let second = self.draw_one(&|index| if index == first { 0 } else { weight(index) });
        let index = match second {
            Some(second) if self.is_less_loaded(second, first) => second,
            _ => first,
        };
        Some(Chosen {
            index,
            ticket: servers[index].health.ticket(),
        })
    }

    fn draw_one(&self, weight: &impl Fn(usize) -> u64) -> Option<usize> {
        let all = 0..self.upstream.servers.len();
        let total = all.clone().map(weight).sum();
        let mut drawn = self.draws.below(total);
        let mut last = None;
        // The weights may change meanwhile, by another worker; then it is the last one that has any.
        for (index, weight) in all
            .map(|index| (index, weight(index)))
            .filter(|(_, weight)| *weight > 0)
        {
            last = Some(index);
            match drawn.checked_sub(weight) {
                Some(rest) => drawn = rest,
                None => break,
            }
        }
        last
    }

    /// Whether this worker has fewer requests per weight under way at server `one` than at `other`.
    fn is_less_loaded(&self, one: usize, other: usize) -> bool {
        let weight = |index: usize| u64::from(self.upstream.servers[index].weight);
        let load = |index: usize| self.server(index).load() as u64;
        load(one).saturating_mul(weight(other)) < load(other).saturating_mul(weight(one))
    }
}

impl Upstream {
    /// Whether a server besides those of `tried` may take a request.
    pub(super) fn has_another(&self, tried: &[usize], chosen: Chosen) -> bool {
        self.servers.iter().enumerate().any(|(index, server)| {
            index != chosen.index && !tried.contains(&index) && !server.health.down.load(Ordering::Relaxed)
        })
    }

    /// A request was answered by the server.
    pub(super) fn answered(&self, chosen: Chosen) {
        let server = &self.servers[chosen.index];
        if server.health.answered(chosen.ticket) {
            tracing::info!(
                upstream = %self.name, server = %server.label, "the server answers again and is no longer ejected"
            );
        }
    }

    /// A request on `route` failed at the server with `error`. The server is ejected if it is not the last one.
    pub(super) fn failed(
        &self,
        chosen: Chosen,
        failure: Failure,
        error: &dyn Display,
        route: &str,
        request_id: Option<&HeaderValue>,
    ) {
        let server = &self.servers[chosen.index];
        let now = self.uptime.now();
        let takes_requests = |(index, server): (usize, &super::server::Server)| {
            index != chosen.index
                && !server.health.down.load(Ordering::Relaxed)
                && !server.health.is_ejected(|| now)
        };
        let is_last = !self.servers.iter().enumerate().any(takes_requests);
        let ejected = server.health.failed(chosen.ticket, failure, is_last, now);
        let request_id = request_id.and_then(|id| id.to_str().ok()).unwrap_or_default();
        let what = match failure {
            Failure::Connect => "cannot connect to the app",
            Failure::Reset => "the app ends connections without an answer",
        };
        let (upstream, server_name) = (&self.name, &server.label);
        if let Some(length) = ejected {
            let seconds = length.as_secs();
            tracing::warn!(
                %upstream, server = %server_name, %route, %request_id, %error, seconds,
                "{what}: the server is ejected and gets no requests for that time"
            );
        } else if failure == Failure::Connect {
            let until = now.saturating_add(u64::try_from(QUIET.as_millis()).unwrap_or(u64::MAX));
            // Once in that while is enough in the log. A server that is ejected has its line.
            if !server.health.is_suspect()
                && server.health.quiet_until.fetch_max(until, Ordering::Relaxed) <= now
            {
                tracing::warn!(%upstream, server = %server_name, %route, %request_id, %error, "{what}");
            }
        }
    }

    fn now(&self) -> u64 {
        self.uptime.now()
    }

    /// Whether a connection to `server` may be used for another request.
    pub(super) fn is_reusable(&self, server: usize) -> bool {
        if self.proxy_protocol {
            return false;
        }
        let until = self.servers[server].health.no_reuse_until.load(Ordering::Relaxed);
        // The clock is read only where something was seen.
        until == 0 || until <= self.now()
    }

    /// `server` has sent bytes that no request asked for. Bytes that come a moment later would be taken for the answer to
    /// a request of another client, so that from now on no connection to it carries a second one.
    pub(super) fn spoke_unasked(&self, server: usize) {
        let server = &self.servers[server];
        let now = self.now();
        let until = now.saturating_add(u64::try_from(NO_REUSE.as_millis()).unwrap_or(u64::MAX));
        let before = server.health.no_reuse_until.swap(until, Ordering::Relaxed);
        if before <= now {
            tracing::warn!(
                upstream = %self.name, server = %server.label,
                "the app sent bytes outside of a response: for an hour each request gets a connection of its own. \
                 hint: look for a response with a body to HEAD, 204 or 304, or with more bytes than its Content-Length"
            );
        }
    }

    /// Takes over from the configuration before which servers have sent bytes unasked, and which are ejected: a reload
    /// changes no app.
    pub fn remember(&self, before: &[Arc<Self>]) {
        let before = before.iter().filter(|before| !std::ptr::eq(&***before, self));
        for upstream in before {
            // A time of its clock in the time of this one; 0 where it is over.
            let moved = |until: u64| match until.saturating_sub(upstream.now()) {
                0 => 0,
                left => self.now().saturating_add(left),
            };
            for known in &upstream.servers {
                let Some(server) = self.servers.iter().find(|server| server.label == known.label) else {
                    continue;
                };
                server.addresses.inherit(&known.addresses);
                let (known, health) = (&known.health, &server.health);
                let no_reuse = moved(known.no_reuse_until.load(Ordering::Relaxed));
                health.no_reuse_until.fetch_max(no_reuse, Ordering::Relaxed);
                if upstream.name == self.name {
                    let ejected = moved(known.ejected_until.load(Ordering::Relaxed));
                    health.ejected_until.store(ejected, Ordering::Relaxed);
                    let ejections = known.ejections.load(Ordering::Relaxed);
                    health.ejections.store(ejections, Ordering::Relaxed);
                    let in_a_row = known.ejections_in_a_row.load(Ordering::Relaxed);
                    health.ejections_in_a_row.store(in_a_row, Ordering::Relaxed);
                    let is_checked = self.health_check.is_some() && upstream.health_check.is_some();
                    let is_down = is_checked && known.down.load(Ordering::Relaxed);
                    health.down.store(is_down, Ordering::Relaxed);
                }
            }
        }
    }

    /// Whether any server takes requests.
    #[cfg(test)]
    pub(super) fn is_up(&self) -> bool {
        self.builtin.is_some()
            || self
                .servers
                .iter()
                .any(|server| !server.health.down.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use std::net::IpAddr;

    use super::*;
    use crate::forward::pool::{Checkout, PooledConnection};
    use crate::forward::testing::{at, compile, raw};
    use crate::http::client::Holder;

    /// The pool of a worker for servers of these weights.
    fn pool(weights: &[u64]) -> UpstreamPool {
        let urls: Vec<String> = (1..=weights.len())
            .map(|port| format!("http://127.0.0.1:{port}"))
            .collect();
        let mut raw = raw(&urls);
        for (server, weight) in raw.servers.iter_mut().zip(weights) {
            server.value.weight = Some(at(*weight));
        }
        UpstreamPool::seeded(compile(&raw), 1)
    }

    /// A request under way at a server.
    fn take(pool: &UpstreamPool, server: usize) -> PooledConnection {
        let holder = Holder {
            key: IpAddr::from([192, 0, 2, 1]).into(),
            exit: Arc::default(),
        };
        match pool.server(server).checkout(&holder) {
            Checkout::Granted(pooled) => pooled,
            Checkout::Full => panic!("there is room"),
        }
    }

    /// How often each server is chosen in `count` requests that take no time.
    fn shares(pool: &UpstreamPool, count: usize) -> Vec<usize> {
        let mut shares = vec![0; pool.upstream.servers.len()];
        for _ in 0..count {
            shares[pool.choose(Affinity::None, &[]).unwrap().index] += 1;
        }
        shares
    }

    fn eject(pool: &UpstreamPool, server: usize) {
        let chosen = Chosen {
            index: server,
            ticket: pool.upstream.servers[server].health.ticket(),
        };
        pool.upstream
            .failed(chosen, Failure::Connect, &"refused", "/*", None);
    }

    fn later(pool: &UpstreamPool, milliseconds: u64) {
        pool.upstream
            .uptime
            .ahead
            .fetch_add(milliseconds, Ordering::Relaxed);
    }

    #[test]
    fn idle_servers_share_requests_by_weight() {
        let shares = shares(&pool(&[1, 2, 5]), 8000);
        for (share, expected) in shares.iter().zip([1000, 2000, 5000]) {
            assert!(share.abs_diff(expected) < expected / 8, "{shares:?}");
        }
    }

    #[test]
    fn of_two_servers_the_one_with_less_per_weight_is_taken() {
        let pool = pool(&[1, 3]);
        let held = [take(&pool, 1), take(&pool, 1)];
        let heavier = take(&pool, 0);
        assert_eq!(shares(&pool, 100), [0, 100], "two of three against one of one");
        drop(heavier);
        assert_eq!(shares(&pool, 100), [100, 0]);
        drop(held);
    }

    #[test]
    fn requests_that_stay_are_spread_by_weight() {
        let pool = pool(&[1, 1, 2]);
        let held: Vec<_> = (0..400)
            .map(|_| take(&pool, pool.choose(Affinity::None, &[]).unwrap().index))
            .collect();
        let loads = [0, 1, 2].map(|server| pool.server(server).load());
        for (load, expected) in loads.iter().zip([100, 100, 200]) {
            assert!(load.abs_diff(expected) <= 15, "{loads:?}");
        }
        drop(held);
        assert_eq!([0, 1, 2].map(|server| pool.server(server).load()), [0; 3]);
    }

    #[test]
    fn down_ejected_and_tried_servers_are_left_out() {
        let pool = pool(&[1, 1, 1]);
        pool.upstream.servers[0]
            .health
            .down
            .store(true, Ordering::Relaxed);
        eject(&pool, 1);
        assert_eq!(shares(&pool, 50), [0, 0, 50]);
        assert_eq!(
            pool.choose(Affinity::None, &[2]).unwrap().index,
            1,
            "for want of another"
        );
        assert!(
            pool.choose(Affinity::None, &[1, 2]).is_none(),
            "a health check is final"
        );
    }

    #[test]
    fn the_last_server_that_takes_requests_is_not_ejected() {
        let pool = pool(&[1, 1]);
        eject(&pool, 0);
        eject(&pool, 1);
        assert_eq!(shares(&pool, 50), [0, 50]);
    }

    #[test]
    fn one_request_goes_to_a_server_whose_ejection_is_over() {
        let pool = pool(&[1, 1]);
        eject(&pool, 0);
        later(&pool, 5_000);
        let probe = pool.choose(Affinity::None, &[]).unwrap();
        assert_eq!(probe.index, 0);
        assert_eq!(shares(&pool, 50), [0, 50]);
        pool.upstream.answered(probe);
        assert!(shares(&pool, 50)[0] > 10);
    }

    #[test]
    fn a_reload_keeps_ejections_and_takes_new_weights() {
        let before = pool(&[1, 1]);
        eject(&before, 0);
        let after = pool(&[1, 100]);
        later(&after, 70_000);
        after.upstream.remember(&[Arc::clone(&before.upstream)]);
        assert_eq!(shares(&after, 50), [0, 50]);
        later(&after, 5_000);
        assert_eq!(
            after.choose(Affinity::None, &[]).unwrap().index,
            0,
            "the one that tries it"
        );
        assert!(shares(&pool(&[1, 100]), 1000)[0] < 30);
    }

    #[test]
    fn hashes_are_shared_by_weight_and_move_only_from_a_server_that_is_down() {
        let pool = pool(&[1, 2, 1]);
        let server = |hash: u64| pool.choose(Affinity::Hash(hash), &[]).unwrap().index;
        let before: Vec<usize> = (0..4000).map(server).collect();
        for (index, expected) in [1000_usize, 2000, 1000].into_iter().enumerate() {
            let share = before.iter().filter(|server| **server == index).count();
            assert!(share.abs_diff(expected) < expected / 8, "{index}: {share}");
        }
        pool.upstream.servers[1]
            .health
            .down
            .store(true, Ordering::Relaxed);
        let after: Vec<usize> = (0..4000).map(server).collect();
        let moved = before
            .iter()
            .zip(&after)
            .filter(|(before, after)| before != after);
        assert!(moved.clone().all(|(before, _)| *before == 1) && moved.count() > 1500);
        pool.upstream.servers[1]
            .health
            .down
            .store(false, Ordering::Relaxed);
        eject(&pool, 0);
        let kept = (0..4000).map(server).zip(&before);
        assert!(
            kept.clone()
                .all(|(now, before)| now != 0 && (now == *before || *before == 0))
        );
    }

    #[test]
    fn a_cookie_names_a_server_of_its_upstream_or_none() {
        let pool = pool(&[1, 1, 1]);
        let mut raw = raw(&["http://a:1".to_owned(), "http://b:1".to_owned()]);
        raw.sticky = Some(at(crate::values::Sticky::Cookie));
        let (upstream, other) = (compile(&raw), compile(&raw));
        upstream.name_servers(&[1; 32]);
        other.name_servers(&[2; 32]);
        let ids = upstream.server_ids.get().unwrap();
        assert!(ids[0] != ids[1] && ids.iter().all(|id| id.len() == 32), "{ids:?}");
        let of = |value: &str| upstream.affinity(|_| vec![value.as_bytes()], || 0);
        assert_eq!(of(&ids[1]), Affinity::Cookie(Some(1)));
        let foreign = other.server_ids.get().unwrap();
        for forged in ["", "0", "1", "a:1", "http://a:1", &ids[1][1..], &foreign[1]] {
            assert_eq!(of(forged), Affinity::Cookie(None), "{forged}");
        }
        assert_eq!(upstream.new_cookie(Affinity::Cookie(Some(1)), 1), None);
        assert_eq!(upstream.new_cookie(Affinity::Cookie(Some(1)), 0), Some(&*ids[0]));
        // A place that the list does not have names no server either.
        assert!(
            pool.choose(Affinity::Cookie(Some(2)), &[])
                .is_some_and(|chosen| chosen.index == 2)
        );
        assert!(pool.choose(Affinity::Cookie(Some(9)), &[]).is_some());
    }
}

//! The connections of all workers, by client: who gives way where no more can be taken.
//!
//! Enters: a client that has connected. Leaves: a place for it, or none. As long as there is room nobody is counted out.
//! Where there is none, the client that holds most gives way, with the connection that has been idle longest; peers in
//! `trusted_proxies` are not counted, for many clients stand behind one. The table has at most one entry a connection.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::gateway::Activity;
use crate::http::client::{ClientKey, Exit, Share};

/// Of how many clients, from the one that holds most, a connection is looked for that may give way.
const LOOKED_AT: usize = 16;
/// How often it is looked for while a client waits for its place.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How often it is said that all connections are taken.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// All connections from clients.
#[derive(Debug)]
pub struct Roster {
    max: usize,
    share: usize,
    free: Arc<Semaphore>,
    seats: Mutex<Seats>,
}

#[derive(Debug, Default)]
struct Seats {
    clients: HashMap<ClientKey, HashMap<u64, Seat>>,
    /// Who holds how many, the fewest first. Between equals the order is one that nobody outside can choose.
    order: BTreeSet<(usize, u64, ClientKey)>,
    hasher: RandomState,
    next: u64,
    said: Option<Instant>,
}

#[derive(Debug)]
struct Seat {
    activity: Arc<Activity>,
    exit: Arc<Exit>,
}

/// The place of one connection, free again when dropped.
#[derive(Debug)]
pub struct Place {
    roster: Arc<Roster>,
    seat: Option<(ClientKey, u64)>,
    /// Freed after the entry is gone.
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some((key, number)) = self.seat {
            self.roster.seats().remove(key, number);
        }
    }
}

impl Roster {
    /// No connections yet, of at most `max`; `share` binds a client where all are taken.
    #[must_use]
    pub fn new(max: usize, share: Share) -> Arc<Self> {
        Arc::new(Self {
            max,
            share: share.of(max),
            free: Arc::new(Semaphore::new(max)),
            seats: Mutex::default(),
        })
    }

    /// A place for a connection of the client `key` (`None`: a peer that is not counted). Waits until one is free, and
    /// has others give way. `None`: this client holds its share already, and all places are taken.
    pub async fn place(
        self: &Arc<Self>,
        key: Option<ClientKey>,
        activity: &Arc<Activity>,
        exit: &Arc<Exit>,
    ) -> Option<Place> {
        let permit = match Arc::clone(&self.free).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => self.wait(key).await?,
        };
        let seat = key.map(|key| {
            let seat = Seat {
                activity: Arc::clone(activity),
                exit: Arc::clone(exit),
            };
            (key, self.seats().add(key, seat))
        });
        Some(Place {
            roster: Arc::clone(self),
            seat,
            _permit: permit,
        })
    }

    async fn wait(&self, key: Option<ClientKey>) -> Option<OwnedSemaphorePermit> {
        let mut free = std::pin::pin!(Arc::clone(&self.free).acquire_owned());
        loop {
            let (is_refused, victim) = {
                let mut seats = self.seats();
                let held = key.map_or(0, |key| seats.held_by(key));
                seats.say_full(self.max);
                let is_refused = key.is_some() && held >= self.share;
                (
                    is_refused,
                    if is_refused {
                        None
                    } else {
                        seats.longest_idle(key, held, self.share)
                    },
                )
            };
            if is_refused {
                return None;
            }
            if let Some(exit) = victim {
                exit.end();
            }
            if let Ok(permit) = tokio::time::timeout(LOOK_AGAIN, &mut free).await {
                return permit.ok();
            }
        }
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seats {
    fn held_by(&self, key: ClientKey) -> usize {
        self.clients.get(&key).map_or(0, HashMap::len)
    }

    fn add(&mut self, key: ClientKey, seat: Seat) -> u64 {
        let number = self.next;
        self.next += 1;
        let salt = self.hasher.hash_one(key);
        let seats = self.clients.entry(key).or_default();
        self.order.remove(&(seats.len(), salt, key));
        seats.insert(number, seat);
        self.order.insert((seats.len(), salt, key));
        number
    }

    fn remove(&mut self, key: ClientKey, number: u64) {
        let salt = self.hasher.hash_one(key);
        let Entry::Occupied(mut seats) = self.clients.entry(key) else {
            return;
        };
        self.order.remove(&(seats.get().len(), salt, key));
        seats.get_mut().remove(&number);
        match seats.get().len() {
            0 => drop(seats.remove()),
            left => drop(self.order.insert((left, salt, key))),
        }
    }

    /// The connection that gives way to one of the client `newcomer`, which holds `held` already. One with requests under
    /// way does so only where its client holds more than its share, or would still hold more than the newcomer.
    fn longest_idle(&self, newcomer: Option<ClientKey>, held: usize, share: usize) -> Option<Arc<Exit>> {
        for (count, _, key) in self.order.iter().rev().take(LOOKED_AT) {
            if *count <= held && newcomer != Some(*key) {
                return None;
            }
            let seats = || {
                self.clients
                    .get(key)
                    .into_iter()
                    .flat_map(HashMap::values)
                    .filter(|seat| !seat.exit.is_used())
            };
            let idle = seats().filter_map(|seat| Some((seat.activity.idle_since()?, seat)));
            if let Some((_, seat)) = idle.min_by_key(|(since, _)| *since) {
                return Some(Arc::clone(&seat.exit));
            }
            if *count > share || *count > held + 1 {
                return seats()
                    .min_by_key(|seat| seat.activity.last_moved())
                    .map(|seat| Arc::clone(&seat.exit));
            }
        }
        None
    }

    fn say_full(&mut self, max: usize) {
        if self.said.is_some_and(|said| said.elapsed() < SAY_AGAIN) {
            return;
        }
        self.said = Some(Instant::now());
        match self.order.last() {
            Some((count, _, key)) => tracing::warn!(
                "all {max} connections are taken (`max_connections`); the client {key} holds {count}; the longest idle \
                 connections are closed"
            ),
            None => {
                tracing::warn!("all {max} connections are taken (`max_connections`), all by trusted proxies")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::IpAddr;

    use super::*;

    struct Connection {
        activity: Arc<Activity>,
        exit: Arc<Exit>,
        place: Option<Place>,
    }

    fn key(ip: &str) -> Option<ClientKey> {
        Some(ip.parse::<IpAddr>().unwrap().into())
    }

    async fn connect(roster: &Arc<Roster>, key: Option<ClientKey>) -> Connection {
        let (activity, exit) = (Arc::new(Activity::default()), Arc::new(Exit::default()));
        let place = roster.place(key, &activity, &exit).await;
        Connection {
            activity,
            exit,
            place,
        }
    }

    /// As [`connect`], while somebody ends what is to give way.
    async fn squeeze_in(
        roster: &Arc<Roster>,
        key: Option<ClientKey>,
        others: &mut [Connection],
    ) -> Option<Vec<usize>> {
        let mut waiting = std::pin::pin!(connect(roster, key));
        let mut gone = Vec::new();
        loop {
            if let Ok(connected) = tokio::time::timeout(Duration::from_millis(1), &mut waiting).await {
                return connected.place.map(|_| gone);
            }
            for (number, other) in others.iter_mut().enumerate() {
                if other.exit.is_used() && other.place.take().is_some() {
                    gone.push(number);
                }
            }
            if gone.is_empty() {
                return None;
            }
        }
    }

    #[tokio::test]
    async fn the_client_that_holds_most_gives_way_the_longest_idle_first() {
        let roster = Roster::new(4, Share::Percent(50));
        let mut others = Vec::new();
        for ip in ["192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.1"] {
            others.push(connect(&roster, key(ip)).await);
            tokio::time::sleep(Duration::from_millis(2)).await; // times are kept in milliseconds
        }
        others[0].activity.unblock(); // it has just taken something
        assert_eq!(
            squeeze_in(&roster, key("192.0.2.3"), &mut others).await,
            Some(vec![2])
        );
    }

    #[tokio::test]
    async fn a_share_binds_only_where_all_is_taken() {
        let roster = Roster::new(4, Share::Percent(50));
        let mut others = Vec::new();
        for _ in 0..4 {
            others.push(connect(&roster, key("192.0.2.1")).await);
            assert!(others.last().unwrap().place.is_some());
        }
        assert_eq!(squeeze_in(&roster, key("192.0.2.1"), &mut others).await, None);
        assert!(
            others.iter().all(|other| !other.exit.is_used()),
            "it is refused at once"
        );
    }

    #[tokio::test]
    async fn busy_connections_give_way_only_to_clients_that_hold_less() {
        let roster = Roster::new(4, Share::Percent(50));
        let mut others = Vec::new();
        for ip in ["192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.3"] {
            others.push(connect(&roster, key(ip)).await);
            others.last().unwrap().activity.block();
        }
        assert_eq!(
            squeeze_in(&roster, key("192.0.2.2"), &mut others).await,
            None,
            "it would hold as many"
        );
        let squeezed = squeeze_in(&roster, key("192.0.2.4"), &mut others).await.unwrap();
        assert!(squeezed == [0] || squeezed == [1], "{squeezed:?}");
    }

    #[tokio::test]
    async fn trusted_proxies_neither_count_nor_give_way() {
        let roster = Roster::new(2, Share::Percent(50));
        let mut others = vec![connect(&roster, None).await, connect(&roster, None).await];
        assert_eq!(squeeze_in(&roster, key("192.0.2.1"), &mut others).await, None);
        others.pop();
        let mut held = vec![connect(&roster, key("192.0.2.1")).await];
        assert_eq!(squeeze_in(&roster, None, &mut held).await, Some(vec![0]));
    }

    #[tokio::test]
    async fn nothing_is_kept_of_a_connection_that_has_ended() {
        let roster = Roster::new(3, Share::Count(1));
        let many = [
            connect(&roster, key("::1")).await,
            connect(&roster, key("::2")).await,
            connect(&roster, None).await,
        ];
        drop(many);
        let seats = roster.seats();
        assert!(seats.clients.is_empty() && seats.order.is_empty());
        assert_eq!(roster.free.available_permits(), 3);
    }
}

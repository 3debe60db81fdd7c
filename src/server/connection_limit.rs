//! The limit on connections of all workers together, and which connection is closed when the limit is reached.
//!
//! Input: a client that has connected. Output: a [`ConnectionSlot`], or none. While there is room, every client gets one. At
//! the limit, the client that holds most loses the connection that has been idle longest. Peers in `trusted_proxies` are not
//! counted, because many clients are behind one. The table has at most one entry per connection. The HTTP/2 streams of all
//! connections of a client are counted together.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::http2::MAX_STREAMS;
use crate::gateway::{Activity, StreamLimit};
use crate::http::client::{ClientKey, Exit, Share};

/// The number of clients, from the one that holds most, among which a connection to close is looked for.
const LOOKED_AT: usize = 16;
/// How often it is looked for while a client waits.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How often the log says that the limit is reached.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// All connections from clients.
#[derive(Debug)]
pub(crate) struct ConnectionLimit {
    max: usize,
    share: usize,
    free: Arc<Semaphore>,
    open: Mutex<ClientConnections>,
}

#[derive(Debug, Default)]
struct ClientConnections {
    clients: HashMap<ClientKey, Client>,
    /// The number of connections of each client, the fewest first. A salted hash orders equals, so that no client can choose
    /// its place.
    order: BTreeSet<(usize, u64, ClientKey)>,
    hasher: RandomState,
    next: u64,
    said: Option<Instant>,
}

/// What one client has.
#[derive(Debug)]
struct Client {
    connections: HashMap<u64, ClientConnection>,
    streams: Arc<StreamLimit>,
}

#[derive(Debug)]
struct ClientConnection {
    activity: Arc<Activity>,
    exit: Arc<Exit>,
}

/// One connection under the limit; free again when dropped.
#[derive(Debug)]
pub(crate) struct ConnectionSlot {
    limit: Arc<ConnectionLimit>,
    connection: Option<(ClientKey, u64)>,
    /// Freed after the entry is gone.
    _permit: OwnedSemaphorePermit,
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        if let Some((key, number)) = self.connection {
            self.limit.open().remove(key, number);
        }
    }
}

impl ConnectionSlot {
    /// Counts the connection for the client `key`, which became known only after it was admitted. False: all connections are
    /// taken, and this client holds its share already.
    #[must_use]
    pub(crate) fn belongs_to(&mut self, key: ClientKey, activity: &Arc<Activity>, exit: &Arc<Exit>) -> bool {
        let limit = &self.limit;
        let mut open = limit.open();
        if limit.free.available_permits() == 0 && open.held_by(key) >= limit.share {
            return false;
        }
        let connection = ClientConnection {
            activity: Arc::clone(activity),
            exit: Arc::clone(exit),
        };
        self.connection = Some((key, open.add(key, connection, limit.most_streams())));
        true
    }
}

impl ConnectionLimit {
    /// No connections yet, of at most `max`; `share` binds a client where all are taken.
    #[must_use]
    pub(crate) fn new(max: usize, share: Share) -> Arc<Self> {
        Arc::new(Self {
            max,
            share: share.of(max),
            free: Arc::new(Semaphore::new(max)),
            open: Mutex::default(),
        })
    }

    /// Admits a connection of the client `key` (`None`: a peer that is not counted). At the limit, waits until a connection
    /// is closed, and closes one. `None`: this client holds its share already, and the limit is reached.
    pub(crate) async fn place(
        self: &Arc<Self>,
        key: Option<ClientKey>,
        activity: &Arc<Activity>,
        exit: &Arc<Exit>,
    ) -> Option<ConnectionSlot> {
        let permit = match Arc::clone(&self.free).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => self.wait(key).await?,
        };
        let connection = key.map(|key| {
            let connection = ClientConnection {
                activity: Arc::clone(activity),
                exit: Arc::clone(exit),
            };
            (key, self.open().add(key, connection, self.most_streams()))
        });
        Some(ConnectionSlot {
            limit: Arc::clone(self),
            connection,
            _permit: permit,
        })
    }

    /// HTTP/2 streams that one client may have at once: as many as connections, and at least what one connection may have.
    fn most_streams(&self) -> usize {
        self.share.max(MAX_STREAMS as usize)
    }

    async fn wait(&self, key: Option<ClientKey>) -> Option<OwnedSemaphorePermit> {
        let mut free = std::pin::pin!(Arc::clone(&self.free).acquire_owned());
        loop {
            let (is_refused, victim) = {
                let mut open = self.open();
                let held = key.map_or(0, |key| open.held_by(key));
                open.say_full(self.max);
                let is_refused = key.is_some() && held >= self.share;
                (
                    is_refused,
                    if is_refused {
                        None
                    } else {
                        open.longest_idle(key, held, self.share)
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

    fn open(&self) -> MutexGuard<'_, ClientConnections> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientConnections {
    fn held_by(&self, key: ClientKey) -> usize {
        self.clients
            .get(&key)
            .map_or(0, |client| client.connections.len())
    }

    fn add(&mut self, key: ClientKey, connection: ClientConnection, most_streams: usize) -> u64 {
        let number = self.next;
        self.next += 1;
        let salt = self.hasher.hash_one(key);
        let client = self.clients.entry(key).or_insert_with(|| Client {
            connections: HashMap::new(),
            streams: Arc::new(StreamLimit::new(most_streams)),
        });
        connection.activity.share_streams(Arc::clone(&client.streams));
        let open = &mut client.connections;
        self.order.remove(&(open.len(), salt, key));
        open.insert(number, connection);
        self.order.insert((open.len(), salt, key));
        number
    }

    fn remove(&mut self, key: ClientKey, number: u64) {
        let salt = self.hasher.hash_one(key);
        let Entry::Occupied(mut open) = self.clients.entry(key) else {
            return;
        };
        self.order.remove(&(open.get().connections.len(), salt, key));
        open.get_mut().connections.remove(&number);
        match open.get().connections.len() {
            0 => drop(open.remove()),
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
            let open = || {
                self.clients
                    .get(key)
                    .into_iter()
                    .flat_map(|client| client.connections.values())
                    .filter(|connection| !connection.exit.is_used())
            };
            let idle = open().filter_map(|connection| Some((connection.activity.idle_since()?, connection)));
            if let Some((_, connection)) = idle.min_by_key(|(since, _)| *since) {
                return Some(Arc::clone(&connection.exit));
            }
            if *count > share || *count > held + 1 {
                return open()
                    .min_by_key(|connection| connection.activity.last_moved())
                    .map(|connection| Arc::clone(&connection.exit));
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
                "`max_connections` = {max} is reached: the client {key} holds {count} connections; the longest idle ones are \
                 closed"
            ),
            None => {
                tracing::warn!("`max_connections` = {max} is reached: trusted proxies hold all connections")
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
        place: Option<ConnectionSlot>,
    }

    fn key(ip: &str) -> Option<ClientKey> {
        Some(ip.parse::<IpAddr>().unwrap().into())
    }

    async fn connect(limit: &Arc<ConnectionLimit>, key: Option<ClientKey>) -> Connection {
        let (activity, exit) = (Arc::new(Activity::default()), Arc::new(Exit::default()));
        let place = limit.place(key, &activity, &exit).await;
        Connection {
            activity,
            exit,
            place,
        }
    }

    /// As [`connect`], while another task ends the connection that is to be closed.
    async fn squeeze_in(
        limit: &Arc<ConnectionLimit>,
        key: Option<ClientKey>,
        others: &mut [Connection],
    ) -> Option<Vec<usize>> {
        let mut waiting = std::pin::pin!(connect(limit, key));
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
        let limit = ConnectionLimit::new(4, Share::Percent(50));
        let mut others = Vec::new();
        for ip in ["192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.1"] {
            others.push(connect(&limit, key(ip)).await);
            tokio::time::sleep(Duration::from_millis(2)).await; // times are kept in milliseconds
        }
        others[0].activity.unblock(); // it has just taken something
        assert_eq!(
            squeeze_in(&limit, key("192.0.2.3"), &mut others).await,
            Some(vec![2])
        );
    }

    #[tokio::test]
    async fn a_share_binds_only_where_all_is_taken() {
        let limit = ConnectionLimit::new(4, Share::Percent(50));
        let mut others = Vec::new();
        for _ in 0..4 {
            others.push(connect(&limit, key("192.0.2.1")).await);
            assert!(others.last().unwrap().place.is_some());
        }
        assert_eq!(squeeze_in(&limit, key("192.0.2.1"), &mut others).await, None);
        assert!(
            others.iter().all(|other| !other.exit.is_used()),
            "it is refused at once"
        );
    }

    #[tokio::test]
    async fn busy_connections_give_way_only_to_clients_that_hold_less() {
        let limit = ConnectionLimit::new(4, Share::Percent(50));
        let mut others = Vec::new();
        for ip in ["192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.3"] {
            others.push(connect(&limit, key(ip)).await);
            others.last().unwrap().activity.block();
        }
        assert_eq!(
            squeeze_in(&limit, key("192.0.2.2"), &mut others).await,
            None,
            "it would hold as many"
        );
        let squeezed = squeeze_in(&limit, key("192.0.2.4"), &mut others).await.unwrap();
        assert!(squeezed == [0] || squeezed == [1], "{squeezed:?}");
    }

    #[tokio::test]
    async fn trusted_proxies_neither_count_nor_give_way() {
        let limit = ConnectionLimit::new(2, Share::Percent(50));
        let mut others = vec![connect(&limit, None).await, connect(&limit, None).await];
        assert_eq!(squeeze_in(&limit, key("192.0.2.1"), &mut others).await, None);
        others.pop();
        let mut held = vec![connect(&limit, key("192.0.2.1")).await];
        assert_eq!(squeeze_in(&limit, None, &mut held).await, Some(vec![0]));
    }

    #[tokio::test]
    async fn nothing_is_kept_of_a_connection_that_has_ended() {
        let limit = ConnectionLimit::new(3, Share::Count(1));
        let many = [
            connect(&limit, key("::1")).await,
            connect(&limit, key("::2")).await,
            connect(&limit, None).await,
        ];
        drop(many);
        let open = limit.open();
        assert!(open.clients.is_empty() && open.order.is_empty());
        assert_eq!(limit.free.available_permits(), 3);
    }
}

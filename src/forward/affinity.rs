//! Requests that keep to one server of an upstream.
//!
//! Input: the cookie of a client, or its subject or address. Output: the server that it is kept to, as an [`Affinity`], and
//! what the cookie calls a server. Invariants: a cookie that the gateway did not make names no server, and one that it made
//! for another upstream names none of this one; the name of a server in a cookie tells nothing of its address.

use std::hash::{DefaultHasher, Hash, Hasher as _};

use super::draw::mixed;
use super::server::Server;
use super::upstream::Upstream;
use crate::http::client::ClientKey;
use crate::values::Sticky;

/// The name of the cookie begins with this, and ends with that of the upstream.
pub(crate) const COOKIE_PREFIX: &str = "passgate-server-";
/// Keys for this purpose out of a secret of the state.
const KEY_CONTEXT: &str = "passgate 2026-11 name of a server in a cookie";
/// Characters of the name of a server in a cookie.
const ID: usize = 32;

/// The server that a request is kept to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Affinity {
    /// None.
    None,
    /// That of the client's cookie, by its place in the list; `None`: the client has no cookie yet, or its server is gone.
    Cookie(Option<usize>),
    /// That of a hash: of the servers that take requests, the one with the highest score.
    Hash(u64),
}

/// The hash of a text or of several: the same in every process of this version of the gateway.
pub(super) fn hash_of(value: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// The score of a server for a hash: the highest one wins (weighted rendezvous hashing). A server that is added or removed
/// moves its own share of the hashes and no other.
pub(super) fn score(server: &Server, hash: u64) -> f64 {
    // 53 bits, between 0 and 1 and never one of them.
    let bits = u32::try_from(mixed(server.hash ^ mixed(hash)) >> 32).unwrap_or_default();
    let unit = (f64::from(bits) + 0.5) / (f64::from(u32::MAX) + 1.0);
    -f64::from(server.weight) / unit.ln()
}

impl Upstream {
    /// Whether requests keep to a server by a cookie.
    #[must_use]
    pub(crate) fn has_sticky_cookie(&self) -> bool {
        self.sticky == Some(Sticky::Cookie)
    }

    /// Gives its servers their names in the cookie, by a secret that all processes with the same state have. The names stay
    /// for as long as this lives.
    pub(crate) fn name_servers(&self, secret: &[u8; 32]) {
        let key = blake3::derive_key(KEY_CONTEXT, secret);
        let id = |server: &Server| {
            let mut hasher = blake3::Hasher::new_keyed(&key);
            // No name of an upstream has a line break in it.
            hasher.update(self.name.as_bytes()).update(b"\n");
            hasher.update(server.label.as_bytes());
            let mut id = hasher.finalize().to_hex().to_string();
            id.truncate(ID);
            id
        };
        self.server_ids
            .get_or_init(|| self.servers.iter().map(id).collect());
    }

    /// The server that a request is kept to: by the values of its cookie of [`Upstream::cookie_name`], or by `who` asks.
    pub(crate) fn affinity<'a>(
        &self,
        cookies: impl FnOnce(&str) -> Vec<&'a [u8]>,
        who: impl FnOnce() -> u64,
    ) -> Affinity {
        match self.sticky {
            None => Affinity::None,
            Some(Sticky::Subject) => Affinity::Hash(who()),
            Some(Sticky::Cookie) => {
                let ids = self.server_ids.get().map_or(&[][..], Vec::as_slice);
                let named = |value: &[u8]| ids.iter().position(|id| id.as_bytes() == value);
                Affinity::Cookie(cookies(self.cookie_name()).into_iter().find_map(named))
            }
        }
    }

    /// The name of the cookie.
    pub(crate) fn cookie_name(&self) -> &str {
        &self.cookie_name
    }

    /// What the cookie is to say after an answer of the server, where that is something new to the client.
    pub(super) fn new_cookie(&self, affinity: Affinity, server: usize) -> Option<&str> {
        match affinity {
            Affinity::Cookie(known) if known != Some(server) => {
                self.server_ids.get()?.get(server).map(String::as_str)
            }
            _ => None,
        }
    }
}

/// The hash of who asks.
pub(crate) fn subject_hash(issuer: &str, subject: &str) -> u64 {
    hash_of(&(issuer, subject))
}

/// The hash of a client, where no one is known to ask.
pub(crate) fn client_hash(client: ClientKey) -> u64 {
    hash_of(&client)
}

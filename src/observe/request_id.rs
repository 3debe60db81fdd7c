//! Request ids: UUIDs of version 7 (RFC 9562 section 5.7), made without a system call each.
//!
//! One system call fetches 4,096 random bytes, enough for 409 ids. `Uuid::now_v7` asks the system for each id, and panics
//! where it has no random numbers; the crate `uuid` lays the ids out.
//!
//! An id names a request in logs and responses. It is unique and hard to guess; nothing is protected by it.

use http::HeaderValue;

/// Random bytes of one id.
const RANDOM: usize = 10;
/// Random bytes fetched from the system at a time.
const BLOCK: usize = 4096;

/// A source of ids, one for each worker.
pub(crate) struct RequestIds {
    block: Box<[u8; BLOCK]>,
    used: usize,
}

impl RequestIds {
    /// A source with its first block of random bytes.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub(crate) fn new() -> Result<Self, getrandom::Error> {
        let mut block = Box::new([0; BLOCK]);
        getrandom::fill(&mut *block)?;
        Ok(Self { block, used: 0 })
    }

    /// A new id for a request that came `now` milliseconds after 1970.
    pub(crate) fn next_id(&mut self, now: u64) -> RequestId {
        if self.used + RANDOM > BLOCK {
            self.refill();
        }
        let mut random = [0; RANDOM];
        random.copy_from_slice(&self.block[self.used..self.used + RANDOM]);
        self.used += RANDOM;
        let mut text = [0; RequestId::LENGTH];
        uuid::Builder::from_unix_timestamp_millis(now, &random)
            .into_uuid()
            .hyphenated()
            .encode_lower(&mut text);
        RequestId(text)
    }

    fn refill(&mut self) {
        let mut fresh = [0; BLOCK];
        if getrandom::fill(&mut fresh).is_err() {
            // A system that had random numbers at the start has lost them. Requests go on, with ids from the last ones.
            blake3::Hasher::new()
                .update(&*self.block)
                .finalize_xof()
                .fill(&mut fresh);
        }
        *self.block = fresh;
        self.used = 0;
    }
}

impl std::fmt::Debug for RequestIds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestIds").finish_non_exhaustive()
    }
}

/// An id, as its 36 characters.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId([u8; Self::LENGTH]);

impl RequestId {
    /// The length of every id.
    pub const LENGTH: usize = 36;

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("digits and hyphens are ASCII")
    }

    /// The id as a header value; allocates.
    #[must_use]
    pub fn to_header_value(self) -> HeaderValue {
        HeaderValue::from_bytes(&self.0).expect("digits and hyphens are a header value")
    }
}

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::fmt::Debug for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn an_id_is_a_version_7_uuid_of_its_time() {
        let id = RequestIds::new().unwrap().next_id(1_800_000_000_123);
        let uuid = uuid::Uuid::parse_str(id.as_str()).unwrap();
        assert_eq!(uuid.get_version_num(), 7);
        assert_eq!(uuid.get_variant(), uuid::Variant::RFC4122);
        assert_eq!(
            uuid.get_timestamp().unwrap().to_unix(),
            (1_800_000_000, 123_000_000)
        );
        assert_eq!(id.to_header_value(), id.as_str());
    }

    #[test]
    fn ids_differ_also_across_refills_and_workers() {
        let (mut one, mut other) = (RequestIds::new().unwrap(), RequestIds::new().unwrap());
        let ids: HashSet<_> = (0..2000)
            .flat_map(|_| [one.next_id(1), other.next_id(1)])
            .collect();
        assert_eq!(ids.len(), 4000);
    }
}

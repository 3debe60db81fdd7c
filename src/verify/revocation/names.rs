//! A table of names that are revoked, read by every worker while it grows.
//!
//! Enters: names, each with a number and the time from which it says nothing more. Leaves: the number of a name, without a
//! lock and without an allocation. The table is in parts, each of which is replaced whole: one more name copies one part,
//! so that what a revocation costs does not grow to seconds with how many there are. Never here: two writers at a time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;

use crate::clock::UnixSeconds;

/// Parts of a table; a power of two.
const PARTS: usize = 1024;
/// Calls of [`Names::sweep`] until every part has been looked at.
pub(super) const SWEEPS: usize = 64;

type Part = HashMap<Arc<str>, Entry>;

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// The later of those that were put.
    number: i64,
    expires_at: UnixSeconds,
}

/// The table. One without a name takes no room.
#[derive(Default)]
pub(super) struct Names {
    parts: OnceLock<Box<[ArcSwap<Part>]>>,
    len: AtomicUsize,
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Names")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl Names {
    /// The number of `name`. Allocates nothing; nearly free where there is no name at all.
    pub(super) fn find(&self, name: &str) -> Option<i64> {
        if self.len() == 0 {
            return None;
        }
        let parts = self.parts.get()?;
        parts[part_of(name)].load().get(name).map(|entry| entry.number)
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    /// Puts a name, or a later number of one that is there; `expires_at` replaces the time before. Says whether that is a
    /// new name or a later number. One writer at a time.
    pub(super) fn put(&self, name: &str, number: i64, expires_at: UnixSeconds) -> bool {
        let parts = self.parts.get_or_init(|| {
            let empty = Arc::<Part>::default();
            (0..PARTS).map(|_| ArcSwap::new(Arc::clone(&empty))).collect()
        });
        let part = &parts[part_of(name)];
        let before = part.load_full();
        let known = before.get(name);
        if known.is_some_and(|known| known.expires_at == expires_at && number <= known.number) {
            return false;
        }
        let mut after = Part::clone(&before);
        let is_more = insert(&mut after, name, number, expires_at);
        part.store(Arc::new(after));
        if known.is_none() {
            // After the name, so that a reader who sees the count finds it.
            self.len.fetch_add(1, Ordering::AcqRel);
        }
        is_more
    }

    /// One writer at a time.
    pub(super) fn remove(&self, name: &str) {
        let Some(parts) = self.parts.get() else { return };
        self.retain(&parts[part_of(name)], |known, _| known != name);
    }

    /// Forgets what had expired at `over` in one of [`SWEEPS`] parts of the table. One writer at a time.
    pub(super) fn sweep(&self, sweep: usize, over: UnixSeconds) {
        let Some(parts) = self.parts.get().filter(|_| self.len() > 0) else {
            return;
        };
        for part in parts.iter().skip(sweep % SWEEPS).step_by(SWEEPS) {
            self.retain(part, |_, entry| entry.expires_at > over);
        }
    }

    fn retain(&self, part: &ArcSwap<Part>, stays: impl Fn(&str, &Entry) -> bool) {
        let before = part.load_full();
        let gone = before.iter().filter(|(name, entry)| !stays(name, entry)).count();
        if gone == 0 {
            return;
        }
        let kept: Part = before
            .iter()
            .filter(|(name, entry)| stays(name, entry))
            .map(|(n, e)| (n.clone(), *e))
            .collect();
        part.store(Arc::new(kept));
        self.len.fetch_sub(gone, Ordering::AcqRel);
    }
}

/// A table that is not read yet: many names at once, each for the price of one.
#[derive(Default)]
pub(super) struct Building(HashMap<usize, Part>);

impl Building {
    pub(super) fn put(&mut self, name: &str, number: i64, expires_at: UnixSeconds) {
        insert(self.0.entry(part_of(name)).or_default(), name, number, expires_at);
    }

    pub(super) fn finish(mut self) -> Names {
        let names = Names::default();
        if !self.0.is_empty() {
            names
                .len
                .store(self.0.values().map(HashMap::len).sum(), Ordering::Release);
            let parts =
                (0..PARTS).map(|part| ArcSwap::from_pointee(self.0.remove(&part).unwrap_or_default()));
            // Empty until now.
            let _ = names.parts.set(parts.collect());
        }
        names
    }
}

fn insert(part: &mut Part, name: &str, number: i64, expires_at: UnixSeconds) -> bool {
    match part.get_mut(name) {
        Some(known) => {
            let is_later = number > known.number;
            *known = Entry {
                number: number.max(known.number),
                expires_at,
            };
            is_later
        }
        None => {
            part.insert(name.into(), Entry { number, expires_at });
            true
        }
    }
}

/// By the end of the name, where random ids differ (FNV-1a). Names that were chosen to fall together only make theirs a
/// larger part; what is in a part is found by a keyed hash.
fn part_of(name: &str) -> usize {
    let bytes = name.as_bytes();
    let end = &bytes[bytes.len().saturating_sub(12)..];
    let hash = end.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    usize::try_from((hash ^ (hash >> 32)) % PARTS as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_until_they_are_swept() {
        let names = Names::default();
        assert_eq!((names.find("a"), names.len()), (None, 0));
        for number in 0..5_000 {
            assert!(names.put(&format!("name-{number}"), number, 100 + number));
        }
        assert_eq!(names.len(), 5_000);
        for sweep in 0..SWEEPS {
            names.sweep(sweep, 1_100);
        }
        assert_eq!(names.len(), 3_999);
        assert_eq!(
            (names.find("name-1000"), names.find("name-1001")),
            (None, Some(1001))
        );
        names.remove("name-1001");
        names.remove("nobody");
        assert_eq!((names.find("name-1001"), names.len()), (None, 3_998));
        for sweep in 0..SWEEPS {
            names.sweep(sweep, UnixSeconds::MAX - 1);
        }
        assert_eq!(names.len(), 0);
        // What never expires stays.
        names.put("for ever", 1, UnixSeconds::MAX);
        (0..SWEEPS).for_each(|sweep| names.sweep(sweep, UnixSeconds::MAX - 1));
        assert_eq!(names.find("for ever"), Some(1));
    }

    #[test]
    fn the_later_number_counts_and_the_last_time() {
        let names = Names::default();
        assert!(names.put("a", 5, 100));
        assert!(!names.put("a", 4, 50));
        assert_eq!((names.find("a"), names.len()), (Some(5), 1));
        (0..SWEEPS).for_each(|sweep| names.sweep(sweep, 60));
        assert_eq!(names.find("a"), None);
        let mut building = Building::default();
        for (number, expires_at) in [(3, 10), (5, 20), (4, 30)] {
            building.put("a", number, expires_at);
        }
        let names = building.finish();
        assert_eq!(
            (names.find("a"), names.find("b"), names.len()),
            (Some(5), None, 1)
        );
        assert!(names.put("a", 6, 30) && !names.put("a", 6, 30));
    }

    #[test]
    fn ids_fall_into_all_parts() {
        let mut seen = vec![0; PARTS];
        for number in 0..(PARTS as u64 * 16) {
            let random = blake3::hash(&number.to_le_bytes()).to_hex();
            seen[part_of(&format!("0190b2c4-{}", &random.as_str()[..24]))] += 1;
        }
        assert!(seen.iter().all(|names| (1..64).contains(names)), "{seen:?}");
    }
}

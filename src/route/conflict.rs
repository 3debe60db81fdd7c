//! Pairs of routes that could tie.

use std::collections::BTreeSet;

use super::Pattern;

/// The most conflicts that are reported of one table: a file with more of them has one mistake many times.
pub const MOST_CONFLICTS: usize = 100;

/// Two routes that cover a path without one being more specific.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The index of the one that was added first.
    pub first: usize,
    /// The index of the other.
    pub second: usize,
    /// A path that both cover.
    pub example: String,
}

#[derive(Debug, Default)]
pub(super) struct Conflicts(BTreeSet<(usize, usize)>);

impl Conflicts {
    pub(super) fn add(&mut self, one: usize, other: usize) {
        if !self.is_full() {
            self.0.insert((other.max(one), one.min(other)));
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= MOST_CONFLICTS
    }

    /// In the order of the second route of each.
    pub(super) fn with_examples(self, patterns: &[&Pattern]) -> Vec<Conflict> {
        self.0
            .into_iter()
            .map(|(second, first)| Conflict { first, second, example: patterns[first].common_path(patterns[second]) })
            .collect()
    }
}

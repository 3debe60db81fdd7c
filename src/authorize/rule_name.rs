//! What rules are called.
//!
//! Input: what a rule asks for, and its place in the file. Output: texts for log lines, `check` and `explain`.

use crate::config::Place;

/// A rule as log lines and `explain` name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleName {
    /// What it asks for: ``any of the roles `admin`, `ops` ``.
    pub text: Box<str>,
    /// Its line in the file.
    pub place: Place,
}

impl std::fmt::Display for RuleName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.text, self.place)
    }
}

/// Names between backticks, with commas.
pub(super) fn listed(names: &[impl AsRef<str>]) -> String {
    names
        .iter()
        .map(|name| format!("`{}`", name.as_ref()))
        .collect::<Vec<_>>()
        .join(", ")
}

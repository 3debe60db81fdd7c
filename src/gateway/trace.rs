//! The steps of a decision, as they are taken.
//!
//! Serving and `explain` run the same functions. Serving passes [`Attempts`], which keeps what became of each credential in a
//! few bytes, and no text.

use crate::observe::{Attempt, Attempts};
use crate::verify;

/// Receives each step of a decision.
pub trait Trace {
    /// Whether the steps are read at all.
    const IS_READ: bool;

    /// A step: `part` is `target`, `route`, `credential` or `rules`. `detail` is called only where the steps are read.
    fn step(&mut self, part: &'static str, passed: bool, detail: impl FnOnce() -> String);

    /// A check of the token of the last step.
    fn check(&mut self, check: verify::Step);

    /// Credentials are looked for from here on.
    fn looks_for_credentials(&mut self) {}

    /// A credential was looked at.
    fn attempt(&mut self, _attempt: Attempt) {}
}

/// The trace that keeps nothing.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Trace for Silent {
    const IS_READ: bool = false;

    #[inline]
    fn step(&mut self, _part: &'static str, _passed: bool, _detail: impl FnOnce() -> String) {}

    #[inline]
    fn check(&mut self, _check: verify::Step) {}
}

/// The trace of a request that is served.
impl Trace for Attempts {
    const IS_READ: bool = false;

    #[inline]
    fn step(&mut self, _part: &'static str, _passed: bool, _detail: impl FnOnce() -> String) {}

    #[inline]
    fn check(&mut self, _check: verify::Step) {}

    #[inline]
    fn looks_for_credentials(&mut self) {
        self.is_read = true;
    }

    #[inline]
    fn attempt(&mut self, attempt: Attempt) {
        self.note(attempt);
    }
}

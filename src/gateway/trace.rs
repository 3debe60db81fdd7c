//! The steps of a decision, as they are taken.
//!
//! Serving and `explain` run the same functions. Serving passes [`Silent`]: no text is made and nothing is kept.

use crate::verify;

/// Receives each step of a decision.
pub trait Trace {
    /// Whether the steps are read at all.
    const IS_READ: bool;

    /// A step: `part` is `target`, `route`, `credential` or `rules`. `detail` is called only where the steps are read.
    fn step(&mut self, part: &'static str, passed: bool, detail: impl FnOnce() -> String);

    /// A check of the token of the last step.
    fn check(&mut self, check: verify::Step);
}

/// The trace of a request that is served.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Trace for Silent {
    const IS_READ: bool = false;

    #[inline]
    fn step(&mut self, _part: &'static str, _passed: bool, _detail: impl FnOnce() -> String) {}

    #[inline]
    fn check(&mut self, _check: verify::Step) {}
}

//! The TOML file: read, checked for its own form, and every problem collected with its place.
//!
//! Input: the text of the file. Output: a [`raw::RawConfig`] and [`Problems`]. No file is opened and no host is contacted
//! here; the rooms above compile the raw tables and add their problems to the same [`Problems`]. Invariants: the reader
//! reports every problem, an accepted key has an effect, and no message holds a secret.

mod check;
pub(crate) mod preset;
pub(crate) mod problems;
pub(crate) mod raw;
mod reader;
mod redact;
mod render;
pub(crate) mod schema;
mod secret;
mod sign_in;
mod spanned;
#[cfg(test)]
mod tests;

pub(crate) use crate::values::{self, cookie_on_http, nearest};
pub(crate) use check::check;
pub use problems::Problems;
pub(crate) use problems::{Listed, Place};
pub use raw::RawConfig;
pub(crate) use raw::Spanned;
pub use reader::read;
pub(crate) use secret::load_secret;

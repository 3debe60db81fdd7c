//! The TOML file: read, checked for its own form, and every problem collected with its place.
//!
//! Input: the text of the file. Output: a [`raw::RawConfig`] and [`Problems`]. No file is opened and no host is contacted
//! here; the rooms above compile the raw tables and add their problems to the same [`Problems`]. Invariants: the reader
//! reports every problem, an accepted key has an effect, and no message holds a secret.

mod check;
pub mod problems;
pub mod raw;
mod reader;
mod redact;
mod render;
pub mod schema;
mod secret;
mod sign_in;
mod spanned;
#[cfg(test)]
mod tests;

pub use crate::values::{self, cookie_on_http, nearest};
pub use check::check;
pub use problems::{Listed, Place, Problems};
/// The name that `verify::egress` knows it by.
pub use raw::Spanned as At;
pub use raw::{RawConfig, Spanned};
pub use reader::read;
pub use secret::{Secret, load_secret};

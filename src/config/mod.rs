//! The TOML file: read, checked for its own form, and every problem collected with its place.
//!
//! Enters: the text of the file. Leaves: a [`raw::RawConfig`] and [`Problems`]. Nothing is opened and nobody is asked
//! here; rooms above turn the raw tables into ready values and add what they find to the same [`Problems`]. What must
//! never happen: that a reader stops at the first problem, that a key is accepted without a word and then ignored, or
//! that a secret that somebody typed into the file shows up in what is printed about it.

mod check;
pub mod problems;
pub mod raw;
mod reader;
mod redact;
mod render;
pub mod schema;
mod secret;
mod sign_in;
#[cfg(test)]
mod tests;

pub use crate::values::{self, cookie_on_http, nearest};
pub use check::check;
pub use problems::{Listed, Place, Problems};
pub use raw::{At, RawConfig};
pub use reader::read;
pub use secret::{Secret, load_secret};

//! The TOML file: read, checked for its own form, and every problem collected with its place.
//!
//! Enters: the text of the file. Leaves: a [`raw::RawConfig`] and [`Problems`]. Nothing is opened and nobody is asked
//! here; rooms above turn the raw tables into ready values and add what they find to the same [`Problems`].

pub mod problems;
pub mod raw;
mod reader;
mod suggest;
pub mod values;

pub use problems::{Place, Problems};
pub use raw::{At, RawConfig};
pub use reader::read;
pub use suggest::nearest;

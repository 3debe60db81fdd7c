//! What a key of the configuration can hold, where a string is not enough: each type with `FromStr` and an error that is a
//! hint for the writer of the file.
//!
//! Input: the text of one value. Output: a value that cannot be wrong. Invariants: nothing is looked up or opened here.

mod color;
mod field;
mod rule;
mod scalar;
mod server_address;
mod suggest;
#[cfg(test)]
mod tests;
pub mod text;
mod token;

pub use color::Color;
pub use field::{FieldName, FieldValue};
pub use rule::{Auth, Builtin, MissingClaim, Scope};
pub use scalar::*;
pub use server_address::{BadAddress, ServerAddress, ServerHost, ServerScheme};
pub use suggest::{echo, nearest};
pub use token::{ParameterName, Token};

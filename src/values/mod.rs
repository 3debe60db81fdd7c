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
pub(crate) mod text;
mod token;

pub(crate) use color::Color;
pub(crate) use field::{FieldName, FieldValue};
pub(crate) use rule::{Auth, Builtin, MissingClaim, Scope};
pub(crate) use scalar::*;
pub(crate) use server_address::{ServerAddress, ServerHost, ServerScheme};
pub(crate) use suggest::{echo, nearest};
pub(crate) use token::{ParameterName, Token};

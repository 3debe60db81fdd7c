//! What a key of the configuration can hold, where a string is not enough: each type with `FromStr` and an error that is a
//! hint for the writer of the file.
//!
//! Input: the text of one value. Output: a value that cannot be wrong. Invariants: nothing is looked up or opened here.

mod bad_value;
mod color;
mod field;
mod host_pattern;
mod path_pattern;
mod request_line;
mod rule;
mod scalar;
mod server_address;
mod state_url;
mod suggest;
#[cfg(test)]
mod tests;
pub mod text;
mod token;
mod url;

pub use bad_value::BadValue;
pub use color::Color;
pub use field::{FieldName, FieldValue};
pub use host_pattern::{HostPattern, HostPatternError};
pub use path_pattern::{MAX_SEGMENTS, Pattern, PatternError, Segment};
pub use request_line::RequestLine;
pub use rule::{Auth, Builtin, MOST_ROLE_BYTES, MOST_ROLES, MissingClaim, Scope, role, roles_fit};
pub use scalar::*;
pub use server_address::{ServerAddress, ServerHost, ServerScheme};
pub use state_url::StateUrl;
pub use suggest::{did_you_mean, echo, nearest};
pub use token::{ParameterName, Token};
pub use url::{Url, url};

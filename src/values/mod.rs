//! What a key of the configuration can hold, where a string is not enough: each type with `FromStr` and an error that is a
//! hint for the writer of the file.
//!
//! Input: the text of one value. Output: a value that cannot be wrong. Invariants: nothing is looked up or opened here.

mod bad_value;
mod color;
mod condition;
mod field;
mod host_pattern;
mod path_pattern;
mod redirect_uri;
mod request_line;
mod rule;
mod scalar;
mod server_address;
mod signing_algorithm;
mod state_url;
mod suggest;
#[cfg(test)]
mod tests;
pub(crate) mod text;
mod token;

pub(crate) use bad_value::BadValue;
pub(crate) use color::Color;
pub(crate) use condition::{Condition, Variables};
pub(crate) use field::{FieldName, FieldValue};
pub use host_pattern::HostPattern;
pub use path_pattern::Pattern;
pub(crate) use path_pattern::Segment;
pub(crate) use redirect_uri::RedirectUri;
pub(crate) use request_line::RequestLine;
pub(crate) use rule::{
    Alias, Aliases, Auth, Builtin, MOST_ROLE_BYTES, MOST_ROLES, MissingClaim, RateLimitBy, Scope, Sticky,
    role, roles_fit,
};
pub(crate) use scalar::*;
pub(crate) use server_address::{ServerAddress, ServerHost, ServerScheme};
pub use signing_algorithm::SigningAlgorithm;
pub(crate) use state_url::StateUrl;
pub(crate) use suggest::{did_you_mean, echo, nearest};
pub(crate) use token::{ParameterName, Token};

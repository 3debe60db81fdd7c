//! HTTP values that every room uses, and the strictness that the HTTP crates leave to their users.

pub(crate) mod client;
pub mod cookie;
pub(crate) mod headers;
pub(crate) mod incoming;
pub(crate) mod location;
pub(crate) mod origin;
pub(crate) mod pace;
pub(crate) mod percent;
pub(crate) mod reply;
pub(crate) mod target;
pub(crate) mod url;

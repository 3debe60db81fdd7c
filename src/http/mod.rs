//! HTTP values that every room uses, and the strictness that the HTTP crates leave to their users.

pub mod client;
pub mod cookie;
pub mod headers;
pub mod incoming;
pub mod location;
pub mod origin;
pub mod pace;
pub mod percent;
pub mod reply;
pub mod target;
pub mod url;

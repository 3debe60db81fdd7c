//! passgate: an authentication gateway.
//!
//! The crate is a house of layers; a file imports only from layers below its own (`tests/it/architecture.rs` checks it).
//!
//! | layer | rooms |
//! |---|---|
//! | 12 | `main` |
//! | 11 | [`cli`] |
//! | 10 | [`app`] |
//! | 9 | [`server`] |
//! | 8 | [`gateway`] |
//! | 7 | [`login`] |
//! | 6 | [`session`], [`account`], [`pages`], [`observe`] |
//! | 5 | [`forward`], [`identity_headers`], [`signing`] |
//! | 4 | [`verify`], [`credential`], [`authorize`], [`route`], [`state`] |
//! | 3 | [`config`] |
//! | 2 | [`values`], [`net`] |
//! | 1 | [`http`], [`identity`], [`revocation`], [`blocking`] |
//! | 0 | [`refusal`], [`clock`] |

pub mod account;
pub mod app;
pub mod authorize;
pub mod blocking;
pub mod cli;
pub mod clock;
pub mod config;
pub mod credential;
pub mod forward;
pub mod gateway;
pub mod http;
pub mod identity;
pub mod identity_headers;
pub mod login;
pub mod net;
pub mod observe;
pub mod pages;
pub mod refusal;
pub mod revocation;
pub mod route;
pub mod server;
pub mod session;
pub mod signing;
pub mod state;
pub mod values;
pub mod verify;

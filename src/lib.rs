//! passgate: an authentication gateway.
//!
//! The crate is a house of layers; a file imports only from layers below its own (`tests/architecture.rs` checks it).
//!
//! | layer | rooms |
//! |---|---|
//! | 10 | `main` |
//! | 9 | [`cli`] |
//! | 8 | [`app`] |
//! | 7 | [`server`] |
//! | 6 | [`gateway`] |
//! | 5 | [`observe`], [`endpoint`] |
//! | 4 | [`forward`], [`caller`], [`signing`] |
//! | 3 | [`verify`], [`credential`], [`authorize`], [`route`], [`state`] |
//! | 2 | [`config`] |
//! | 1 | [`identity`], [`http`] |
//! | 0 | [`refusal`], [`clock`] |

pub mod app;
pub mod authorize;
pub mod caller;
pub mod cli;
pub mod clock;
pub mod config;
pub mod credential;
pub mod endpoint;
pub mod forward;
pub mod gateway;
pub mod http;
pub mod identity;
pub mod observe;
pub mod refusal;
pub mod route;
pub mod server;
pub mod signing;
pub mod state;
pub mod verify;

//! passgate: an authentication gateway.
//!
//! The crate is a house of layers; a file imports only from layers below its own (`tests/architecture.rs` checks it).
//!
//! | layer | rooms |
//! |---|---|
//! | 8 | `main`, [`cli`] |
//! | 7 | [`app`] |
//! | 6 | [`server`] |
//! | 5 | [`gateway`] |
//! | 4 | [`observe`] |
//! | 3 | [`forward`], [`caller`], [`signing`] |
//! | 2 | [`verify`], [`credential`], [`authorize`], [`route`], [`state`] |
//! | 1 | [`config`] |
//! | 0 | [`refusal`], [`identity`], [`clock`], [`http`] |

pub mod app;
pub mod authorize;
pub mod caller;
pub mod cli;
pub mod clock;
pub mod config;
pub mod credential;
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

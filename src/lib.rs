//! passgate: an authentication gateway.
//!
//! The crate is a house of layers; a file imports only from layers below its own (`tests/it/architecture.rs` checks it).
//!
//! | layer | rooms |
//! |---|---|
//! | 11 | `main` |
//! | 10 | [`cli`] |
//! | 9 | [`app`] |
//! | 8 | [`server`] |
//! | 7 | [`gateway`] |
//! | 6 | [`login`] |
//! | 5 | [`observe`], [`account`], [`session`], [`pages`] |
//! | 4 | [`forward`], [`identity_headers`], [`signing`] |
//! | 3 | [`verify`], [`credential`], [`authorize`], [`route`], [`state`] |
//! | 2 | [`config`] |
//! | 1 | [`identity`], [`http`], [`blocking`] |
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
pub mod observe;
pub mod pages;
pub mod refusal;
pub mod route;
pub mod server;
pub mod session;
pub mod signing;
pub mod state;
pub mod verify;

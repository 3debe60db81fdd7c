//! The integration tests: one binary, a module for each behaviour. `cargo test --test it sessions::` runs one of them.
//!
//! [`support`] is the harness: the real gateway on port 0, an app that records what it receives, an issuer of tokens, and
//! a client that writes raw bytes. `tests/allocation.rs` is a binary of its own because it brings its own allocator.
#![allow(clippy::unwrap_used, clippy::panic)]

mod accounts;
mod architecture;
mod audit;
mod balancing;
mod bearer;
mod browsers;
mod commands;
mod conditions;
mod connections;
mod decisions;
mod diff;
mod doctor;
mod forward_auth;
mod hostile;
mod limits;
mod links;
mod monitoring;
mod native_clients;
mod networks;
mod provider_grants;
mod provider_logout;
mod provider_presets;
mod providers;
mod proxy_protocol;
mod proxying;
mod reload;
mod roles;
mod running;
mod sessions;
mod shadow;
mod sign_in_loops;
mod signing;
mod single_page;
mod socket_activation;
mod step_up;
mod streams;
mod support;
mod upstream_names;
mod upstream_tls;
mod why;
mod wycheproof;

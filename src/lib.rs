//! passgate: an authentication gateway.
//!
//! The crate is the program: it offers [`main`] and no library interface. What the benchmarks, the fuzz targets and the integration
//! tests use of it is listed in `internals`, which can change with any release.
//!
//! The crate is a house of layers; a file imports only from layers below its own (`tests/it/architecture.rs` checks it).
//!
//! | layer | rooms |
//! |---|---|
//! | 12 | `main` |
//! | 11 | `cli` |
//! | 10 | `app` |
//! | 9 | `server` |
//! | 8 | `gateway` |
//! | 7 | `login` |
//! | 6 | `session`, `account`, `pages`, `observe` |
//! | 5 | `forward`, `identity_headers`, `signing`, `rate_limit`, `audit` |
//! | 4 | `verify`, `credential`, `authorize`, `route`, `state` |
//! | 3 | `config` |
//! | 2 | `values`, `net` |
//! | 1 | `http`, `identity`, `revocation`, `blocking` |
//! | 0 | `refusal`, `clock` |

mod account;
mod app;
mod audit;
mod authorize;
mod blocking;
mod cli;
mod clock;
mod config;
mod credential;
mod forward;
mod gateway;
mod http;
mod identity;
mod identity_headers;
mod login;
mod net;
mod observe;
mod pages;
mod rate_limit;
mod refusal;
mod revocation;
mod route;
mod server;
mod session;
mod signing;
mod state;
mod values;
mod verify;

pub use cli::main;

/// What this repository's benchmarks, fuzz targets and integration tests use. It can change with any release.
#[doc(hidden)]
#[allow(missing_docs)]
pub mod internals {
    pub mod account {
        pub use crate::account::{Accounts, Policy, hash};
    }
    pub mod app {
        pub use crate::app::{ExplainRequest, Joined, explain, gateway, load};
    }
    pub mod authorize {
        pub use crate::authorize::{RequestFacts, Rules};
    }
    pub mod clock {
        pub use crate::clock::Clock;
    }
    pub mod config {
        pub use crate::config::{Problems, RawConfig, read};
    }
    pub mod credential {
        pub use crate::credential::Sources;
    }
    pub mod forward {
        pub use crate::forward::Pool;
    }
    pub mod gateway {
        pub use crate::gateway::{
            Decision, RequestHead, Sender, SignIn, Silent, WorkerContext, decide_at_once,
        };
    }
    pub mod http {
        pub use crate::http::cookie;
        pub mod client {
            pub use crate::http::client::Share;
        }
        pub mod headers {
            pub use crate::http::headers::{
                Entry, FoldedNames, Host, drop_hop_by_hop, is_forbidden_trailer, remove_if, request_host,
            };
        }
        pub mod target {
            pub use crate::http::target::{
                PathLeniency, QueryEdit, Target, canonical_pattern_segment, canonical_prefix,
            };
        }
    }
    pub mod identity {
        pub use crate::identity::{Caller, SESSION_ISSUER};
    }
    pub mod identity_headers {
        pub use crate::identity_headers::{IdentityHeaders, Passing};
    }
    pub mod login {
        pub use crate::login::provider::{Trial, TrialUser};
        pub use crate::login::{Sites, read_credentials, return_location};
    }
    pub mod net {
        pub mod egress {
            pub use crate::net::egress::Egress;
        }
        pub mod proxy_protocol {
            pub use crate::net::proxy_protocol::{Announced, Fixed, HeaderFault};
        }
    }
    pub mod observe {
        pub use crate::observe::{AccessLog, Decisions, Metrics, WorkerTelemetry};
    }
    pub mod rate_limit {
        pub use crate::rate_limit::RateLimits;
    }
    pub mod refusal {
        pub use crate::refusal::Refusal;
    }
    pub mod revocation {
        pub use crate::revocation::{Revocation, Target};
    }
    pub mod route {
        pub use crate::route::{Builder, HostPattern, Lookup, NamedHosts, Pattern, Table};
    }
    pub mod server {
        pub mod connection {
            pub use crate::server::connection::{Accepted, serve};
        }
        pub mod context {
            pub use crate::server::context::Context;
        }
        pub mod framing {
            pub use crate::server::framing::Scanner;
        }
    }
    pub mod session {
        pub use crate::session::{Device, Sessions, Settings};
    }
    pub mod signing {
        pub use crate::signing::{Kind, SigningKeys};
        pub use crate::values::SigningAlgorithm;
    }
    pub mod state {
        pub use crate::state::{
            AccountRow, Authentication, Authorities, RefreshRow, SessionRow, State, open,
        };
        pub mod sqlite {
            pub use crate::state::sqlite::Sqlite;
        }
    }
    pub mod verify {
        pub use crate::verify::{
            Algorithm, Family, Issuers, KeySet, LocalCache, MAX_KEYS, MAX_TOKEN_BYTES, Origin, Revocations,
            Verifier, read_unverified, verify_signature,
        };
    }
}

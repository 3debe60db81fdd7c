//! Sign-in with an OpenID Connect provider: the way there, and the way back (OpenID Connect Core 1.0 section 3.1, with PKCE
//! of RFC 7636 and the issuer of RFC 9207).
//!
//! Input: a browser that wants to sign in; later the same browser with a code. Output: a redirect to the provider; later a
//! session. Invariants: only the browser that began an attempt completes it, once; no worker waits for a provider on its own
//! thread; a provider that is down keeps nothing but its own sign-in from working; no page shows text of a provider.
//!
//! `flow` and `landing` have the endpoints, `registry` the providers, `attempt` is what the browser keeps, `metadata` what the provider
//! publishes. `exchange` makes a profile of a code, by way of `token_endpoint`, `id_token` and `userinfo`; `profile` is what the
//! provider says about the user, `rules` who may sign in, `logout` ends sessions with those of the provider, and `admission` the identity that comes of it. `grants` is what is
//! kept for a session and renewed, by the key of `seal`. `examine` tries a provider without a user; `trial` is one without a network.

mod admission;
mod attempt;
mod config;
mod examine;
mod exchange;
pub(super) mod flow;
pub(crate) mod grants;
mod id_token;
pub(super) mod landing;
pub(super) mod logout;
mod metadata;
mod oauth2;
mod profile;
pub(crate) mod registry;
mod rules;
mod seal;
mod token_endpoint;
mod trial;
mod userinfo;

pub(crate) use config::ProviderPlan;
pub(crate) use examine::{Examined, RedirectUri};
pub(crate) use seal::Sealing;
pub use trial::{Trial, TrialUser};

//! What the operator's page tells of the servers of an upstream.

use std::sync::atomic::Ordering;

use super::upstream::Upstream;

/// Whether a server gets requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerState {
    /// It does.
    Up,
    /// Its health check failed.
    Down,
    /// Requests failed at it, and it is left out for a while where there is another (passive ejection).
    LeftOut,
}

impl Upstream {
    /// Each server with its state.
    pub(crate) fn server_states(&self) -> impl Iterator<Item = (&str, ServerState)> {
        self.servers.iter().map(|server| {
            let health = &server.health;
            let state = if health.down.load(Ordering::Relaxed) {
                ServerState::Down
            } else if health.is_suspect() {
                ServerState::LeftOut
            } else {
                ServerState::Up
            };
            (&*server.label, state)
        })
    }

    /// Whether its servers have a health check.
    pub(crate) fn has_health_check(&self) -> bool {
        self.health_check.is_some()
    }
}

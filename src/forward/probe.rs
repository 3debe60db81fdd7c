//! Tries the servers of an upstream once, as requests and health checks reach them.
//!
//! Input: an [`Upstream`]. Output: for each server whether it can be reached, and the time of its certificate. For the control
//! runtime and for commands, not for a worker.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::connect::{Purpose, connect};
use super::health_check::ask;
use super::name_watch::watch_names;
use super::upstream::Upstream;
use crate::net::certificate::Validity;

/// The longest time for a connection.
const LONGEST_CONNECT: Duration = Duration::from_secs(5);

/// A server that was tried.
#[derive(Debug)]
pub(crate) struct Probed {
    /// As in the log.
    pub(crate) server: Arc<str>,
    /// The time of its certificate, where it has one that can be read; or why it cannot be used.
    pub(crate) outcome: Result<Option<Validity>, String>,
}

/// Connects to the server with this number, and asks for the path of the health check where there is one.
pub(crate) async fn probe(upstream: &Arc<Upstream>, number: usize) -> Option<Probed> {
    let server = upstream.servers.get(number)?;
    let names = watch_names(Arc::clone(upstream), std::future::pending());
    let try_it = async {
        let deadline = Instant::now() + upstream.connect_timeout.min(LONGEST_CONNECT);
        let link = connect(server, Purpose::OWN, deadline).await;
        let link = link.map_err(|error| error.to_string())?;
        let validity = link.certificates().first().and_then(Validity::of);
        drop(link);
        if let Some(check) = &upstream.health_check {
            let asked = ask(upstream, server, check).await;
            asked.map_err(|reason| format!("the health check of `{}`: {reason}", check.path))?;
        }
        Ok(validity)
    };
    let outcome = tokio::select! {
        outcome = try_it => outcome,
        () = names => return None,
    };
    Some(Probed {
        server: Arc::clone(&server.label),
        outcome,
    })
}

//! The listening sockets while the configuration changes.
//!
//! Input: the addresses of a configuration. Output: sockets that listen, which the workers share. Invariants: an address that
//! stays keeps its socket, and with it the connections that wait there; where one of the new addresses cannot be had, all
//! stay as they are.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use super::settings::Settings;
use super::{Failure, failed};
use crate::server::listen;
use crate::server::worker::OpenSocket;

/// The sockets of the configuration in use.
#[derive(Debug)]
pub(super) struct Sockets {
    told: watch::Sender<Vec<Arc<OpenSocket>>>,
}

impl Sockets {
    /// Opens the sockets of a start.
    ///
    /// # Errors
    /// What the system said of the first address that cannot be had.
    pub(super) fn open(settings: &Settings) -> Result<Self, Failure> {
        let sockets = Self {
            told: watch::Sender::new(Vec::new()),
        };
        let opened = sockets.next(settings)?;
        sockets.replace(opened);
        Ok(sockets)
    }

    /// The sockets of `settings`: those in use where their addresses are in it, and new ones.
    ///
    /// # Errors
    /// As [`Sockets::open`]; nothing has changed then.
    pub(super) fn next(&self, settings: &Settings) -> Result<Vec<Arc<OpenSocket>>, Failure> {
        let listen = settings.listen.iter().map(|address| (address, false));
        let redirect = settings.redirect_http.iter().map(|address| (address, true));
        let mut next = Vec::new();
        for (address, redirects) in listen.chain(redirect) {
            let known: Vec<_> = self
                .told
                .borrow()
                .iter()
                .filter(|socket| socket.is(address, redirects))
                .cloned()
                .collect();
            if known.is_empty() {
                let opened = listen::open(address).map_err(failed)?;
                next.extend(opened.into_iter().map(|listener| {
                    Arc::new(OpenSocket {
                        address: address.clone(),
                        redirects,
                        listener,
                    })
                }));
            } else {
                next.extend(known);
            }
        }
        Ok(next)
    }

    /// Those of `next` that are not in use yet.
    pub(super) fn added(&self, next: &[Arc<OpenSocket>]) -> Vec<Arc<OpenSocket>> {
        let used = self.told.borrow();
        let is_new = |socket: &&Arc<OpenSocket>| !used.iter().any(|known| Arc::ptr_eq(known, socket));
        next.iter().filter(is_new).cloned().collect()
    }

    /// Puts `next` to use; the workers stop to accept connections on any other socket.
    pub(super) fn replace(&self, next: Vec<Arc<OpenSocket>>) {
        self.told.send_replace(next);
    }

    /// For the workers.
    pub(super) fn told(&self) -> &watch::Sender<Vec<Arc<OpenSocket>>> {
        &self.told
    }

    /// The sockets in use.
    pub(super) fn all(&self) -> Vec<Arc<OpenSocket>> {
        self.told.borrow().clone()
    }

    /// The socket files to be removed at the end.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let sockets = self.told.borrow();
        sockets
            .iter()
            .filter_map(|socket| socket.listener.made())
            .collect()
    }
}

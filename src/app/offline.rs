//! Opening what a file names: its state, and the gateway as it would run, without the network.

use std::path::Path;
use std::sync::Arc;

use super::build::{Current, assemble};
use super::config::{Outline, Plan};
use super::state_sync::StateSnapshot;
use super::{Failure, failed, key_store};
use crate::audit::{self, Outside, RecordedState};
use crate::clock::Clock;
use crate::observe::Metrics;
use crate::state::{self, State};
use crate::verify::{KeySet, Origin};

/// The directory that relative paths in `file` start from.
pub(super) fn directory(file: &Path) -> &Path {
    file.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// Opens the state at `url`, which is made where there is none.
pub(super) fn open_state(url: &str, file: &Path) -> Result<Arc<dyn State>, Failure> {
    state::open(url, directory(file)).map_err(failed)
}

/// The same for a command that changes something: what it does is written to the audit log of the file.
pub(super) fn open_recorded(outline: &Outline, file: &Path) -> Result<Arc<dyn State>, Failure> {
    let state = open_state(&outline.state_url, file)?;
    let audit = outline.audit(file);
    if !audit.is_on() {
        return Ok(state);
    }
    let outside = Outside::Command(audit::Origin::command());
    Ok(Arc::new(RecordedState::new(state, audit, outside)))
}

/// The gateway as it would run with `file` now, but without the network. A state that does not exist yet is not made.
pub(super) fn offline(plan: Plan, file: &Path) -> Result<Current, Failure> {
    let state = state::open_if_there(&plan.settings.state_url, directory(file)).map_err(failed)?;
    let mirror = StateSnapshot::open(state, plan.settings.signing_algorithm, Clock::system())?;
    let current = assemble(plan, &mirror, &Metrics::new(), None, None)?;
    let store = key_store::shared(&mirror);
    for issuer in current.gateway.verifier.issuers().iter() {
        let Some(source) = &issuer.source else { continue };
        let saved = store
            .load_jwks(&issuer.issuer, source.location().url().as_str())
            .map_err(anyhow::Error::msg)?;
        if let Some((keys, _)) = saved.and_then(|text| KeySet::from_jwks(&text, Origin::Fetched).ok()) {
            issuer.keys.replace(keys);
        }
    }
    Ok(current)
}

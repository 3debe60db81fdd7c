//! The checks of one verification, as they happen, for a caller that shows them.
//!
//! The request path and `explain` run the same checks. The first stops at the first refusal and formats nothing; the
//! second hears of every step, and of all claims, also of those after the first that failed.

use crate::refusal::Refusal;

/// One check of a token.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its name, stable: `form`, `header`, `issuer`, `algorithm`, `type`, `key`, `signature`, `expires`, …
    pub name: &'static str,
    /// Its verdict.
    pub outcome: Result<(), Refusal>,
    /// What was found and, where that matters, what was wanted.
    pub detail: String,
}

/// Receives the steps, or discards them.
pub(super) struct Steps<'a> {
    observer: Option<&'a mut dyn FnMut(Step)>,
    first: Option<Refusal>,
}

impl<'a> Steps<'a> {
    /// Steps are not recorded.
    pub(super) fn silent() -> Self {
        Self {
            observer: None,
            first: None,
        }
    }

    /// `observer` hears of every step.
    pub(super) fn heard_by(observer: &'a mut dyn FnMut(Step)) -> Self {
        Self {
            observer: Some(observer),
            first: None,
        }
    }

    /// A check without which no later one makes sense.
    pub(super) fn must<T>(
        &mut self,
        name: &'static str,
        outcome: Result<T, Refusal>,
        detail: impl FnOnce() -> String,
    ) -> Result<T, Refusal> {
        if let Some(observer) = &mut self.observer {
            let verdict = outcome.as_ref().map(|_| ()).map_err(|refusal| *refusal);
            observer(Step {
                name,
                outcome: verdict,
                detail: detail(),
            });
        }
        outcome
    }

    /// A check beside others. Where steps are recorded, the others are still made after it failed;
    /// [`Steps::verdict`] is the first failure.
    pub(super) fn check<T>(
        &mut self,
        name: &'static str,
        outcome: Result<T, Refusal>,
        detail: impl FnOnce() -> String,
    ) -> Result<Option<T>, Refusal> {
        match self.must(name, outcome, detail) {
            Ok(value) => Ok(Some(value)),
            Err(refusal) if self.observer.is_some() => {
                self.first.get_or_insert(refusal);
                Ok(None)
            }
            Err(refusal) => Err(refusal),
        }
    }

    /// The first failure among the checks.
    pub(super) fn verdict(&self) -> Result<(), Refusal> {
        self.first.map_or(Ok(()), Err)
    }
}

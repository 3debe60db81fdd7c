//! The counts of the last hour, in steps of ten seconds, for the operator's page.
//!
//! Input: the counts of all workers, sampled at an interval. Output: what was added in each step. Invariant: memory is fixed; the
//! oldest step gives way.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::metrics::{Durations, Metrics, Totals};
use crate::refusal::Refusal;

/// The length of a step.
pub(crate) const STEP: Duration = Duration::from_secs(10);
/// Steps of an hour.
pub(crate) const STEPS: usize = 360;

/// The steps of the last hour.
#[derive(Debug, Default)]
pub(crate) struct History {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    last: Totals,
    steps: VecDeque<Step>,
}

/// What was added in a step.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// Requests that ended.
    pub(crate) requests: u64,
    /// Those that were refused or failed in the gateway, by [`Refusal`] in the order of [`Refusal::ALL`].
    refusals: Vec<u32>,
    /// From the head of the request to the head of the answer.
    pub(crate) answered: Durations,
}

impl Step {
    /// Requests that were refused for a reason.
    pub(crate) fn refused(&self) -> impl Iterator<Item = (Refusal, u64)> {
        let counts = Refusal::ALL.iter().zip(&self.refusals);
        counts
            .filter(|(_, count)| **count > 0)
            .map(|(refusal, count)| (*refusal, u64::from(*count)))
    }
}

impl History {
    /// Begins to count from here.
    pub(crate) fn start(metrics: &Metrics) -> Self {
        let kept = Kept {
            last: metrics.totals(),
            steps: VecDeque::with_capacity(STEPS),
        };
        Self {
            kept: Mutex::new(kept),
        }
    }

    /// Ends a step. To be called once in [`STEP`].
    pub(crate) fn sample(&self, metrics: &Metrics) {
        let totals = metrics.totals();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let refusals = totals.refusals.iter().enumerate().map(|(index, count)| {
            let before = kept.last.refusals.get(index).copied().unwrap_or_default();
            u32::try_from(count.saturating_sub(before)).unwrap_or(u32::MAX)
        });
        let step = Step {
            requests: totals.requests.saturating_sub(kept.last.requests),
            refusals: refusals.collect(),
            answered: totals.answered.since(&kept.last.answered),
        };
        if kept.steps.len() >= STEPS {
            kept.steps.pop_front();
        }
        kept.steps.push_back(step);
        kept.last = totals;
    }

    /// The steps, the oldest first.
    pub(crate) fn steps(&self) -> Vec<Step> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.steps.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::observe::{Observation, RouteLabel};

    fn record(metrics: &Metrics, refusal: Option<Refusal>, milliseconds: u64) {
        metrics.worker().record(&Observation {
            route: RouteLabel::NONE,
            method: &Method::GET,
            status: 200,
            refusal,
            is_only_logged: false,
            upstream: Some(Duration::from_millis(milliseconds)),
            gateway: Duration::ZERO,
        });
    }

    #[test]
    fn step_has_what_was_added_and_an_hour_is_kept() {
        let metrics = Metrics::new();
        record(&metrics, Some(Refusal::Expired), 1);
        let history = History::start(&metrics);
        record(&metrics, None, 2);
        record(&metrics, Some(Refusal::RoleRefused), 400);
        history.sample(&metrics);
        let steps = history.steps();
        assert_eq!(steps.len(), 1);
        assert_eq!(steps[0].requests, 2);
        assert_eq!(
            steps[0].refused().collect::<Vec<_>>(),
            [(Refusal::RoleRefused, 1)]
        );
        let p99 = steps[0].answered.quantile(0.99);
        assert!(p99.is_some_and(|p99| (0.25..=0.5).contains(&p99)), "{p99:?}");
        for _ in 0..STEPS {
            history.sample(&metrics);
        }
        let steps = history.steps();
        assert_eq!(steps.len(), STEPS);
        assert!(
            steps
                .iter()
                .all(|step| step.requests == 0 && step.answered.quantile(0.5).is_none())
        );
    }
}

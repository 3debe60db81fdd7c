//! Durations counted in fixed buckets, from 50 µs to a minute.

use std::time::Duration;

/// Upper bounds, in microseconds; a duration on a bound belongs below it.
const BOUNDS: [u64; 19] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// Counts by bucket, and their sum.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histogram {
    /// The last one takes what is longer than a minute.
    counts: [u64; BOUNDS.len() + 1],
    nanoseconds: u64,
}

impl Histogram {
    pub(super) fn record(&mut self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| bound * 1000 < nanoseconds);
        self.counts[bucket] += 1;
        self.nanoseconds = self.nanoseconds.saturating_add(nanoseconds);
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.nanoseconds = self.nanoseconds.saturating_add(other.nanoseconds);
    }

    /// What was added since `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let mut added = self.clone();
        for (count, before) in added.counts.iter_mut().zip(before.counts) {
            *count = count.saturating_sub(before);
        }
        added.nanoseconds = added.nanoseconds.saturating_sub(before.nanoseconds);
        added
    }

    /// The duration in seconds that this share of all does not exceed, as exact as the buckets are; `None` without any.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a quantile is as precise as its bucket"
    )]
    pub(crate) fn quantile(&self, share: f64) -> Option<f64> {
        let all: u64 = self.counts.iter().sum();
        let wanted = all as f64 * share;
        let mut so_far = 0.0;
        for (index, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let count = *count as f64;
            if so_far + count >= wanted {
                let longest = BOUNDS[BOUNDS.len() - 1];
                let from = index
                    .checked_sub(1)
                    .and_then(|below| BOUNDS.get(below))
                    .copied()
                    .unwrap_or(0);
                let to = BOUNDS.get(index).copied().unwrap_or(longest);
                let part = ((wanted - so_far) / count).clamp(0.0, 1.0);
                return Some((from as f64 + part * to.saturating_sub(from) as f64) / 1e6);
            }
            so_far += count;
        }
        None
    }

    /// Sum of all durations in seconds, their number, and for each bucket its upper bound in seconds and its own count.
    #[expect(clippy::cast_precision_loss, reason = "a metric is as precise as a float")]
    pub(super) fn figures(&self) -> (f64, u64, Vec<(f64, u64)>) {
        let bounds = BOUNDS
            .iter()
            .map(|bound| *bound as f64 / 1e6)
            .chain([f64::INFINITY]);
        (
            self.nanoseconds as f64 / 1e9,
            self.counts.iter().sum(),
            bounds.zip(self.counts).collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_the_first_bucket_that_holds_it() {
        let mut histogram = Histogram::default();
        let durations = [
            Duration::ZERO,
            Duration::from_micros(50),
            Duration::from_nanos(50_001),
            Duration::from_secs(60),
            Duration::from_nanos(60_000_000_001),
            Duration::MAX,
        ];
        for duration in durations {
            histogram.record(duration);
        }
        let (_, count, buckets) = histogram.figures();
        assert_eq!(count, 6);
        assert_eq!(buckets.len(), 20);
        assert_eq!((buckets[0], buckets[1]), ((0.000_05, 2), (0.0001, 1)));
        assert_eq!((buckets[18], buckets[19]), ((60.0, 1), (f64::INFINITY, 2)));
    }

    #[test]
    fn quantile_is_within_its_bucket() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        (0..99).for_each(|_| histogram.record(Duration::from_millis(2)));
        let before = histogram.clone();
        histogram.record(Duration::from_secs(120));
        assert!(
            histogram
                .quantile(0.5)
                .is_some_and(|p50| (0.001..=0.0025).contains(&p50))
        );
        assert_eq!(histogram.quantile(1.0), Some(60.0));
        assert_eq!(histogram.since(&before).quantile(0.01), Some(60.0));
    }

    #[test]
    fn histograms_add_up() {
        let mut one = Histogram::default();
        one.record(Duration::from_millis(2));
        let mut other = one.clone();
        other.record(Duration::from_millis(500));
        one.add(&other);
        let (seconds, count, _) = one.figures();
        assert_eq!(count, 3);
        assert!((seconds - 0.504).abs() < 1e-9, "{seconds}");
    }
}

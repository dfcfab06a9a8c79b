//! A histogram with fixed buckets, as Prometheus reads it.

use std::sync::atomic::{AtomicU64, Ordering};

use metrics::HistogramFn;

/// The upper bounds of the buckets in seconds: from a token that is signed in memory to a caller that gave up.
pub(crate) const BOUNDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The counts of the values by bucket, and their sum.
#[derive(Debug, Default)]
pub(crate) struct Buckets {
    /// How many values are at most the bound with the same index, and above the one before.
    counts: [AtomicU64; BOUNDS.len()],
    above: AtomicU64,
    /// The bits of an `f64`.
    sum: AtomicU64,
}

/// What a histogram has counted so far.
pub(crate) struct Counted {
    /// For each bound, how many values are at most it.
    pub(crate) up_to: [u64; BOUNDS.len()],
    pub(crate) count: u64,
    pub(crate) sum: f64,
}

impl Buckets {
    pub(crate) fn counted(&self) -> Counted {
        let mut count = 0;
        let up_to = std::array::from_fn(|index| {
            count += self.counts.get(index).map_or(0, |bucket| bucket.load(Ordering::Relaxed));
            count
        });
        // The buckets are read one after another. The total is that of the buckets, so that they agree.
        let count = count + self.above.load(Ordering::Relaxed);
        Counted { up_to, count, sum: f64::from_bits(self.sum.load(Ordering::Relaxed)) }
    }
}

impl HistogramFn for Buckets {
    fn record(&self, value: f64) {
        let index = BOUNDS.iter().position(|bound| value <= *bound);
        let bucket = index.and_then(|index| self.counts.get(index)).unwrap_or(&self.above);
        bucket.fetch_add(1, Ordering::Relaxed);
        let add = |sum: u64| Some((f64::from_bits(sum) + value).to_bits());
        let _ = self.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

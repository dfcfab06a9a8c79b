//! Measures alternatives in turn, many times, so that disturbances of the machine affect all of them equally.

use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Runs a future that never waits, but may yield, without a runtime whose cost would be part of the figures.
///
/// # Panics
///
/// If the future waits.
#[inline] // Otherwise the compiler decides for which works the future and its output are copied once more.
pub fn now<F: Future>(future: F) -> F::Output {
    let (mut future, mut context) = (pin!(future), Context::from_waker(Waker::noop()));
    for _ in 0..3 {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
    panic!("it had to wait")
}

/// Returns the processor time of this thread.
pub fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

/// The number of runs between two readings of the clock.
const BATCH: usize = 16;

/// A piece of work. Its input is prepared outside of the measured time.
pub struct Work<'a> {
    run: Box<dyn FnMut() -> Duration + 'a>,
}

impl<'a> Work<'a> {
    pub fn new<T, R>(mut prepare: impl FnMut() -> T + 'a, mut work: impl FnMut(T) -> R + 'a) -> Self {
        let run = move || {
            let inputs: [T; BATCH] = std::array::from_fn(|_| prepare());
            let start = Instant::now();
            for input in inputs {
                black_box(work(black_box(input)));
            }
            start.elapsed() / BATCH as u32
        };
        Self { run: Box::new(run) }
    }

    /// Work that takes so long that a batch of one is enough.
    pub fn once<R>(mut work: impl FnMut() -> R + 'a) -> Self {
        let run = move || {
            let start = Instant::now();
            black_box(work());
            start.elapsed()
        };
        Self { run: Box::new(run) }
    }

    /// Work measured by the processor time of this thread, which other processes do not affect. Batches are longer, since that
    /// clock is slower to read.
    pub fn on_processor<T, R>(mut prepare: impl FnMut() -> T + 'a, mut work: impl FnMut(T) -> R + 'a) -> Self {
        let run = move || {
            let inputs: Vec<T> = (0..4 * BATCH).map(|_| prepare()).collect();
            time_of_each(inputs, &mut work)
        };
        Self { run: Box::new(run) }
    }

    /// The same for work of which an allocator would be a large part: in some batches and not in others, it merges what was freed,
    /// which takes 35 ns per free. Memory between the inputs, which is freed later, keeps it from that.
    pub fn apart<T, R>(mut prepare: impl FnMut() -> T + 'a, mut work: impl FnMut(T) -> R + 'a) -> Self {
        let run = move || {
            let inputs = (0..4 * BATCH).map(|_| (prepare(), Box::new([0_u8; 64])));
            let (inputs, between): (Vec<T>, Vec<_>) = inputs.unzip();
            let time = time_of_each(inputs, &mut work);
            drop(black_box(between));
            time
        };
        Self { run: Box::new(run) }
    }

    /// Long work, measured by the same clock.
    pub fn once_on_processor<T, R>(mut prepare: impl FnMut() -> T + 'a, mut work: impl FnMut(T) -> R + 'a) -> Self {
        let run = move || {
            let input = prepare();
            let start = thread_time();
            black_box(work(black_box(input)));
            thread_time() - start
        };
        Self { run: Box::new(run) }
    }

    pub fn bare<R>(mut work: impl FnMut() -> R + 'a) -> Self {
        Self::new(|| (), move |()| work())
    }
}

/// Returns the processor time of the work with one of the inputs.
#[inline]
fn time_of_each<T, R>(inputs: Vec<T>, work: &mut impl FnMut(T) -> R) -> Duration {
    let count = inputs.len() as u32;
    let start = thread_time();
    for input in inputs {
        black_box(work(black_box(input)));
    }
    (thread_time() - start) / count
}

/// A median and its quartiles, in nanoseconds.
pub struct Figure {
    pub median: f64,
    pub low: f64,
    pub high: f64,
    /// The values in the order of measurement, if others were measured in the same rounds.
    rounds: Vec<f64>,
}

impl Figure {
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let at = |part: usize| values.get(values.len() * part / 4).copied().unwrap_or(f64::NAN);
        Self { median: at(2), low: at(1), high: at(3), rounds: Vec::new() }
    }

    fn of_rounds(rounds: Vec<f64>) -> Self {
        Self { rounds: rounds.clone(), ..Self::of(rounds) }
    }

    /// Returns the ratio of this figure to the other: the median of the ratios of all rounds, so that a machine that is slow
    /// for a while is slow for both. Without rounds, it is the ratio of the medians.
    pub fn ratio_to(&self, other: &Self) -> f64 {
        if self.rounds.is_empty() {
            return self.median / other.median;
        }
        Self::of(self.paired(other, |own, other| own / other)).median
    }

    /// Returns the difference from the other figure: the median of the differences of all rounds.
    pub fn more_than(&self, other: &Self) -> Self {
        Self::of_rounds(self.paired(other, |own, other| own - other))
    }

    /// Returns the mean, for work that is mostly cheap and sometimes expensive.
    pub fn mean(&self) -> f64 {
        self.rounds.iter().sum::<f64>() / self.rounds.len() as f64
    }

    fn paired(&self, other: &Self, pair: impl Fn(f64, f64) -> f64) -> Vec<f64> {
        assert_eq!(self.rounds.len(), other.rounds.len(), "not measured in the same rounds");
        self.rounds.iter().zip(&other.rounds).map(|(own, other)| pair(*own, *other)).collect()
    }
}

/// Measures all works in turn for about `time`, and returns the figure of each.
pub fn interleaved<const N: usize>(works: [Work<'_>; N], time: Duration) -> [Figure; N] {
    let start = Instant::now();
    in_rounds(works, |rounds| start.elapsed() < time || rounds < 20)
}

/// Measures all works in turn while `goes_on` returns true for the number of rounds.
pub fn in_rounds<const N: usize>(mut works: [Work<'_>; N], goes_on: impl Fn(usize) -> bool) -> [Figure; N] {
    let mut times: [Vec<f64>; N] = std::array::from_fn(|_| Vec::new());
    let mut rounds = 0;
    while goes_on(rounds) {
        for (work, times) in works.iter_mut().zip(&mut times) {
            times.push((work.run)().as_nanos() as f64);
        }
        rounds += 1;
    }
    // The first tenth is warm-up.
    times.map(|times| Figure::of_rounds(times.split_at(times.len() / 10).1.to_vec()))
}

//! [`Watchdog`]: makes a test that never ends a test that fails.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

/// Ends the process of the tests with an error if it is not dropped within ten minutes, or within the seconds in the environment
/// variable `WATCHDOG_SECONDS`. A loop that never ends cannot be left in another way, and a time-out of the whole run would not
/// name the test.
#[derive(Debug)]
#[must_use]
pub(crate) struct Watchdog(#[expect(dead_code, reason = "the thread hears when it is dropped")] Sender<()>);

impl Default for Watchdog {
    fn default() -> Self {
        Self::start()
    }
}

impl Watchdog {
    pub(crate) fn start() -> Self {
        let (sender, receiver) = channel();
        let test = thread::current().name().unwrap_or("a test").to_owned();
        let seconds = std::env::var("WATCHDOG_SECONDS").map_or(600, |seconds| seconds.parse().unwrap());
        thread::spawn(move || {
            if receiver.recv_timeout(Duration::from_secs(seconds)) == Err(RecvTimeoutError::Timeout) {
                report(&test, seconds);
                std::process::exit(101);
            }
        });
        Self(sender)
    }
}

fn report(test: &str, seconds: u64) {
    eprintln!("{test} has not ended within {seconds} seconds");
}

//! [`Watchdog`]: makes a test that never ends a test that fails.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

/// Ends the process of the tests with an error if it is not dropped within ten minutes. A loop that never ends cannot be left in
/// another way, and a time-out of the whole run would not name the test.
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
        thread::spawn(move || {
            if receiver.recv_timeout(Duration::from_secs(600)) == Err(RecvTimeoutError::Timeout) {
                report(&test);
                std::process::exit(101);
            }
        });
        Self(sender)
    }
}

fn report(test: &str) {
    eprintln!("{test} has not ended within ten minutes");
}

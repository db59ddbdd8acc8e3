//! Trying again, with pauses in between.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often a pause looks whether it is to end: a signal handler, which sets the flag, can wake nobody.
const LOOK: Duration = Duration::from_millis(50);

/// Waits for so long, but not once `stop` is set. Whether it is not.
pub fn pause(length: Duration, stop: &AtomicBool) -> bool {
    let begun = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let left = length.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return true;
        }
        std::thread::sleep(left.min(LOOK));
    }
    false
}

/// Asks every so often until there is an answer; `None` if there was none when `limit` had passed.
///
/// # Errors
/// The first that asking has.
pub fn within<T, E>(
    limit: Duration,
    every: Duration,
    mut ask: impl FnMut() -> Result<Option<T>, E>,
) -> Result<Option<T>, E> {
    let begun = Instant::now();
    loop {
        let is_last = begun.elapsed() >= limit;
        let answer = ask()?;
        if answer.is_some() || is_last {
            return Ok(answer);
        }
        std::thread::sleep(every);
    }
}

/// Pauses that double with each failure in a row.
pub struct Backoff {
    pub first: Duration,
    pub longest: Duration,
}

impl Backoff {
    /// For a server that is away.
    pub const SERVER: Backoff = Backoff {
        first: Duration::from_millis(50),
        longest: Duration::from_secs(2),
    };

    /// The pause after so many failures before this one.
    pub fn after(&self, failures: u32) -> Duration {
        let doubled = self.first.saturating_mul(1 << failures.min(31));
        doubled.min(self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let millis = |failures| Backoff::SERVER.after(failures).as_millis();
        assert_eq!(
            [0, 1, 5, 6, u32::MAX].map(millis),
            [50, 100, 1_600, 2_000, 2_000]
        );
    }

    #[test]
    fn a_pause_ends_by_itself_or_with_the_flag() {
        let stop = AtomicBool::new(false);
        assert!(pause(Duration::ZERO, &stop));
        stop.store(true, Ordering::Relaxed);
        assert!(!pause(Duration::MAX, &stop));
    }
}

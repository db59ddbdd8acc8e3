//! Waiting for what must happen, and no longer than that.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::bail;

/// Set by SIGINT and SIGTERM: the laboratory clears up and goes.
pub static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// How often something is asked.
const INTERVAL: Duration = Duration::from_millis(20);

/// A limit that the product keeps. A debug build on a machine that may be full, as in `make test`, is given ten times as
/// long.
pub const fn limit(limit: Duration) -> Duration {
    if cfg!(debug_assertions) {
        limit.saturating_mul(10)
    } else {
        limit
    }
}

/// Asks until there is an answer; none when there was none in time.
pub fn wait_for<T>(
    limit: Duration,
    mut ask: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<Option<T>> {
    let started = Instant::now();
    loop {
        if INTERRUPTED.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        if let Some(answer) = ask()? {
            return Ok(Some(answer));
        }
        if started.elapsed() > limit {
            return Ok(None);
        }
        std::thread::sleep(INTERVAL);
    }
}

/// Asks until it is so; an error when it was not in time.
pub fn wait_until(
    limit: Duration,
    what: &str,
    mut is_so: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    match wait_for(limit, || Ok(is_so()?.then_some(())))? {
        Some(()) => Ok(()),
        None => bail!("waited {limit:?} in vain: {what}"),
    }
}

/// Lets time pass in which a fault lasts.
pub fn last(length: Duration) -> anyhow::Result<()> {
    wait_for(length, || Ok(None::<()>)).map(drop)
}

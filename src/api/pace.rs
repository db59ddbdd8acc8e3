//! How often somebody may ask: a rate for each, in bounded memory.

use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock as _, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use moka::sync::Cache;

/// The most that are told apart. Who has not asked for the longest is forgotten, and begins anew.
const MOST: u64 = 100_000;
/// A second's worth of requests is back after a second.
const FORGET: Duration = Duration::from_secs(60);

type Limiter =
    RateLimiter<NotKeyed, InMemoryState, MonotonicClock, NoOpMiddleware<std::time::Instant>>;

/// See the module.
pub struct Pace<K: Hash + Eq + Send + Sync + 'static> {
    quota: Quota,
    limiters: Cache<K, Arc<Limiter>>,
}

impl<K: Hash + Eq + Clone + Send + Sync + 'static> Pace<K> {
    /// So many a second, and as many at once; none: without limit.
    pub fn new(per_second: u32) -> Option<Pace<K>> {
        let quota = Quota::per_second(NonZeroU32::new(per_second)?);
        Some(Pace {
            quota,
            limiters: Cache::builder()
                .max_capacity(MOST)
                .time_to_idle(FORGET)
                .build(),
        })
    }

    /// [`Pace::new`] for a number that is known; at least one a second.
    pub fn always(per_second: u32) -> Pace<K> {
        Pace {
            quota: Quota::per_second(NonZeroU32::new(per_second).unwrap_or(NonZeroU32::MIN)),
            limiters: Cache::builder().max_capacity(MOST).build(),
        }
    }

    /// Counts a request.
    ///
    /// # Errors
    /// How long to wait, when it is one too many.
    pub fn admit(&self, who: &K) -> Result<(), Duration> {
        let limiter = self.limiters.get_with_by_ref(who, || {
            Arc::new(RateLimiter::direct_with_clock(self.quota, MonotonicClock))
        });
        limiter
            .check()
            .map_err(|not_until| not_until.wait_time_from(MonotonicClock.now()))
    }
}

impl Pace<()> {
    /// The level at which a line is logged whose usual one this is: debug, if too many have been.
    pub fn level(&self, usual: log::Level) -> log::Level {
        match self.admit(&()) {
            Ok(()) => usual,
            Err(_) => log::Level::Debug,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_rate_of_its_own() {
        let pace: Pace<&str> = Pace::new(3).expect("a limit");
        for _ in 0..3 {
            assert_eq!(pace.admit(&"a"), Ok(()));
        }
        let wait = pace.admit(&"a").expect_err("one too many");
        assert!(wait <= Duration::from_secs(1), "{wait:?}");
        assert_eq!(pace.admit(&"b"), Ok(()));
        assert!(Pace::<&str>::new(0).is_none());
    }
}

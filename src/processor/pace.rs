//! How far apart commits are made.
//!
//! Each commit leaves a version of its partition's row behind, and a part that is replaced soon. PostgreSQL clears them away at
//! once, unless somebody holds a snapshot in which they are still to be seen: a `pg_dump`, an export, a forgotten transaction, a
//! replication slot. Until that is gone, whoever reads walks over all of them. So the more there are, the less often we commit;
//! after `t` seconds of it, of `n` partitions, there are about `sqrt(100_000 * n * t)`.

use std::time::{Duration, Instant};

use diesel::PgConnection;

use crate::event::Count;
use crate::metrics;
use crate::outage::Outage;
use crate::store::{StoreError, positions};

/// How often it is looked.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);
/// So many come and go in any second.
const FEW: Count = Count::new(1_000);
/// It is not said of what is over sooner: an ANALYZE of autovacuum holds a snapshot too.
const SAID_AFTER: Duration = Duration::from_secs(15);
/// How long a batch waits for each of them, and for how many at most.
const FOR_EACH: Duration = Duration::from_micros(20);
const MOST: u32 = 25_000;

/// What a writer knows of it.
#[derive(Default)]
pub struct Pace {
    looked: Option<Instant>,
    /// Since when it is not zero.
    since: Option<Instant>,
    apart: Duration,
}

impl Pace {
    /// How long a batch has to wait for more. If that goes on, `held` says so, and when it is over.
    ///
    /// # Errors
    /// When the database does not answer.
    pub fn look(
        &mut self,
        connection: &mut PgConnection,
        held: &Outage,
    ) -> Result<Duration, StoreError> {
        if self.looked.is_some_and(|at| at.elapsed() < BETWEEN_LOOKS) {
            return Ok(self.apart);
        }
        let versions = positions::dead_versions(connection)?;
        self.looked = Some(Instant::now());
        self.apart = apart(versions);
        metrics::COMMITS_APART.set(self.apart.as_secs_f64());
        if self.apart.is_zero() {
            self.since = None;
            held.ended(format_args!(
                "what was replaced is cleared away; commits are made as records come"
            ));
        } else if self.since.get_or_insert_with(Instant::now).elapsed() >= SAID_AFTER {
            held.failed(format_args!(
                "{versions} versions of rows of stream_positions are not cleared away: some session, replication slot or prepared \
                 transaction holds a snapshot (backend_xmin in pg_stat_activity, xmin in pg_replication_slots, \
                 pg_prepared_xacts), or autovacuum does not come. Until that is over commits are made at least {} ms apart, and \
                 less and less often, so that reading stays fast",
                self.apart.as_millis()
            ));
        }
        Ok(self.apart)
    }
}

fn apart(versions: Count) -> Duration {
    if versions < FEW {
        return Duration::ZERO;
    }
    let counted = u32::try_from(versions.get()).unwrap_or(MOST);
    FOR_EACH * counted.min(MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_versions_stay_the_further_apart_commits_are() {
        let millis = |versions| apart(Count::new(versions)).as_millis();
        assert_eq!(
            [0, 999, 1_000, 5_000, 25_000, i64::MAX].map(millis),
            [0, 0, 20, 100, 500, 500]
        );
    }
}

//! A writer that stands still, because the database refuses what it must take and no record is to blame: a
//! constraint that somebody added, a table of another version, a privilege that was revoked.
//!
//! It is said once, as an error; `/readyz` and `/metrics` show it for as long as it lasts, and `adflux doctor` finds
//! it in the database. The batch is attempted again and again, so that counting goes on when the database is
//! mended; a standstill that stays ends the process, for those who watch nothing else.

use std::time::{Duration, Instant};

use crate::metrics;
use crate::store::StoreError;

/// See the module. Dropping it is its end.
pub struct Standstill {
    since: Instant,
    cause: String,
    partitions: Vec<i32>,
}

impl Standstill {
    /// Says that these partitions stand still because of an error.
    pub fn begin(error: &StoreError, partitions: &[i32], halt_after: Duration) -> Standstill {
        let cause = error.cause().to_owned();
        log::error!(
            "partitions {partitions:?} stand still because of {cause}: {error}. No record is to blame, so none is skipped, \
             and nothing is lost. {}; retrying for {halt_after:?}, then this process ends",
            what_to_do(error)
        );
        metrics::STANDSTILL.with_label_values(&[&cause]).inc();
        Standstill {
            since: Instant::now(),
            cause,
            partitions: partitions.to_vec(),
        }
    }

    /// Those that stand still.
    pub fn partitions(&self) -> &[i32] {
        &self.partitions
    }

    /// For how long.
    pub fn lasted(&self) -> Duration {
        self.since.elapsed()
    }

    /// Says that it is over.
    pub fn end(self) {
        log::info!(
            "partitions {:?}: counting goes on after {:.1} s",
            self.partitions,
            self.lasted().as_secs_f64()
        );
    }

    /// Why the processor ends.
    pub fn halt(&self, error: &StoreError) -> anyhow::Error {
        anyhow::anyhow!(
            "partitions {:?} have stood still for {:.0} s because of {}: {error}. Nothing was lost. {}, and start again",
            self.partitions,
            self.lasted().as_secs_f64(),
            self.cause,
            what_to_do(error)
        )
    }
}

impl Drop for Standstill {
    fn drop(&mut self) {
        metrics::STANDSTILL.with_label_values(&[&self.cause]).dec();
    }
}

fn what_to_do(error: &StoreError) -> &'static str {
    match error.cause() {
        "privileges" => "Grant them",
        "schema" => "See whether `adflux migrate` and this program are of one version",
        _ => {
            "If somebody added the constraint, drop it; if it is one of adflux's own, this is a bug: keep the log and report it"
        }
    }
}

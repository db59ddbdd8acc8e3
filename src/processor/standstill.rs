//! A writer that stands still, because the database refuses what it must take and no record is to blame: a
//! constraint that somebody added, a table of another version, a privilege that was revoked.
//!
//! The batch is attempted again and again, so that counting goes on when the database is mended; a standstill that
//! stays ends the process, for those who watch nothing else.

use std::time::{Duration, Instant};

use crate::progress::{BOARD, Cause, Side};
use crate::store::StoreError;

/// See the module.
pub struct Standstill {
    since: Instant,
    partitions: Vec<i32>,
}

impl Standstill {
    /// These partitions stand still from now on.
    pub fn begin(partitions: &[i32]) -> Standstill {
        Standstill {
            since: Instant::now(),
            partitions: partitions.to_vec(),
        }
    }

    /// It was refused again.
    pub fn goes_on(&self, error: &StoreError, halt_after: Duration) {
        let message = format!(
            "{error}. No record is to blame, so none is skipped, and nothing is lost. {}; retrying for {halt_after:?}, \
             then this process ends",
            what_to_do(error)
        );
        let cause = Cause::new(error.cause(), message);
        BOARD.stops(&self.partitions, Side::Database, &cause);
    }

    /// Those that stand still.
    pub fn partitions(&self) -> &[i32] {
        &self.partitions
    }

    /// For how long.
    pub fn lasted(&self) -> Duration {
        self.since.elapsed()
    }

    /// Why the processor ends.
    pub fn halt(&self, error: &StoreError) -> anyhow::Error {
        anyhow::anyhow!(
            "partitions {:?} have stood still for {:.0} s because of {}: {error}. Nothing was lost. {}, and start again",
            self.partitions,
            self.lasted().as_secs_f64(),
            error.cause(),
            what_to_do(error)
        )
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

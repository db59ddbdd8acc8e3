//! Since when the database has been away: said once, and once that it is back, whichever writers find it so.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::store::{self, StoreError};

/// See the module.
#[derive(Default)]
pub struct Outage(Mutex<State>);

#[derive(Default)]
struct State {
    since: Option<Instant>,
    /// How often the database has gone or come back.
    turns: u64,
}

impl Outage {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The turn of a connection that is begun now.
    pub fn turn(&self) -> u64 {
        self.lock().turns
    }

    /// A connection that was begun in this turn has failed. `false` if that says nothing of the present:
    /// since then another one has failed, or made good, which was perhaps cut by the same outage.
    pub fn noticed(&self, turn: u64, error: &StoreError, database_url: &str) -> bool {
        let mut state = self.lock();
        if turn < state.turns {
            log::debug!("a connection from before: {error}");
            return false;
        }
        if state.since.is_some() {
            log::debug!("still: {error}");
            return true;
        }
        state.since = Some(Instant::now());
        state.turns += 1;
        log::warn!(
            "{error}; retrying until {} answers again",
            store::redact(database_url)
        );
        true
    }

    /// A connection has made good after one had failed. Returns the turn that it is of from now on.
    pub fn ended(&self) -> u64 {
        let mut state = self.lock();
        if let Some(since) = state.since.take() {
            state.turns += 1;
            log::info!(
                "PostgreSQL is back after {:.1} s",
                since.elapsed().as_secs_f64()
            );
        }
        state.turns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails(outage: &Outage, turn: u64) -> bool {
        outage.noticed(turn, &StoreError::Busy("away"), "postgres://localhost/x")
    }

    fn is_away(outage: &Outage) -> bool {
        outage.lock().since.is_some()
    }

    #[test]
    fn a_connection_cut_by_an_outage_that_is_over_says_nothing() {
        let outage = Outage::default();
        let (one, idle) = (outage.turn(), outage.turn());
        assert!(fails(&outage, one));
        let again = outage.turn();
        assert!(is_away(&outage) && fails(&outage, again), "still away");
        let back = outage.ended();
        assert!(!fails(&outage, idle) && !fails(&outage, again));
        assert!(!is_away(&outage));
        // The next one is another matter.
        assert!(fails(&outage, back) && is_away(&outage));
    }

    #[test]
    fn a_connection_from_before_is_made_anew_before_it_counts_as_failing() {
        let outage = Outage::default();
        let idle = outage.turn();
        assert!(fails(&outage, outage.turn()));
        assert!(!fails(&outage, idle));
        assert!(fails(&outage, outage.turn()));
    }
}

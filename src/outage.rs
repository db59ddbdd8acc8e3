//! An outage, said once: a warning when it begins, silence while it lasts, and a line when it is over.

use std::fmt::Arguments;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Whether something that others depend on fails. Threads that share it say it together.
#[derive(Default)]
pub struct Outage {
    /// How many failures in a row are forgiven before it is one.
    forgiven: u32,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    since: Option<Instant>,
    /// In a row.
    failures: u32,
    turn: Turn,
}

/// Rises each time an outage begins or ends. Connections begun in one turn share their fate.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn(u64);

impl Outage {
    /// One that begins with the second failure in a row: a single one may be a moment's.
    pub fn forgiving() -> Outage {
        Outage {
            forgiven: 1,
            ..Outage::default()
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The turn of a connection that is begun now.
    pub fn turn(&self) -> Turn {
        self.lock().turn
    }

    /// It has failed. `warning` is said if that is news.
    pub fn failed(&self, warning: Arguments<'_>) {
        self.lock().failed(self.forgiven, warning);
    }

    /// As [`Outage::failed`], of a connection that was begun in `turn`. `false` if that says nothing of the
    /// present: since then another one has failed, or made good, and the same outage may have cut this one.
    pub fn failed_since(&self, turn: Turn, warning: Arguments<'_>) -> bool {
        let mut state = self.lock();
        if turn < state.turn {
            log::debug!("a connection from before: {warning}");
            return false;
        }
        state.failed(self.forgiven, warning);
        true
    }

    /// It works. If it did not, says that it is `over`, and after how long. Returns the turn that whoever
    /// found it so is of from now on.
    pub fn ended(&self, over: Arguments<'_>) -> Turn {
        let mut state = self.lock();
        let failures = std::mem::take(&mut state.failures);
        if let Some(since) = state.since.take()
            && failures > self.forgiven
        {
            state.turn.0 += 1;
            log::info!("{over} after {:.1} s", since.elapsed().as_secs_f64());
        }
        state.turn
    }
}

impl State {
    fn failed(&mut self, forgiven: u32, warning: Arguments<'_>) {
        self.since.get_or_insert_with(Instant::now);
        self.failures = self.failures.saturating_add(1);
        if self.failures == forgiven.saturating_add(1) {
            self.turn.0 += 1;
            log::warn!("{warning}");
        } else {
            log::trace!("failure {}: {warning}", self.failures);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails(outage: &Outage, turn: Turn) -> bool {
        outage.failed_since(turn, format_args!("away"))
    }

    fn ends(outage: &Outage) -> Turn {
        outage.ended(format_args!("back"))
    }

    fn is_said(outage: &Outage) -> bool {
        outage.lock().failures > outage.forgiven
    }

    #[test]
    fn a_connection_cut_by_an_outage_that_is_over_says_nothing() {
        let outage = Outage::default();
        let (one, idle) = (outage.turn(), outage.turn());
        assert!(fails(&outage, one));
        let again = outage.turn();
        assert!(is_said(&outage) && fails(&outage, again), "still away");
        let back = ends(&outage);
        assert!(!fails(&outage, idle) && !fails(&outage, again));
        assert!(!is_said(&outage));
        // The next one is another matter.
        assert!(fails(&outage, back) && is_said(&outage));
    }

    #[test]
    fn a_connection_from_before_is_made_anew_before_it_counts_as_failing() {
        let outage = Outage::default();
        let idle = outage.turn();
        assert!(fails(&outage, outage.turn()));
        assert!(!fails(&outage, idle));
        assert!(fails(&outage, outage.turn()));
    }

    #[test]
    fn a_single_failure_may_be_forgiven() {
        let outage = Outage::forgiving();
        let fail = || outage.failed(format_args!("away"));
        fail();
        assert!(!is_said(&outage));
        ends(&outage);
        fail();
        assert!(!is_said(&outage), "not in a row");
        fail();
        assert!(is_said(&outage));
    }
}

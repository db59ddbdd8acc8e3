//! What of a share was counted before, and whether its partition may count the rest.
//!
//! What the memory of recent ids left undecided is looked up in the event store (`duplicates`), what report rows say is compared
//! with what is known (`reports`), and where a sum may pass its limit the rest is added up one by one (`adding`). Where that memory
//! is enough says [`ownership`](super::ownership).

use diesel::prelude::*;

use super::batch::{Filled, Reading};
use super::ownership::Owners;
use super::positions;
use super::reports::{self, Restated};
use super::settled::{Rejected, Settled, both};
use crate::store::events::Fingerprinter;
use crate::store::read::insights;
use crate::store::{StoreError, periods};
use adding::Adding;

mod adding;
mod duplicates;

/// Decides every undecided row of the share: duplicates and conflicts are rejected, and what remains is new. What
/// an earlier look has `rejected` stays so, for nothing leaves the event store.
pub(super) fn settle<'a>(
    connection: &mut PgConnection,
    fingerprinter: &Fingerprinter,
    share: &'a Filled,
    mut rejected: Rejected,
) -> Result<Settled<'a>, StoreError> {
    if !share.reports.is_empty() {
        // What is known of days may have changed since.
        rejected.retain(|(row, _)| !share.reports.has(*row));
    }
    let owners = Owners::of(connection, share)?;
    let mut asked = Vec::new();
    let mut decided = rejected.iter().map(|(row, _)| *row).peekable();
    for undecided in &share.undecided {
        if decided.next_if_eq(&undecided.row).is_some()
            || share.events.restated(undecided.row).is_some()
        {
            continue;
        }
        if undecided.late || owners.need_look_up(share, undecided.row) {
            asked.push(undecided.row);
        }
    }
    let stored = duplicates::look_up(connection, fingerprinter, share, &asked)?;
    let dropped = if asked.is_empty() {
        None
    } else {
        periods::latest_dropped(connection)?
    };
    let sums = match share.reading {
        Reading::Usual => None,
        Reading::Careful => {
            let names: Vec<&str> = share.campaigns.iter().map(AsRef::as_ref).collect();
            Some(insights::sum_up(connection, &names, &[None])?)
        }
    };
    // A share whose COMMIT was done but not answered would find its own events stored and take
    // them for duplicates. The position moves with them: where it has not moved after they were
    // looked up, what was found is not the share's own. Where it has, the fence says so again.
    let before = reports::look(connection, share)?;
    let looked = sums.is_some() || !asked.is_empty() || !share.reports.is_empty();
    if looked && positions::is_written(connection, share)? {
        return Ok(Settled::new(share, rejected, Restated::default()));
    }
    let rejected = duplicates::reject(fingerprinter, share, rejected, &asked, stored, dropped);
    let mut settled = match sums {
        None => {
            let restated = reports::restate(share, before, |_, _| true);
            Settled::new(share, rejected, restated)
        }
        Some(sums) => {
            let mut adding = Adding::to(share, &rejected, &sums);
            let restated = reports::restate(share, before, |row, counts| {
                adding.add_restatement(row, counts)
            });
            let (overflowing, largest) = adding.add_the_rest();
            let mut settled = Settled::new(share, both(rejected, overflowing), restated);
            settled.needs.largest_sum = Some(largest);
            settled
        }
    };
    owners.add_needs(&mut settled);
    Ok(settled)
}

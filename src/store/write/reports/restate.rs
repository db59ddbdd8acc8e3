//! What a share's report rows change of what is known; pure.

use chrono::NaiveDate;
use uuid::Uuid;

use super::Key;
use super::known::{Before, Day, Known};
use crate::event::{Counts, Reason};
use crate::report_row::revisions::{MOST_CONFIRMED, Revision, Revisions, Said};
use crate::report_row::{Values, event_time};
use crate::store::write::FastMap;
use crate::store::write::batch::Filled;
use crate::store::write::settled::{Rejected, Rejection};
use crate::time::Timestamp;

/// What the report rows of a share come to.
#[derive(Debug, Default)]
pub(in crate::store::write) struct Restated {
    /// The rows that change sums, and by how much.
    pub counts: Vec<(usize, Counts)>,
    /// The others, ascending.
    pub rejected: Rejected,
    pub writes: Writes,
}

/// What becomes of `report_rows` and `report_history`.
#[derive(Debug, Default)]
pub(in crate::store::write) struct Writes {
    /// Keys whose newest revision is another one, or there for the first time.
    pub(super) newest: Vec<(Key, Uuid, Revision)>,
    /// Keys whose newest revision was confirmed once more.
    pub(super) confirmed: Vec<(Key, Timestamp)>,
    /// Revisions that are history now, and those that are not what they were.
    pub(super) older: Vec<(Key, Uuid, Revision)>,
    pub(super) gone: Vec<(Key, Timestamp)>,
    /// When each campaign's platform was last asked, and what its numbers mean.
    pub(super) described: Vec<(u32, Timestamp, i32)>,
}

impl Writes {
    /// The campaigns of which something is written.
    pub fn campaigns(&self) -> impl Iterator<Item = u32> {
        let keys = self.newest.iter().chain(&self.older).map(|(key, ..)| key);
        let changed = self.confirmed.iter().chain(&self.gone).map(|(key, _)| key);
        keys.chain(changed).map(|key| key.campaign)
    }
}

/// Takes in what the share's report rows say, in their order, and finds out what that changes. `fits`: whether sums can change by
/// so much with a row; where they cannot it says nothing, and those after it are compared with what was known before it.
pub(in crate::store::write) fn restate(
    share: &Filled,
    before: Before,
    mut fits: impl FnMut(usize, &Counts) -> bool,
) -> Restated {
    let Before {
        definitions,
        files,
        mut days,
    } = before;
    let reports = &share.reports;
    let mut restated = Restated::default();
    let mut described: FastMap<u32, (Timestamp, i32)> = FastMap::default();
    for report in &reports.rows {
        let campaign = share.events.campaign[report.row];
        let (Some(&definition), Some(meaning)) = (
            definitions.get(report.definition),
            reports.definitions.get(report.definition),
        ) else {
            continue;
        };
        let day = days.entry((campaign, report.day)).or_default();
        let event_id = share.events.event_id[report.row];
        if !day.takes(&report.slice, definition, event_id, &report.values) {
            let rejection = Rejection::Dead(Reason::MixedReport);
            restated.rejected.push((report.row, rejection));
            continue;
        }
        let new = Revision {
            observed_at: report.observed_at,
            confirmed_at: Vec::new(),
            values: report.values,
            definition,
            event_time: share.events.event_time[report.row],
            origin: (
                report.file.and_then(|file| files.get(file).copied()),
                report.line,
            ),
            counted_at: None,
        };
        let known = day.keys.get(&report.slice);
        let newest = known.and_then(|known| known.now.newest());
        let is_newest = newest.is_none_or(|newest| newest.is_followed_by(&new));
        let before = newest.map(|newest| (newest.definition, newest.values));
        let values = before.map_or_else(Values::default, |(_, values)| values);
        let difference = report.values.beyond(&values);
        if is_newest && !fits(report.row, &difference) {
            let rejection = Rejection::Dead(Reason::SumOverflow);
            restated.rejected.push((report.row, rejection));
            continue;
        }
        let known = day
            .keys
            .entry(report.slice.clone())
            .or_insert_with(|| Known {
                event_id,
                stored: Revisions::default(),
                now: Revisions::default(),
            });
        let time = |at| event_time(report.day, meaning.time_zone, at);
        let said = known.now.say(new, time);
        match said {
            Said::Newest => {
                restated.counts.push((report.row, difference));
                if let Some((definition, values)) = before
                    && values.say_something()
                {
                    day.count(definition, -1);
                }
                if report.values.say_something() {
                    day.count(definition, 1);
                }
            }
            Said::Before => restated.rejected.push((report.row, Rejection::Duplicate)),
            Said::Again => restated.rejected.push((report.row, Rejection::Unchanged)),
            Said::Older => restated.rejected.push((report.row, Rejection::Superseded)),
            Said::Otherwise => {
                let rejection = Rejection::Dead(Reason::ConflictingReport);
                restated.rejected.push((report.row, rejection));
            }
        }
        if matches!(said, Said::Newest | Said::Again) {
            let newest = described
                .entry(campaign)
                .or_insert((report.observed_at, definition));
            if report.observed_at > newest.0 {
                *newest = (report.observed_at, definition);
            }
        }
    }
    restated.writes = writes(days);
    restated.writes.described = described
        .into_iter()
        .map(|(campaign, (at, definition))| (campaign, at, definition))
        .collect();
    restated
}

/// What is to be written so that what is stored is what is known now.
fn writes(days: FastMap<(u32, NaiveDate), Day>) -> Writes {
    let mut writes = Writes::default();
    for ((campaign, date), day) in days {
        for (slice, known) in day.keys {
            if known.now == known.stored {
                continue;
            }
            let key = Key {
                campaign,
                day: date,
                slice,
            };
            let Some((newest, older)) = known.now.0.split_last() else {
                continue;
            };
            let stored = known.stored.0.split_last();
            let (was_newest, were_older) =
                stored.map_or((None, &[][..]), |(newest, older)| (Some(newest), older));
            for revision in were_older
                .iter()
                .filter(|revision| !older.contains(revision))
            {
                writes.gone.push((key.clone(), revision.observed_at));
            }
            for revision in older
                .iter()
                .filter(|revision| !were_older.contains(revision))
            {
                let row = (key.clone(), known.event_id, revision.clone());
                writes.older.push(row);
            }
            if was_newest == Some(newest) {
                continue;
            }
            match was_newest.and_then(|was| confirmed_once(was, newest)) {
                Some(at) => writes.confirmed.push((key, at)),
                None => {
                    let row = (key, known.event_id, newest.clone());
                    writes.newest.push(row);
                }
            }
        }
    }
    // In the order of the tables.
    writes.newest.sort_unstable_by(|(a, ..), (b, ..)| a.cmp(b));
    writes.older.sort_unstable_by(|(a, ..), (b, ..)| a.cmp(b));
    writes.confirmed.sort_unstable();
    writes
}

/// When a revision was confirmed, if that is all that it has more than it had.
fn confirmed_once(was: &Revision, is: &Revision) -> Option<Timestamp> {
    let (last, before) = is.confirmed_at.split_last()?;
    let confirmed = Revision {
        confirmed_at: before.to_vec(),
        ..is.clone()
    };
    (confirmed == *was && is.confirmed_at.len() < MOST_CONFIRMED).then_some(*last)
}

//! Which days a commit has changed the sums of.

use std::collections::BTreeSet;

use diesel::prelude::*;
use diesel::sql_types::{Array, Integer, Timestamptz};

use super::positions::Commit;
use super::settled::Settled;
use crate::store::StoreError;
use crate::store::columns::Timestamps;
use crate::store::prepared::prepared;
use crate::time::{Length, Timestamp};

/// Raises the version of the days that the shares have events on, in the transaction that adds to their sums.
pub(super) fn touch(
    connection: &mut PgConnection,
    shares: &[&Settled<'_>],
    commit: Commit,
) -> Result<(), StoreError> {
    let days: Vec<Timestamp> = days(shares).into_iter().collect();
    // Any of the partitions will do, for the positions of all are held.
    let (Some(share), false) = (shares.first(), days.is_empty()) else {
        return Ok(());
    };
    prepared(
        "INSERT INTO day_versions AS v (day, stream_id, version, committed_at)
         SELECT unnest($1), $2, 1, $3
         ON CONFLICT (day, stream_id) DO UPDATE SET version = v.version + 1, committed_at = EXCLUDED.committed_at",
    )
    .bind::<Array<Timestamptz>, _>(Timestamps(&days))
    .bind::<Integer, _>(share.share.stream.0)
    .bind::<Timestamptz, _>(commit.at)
    .execute(connection)?;
    Ok(())
}

fn days(shares: &[&Settled<'_>]) -> BTreeSet<Timestamp> {
    let day = |time: &Timestamp| time.floor(Length::DAY);
    let mut days = BTreeSet::new();
    for share in shares {
        let times = &share.events.event_time;
        let (mut known, last) = (times.iter().min().map(day), times.iter().max().map(day));
        days.extend(known);
        // Mostly it is one day, and the ends are found several times as fast as the day of each event.
        if known != last {
            for day in times.iter().map(day) {
                if known.replace(day) != Some(day) {
                    days.insert(day);
                }
            }
        }
    }
    days
}

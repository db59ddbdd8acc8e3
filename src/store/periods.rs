//! What of the event store is no longer there: `adflux retain` drops it by the period.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Nullable, Timestamptz};

use super::StoreError;
use crate::event::Count;
use crate::time::Timestamp;

/// The events that were dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    pub events: Count,
    /// They are those that were stored up to then.
    pub stored_until: DateTime<Utc>,
    /// When the latest of them happened; none if the periods were empty.
    pub latest: Option<Timestamp>,
}

/// What was dropped; none if nothing was.
///
/// # Errors
/// When the database does not answer.
pub fn dropped(connection: &mut PgConnection) -> Result<Option<Dropped>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        events: Count,
        #[diesel(sql_type = Nullable<Timestamptz>)]
        stored_until: Option<DateTime<Utc>>,
        #[diesel(sql_type = Nullable<Timestamptz>)]
        latest: Option<Timestamp>,
    }
    let row: Row = sql_query(
        "SELECT COALESCE(sum(events), 0)::bigint AS events, max(closed_at) AS stored_until, max(max_event_time) AS latest
         FROM event_periods WHERE dropped_at IS NOT NULL",
    )
    .get_result(connection)?;
    Ok(row.stored_until.map(|stored_until| Dropped {
        events: row.events,
        stored_until,
        latest: row.latest,
    }))
}

/// When the latest event happened that was dropped: whether one that happened up to then was counted, no look-up can tell. Asked
/// after a look-up, it covers whatever that did not find because it was dropped meanwhile.
///
/// # Errors
/// When the database does not answer.
pub(super) fn latest_dropped(
    connection: &mut PgConnection,
) -> Result<Option<Timestamp>, StoreError> {
    Ok(dropped(connection)?.and_then(|dropped| dropped.latest))
}

//! Old events are dropped by the period, and their sums stay.
//!
//! ```text
//! the open period ──close()──▶ closed ──after --events──▶ its sums by minute made of its blocks, and compared with them
//!        └▶ the next one is open                                   └──drop()──▶ partition gone, sums in retired_parts
//! ```
//!
//! - **Closing** holds the positions still: every transaction that stored in the period has ended, and all that come store in the
//!   next one. So the periods of a partition follow each other in its log, and in time.
//! - **Dropping** is one short transaction. The sums were made before, with the code that counts, where a rebuild makes its own
//!   (`sum_parts_made`); what a killed run left there is removed by the next one. SQL has compared them with the events.
//! - **Counting once.** A copy of an event that was dropped can no longer be looked up. The latest time among the dropped ones
//!   (`event_periods.max_event_time`) is what a look-up asks for last: what happened up to then and is not found is refused
//!   (`too_old`). Whoever looks up either finds the blocks or the time, since both change at once. A processor's memory stays right:
//!   it knows what was dropped after its horizon, and one that is filled anew begins behind that time.
//!
//! Nobody merges blocks or rebuilds meanwhile: it would lose its place among them.

use std::thread::sleep;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Integer, Nullable, Timestamptz};
use serde::Serialize;

use super::rebuild::{self, try_lock};
use super::verify::{self, Difference};
use crate::event::Count;
use crate::offset::Offset;
use crate::store::locks::Lock;
use crate::store::{Limits, StoreError, StreamId, clock, connect};

/// How long the session of a killed run may take to end.
const FOR_A_KILLED_ONE: Duration = Duration::from_secs(20);

/// How long a try waits for a lock that others then queue behind; how long to leave them alone; and when to give up.
const PER_TRY: Duration = Duration::from_secs(1);
const BETWEEN_TRIES: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(600);

/// A period whose events are there.
#[derive(Clone, Debug, PartialEq, QueryableByName, Serialize)]
pub struct Period {
    #[diesel(sql_type = Integer)]
    pub period: i32,
    #[diesel(sql_type = Timestamptz)]
    pub opened_at: DateTime<Utc>,
    /// Null while it is open.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub closed_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = BigInt)]
    pub events: Count,
    /// On disk, with its indexes.
    #[diesel(sql_type = BigInt)]
    pub bytes: Count,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub min_event_time: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub max_event_time: Option<DateTime<Utc>>,
}

/// The periods whose events are there, the oldest first, and now by the database's clock.
///
/// # Errors
/// When the database does not answer.
pub fn periods(connection: &mut PgConnection) -> Result<(DateTime<Utc>, Vec<Period>), StoreError> {
    let now = clock(connection)?;
    let periods = sql_query(
        "SELECT p.period, p.opened_at, p.closed_at, COALESCE(b.events, 0)::bigint AS events,
             pg_total_relation_size(to_regclass('event_blocks_' || p.period)) AS bytes, b.min_event_time, b.max_event_time
         FROM event_periods AS p
         LEFT JOIN (SELECT period, sum(event_count) AS events, min(min_event_time) AS min_event_time,
                        max(max_event_time) AS max_event_time
                    FROM event_blocks GROUP BY period) AS b USING (period)
         WHERE p.dropped_at IS NULL ORDER BY p.period",
    )
    .load(connection)?;
    Ok((now, periods))
}

/// Why a period is still there.
#[derive(Debug, thiserror::Error)]
pub enum RetainError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing was dropped: what was to stay of it is not what it is.
    #[error(
        "period {period} was not dropped, since the sums that were made of its events are not theirs:\n{difference}"
    )]
    Differs {
        period: i32,
        difference: Box<Difference>,
    },
}

impl From<diesel::result::Error> for RetainError {
    fn from(error: diesel::result::Error) -> RetainError {
        RetainError::Store(error.into())
    }
}

/// A session that may close and drop periods; there is one at a time.
pub struct Retaining {
    connection: PgConnection,
}

impl Retaining {
    /// Begins, once a rebuild's or a killed run's session has ended.
    ///
    /// # Errors
    /// [`StoreError::Busy`] while another one runs, or a rebuild; else when the database does not answer.
    pub fn begin(database_url: &str) -> Result<Retaining, StoreError> {
        let mut connection = connect(database_url, Limits::MAINTENANCE)?;
        if !Lock::Rebuild.take_within(&mut connection, FOR_A_KILLED_ONE)? {
            return Err(StoreError::Busy(
                "a rebuild is running, or another adflux retain",
            ));
        }
        Lock::Merge.take(&mut connection)?;
        let mut retaining = Retaining { connection };
        retaining.forget_late_events()?;
        Ok(retaining)
    }

    /// See [`periods`].
    ///
    /// # Errors
    /// When the database does not answer.
    pub fn periods(&mut self) -> Result<(DateTime<Utc>, Vec<Period>), StoreError> {
        periods(&mut self.connection)
    }

    /// Closes the period that is open, and opens the next one.
    ///
    /// # Errors
    /// [`StoreError::Busy`] when others were in the way for ten minutes; else as the database does. Nothing is changed then.
    pub fn close(&mut self) -> Result<(), StoreError> {
        let closed = self.again_and_again(|connection| {
            // Of event_blocks, what attaching takes: reading and writing go on.
            if !try_lock(connection, "stream_positions", "EXCLUSIVE", PER_TRY)?
                || !try_lock(
                    connection,
                    "event_blocks",
                    "SHARE UPDATE EXCLUSIVE",
                    PER_TRY,
                )?
            {
                return Ok(false);
            }
            connection.batch_execute(
                "DO $$
                 DECLARE
                     next integer := open_event_period() + 1;
                     now timestamptz := GREATEST(clock_timestamp(), (SELECT max(committed_at) FROM stream_positions),
                         (SELECT opened_at FROM event_periods WHERE closed_at IS NULL));
                 BEGIN
                     EXECUTE format('CREATE TABLE event_blocks_%s (LIKE event_blocks INCLUDING DEFAULTS INCLUDING CONSTRAINTS
                         INCLUDING STORAGE INCLUDING COMPRESSION INCLUDING COMMENTS)', next);
                     EXECUTE format('COMMENT ON TABLE event_blocks_%s IS ''Events that were stored in a period.''', next);
                     EXECUTE format('ALTER TABLE event_blocks ATTACH PARTITION event_blocks_%s FOR VALUES IN (%s)', next, next);
                     UPDATE event_periods SET closed_at = now WHERE closed_at IS NULL;
                     INSERT INTO event_periods (period, opened_at) VALUES (next, now);
                 END $$",
            )?;
            Ok(true)
        })?;
        closed.ok_or(StoreError::Busy(
            "other sessions held stream_positions or event_blocks for ten minutes on end; no period was closed \
             (pg_locks says who: run adflux retain again)",
        ))
    }

    /// Drops a closed period; its sums stay.
    ///
    /// # Errors
    /// As [`RetainError`]. The period is there then.
    pub fn drop(&mut self, period: &Period) -> Result<(), RetainError> {
        let number = period.period;
        rebuild::forget(&mut self.connection)?;
        self.make_sums(number)?;
        self.make_restatements(number)?;
        if let Err(difference) = self.compare(number)? {
            rebuild::forget(&mut self.connection)?;
            return Err(RetainError::Differs {
                period: number,
                difference,
            });
        }
        let dropped = self.again_and_again(|connection| {
            if !try_lock(connection, "event_blocks", "ACCESS EXCLUSIVE", PER_TRY)? {
                return Ok(false);
            }
            enter(connection, number)?;
            connection.batch_execute(&format!("DROP TABLE event_blocks_{number}"))?;
            Ok(true)
        })?;
        dropped.ok_or(StoreError::Busy(
            "other sessions read event_blocks for ten minutes on end, and what they read cannot be dropped \
             (pg_stat_activity says who: an export, a backup; run adflux retain again once they are done)",
        ))?;
        self.forget_late_events()?;
        Ok(())
    }

    /// Tries until it is done, for as long as one waits. `None` if it never was.
    fn again_and_again(
        &mut self,
        mut attempt: impl FnMut(&mut PgConnection) -> Result<bool, StoreError>,
    ) -> Result<Option<()>, StoreError> {
        let began = Instant::now();
        loop {
            if self.connection.transaction(&mut attempt)? {
                return Ok(Some(()));
            }
            if began.elapsed() > PATIENCE {
                return Ok(None);
            }
            sleep(BETWEEN_TRIES);
        }
    }

    /// Makes the sums of a period from its blocks.
    fn make_sums(&mut self, period: i32) -> Result<(), StoreError> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = Integer)]
            stream_id: i32,
            #[diesel(sql_type = BigInt)]
            first_offset: Offset,
            #[diesel(sql_type = BigInt)]
            last_offset: Offset,
        }
        let rows: Vec<Row> = sql_query(
            "SELECT stream_id, min(first_offset) AS first_offset, max(last_offset) AS last_offset
             FROM event_blocks WHERE period = $1 GROUP BY stream_id ORDER BY stream_id",
        )
        .bind::<Integer, _>(period)
        .load(&mut self.connection)?;
        for row in rows {
            let offsets = row.first_offset..row.last_offset.next();
            rebuild::add_stream(
                &mut self.connection,
                StreamId(row.stream_id),
                offsets,
                &mut |_| {},
            )?;
        }
        Ok(())
    }

    /// Adds up the restatements of a period by the report row whose differences they are, and by when they happened.
    fn make_restatements(&mut self, period: i32) -> Result<(), StoreError> {
        self.connection.transaction(|connection| {
            sql_query("DELETE FROM retired_restatements WHERE period = $1")
                .bind::<Integer, _>(period)
                .execute(connection)?;
            sql_query(
                "INSERT INTO retired_restatements (period, event_id, campaign_id, platform, event_time, events, observed_at,
                     impressions, clicks, conversion_micros, cost_micros, revenue_micros)
                 SELECT $1, e.event_id, min(e.campaign_id), min(e.platform), e.event_time, count(*), max(e.observed_at),
                     sum(e.impressions), sum(e.clicks),
                     sum(e.conversions::numeric * 1000000 + COALESCE(e.conversion_millionths, 0)), sum(e.cost_micros),
                     sum(e.revenue_micros)
                 FROM event_blocks AS b
                 CROSS JOIN LATERAL unnest(b.event_id, b.campaign_id, b.platform, b.event_time, b.observed_at, b.impressions,
                         b.clicks, b.conversions, b.conversion_millionths, b.cost_micros, b.revenue_micros)
                     AS e (event_id, campaign_id, platform, event_time, observed_at, impressions, clicks, conversions,
                           conversion_millionths, cost_micros, revenue_micros)
                 WHERE b.period = $1 AND b.observed_at IS NOT NULL AND e.observed_at IS NOT NULL
                 GROUP BY e.event_id, e.event_time",
            )
            .bind::<Integer, _>(period)
            .execute(connection)?;
            Ok(())
        })
    }

    /// Whether the sums that were made are those of the period's events: asked in SQL, which shares no code with what made them.
    fn compare(&mut self, period: i32) -> Result<Result<(), Box<Difference>>, StoreError> {
        // As if it were dropped, and not so after all.
        enum End {
            Compared(Result<(), Box<Difference>>),
            Failed(StoreError),
        }
        impl From<diesel::result::Error> for End {
            fn from(error: diesel::result::Error) -> End {
                End::Failed(error.into())
            }
        }
        let compared: Result<(), End> = self.connection.transaction(|connection| {
            let compared =
                enter(connection, period).and_then(|()| verify::retired(connection, period));
            Err(compared.map_or_else(End::Failed, |it| End::Compared(it.map_err(Box::new))))
        });
        match compared {
            Ok(()) => Ok(Ok(())),
            Err(End::Compared(compared)) => Ok(compared),
            Err(End::Failed(error)) => Err(error),
        }
    }

    /// Removes what says where late events are that were dropped: nobody looks for them there.
    fn forget_late_events(&mut self) -> Result<(), StoreError> {
        sql_query(
            r#"DELETE FROM late_events AS l
             USING (SELECT stream_id, max(next_offset) AS next_offset FROM retired_streams GROUP BY stream_id) AS r
             WHERE l.stream_id = r.stream_id AND l."offset" < r.next_offset"#,
        )
        .execute(&mut self.connection)?;
        Ok(())
    }
}

/// What was made of a period becomes what stays of it.
fn enter(connection: &mut PgConnection, period: i32) -> Result<(), StoreError> {
    sql_query(
        "WITH parts AS (
             INSERT INTO retired_parts SELECT m.*, $1 FROM sum_parts_made AS m),
         streams AS (
             INSERT INTO retired_streams (period, stream_id, next_offset, events)
             SELECT $1, stream_id, next_offset, events FROM sum_parts_made_until)
         UPDATE event_periods AS p SET dropped_at = clock_timestamp(), events = b.events,
             min_event_time = b.min_event_time, max_event_time = b.max_event_time
         FROM (SELECT COALESCE(sum(event_count), 0) AS events, min(min_event_time) AS min_event_time,
                   max(max_event_time) AS max_event_time
               FROM event_blocks WHERE period = $1) AS b
         WHERE p.period = $1",
    )
    .bind::<Integer, _>(period)
    .execute(connection)?;
    connection.batch_execute(rebuild::FORGET_MADE)?;
    Ok(())
}

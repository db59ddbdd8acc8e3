//! Which range of the topic's partitions this database has, where it is one of several.

use std::sync::atomic::{AtomicBool, Ordering};

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Integer, Text};

use super::{Limits, Remedy, StoreError, connect};
use crate::outage::Outage;
use crate::pause::{Backoff, pause};
use crate::shard::Shard;

/// The range that the database has; none where it has everything.
///
/// # Errors
/// When the database does not answer.
pub fn read(connection: &mut PgConnection) -> Result<Option<Shard>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Integer)]
        first_partition: i32,
        #[diesel(sql_type = Integer)]
        last_partition: i32,
        #[diesel(sql_type = Integer)]
        partitions: i32,
    }
    let row: Option<Row> =
        sql_query("SELECT first_partition, last_partition, partitions FROM shard")
            .get_result(connection)
            .optional()?;
    let Some(row) = row else { return Ok(None) };
    let shard = Shard::new(row.first_partition, row.last_partition, row.partitions);
    // A later version may know of more.
    let unknown = || StoreError::Outdated("what the table shard has is no range".to_owned());
    shard.ok_or_else(unknown).map(Some)
}

/// As [`read`]; waits for a server that is away. None if `stop` was set before it came.
///
/// # Errors
/// When the server answers otherwise.
pub fn read_when_there(url: &str, stop: &AtomicBool) -> Result<Option<Shard>, StoreError> {
    let outage = Outage::default();
    let mut failures = 0;
    while !stop.load(Ordering::Relaxed) {
        match connect(url, Limits::API).and_then(|mut connection| read(&mut connection)) {
            Err(error) if error.remedy() == Remedy::Wait => {
                outage.failed(format_args!("{error}; retrying until it answers"));
                pause(Backoff::SERVER.after(failures), stop);
                failures += 1;
            }
            answered => {
                outage.ended(format_args!("PostgreSQL is there"));
                return answered;
            }
        }
    }
    Ok(None)
}

/// Checks that a database has the range that was said of it; none was, if everything should be there.
///
/// # Errors
/// [`StoreError::Range`] when it has another one.
pub fn check(found: Option<Shard>, said: Option<Shard>) -> Result<(), StoreError> {
    let why = match (said, found) {
        (None, None) => return Ok(()),
        (Some(said), Some(found)) if said == found => return Ok(()),
        (Some(said), Some(found)) => format!(
            "the database that is named for the partitions {said} has {found}: correct --shard (ADFLUX_SHARDS)"
        ),
        (Some(said), None) => format!(
            "the database that is named for the partitions {said} has no range: give it that with `adflux migrate --shard {said}`, \
             or correct --shard (ADFLUX_SHARDS)"
        ),
        (None, Some(found)) => format!(
            "DATABASE_URL leads to one of several databases, which has the partitions {found} alone: name all of them with --shard \
             (ADFLUX_SHARDS)"
        ),
    };
    Err(StoreError::Range(why))
}

/// Why the database does not get a range.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error(
        "{topic}[{partition}] is counted here, {now}, and a range is for good then: what was counted would be counted again \
         elsewhere, or a campaign come to be in two databases. Nothing was changed. Make new databases, each with a range, and \
         count the topic into them from its beginning"
    )]
    Counted {
        topic: String,
        partition: i32,
        now: String,
    },
}

impl From<diesel::result::Error> for Refused {
    fn from(error: diesel::result::Error) -> Refused {
        Refused::Store(error.into())
    }
}

/// Gives the database a range, or another one as long as nothing is counted. `false` if it has that already.
///
/// # Errors
/// When something is counted, or the database does not take it.
pub fn set(connection: &mut PgConnection, shard: Shard) -> Result<bool, Refused> {
    connection.transaction(|connection| {
        // Nobody claims a partition meanwhile.
        sql_query("LOCK TABLE stream_positions IN EXCLUSIVE MODE").execute(connection)?;
        let now = read(connection)?;
        if now == Some(shard) {
            return Ok(false);
        }
        if let Some(Counted { topic, partition }) = counted(connection)? {
            let now = now.map_or("without a range".to_owned(), |now| {
                format!("with the range {now}")
            });
            return Err(Refused::Counted {
                topic,
                partition,
                now,
            });
        }
        write(connection, shard)?;
        let restart = format!(
            "ALTER TABLE stream_positions ALTER COLUMN stream_id RESTART WITH {}",
            shard.first_stream()
        );
        sql_query(restart).execute(connection)?;
        Ok(true)
    })
}

fn write(connection: &mut PgConnection, shard: Shard) -> Result<(), StoreError> {
    let (first, last) = shard.ends();
    sql_query(
        "INSERT INTO shard (first_partition, last_partition, partitions) VALUES ($1, $2, $3)
         ON CONFLICT (is_this) DO UPDATE SET first_partition = EXCLUDED.first_partition,
             last_partition = EXCLUDED.last_partition, partitions = EXCLUDED.partitions",
    )
    .bind::<Integer, _>(first)
    .bind::<Integer, _>(last)
    .bind::<Integer, _>(shard.of())
    .execute(connection)?;
    Ok(())
}

/// A partition that is counted into this database.
#[derive(QueryableByName)]
struct Counted {
    #[diesel(sql_type = Text)]
    topic: String,
    #[diesel(sql_type = Integer)]
    partition: i32,
}

/// The first of them, if there is one.
fn counted(connection: &mut PgConnection) -> Result<Option<Counted>, StoreError> {
    let first = "SELECT topic, partition FROM stream_positions ORDER BY topic, partition LIMIT 1";
    Ok(sql_query(first).get_result(connection).optional()?)
}

//! How the pipeline is doing, as the database knows it: positions, pace and dead letters.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Double, Integer, Nullable, Text, Timestamptz};

use crate::event::Count;
use crate::offset::Offset;
use crate::store::states::{self, Reported};
use crate::store::sums::backlog::{Backlog, backlog};
use crate::store::{CommitId, Epoch, StoreError, clock};

/// Where a partition stands.
#[derive(Clone, Debug, QueryableByName)]
pub struct PartitionRow {
    #[diesel(sql_type = Text)]
    pub cluster_id: String,
    #[diesel(sql_type = Text)]
    pub topic: String,
    #[diesel(sql_type = Integer)]
    pub partition: i32,
    #[diesel(sql_type = Text)]
    pub owner: String,
    #[diesel(sql_type = BigInt)]
    pub epoch: Epoch,
    #[diesel(sql_type = BigInt)]
    pub start_offset: Offset,
    #[diesel(sql_type = BigInt)]
    pub next_offset: Offset,
    #[diesel(sql_type = BigInt)]
    pub records: Count,
    #[diesel(sql_type = BigInt)]
    pub events: Count,
    #[diesel(sql_type = BigInt)]
    pub duplicates: Count,
    #[diesel(sql_type = BigInt)]
    pub dead_letters: Count,
    #[diesel(sql_type = BigInt)]
    pub unchanged: Count,
    #[diesel(sql_type = BigInt)]
    pub superseded: Count,
    #[diesel(sql_type = BigInt)]
    pub erased: Count,
    #[diesel(sql_type = BigInt)]
    pub commit_id: CommitId,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub committed_at: Option<DateTime<Utc>>,
}

/// What was counted lately.
#[derive(Clone, Copy, Debug, QueryableByName)]
pub struct Pace {
    #[diesel(sql_type = BigInt)]
    pub events: Count,
    /// Commits that brought events.
    #[diesel(sql_type = BigInt)]
    pub commits: Count,
    /// Over how many seconds.
    #[diesel(sql_type = Double)]
    pub seconds: f64,
    /// From an event's own time to its commit, in seconds: half were quicker; of the newest event of
    /// each block. Blocks that hold restatements say nothing of it: a report is of days gone by.
    #[diesel(sql_type = Nullable<Double>)]
    pub delay: Option<f64>,
}

/// Dead letters of one reason.
#[derive(Clone, Debug, QueryableByName)]
pub struct ReasonRow {
    #[diesel(sql_type = Text)]
    pub reason: String,
    #[diesel(sql_type = BigInt)]
    pub letters: Count,
    #[diesel(sql_type = Timestamptz)]
    pub newest_at: DateTime<Utc>,
}

/// All of it.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// The database's clock.
    pub now: DateTime<Utc>,
    pub partitions: Vec<PartitionRow>,
    pub pace: Pace,
    pub dead_letters: Vec<ReasonRow>,
    /// What each partition is doing, where a processor has said so.
    pub states: Vec<Reported>,
    pub sums: Backlog,
}

impl Pace {
    /// Of both together: events and commits of one second are added up, and of delays it is the longer.
    fn and(self, other: Pace) -> Pace {
        let seconds = self.seconds.max(other.seconds);
        // As many as in so many seconds at that rate.
        let stretched = |count: Count, of: f64| {
            Count::new((count.as_f64() * seconds / of.max(1.0)).round() as i64)
        };
        let sum = |own: Count, others: Count| {
            let both = [
                stretched(own, self.seconds),
                stretched(others, other.seconds),
            ];
            both.into_iter().sum()
        };
        Pace {
            events: sum(self.events, other.events),
            commits: sum(self.commits, other.commits),
            seconds,
            delay: match (self.delay, other.delay) {
                (Some(own), Some(others)) => Some(own.max(others)),
                (own, others) => own.or(others),
            },
        }
    }
}

impl Pipeline {
    /// That of two databases together.
    pub fn and(mut self, other: Pipeline) -> Pipeline {
        self.partitions.extend(other.partitions);
        let order = |row: &PartitionRow| (row.cluster_id.clone(), row.topic.clone(), row.partition);
        self.partitions.sort_by_cached_key(order);
        for theirs in other.dead_letters {
            match self
                .dead_letters
                .iter_mut()
                .find(|own| own.reason == theirs.reason)
            {
                Some(own) => {
                    own.letters += theirs.letters;
                    own.newest_at = own.newest_at.max(theirs.newest_at);
                }
                None => self.dead_letters.push(theirs),
            }
        }
        self.dead_letters.sort_by(|a, b| {
            b.letters
                .cmp(&a.letters)
                .then_with(|| a.reason.cmp(&b.reason))
        });
        self.states.extend(other.states);
        Pipeline {
            // What was counted last was not counted later than now.
            now: self.now.max(other.now),
            pace: self.pace.and(other.pace),
            sums: self.sums.and(other.sums),
            ..self
        }
    }
}

/// How far back the pace is measured, in seconds, and in blocks of a partition.
const PACE_SECONDS: f64 = 60.0;
const PACE_BLOCKS: i64 = 2_000;

/// Reads how the pipeline is doing.
///
/// # Errors
/// When the database does not answer.
pub fn read(connection: &mut PgConnection) -> Result<Pipeline, StoreError> {
    connection
        .build_transaction()
        .read_only()
        .repeatable_read()
        .run(|connection| {
            let now = clock(connection)?;
            let partitions = sql_query(
                "SELECT cluster_id, topic, partition, owner, epoch, start_offset, next_offset, records, events,
                     duplicates, dead_letters, unchanged, superseded, erased, commit_id, committed_at
                 FROM stream_positions ORDER BY cluster_id, topic, partition",
            )
            .load(connection)?;
            // The newest blocks of each partition, by their key. Where there are more of them than
            // are read, the time is that of the oldest that was.
            let pace = sql_query(
                "WITH newest AS (
                     SELECT b.event_count, b.commit_id, b.committed_at, b.max_event_time, b.is_restated
                     FROM stream_positions AS s CROSS JOIN LATERAL (
                         SELECT event_count, commit_id, committed_at, max_event_time, observed_at IS NOT NULL AS is_restated
                         FROM event_blocks WHERE stream_id = s.stream_id ORDER BY first_offset DESC LIMIT $2) AS b
                     WHERE b.committed_at > clock_timestamp() - interval '1 second' * $1)
                 SELECT COALESCE(sum(event_count), 0)::bigint AS events, count(DISTINCT commit_id) AS commits,
                     CASE WHEN count(*) < $2 THEN $1
                          ELSE extract(epoch FROM clock_timestamp() - min(committed_at))::float8 END AS seconds,
                     percentile_cont(0.5) WITHIN GROUP
                         (ORDER BY extract(epoch FROM committed_at - max_event_time)::float8)
                         FILTER (WHERE NOT is_restated) AS delay
                 FROM newest",
            )
            .bind::<Double, _>(PACE_SECONDS)
            .bind::<BigInt, _>(PACE_BLOCKS)
            .get_result(connection)?;
            let dead_letters = sql_query(
                "SELECT reason, count(*) AS letters, max(created_at) AS newest_at FROM dead_letters
                 GROUP BY reason ORDER BY letters DESC, reason",
            )
            .load(connection)?;
            Ok(Pipeline {
                now,
                partitions,
                pace,
                dead_letters,
                states: states::list(connection)?,
                sums: backlog(connection)?,
            })
        })
}

//! Who may move a partition on, and the fence that keeps everyone else out.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Integer, Nullable, Text, Timestamptz};

use super::batch::{Fence, Filled};
use super::settled::Settled;
use crate::event::Count;
use crate::offset::Offset;
use crate::store::columns::{Bigints, Integers};
use crate::store::prepared::prepared;
use crate::store::{CommitId, Epoch, StoreError, StreamId};
use crate::time::Timestamp;

/// A partition of a topic of a cluster, as Kafka names it.
#[derive(Clone, Copy, Debug)]
pub struct Partition<'a> {
    /// The cluster's own id.
    pub cluster_id: &'a str,
    pub topic: &'a str,
    pub partition: i32,
}

/// What a claim found.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    pub stream: StreamId,
    /// The fence for the first write; `fence.next_offset` is the next offset to read.
    pub fence: Fence,
    /// The offset of the last record before it, and the timestamp of that, if it is known.
    pub last_record: Option<(Offset, Timestamp)>,
}

#[derive(QueryableByName)]
struct ClaimRow {
    #[diesel(sql_type = Integer)]
    stream_id: i32,
    #[diesel(sql_type = BigInt)]
    epoch: Epoch,
    #[diesel(sql_type = BigInt)]
    next_offset: Offset,
    #[diesel(sql_type = BigInt)]
    campaigns_moved: Count,
    #[diesel(sql_type = Nullable<BigInt>)]
    last_record_offset: Option<Offset>,
    #[diesel(sql_type = Nullable<BigInt>)]
    last_record_time: Option<Timestamp>,
}

/// Makes `owner` the only one who can advance the partition: from here on every earlier owner's
/// transaction fails its fence. Waits for one that is being committed just now. A partition never
/// seen before starts at `start_offset`.
///
/// # Errors
/// When the database does not answer, or the last owner holds its lock for too long.
pub fn claim(
    connection: &mut PgConnection,
    partition: Partition<'_>,
    start_offset: Offset,
    owner: &str,
) -> Result<Claim, StoreError> {
    // Most claims find a row; trying the insert first would burn a stream_id on each of them.
    let known: Option<ClaimRow> = sql_query(
        "UPDATE stream_positions SET epoch = epoch + 1, owner = $4
         WHERE cluster_id = $1 AND topic = $2 AND partition = $3
         RETURNING stream_id, epoch, next_offset, campaigns_moved, last_record_offset, last_record_time",
    )
    .bind::<Text, _>(partition.cluster_id)
    .bind::<Text, _>(partition.topic)
    .bind::<Integer, _>(partition.partition)
    .bind::<Text, _>(owner)
    .get_result(connection)
    .optional()?;
    let row = match known {
        Some(row) => row,
        None => sql_query(
            "INSERT INTO stream_positions (cluster_id, topic, partition, owner, start_offset, next_offset)
             VALUES ($1, $2, $3, $4, $5, $5)
             ON CONFLICT ON CONSTRAINT stream_positions_partition_key
             DO UPDATE SET epoch = stream_positions.epoch + 1, owner = EXCLUDED.owner
             RETURNING stream_id, epoch, next_offset, campaigns_moved, last_record_offset, last_record_time",
        )
        .bind::<Text, _>(partition.cluster_id)
        .bind::<Text, _>(partition.topic)
        .bind::<Integer, _>(partition.partition)
        .bind::<Text, _>(owner)
        .bind::<BigInt, _>(start_offset)
        .get_result(connection)?,
    };
    Ok(Claim {
        stream: StreamId(row.stream_id),
        fence: Fence {
            epoch: row.epoch,
            next_offset: row.next_offset,
            campaigns_moved: row.campaigns_moved,
        },
        last_record: row.last_record_offset.zip(row.last_record_time),
    })
}

/// Moves a partition's position past offsets whose records are not counted, and says why in `skipped_offsets`. From
/// here on its owner's transactions fail their fence, as after a claim; it is read from behind them, not from the last record
/// before them on. `false` if it does not stand at the first of them.
///
/// # Errors
/// When the database does not take it.
pub fn skip(
    connection: &mut PgConnection,
    partition: Partition<'_>,
    (first, next): (Offset, Offset),
    reason: &str,
    who: &str,
) -> Result<bool, StoreError> {
    let skipped = sql_query(
        "WITH moved AS (
             UPDATE stream_positions
             SET epoch = epoch + 1, next_offset = $5, last_record_offset = NULL, last_record_time = NULL
             WHERE cluster_id = $1 AND topic = $2 AND partition = $3 AND next_offset = $4
             RETURNING stream_id)
         INSERT INTO skipped_offsets (stream_id, first_offset, next_offset, reason, skipped_by)
         SELECT stream_id, $4, $5, $6, $7 FROM moved",
    )
    .bind::<Text, _>(partition.cluster_id)
    .bind::<Text, _>(partition.topic)
    .bind::<Integer, _>(partition.partition)
    .bind::<BigInt, _>(first)
    .bind::<BigInt, _>(next)
    .bind::<Text, _>(reason)
    .bind::<Text, _>(who)
    .execute(connection)?;
    Ok(skipped == 1)
}

/// What a transaction is known by afterwards.
#[derive(Clone, Copy, Debug)]
pub struct Commit {
    pub id: CommitId,
    /// When it began to write. One for the whole transaction, so that no instant is in the middle of
    /// it, and for one partition never before that of an earlier one, even if the clock is set back.
    pub at: Timestamp,
}

#[derive(QueryableByName)]
struct Advanced {
    #[diesel(sql_type = Integer)]
    stream_id: i32,
    #[diesel(sql_type = BigInt)]
    commit_id: CommitId,
    #[diesel(sql_type = Timestamptz)]
    committed_at: Timestamp,
}

/// The first statement of every transaction: advances the shares' positions, each only if its
/// fence still holds. Returns what the transaction is known by, or the streams whose fence does not.
pub(super) fn advance(
    connection: &mut PgConnection,
    shares: &[&Settled<'_>],
) -> Result<Result<Commit, Vec<StreamId>>, StoreError> {
    let streams: Vec<i32> = shares.iter().map(|s| s.share.stream.0).collect();
    fn column<T>(shares: &[&Settled<'_>], of: fn(&Settled<'_>) -> T) -> Vec<T> {
        shares.iter().map(|s| of(s)).collect()
    }
    let last_offsets: Vec<Option<Offset>> = shares
        .iter()
        .map(|s| s.share.last_record.map(|(offset, _)| offset))
        .collect();
    let last_times: Vec<Option<Timestamp>> = shares
        .iter()
        .map(|s| s.share.last_record.and_then(|(_, time)| time))
        .collect();
    // The commit id is taken after the row's lock is held: an update that had to wait evaluates
    // nextval again. The instant is taken before, once: whoever advanced the position before us had
    // committed when we asked, or the fence does not hold.
    let advanced: Vec<Advanced> = prepared(
        "WITH this AS MATERIALIZED (
             SELECT GREATEST(clock_timestamp(), max(committed_at)) AS committed_at
             FROM stream_positions WHERE stream_id = ANY($1))
         UPDATE stream_positions AS s
         SET next_offset = b.next_offset, records = s.records + b.records, events = s.events + b.events,
             duplicates = s.duplicates + b.duplicates, dead_letters = s.dead_letters + b.dead_letters,
             unchanged = s.unchanged + b.unchanged, superseded = s.superseded + b.superseded,
             last_record_offset = COALESCE(b.last_offset, s.last_record_offset),
             last_record_time = CASE WHEN b.last_offset IS NULL THEN s.last_record_time ELSE b.last_time END,
             commit_id = nextval('commit_ids'), committed_at = this.committed_at,
             sum_bound = GREATEST(s.sum_bound + b.counted, b.largest_sum)
         FROM this, unnest($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
             AS b (stream_id, epoch, expected_offset, campaigns_moved, next_offset, records, events, duplicates, dead_letters,
                 last_offset, last_time, counted, largest_sum, unchanged, superseded)
         WHERE s.stream_id = b.stream_id AND s.epoch = b.epoch AND s.next_offset = b.expected_offset
             AND s.campaigns_moved = b.campaigns_moved
         RETURNING s.stream_id, s.commit_id, s.committed_at",
    )
    .bind::<Array<Integer>, _>(Integers(&streams))
    .bind::<Array<Integer>, _>(Integers(&streams))
    .bind::<Array<BigInt>, _>(Bigints(&column(shares, |s| s.share.fence.epoch)))
    .bind::<Array<BigInt>, _>(Bigints(&column(shares, |s| s.share.fence.next_offset)))
    .bind::<Array<BigInt>, _>(Bigints(&column(shares, |s| s.share.fence.campaigns_moved)))
    .bind::<Array<BigInt>, _>(Bigints(&column(shares, |s| s.share.next_offset)))
    .bind::<Array<BigInt>, _>(Bigints(&column(shares, |s| s.share.records)))
    .bind::<Array<BigInt>, _>(Bigints(&column(shares, |s| Count::of(s.events.len()))))
    .bind::<Array<BigInt>, _>(Bigints(&column(shares, |s| s.duplicates)))
    .bind::<Array<BigInt>, _>(Bigints(&column(shares, |s| Count::of(s.dead.len()))))
    .bind::<Array<Nullable<BigInt>>, _>(last_offsets)
    .bind::<Array<Nullable<BigInt>>, _>(last_times)
    .bind::<Array<BigInt>, _>(Bigints(&column(shares, |s| s.needs.largest_sum.map_or_else(|| s.counted(), |_| 0))))
    .bind::<Array<BigInt>, _>(Bigints(&column(shares, |s| s.needs.largest_sum.unwrap_or_default())))
    .bind::<Array<BigInt>, _>(Bigints(&column(shares, |s| s.unchanged)))
    .bind::<Array<BigInt>, _>(Bigints(&column(shares, |s| s.superseded)))
    .load(connection)
    .map_err(StoreError::of_bound)?;
    let refused: Vec<StreamId> = shares
        .iter()
        .map(|s| s.share.stream)
        .filter(|stream| !advanced.iter().any(|a| a.stream_id == stream.0))
        .collect();
    Ok(match advanced.iter().max_by_key(|a| a.commit_id) {
        Some(last) if refused.is_empty() => Ok(Commit {
            id: last.commit_id,
            at: last.committed_at,
        }),
        _ => Err(refused),
    })
}

/// Looks up the largest sum there is, which is what bounds those of these partitions.
pub(super) fn tighten(
    connection: &mut PgConnection,
    streams: &[StreamId],
) -> Result<(), StoreError> {
    let ids: Vec<i32> = streams.iter().map(|s| s.0).collect();
    connection.transaction(|connection| {
        // Held, so that the next statement sees all that is counted, and nothing more is.
        lock(connection, streams)?;
        sql_query(
            "UPDATE stream_positions SET sum_bound = (
                 SELECT COALESCE(max(GREATEST(abs(impressions), abs(clicks), abs(conversions) * 1000000, abs(cost_micros), abs(revenue_micros))), 0)
                 FROM metrics_total)
             WHERE stream_id = ANY($1)",
        )
        .bind::<Array<Integer>, _>(Integers(&ids))
        .execute(connection)?;
        Ok(())
    })
}

/// What a transaction is known by that advances no position: [`crate::guards`] are down.
pub(super) fn without_a_fence(connection: &mut PgConnection) -> Result<Commit, StoreError> {
    let taken: Advanced = sql_query(
        "SELECT 0 AS stream_id, nextval('commit_ids') AS commit_id, clock_timestamp() AS committed_at",
    )
    .get_result(connection)?;
    Ok(Commit {
        id: taken.commit_id,
        at: taken.committed_at,
    })
}

/// Why a fence did not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It was this very write that moved the position: an earlier COMMIT got through after all.
    AlreadyCommitted { commit_id: CommitId },
    /// Another process has the partition now.
    Lost,
    /// Another partition took over a campaign of this one, or one was erased: what is known of its campaigns is out
    /// of date, the assignment is not.
    CampaignsMoved,
}

/// Whether the position is where `share` would put it: this very share was written before.
pub(super) fn is_written(
    connection: &mut PgConnection,
    share: &Filled,
) -> Result<bool, StoreError> {
    let refusal = refusal(connection, share)?;
    Ok(matches!(refusal, Refusal::AlreadyCommitted { .. }))
}

/// Finds out why `share` was refused.
pub(super) fn refusal(
    connection: &mut PgConnection,
    share: &Filled,
) -> Result<Refusal, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        epoch: Epoch,
        #[diesel(sql_type = BigInt)]
        next_offset: Offset,
        #[diesel(sql_type = BigInt)]
        commit_id: CommitId,
    }
    // A batch of several partitions is stored under the largest of their numbers.
    let row: Option<Row> = sql_query(
        "SELECT s.epoch, s.next_offset, GREATEST(s.commit_id, (
             SELECT max(b.commit_id) FROM event_blocks AS b
             WHERE b.stream_id = s.stream_id AND b.first_offset >= $2)) AS commit_id
         FROM stream_positions AS s WHERE s.stream_id = $1",
    )
    .bind::<Integer, _>(share.stream.0)
    .bind::<BigInt, _>(share.fence.next_offset)
    .get_result(connection)
    .optional()?;
    Ok(match row {
        Some(row) if row.epoch == share.fence.epoch => {
            // Within an epoch nobody else writes, so the position is where we left it or where
            // this write put it.
            if row.next_offset == share.next_offset {
                Refusal::AlreadyCommitted {
                    commit_id: row.commit_id,
                }
            } else {
                Refusal::CampaignsMoved
            }
        }
        _ => Refusal::Lost,
    })
}

/// Locks the positions of `streams` in one order, so that two transactions that both need
/// several of them cannot deadlock.
pub(in crate::store) fn lock(
    connection: &mut PgConnection,
    streams: &[StreamId],
) -> Result<(), StoreError> {
    let ids: Vec<i32> = streams.iter().map(|s| s.0).collect();
    sql_query(
        "SELECT 1 FROM stream_positions WHERE stream_id = ANY($1) ORDER BY stream_id FOR NO KEY UPDATE",
    )
    .bind::<Array<Integer>, _>(Integers(&ids))
    .execute(connection)?;
    Ok(())
}

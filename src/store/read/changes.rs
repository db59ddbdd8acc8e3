//! What has changed: the campaigns whose sums somebody who stopped at known commits has not seen.
//!
//! Commit ids alone do not tell: two partitions commit side by side, and the larger id may be seen
//! first. Within one partition they are seen in order, because a commit holds the position's row; so
//! what was seen is a commit id *for each partition*, read from the same snapshot as the sums.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use diesel::pg::PgRowByRowLoadingMode;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Integer, Nullable, Text, Timestamptz};

use super::insights::{CampaignSums, totals};
use crate::event::Count;
use crate::offset::Offset;
use crate::store::columns::{Bigints, Integers};
use crate::store::prepared::prepared;
use crate::store::sums::chunk::{ChunkRow, chunk_columns};
use crate::store::{CommitId, StoreError, StreamId};

/// Where a partition stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub commit_id: CommitId,
    pub next_offset: Offset,
    /// Events counted, in all, and what was erased: this never falls.
    pub events: Count,
}

/// Where every partition stands.
pub type Positions = BTreeMap<StreamId, Position>;

/// The last commit of each partition that was seen; of one that is not named, none.
pub type Commits = BTreeMap<StreamId, CommitId>;

/// What is known already.
#[derive(Clone, Debug)]
pub enum Since {
    /// Everything: only where the partitions stand is asked for.
    Now,
    /// Read a moment ago: the blocks behind these positions name what has changed.
    Positions(Positions),
    /// Some time ago, as a client tells it.
    Commits(Commits),
}

/// How much has been counted over all partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    pub events: Count,
    pub duplicates: Count,
    pub dead_letters: Count,
    pub unchanged: Count,
    pub superseded: Count,
    /// The largest commit id.
    pub commit_id: CommitId,
    /// When the last commit was; none before the first.
    pub counted_at: Option<DateTime<Utc>>,
}

impl Progress {
    /// That of two databases together.
    pub fn and(self, other: Progress) -> Progress {
        Progress {
            events: self.events.saturating_add(other.events),
            duplicates: self.duplicates.saturating_add(other.duplicates),
            dead_letters: self.dead_letters.saturating_add(other.dead_letters),
            unchanged: self.unchanged.saturating_add(other.unchanged),
            superseded: self.superseded.saturating_add(other.superseded),
            commit_id: self.commit_id.max(other.commit_id),
            counted_at: self.counted_at.max(other.counted_at),
        }
    }
}

/// A campaign whose sums have changed, and the partition that owns it.
#[derive(Clone, Debug)]
pub struct Changed {
    pub stream: StreamId,
    pub sums: CampaignSums,
}

/// What has changed, as of one snapshot.
#[derive(Clone, Debug)]
pub struct Changes {
    pub positions: Positions,
    pub progress: Progress,
    /// None: more campaigns than were asked for.
    pub campaigns: Option<Vec<Changed>>,
}

/// Up to so many new events, their blocks are read; above, the sums themselves are searched, whose
/// number does not grow with the events'.
const MAX_EVENTS_READ: Count = Count::new(20_000);
/// Campaigns whose sums are read by one statement.
const CHUNK: usize = 1_000;

#[derive(QueryableByName)]
struct PositionRow {
    #[diesel(sql_type = Integer)]
    stream_id: i32,
    #[diesel(sql_type = BigInt)]
    commit_id: CommitId,
    #[diesel(sql_type = BigInt)]
    next_offset: Offset,
    #[diesel(sql_type = BigInt)]
    events: Count,
    #[diesel(sql_type = BigInt)]
    duplicates: Count,
    #[diesel(sql_type = BigInt)]
    dead_letters: Count,
    #[diesel(sql_type = BigInt)]
    unchanged: Count,
    #[diesel(sql_type = BigInt)]
    superseded: Count,
    #[diesel(sql_type = BigInt)]
    erased: Count,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    committed_at: Option<DateTime<Utc>>,
}

#[derive(QueryableByName)]
struct OwnedRow {
    #[diesel(sql_type = Text)]
    campaign_id: String,
    #[diesel(sql_type = Integer)]
    stream_id: i32,
}

/// The campaigns that have changed since, `limit` of them at the most, with their sums.
///
/// # Errors
/// When the database does not answer.
pub fn since(
    connection: &mut PgConnection,
    known: &Since,
    limit: usize,
) -> Result<Changes, StoreError> {
    connection
        .build_transaction()
        .read_only()
        .repeatable_read()
        .run(|connection| {
            let (positions, progress) = positions(connection)?;
            let owned = match known {
                Since::Now => Vec::new(),
                Since::Positions(before) => match behind(before, &positions) {
                    events if (Count::ZERO..=MAX_EVENTS_READ).contains(&events) => {
                        in_blocks(connection, before, &positions, events, limit)?
                    }
                    _ => in_sums(connection, &commits(before), &positions, limit)?,
                },
                Since::Commits(commits) => in_sums(connection, commits, &positions, limit)?,
            };
            let campaigns = if owned.len() > limit {
                None
            } else {
                Some(with_sums(connection, &owned)?)
            };
            Ok(Changes {
                positions,
                progress,
                campaigns,
            })
        })
}

/// The commits of these positions.
pub fn commits(positions: &Positions) -> Commits {
    positions.iter().map(|(s, p)| (*s, p.commit_id)).collect()
}

fn positions(connection: &mut PgConnection) -> Result<(Positions, Progress), StoreError> {
    let rows: Vec<PositionRow> = sql_query(
        // One that was only claimed so far has no commit to tell of.
        "SELECT stream_id, commit_id, next_offset, events, duplicates, dead_letters, unchanged, superseded, erased, committed_at
         FROM stream_positions WHERE commit_id > 0",
    )
    .load(connection)?;
    let mut progress = Progress::default();
    for row in &rows {
        progress.events += row.events;
        progress.duplicates += row.duplicates;
        progress.dead_letters += row.dead_letters;
        progress.unchanged += row.unchanged;
        progress.superseded += row.superseded;
        progress.commit_id = progress.commit_id.max(row.commit_id);
        progress.counted_at = progress.counted_at.max(row.committed_at);
    }
    let positions = rows.into_iter().map(|row| {
        let position = Position {
            commit_id: row.commit_id,
            next_offset: row.next_offset,
            events: row.events.saturating_add(row.erased),
        };
        (StreamId(row.stream_id), position)
    });
    Ok((positions.collect(), progress))
}

/// How many events came since, over all partitions.
fn behind(before: &Positions, now: &Positions) -> Count {
    now.iter()
        .map(|(stream, now)| {
            let before = before.get(stream).map_or(Count::ZERO, |b| b.events);
            now.events.saturating_sub(before)
        })
        .sum()
}

/// By the blocks that were appended since: their key says where they are.
fn in_blocks(
    connection: &mut PgConnection,
    before: &Positions,
    now: &Positions,
    events: Count,
    limit: usize,
) -> Result<Vec<OwnedRow>, StoreError> {
    if events == Count::ZERO {
        return Ok(Vec::new());
    }
    let streams: Vec<i32> = now.keys().map(|s| s.0).collect();
    let offsets: Vec<Offset> = now
        .keys()
        .map(|s| before.get(s).map_or(Offset::default(), |p| p.next_offset))
        .collect();
    Ok(sql_query(
        "SELECT DISTINCT e.campaign_id, b.stream_id
         FROM unnest($1, $2) AS seen (stream_id, next_offset)
         JOIN event_blocks AS b ON b.stream_id = seen.stream_id AND b.first_offset >= seen.next_offset
         CROSS JOIN LATERAL unnest(b.campaign_id) AS e (campaign_id) LIMIT $3",
    )
    .bind::<Array<Integer>, _>(streams)
    .bind::<Array<BigInt>, _>(Bigints(&offsets))
    .bind::<BigInt, _>(limit as i64 + 1)
    .load(connection)?)
}

/// By the sums, each of which carries its last commit: of each partition the parts, and of these the chunks, that have a later one
/// than was seen.
fn in_sums(
    connection: &mut PgConnection,
    seen: &Commits,
    now: &Positions,
    limit: usize,
) -> Result<Vec<OwnedRow>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Integer)]
        stream_id: i32,
        #[diesel(sql_type = BigInt)]
        seen: CommitId,
        #[diesel(embed)]
        chunk: ChunkRow,
    }
    let streams: Vec<i32> = now.keys().map(|s| s.0).collect();
    let commits: Vec<CommitId> = now
        .keys()
        .map(|s| seen.get(s).copied().unwrap_or_default())
        .collect();
    let rows = prepared(
        concat!("SELECT p.stream_id, seen.commit_id AS seen, ", chunk_columns!(), "
         FROM unnest($1, $2) AS seen (stream_id, commit_id)
         JOIN sum_parts_latest AS p ON p.stream_id = seen.stream_id AND p.commit_id > seen.commit_id
         JOIN sum_chunks AS c ON c.stream_id = p.stream_id AND c.part_id = p.part_id AND c.newest_commit_id > seen.commit_id"),
    )
    .bind::<Array<Integer>, _>(Integers(&streams))
    .bind::<Array<BigInt>, _>(Bigints(&commits))
    .load_iter::<Row, PgRowByRowLoadingMode>(connection)?;
    let mut changed: BTreeMap<String, i32> = BTreeMap::new();
    for row in rows {
        let Row {
            stream_id,
            seen,
            chunk,
        } = row?;
        // The rest is read, and left.
        if changed.len() > limit {
            continue;
        }
        for (campaign, cells) in chunk.unpack()?.groups() {
            let is_new = cells.iter().any(|cell| cell.facts.commit_id > seen);
            if is_new && !changed.contains_key(campaign) {
                changed.insert(campaign.to_owned(), stream_id);
            }
        }
    }
    let owned = changed
        .into_iter()
        .map(|(campaign_id, stream_id)| OwnedRow {
            campaign_id,
            stream_id,
        });
    Ok(owned.take(limit.saturating_add(1)).collect())
}

fn with_sums(
    connection: &mut PgConnection,
    owned: &[OwnedRow],
) -> Result<Vec<Changed>, StoreError> {
    let streams: BTreeMap<&str, i32> = owned
        .iter()
        .map(|row| (row.campaign_id.as_str(), row.stream_id))
        .collect();
    let names: Vec<&str> = streams.keys().copied().collect();
    let mut out = Vec::with_capacity(names.len());
    for chunk in names.chunks(CHUNK) {
        for sums in totals(connection, chunk)? {
            let stream = StreamId(streams.get(sums.campaign_id.as_str()).copied().unwrap_or(0));
            out.push(Changed { stream, sums });
        }
    }
    Ok(out)
}

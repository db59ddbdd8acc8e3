//! What `adflux export` reads: a range of the event store or of the sums, some at a time.

use std::collections::{BTreeMap, HashMap};

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Integer, Text, Timestamptz};

use super::cells::{self, Of};
use crate::event::Count;
use crate::offset::Offset;
use crate::store::blocks::{BlockKey, KeyRow};
use crate::store::sums::Grain;
use crate::store::sums::plan::{Plan, Window};
use crate::store::{StoreError, StreamId};
use crate::time::Timestamp;
use crate::totals::{Totals, WideTotals};

/// Blocks whose keys are read at a time.
const KEYS: i64 = 500;
/// Campaigns whose sums are read at a time.
const CAMPAIGNS: i64 = 500;

/// A span of time: `since` included, `until` not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub since: Timestamp,
    pub until: Timestamp,
}

impl Range {
    /// Whether a time is in it.
    pub fn holds(self, time: Timestamp) -> bool {
        (self.since..self.until).contains(&time)
    }
}

/// Runs something that reads everything as of one instant.
///
/// # Errors
/// As `read`, or when the database does not answer.
pub fn in_snapshot<T>(
    connection: &mut PgConnection,
    read: impl FnOnce(&mut PgConnection) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    connection
        .build_transaction()
        .read_only()
        .repeatable_read()
        .run(read)
}

/// Topic and partition of every stream.
///
/// # Errors
/// When the database does not answer.
pub fn streams(
    connection: &mut PgConnection,
) -> Result<HashMap<StreamId, (String, i32)>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Integer)]
        stream_id: i32,
        #[diesel(sql_type = Text)]
        topic: String,
        #[diesel(sql_type = Integer)]
        partition: i32,
    }
    let rows: Vec<Row> =
        sql_query("SELECT stream_id, topic, partition FROM stream_positions").load(connection)?;
    let place = |row: Row| (StreamId(row.stream_id), (row.topic, row.partition));
    Ok(rows.into_iter().map(place).collect())
}

#[derive(QueryableByName)]
struct Counted {
    #[diesel(sql_type = BigInt)]
    count: Count,
}

/// How many events the blocks hold that have some in the range.
///
/// # Errors
/// When the database does not answer.
pub fn events_in_blocks(connection: &mut PgConnection, range: Range) -> Result<Count, StoreError> {
    let counted: Counted = sql_query(
        "SELECT COALESCE(sum(event_count), 0)::bigint AS count FROM event_blocks
         WHERE max_event_time >= $1 AND min_event_time < $2",
    )
    .bind::<Timestamptz, _>(range.since)
    .bind::<Timestamptz, _>(range.until)
    .get_result(connection)?;
    Ok(counted.count)
}

/// The next blocks that have events in the range, in the order of their partitions.
///
/// # Errors
/// When the database does not answer.
pub fn block_keys(
    connection: &mut PgConnection,
    range: Range,
    after: Option<(StreamId, Offset)>,
) -> Result<Vec<BlockKey>, StoreError> {
    let (stream, offset) = after.map_or((i32::MIN, Offset::BEFORE_ALL), |(stream, offset)| {
        (stream.0, offset)
    });
    // By primary key; blocks outside the range are passed over.
    let rows: Vec<KeyRow> = sql_query(
        "SELECT stream_id, first_offset, event_count::bigint AS event_count FROM event_blocks
         WHERE (stream_id, first_offset) > ($1, $2) AND max_event_time >= $3 AND min_event_time < $4
         ORDER BY stream_id, first_offset LIMIT $5",
    )
    .bind::<Integer, _>(stream)
    .bind::<BigInt, _>(offset)
    .bind::<Timestamptz, _>(range.since)
    .bind::<Timestamptz, _>(range.until)
    .bind::<BigInt, _>(KEYS)
    .load(connection)?;
    Ok(rows.into_iter().map(BlockKey::from).collect())
}

/// The sums of a campaign on a platform in an interval.
#[derive(Clone, Debug)]
pub struct SumsRow {
    pub campaign_id: String,
    pub since: Timestamp,
    /// By index.
    pub platform: u8,
    pub totals: Totals,
}

fn plan(grain: Grain, range: Range) -> Option<Plan> {
    // What begins in the range.
    let length = grain.length()?;
    let window = Window::covering(range.since.ceil(length), range.until.ceil(length))?;
    Some(Plan::of_grain(grain, window))
}

/// About how many sums begin in the range.
///
/// # Errors
/// When the database does not answer.
pub fn count_sums(
    connection: &mut PgConnection,
    grain: Grain,
    range: Range,
) -> Result<Count, StoreError> {
    plan(grain, range).map_or(Ok(Count::ZERO), |plan| cells::count(connection, &plan))
}

/// The sums that begin in the range of the next campaigns, by campaign, time and platform; and the last of these campaigns,
/// none if there were no more.
///
/// # Errors
/// When the database does not answer.
pub fn sums(
    connection: &mut PgConnection,
    grain: Grain,
    range: Range,
    after: &str,
) -> Result<(Vec<SumsRow>, Option<String>), StoreError> {
    #[derive(QueryableByName)]
    struct Named {
        #[diesel(sql_type = Text)]
        campaign_id: String,
    }
    let next: Vec<Named> = sql_query(
        "SELECT campaign_id FROM campaigns WHERE campaign_id > $1 ORDER BY campaign_id LIMIT $2",
    )
    .bind::<Text, _>(after)
    .bind::<BigInt, _>(CAMPAIGNS)
    .load(connection)?;
    let ends = next.first().zip(next.last());
    let (Some((first, last)), Some(plan)) = (ends, plan(grain, range)) else {
        return Ok((Vec::new(), None));
    };
    let mut sums: BTreeMap<(String, Timestamp, u8), WideTotals> = BTreeMap::new();
    let between = Of::Between(&first.campaign_id, &last.campaign_id);
    cells::for_each(connection, between, &plan, |_, campaign, range, cells| {
        for cell in cells.iter().filter(|cell| !range.effects(cell).is_empty()) {
            let key = (campaign.to_owned(), grain.start(cell.start), cell.platform);
            sums.entry(key).or_default().add(&cell.totals, 1);
        }
        Ok(())
    })?;
    let rows = sums
        .into_iter()
        .map(|((campaign_id, since, platform), sum)| {
            Ok(SumsRow {
                campaign_id,
                since,
                platform,
                totals: sum.totals()?,
            })
        });
    let rows: Vec<SumsRow> = rows.collect::<Result<_, StoreError>>()?;
    Ok((rows, Some(last.campaign_id.clone())))
}

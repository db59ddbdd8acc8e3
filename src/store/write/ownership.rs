//! Whose a campaign is: of one partition, which may count its events.
//!
//! A processor remembers the ids of recent events per partition. That is enough as long as a
//! campaign's events arrive on one partition, which a keyed topic does, until partitions are added,
//! a producer uses another partitioner, or somebody pipes the topic back into itself. So every
//! campaign has one owner, a row of `campaigns`:
//!
//! - A record whose campaign is owned elsewhere is looked up in the event store. If it is a
//!   duplicate (a replay through another partitioner), nothing more is needed.
//! - If it is new, this partition takes the campaign over: it locks both positions, looks again,
//!   and makes the fence of the former owner fail, who then reads afresh what it owns.
//!   From then on, events before `lookup_before` are looked up.

use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Integer, Text, Timestamptz};

use super::batch::Filled;
use super::settled::Settled;
use super::{FastMap, FastSet};
use crate::store::columns::{Integers, Texts};
use crate::store::{StoreError, StreamId};
use crate::time::Timestamp;

struct Owner {
    stream: StreamId,
    lookup_before: Timestamp,
}

/// The owners of a share's unknown campaigns, by index; none: they have none.
#[derive(Default)]
pub(super) struct Owners(FastMap<u32, Option<Owner>>);

impl Owners {
    /// Reads them.
    pub fn of(connection: &mut PgConnection, share: &Filled) -> Result<Owners, StoreError> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = Text)]
            campaign_id: String,
            #[diesel(sql_type = Integer)]
            stream_id: i32,
            #[diesel(sql_type = Timestamptz)]
            lookup_before: Timestamp,
        }
        if share.unknown_campaigns.is_empty() {
            return Ok(Owners::default());
        }
        let rows: Vec<Row> = sql_query(
            "SELECT campaign_id, stream_id, lookup_before FROM campaigns WHERE campaign_id = ANY($1)",
        )
        .bind::<Array<Text>, _>(Texts {
            dictionary: &share.campaigns,
            index: &share.unknown_campaigns,
        })
        .load(connection)?;
        let mut by_name: FastMap<&str, &Row> =
            rows.iter().map(|r| (r.campaign_id.as_str(), r)).collect();
        let owners = share
            .unknown_campaigns
            .iter()
            .filter_map(|&index| Some((index, share.campaigns.get(index as usize)?)))
            .map(|(index, name)| {
                let owner = by_name.remove(name.as_ref()).map(|row| Owner {
                    stream: StreamId(row.stream_id),
                    lookup_before: row.lookup_before,
                });
                (index, owner)
            });
        Ok(Owners(owners.collect()))
    }

    /// Whether a row's event may have been counted where its partition's memory of recent ids does not reach.
    pub fn need_look_up(&self, share: &Filled, row: usize) -> bool {
        match self.0.get(&share.events.campaign[row]) {
            None => true,
            // No event of a campaign without an owner was ever stored.
            Some(None) => false,
            Some(Some(owner)) => {
                owner.stream != share.stream || share.events.event_time[row] < owner.lookup_before
            }
        }
    }

    /// Adds what writing the share takes for its partition to own what it counts.
    pub fn add_needs(&self, settled: &mut Settled<'_>) {
        // Nearly every share: all its campaigns are known to be the partition's.
        if self.0.is_empty() {
            return;
        }
        let share = settled.share;
        let mut used: FastSet<u32> = settled.events.campaign.iter().copied().collect();
        used.extend(settled.reported.campaigns());
        let needs = &mut settled.needs;
        for (&campaign, owner) in &self.0 {
            let Some(name) = share.campaigns.get(campaign as usize) else {
                continue;
            };
            match owner {
                Some(owner) if owner.stream == share.stream => {
                    needs.owned.push((name.clone(), owner.lookup_before))
                }
                Some(owner) if used.contains(&campaign) => {
                    needs.takeovers.push((campaign, owner.stream))
                }
                None if used.contains(&campaign) => needs.unowned.push(campaign),
                _ => {}
            }
        }
    }
}

/// Makes the partition the owner of campaigns that have none. `false` if somebody else was quicker
/// for one of them: the transaction must be given up and the share settled again.
pub(super) fn take_ownership(
    connection: &mut PgConnection,
    shares: &[&Settled<'_>],
) -> Result<bool, StoreError> {
    let mut rows: Vec<(&str, i32)> = shares
        .iter()
        .flat_map(|settled| {
            settled
                .unowned()
                .map(|name| (name.as_ref(), settled.share.stream.0))
        })
        .collect();
    if rows.is_empty() {
        return Ok(true);
    }
    // In one order, so that two processors that take the same campaigns cannot deadlock.
    rows.sort_unstable();
    let names: Vec<&str> = rows.iter().map(|r| r.0).collect();
    let streams: Vec<i32> = rows.iter().map(|r| r.1).collect();
    // That somebody else is quicker is rare, so it may cost the transaction. With ON CONFLICT each row would be looked for
    // once more, and logged twice.
    let taken = sql_query(
        "INSERT INTO campaigns (campaign_id, stream_id)
         SELECT c.campaign_id, c.stream_id FROM unnest($1, $2) AS c (campaign_id, stream_id)",
    )
    .bind::<Array<Text>, _>(&names)
    .bind::<Array<Integer>, _>(Integers(&streams))
    .execute(connection);
    match taken {
        Ok(_) => Ok(true),
        Err(DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, info))
            if info.constraint_name() == Some("campaigns_pkey") =>
        {
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// Moves campaigns to the share's partition and makes their former owners' fences fail. The
/// positions of all of them are locked by this transaction.
pub(super) fn take_over(
    connection: &mut PgConnection,
    settled: &Settled<'_>,
) -> Result<(), StoreError> {
    let Settled { share, needs, .. } = settled;
    let names: Vec<&str> = needs
        .takeovers
        .iter()
        .filter_map(|(index, _)| share.campaigns.get(*index as usize).map(AsRef::as_ref))
        .collect();
    let mut former: Vec<i32> = needs.takeovers.iter().map(|(_, stream)| stream.0).collect();
    former.sort_unstable();
    former.dedup();
    // A campaign may have moved before, so what its former owner had to look up is kept. What was dropped is looked up, too, and
    // not found: whether it was counted is not known.
    sql_query(
        "UPDATE campaigns AS c SET stream_id = $1, lookup_before = GREATEST(c.lookup_before, (
             SELECT max(b.max_event_time) + interval '1 microsecond' FROM event_blocks AS b
             WHERE b.stream_id = c.stream_id), (
             SELECT max(p.max_event_time) + interval '1 microsecond' FROM event_periods AS p))
         WHERE c.campaign_id = ANY($2)",
    )
    .bind::<Integer, _>(share.stream.0)
    .bind::<Array<Text>, _>(&names)
    .execute(connection)?;
    // Their sums go on from where they are.
    sql_query(
        "UPDATE stream_positions AS s SET sum_bound = GREATEST(s.sum_bound, f.sum_bound + $1)
         FROM (SELECT max(sum_bound) AS sum_bound FROM stream_positions WHERE stream_id = ANY($2)) AS f
         WHERE s.stream_id = $3",
    )
    .bind::<BigInt, _>(needs.largest_sum.map_or_else(|| settled.counted(), |_| 0))
    .bind::<Array<Integer>, _>(Integers(&former))
    .bind::<Integer, _>(share.stream.0)
    .execute(connection)
    .map_err(StoreError::of_bound)?;
    sql_query("UPDATE stream_positions SET campaigns_moved = campaigns_moved + 1 WHERE stream_id = ANY($1)")
        .bind::<Array<Integer>, _>(Integers(&former))
        .execute(connection)?;
    Ok(())
}

//! What of a share was counted before, and whether its partition may count the rest.
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
//!
//! Look-ups are by time: an event's identity includes its `event_time`, so only blocks whose
//! `lookup_span` holds that time can hold it, or `late_events` names the block.

use std::collections::{BTreeMap, HashMap, HashSet};

use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Bool, Integer, Text, Timestamptz, Uuid as SqlUuid};
use uuid::Uuid;

use super::batch::{Filled, Reading};
use super::positions;
use super::reports::{self, Restated};
use super::settled::{Rejected, Rejection, Settled, both};
use crate::event::{Counts, MAX_SUM, Reason};
use crate::store::blocks::{self, BlockKey, KeyRow};
use crate::store::columns::{Integers, Texts, Timestamps, Uuids};
use crate::store::events::{Fingerprint, Fingerprinter};
use crate::store::read::insights::{self, Summed};
use crate::store::{StoreError, StreamId};
use crate::time::{Length, Timestamp};
use crate::totals::{Totals, WideTotals};

type FastMap<K, V> = HashMap<K, V, foldhash::fast::RandomState>;
type FastSet<T> = HashSet<T, foldhash::fast::RandomState>;

/// Decides every undecided row of the share: duplicates and conflicts are rejected, and what remains is new. What
/// an earlier look has `rejected` stays so, for nothing leaves the event store.
pub(super) fn settle<'a>(
    connection: &mut PgConnection,
    fingerprinter: &Fingerprinter,
    share: &'a Filled,
    mut rejected: Rejected,
) -> Result<Settled<'a>, StoreError> {
    if !share.reports.is_empty() {
        // What is known of days may have changed since.
        rejected.retain(|(row, _)| !share.reports.has(*row));
    }
    let owners = owners(connection, share)?;
    let mut asked = Vec::new();
    let mut decided = rejected.iter().map(|(row, _)| *row).peekable();
    for undecided in &share.undecided {
        if decided.next_if_eq(&undecided.row).is_some()
            || share.events.restated(undecided.row).is_some()
        {
            continue;
        }
        let campaign = share.events.campaign[undecided.row];
        let look_up = undecided.late
            || match owners.get(&campaign) {
                None => true,
                // No event of a campaign without an owner was ever stored.
                Some(None) => false,
                Some(Some(owner)) => {
                    owner.stream != share.stream
                        || share.events.event_time[undecided.row] < owner.lookup_before
                }
            };
        if look_up {
            asked.push(undecided.row);
        }
    }
    let stored = look_up(connection, fingerprinter, share, &asked)?;
    let sums = match share.reading {
        Reading::Usual => None,
        Reading::Careful => {
            let names: Vec<&str> = share.campaigns.iter().map(AsRef::as_ref).collect();
            Some(insights::sum_up(connection, &names, &[None])?)
        }
    };
    // A share whose COMMIT was done but not answered would find its own events stored and take
    // them for duplicates. The position moves with them: where it has not moved after they were
    // looked up, what was found is not the share's own. Where it has, the fence says so again.
    let before = reports::look(connection, share)?;
    let looked = sums.is_some() || !asked.is_empty() || !share.reports.is_empty();
    if looked && positions::is_written(connection, share)? {
        return Ok(Settled::new(share, rejected, Restated::default()));
    }
    let rejected = reject_counted(fingerprinter, share, rejected, &asked, stored);
    let mut settled = match sums {
        None => {
            let restated = reports::restate(share, before, |_, _| true);
            Settled::new(share, rejected, restated)
        }
        Some(sums) => {
            let mut adding = Adding::to(share, &rejected, &sums);
            let restated = reports::restate(share, before, |row, counts| {
                adding.add_restatement(row, counts)
            });
            let (overflowing, largest) = adding.add_the_rest();
            let mut settled = Settled::new(share, both(rejected, overflowing), restated);
            settled.needs.largest_sum = Some(largest);
            settled
        }
    };

    // Nearly every share: all its campaigns are known to be the partition's.
    if owners.is_empty() {
        return Ok(settled);
    }
    let mut used: FastSet<u32> = settled.events.campaign.iter().copied().collect();
    used.extend(settled.reported.campaigns());
    let needs = &mut settled.needs;
    for (&campaign, owner) in &owners {
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
    Ok(settled)
}

struct Owner {
    stream: StreamId,
    lookup_before: Timestamp,
}

/// The owners of the share's unknown campaigns, by index.
fn owners(
    connection: &mut PgConnection,
    share: &Filled,
) -> Result<FastMap<u32, Option<Owner>>, StoreError> {
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
        return Ok(FastMap::default());
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
    Ok(share
        .unknown_campaigns
        .iter()
        .filter_map(|&index| Some((index, share.campaigns.get(index as usize)?)))
        .map(|(index, name)| {
            let owner = by_name.remove(name.as_ref()).map(|row| Owner {
                stream: StreamId(row.stream_id),
                lookup_before: row.lookup_before,
            });
            (index, owner)
        })
        .collect())
}

/// What makes an event the same event: its id and its time.
type Identity = (Uuid, Timestamp);

/// The fingerprints under which the asked rows' identities stand in the event store, if they do.
fn look_up(
    connection: &mut PgConnection,
    fingerprinter: &Fingerprinter,
    share: &Filled,
    asked: &[usize],
) -> Result<FastMap<Identity, Fingerprint>, StoreError> {
    let mut found = FastMap::default();
    let mut wanted = identities(share, asked);
    // A campaign's events are on its own partition, so nearly all that is there is found without reading
    // those of the others, which are of the same times.
    for own in [true, false] {
        if wanted.is_empty() {
            break;
        }
        let (ids, mut times): (Vec<Uuid>, Vec<Timestamp>) = wanted.iter().copied().unzip();
        let keys = candidate_blocks(connection, share.stream, own, &ids, &mut times)?;
        // Most of what is asked for is new, and most of these blocks hold none of it.
        let keys = blocks::holding(connection, &keys, |id, time| wanted.contains(&(id, time)))?;
        blocks::for_each(connection, &keys, |block| {
            let e = &block.events;
            let identities = e.event_id.iter().copied().zip(e.event_time.iter().copied());
            for (row, identity) in identities.enumerate() {
                if wanted.contains(&identity) && e.restated(row).is_none() {
                    found.insert(identity, block.fingerprint(row, fingerprinter));
                }
            }
            Ok(())
        })?;
        wanted.retain(|identity| !found.contains_key(identity));
    }
    Ok(found)
}

fn identities(share: &Filled, rows: &[usize]) -> FastSet<Identity> {
    let e = &share.events;
    rows.iter()
        .map(|&row| (e.event_id[row], e.event_time[row]))
        .collect()
}

/// The blocks, of this partition or of all others, that could hold an event with one of these ids and
/// times. Sorts `times`.
fn candidate_blocks(
    connection: &mut PgConnection,
    stream: StreamId,
    own: bool,
    ids: &[Uuid],
    times: &mut [Timestamp],
) -> Result<Vec<BlockKey>, StoreError> {
    // late_events_pkey, asked with the pairs as they belong together, so before sorting; then the block that covers the
    // offset, by primary key.
    let mut keys: Vec<BlockKey> = sql_query(
        r#"SELECT DISTINCT b.stream_id, b.first_offset, b.event_count::bigint AS event_count
         FROM unnest($1, $2) AS a (event_id, event_time)
         JOIN late_events AS l ON l.event_id = a.event_id AND l.event_time = a.event_time
         CROSS JOIN LATERAL (SELECT stream_id, first_offset, event_count FROM event_blocks
             WHERE stream_id = l.stream_id AND first_offset <= l."offset"
             ORDER BY first_offset DESC LIMIT 1) AS b WHERE (l.stream_id = $3) = $4"#,
    )
    .bind::<Array<SqlUuid>, _>(Uuids(ids))
    .bind::<Array<Timestamptz>, _>(Timestamps(times))
    .bind::<Integer, _>(stream.0)
    .bind::<Bool, _>(own)
    .load::<KeyRow>(connection)?
    .into_iter()
    .map(BlockKey::from)
    .collect();
    times.sort_unstable();
    let (from, to) = spans(times);
    // A range at a time from event_blocks_lookup_span_idx.
    keys.extend(
        sql_query(
            "SELECT DISTINCT b.stream_id, b.first_offset, b.event_count::bigint AS event_count
             FROM unnest($1, $2) AS t (from_time, to_time)
             JOIN event_blocks AS b ON b.lookup_span && tstzrange(t.from_time, t.to_time, '[]')
             WHERE (b.stream_id = $3) = $4",
        )
        .bind::<Array<Timestamptz>, _>(Timestamps(&from))
        .bind::<Array<Timestamptz>, _>(Timestamps(&to))
        .bind::<Integer, _>(stream.0)
        .bind::<Bool, _>(own)
        .load::<KeyRow>(connection)?
        .into_iter()
        .map(BlockKey::from),
    );
    keys.sort_unstable();
    keys.dedup();
    Ok(keys)
}

/// Ranges that cover the sorted times, few enough to ask about one by one: times less than a
/// second apart share a range, and more where there would be too many.
fn spans(times: &[Timestamp]) -> (Vec<Timestamp>, Vec<Timestamp>) {
    const MAX_SPANS: usize = 256;
    let mut gap = Length::SECOND;
    loop {
        let (mut from, mut to) = (Vec::new(), Vec::<Timestamp>::new());
        for &time in times {
            match to.last_mut() {
                Some(last) if time - *last <= gap => *last = time,
                _ => {
                    from.push(time);
                    to.push(time);
                }
            }
        }
        if from.len() <= MAX_SPANS {
            return (from, to);
        }
        gap = gap.times(4);
    }
}

/// Rejects the asked rows that were counted before, be it in the event store or earlier in this share.
///
/// An earlier row need not have been asked: it may have been new to the memory, and left it again
/// before its duplicate came, all within this share. The store knows nothing of it yet.
fn reject_counted(
    fingerprinter: &Fingerprinter,
    share: &Filled,
    rejected: Rejected,
    asked: &[usize],
    mut known: FastMap<Identity, Fingerprint>,
) -> Rejected {
    if asked.is_empty() {
        return rejected;
    }
    let wanted = identities(share, asked);
    let mut next_asked = asked.iter().copied().peekable();
    // Every row, not the asked ones alone: memory may have called the first of two copies new, let
    // it go to make room, and then not have known the second.
    also_reject(share, rejected, |row| {
        let e = &share.events;
        let is_asked = next_asked.next_if_eq(&row).is_some();
        let identity = (e.event_id[row], e.event_time[row]);
        if !wanted.contains(&identity) || e.restated(row).is_some() {
            return None;
        }
        let campaign = &share.campaigns[e.campaign[row] as usize];
        let print = fingerprinter.of(campaign, e.platform[row], e.event_time[row], &e.counts(row));
        match known.get(&identity) {
            None => {
                known.insert(identity, print);
                None
            }
            Some(_) if !is_asked => None,
            Some(first) if *first == print => Some(Rejection::Duplicate),
            Some(_) => Some(Rejection::Dead(Reason::ConflictingDuplicate)),
        }
    })
}

/// Adds up the rows of a share one by one, in their order, and leaves out those with which a sum, given what is stored, would pass
/// its limit. All rows of a share that is read carefully are undecided, so all have their record at hand.
struct Adding<'a> {
    share: &'a Filled,
    /// What was counted before, ascending.
    rejected: &'a Rejected,
    sums: FastMap<(u32, u8), WideTotals>,
    /// The first row that was not looked at.
    next: usize,
    /// The events that do not fit.
    overflowing: Rejected,
}

impl<'a> Adding<'a> {
    fn to(
        share: &'a Filled,
        rejected: &'a Rejected,
        stored: &BTreeMap<String, Summed>,
    ) -> Adding<'a> {
        let index: FastMap<&str, u32> = (0..)
            .zip(&share.campaigns)
            .map(|(i, name)| (name.as_ref(), i))
            .collect();
        let mut sums: FastMap<(u32, u8), WideTotals> = FastMap::default();
        for (campaign, summed) in stored {
            if let Some(campaign) = index.get(campaign.as_str()) {
                let stored = summed.sums.iter();
                sums.extend(stored.map(|((_, platform), sum)| ((*campaign, *platform), *sum)));
            }
        }
        Adding {
            share,
            rejected,
            sums,
            next: 0,
            overflowing: Rejected::new(),
        }
    }

    /// Whether a row fits, and is added.
    fn add(&mut self, row: usize, counts: &Counts) -> bool {
        let events = &self.share.events;
        let sum = self
            .sums
            .entry((events.campaign[row], events.platform[row]))
            .or_default();
        let mut next = *sum;
        next.add(&Totals::of(*counts), 1);
        let fits = next.largest() <= i128::from(MAX_SUM);
        if fits {
            *sum = next;
        }
        fits
    }

    /// Adds the events before a row.
    fn add_events(&mut self, until: usize) {
        for row in self.next..until {
            let is_rejected = self
                .rejected
                .binary_search_by_key(&row, |(row, _)| *row)
                .is_ok();
            if is_rejected || self.share.reports.has(row) {
                continue;
            }
            if !self.add(row, &self.share.events.counts(row)) {
                let rejection = Rejection::Dead(Reason::SumOverflow);
                self.overflowing.push((row, rejection));
            }
        }
        self.next = until;
    }

    /// Adds the events before a report row, and then, if it fits, that by which it changes sums.
    fn add_restatement(&mut self, row: usize, counts: &Counts) -> bool {
        self.add_events(row);
        self.add(row, counts)
    }

    /// The events that do not fit, and the largest of the sums with all that do.
    fn add_the_rest(mut self) -> (Rejected, i64) {
        self.add_events(self.share.events.len());
        let largest = self.sums.values().map(WideTotals::largest).max();
        let largest = i64::try_from(largest.unwrap_or_default()).unwrap_or(i64::MAX);
        (self.overflowing, largest)
    }
}

/// The rejected rows, and of the others those that `judge`, who is asked in their order, rejects too.
fn also_reject(
    share: &Filled,
    rejected: Rejected,
    mut judge: impl FnMut(usize) -> Option<Rejection>,
) -> Rejected {
    let mut before = rejected.into_iter().peekable();
    (0..share.events.len())
        .filter_map(|row| {
            let known = before.next_if(|(rejected, _)| *rejected == row);
            known.or_else(|| Some((row, judge(row)?)))
        })
        .collect()
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
    // A campaign may have moved before, so what its former owner had to look up is kept.
    sql_query(
        "UPDATE campaigns AS c SET stream_id = $1, lookup_before = GREATEST(c.lookup_before, (
             SELECT max(b.max_event_time) + interval '1 microsecond' FROM event_blocks AS b
             WHERE b.stream_id = c.stream_id))
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::event::{AdEvent, CampaignId, Count, Platform};
    use crate::offset::Offset;
    use crate::store::Epoch;
    use crate::store::events::Columns;
    use crate::store::write::batch::{Fence, Filling, RawRecord, Undecided};
    use proptest::prelude::*;

    /// A share of events given as (id, time, clicks, is it late).
    fn share(events: &[(u128, i64, i64, bool)]) -> Filled {
        let fence = Fence {
            epoch: Epoch::new(1),
            next_offset: Offset::default(),
            campaigns_moved: Count::ZERO,
        };
        let mut share = Filling::new(StreamId(1), fence, Reading::Usual, Columns::default());
        share.campaigns.push(Arc::from("c"));
        for (row, &(id, event_time, clicks, late)) in events.iter().enumerate() {
            let event = AdEvent {
                event_id: Uuid::from_u128(id),
                campaign_id: CampaignId::parse("c").expect("valid"),
                platform: Platform::Meta,
                event_time: Timestamp::new(event_time),
                counts: Counts::of([0, clicks, 0, 0, 0]),
            };
            share.events.push(Offset::new(row as i64), &event, 0);
            if late {
                let record = RawRecord {
                    offset: Offset::new(row as i64),
                    ..RawRecord::default()
                };
                share.undecided.push(Undecided { row, late, record });
            }
        }
        Filled::from(share)
    }

    #[test]
    fn what_was_new_and_left_the_memory_within_one_share_is_known() {
        let share = share(&[
            (1, 10, 1, false),
            (2, 20, 1, false),
            (1, 10, 1, true),
            (1, 10, 2, true),
            (3, 10, 1, true),
            (3, 10, 1, true),
        ]);
        let prints = Fingerprinter::default();
        let asked = [2, 3, 4, 5];
        let rejected = reject_counted(&prints, &share, Rejected::new(), &asked, FastMap::default());
        // Another look leaves what was rejected as it is.
        let again = reject_counted(&prints, &share, rejected.clone(), &[4], FastMap::default());
        assert_eq!(again, rejected);
        let settled = Settled::new(&share, rejected, Restated::default());
        assert_eq!(settled.events.offset, [0, 1, 4].map(Offset::new));
        assert_eq!(settled.duplicates, Count::new(2));
        let dead: Vec<Offset> = settled.dead.iter().map(|(_, r)| r.offset).collect();
        assert_eq!(dead, [Offset::new(3)]);
        assert_eq!(settled.late, [2]);
    }

    proptest! {
        #[test]
        fn spans_cover_every_time_and_stay_few(mut times in prop::collection::vec(0i64..4_000_000_000_000_000, 1..2_000)) {
            times.sort_unstable();
            let times: Vec<Timestamp> = times.into_iter().map(Timestamp::new).collect();
            let (from, to) = spans(&times);
            prop_assert!(from.len() <= 256 && from.len() == to.len());
            for time in times {
                prop_assert!(from.iter().zip(&to).any(|(f, t)| *f <= time && time <= *t));
            }
        }
    }
}

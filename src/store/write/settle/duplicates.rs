//! Which events of a share were counted before.
//!
//! Look-ups are by time: an event's identity includes its `event_time`, so only blocks whose
//! `lookup_span` holds that time can hold it, or `late_events` names the block.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, Bool, Integer, Timestamptz, Uuid as SqlUuid};
use uuid::Uuid;

use crate::event::Reason;
use crate::store::blocks::{self, BlockKey, KeyRow};
use crate::store::columns::{Timestamps, Uuids};
use crate::store::events::{Fingerprint, Fingerprinter};
use crate::store::write::batch::Filled;
use crate::store::write::settled::{Rejected, Rejection};
use crate::store::write::{FastMap, FastSet};
use crate::store::{StoreError, StreamId};
use crate::time::{Length, Timestamp};

/// What makes an event the same event: its id and its time.
pub(super) type Identity = (Uuid, Timestamp);

/// The fingerprints under which the asked rows' identities stand in the event store, if they do.
pub(super) fn look_up(
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

/// Rejects the asked rows that were counted before, be it in the event store or earlier in this share; and those of which that
/// cannot be told, since they happened up to the latest of the events that were `dropped`.
///
/// An earlier row need not have been asked: it may have been new to the memory, and left it again
/// before its duplicate came, all within this share. The store knows nothing of it yet.
pub(super) fn reject(
    fingerprinter: &Fingerprinter,
    share: &Filled,
    rejected: Rejected,
    asked: &[usize],
    mut known: FastMap<Identity, Fingerprint>,
    dropped: Option<Timestamp>,
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
            None if is_asked && dropped.is_some_and(|latest| e.event_time[row] <= latest) => {
                Some(Rejection::Dead(Reason::TooOld))
            }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::event::{AdEvent, CampaignId, Count, Counts, Platform};
    use crate::offset::Offset;
    use crate::store::Epoch;
    use crate::store::events::Columns;
    use crate::store::write::batch::{Fence, Filling, RawRecord, Reading, Undecided};
    use crate::store::write::reports::Restated;
    use crate::store::write::settled::Settled;
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
        let none = FastMap::default;
        let rejected = reject(&prints, &share, Rejected::new(), &asked, none(), None);
        // Another look leaves what was rejected as it is.
        let again = reject(&prints, &share, rejected.clone(), &[4], none(), None);
        assert_eq!(again, rejected);
        let settled = Settled::new(&share, rejected, Restated::default());
        assert_eq!(settled.events.offset, [0, 1, 4].map(Offset::new));
        assert_eq!(settled.duplicates, Count::new(2));
        let dead: Vec<Offset> = settled.dead.iter().map(|(_, r)| r.offset).collect();
        assert_eq!(dead, [Offset::new(3)]);
        assert_eq!(settled.late, [2]);
    }

    #[test]
    fn what_may_have_been_dropped_is_too_old_unless_it_is_known() {
        let share = share(&[
            (1, 10, 1, true),
            (2, 20, 1, true),
            (3, 21, 1, true),
            (4, 15, 1, false),
            (4, 15, 1, true),
            (1, 10, 1, true),
        ]);
        let (prints, asked) = (Fingerprinter::default(), [0, 1, 2, 4, 5]);
        let e = &share.events;
        let print = prints.of("c", e.platform[1], e.event_time[1], &e.counts(1));
        let stored = [((e.event_id[1], e.event_time[1]), print)];
        let stored = stored.into_iter().collect();
        let latest = Some(Timestamp::new(20));
        let rejected = reject(&prints, &share, Rejected::new(), &asked, stored, latest);
        let too_old = Rejection::Dead(Reason::TooOld);
        assert_eq!(
            rejected,
            [
                (0, too_old),
                (1, Rejection::Duplicate),
                // Memory knew the first of the two to be new.
                (4, Rejection::Duplicate),
                (5, too_old)
            ]
        );
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

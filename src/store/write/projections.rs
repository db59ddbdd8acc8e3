//! Sums by minute, hour and day and in all: what insights are read from.
//!
//! A batch is added up in memory first, by key, and written with one upsert per table, in the
//! order of the primary key: an upsert costs PostgreSQL the same whatever it adds, and two
//! transactions that lock rows in one order do not deadlock.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, SmallInt, Text, Timestamptz};

use super::positions::Commit;
use crate::event::{Count, Money};
use crate::store::StoreError;
use crate::store::columns::{Bigints, Smallints, Texts, Timestamps};
use crate::store::events::Columns;
use crate::store::prepared::prepared;
use crate::store::sums::{Grain, TOTAL_TABLE};
use crate::time::{Length, Timestamp};
use crate::totals::{Overflow, Totals};

/// A campaign (by index) in an interval on a platform.
type Key = (u32, Timestamp, u8);

/// Events added up by campaign, minute and platform.
#[derive(Debug, Default)]
pub struct Fold {
    minutes: Sums,
}

type Sums = HashMap<Key, Sum, foldhash::fast::RandomState>;

/// Events of one key.
#[derive(Clone, Copy, Debug)]
struct Sum {
    totals: Totals,
    /// When the earliest and the latest of them happened.
    times: (Timestamp, Timestamp),
}

impl Sum {
    fn plus(self, other: Sum) -> Result<Sum, Overflow> {
        let ((first, last), (from, until)) = (self.times, other.times);
        Ok(Sum {
            totals: self.totals.checked_add(other.totals)?,
            times: (first.min(from), last.max(until)),
        })
    }
}

/// Adds to what is there.
fn add(sums: &mut Sums, key: Key, sum: Sum) -> Result<(), Overflow> {
    match sums.entry(key) {
        Entry::Occupied(mut known) => {
            let known = known.get_mut();
            *known = known.plus(sum)?;
        }
        Entry::Vacant(new) => {
            new.insert(sum);
        }
    }
    Ok(())
}

impl Fold {
    /// Adds all rows; `campaign_of` translates their campaign index to the fold's.
    ///
    /// # Errors
    /// [`Overflow`] if a sum does not fit.
    pub fn add(
        &mut self,
        events: &Columns,
        campaign_of: impl Fn(u32) -> u32,
    ) -> Result<(), Overflow> {
        for row in 0..events.len() {
            let time = events.event_time[row];
            let minute = time.floor(Length::MINUTE);
            let key = (
                campaign_of(events.campaign[row]),
                minute,
                events.platform[row],
            );
            let sum = Sum {
                totals: Totals::of(events.counts(row)),
                times: (time, time),
            };
            add(&mut self.minutes, key, sum)?;
        }
        Ok(())
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.minutes.is_empty()
    }

    /// The sum of everything.
    ///
    /// # Errors
    /// [`Overflow`] if it does not fit.
    pub fn total(&self) -> Result<Totals, Overflow> {
        self.minutes
            .values()
            .try_fold(Totals::default(), |sum, one| sum.checked_add(one.totals))
    }

    /// How many rows of the minute table it touches.
    pub fn len(&self) -> usize {
        self.minutes.len()
    }

    /// The rows of the minute table, in the order of its primary key; `rank` gives a campaign's place in
    /// that order.
    fn rows(&self, rank: &[u32]) -> Vec<(Key, Sum)> {
        let mut rows: Vec<(Key, Sum)> = self.minutes.iter().map(|(k, s)| (*k, *s)).collect();
        rows.sort_unstable_by_key(|&((campaign, minute, platform), _)| {
            let place = rank.get(campaign as usize).copied();
            (place.unwrap_or(u32::MAX), minute, platform)
        });
        rows
    }
}

/// The rows of longer intervals, of which `start` gives the start, in the same order as the shorter ones.
fn longer(
    shorter: &[(Key, Sum)],
    start: impl Fn(Timestamp) -> Timestamp,
) -> Result<Vec<(Key, Sum)>, Overflow> {
    let mut rows: Vec<(Key, Sum)> = Vec::new();
    // Where the rows of the interval begin: one for each platform, in their order.
    let mut first = 0;
    for &((campaign, time, platform), sum) in shorter {
        let interval = (campaign, start(time));
        if rows
            .last()
            .is_some_and(|((c, s, _), _)| (*c, *s) != interval)
        {
            first = rows.len();
        }
        match rows[first..].binary_search_by_key(&platform, |((_, _, p), _)| *p) {
            Ok(at) => {
                let known = &mut rows[first + at].1;
                *known = known.plus(sum)?;
            }
            Err(at) => rows.insert(first + at, ((interval.0, interval.1, platform), sum)),
        }
    }
    Ok(rows)
}

/// The place of each campaign in byte order, which is the order of the primary keys.
fn ranks<S: AsRef<str>>(campaigns: &[S]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..campaigns.len() as u32).collect();
    order.sort_unstable_by_key(|&i| campaigns.get(i as usize).map(AsRef::as_ref));
    let mut rank = vec![0; campaigns.len()];
    for (place, &campaign) in order.iter().enumerate() {
        if let Some(rank) = rank.get_mut(campaign as usize) {
            *rank = place as u32;
        }
    }
    rank
}

/// The columns every projection shares.
struct SumColumns {
    campaign: Vec<u32>,
    start: Vec<Timestamp>,
    platform: Vec<u8>,
    events: Vec<Count>,
    impressions: Vec<Count>,
    clicks: Vec<Count>,
    conversions: Vec<Count>,
    cost_micros: Vec<Money>,
    revenue_micros: Vec<Money>,
}

impl SumColumns {
    fn of(rows: &[(Key, Sum)]) -> SumColumns {
        fn column<T>(rows: &[(Key, Sum)], of: fn(&Totals) -> T) -> Vec<T> {
            rows.iter().map(|(_, sum)| of(&sum.totals)).collect()
        }
        SumColumns {
            campaign: rows.iter().map(|((campaign, _, _), _)| *campaign).collect(),
            start: rows.iter().map(|((_, start, _), _)| *start).collect(),
            platform: rows.iter().map(|((_, _, platform), _)| *platform).collect(),
            events: column(rows, |t| t.events),
            impressions: column(rows, |t| t.counts.impressions),
            clicks: column(rows, |t| t.counts.clicks),
            conversions: column(rows, |t| t.counts.conversions),
            cost_micros: column(rows, |t| t.counts.cost_micros),
            revenue_micros: column(rows, |t| t.counts.revenue_micros),
        }
    }
}

/// Adds a fold to the projections. `suffix` is empty for the live tables; a rebuild writes to
/// tables of its own.
///
/// # Errors
/// [`StoreError::SumOverflow`] when a sum would pass its limit; else as the database does.
pub fn upsert<S: AsRef<str> + std::fmt::Debug>(
    connection: &mut PgConnection,
    suffix: &str,
    fold: &Fold,
    campaigns: &[S],
    commit: Commit,
) -> Result<(), StoreError> {
    if fold.is_empty() {
        return Ok(());
    }
    let rank = ranks(campaigns);
    let overflow = |_| StoreError::SumOverflow;
    let minutes = fold.rows(&rank);
    let totals = longer(&minutes, |_| Timestamp::EPOCH).map_err(overflow)?;
    // What is added is within the limit, and so is what is stored. Their sum fits a bigint, and
    // the constraint judges it; otherwise the database would fail before it came to that.
    if totals.iter().any(|(_, sum)| !sum.totals.within_limit()) {
        return Err(StoreError::SumOverflow);
    }
    for grain in Grain::ALL {
        let rows = match grain {
            Grain::Minute => SumColumns::of(&minutes),
            Grain::Hour | Grain::Day => {
                let start = |minute: Timestamp| minute.floor(grain.length());
                SumColumns::of(&longer(&minutes, start).map_err(overflow)?)
            }
        };
        upsert_grain(
            connection,
            &format!("{}{suffix}", grain.table()),
            grain.column(),
            campaigns,
            &rows,
        )?;
    }
    upsert_total(
        connection,
        &format!("{TOTAL_TABLE}{suffix}"),
        &totals,
        campaigns,
        commit,
    )
}

fn upsert_grain<S: AsRef<str> + std::fmt::Debug>(
    connection: &mut PgConnection,
    table: &str,
    start: &str,
    campaigns: &[S],
    rows: &SumColumns,
) -> Result<(), StoreError> {
    // The arrays stand in the list of what is selected, where they are taken apart as they are read; in FROM, each would
    // first be written into a table of its own, a fifth of what an upsert costs.
    let text = format!(
        "INSERT INTO {table} AS m (campaign_id, {start}, platform, events, impressions, clicks, conversions,
             cost_micros, revenue_micros)
         SELECT unnest($1), unnest($2), unnest($3), unnest($4), unnest($5), unnest($6), unnest($7), unnest($8), unnest($9)
         ON CONFLICT (campaign_id, {start}, platform) DO UPDATE SET events = m.events + EXCLUDED.events,
             impressions = m.impressions + EXCLUDED.impressions, clicks = m.clicks + EXCLUDED.clicks,
             conversions = m.conversions + EXCLUDED.conversions, cost_micros = m.cost_micros + EXCLUDED.cost_micros,
             revenue_micros = m.revenue_micros + EXCLUDED.revenue_micros"
    );
    prepared(&text)
        .bind::<Array<Text>, _>(Texts {
            dictionary: campaigns,
            index: &rows.campaign,
        })
        .bind::<Array<Timestamptz>, _>(Timestamps(&rows.start))
        .bind::<Array<SmallInt>, _>(Smallints(&rows.platform))
        .bind::<Array<BigInt>, _>(Bigints(&rows.events))
        .bind::<Array<BigInt>, _>(Bigints(&rows.impressions))
        .bind::<Array<BigInt>, _>(Bigints(&rows.clicks))
        .bind::<Array<BigInt>, _>(Bigints(&rows.conversions))
        .bind::<Array<BigInt>, _>(Bigints(&rows.cost_micros))
        .bind::<Array<BigInt>, _>(Bigints(&rows.revenue_micros))
        .execute(connection)
        .map_err(StoreError::of_upsert)?;
    Ok(())
}

fn upsert_total<S: AsRef<str> + std::fmt::Debug>(
    connection: &mut PgConnection,
    table: &str,
    rows: &[(Key, Sum)],
    campaigns: &[S],
    commit: Commit,
) -> Result<(), StoreError> {
    let earliest: Vec<Timestamp> = rows.iter().map(|(_, sum)| sum.times.0).collect();
    let latest: Vec<Timestamp> = rows.iter().map(|(_, sum)| sum.times.1).collect();
    let rows = SumColumns::of(rows);
    let text = format!(
        "INSERT INTO {table} AS m (campaign_id, platform, events, impressions, clicks, conversions, cost_micros,
             revenue_micros, min_event_time, max_event_time, commit_id, committed_at)
         SELECT unnest($1), unnest($2), unnest($3), unnest($4), unnest($5), unnest($6), unnest($7), unnest($8),
             unnest($9), unnest($10), $11, $12
         ON CONFLICT (campaign_id, platform) DO UPDATE SET events = m.events + EXCLUDED.events,
             impressions = m.impressions + EXCLUDED.impressions, clicks = m.clicks + EXCLUDED.clicks,
             conversions = m.conversions + EXCLUDED.conversions, cost_micros = m.cost_micros + EXCLUDED.cost_micros,
             revenue_micros = m.revenue_micros + EXCLUDED.revenue_micros,
             min_event_time = LEAST(m.min_event_time, EXCLUDED.min_event_time),
             max_event_time = GREATEST(m.max_event_time, EXCLUDED.max_event_time),
             commit_id = EXCLUDED.commit_id, committed_at = EXCLUDED.committed_at"
    );
    prepared(&text)
        .bind::<Array<Text>, _>(Texts {
            dictionary: campaigns,
            index: &rows.campaign,
        })
        .bind::<Array<SmallInt>, _>(Smallints(&rows.platform))
        .bind::<Array<BigInt>, _>(Bigints(&rows.events))
        .bind::<Array<BigInt>, _>(Bigints(&rows.impressions))
        .bind::<Array<BigInt>, _>(Bigints(&rows.clicks))
        .bind::<Array<BigInt>, _>(Bigints(&rows.conversions))
        .bind::<Array<BigInt>, _>(Bigints(&rows.cost_micros))
        .bind::<Array<BigInt>, _>(Bigints(&rows.revenue_micros))
        .bind::<Array<Timestamptz>, _>(Timestamps(&earliest))
        .bind::<Array<Timestamptz>, _>(Timestamps(&latest))
        .bind::<BigInt, _>(commit.id)
        .bind::<Timestamptz, _>(commit.at)
        .execute(connection)
        .map_err(StoreError::of_upsert)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum(events: i64, time: Timestamp) -> Sum {
        Sum {
            totals: Totals {
                events: Count::new(events),
                ..Totals::default()
            },
            times: (time, time),
        }
    }

    proptest! {
        /// Of each interval and platform one row, in the order of the key, with all that is in it.
        #[test]
        fn longer_intervals_have_what_is_in_the_shorter(
            added in prop::collection::vec((0u32..4, -200i64..200, 0u8..4, 1i64..9), 0..80),
        ) {
            let names = ["b", "a", "d", "c"];
            let (mut fold, mut hours) = (Fold::default(), std::collections::BTreeMap::new());
            for (campaign, minute, platform, events) in added {
                let time = Timestamp::EPOCH + Length::MINUTE.times(minute);
                add(&mut fold.minutes, (campaign, time, platform), sum(events, time)).expect("small");
                let hour = Timestamp::EPOCH + Length::HOUR.times(minute.div_euclid(60));
                let known = hours.entry((names[campaign as usize], hour, platform)).or_insert((0, time, time));
                *known = (known.0 + events, known.1.min(time), known.2.max(time));
            }
            let minutes = fold.rows(&ranks(&names));
            prop_assert_eq!(minutes.len(), fold.len());
            let rows = longer(&minutes, |minute| minute.floor(Length::HOUR)).expect("small");
            let found: Vec<_> = rows
                .iter()
                .map(|((c, h, p), s)| ((names[*c as usize], *h, *p), (s.totals.events.get(), s.times.0, s.times.1)))
                .collect();
            prop_assert_eq!(found, hours.into_iter().collect::<Vec<_>>());
        }
    }
}

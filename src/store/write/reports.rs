//! Report rows: what of a share changes what is known, and by how much.
//!
//! A row says what a campaign's day is. What is known of it stands in `report_rows`, and what was known before in
//! `report_history`; the difference to the newest is the event that is counted. Reading them is safe for the reason that look-ups
//! are: only who owns the campaign writes them, and the fence holds only while that is so.

use std::collections::HashMap;

use chrono::NaiveDate;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{
    Array, BigInt, Binary, Date, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid,
};
use uuid::Uuid;

use super::batch::{Filled, Meaning, Reported};
use super::positions::Commit;
use super::settled::{Rejected, Rejection, Settled};
use crate::event::{Counts, Reason};
use crate::report_row::revisions::{MOST_CONFIRMED, Revision, Revisions, Said};
use crate::report_row::{Values, event_time};
use crate::store::StoreError;
use crate::store::columns::{Bigints, Instants, Integers, Shorts, Texts, Timestamps, Uuids};
use crate::store::revisions::{COLUMNS, RevisionRow};
use crate::time::Timestamp;

type FastMap<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// What the report rows of a share come to.
#[derive(Debug, Default)]
pub(super) struct Restated {
    /// The rows that change sums, and by how much.
    pub counts: Vec<(usize, Counts)>,
    /// The others, ascending.
    pub rejected: Rejected,
    pub writes: Writes,
}

/// What becomes of `report_rows` and `report_history`.
#[derive(Debug, Default)]
pub(super) struct Writes {
    /// Keys whose newest revision is another one, or there for the first time.
    newest: Vec<(Key, Uuid, Revision)>,
    /// Keys whose newest revision was confirmed once more.
    confirmed: Vec<(Key, Timestamp)>,
    /// Revisions that are history now, and those that are not what they were.
    older: Vec<(Key, Uuid, Revision)>,
    gone: Vec<(Key, Timestamp)>,
    /// When each campaign's platform was last asked, and what its numbers mean.
    described: Vec<(u32, Timestamp, i32)>,
}

/// A campaign (by index), day and slice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    campaign: u32,
    day: NaiveDate,
    slice: Box<str>,
}

impl Writes {
    /// The campaigns of which something is written.
    pub fn campaigns(&self) -> impl Iterator<Item = u32> {
        let keys = self.newest.iter().chain(&self.older).map(|(key, ..)| key);
        let changed = self.confirmed.iter().chain(&self.gone).map(|(key, _)| key);
        keys.chain(changed).map(|key| key.campaign)
    }
}

/// What is known of a key.
struct Known {
    event_id: Uuid,
    /// As it is stored; of older revisions only those that were needed.
    stored: Revisions,
    now: Revisions,
}

/// What is known of a campaign's day.
#[derive(Default)]
struct Day {
    keys: FastMap<Box<str>, Known>,
    /// The definitions of its rows that say something, and how many have each. More than one only until a day has moved over.
    definitions: Vec<(i32, usize)>,
}

impl Day {
    fn count(&mut self, definition: i32) {
        match self
            .definitions
            .iter_mut()
            .find(|(known, _)| *known == definition)
        {
            Some((_, rows)) => *rows += 1,
            None => self.definitions.push((definition, 1)),
        }
    }

    fn discount(&mut self, definition: i32) {
        if let Some((_, rows)) = self
            .definitions
            .iter_mut()
            .find(|(known, _)| *known == definition)
        {
            *rows = rows.saturating_sub(1);
        }
        self.definitions.retain(|(_, rows)| *rows > 0);
    }

    /// Whether a row of this definition can be of this day. What says nothing, and so adds nothing, always can.
    fn takes(&self, slice: &str, definition: i32, event_id: Uuid, values: &Values) -> bool {
        let known = self.keys.get(slice);
        if known.is_some_and(|known| known.event_id != event_id) {
            return false;
        }
        !values.say_something()
            || self
                .definitions
                .iter()
                .all(|(known, _)| *known == definition)
    }
}

/// What there is to know before a share's report rows are taken in.
pub(super) struct Before {
    definitions: Vec<i32>,
    files: Vec<i32>,
    days: FastMap<(u32, NaiveDate), Day>,
}

/// Reads it. Definitions and files that are new get their short names.
pub(super) fn look(connection: &mut PgConnection, share: &Filled) -> Result<Before, StoreError> {
    let reports = &share.reports;
    if reports.is_empty() {
        return Ok(Before {
            definitions: Vec::new(),
            files: Vec::new(),
            days: FastMap::default(),
        });
    }
    Ok(Before {
        definitions: definition_ids(connection, &reports.definitions)?,
        files: file_ids(connection, &reports.files)?,
        days: known(connection, share)?,
    })
}

/// Takes in what the share's report rows say, in their order, and finds out what that changes. `fits`: whether sums can change by
/// so much with a row; where they cannot it says nothing, and those after it are compared with what was known before it.
pub(super) fn restate(
    share: &Filled,
    before: Before,
    mut fits: impl FnMut(usize, &Counts) -> bool,
) -> Restated {
    let Before {
        definitions,
        files,
        mut days,
    } = before;
    let reports = &share.reports;
    let mut restated = Restated::default();
    let mut described: FastMap<u32, (Timestamp, i32)> = FastMap::default();
    for report in &reports.rows {
        let campaign = share.events.campaign[report.row];
        let (Some(&definition), Some(meaning)) = (
            definitions.get(report.definition),
            reports.definitions.get(report.definition),
        ) else {
            continue;
        };
        let day = days.entry((campaign, report.day)).or_default();
        let event_id = share.events.event_id[report.row];
        if !day.takes(&report.slice, definition, event_id, &report.values) {
            let rejection = Rejection::Dead(Reason::MixedReport);
            restated.rejected.push((report.row, rejection));
            continue;
        }
        let new = Revision {
            observed_at: report.observed_at,
            confirmed_at: Vec::new(),
            values: report.values,
            definition,
            event_time: share.events.event_time[report.row],
            origin: (
                report.file.and_then(|file| files.get(file).copied()),
                report.line,
            ),
            counted_at: None,
        };
        let known = day.keys.get(&report.slice);
        let newest = known.and_then(|known| known.now.newest());
        let is_newest = newest.is_none_or(|newest| newest.is_followed_by(&new));
        let before = newest.map(|newest| (newest.definition, newest.values));
        let values = before.map_or_else(Values::default, |(_, values)| values);
        let difference = report.values.beyond(&values);
        if is_newest && !fits(report.row, &difference) {
            let rejection = Rejection::Dead(Reason::SumOverflow);
            restated.rejected.push((report.row, rejection));
            continue;
        }
        let known = day
            .keys
            .entry(report.slice.clone())
            .or_insert_with(|| Known {
                event_id,
                stored: Revisions::default(),
                now: Revisions::default(),
            });
        let time = |at| event_time(report.day, meaning.time_zone, at);
        let said = known.now.say(new, time);
        match said {
            Said::Newest => {
                restated.counts.push((report.row, difference));
                if let Some((definition, values)) = before
                    && values.say_something()
                {
                    day.discount(definition);
                }
                if report.values.say_something() {
                    day.count(definition);
                }
            }
            Said::Before => restated.rejected.push((report.row, Rejection::Duplicate)),
            Said::Again => restated.rejected.push((report.row, Rejection::Unchanged)),
            Said::Older => restated.rejected.push((report.row, Rejection::Superseded)),
            Said::Otherwise => {
                let rejection = Rejection::Dead(Reason::ConflictingReport);
                restated.rejected.push((report.row, rejection));
            }
        }
        if matches!(said, Said::Newest | Said::Again) {
            let newest = described
                .entry(campaign)
                .or_insert((report.observed_at, definition));
            if report.observed_at > newest.0 {
                *newest = (report.observed_at, definition);
            }
        }
    }
    restated.writes = writes(days);
    restated.writes.described = described
        .into_iter()
        .map(|(campaign, (at, definition))| (campaign, at, definition))
        .collect();
    restated
}

/// What is to be written so that what is stored is what is known now.
fn writes(days: FastMap<(u32, NaiveDate), Day>) -> Writes {
    let mut writes = Writes::default();
    for ((campaign, date), day) in days {
        for (slice, known) in day.keys {
            if known.now == known.stored {
                continue;
            }
            let key = Key {
                campaign,
                day: date,
                slice,
            };
            let (Some(newest), older) = (known.now.0.last(), known.now.0.len().saturating_sub(1))
            else {
                continue;
            };
            let older = known.now.0.get(..older).unwrap_or_default();
            let stored = known.stored.0.split_last();
            let (was_newest, were_older) =
                stored.map_or((None, &[][..]), |(newest, older)| (Some(newest), older));
            for revision in were_older
                .iter()
                .filter(|revision| !older.contains(revision))
            {
                writes.gone.push((key.clone(), revision.observed_at));
            }
            for revision in older
                .iter()
                .filter(|revision| !were_older.contains(revision))
            {
                let row = (key.clone(), known.event_id, revision.clone());
                writes.older.push(row);
            }
            if was_newest == Some(newest) {
                continue;
            }
            match was_newest.and_then(|was| confirmed_once(was, newest)) {
                Some(at) => writes.confirmed.push((key, at)),
                None => {
                    let row = (key, known.event_id, newest.clone());
                    writes.newest.push(row);
                }
            }
        }
    }
    // In the order of the tables.
    writes.newest.sort_unstable_by(|(a, ..), (b, ..)| a.cmp(b));
    writes.older.sort_unstable_by(|(a, ..), (b, ..)| a.cmp(b));
    writes.confirmed.sort_unstable();
    writes
}

/// When a revision was confirmed, if that is all that it has more than it had.
fn confirmed_once(was: &Revision, is: &Revision) -> Option<Timestamp> {
    let (last, before) = is.confirmed_at.split_last()?;
    let confirmed = Revision {
        confirmed_at: before.to_vec(),
        ..is.clone()
    };
    (confirmed == *was && is.confirmed_at.len() < MOST_CONFIRMED).then_some(*last)
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    nth: i64,
    #[diesel(sql_type = Text)]
    slice: String,
    #[diesel(sql_type = SqlUuid)]
    event_id: Uuid,
    #[diesel(embed)]
    revision: RevisionRow,
}

/// What is known of the days that the share reports.
fn known(
    connection: &mut PgConnection,
    share: &Filled,
) -> Result<FastMap<(u32, NaiveDate), Day>, StoreError> {
    let campaign_of = |report: &Reported| share.events.campaign[report.row];
    let rows = &share.reports.rows;
    let mut asked: Vec<(u32, NaiveDate)> = rows.iter().map(|r| (campaign_of(r), r.day)).collect();
    asked.sort_unstable();
    asked.dedup();
    let campaigns: Vec<u32> = asked.iter().map(|(campaign, _)| *campaign).collect();
    let dates: Vec<NaiveDate> = asked.iter().map(|(_, day)| *day).collect();
    // Whole days, by primary key: the other rows of a day say which definition it has.
    let stored: Vec<Row> = sql_query(format!(
        "SELECT d.nth, r.slice, r.event_id, {COLUMNS} FROM unnest($1, $2) WITH ORDINALITY AS d (campaign_id, day, nth)
         CROSS JOIN LATERAL (SELECT * FROM report_rows AS r WHERE r.campaign_id = d.campaign_id AND r.day = d.day OFFSET 0) AS r"
    ))
    .bind::<Array<Text>, _>(Texts { dictionary: &share.campaigns, index: &campaigns })
    .bind::<Array<Date>, _>(&dates)
    .load(connection)?;
    let mut days: FastMap<(u32, NaiveDate), Day> = FastMap::default();
    for row in stored {
        let Some(place) = usize::try_from(row.nth - 1)
            .ok()
            .and_then(|nth| asked.get(nth))
        else {
            continue;
        };
        let day = days.entry(*place).or_default();
        let (event_id, slice) = (row.event_id, Box::from(row.slice.as_str()));
        let revision = Revision::from(row.revision);
        if revision.values.say_something() {
            day.count(revision.definition);
        }
        let stored = Revisions(vec![revision]);
        let now = stored.clone();
        day.keys.insert(
            slice,
            Known {
                event_id,
                stored,
                now,
            },
        );
    }
    read_older(connection, share, &mut days)?;
    Ok(days)
}

/// Reads the older revisions of the keys of which something older than the newest has come.
fn read_older(
    connection: &mut PgConnection,
    share: &Filled,
    days: &mut FastMap<(u32, NaiveDate), Day>,
) -> Result<(), StoreError> {
    let mut asked: Vec<(u32, NaiveDate, &str)> = Vec::new();
    for report in &share.reports.rows {
        let campaign = share.events.campaign[report.row];
        let known = days
            .get(&(campaign, report.day))
            .and_then(|day| day.keys.get(&report.slice));
        if known.is_some_and(|known| known.stored.need_older(report.observed_at)) {
            asked.push((campaign, report.day, &report.slice));
        }
    }
    if asked.is_empty() {
        return Ok(());
    }
    asked.sort_unstable();
    asked.dedup();
    let campaigns: Vec<u32> = asked.iter().map(|(campaign, ..)| *campaign).collect();
    let dates: Vec<NaiveDate> = asked.iter().map(|(_, day, _)| *day).collect();
    let slices: Vec<&str> = asked.iter().map(|(_, _, slice)| *slice).collect();
    let stored: Vec<Row> = sql_query(format!(
        "SELECT d.nth, r.slice, r.event_id, {COLUMNS} FROM unnest($1, $2, $3) WITH ORDINALITY AS d (campaign_id, day, slice, nth)
         CROSS JOIN LATERAL (SELECT * FROM report_history AS r
             WHERE r.campaign_id = d.campaign_id AND r.day = d.day AND r.slice = d.slice OFFSET 0) AS r"
    ))
    .bind::<Array<Text>, _>(Texts { dictionary: &share.campaigns, index: &campaigns })
    .bind::<Array<Date>, _>(&dates)
    .bind::<Array<Text>, _>(&slices)
    .load(connection)?;
    for row in stored {
        let place = usize::try_from(row.nth - 1)
            .ok()
            .and_then(|nth| asked.get(nth));
        let known = place.and_then(|(campaign, day, slice)| {
            let day = days.get_mut(&(*campaign, *day))?;
            day.keys.get_mut(*slice)
        });
        if let Some(known) = known {
            known.stored.0.push(row.revision.into());
        }
    }
    for (campaign, day, slice) in asked {
        let day = days.get_mut(&(campaign, day));
        if let Some(known) = day.and_then(|day| day.keys.get_mut(slice)) {
            known.stored.0.sort_by_key(|revision| revision.observed_at);
            known.now = known.stored.clone();
        }
    }
    Ok(())
}

#[derive(QueryableByName)]
struct Numbered {
    #[diesel(sql_type = BigInt)]
    nth: i64,
    #[diesel(sql_type = Integer)]
    id: i32,
}

/// The numbers in their order; none if some are missing.
fn in_order(numbered: Vec<Numbered>, len: usize) -> Option<Vec<i32>> {
    let mut ids: Vec<(i64, i32)> = numbered.into_iter().map(|row| (row.nth, row.id)).collect();
    ids.sort_unstable();
    (ids.len() == len).then(|| ids.into_iter().map(|(_, id)| id).collect())
}

/// The short names of definitions, which they get if they have none.
fn definition_ids(
    connection: &mut PgConnection,
    definitions: &[Meaning],
) -> Result<Vec<i32>, StoreError> {
    let platforms: Vec<i16> = definitions
        .iter()
        .map(|d| d.platform.index().into())
        .collect();
    let texts: [Vec<&str>; 6] = [
        definitions.iter().map(|d| d.account.as_str()).collect(),
        definitions.iter().map(|d| d.time_zone.name()).collect(),
        definitions.iter().map(|d| d.currency.code()).collect(),
        definitions.iter().map(|d| d.conversions.as_str()).collect(),
        definitions.iter().map(|d| d.revenue.as_str()).collect(),
        definitions.iter().map(|d| d.grain.as_str()).collect(),
    ];
    let [accounts, zones, currencies, conversions, revenues, grains] = &texts;
    let mut ids = |sql: &str| -> Result<Vec<Numbered>, StoreError> {
        Ok(sql_query(sql)
            .bind::<Array<SmallInt>, _>(Shorts(&platforms))
            .bind::<Array<Text>, _>(accounts)
            .bind::<Array<Text>, _>(zones)
            .bind::<Array<Text>, _>(currencies)
            .bind::<Array<Text>, _>(conversions)
            .bind::<Array<Text>, _>(revenues)
            .bind::<Array<Text>, _>(grains)
            .load(connection)?)
    };
    const KNOWN: &str = "SELECT d.nth, k.definition_id AS id
         FROM unnest($1, $2, $3, $4, $5, $6, $7) WITH ORDINALITY
             AS d (platform, account, time_zone, currency, conversions, revenue, grain, nth)
         JOIN report_definitions AS k USING (platform, account, time_zone, currency, conversions, revenue, grain)";
    if let Some(ids) = in_order(ids(KNOWN)?, definitions.len()) {
        return Ok(ids);
    }
    // Not of the batch: a name that nobody uses hurts nobody.
    ids(
        "WITH new AS (
             INSERT INTO report_definitions (platform, account, time_zone, currency, conversions, revenue, grain)
             SELECT DISTINCT * FROM unnest($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING RETURNING definition_id)
         SELECT 0::bigint AS nth, definition_id AS id FROM new",
    )?;
    in_order(ids(KNOWN)?, definitions.len()).ok_or(StoreError::Busy(
        "a definition of reports was made at the same moment",
    ))
}

/// The short names of files, which they get if they have none.
fn file_ids(connection: &mut PgConnection, files: &[[u8; 32]]) -> Result<Vec<i32>, StoreError> {
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let hashes: Vec<&[u8]> = files.iter().map(<[u8; 32]>::as_slice).collect();
    let mut ids = |sql: &str| -> Result<Vec<Numbered>, StoreError> {
        Ok(sql_query(sql)
            .bind::<Array<Binary>, _>(&hashes)
            .load(connection)?)
    };
    const KNOWN: &str =
        "SELECT f.nth, k.file_id AS id FROM unnest($1) WITH ORDINALITY AS f (sha256, nth)
         JOIN report_files AS k USING (sha256)";
    if let Some(ids) = in_order(ids(KNOWN)?, files.len()) {
        return Ok(ids);
    }
    ids(
        "WITH new AS (INSERT INTO report_files (sha256) SELECT DISTINCT * FROM unnest($1) ON CONFLICT DO NOTHING RETURNING file_id)
         SELECT 0::bigint AS nth, file_id AS id FROM new",
    )?;
    in_order(ids(KNOWN)?, files.len()).ok_or(StoreError::Busy(
        "a file of reports was named at the same moment",
    ))
}

/// Writes what a share's report rows change.
pub(super) fn write(
    connection: &mut PgConnection,
    settled: &Settled<'_>,
    commit: Commit,
) -> Result<(), StoreError> {
    let Settled {
        share, reported, ..
    } = settled;
    if share.reports.is_empty() {
        return Ok(());
    }
    let Writes {
        newest,
        confirmed,
        older,
        gone,
        described,
    } = reported;
    forget(connection, share, gone)?;
    enter(connection, share, older, commit, "report_history", "")?;
    enter(
        connection,
        share,
        newest,
        commit,
        "report_rows",
        "ON CONFLICT (campaign_id, day, slice) DO UPDATE SET definition_id = EXCLUDED.definition_id,
             observed_at = EXCLUDED.observed_at, confirmed_at = EXCLUDED.confirmed_at, event_time = EXCLUDED.event_time,
             impressions = EXCLUDED.impressions, clicks = EXCLUDED.clicks, conversion_micros = EXCLUDED.conversion_micros,
             cost_micros = EXCLUDED.cost_micros, revenue_micros = EXCLUDED.revenue_micros, file_id = EXCLUDED.file_id,
             line = EXCLUDED.line, counted_at = EXCLUDED.counted_at",
    )?;
    confirm(connection, share, confirmed)?;
    describe(connection, share, described)
}

/// Keys as arrays: campaigns, days, slices.
struct Keys<'a> {
    campaigns: Vec<u32>,
    days: Vec<NaiveDate>,
    slices: Vec<&'a str>,
}

impl<'a> Keys<'a> {
    fn of(keys: impl Iterator<Item = &'a Key>) -> Keys<'a> {
        let mut arrays = Keys {
            campaigns: Vec::new(),
            days: Vec::new(),
            slices: Vec::new(),
        };
        for key in keys {
            arrays.campaigns.push(key.campaign);
            arrays.days.push(key.day);
            arrays.slices.push(&key.slice);
        }
        arrays
    }
}

fn forget(
    connection: &mut PgConnection,
    share: &Filled,
    gone: &[(Key, Timestamp)],
) -> Result<(), StoreError> {
    if gone.is_empty() {
        return Ok(());
    }
    let keys = Keys::of(gone.iter().map(|(key, _)| key));
    let times: Vec<Timestamp> = gone.iter().map(|(_, at)| *at).collect();
    sql_query(
        "DELETE FROM report_history AS h USING unnest($1, $2, $3, $4) AS g (campaign_id, day, slice, observed_at)
         WHERE h.campaign_id = g.campaign_id AND h.day = g.day AND h.slice = g.slice AND h.observed_at = g.observed_at",
    )
    .bind::<Array<Text>, _>(Texts { dictionary: &share.campaigns, index: &keys.campaigns })
    .bind::<Array<Date>, _>(&keys.days)
    .bind::<Array<Text>, _>(&keys.slices)
    .bind::<Array<Timestamptz>, _>(Timestamps(&times))
    .execute(connection)?;
    Ok(())
}

/// Inserts revisions into one of the tables.
fn enter(
    connection: &mut PgConnection,
    share: &Filled,
    rows: &[(Key, Uuid, Revision)],
    commit: Commit,
    table: &str,
    conflict: &str,
) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let keys = Keys::of(rows.iter().map(|(key, ..)| key));
    let event_ids: Vec<Uuid> = rows.iter().map(|(_, event_id, _)| *event_id).collect();
    let revisions = || rows.iter().map(|(.., revision)| revision);
    let definitions: Vec<i32> = revisions().map(|r| r.definition).collect();
    let observed: Vec<Timestamp> = revisions().map(|r| r.observed_at).collect();
    // An array of arrays has no ragged edge, so each is written as text; nearly all are null.
    let confirmed: Vec<Option<String>> = revisions().map(|r| array(&r.confirmed_at)).collect();
    let times: Vec<Timestamp> = revisions().map(|r| r.event_time).collect();
    let numbers = |which: usize| -> Vec<Option<i64>> {
        revisions()
            .map(|r| r.values.numbers().get(which).copied().flatten())
            .collect()
    };
    let files: Vec<Option<i32>> = revisions().map(|r| r.origin.0).collect();
    let lines: Vec<Option<i64>> = revisions().map(|r| r.origin.1).collect();
    let counted: Vec<Option<Timestamp>> = revisions()
        .map(|r| Some(r.counted_at.unwrap_or(commit.at)))
        .collect();
    sql_query(format!(
        "INSERT INTO {table} (campaign_id, day, slice, definition_id, event_id, observed_at, confirmed_at, event_time, impressions,
             clicks, conversion_micros, cost_micros, revenue_micros, file_id, line, counted_at)
         SELECT n.campaign_id, n.day, n.slice, n.definition_id, n.event_id, n.observed_at, n.confirmed_at::timestamptz[],
             n.event_time, n.impressions, n.clicks, n.conversion_micros, n.cost_micros, n.revenue_micros, n.file_id, n.line,
             n.counted_at
         FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
             AS n (campaign_id, day, slice, definition_id, event_id, observed_at, confirmed_at, event_time, impressions, clicks,
                 conversion_micros, cost_micros, revenue_micros, file_id, line, counted_at)
         {conflict}"
    ))
    .bind::<Array<Text>, _>(Texts { dictionary: &share.campaigns, index: &keys.campaigns })
    .bind::<Array<Date>, _>(&keys.days)
    .bind::<Array<Text>, _>(&keys.slices)
    .bind::<Array<Integer>, _>(Integers(&definitions))
    .bind::<Array<SqlUuid>, _>(Uuids(&event_ids))
    .bind::<Array<Timestamptz>, _>(Timestamps(&observed))
    .bind::<Array<Nullable<Text>>, _>(&confirmed)
    .bind::<Array<Timestamptz>, _>(Timestamps(&times))
    .bind::<Array<Nullable<BigInt>>, _>(numbers(0))
    .bind::<Array<Nullable<BigInt>>, _>(numbers(1))
    .bind::<Array<Nullable<BigInt>>, _>(numbers(2))
    .bind::<Array<Nullable<BigInt>>, _>(numbers(3))
    .bind::<Array<Nullable<BigInt>>, _>(numbers(4))
    .bind::<Array<Nullable<Integer>>, _>(&files)
    .bind::<Array<Nullable<BigInt>>, _>(&lines)
    .bind::<Array<Timestamptz>, _>(Instants(&counted))
    .execute(connection)?;
    Ok(())
}

/// Instants as PostgreSQL writes an array of them; none if there are none.
fn array(times: &[Timestamp]) -> Option<String> {
    let written: Vec<String> = times.iter().map(ToString::to_string).collect();
    (!written.is_empty()).then(|| format!("{{{}}}", written.join(",")))
}

/// Notes that what is known was said once more: most of what an account's next export says.
fn confirm(
    connection: &mut PgConnection,
    share: &Filled,
    confirmed: &[(Key, Timestamp)],
) -> Result<(), StoreError> {
    if confirmed.is_empty() {
        return Ok(());
    }
    let keys = Keys::of(confirmed.iter().map(|(key, _)| key));
    let times: Vec<Timestamp> = confirmed.iter().map(|(_, at)| *at).collect();
    sql_query(
        "UPDATE report_rows AS r SET confirmed_at = r.confirmed_at || c.at
         FROM unnest($1, $2, $3, $4) AS c (campaign_id, day, slice, at)
         WHERE r.campaign_id = c.campaign_id AND r.day = c.day AND r.slice = c.slice",
    )
    .bind::<Array<Text>, _>(Texts {
        dictionary: &share.campaigns,
        index: &keys.campaigns,
    })
    .bind::<Array<Date>, _>(&keys.days)
    .bind::<Array<Text>, _>(&keys.slices)
    .bind::<Array<Timestamptz>, _>(Timestamps(&times))
    .execute(connection)?;
    Ok(())
}

/// What campaigns are called and whose they are.
fn describe(
    connection: &mut PgConnection,
    share: &Filled,
    described: &[(u32, Timestamp, i32)],
) -> Result<(), StoreError> {
    let names = &share.reports.names;
    let campaigns: Vec<u32> = names.keys().map(|(campaign, _)| *campaign).collect();
    let called: Vec<&str> = names.keys().map(|(_, name)| &**name).collect();
    let first: Vec<Timestamp> = names.values().map(|(first, _)| *first).collect();
    let last: Vec<Timestamp> = names.values().map(|(_, last)| *last).collect();
    if !campaigns.is_empty() {
        // Nearly all are known, and of them nothing is written.
        sql_query(
            "INSERT INTO campaign_names AS k (campaign_id, name, first_observed_at, last_observed_at)
             SELECT n.campaign_id, n.name, n.first, n.last FROM unnest($1, $2, $3, $4) AS n (campaign_id, name, first, last)
             LEFT JOIN campaign_names AS c ON c.campaign_id = n.campaign_id AND c.name = n.name
             WHERE c.name IS NULL OR n.first < c.first_observed_at OR n.last > c.last_observed_at
             ON CONFLICT (campaign_id, name) DO UPDATE SET
                 first_observed_at = LEAST(k.first_observed_at, EXCLUDED.first_observed_at),
                 last_observed_at = GREATEST(k.last_observed_at, EXCLUDED.last_observed_at)",
        )
        .bind::<Array<Text>, _>(Texts { dictionary: &share.campaigns, index: &campaigns })
        .bind::<Array<Text>, _>(&called)
        .bind::<Array<Timestamptz>, _>(Timestamps(&first))
        .bind::<Array<Timestamptz>, _>(Timestamps(&last))
        .execute(connection)?;
    }
    if described.is_empty() {
        return Ok(());
    }
    let campaigns: Vec<u32> = described.iter().map(|(campaign, ..)| *campaign).collect();
    let times: Vec<Timestamp> = described.iter().map(|(_, at, _)| *at).collect();
    let definitions: Vec<i64> = described.iter().map(|(.., id)| i64::from(*id)).collect();
    sql_query(
        "UPDATE campaigns AS c SET definition_id = d.definition_id, described_at = d.at,
             name = COALESCE((SELECT n.name FROM campaign_names AS n WHERE n.campaign_id = c.campaign_id
                 ORDER BY n.last_observed_at DESC, n.first_observed_at DESC, n.name LIMIT 1), c.name)
         FROM unnest($1, $2, $3) AS d (campaign_id, at, definition_id)
         WHERE c.campaign_id = d.campaign_id AND (c.described_at IS NULL OR c.described_at < d.at)",
    )
    .bind::<Array<Text>, _>(Texts { dictionary: &share.campaigns, index: &campaigns })
    .bind::<Array<Timestamptz>, _>(Timestamps(&times))
    .bind::<Array<BigInt>, _>(Bigints(&definitions))
    .execute(connection)?;
    Ok(())
}

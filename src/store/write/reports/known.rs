//! What is known of the days that a share reports.

use chrono::NaiveDate;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Date, Text, Uuid as SqlUuid};
use uuid::Uuid;

use super::names;
use crate::report_row::Values;
use crate::report_row::revisions::{Revision, Revisions};
use crate::store::StoreError;
use crate::store::columns::Texts;
use crate::store::revisions::{COLUMNS, RevisionRow};
use crate::store::write::FastMap;
use crate::store::write::batch::{Filled, Reported};

/// What there is to know before a share's report rows are taken in.
pub(in crate::store::write) struct Before {
    pub(super) definitions: Vec<i32>,
    pub(super) files: Vec<i32>,
    pub(super) days: FastMap<(u32, NaiveDate), Day>,
}

/// What is known of a key.
pub(super) struct Known {
    pub event_id: Uuid,
    /// As it is stored; of older revisions only those that were needed.
    pub stored: Revisions,
    pub now: Revisions,
}

/// What is known of a campaign's day.
#[derive(Default)]
pub(super) struct Day {
    pub keys: FastMap<Box<str>, Known>,
    /// The definitions of its rows that say something, and how many have each. More than one only until a day has moved over.
    definitions: Vec<(i32, isize)>,
}

impl Day {
    /// So many more of its rows that say something have a definition, or so many fewer.
    pub fn count(&mut self, definition: i32, more: isize) {
        let mut all = self.definitions.iter_mut();
        match all.find(|(known, _)| *known == definition) {
            Some((_, rows)) => *rows += more,
            None => self.definitions.push((definition, more)),
        }
        self.definitions.retain(|(_, rows)| *rows > 0);
    }

    /// Whether a row of this definition can be of this day. What says nothing, and so adds nothing, always can.
    pub fn takes(&self, slice: &str, definition: i32, event_id: Uuid, values: &Values) -> bool {
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

/// Reads it. Definitions and files that are new get their short names.
pub(in crate::store::write) fn look(
    connection: &mut PgConnection,
    share: &Filled,
) -> Result<Before, StoreError> {
    let reports = &share.reports;
    if reports.is_empty() {
        return Ok(Before {
            definitions: Vec::new(),
            files: Vec::new(),
            days: FastMap::default(),
        });
    }
    Ok(Before {
        definitions: names::of_definitions(connection, &reports.definitions)?,
        files: names::of_files(connection, &reports.files)?,
        days: known(connection, share)?,
    })
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
            day.count(revision.definition, 1);
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

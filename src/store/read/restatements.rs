//! How platforms restated a campaign's days: every revision of every key, the newest day first.

use chrono::{DateTime, NaiveDate, Utc};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bool, Date, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use uuid::Uuid;

use super::definitions::DefinitionRow;
use crate::event::Platform;
use crate::report_row::Values;
use crate::store::revisions::ValuesRow;
use crate::store::{StoreError, platform};

/// A revision: where a page ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub day: NaiveDate,
    /// Which key of that day.
    pub event_id: Uuid,
    pub observed_at: DateTime<Utc>,
}

/// Which revisions are asked for.
#[derive(Clone, Debug)]
pub struct Page {
    pub campaign_id: String,
    /// The first day and the last, both included.
    pub days: (NaiveDate, NaiveDate),
    /// None: from the newest on.
    pub after: Option<Cursor>,
    pub limit: usize,
}

/// What a platform said of a key.
#[derive(Clone, Debug)]
pub struct Restatement {
    pub day: NaiveDate,
    pub slice: String,
    pub event_id: Uuid,
    /// When the platform was asked that first said so.
    pub observed_at: DateTime<Utc>,
    /// When it was last asked again and said the same.
    pub confirmed_at: Option<DateTime<Utc>>,
    pub values: Values,
    /// What it had said before; none: nothing.
    pub before: Option<Values>,
    /// Whether it has said nothing else since.
    pub is_newest: bool,
    /// The SHA-256 of the file that said so first, in hexadecimal, and the line in it.
    pub origin: (Option<String>, Option<i64>),
    pub counted_at: DateTime<Utc>,
    pub platform: Platform,
    /// What its numbers mean.
    pub definition: DefinitionRow,
    pub grain: String,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Date)]
    day: NaiveDate,
    #[diesel(sql_type = Text)]
    slice: String,
    #[diesel(sql_type = SqlUuid)]
    event_id: Uuid,
    #[diesel(sql_type = Timestamptz)]
    observed_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    confirmed_at: Option<DateTime<Utc>>,
    #[diesel(embed)]
    values: ValuesRow,
    #[diesel(sql_type = Bool)]
    is_newest: bool,
    #[diesel(sql_type = Nullable<Text>)]
    file: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    line: Option<i64>,
    #[diesel(sql_type = Timestamptz)]
    counted_at: DateTime<Utc>,
    #[diesel(embed)]
    definition: DefinitionRow,
    #[diesel(sql_type = Text)]
    grain: String,
}

impl Row {
    fn restatement(self) -> Result<Restatement, StoreError> {
        Ok(Restatement {
            day: self.day,
            slice: self.slice,
            event_id: self.event_id,
            observed_at: self.observed_at,
            confirmed_at: self.confirmed_at,
            values: self.values.into(),
            before: None,
            is_newest: self.is_newest,
            origin: (self.file, self.line),
            counted_at: self.counted_at,
            platform: platform(self.definition.platform)?,
            definition: self.definition,
            grain: self.grain,
        })
    }
}

/// Both tables backwards by their primary keys, from the page's place on, so many rows of each; and of these the newest.
const PAGE: &str = "WITH place AS (
         SELECT $4::date AS day, k.slice, $6::timestamptz AS observed_at FROM report_rows AS k
         WHERE k.campaign_id = $1 AND k.day = $4 AND k.event_id = $5),
     newest AS (
         SELECT r.*, true AS is_newest FROM report_rows AS r
         WHERE r.campaign_id = $1 AND r.day BETWEEN $2 AND $3
             AND ($4 IS NULL OR (r.day, r.slice, r.observed_at) < (SELECT p.day, p.slice, p.observed_at FROM place AS p))
         ORDER BY r.day DESC, r.slice DESC LIMIT $7),
     older AS (
         SELECT h.*, false AS is_newest FROM report_history AS h
         WHERE h.campaign_id = $1 AND h.day BETWEEN $2 AND $3
             AND ($4 IS NULL OR (h.day, h.slice, h.observed_at) < (SELECT p.day, p.slice, p.observed_at FROM place AS p))
         ORDER BY h.day DESC, h.slice DESC, h.observed_at DESC LIMIT $7)
     SELECT s.day, s.slice, s.event_id, s.observed_at, s.confirmed_at[cardinality(s.confirmed_at)] AS confirmed_at, s.impressions,
         s.clicks, s.conversion_micros, s.cost_micros, s.revenue_micros, s.is_newest, encode(f.sha256, 'hex') AS file, s.line, s.counted_at,
         d.platform, d.account, d.time_zone, d.currency, d.conversions, d.revenue, d.grain
     FROM (SELECT * FROM newest UNION ALL SELECT * FROM older) AS s
     JOIN report_definitions AS d USING (definition_id) LEFT JOIN report_files AS f USING (file_id)
     ORDER BY s.day DESC, s.slice DESC, s.observed_at DESC LIMIT $7";

/// Reads a page, and whether there is another one; none if the campaign has no events at all.
///
/// # Errors
/// When the database does not answer.
pub fn read(
    connection: &mut PgConnection,
    page: &Page,
) -> Result<Option<(Vec<Restatement>, bool)>, StoreError> {
    let after = page.after;
    // One more than asked for: it tells whether there is another page, and what the last of this one changed.
    let limit = page.limit.saturating_add(1);
    let rows: Vec<Row> = sql_query(PAGE)
        .bind::<Text, _>(&page.campaign_id)
        .bind::<Date, _>(page.days.0)
        .bind::<Date, _>(page.days.1)
        .bind::<Nullable<Date>, _>(after.map(|place| place.day))
        .bind::<Nullable<SqlUuid>, _>(after.map(|place| place.event_id))
        .bind::<Nullable<Timestamptz>, _>(after.map(|place| place.observed_at))
        .bind::<BigInt, _>(i64::try_from(limit).unwrap_or(i64::MAX))
        .load(connection)?;
    if rows.is_empty() && !is_known(connection, &page.campaign_id)? {
        return Ok(None);
    }
    let all = rows.into_iter().map(Row::restatement);
    let mut all: Vec<Restatement> = all.collect::<Result<_, StoreError>>()?;
    let before: Vec<Option<Values>> = all
        .iter()
        .zip(all.iter().skip(1))
        .map(|(this, next)| {
            let is_same = this.day == next.day && this.slice == next.slice;
            is_same.then_some(next.values)
        })
        .collect();
    for (this, before) in all.iter_mut().zip(before) {
        this.before = before;
    }
    let more = all.len() > page.limit;
    all.truncate(page.limit);
    Ok(Some((all, more)))
}

fn is_known(connection: &mut PgConnection, campaign: &str) -> Result<bool, StoreError> {
    #[derive(QueryableByName)]
    struct Known {
        #[diesel(sql_type = Bool)]
        known: bool,
    }
    let found: Known =
        sql_query("SELECT EXISTS (SELECT FROM campaigns WHERE campaign_id = $1) AS known")
            .bind::<Text, _>(campaign)
            .get_result(connection)?;
    Ok(found.known)
}

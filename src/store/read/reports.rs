//! What is known of reports, for whoever brings more of them: what an account's numbers mean, and what campaign-days are known
//! to be.

use std::collections::HashMap;

use chrono::NaiveDate;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{
    Array, BigInt, Binary, Bool, Date, Integer, Nullable, SmallInt, Text, Timestamptz,
};

use super::definitions::DefinitionRow;
use crate::event::{Platform, Reason};
use crate::offset::{LogRange, Offset};
use crate::report_row::revisions::Revision;
use crate::store::StoreError;
use crate::store::revisions::{COLUMNS, RevisionRow};
use crate::time::Timestamp;

/// Whether the database has what reports are kept in.
///
/// # Errors
/// When the database does not answer.
pub fn are_kept(connection: &mut PgConnection) -> Result<bool, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Bool)]
        kept: bool,
    }
    let row: Row = sql_query("SELECT to_regclass('report_imports') IS NOT NULL AS kept")
        .get_result(connection)?;
    Ok(row.kept)
}

/// What numbers mean, and of which grain they are, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct Meaning {
    #[diesel(sql_type = Integer)]
    pub definition_id: i32,
    #[diesel(embed)]
    pub definition: DefinitionRow,
    #[diesel(sql_type = Text)]
    pub grain: String,
}

/// What the numbers of an account mean by its newest report.
#[derive(Clone, Debug, QueryableByName)]
pub struct NewestMeaning {
    /// When the platform was asked for it.
    #[diesel(sql_type = Timestamptz)]
    pub at: Timestamp,
    #[diesel(embed)]
    pub meaning: Meaning,
}

/// What an account's numbers mean by its newest report; none if it has none. `prefix`: how ids of its campaigns begin.
///
/// # Errors
/// When the database does not answer.
pub fn meaning_of_account(
    connection: &mut PgConnection,
    platform: Platform,
    account: &str,
    prefix: &str,
) -> Result<Option<NewestMeaning>, StoreError> {
    // By primary key: ids that begin with the prefix are beside one another.
    let newest = sql_query(
        "SELECT d.definition_id, d.platform, d.account, d.time_zone, d.currency, d.conversions, d.revenue, d.grain,
             c.described_at AS at
         FROM campaigns AS c JOIN report_definitions AS d USING (definition_id)
         WHERE c.campaign_id >= $3 AND c.campaign_id < $4 AND d.platform = $1 AND d.account = $2
         ORDER BY c.described_at DESC, d.definition_id DESC LIMIT 1",
    )
    .bind::<SmallInt, _>(i16::from(platform.index()))
    .bind::<Text, _>(account)
    .bind::<Text, _>(prefix)
    .bind::<Text, _>(behind(prefix));
    Ok(newest.get_result(connection).optional()?)
}

/// What sorts behind all that begins with a prefix of ASCII.
fn behind(prefix: &str) -> String {
    format!("{prefix}\u{7f}")
}

/// What an account's numbers have meant at any time.
///
/// # Errors
/// When the database does not answer.
pub fn meanings_of_account(
    connection: &mut PgConnection,
    platform: Platform,
    account: &str,
) -> Result<Vec<Meaning>, StoreError> {
    Ok(sql_query(
        "SELECT definition_id, platform, account, time_zone, currency, conversions, revenue, grain
         FROM report_definitions WHERE platform = $1 AND account = $2",
    )
    .bind::<SmallInt, _>(i16::from(platform.index()))
    .bind::<Text, _>(account)
    .load(connection)?)
}

/// What definitions mean, by their numbers.
///
/// # Errors
/// When the database does not answer.
pub fn meanings(connection: &mut PgConnection, ids: &[i32]) -> Result<Vec<Meaning>, StoreError> {
    Ok(sql_query(
        "SELECT definition_id, platform, account, time_zone, currency, conversions, revenue, grain
         FROM report_definitions WHERE definition_id = ANY ($1)",
    )
    .bind::<Array<Integer>, _>(ids)
    .load(connection)?)
}

/// The SHA-256 of files, by their numbers.
///
/// # Errors
/// When the database does not answer.
pub fn files(
    connection: &mut PgConnection,
    ids: &[i32],
) -> Result<HashMap<i32, Vec<u8>>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Integer)]
        file_id: i32,
        #[diesel(sql_type = Binary)]
        sha256: Vec<u8>,
    }
    let rows: Vec<Row> =
        sql_query("SELECT file_id, sha256 FROM report_files WHERE file_id = ANY ($1)")
            .bind::<Array<Integer>, _>(ids)
            .load(connection)?;
    Ok(rows
        .into_iter()
        .map(|row| (row.file_id, row.sha256))
        .collect())
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    nth: i64,
    #[diesel(sql_type = Text)]
    campaign_id: String,
    #[diesel(sql_type = Date)]
    day: NaiveDate,
    #[diesel(sql_type = Text)]
    slice: String,
    #[diesel(embed)]
    revision: RevisionRow,
}

/// A revision of a key.
#[derive(Clone, Debug)]
pub struct Known {
    /// Of which of the questions it is the answer.
    pub nth: usize,
    pub campaign_id: String,
    pub day: NaiveDate,
    pub slice: String,
    pub revision: Revision,
}

impl From<Row> for Known {
    fn from(row: Row) -> Known {
        Known {
            nth: usize::try_from(row.nth.saturating_sub(1)).unwrap_or(usize::MAX),
            campaign_id: row.campaign_id,
            day: row.day,
            slice: row.slice,
            revision: row.revision.into(),
        }
    }
}

/// The newest revisions of all keys of campaigns' days.
///
/// # Errors
/// When the database does not answer.
pub fn of_days(
    connection: &mut PgConnection,
    days: &[(&str, NaiveDate)],
) -> Result<Vec<Known>, StoreError> {
    let campaigns: Vec<&str> = days.iter().map(|(campaign, _)| *campaign).collect();
    let dates: Vec<NaiveDate> = days.iter().map(|(_, day)| *day).collect();
    // By primary key, day by day: joined otherwise, the whole table would be read for a few.
    let rows: Vec<Row> = sql_query(format!(
        "SELECT d.nth, r.campaign_id, r.day, r.slice, {COLUMNS}
         FROM unnest($1, $2) WITH ORDINALITY AS d (campaign_id, day, nth)
         CROSS JOIN LATERAL (SELECT * FROM report_rows AS r WHERE r.campaign_id = d.campaign_id AND r.day = d.day OFFSET 0) AS r"
    ))
    .bind::<Array<Text>, _>(campaigns)
    .bind::<Array<Date>, _>(dates)
    .load(connection)?;
    Ok(rows.into_iter().map(Known::from).collect())
}

/// The older revisions of keys.
///
/// # Errors
/// When the database does not answer.
pub fn older(
    connection: &mut PgConnection,
    keys: &[(&str, NaiveDate, &str)],
) -> Result<Vec<Known>, StoreError> {
    let campaigns: Vec<&str> = keys.iter().map(|(campaign, ..)| *campaign).collect();
    let dates: Vec<NaiveDate> = keys.iter().map(|(_, day, _)| *day).collect();
    let slices: Vec<&str> = keys.iter().map(|(_, _, slice)| *slice).collect();
    let rows: Vec<Row> = sql_query(format!(
        "SELECT d.nth, r.campaign_id, r.day, r.slice, {COLUMNS}
         FROM unnest($1, $2, $3) WITH ORDINALITY AS d (campaign_id, day, slice, nth)
         CROSS JOIN LATERAL (SELECT * FROM report_history AS r
             WHERE r.campaign_id = d.campaign_id AND r.day = d.day AND r.slice = d.slice OFFSET 0) AS r"
    ))
    .bind::<Array<Text>, _>(campaigns)
    .bind::<Array<Date>, _>(dates)
    .bind::<Array<Text>, _>(slices)
    .load(connection)?;
    Ok(rows.into_iter().map(Known::from).collect())
}

/// Which rows of an account are meant.
#[derive(Clone, Copy, Debug)]
pub struct OfAccount<'a> {
    /// How ids of its campaigns begin.
    pub prefix: &'a str,
    pub first_day: NaiveDate,
    pub last_day: NaiveDate,
    /// All of one definition.
    pub definition_id: i32,
}

/// The next newest revisions of an account's keys within days, in the order of campaign, day and slice: those after `after`.
///
/// # Errors
/// When the database does not answer.
pub fn of_account(
    connection: &mut PgConnection,
    of: OfAccount<'_>,
    after: Option<&Known>,
    limit: i64,
) -> Result<Vec<Known>, StoreError> {
    let (campaign, day, slice) = after.map_or((of.prefix, NaiveDate::MIN, ""), |known| {
        (known.campaign_id.as_str(), known.day, known.slice.as_str())
    });
    // No id of a campaign is its prefix alone, so that no day is needed to be before all.
    let day = day.max(of.first_day.pred_opt().unwrap_or(of.first_day));
    let rows: Vec<Row> = sql_query(format!(
        "SELECT 1::bigint AS nth, r.campaign_id, r.day, r.slice, {COLUMNS}
         FROM report_rows AS r
         WHERE (r.campaign_id, r.day, r.slice) > ($1, $2, $3) AND r.campaign_id < $4
             AND r.day BETWEEN $5 AND $6 AND r.definition_id = $7
         ORDER BY r.campaign_id, r.day, r.slice LIMIT $8"
    ))
    .bind::<Text, _>(campaign)
    .bind::<Date, _>(day)
    .bind::<Text, _>(slice)
    .bind::<Text, _>(behind(of.prefix))
    .bind::<Date, _>(of.first_day)
    .bind::<Date, _>(of.last_day)
    .bind::<Integer, _>(of.definition_id)
    .bind::<BigInt, _>(limit)
    .load(connection)?;
    Ok(rows.into_iter().map(Known::from).collect())
}

/// A record that could not be counted.
#[derive(Debug, QueryableByName)]
pub struct Refused {
    #[diesel(sql_type = BigInt)]
    pub offset: Offset,
    /// The stable name of the [`Reason`].
    #[diesel(sql_type = Text)]
    pub reason: String,
    #[diesel(sql_type = Nullable<Binary>)]
    pub payload: Option<Vec<u8>>,
}

impl Refused {
    /// Why, for a person.
    pub fn explain(&self) -> Option<&'static str> {
        let mut all = Reason::ALL.iter();
        let reason = all.find(|reason| reason.as_str() == self.reason)?;
        Some(reason.explain())
    }
}

/// The next dead letters among the offsets of a partition, ascending.
///
/// # Errors
/// When the database does not answer.
pub fn refused(
    connection: &mut PgConnection,
    (cluster_id, topic, partition): (&str, &str, i32),
    offsets: LogRange,
    limit: i64,
) -> Result<Vec<Refused>, StoreError> {
    Ok(sql_query(
        r#"SELECT d."offset", d.reason, d.payload
         FROM dead_letters AS d JOIN stream_positions AS s USING (stream_id)
         WHERE s.cluster_id = $1 AND s.topic = $2 AND s.partition = $3 AND d."offset" >= $4 AND d."offset" < $5
         ORDER BY d."offset" LIMIT $6"#,
    )
    .bind::<Text, _>(cluster_id)
    .bind::<Text, _>(topic)
    .bind::<Integer, _>(partition)
    .bind::<BigInt, _>(offsets.start)
    .bind::<BigInt, _>(offsets.end)
    .bind::<BigInt, _>(limit)
    .load(connection)?)
}

//! What was imported: which files, what each said, and what of it counts.

use std::collections::HashMap;

use chrono::NaiveDate;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{
    Array, BigInt, Binary, Bool, Date, Integer, Nullable, SmallInt, Text, Timestamptz,
};

use crate::event::{Count, Platform};
use crate::report_row::Values;
use crate::store::StoreError;
use crate::store::revisions::ValuesRow;
use crate::time::Timestamp;

/// A file, as it was imported.
#[derive(Clone, Debug, QueryableByName)]
pub struct Imported {
    #[diesel(sql_type = Integer)]
    pub file_id: i32,
    #[diesel(sql_type = Binary)]
    pub sha256: Vec<u8>,
    #[diesel(sql_type = Timestamptz)]
    pub observed_at: Timestamp,
    #[diesel(sql_type = Timestamptz)]
    pub imported_at: Timestamp,
    #[diesel(sql_type = Text)]
    pub name: String,
    #[diesel(sql_type = Text)]
    pub shape: String,
    #[diesel(sql_type = SmallInt)]
    pub platform: i16,
    #[diesel(sql_type = Array<Text>)]
    pub accounts: Vec<String>,
    #[diesel(sql_type = BigInt)]
    pub rows: Count,
    #[diesel(sql_type = Nullable<Date>)]
    pub first_day: Option<NaiveDate>,
    #[diesel(sql_type = Nullable<Date>)]
    pub last_day: Option<NaiveDate>,
    #[diesel(sql_type = Text)]
    pub options: String,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub undone_at: Option<Timestamp>,
}

impl Imported {
    /// Its platform; none if a later version knows it.
    pub fn platform(&self) -> Option<Platform> {
        Platform::from_index(self.platform.into())
    }
}

/// The newest imports; `accounts`: only those of any of these.
///
/// # Errors
/// When the database does not answer.
pub fn list(
    connection: &mut PgConnection,
    accounts: Option<&[String]>,
    limit: i64,
) -> Result<Vec<Imported>, StoreError> {
    Ok(sql_query(
        "SELECT f.file_id, f.sha256, i.observed_at, i.imported_at, i.name, i.shape, i.platform, i.accounts, i.rows,
             i.first_day, i.last_day, i.options::text AS options, f.undone_at
         FROM report_imports AS i JOIN report_files AS f USING (file_id)
         WHERE $1 IS NULL OR i.accounts && $1
         ORDER BY i.imported_at DESC, i.file_id DESC, i.observed_at DESC LIMIT $2",
    )
    .bind::<Nullable<Array<Text>>, _>(accounts)
    .bind::<BigInt, _>(limit)
    .load(connection)?)
}

/// As what a file was imported, newest first.
///
/// # Errors
/// When the database does not answer.
pub fn of_file(connection: &mut PgConnection, file_id: i32) -> Result<Vec<Imported>, StoreError> {
    Ok(sql_query(
        "SELECT f.file_id, f.sha256, i.observed_at, i.imported_at, i.name, i.shape, i.platform, i.accounts, i.rows,
             i.first_day, i.last_day, i.options::text AS options, f.undone_at
         FROM report_imports AS i JOIN report_files AS f USING (file_id)
         WHERE i.file_id = $1 ORDER BY i.imported_at DESC, i.observed_at DESC",
    )
    .bind::<Integer, _>(file_id)
    .load(connection)?)
}

/// A file that rows are from.
#[derive(Clone, Debug, QueryableByName)]
pub struct File {
    #[diesel(sql_type = Integer)]
    pub file_id: i32,
    #[diesel(sql_type = Binary)]
    pub sha256: Vec<u8>,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub size: Option<Count>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub undone_at: Option<Timestamp>,
    /// Whether its content is in the database.
    #[diesel(sql_type = Bool)]
    pub is_kept: bool,
    /// When it was removed from there, for its age.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub content_dropped_at: Option<Timestamp>,
}

/// Files whose SHA-256, in hexadecimal, begins so.
///
/// # Errors
/// When the database does not answer.
pub fn files(
    connection: &mut PgConnection,
    hash: &str,
    limit: i64,
) -> Result<Vec<File>, StoreError> {
    Ok(sql_query(
        "SELECT f.file_id, f.sha256, f.size, f.undone_at, f.content_dropped_at,
             EXISTS (SELECT FROM report_file_chunks AS c WHERE c.file_id = f.file_id) AS is_kept
         FROM report_files AS f WHERE starts_with(encode(f.sha256, 'hex'), $1) ORDER BY f.sha256 LIMIT $2",
    )
    .bind::<Text, _>(hash)
    .bind::<BigInt, _>(limit)
    .load(connection)?)
}

/// The numbers that a database has for files, by their SHA-256; `None`: for all that it knows.
///
/// # Errors
/// When the database does not answer.
pub fn numbers(
    connection: &mut PgConnection,
    hashes: Option<&[Vec<u8>]>,
) -> Result<HashMap<Vec<u8>, i32>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Binary)]
        sha256: Vec<u8>,
        #[diesel(sql_type = Integer)]
        file_id: i32,
    }
    let rows: Vec<Row> =
        sql_query("SELECT sha256, file_id FROM report_files WHERE $1 IS NULL OR sha256 = ANY ($1)")
            .bind::<Nullable<Array<Binary>>, _>(hashes)
            .load(connection)?;
    Ok(rows
        .into_iter()
        .map(|row| (row.sha256, row.file_id))
        .collect())
}

/// How many rows are from a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// That say something, and count.
    pub counting: Count,
    /// That are older than what counts.
    pub history: Count,
}

impl Rows {
    /// With those of another database.
    pub fn and(mut self, others: Rows) -> Rows {
        self.counting += others.counting;
        self.history += others.history;
        self
    }
}

/// How many rows are from each of these files, in their order. Reads all of `report_rows` and `report_history`: to restate a row
/// would cost more if they were in an index by file.
///
/// # Errors
/// When the database does not answer.
pub fn rows_of(connection: &mut PgConnection, file_ids: &[i32]) -> Result<Vec<Rows>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        counting: Count,
        #[diesel(sql_type = BigInt)]
        history: Count,
    }
    let rows: Vec<Row> = sql_query(
        "SELECT COALESCE(r.rows, 0) AS counting, COALESCE(h.rows, 0) AS history
         FROM unnest($1) WITH ORDINALITY AS f (file_id, nth)
         LEFT JOIN (SELECT file_id, count(*) AS rows FROM report_rows
             WHERE num_nonnulls(impressions, clicks, conversion_micros, cost_micros, revenue_micros) > 0 AND file_id = ANY ($1)
             GROUP BY file_id) AS r USING (file_id)
         LEFT JOIN (SELECT file_id, count(*) AS rows FROM report_history WHERE file_id = ANY ($1)
             GROUP BY file_id) AS h USING (file_id)
         ORDER BY f.nth",
    )
    .bind::<Array<Integer>, _>(file_ids)
    .load(connection)?;
    let rows = rows.into_iter();
    Ok(rows
        .map(|row| Rows {
            counting: row.counting,
            history: row.history,
        })
        .collect())
}

/// What a file, or a line of it, says of a campaign's day.
#[derive(Clone, Debug, QueryableByName)]
pub struct SaidRow {
    #[diesel(sql_type = Text)]
    pub campaign_id: String,
    #[diesel(sql_type = Date)]
    pub day: NaiveDate,
    #[diesel(sql_type = Text)]
    pub slice: String,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub line: Option<i64>,
    #[diesel(sql_type = Timestamptz)]
    pub observed_at: Timestamp,
    /// Whether it counts: it is what is known of the day.
    #[diesel(sql_type = Bool)]
    pub counts: bool,
    #[diesel(embed)]
    values: ValuesRow,
}

impl SaidRow {
    /// The numbers.
    pub fn values(&self) -> Values {
        self.values.into()
    }
}

/// The rows of a file that count, in its order; of one line all that are from it, the newest first.
///
/// # Errors
/// When the database does not answer.
pub fn said(
    connection: &mut PgConnection,
    file_id: i32,
    line: Option<i64>,
    limit: i64,
) -> Result<Vec<SaidRow>, StoreError> {
    Ok(sql_query(
        "SELECT campaign_id, day, slice, line, observed_at, counts, impressions, clicks, conversion_micros, cost_micros,
             revenue_micros
         FROM (SELECT campaign_id, day, slice, line, observed_at, true AS counts, impressions, clicks, conversion_micros,
                   cost_micros, revenue_micros FROM report_rows
               WHERE file_id = $1 AND ($2 IS NULL OR line = $2)
                   AND num_nonnulls(impressions, clicks, conversion_micros, cost_micros, revenue_micros) > 0
               UNION ALL
               SELECT campaign_id, day, slice, line, observed_at, false, impressions, clicks, conversion_micros,
                   cost_micros, revenue_micros FROM report_history
               WHERE file_id = $1 AND line = $2) AS r
         ORDER BY line, observed_at DESC, campaign_id, day, slice LIMIT $3",
    )
    .bind::<Integer, _>(file_id)
    .bind::<Nullable<BigInt>, _>(line)
    .bind::<BigInt, _>(limit)
    .load(connection)?)
}

/// An instant at which a file says that the platform was asked.
#[derive(Clone, Debug, QueryableByName)]
pub struct Asked {
    #[diesel(sql_type = Integer)]
    pub file_id: i32,
    #[diesel(sql_type = Timestamptz)]
    pub observed_at: Timestamp,
}

/// When platforms were asked for what accounts have in files.
///
/// # Errors
/// When the database does not answer.
pub fn asked(
    connection: &mut PgConnection,
    platform: i16,
    account: &str,
) -> Result<Vec<Asked>, StoreError> {
    Ok(sql_query(
        "SELECT file_id, observed_at FROM report_imports WHERE platform = $1 AND $2 = ANY (accounts)
         ORDER BY observed_at, file_id",
    )
    .bind::<SmallInt, _>(platform)
    .bind::<Text, _>(account)
    .load(connection)?)
}

/// Files that were taken back, and when.
///
/// # Errors
/// When the database does not answer.
pub fn undone(connection: &mut PgConnection) -> Result<Vec<(i32, Timestamp)>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Integer)]
        file_id: i32,
        #[diesel(sql_type = Timestamptz)]
        undone_at: Timestamp,
    }
    let rows: Vec<Row> =
        sql_query("SELECT file_id, undone_at FROM report_files WHERE undone_at IS NOT NULL")
            .load(connection)?;
    Ok(rows
        .into_iter()
        .map(|row| (row.file_id, row.undone_at))
        .collect())
}

/// Campaigns' days of which some row is from certain files, or from nobody knows where.
#[derive(Clone, Copy, Debug)]
pub struct Days<'a> {
    /// How ids of the campaigns begin, in ASCII; empty: of any.
    pub prefix: &'a str,
    /// None: from the first there is.
    pub first_day: Option<NaiveDate>,
    pub last_day: Option<NaiveDate>,
    pub files: &'a [i32],
}

/// The next of such days, in the order of campaign and day: those after `after`.
///
/// # Errors
/// When the database does not answer.
pub fn days(
    connection: &mut PgConnection,
    of: Days<'_>,
    after: Option<&(String, NaiveDate)>,
    limit: i64,
) -> Result<Vec<(String, NaiveDate)>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        campaign_id: String,
        #[diesel(sql_type = Date)]
        day: NaiveDate,
    }
    // No id of a campaign is a prefix alone, so that any day is before all.
    let (campaign, day) = after.map_or((of.prefix, NaiveDate::default()), |(campaign, day)| {
        (campaign.as_str(), *day)
    });
    let rows: Vec<Row> = sql_query(
        "SELECT DISTINCT campaign_id, day FROM report_rows
         WHERE (campaign_id, day) > ($1, $2) AND campaign_id < $3 AND ($4 IS NULL OR day >= $4)
             AND ($5 IS NULL OR day <= $5) AND (file_id = ANY ($6) OR file_id IS NULL)
         ORDER BY campaign_id, day LIMIT $7",
    )
    .bind::<Text, _>(campaign)
    .bind::<Date, _>(day)
    .bind::<Text, _>(format!("{}\u{7f}", of.prefix))
    .bind::<Nullable<Date>, _>(of.first_day)
    .bind::<Nullable<Date>, _>(of.last_day)
    .bind::<Array<Integer>, _>(of.files)
    .bind::<BigInt, _>(limit)
    .load(connection)?;
    Ok(rows
        .into_iter()
        .map(|row| (row.campaign_id, row.day))
        .collect())
}

/// When the platform was last asked of which a file is known; none if no row that counts is from it.
///
/// # Errors
/// When the database does not answer.
pub fn newest_of(
    connection: &mut PgConnection,
    file_id: i32,
) -> Result<Option<Timestamp>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Nullable<Timestamptz>)]
        newest: Option<Timestamp>,
    }
    let row: Row = sql_query(
        "SELECT max(GREATEST(observed_at, confirmed_at[cardinality(confirmed_at)])) AS newest
         FROM report_rows WHERE file_id = $1",
    )
    .bind::<Integer, _>(file_id)
    .get_result(connection)?;
    Ok(row.newest)
}

//! What was imported, as `adflux import` notes it before it sends: which file, as what the platform said when, and the file
//! itself.
//!
//! A file is named by its SHA-256. Its content is all there, or not at all: all pieces are written in one transaction, which
//! holds the file's row, so that two who import it at once write it once.

use std::time::Duration;

use chrono::NaiveDate;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{
    Array, BigInt, Binary, Bool, Date, Double, Integer, Nullable, SmallInt, Text, Timestamptz,
};
use serde::Serialize;

use crate::event::{Count, Platform};
use crate::store::StoreError;
use crate::time::Timestamp;

/// What a file was imported as.
#[derive(Clone, Debug)]
pub struct Import {
    /// When the platform was asked.
    pub observed_at: Timestamp,
    pub name: String,
    /// What it was recognised as.
    pub shape: String,
    pub platform: Platform,
    pub accounts: Vec<String>,
    pub rows: Count,
    pub first_day: Option<NaiveDate>,
    pub last_day: Option<NaiveDate>,
    /// How it was to be read and sent: a JSON object.
    pub options: String,
}

/// The short name of a file, which it gets if it has none. By itself, not with what follows: a processor that counts rows of
/// the same file would wait for it.
///
/// # Errors
/// When the database does not answer.
pub fn file_id(connection: &mut PgConnection, sha256: &[u8; 32]) -> Result<i32, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Integer)]
        file_id: i32,
    }
    sql_query("INSERT INTO report_files (sha256) VALUES ($1) ON CONFLICT DO NOTHING")
        .bind::<Binary, _>(sha256.as_slice())
        .execute(connection)?;
    let row: Row = sql_query("SELECT file_id FROM report_files WHERE sha256 = $1")
        .bind::<Binary, _>(sha256.as_slice())
        .get_result(connection)?;
    Ok(row.file_id)
}

/// Holds a file's row until the transaction ends, and says whether its content is kept.
///
/// # Errors
/// When the database does not answer.
pub fn hold(connection: &mut PgConnection, file_id: i32) -> Result<bool, StoreError> {
    sql_query("SELECT FROM report_files WHERE file_id = $1 FOR NO KEY UPDATE")
        .bind::<Integer, _>(file_id)
        .execute(connection)?;
    // Asked only now: of what others have written meanwhile, the statement before knows nothing.
    is_kept(connection, file_id)
}

/// Whether a file's content is kept.
///
/// # Errors
/// When the database does not answer.
pub fn is_kept(connection: &mut PgConnection, file_id: i32) -> Result<bool, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Bool)]
        kept: bool,
    }
    let row: Row =
        sql_query("SELECT EXISTS (SELECT FROM report_file_chunks WHERE file_id = $1) AS kept")
            .bind::<Integer, _>(file_id)
            .get_result(connection)?;
    Ok(row.kept)
}

/// Keeps the next piece of a file.
///
/// # Errors
/// When the database does not answer.
pub fn add_chunk(
    connection: &mut PgConnection,
    file_id: i32,
    n: i32,
    bytes: &[u8],
) -> Result<(), StoreError> {
    sql_query("INSERT INTO report_file_chunks (file_id, n, bytes) VALUES ($1, $2, $3)")
        .bind::<Integer, _>(file_id)
        .bind::<Integer, _>(n)
        .bind::<Binary, _>(bytes)
        .execute(connection)?;
    Ok(())
}

/// A piece of a file; none behind the last.
///
/// # Errors
/// When the database does not answer.
pub fn chunk(
    connection: &mut PgConnection,
    file_id: i32,
    n: i32,
) -> Result<Option<Vec<u8>>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Binary)]
        bytes: Vec<u8>,
    }
    let row: Option<Row> =
        sql_query("SELECT bytes FROM report_file_chunks WHERE file_id = $1 AND n = $2")
            .bind::<Integer, _>(file_id)
            .bind::<Integer, _>(n)
            .get_result(connection)
            .optional()?;
    Ok(row.map(|row| row.bytes))
}

/// Notes that a file, so many bytes long, is imported.
///
/// # Errors
/// When the database does not answer.
pub fn note(
    connection: &mut PgConnection,
    file_id: i32,
    size: Count,
    import: &Import,
) -> Result<(), StoreError> {
    sql_query("UPDATE report_files SET size = $2 WHERE file_id = $1 AND size IS DISTINCT FROM $2")
        .bind::<Integer, _>(file_id)
        .bind::<BigInt, _>(size)
        .execute(connection)?;
    sql_query(
        "INSERT INTO report_imports
             (file_id, observed_at, imported_at, name, shape, platform, accounts, rows, first_day, last_day, options)
         VALUES ($1, $2, clock_timestamp(), $3, $4, $5, $6, $7, $8, $9, $10::jsonb)
         ON CONFLICT (file_id, observed_at) DO UPDATE SET imported_at = EXCLUDED.imported_at, name = EXCLUDED.name,
             shape = EXCLUDED.shape, platform = EXCLUDED.platform, accounts = EXCLUDED.accounts, rows = EXCLUDED.rows,
             first_day = EXCLUDED.first_day, last_day = EXCLUDED.last_day, options = EXCLUDED.options",
    )
    .bind::<Integer, _>(file_id)
    .bind::<Timestamptz, _>(import.observed_at)
    .bind::<Text, _>(&import.name)
    .bind::<Text, _>(&import.shape)
    .bind::<SmallInt, _>(i16::from(import.platform.index()))
    .bind::<Array<Text>, _>(&import.accounts)
    .bind::<BigInt, _>(import.rows)
    .bind::<Nullable<Date>, _>(import.first_day)
    .bind::<Nullable<Date>, _>(import.last_day)
    .bind::<Text, _>(&import.options)
    .execute(connection)?;
    Ok(())
}

/// Notes that what a file said up to an instant does not count.
///
/// # Errors
/// When the database does not answer.
pub fn take_back(
    connection: &mut PgConnection,
    file_id: i32,
    undone_at: Timestamp,
) -> Result<(), StoreError> {
    sql_query("UPDATE report_files SET undone_at = $2 WHERE file_id = $1")
        .bind::<Integer, _>(file_id)
        .bind::<Timestamptz, _>(undone_at)
        .execute(connection)?;
    Ok(())
}

/// Contents of files, as they are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, QueryableByName, Serialize)]
pub struct Contents {
    #[diesel(sql_type = BigInt)]
    pub files: Count,
    /// Compressed.
    #[diesel(sql_type = BigInt)]
    pub bytes: Count,
}

/// Files whose content is kept and that were last imported at least `$1` seconds ago. One of which no import is noted stays.
const OLD: &str = "SELECT file_id FROM report_imports \
     WHERE EXISTS (SELECT FROM report_file_chunks AS c WHERE c.file_id = report_imports.file_id) \
     GROUP BY file_id HAVING max(imported_at) <= clock_timestamp() - make_interval(secs => $1)";

/// What was there before any file was made.
const LONGEST: f64 = 1e10;

/// The contents of files that were last imported so long ago.
///
/// # Errors
/// When the database does not answer.
pub fn contents_older_than(
    connection: &mut PgConnection,
    age: Duration,
) -> Result<Contents, StoreError> {
    Ok(sql_query(format!(
        "SELECT count(DISTINCT c.file_id) AS files, COALESCE(sum(length(c.bytes)), 0)::bigint AS bytes
         FROM report_file_chunks AS c WHERE c.file_id IN ({OLD})"
    ))
    .bind::<Double, _>(age.as_secs_f64().min(LONGEST))
    .get_result(connection)?)
}

/// Removes them, and notes it of each file. A file that is imported again is kept again.
///
/// # Errors
/// When the database does not answer.
pub fn drop_contents_older_than(
    connection: &mut PgConnection,
    age: Duration,
) -> Result<Contents, StoreError> {
    Ok(sql_query(format!(
        "WITH old AS (
             UPDATE report_files SET content_dropped_at = clock_timestamp() WHERE file_id IN ({OLD}) RETURNING file_id),
         gone AS (
             DELETE FROM report_file_chunks AS c USING old WHERE c.file_id = old.file_id
             RETURNING c.file_id, length(c.bytes) AS bytes)
         SELECT count(DISTINCT file_id) AS files, COALESCE(sum(bytes), 0)::bigint AS bytes FROM gone"
    ))
    .bind::<Double, _>(age.as_secs_f64().min(LONGEST))
    .get_result(connection)?)
}

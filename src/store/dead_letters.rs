//! Records that could not be counted, whole, with the reason.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Binary, Integer, Nullable, Text, Timestamptz};
use serde::Serialize;

use super::StoreError;
use super::batch::Share;
use super::columns::{Bigints, pg_timestamp};

/// The years 1 to 9999. A producer can claim any time for a record, PostgreSQL and chrono do not hold
/// them all, and a dead letter must neither abort its batch nor spoil the list it is in.
const RECORD_TIMES: std::ops::RangeInclusive<i64> =
    -62_135_596_800_000_000..=253_402_300_799_999_999;

pub(super) fn insert(
    connection: &mut PgConnection,
    share: &Share,
    commit_id: i64,
) -> Result<(), StoreError> {
    if share.dead.is_empty() {
        return Ok(());
    }
    let offsets: Vec<i64> = share.dead.iter().map(|d| d.record.offset).collect();
    let reasons: Vec<&str> = share.dead.iter().map(|d| d.reason.as_str()).collect();
    let times: Vec<_> = share
        .dead
        .iter()
        .map(|d| {
            let possible = d.record.record_time.filter(|t| RECORD_TIMES.contains(t));
            possible.map(pg_timestamp)
        })
        .collect();
    let keys: Vec<_> = share.dead.iter().map(|d| d.record.key.as_deref()).collect();
    let payloads: Vec<_> = share
        .dead
        .iter()
        .map(|d| d.record.payload.as_deref())
        .collect();
    let headers: Vec<String> = share
        .dead
        .iter()
        .map(|d| headers_json(&d.record.headers))
        .collect();
    sql_query(
        "INSERT INTO dead_letters (stream_id, \"offset\", reason, record_time, key, payload, headers, commit_id) \
         SELECT $1, d.position, d.reason, d.record_time, d.key, d.payload, d.headers::jsonb, $2 \
         FROM unnest($3, $4, $5, $6, $7, $8) AS d (position, reason, record_time, key, payload, headers)",
    )
    .bind::<Integer, _>(share.stream.0)
    .bind::<BigInt, _>(commit_id)
    .bind::<Array<BigInt>, _>(Bigints(&offsets))
    .bind::<Array<Text>, _>(reasons)
    .bind::<Array<Nullable<Timestamptz>>, _>(times)
    .bind::<Array<Nullable<Binary>>, _>(keys)
    .bind::<Array<Nullable<Binary>>, _>(payloads)
    .bind::<Array<Text>, _>(headers)
    .execute(connection)?;
    Ok(())
}

fn headers_json(headers: &[(String, Option<Vec<u8>>)]) -> String {
    let headers: Vec<_> = headers
        .iter()
        .map(|(key, value)| {
            serde_json::json!({
                // jsonb cannot hold a NUL.
                "key": key.replace('\0', "\u{fffd}"),
                "value": value.as_deref().map(hex),
            })
        })
        .collect();
    serde_json::Value::Array(headers).to_string()
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut out, b| {
            // Writing to a String cannot fail.
            let _ = write!(out, "{b:02x}");
            out
        })
}

/// One dead letter, as a person sees it.
#[derive(Debug, QueryableByName, Serialize)]
pub struct Row {
    #[diesel(sql_type = Text)]
    pub topic: String,
    #[diesel(sql_type = Integer)]
    pub partition: i32,
    #[diesel(sql_type = BigInt)]
    pub offset: i64,
    #[diesel(sql_type = Text)]
    pub reason: String,
    #[diesel(sql_type = Timestamptz)]
    pub created_at: chrono::DateTime<chrono::Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub record_time: Option<chrono::DateTime<chrono::Utc>>,
    #[diesel(sql_type = Nullable<Binary>)]
    pub key: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Binary>)]
    pub payload: Option<Vec<u8>>,
    #[diesel(sql_type = Text)]
    pub headers: String,
}

const ROW: &str = "SELECT s.topic, s.partition, d.\"offset\", d.reason, d.created_at, d.record_time, d.key, d.payload, \
     d.headers::text AS headers \
     FROM dead_letters AS d JOIN stream_positions AS s USING (stream_id)";

/// The newest dead letters, newest first; of one reason if it is given.
///
/// # Errors
/// When the database does not answer.
pub fn list(
    connection: &mut PgConnection,
    reason: Option<&str>,
    limit: i64,
) -> Result<Vec<Row>, StoreError> {
    Ok(sql_query(format!(
        "{ROW} WHERE $1 IS NULL OR d.reason = $1 ORDER BY d.created_at DESC, s.partition, d.\"offset\" DESC LIMIT $2"
    ))
    .bind::<Nullable<Text>, _>(reason)
    .bind::<BigInt, _>(limit)
    .load(connection)?)
}

/// How many there are of each reason.
///
/// # Errors
/// When the database does not answer.
pub fn count_by_reason(connection: &mut PgConnection) -> Result<Vec<(String, i64)>, StoreError> {
    #[derive(QueryableByName)]
    struct Count {
        #[diesel(sql_type = Text)]
        reason: String,
        #[diesel(sql_type = BigInt)]
        letters: i64,
    }
    let rows: Vec<Count> =
        sql_query("SELECT reason, count(*) AS letters FROM dead_letters GROUP BY reason ORDER BY letters DESC, reason")
            .load(connection)?;
    Ok(rows.into_iter().map(|r| (r.reason, r.letters)).collect())
}

/// The dead letters at one place of a topic (one for each cluster that has had the topic).
///
/// # Errors
/// When the database does not answer.
pub fn at(
    connection: &mut PgConnection,
    topic: &str,
    partition: i32,
    offset: i64,
) -> Result<Vec<Row>, StoreError> {
    Ok(sql_query(format!(
        "{ROW} WHERE s.topic = $1 AND s.partition = $2 AND d.\"offset\" = $3"
    ))
    .bind::<Text, _>(topic)
    .bind::<Integer, _>(partition)
    .bind::<BigInt, _>(offset)
    .load(connection)?)
}

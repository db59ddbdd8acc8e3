//! Records that could not be counted, whole, with the reason.

use data_encoding::HEXLOWER;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Binary, Integer, Nullable, Text, Timestamptz};

use super::batch::Share;
use crate::store::StoreError;
use crate::store::columns::{Bigints, pg_timestamp};

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
        r#"INSERT INTO dead_letters (stream_id, "offset", reason, record_time, key, payload, headers, commit_id)
         SELECT $1, d.position, d.reason, d.record_time, d.key, d.payload, d.headers::jsonb, $2
         FROM unnest($3, $4, $5, $6, $7, $8) AS d (position, reason, record_time, key, payload, headers)"#,
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
                "value": value.as_deref().map(|value| HEXLOWER.encode(value)),
            })
        })
        .collect();
    serde_json::Value::Array(headers).to_string()
}

//! Records that could not be counted, whole, with the reason.

use std::collections::HashMap;

use data_encoding::HEXLOWER;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Binary, Integer, Nullable, Text, Timestamptz};

use super::batch::Filled;
use super::settled::Settled;
use crate::event::Reason;
use crate::offset::Offset;
use crate::store::columns::Bigints;
use crate::store::{CommitId, StoreError};
use crate::time::Timestamp;

/// The years 1 to 9999. A producer can claim any time for a record, PostgreSQL and chrono do not hold
/// them all, and a dead letter must neither abort its batch nor spoil the list it is in.
const RECORD_TIMES: std::ops::RangeInclusive<Timestamp> =
    Timestamp::new(-62_135_596_800_000_000)..=Timestamp::LAST_WRITTEN;

pub(super) fn insert(
    connection: &mut PgConnection,
    share: &Settled<'_>,
    commit_id: CommitId,
) -> Result<(), StoreError> {
    if share.dead.is_empty() {
        return Ok(());
    }
    let reasons: Vec<&str> = share
        .dead
        .iter()
        .map(|(reason, _)| reason.as_str())
        .collect();
    let records = || share.dead.iter().map(|(_, record)| *record);
    let offsets: Vec<Offset> = records().map(|r| r.offset).collect();
    let times: Vec<_> = records()
        .map(|r| r.record_time.filter(|t| RECORD_TIMES.contains(t)))
        .collect();
    let keys: Vec<_> = records().map(|r| r.key.as_deref()).collect();
    let payloads: Vec<_> = records().map(|r| r.payload.as_deref()).collect();
    let headers: Vec<String> = records().map(|r| headers_json(&r.headers)).collect();
    sql_query(
        r#"INSERT INTO dead_letters (stream_id, "offset", reason, record_time, key, payload, headers, commit_id)
         SELECT $1, d.position, d.reason, d.record_time, d.key, d.payload, d.headers::jsonb, $2
         FROM unnest($3, $4, $5, $6, $7, $8) AS d (position, reason, record_time, key, payload, headers)"#,
    )
    .bind::<Integer, _>(share.share.stream.0)
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

/// Why the records of a share that was written are dead letters, by offset.
pub(super) fn reasons(
    connection: &mut PgConnection,
    share: &Filled,
) -> Result<HashMap<Offset, Reason>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        offset: Offset,
        #[diesel(sql_type = Text)]
        reason: String,
    }
    let rows: Vec<Row> = sql_query(
        r#"SELECT "offset", reason FROM dead_letters WHERE stream_id = $1 AND "offset" >= $2 AND "offset" < $3"#,
    )
    .bind::<Integer, _>(share.stream.0)
    .bind::<BigInt, _>(share.fence.next_offset)
    .bind::<BigInt, _>(share.next_offset)
    .load(connection)?;
    let known = |row: Row| {
        let reason = Reason::ALL.iter().find(|r| r.as_str() == row.reason)?;
        Some((row.offset, *reason))
    };
    Ok(rows.into_iter().filter_map(known).collect())
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

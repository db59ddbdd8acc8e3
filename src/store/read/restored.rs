//! What a database that was restored says of its history: how far it goes, and of what more may have happened since.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Integer, Nullable, Text, Timestamptz};

use crate::event::Count;
use crate::offset::Offset;
use crate::store::StoreError;
use crate::time::Timestamp;

/// Where a partition of a log was left.
#[derive(Debug, QueryableByName)]
pub struct Left {
    #[diesel(sql_type = Text)]
    pub cluster_id: String,
    #[diesel(sql_type = Text)]
    pub topic: String,
    #[diesel(sql_type = Integer)]
    pub partition: i32,
    #[diesel(sql_type = BigInt)]
    pub next_offset: Offset,
    /// The last record that was counted, and its timestamp in Kafka.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub last_record_offset: Option<Offset>,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub last_record_time: Option<Timestamp>,
}

/// Where every partition of every log was left.
///
/// # Errors
/// When the database does not answer.
pub fn left(connection: &mut PgConnection) -> Result<Vec<Left>, StoreError> {
    Ok(sql_query(
        "SELECT cluster_id, topic, partition, next_offset, last_record_offset, last_record_time
         FROM stream_positions ORDER BY cluster_id, topic, partition",
    )
    .load(connection)?)
}

/// What may have gone on since.
#[derive(Debug, QueryableByName)]
pub struct Since {
    /// When the last commit was made that is there.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub last_commit: Option<DateTime<Utc>>,
    /// API keys that are good.
    #[diesel(sql_type = BigInt)]
    pub keys: Count,
    /// Dead letters that are not known to have been sent back.
    #[diesel(sql_type = BigInt)]
    pub letters: Count,
    /// Webhooks that are told of alerts.
    #[diesel(sql_type = BigInt)]
    pub webhooks: Count,
}

/// See [`Since`].
///
/// # Errors
/// When the database does not answer, or the role may not read keys.
pub fn since(connection: &mut PgConnection) -> Result<Since, StoreError> {
    Ok(sql_query(
        "SELECT (SELECT max(committed_at) FROM stream_positions) AS last_commit,
             (SELECT count(*) FROM api_keys
              WHERE revoked_at IS NULL AND COALESCE(expires_at > clock_timestamp(), true)) AS keys,
             (SELECT count(*) FROM dead_letters WHERE redriven_at IS NULL) AS letters,
             (SELECT count(*) FROM alert_webhooks) AS webhooks",
    )
    .get_result(connection)?)
}

/// A sequence that would give numbers that are taken.
#[derive(Debug, QueryableByName)]
pub struct Behind {
    #[diesel(sql_type = Text)]
    pub sequence: String,
    /// The largest number that is taken.
    #[diesel(sql_type = BigInt)]
    pub taken: i64,
}

/// The sequences that are behind their tables: what copies tables alone, such as logical replication, leaves them where they were.
///
/// # Errors
/// When the database does not answer.
pub fn sequences_behind(connection: &mut PgConnection) -> Result<Vec<Behind>, StoreError> {
    Ok(sql_query(
        "SELECT sequence, taken FROM (
             SELECT 'public.commit_ids' AS sequence, (SELECT max(commit_id) FROM stream_positions) AS taken
             UNION ALL SELECT 'public.alert_transition_ids', (SELECT max(transition_id) FROM alerts)
             UNION ALL SELECT pg_get_serial_sequence('stream_positions', 'stream_id'),
                 (SELECT max(stream_id) FROM stream_positions)
             UNION ALL SELECT pg_get_serial_sequence('report_definitions', 'definition_id'),
                 (SELECT max(definition_id) FROM report_definitions)
             UNION ALL SELECT pg_get_serial_sequence('report_files', 'file_id'), (SELECT max(file_id) FROM report_files)
             UNION ALL SELECT pg_get_serial_sequence('rate_files', 'file_id'), (SELECT max(file_id) FROM rate_files)
         ) AS s
         WHERE taken > COALESCE(pg_sequence_last_value(sequence::regclass), 0)",
    )
    .load(connection)?)
}

//! API keys as they are kept: by their public id, as hashes.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Bytea, Nullable, Text, Timestamptz};

use crate::store::StoreError;

/// A key as it is kept.
#[derive(Clone, Debug, QueryableByName)]
pub struct Row {
    #[diesel(sql_type = Text)]
    pub key_id: String,
    #[diesel(sql_type = Text)]
    pub name: String,
    #[diesel(sql_type = Array<Text>)]
    pub scopes: Vec<String>,
    #[diesel(sql_type = Bytea)]
    pub key_hash: Vec<u8>,
    #[diesel(sql_type = Nullable<Bytea>)]
    pub previous_hash: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub previous_until: Option<DateTime<Utc>>,
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub rotated_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub expires_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub revoked_at: Option<DateTime<Utc>>,
}

/// Keeps a new key.
///
/// # Errors
/// When the database does not answer.
pub fn insert(
    connection: &mut PgConnection,
    key_id: &str,
    name: &str,
    scopes: &[&str],
    key_hash: &[u8],
    expires_at: Option<DateTime<Utc>>,
) -> Result<(), StoreError> {
    sql_query("INSERT INTO api_keys (key_id, name, scopes, key_hash, expires_at) VALUES ($1, $2, $3, $4, $5)")
        .bind::<Text, _>(key_id)
        .bind::<Text, _>(name)
        .bind::<Array<Text>, _>(scopes)
        .bind::<Bytea, _>(key_hash)
        .bind::<Nullable<Timestamptz>, _>(expires_at)
        .execute(connection)?;
    Ok(())
}

/// All keys, the newest first.
///
/// # Errors
/// When the database does not answer.
pub fn list(connection: &mut PgConnection) -> Result<Vec<Row>, StoreError> {
    Ok(sql_query(
        "SELECT key_id, name, scopes, key_hash, previous_hash, previous_until, created_at, rotated_at, expires_at,
             revoked_at
         FROM api_keys ORDER BY created_at DESC, key_id",
    )
    .load(connection)?)
}

/// One key; none if there is none of this id.
///
/// # Errors
/// When the database does not answer.
pub fn find(connection: &mut PgConnection, key_id: &str) -> Result<Option<Row>, StoreError> {
    Ok(sql_query(
        "SELECT key_id, name, scopes, key_hash, previous_hash, previous_until, created_at, rotated_at, expires_at,
             revoked_at
         FROM api_keys WHERE key_id = $1",
    )
        .bind::<Text, _>(key_id)
        .get_result(connection)
        .optional()?)
}

/// Replaces a key that is good by another, and leaves the old one good for so many seconds. `false`
/// if there is none of this id, or it was revoked.
///
/// # Errors
/// When the database does not answer.
pub fn rotate(
    connection: &mut PgConnection,
    key_id: &str,
    key_hash: &[u8],
    grace_seconds: i64,
) -> Result<bool, StoreError> {
    let rotated = sql_query(
        "UPDATE api_keys SET previous_hash = key_hash,
             previous_until = clock_timestamp() + interval '1 second' * $3,
             key_hash = $2, rotated_at = clock_timestamp()
         WHERE key_id = $1 AND revoked_at IS NULL",
    )
    .bind::<Text, _>(key_id)
    .bind::<Bytea, _>(key_hash)
    .bind::<BigInt, _>(grace_seconds)
    .execute(connection)?;
    Ok(rotated == 1)
}

/// Makes a key good for nothing. `false` if there is none of this id; revoking twice changes nothing.
///
/// # Errors
/// When the database does not answer.
pub fn revoke(connection: &mut PgConnection, key_id: &str) -> Result<bool, StoreError> {
    let revoked = sql_query(
        "UPDATE api_keys SET revoked_at = COALESCE(revoked_at, clock_timestamp()) WHERE key_id = $1",
    )
    .bind::<Text, _>(key_id)
    .execute(connection)?;
    Ok(revoked == 1)
}

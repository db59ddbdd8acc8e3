//! Partitions that stand still because the database is not as it must be: written by the processor that
//! tried, read by whoever wants to know why.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, Integer, Text, Timestamptz};

use super::StoreError;

/// A partition that is not counted, and why.
#[derive(Clone, Debug, QueryableByName)]
pub struct Standstill {
    #[diesel(sql_type = Text)]
    pub topic: String,
    #[diesel(sql_type = Integer)]
    pub partition: i32,
    #[diesel(sql_type = Timestamptz)]
    pub since: chrono::DateTime<chrono::Utc>,
    /// The process that tried.
    #[diesel(sql_type = Text)]
    pub owner: String,
    /// The constraint that failed, or what else is wrong.
    #[diesel(sql_type = Text)]
    pub cause: String,
    #[diesel(sql_type = Text)]
    pub message: String,
}

/// Notes that these partitions of a topic stand still because of an error.
///
/// # Errors
/// When the database does not take it.
pub fn begin(
    connection: &mut PgConnection,
    (cluster_id, topic): (&str, &str),
    partitions: &[i32],
    owner: &str,
    error: &StoreError,
) -> Result<(), StoreError> {
    sql_query(
        "INSERT INTO standstills (cluster_id, topic, partition, owner, cause, message) \
         SELECT $1, $2, p, $4, $5, $6 FROM unnest($3) AS p \
         ON CONFLICT ON CONSTRAINT standstills_pkey \
         DO UPDATE SET owner = EXCLUDED.owner, cause = EXCLUDED.cause, message = EXCLUDED.message",
    )
    .bind::<Text, _>(cluster_id)
    .bind::<Text, _>(topic)
    .bind::<Array<Integer>, _>(partitions)
    .bind::<Text, _>(owner)
    .bind::<Text, _>(error.cause())
    .bind::<Text, _>(error.to_string())
    .execute(connection)?;
    Ok(())
}

/// Notes that these partitions of a topic stand still no more.
///
/// # Errors
/// When the database does not take it.
pub fn end(
    connection: &mut PgConnection,
    (cluster_id, topic): (&str, &str),
    partitions: &[i32],
) -> Result<(), StoreError> {
    sql_query(
        "DELETE FROM standstills WHERE cluster_id = $1 AND topic = $2 AND partition = ANY($3)",
    )
    .bind::<Text, _>(cluster_id)
    .bind::<Text, _>(topic)
    .bind::<Array<Integer>, _>(partitions)
    .execute(connection)?;
    Ok(())
}

/// All of them, of whatever topic.
///
/// # Errors
/// When the database does not answer.
pub fn list(connection: &mut PgConnection) -> Result<Vec<Standstill>, StoreError> {
    Ok(sql_query(
        "SELECT topic, partition, since, owner, cause, message FROM standstills ORDER BY topic, partition",
    )
    .load(connection)?)
}

//! What each partition is doing: reported by the processor that has it, read by whoever asks from another process.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Bool, Double, Integer, Nullable, Text, Timestamptz};

use super::StoreError;
use crate::offset::Offset;
use crate::progress::{STANDSTILL, Standing};

/// A report that is older than this, in seconds, is nobody's any more.
const FORGOTTEN_AFTER: f64 = 30.0;

/// The cause of a partition of which nobody reports any more.
pub const NOBODY: &str = "processor";

/// What a partition is doing, as it was last reported.
#[derive(Clone, Debug, QueryableByName)]
pub struct Reported {
    #[diesel(sql_type = Text)]
    pub cluster_id: String,
    #[diesel(sql_type = Text)]
    pub topic: String,
    #[diesel(sql_type = Integer)]
    pub partition: i32,
    /// As [`State::as_str`](crate::progress::State::as_str) has it.
    #[diesel(sql_type = Text)]
    pub state: String,
    #[diesel(sql_type = Timestamptz)]
    pub since: DateTime<Utc>,
    /// What is in the way, in a word and in full.
    #[diesel(sql_type = Nullable<Text>)]
    pub cause: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub message: Option<String>,
    /// Whether it stands still: it is not counted, and that is not about to pass.
    #[diesel(sql_type = Bool)]
    pub is_still: bool,
    /// Where the log ended then.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub log_end: Option<Offset>,
    /// The process that reported it.
    #[diesel(sql_type = Text)]
    pub owner: String,
    /// When.
    #[diesel(sql_type = Timestamptz)]
    pub seen_at: DateTime<Utc>,
}

/// Reports what partitions of a topic are doing. `only_forgotten`: those of which nobody has said anything lately.
///
/// # Errors
/// When the database does not take it.
pub fn report(
    connection: &mut PgConnection,
    (cluster_id, topic): (&str, &str),
    owner: &str,
    standings: &[Standing],
    only_forgotten: bool,
) -> Result<(), StoreError> {
    let column = |of: fn(&Standing) -> Option<String>| -> Vec<Option<String>> {
        standings.iter().map(of).collect()
    };
    let partitions: Vec<i32> = standings.iter().map(|s| s.partition).collect();
    let states: Vec<&str> = standings.iter().map(|s| s.state.as_str()).collect();
    let ages: Vec<f64> = standings.iter().map(|s| s.lasted.as_secs_f64()).collect();
    let ends: Vec<Option<i64>> = standings.iter().map(|s| s.end.map(Offset::get)).collect();
    sql_query(
        "INSERT INTO partition_states (cluster_id, topic, owner, partition, state, since, cause, message, is_still, log_end, seen_at)
         SELECT $1, $2, $3, r.partition, r.state, clock_timestamp() - r.age * interval '1 second',
             r.cause, r.message, r.is_still, r.log_end, clock_timestamp()
         FROM unnest($4, $5, $6, $7, $8, $9, $12) AS r (partition, state, age, cause, message, log_end, is_still)
         ORDER BY r.partition
         ON CONFLICT ON CONSTRAINT partition_states_pkey DO UPDATE
         SET owner = EXCLUDED.owner, state = EXCLUDED.state, since = EXCLUDED.since, cause = EXCLUDED.cause,
             message = EXCLUDED.message, is_still = EXCLUDED.is_still, log_end = EXCLUDED.log_end, seen_at = EXCLUDED.seen_at
         WHERE NOT $10 OR partition_states.seen_at < clock_timestamp() - $11 * interval '1 second'",
    )
    .bind::<Text, _>(cluster_id)
    .bind::<Text, _>(topic)
    .bind::<Text, _>(owner)
    .bind::<Array<Integer>, _>(partitions)
    .bind::<Array<Text>, _>(states)
    .bind::<Array<Double>, _>(ages)
    .bind::<Array<Nullable<Text>>, _>(column(|s| Some(s.cause.as_ref()?.word.clone())))
    .bind::<Array<Nullable<Text>>, _>(column(|s| Some(s.cause.as_ref()?.message.clone())))
    .bind::<Array<Nullable<BigInt>>, _>(ends)
    .bind::<Bool, _>(only_forgotten)
    .bind::<Double, _>(FORGOTTEN_AFTER)
    .bind::<Array<Bool>, _>(standings.iter().map(|s| s.is_still).collect::<Vec<_>>())
    .execute(connection)?;
    Ok(())
}

/// Takes back what a process has reported and is no more so, since it ends: what has stopped stays reported.
///
/// # Errors
/// When the database does not take it.
pub fn take_back(
    connection: &mut PgConnection,
    (cluster_id, topic): (&str, &str),
    owner: &str,
) -> Result<(), StoreError> {
    sql_query(
        "DELETE FROM partition_states WHERE cluster_id = $1 AND topic = $2 AND owner = $3 AND state <> 'stopped'",
    )
    .bind::<Text, _>(cluster_id)
    .bind::<Text, _>(topic)
    .bind::<Text, _>(owner)
    .execute(connection)?;
    Ok(())
}

/// What every partition is doing, of whatever topic. Of one whose processor reports no more, it is said that it waits
/// for one, unless it had stopped: then why it did is more to the point.
///
/// # Errors
/// When the database does not answer.
pub fn list(connection: &mut PgConnection) -> Result<Vec<Reported>, StoreError> {
    Ok(sql_query(
        "SELECT cluster_id, topic, partition, owner, log_end, seen_at,
             CASE WHEN forgotten THEN 'waiting' ELSE state END AS state,
             is_still OR forgotten AND seen_at < clock_timestamp() - $2 * interval '1 second' AS is_still,
             CASE WHEN forgotten THEN seen_at ELSE since END AS since,
             CASE WHEN forgotten THEN $3 ELSE cause END AS cause,
             CASE WHEN forgotten THEN 'no processor has reported on it since ' || owner || ' did' ELSE message END AS message
         FROM (SELECT *, state <> 'stopped' AND seen_at < clock_timestamp() - $1 * interval '1 second' AS forgotten
             FROM partition_states) AS s
         ORDER BY cluster_id, topic, partition",
    )
    .bind::<Double, _>(FORGOTTEN_AFTER)
    .bind::<Double, _>(STANDSTILL.as_secs_f64())
    .bind::<Text, _>(NOBODY)
    .load(connection)?)
}

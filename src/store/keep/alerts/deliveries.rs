//! What webhooks are to be told: an outbox, written with the transition it tells of.
//!
//! An attempt is taken by moving its next one on, so that nobody else makes it meanwhile and one
//! that dies with its process is made again. Of one alert a webhook hears in order.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Bool, Double, Integer, Text, Uuid as SqlUuid};
use uuid::Uuid;

use crate::store::StoreError;

/// Something to be delivered.
#[derive(Clone, Debug)]
pub struct New {
    pub alert_id: Uuid,
    /// `alert.opened` or `alert.resolved`.
    pub event: &'static str,
    pub webhook: String,
    pub delivery_id: Uuid,
    pub body: String,
}

/// An attempt to make.
#[derive(Clone, Debug, QueryableByName)]
pub struct Attempt {
    #[diesel(sql_type = SqlUuid)]
    pub delivery_id: Uuid,
    #[diesel(sql_type = Text)]
    pub event: String,
    #[diesel(sql_type = Text)]
    pub body: String,
    /// This one included.
    #[diesel(sql_type = Integer)]
    pub attempts: i32,
}

/// How long a delivery is tried.
pub const PATIENCE: Duration = Duration::from_secs(24 * 3_600);
/// How long what is finished is kept.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Puts deliveries into the outbox.
///
/// # Errors
/// When the database does not do it.
pub fn insert(connection: &mut PgConnection, new: &[New]) -> Result<(), StoreError> {
    if new.is_empty() {
        return Ok(());
    }
    sql_query(
        "INSERT INTO alert_deliveries (delivery_id, alert_id, event, webhook, body)
         SELECT delivery_id, alert_id, event, webhook, body FROM unnest($1, $2, $3, $4, $5)
             AS f (delivery_id, alert_id, event, webhook, body)",
    )
    .bind::<Array<SqlUuid>, _>(new.iter().map(|n| n.delivery_id).collect::<Vec<_>>())
    .bind::<Array<SqlUuid>, _>(new.iter().map(|n| n.alert_id).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(new.iter().map(|n| n.event).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(new.iter().map(|n| n.webhook.as_str()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(new.iter().map(|n| n.body.as_str()).collect::<Vec<_>>())
    .execute(connection)?;
    Ok(())
}

/// Takes attempts that are due for a webhook; nobody else makes them for so long as `lease`.
///
/// # Errors
/// When the database does not do it.
pub fn take_due(
    connection: &mut PgConnection,
    webhook: &str,
    limit: usize,
    lease: Duration,
) -> Result<Vec<Attempt>, StoreError> {
    // alert_deliveries_due_idx, in its order; what another process is taking is passed over.
    Ok(sql_query(
        "UPDATE alert_deliveries SET attempts = attempts + 1,
             next_attempt_at = clock_timestamp() + interval '1 second' * $3
         WHERE delivery_id IN (
             SELECT d.delivery_id FROM alert_deliveries AS d
             WHERE d.webhook = $1 AND d.finished_at IS NULL AND d.next_attempt_at <= clock_timestamp()
                 AND NOT EXISTS (SELECT 1 FROM alert_deliveries AS first
                     WHERE first.alert_id = d.alert_id AND first.webhook = d.webhook AND first.event = 'alert.opened'
                         AND d.event = 'alert.resolved' AND first.finished_at IS NULL)
             ORDER BY d.next_attempt_at LIMIT $2 FOR UPDATE SKIP LOCKED)
         RETURNING delivery_id, event, body, attempts",
    )
    .bind::<Text, _>(webhook)
    .bind::<BigInt, _>(limit as i64)
    .bind::<Double, _>(lease.as_secs_f64())
    .load(connection)?)
}

/// Notes that an attempt succeeded.
///
/// # Errors
/// When the database does not do it.
pub fn delivered(
    connection: &mut PgConnection,
    delivery_id: Uuid,
    result: &str,
) -> Result<(), StoreError> {
    sql_query(
        "UPDATE alert_deliveries SET delivered = true, finished_at = clock_timestamp(), last_result = $2
         WHERE delivery_id = $1",
    )
    .bind::<SqlUuid, _>(delivery_id)
    .bind::<Text, _>(result)
    .execute(connection)?;
    Ok(())
}

/// Notes that an attempt failed and when the next one is, unless it has been tried for long enough.
/// `true` if it is given up.
///
/// # Errors
/// When the database does not do it.
pub fn failed(
    connection: &mut PgConnection,
    delivery_id: Uuid,
    result: &str,
    pause: Duration,
) -> Result<bool, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Bool)]
        given_up: bool,
    }
    // Another process may have delivered it since, after our lease: that stands.
    let rows: Vec<Row> = sql_query(
        "UPDATE alert_deliveries SET last_result = $2,
             next_attempt_at = clock_timestamp() + interval '1 second' * $3,
             finished_at = CASE WHEN clock_timestamp() + interval '1 second' * $3
                 > created_at + interval '1 second' * $4 THEN clock_timestamp() END
         WHERE delivery_id = $1 AND finished_at IS NULL RETURNING finished_at IS NOT NULL AS given_up",
    )
    .bind::<SqlUuid, _>(delivery_id)
    .bind::<Text, _>(result)
    .bind::<Double, _>(pause.as_secs_f64())
    .bind::<Double, _>(PATIENCE.as_secs_f64())
    .load(connection)?;
    Ok(rows.iter().any(|row| row.given_up))
}

/// Gives up what nobody tries any more, because its webhook is gone, and deletes what was finished
/// long ago.
///
/// # Errors
/// When the database does not do it.
pub fn clean(connection: &mut PgConnection) -> Result<(), StoreError> {
    sql_query(
        "UPDATE alert_deliveries SET finished_at = clock_timestamp(),
             last_result = COALESCE(last_result, 'nobody delivers to this webhook')
         WHERE finished_at IS NULL AND created_at < clock_timestamp() - interval '1 second' * $1
             AND next_attempt_at < clock_timestamp() - interval '1 hour'",
    )
    .bind::<Double, _>(PATIENCE.as_secs_f64())
    .execute(connection)?;
    sql_query(
        "DELETE FROM alert_deliveries WHERE finished_at < clock_timestamp() - interval '1 second' * $1",
    )
    .bind::<Double, _>(KEPT.as_secs_f64())
    .execute(connection)?;
    Ok(())
}

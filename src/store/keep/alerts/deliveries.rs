//! What webhooks are to be told: an outbox, written with the transitions it tells of.
//!
//! Until its first attempt a delivery gathers: what a rule opens, or resolves, at about the same time is one message,
//! and a webhook gets few of them however much happens. An attempt is taken by moving its next one on, so that nobody
//! else makes it meanwhile and one that dies with its process is made again. Of one alert a webhook hears in order.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Bool, Double, Integer, Text, Uuid as SqlUuid};
use uuid::Uuid;

use crate::store::StoreError;

/// Something to be delivered: what happened to alerts of one rule.
#[derive(Clone, Debug)]
pub struct New<'a> {
    pub webhook: &'a str,
    pub rule_name: &'a str,
    /// `alert.opened` or `alert.resolved`.
    pub event: &'static str,
    /// The alerts, as JSON documents.
    pub alerts: Vec<String>,
}

/// An attempt to make.
#[derive(Clone, Debug, QueryableByName)]
pub struct Attempt {
    #[diesel(sql_type = SqlUuid)]
    pub delivery_id: Uuid,
    #[diesel(sql_type = Text)]
    pub event: String,
    #[diesel(sql_type = Text)]
    pub rule_name: String,
    /// JSON documents of the first alerts, and how many alerts there are.
    #[diesel(sql_type = Array<Text>)]
    pub alerts: Vec<String>,
    #[diesel(sql_type = Integer)]
    pub alert_count: i32,
    /// This one included.
    #[diesel(sql_type = Integer)]
    pub attempts: i32,
}

/// How long a delivery is tried.
pub const PATIENCE: Duration = Duration::from_secs(24 * 3_600);
/// How long what is finished is kept.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3_600);

/// The most alerts that a message shows. It says how many there are.
pub const MOST_SHOWN: usize = 100;
/// How long a message waits for others to join it, and the shortest time between two of one kind: of a rule, to a
/// webhook, about what opened or about what resolved.
const GATHERED_FOR: Duration = Duration::from_secs(1);
const BETWEEN: Duration = Duration::from_secs(10);

/// Puts what is to be told into the outbox.
///
/// # Errors
/// When the database does not do it.
pub fn insert(connection: &mut PgConnection, new: &New<'_>) -> Result<(), StoreError> {
    let shown: Vec<&String> = new.alerts.iter().take(MOST_SHOWN).collect();
    // alert_deliveries_rule_idx says when the last one was.
    sql_query(
        "INSERT INTO alert_deliveries AS d (delivery_id, webhook, rule_name, event, alerts, alert_count, next_attempt_at)
         VALUES ($1, $2, $3, $4, $5, $6, GREATEST(clock_timestamp() + interval '1 second' * $7,
             (SELECT max(created_at) FROM alert_deliveries WHERE webhook = $2 AND rule_name = $3 AND event = $4)
                 + interval '1 second' * $8))
         ON CONFLICT (webhook, rule_name, event) WHERE attempts = 0 AND finished_at IS NULL DO UPDATE
         SET alerts = (d.alerts || EXCLUDED.alerts)[:$9], alert_count = d.alert_count + EXCLUDED.alert_count,
             gathered_at = clock_timestamp()",
    )
    .bind::<SqlUuid, _>(Uuid::new_v4())
    .bind::<Text, _>(new.webhook)
    .bind::<Text, _>(new.rule_name)
    .bind::<Text, _>(new.event)
    .bind::<Array<Text>, _>(shown)
    .bind::<Integer, _>(i32::try_from(new.alerts.len()).unwrap_or(i32::MAX))
    .bind::<Double, _>(GATHERED_FOR.as_secs_f64())
    .bind::<Double, _>(BETWEEN.as_secs_f64())
    .bind::<Integer, _>(MOST_SHOWN as i32)
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
    // alert_deliveries_due_idx, in its order; what another process is taking is passed over. What resolved waits for
    // all that the rule opened before.
    Ok(sql_query(
        "UPDATE alert_deliveries SET attempts = attempts + 1,
             next_attempt_at = clock_timestamp() + interval '1 second' * $3
         WHERE delivery_id IN (
             SELECT d.delivery_id FROM alert_deliveries AS d
             WHERE d.webhook = $1 AND d.finished_at IS NULL AND d.next_attempt_at <= clock_timestamp()
                 AND NOT EXISTS (SELECT 1 FROM alert_deliveries AS first
                     WHERE first.webhook = d.webhook AND first.rule_name = d.rule_name AND first.event = 'alert.opened'
                         AND d.event = 'alert.resolved' AND first.created_at <= d.gathered_at
                         AND first.finished_at IS NULL)
             ORDER BY d.next_attempt_at LIMIT $2 FOR UPDATE SKIP LOCKED)
         RETURNING delivery_id, event, rule_name, alerts, alert_count, attempts",
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

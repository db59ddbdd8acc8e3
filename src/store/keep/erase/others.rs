//! Alerts, what webhooks are still to be told of them, and rules that name campaigns.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, SmallInt, Text};

use super::Removed;
use crate::event::Count;
use crate::store::StoreError;

/// Counts the alerts and rules that would be removed.
pub(super) fn count(
    connection: &mut PgConnection,
    names: &[String],
    account: Option<(i16, &str)>,
    removed: &mut Removed,
) -> Result<(), StoreError> {
    #[derive(QueryableByName)]
    struct Counted {
        #[diesel(sql_type = BigInt)]
        alerts: Count,
        #[diesel(sql_type = BigInt)]
        rules: Count,
    }
    let (platform, account) = account.unwrap_or((-1, ""));
    let counted: Counted = sql_query(
        "SELECT (SELECT count(*) FROM alerts WHERE campaign_id = ANY($1) OR (platform = $2 AND account_id = $3)) AS alerts,
             (SELECT count(*) FROM alert_rules WHERE campaigns && $1) AS rules",
    )
    .bind::<Array<Text>, _>(names)
    .bind::<SmallInt, _>(platform)
    .bind::<Text, _>(account)
    .get_result(connection)?;
    removed.alerts = counted.alerts;
    removed.alert_rules = counted.rules;
    Ok(())
}

/// Removes them. A rule that is held against other campaigns too stays, and names those alone; one without campaigns would be
/// held against all.
pub(super) fn remove(
    connection: &mut PgConnection,
    names: &[String],
    account: Option<(i16, &str)>,
    removed: &mut Removed,
) -> Result<(), StoreError> {
    count(connection, names, account, removed)?;
    let (platform, account) = account.unwrap_or((-1, ""));
    let about = |connection: &mut PgConnection, sql: &str| {
        sql_query(sql)
            .bind::<Array<Text>, _>(names)
            .bind::<SmallInt, _>(platform)
            .bind::<Text, _>(account)
            .execute(connection)
    };
    let mut deliveries = about(
        connection,
        "DELETE FROM alert_deliveries AS d WHERE NOT EXISTS (
             SELECT FROM unnest(d.alerts) AS a (document)
             WHERE (a.document::jsonb ->> 'campaign_id' = ANY($1)
                 OR (a.document::jsonb ->> 'platform' = platform_name($2) AND a.document::jsonb ->> 'account_id' = $3)) IS NOT TRUE)",
    )?;
    deliveries += about(
        connection,
        "WITH rest AS (
             SELECT d.delivery_id, array_agg(a.document ORDER BY a.nth) FILTER (WHERE NOT a.is_gone) AS alerts,
                 count(*) FILTER (WHERE a.is_gone)::integer AS gone
             FROM alert_deliveries AS d CROSS JOIN LATERAL (
                 SELECT a.document, a.nth, (a.document::jsonb ->> 'campaign_id' = ANY($1)
                     OR (a.document::jsonb ->> 'platform' = platform_name($2)
                         AND a.document::jsonb ->> 'account_id' = $3)) IS TRUE AS is_gone
                 FROM unnest(d.alerts) WITH ORDINALITY AS a (document, nth)) AS a
             GROUP BY d.delivery_id)
         UPDATE alert_deliveries AS d SET alerts = r.alerts, alert_count = d.alert_count - r.gone
         FROM rest AS r WHERE r.delivery_id = d.delivery_id AND r.gone > 0",
    )?;
    removed.deliveries = Count::of(deliveries);
    about(
        connection,
        "DELETE FROM alerts WHERE campaign_id = ANY($1) OR (platform = $2 AND account_id = $3)",
    )?;
    let on_rules = |connection: &mut PgConnection, sql: &str| {
        sql_query(sql)
            .bind::<Array<Text>, _>(names)
            .execute(connection)
    };
    on_rules(
        connection,
        "WITH gone AS (DELETE FROM alert_rules WHERE campaigns && $1 AND campaigns <@ $1 RETURNING name)
         DELETE FROM alert_mutes WHERE rule_name IN (SELECT name FROM gone)",
    )?;
    on_rules(
        connection,
        "UPDATE alert_rules AS r SET updated_at = clock_timestamp(), campaigns = ARRAY(
             SELECT c FROM unnest(r.campaigns) WITH ORDINALITY AS k (c, nth) WHERE c <> ALL($1) ORDER BY nth)
         WHERE r.campaigns && $1",
    )?;
    Ok(())
}

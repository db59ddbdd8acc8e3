//! Episodes: an alert from the moment its rule begins to hold until it resolves.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{
    Array, BigInt, Bool, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid,
};
use uuid::Uuid;

use crate::store::{StoreError, TransitionId};

/// One episode of a rule and a campaign.
#[derive(Clone, Debug, PartialEq, QueryableByName)]
pub struct Episode {
    #[diesel(sql_type = SqlUuid)]
    pub alert_id: Uuid,
    #[diesel(sql_type = Text)]
    pub rule_name: String,
    /// Empty: it is about an account, or the pipeline.
    #[diesel(sql_type = Text)]
    pub campaign_id: String,
    /// Of one about an account, its platform and the platform's own id of it.
    #[diesel(sql_type = Nullable<SmallInt>)]
    pub platform: Option<i16>,
    #[diesel(sql_type = Nullable<Text>)]
    pub account_id: Option<String>,
    /// The rule's condition when it began.
    #[diesel(sql_type = Text)]
    pub condition: String,
    #[diesel(sql_type = Text)]
    pub severity: String,
    /// Who is told, by name.
    #[diesel(sql_type = Array<Text>)]
    pub webhooks: Vec<String>,
    #[diesel(sql_type = Timestamptz)]
    pub pending_since: DateTime<Utc>,
    /// None: pending.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub opened_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub clear_since: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub resolved_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Text>)]
    pub resolved_because: Option<String>,
    /// JSON: what was measured then.
    #[diesel(sql_type = Nullable<Text>)]
    pub opened_values: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub resolved_values: Option<String>,
    /// When somebody said that they have seen it, and the name of their key, if there was one.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub acknowledged_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Text>)]
    pub acknowledged_by: Option<String>,
    /// Rises with whatever happens to any alert; none while pending.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub transition_id: Option<TransitionId>,
}

/// All of an [`Episode`].
const COLUMNS: &str = "alert_id, rule_name, campaign_id, platform, account_id, condition, severity, webhooks, pending_since, opened_at, \
     clear_since, resolved_at, resolved_because, opened_values::text AS opened_values, \
     resolved_values::text AS resolved_values, acknowledged_at, acknowledged_by, transition_id";

/// The unresolved episodes of these campaigns.
///
/// # Errors
/// When the database does not answer.
pub fn unresolved(
    connection: &mut PgConnection,
    campaigns: &[&str],
) -> Result<Vec<Episode>, StoreError> {
    // alerts_unresolved_idx.
    Ok(sql_query(format!(
        "SELECT {COLUMNS} FROM alerts WHERE resolved_at IS NULL AND account_id IS NULL AND campaign_id = ANY($1)"
    ))
    .bind::<Array<Text>, _>(campaigns)
    .load(connection)?)
}

/// The unresolved episodes of accounts.
///
/// # Errors
/// When the database does not answer.
pub fn unresolved_of_accounts(connection: &mut PgConnection) -> Result<Vec<Episode>, StoreError> {
    // alerts_unresolved_account_idx.
    Ok(sql_query(format!(
        "SELECT {COLUMNS} FROM alerts WHERE resolved_at IS NULL AND account_id IS NOT NULL"
    ))
    .load(connection)?)
}

/// An episode as it is now; `moved` when it opened or resolved.
#[derive(Clone, Debug)]
pub struct Change {
    pub episode: Episode,
    pub moved: bool,
}

/// Writes episodes that are new or have changed, in one statement.
///
/// # Errors
/// When the database does not do it.
pub fn write(connection: &mut PgConnection, changes: &[Change]) -> Result<(), StoreError> {
    if changes.is_empty() {
        return Ok(());
    }
    fn column<T>(changes: &[Change], pick: impl Fn(&Episode) -> T) -> Vec<T> {
        changes.iter().map(|c| pick(&c.episode)).collect()
    }
    sql_query(
        "INSERT INTO alerts AS a (alert_id, rule_name, campaign_id, condition, webhooks, pending_since, opened_at, clear_since,
             resolved_at, resolved_because, opened_values, resolved_values, severity, platform, account_id, transition_id)
         SELECT f.alert_id, f.rule_name, f.campaign_id, f.condition, string_to_array(f.webhooks, ','), f.pending_since, f.opened_at, f.clear_since,
             f.resolved_at, f.resolved_because, f.opened_values::jsonb, f.resolved_values::jsonb, f.severity, f.platform, f.account_id,
             CASE WHEN f.moved THEN nextval('alert_transition_ids') END
         FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) AS f (alert_id, rule_name, campaign_id,
             condition, webhooks, pending_since, opened_at, clear_since, resolved_at, resolved_because,
             opened_values, resolved_values, severity, platform, account_id, moved)
         ON CONFLICT (alert_id) DO UPDATE SET opened_at = EXCLUDED.opened_at, clear_since = EXCLUDED.clear_since,
             resolved_at = EXCLUDED.resolved_at, resolved_because = EXCLUDED.resolved_because,
             opened_values = EXCLUDED.opened_values, resolved_values = EXCLUDED.resolved_values,
             transition_id = COALESCE(EXCLUDED.transition_id, a.transition_id)",
    )
    .bind::<Array<SqlUuid>, _>(column(changes, |e| e.alert_id))
    .bind::<Array<Text>, _>(column(changes, |e| e.rule_name.clone()))
    .bind::<Array<Text>, _>(column(changes, |e| e.campaign_id.clone()))
    .bind::<Array<Text>, _>(column(changes, |e| e.condition.clone()))
    // Arrays of arrays do not come apart as they went in; names have no commas.
    .bind::<Array<Text>, _>(column(changes, |e| e.webhooks.join(",")))
    .bind::<Array<Timestamptz>, _>(column(changes, |e| e.pending_since))
    .bind::<Array<Nullable<Timestamptz>>, _>(column(changes, |e| e.opened_at))
    .bind::<Array<Nullable<Timestamptz>>, _>(column(changes, |e| e.clear_since))
    .bind::<Array<Nullable<Timestamptz>>, _>(column(changes, |e| e.resolved_at))
    .bind::<Array<Nullable<Text>>, _>(column(changes, |e| e.resolved_because.clone()))
    .bind::<Array<Nullable<Text>>, _>(column(changes, |e| e.opened_values.clone()))
    .bind::<Array<Nullable<Text>>, _>(column(changes, |e| e.resolved_values.clone()))
    .bind::<Array<Text>, _>(column(changes, |e| e.severity.clone()))
    .bind::<Array<Nullable<SmallInt>>, _>(column(changes, |e| e.platform))
    .bind::<Array<Nullable<Text>>, _>(column(changes, |e| e.account_id.clone()))
    .bind::<Array<Bool>, _>(changes.iter().map(|c| c.moved).collect::<Vec<bool>>())
    .execute(connection)?;
    Ok(())
}

/// Notes that somebody has seen an alert, or with `take_back` that nobody has after all. None: there is no such alert.
///
/// # Errors
/// When the database does not do it.
pub fn acknowledge(
    connection: &mut PgConnection,
    alert_id: Uuid,
    by: Option<&str>,
    take_back: bool,
) -> Result<Option<Episode>, StoreError> {
    // The first one stays.
    Ok(sql_query(format!(
        "UPDATE alerts SET acknowledged_at = CASE WHEN NOT $3 THEN COALESCE(acknowledged_at, clock_timestamp()) END,
             acknowledged_by = CASE WHEN $3 THEN NULL WHEN acknowledged_at IS NULL THEN $2 ELSE acknowledged_by END
         WHERE alert_id = $1 AND opened_at IS NOT NULL
         RETURNING {COLUMNS}"
    ))
    .bind::<SqlUuid, _>(alert_id)
    .bind::<Nullable<Text>, _>(by)
    .bind::<Bool, _>(take_back)
    .get_result(connection)
    .optional()?)
}

/// Deletes pending episodes that did not open after all.
///
/// # Errors
/// When the database does not do it.
pub fn delete_pending(connection: &mut PgConnection, alerts: &[Uuid]) -> Result<(), StoreError> {
    if !alerts.is_empty() {
        sql_query("DELETE FROM alerts WHERE alert_id = ANY($1) AND opened_at IS NULL")
            .bind::<Array<SqlUuid>, _>(alerts)
            .execute(connection)?;
    }
    Ok(())
}

/// The alerts that are asked for.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only open ones, or only resolved ones.
    pub open: Option<bool>,
    pub rule_name: Option<String>,
    pub campaign_id: Option<String>,
    /// Only those to which nothing happened from this transition on.
    pub before: Option<TransitionId>,
    pub limit: u32,
}

/// Alerts, those to which something happened last first. Pending ones are none yet.
///
/// # Errors
/// When the database does not answer.
pub fn list(connection: &mut PgConnection, filter: &Filter) -> Result<Vec<Episode>, StoreError> {
    // alerts_transition_idx, backwards; of one campaign alerts_campaign_idx.
    Ok(sql_query(format!(
        "SELECT {COLUMNS} FROM alerts WHERE transition_id IS NOT NULL
             AND ($1 IS NULL OR (resolved_at IS NULL) = $1) AND ($2 IS NULL OR rule_name = $2)
             AND ($3 IS NULL OR campaign_id = $3) AND ($4 IS NULL OR transition_id < $4)
         ORDER BY transition_id DESC LIMIT $5"
    ))
    .bind::<Nullable<Bool>, _>(filter.open)
    .bind::<Nullable<Text>, _>(&filter.rule_name)
    .bind::<Nullable<Text>, _>(&filter.campaign_id)
    .bind::<Nullable<BigInt>, _>(filter.before)
    .bind::<BigInt, _>(i64::from(filter.limit))
    .load(connection)?)
}

/// The alerts to which something happened after this transition, in order.
///
/// # Errors
/// When the database does not answer.
pub fn since(
    connection: &mut PgConnection,
    transition_id: TransitionId,
    limit: u32,
) -> Result<Vec<Episode>, StoreError> {
    Ok(sql_query(format!(
        "SELECT {COLUMNS} FROM alerts WHERE transition_id > $1 ORDER BY transition_id LIMIT $2"
    ))
    .bind::<BigInt, _>(transition_id)
    .bind::<BigInt, _>(i64::from(limit))
    .load(connection)?)
}

/// The last transition there was; 0 before the first.
///
/// # Errors
/// When the database does not answer.
pub fn last_transition(connection: &mut PgConnection) -> Result<TransitionId, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        last: TransitionId,
    }
    let row: Row = sql_query("SELECT COALESCE(max(transition_id), 0) AS last FROM alerts")
        .get_result(connection)?;
    Ok(row.last)
}

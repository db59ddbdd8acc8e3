//! What platforms have reported of campaigns, many at once: what is known of their days.

use std::collections::HashMap;

use chrono::NaiveDate;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, Date, Integer, Text, Timestamptz};

use crate::store::StoreError;
use crate::store::read::growth::KnownDay;
use crate::time::Timestamp;

/// What is known of a campaign that platforms report.
#[derive(Clone, Debug)]
pub struct Reported {
    /// What its numbers mean.
    pub definition_id: i32,
    /// When its platform was last asked about it.
    pub asked: Timestamp,
    /// In order.
    pub days: Vec<KnownDay>,
}

/// Those of these campaigns that have days from `since` on which mean what their newest ones do.
///
/// # Errors
/// When the database does not answer.
pub fn days(
    connection: &mut PgConnection,
    campaigns: &[&str],
    since: NaiveDate,
) -> Result<HashMap<String, Reported>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        campaign_id: String,
        #[diesel(sql_type = Integer)]
        definition_id: i32,
        #[diesel(sql_type = Timestamptz)]
        asked: Timestamp,
        #[diesel(embed)]
        known: KnownDay,
    }
    // By the keys of both; definitions that are alike but for their grain add up. A row that says nothing was taken back.
    let rows: Vec<Row> = sql_query(
        "SELECT c.campaign_id, c.definition_id, c.described_at AS asked, r.day,
             max(GREATEST(r.observed_at, r.confirmed_at[cardinality(r.confirmed_at)])) AS observed_at,
             CASE WHEN count(r.conversion_micros) = count(*) THEN sum(r.conversion_micros)::bigint END AS conversions,
             CASE WHEN count(r.revenue_micros) = count(*) THEN sum(r.revenue_micros)::bigint END AS revenue
         FROM campaigns AS c
             JOIN report_definitions AS own ON own.definition_id = c.definition_id
             JOIN report_definitions AS d USING (platform, account, time_zone, currency, conversions, revenue)
             JOIN report_rows AS r ON r.campaign_id = c.campaign_id AND r.definition_id = d.definition_id
         WHERE c.campaign_id = ANY($1) AND r.day >= $2
             AND num_nonnulls(r.impressions, r.clicks, r.conversion_micros, r.cost_micros, r.revenue_micros) > 0
         GROUP BY c.campaign_id, r.day ORDER BY c.campaign_id, r.day",
    )
    .bind::<Array<Text>, _>(campaigns)
    .bind::<Date, _>(since)
    .load(connection)?;
    let mut reported: HashMap<String, Reported> = HashMap::new();
    for row in rows {
        let (definition_id, asked) = (row.definition_id, row.asked);
        let campaign = reported.entry(row.campaign_id);
        let campaign = campaign.or_insert_with(|| Reported {
            definition_id,
            asked,
            days: Vec::new(),
        });
        campaign.days.push(row.known);
    }
    Ok(reported)
}

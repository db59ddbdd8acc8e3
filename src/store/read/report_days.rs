//! What is known of a campaign's days besides their sums: when platforms were last asked about them, and what they do not say.

use chrono::NaiveDate;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, Bool, Date, Nullable, SmallInt, Text, Timestamptz};

use super::insights::Window;
use crate::event::Platform;
use crate::store::{StoreError, platform};
use crate::time::Timestamp;
use crate::totals::metric::Sums;

/// A day of which there are reports that say something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportDay {
    pub platform: Platform,
    /// Whose day it is, by its name in the IANA database.
    pub time_zone: String,
    pub day: NaiveDate,
    /// When the platform was last asked about it.
    pub observed_at: Timestamp,
    /// What some of its rows leave unknown.
    pub partial: Sums,
    /// What all of them do.
    pub unknown: Sums,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = SmallInt)]
    platform: i16,
    #[diesel(sql_type = Text)]
    time_zone: String,
    #[diesel(sql_type = Date)]
    day: NaiveDate,
    #[diesel(sql_type = Timestamptz)]
    observed_at: Timestamp,
    #[diesel(sql_type = Array<Bool>)]
    partial: Vec<bool>,
    #[diesel(sql_type = Array<Bool>)]
    unknown: Vec<bool>,
}

/// Those among the sums, in order, for which it holds.
fn which(holds: &[bool]) -> Sums {
    let pairs = Sums::EACH.into_iter().zip(holds);
    let those = pairs.filter(|(_, holds)| **holds);
    those.fold(Sums::default(), |all, (sum, _)| all.and(sum))
}

/// A campaign's days from the one to the other, both included, by primary key.
///
/// # Errors
/// When the database does not answer.
pub fn read(
    connection: &mut PgConnection,
    campaign: &str,
    first: NaiveDate,
    last: NaiveDate,
) -> Result<Vec<ReportDay>, StoreError> {
    // GREATEST passes over null.
    let rows: Vec<Row> = sql_query(
        "SELECT d.platform, d.time_zone, r.day,
             max(GREATEST(r.observed_at, r.confirmed_at[cardinality(r.confirmed_at)])) AS observed_at,
             ARRAY[bool_or(r.impressions IS NULL), bool_or(r.clicks IS NULL), bool_or(r.conversion_micros IS NULL),
                   bool_or(r.cost_micros IS NULL), bool_or(r.revenue_micros IS NULL)] AS partial,
             ARRAY[bool_and(r.impressions IS NULL), bool_and(r.clicks IS NULL), bool_and(r.conversion_micros IS NULL),
                   bool_and(r.cost_micros IS NULL), bool_and(r.revenue_micros IS NULL)] AS unknown
         FROM report_rows AS r JOIN report_definitions AS d USING (definition_id)
         WHERE r.campaign_id = $1 AND r.day BETWEEN $2 AND $3
             AND num_nonnulls(r.impressions, r.clicks, r.conversion_micros, r.cost_micros, r.revenue_micros) > 0
         GROUP BY r.day, d.platform, d.time_zone ORDER BY r.day",
    )
    .bind::<Text, _>(campaign)
    .bind::<Date, _>(first)
    .bind::<Date, _>(last)
    .load(connection)?;
    let days = rows.into_iter().map(|row| {
        Ok(ReportDay {
            platform: platform(row.platform)?,
            time_zone: row.time_zone,
            day: row.day,
            observed_at: row.observed_at,
            partial: which(&row.partial),
            unknown: which(&row.unknown),
        })
    });
    days.collect()
}

/// Of these campaigns, the sums that reports of the newest day in a window, or of all time, leave unknown; of some platforms, none named:
/// of all. Campaigns of which that day leaves nothing unknown are left out.
///
/// # Errors
/// When the database does not answer.
pub fn unsaid(
    connection: &mut PgConnection,
    campaigns: &[&str],
    window: Option<Window>,
    platforms: &[Platform],
) -> Result<Vec<(String, Sums)>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        campaign_id: String,
        #[diesel(sql_type = Array<Bool>)]
        unsaid: Vec<bool>,
    }
    if campaigns.is_empty() {
        return Ok(Vec::new());
    }
    let platforms: Vec<i16> = platforms.iter().map(|of| of.index().into()).collect();
    // Of all days would be to read the table, where a large account has no revenue. By primary key: dates are a day off at most, wherever
    // the account is.
    let rows: Vec<Row> = sql_query(
        "SELECT c.campaign_id, said.nothing AS unsaid
         FROM unnest($1) AS c (campaign_id)
         CROSS JOIN LATERAL (
             SELECT r.day FROM report_rows AS r JOIN report_definitions AS d USING (definition_id)
             WHERE r.campaign_id = c.campaign_id
                 AND r.day BETWEEN COALESCE($2, '-infinity')::date - 2 AND COALESCE($3, 'infinity')::date + 2
                 AND r.event_time >= COALESCE($2, '-infinity') AND r.event_time < COALESCE($3, 'infinity')
                 AND (cardinality($4) = 0 OR d.platform = ANY($4))
                 AND num_nonnulls(r.impressions, r.clicks, r.conversion_micros, r.cost_micros, r.revenue_micros) > 0
             ORDER BY r.day DESC LIMIT 1) AS newest
         CROSS JOIN LATERAL (
             SELECT ARRAY[count(r.impressions) = 0, count(r.clicks) = 0, count(r.conversion_micros) = 0,
                 count(r.cost_micros) = 0, count(r.revenue_micros) = 0] AS nothing
             FROM report_rows AS r WHERE r.campaign_id = c.campaign_id AND r.day = newest.day) AS said
         WHERE true = ANY(said.nothing)",
    )
    .bind::<Array<Text>, _>(campaigns)
    .bind::<Nullable<Timestamptz>, _>(window.map(|window| window.since()))
    .bind::<Nullable<Timestamptz>, _>(window.map(|window| window.until()))
    .bind::<Array<SmallInt>, _>(platforms)
    .load(connection)?;
    let rows = rows.into_iter();
    Ok(rows
        .map(|row| (row.campaign_id, which(&row.unsaid)))
        .collect())
}

//! The sums that rules are held against: those of insights, for many campaigns and windows at once.

use std::collections::{BTreeMap, HashMap};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Integer, Text, Timestamptz};

use super::parts;
use crate::event::Platform;
use crate::store::StoreError;
use crate::store::read::insights::{Window, platform};
use crate::store::sums::{BEFORE_SNAPSHOT, Grain, SumRow};
use crate::time::{Length, Timestamp};
use crate::totals::Totals;

/// The sums of some campaigns over some windows, from one snapshot.
#[derive(Debug, Default)]
pub struct Sums {
    campaigns: HashMap<String, Campaign>,
}

#[derive(Debug, Default)]
struct Campaign {
    first_event_time: Timestamp,
    /// By the table and the beginning of a part; see [`parts`].
    parts: BTreeMap<(Grain, Timestamp), Vec<(Platform, Totals)>>,
}

impl Sums {
    /// The earliest event of a campaign; none if it has none.
    pub fn first_event_time(&self, campaign_id: &str) -> Option<Timestamp> {
        self.campaigns.get(campaign_id).map(|c| c.first_event_time)
    }

    /// The sum of a campaign over a window and those platforms.
    pub fn of(
        &self,
        campaign_id: &str,
        window: Window,
        has_platform: impl Fn(Platform) -> bool,
    ) -> Totals {
        let Some(campaign) = self.campaigns.get(campaign_id) else {
            return Totals::default();
        };
        let ranges = window.ranges().into_iter();
        // Each platform's sums are within 2^53, so four of them fit.
        ranges
            .filter(|(_, from, to)| from < to)
            .flat_map(|(grain, from, to)| campaign.parts.range((grain, from)..(grain, to)))
            .flat_map(|(_, platforms)| platforms)
            .filter(|(platform, _)| has_platform(*platform))
            .fold(Totals::default(), |sum, (_, t)| sum.saturating_add(*t))
    }
}

/// The first statement of a transaction that measures: from here on it is one snapshot.
///
/// # Errors
/// When the database does not answer.
pub fn begin(connection: &mut PgConnection) -> Result<(), StoreError> {
    Ok(connection.batch_execute(BEFORE_SNAPSHOT)?)
}

#[derive(QueryableByName)]
struct FirstRow {
    #[diesel(sql_type = Text)]
    campaign_id: String,
    #[diesel(sql_type = Timestamptz)]
    first: Timestamp,
}

#[derive(QueryableByName)]
struct PartRow {
    #[diesel(sql_type = Integer)]
    run: i32,
    #[diesel(sql_type = Integer)]
    part: i32,
    #[diesel(sql_type = Text)]
    campaign_id: String,
    #[diesel(embed)]
    sums: SumRow,
}

/// Adds up these campaigns over these windows, in two statements that read each row once.
///
/// # Errors
/// When the database does not answer.
pub fn sums(
    connection: &mut PgConnection,
    campaigns: &[&str],
    windows: &[Window],
) -> Result<Sums, StoreError> {
    let mut out = Sums::default();
    let firsts: Vec<FirstRow> = sql_query(
        "SELECT campaign_id, min(min_event_time) AS first FROM metrics_total WHERE campaign_id = ANY($1)
         GROUP BY campaign_id",
    )
    .bind::<Array<Text>, _>(campaigns)
    .load(connection)?;
    for row in firsts {
        let campaign = out.campaigns.entry(row.campaign_id).or_default();
        campaign.first_event_time = row.first;
    }
    if windows.is_empty() || campaigns.is_empty() {
        return Ok(out);
    }
    let runs = parts::runs(windows);
    let statements: Vec<String> = runs.iter().enumerate().map(|(n, r)| r.sql(n)).collect();
    let rows: Vec<PartRow> = sql_query(statements.join(" UNION ALL "))
        .bind::<Array<Text>, _>(campaigns)
        .load(connection)?;
    for row in rows {
        let run = usize::try_from(row.run).ok().and_then(|n| runs.get(n));
        let part = usize::try_from(row.part)
            .ok()
            .and_then(|n| n.checked_sub(1));
        let start = |run: &parts::Run| Some((run.grain, *run.cuts.get(part?)?));
        let (Some(start), Some(campaign)) =
            (run.and_then(start), out.campaigns.get_mut(&row.campaign_id))
        else {
            continue;
        };
        let entry = (platform(row.sums.platform)?, row.sums.totals());
        campaign.parts.entry(start).or_default().push(entry);
    }
    Ok(out)
}

/// Campaigns that have events, in byte order, after this one.
///
/// # Errors
/// When the database does not answer.
pub fn campaigns_after(
    connection: &mut PgConnection,
    after: &str,
    limit: usize,
) -> Result<Vec<String>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        campaign_id: String,
    }
    let rows: Vec<Row> = sql_query(
        "SELECT campaign_id FROM campaigns WHERE campaign_id > $1 ORDER BY campaign_id LIMIT $2",
    )
    .bind::<Text, _>(after)
    .bind::<BigInt, _>(limit as i64)
    .load(connection)?;
    Ok(rows.into_iter().map(|row| row.campaign_id).collect())
}

/// The sums of a campaign in one minute on one platform.
#[derive(Clone, Copy, Debug)]
pub struct Minute {
    /// Its first microsecond.
    pub start: Timestamp,
    pub platform: Platform,
    pub totals: Totals,
}

/// The minutes of a campaign from `since` up to but not including `until`, in order.
///
/// # Errors
/// When the database does not answer.
pub fn minutes(
    connection: &mut PgConnection,
    campaign_id: &str,
    since: Timestamp,
    until: Timestamp,
) -> Result<Vec<Minute>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Timestamptz)]
        minute: Timestamp,
        #[diesel(embed)]
        sums: SumRow,
    }
    let rows: Vec<Row> = sql_query(
        "SELECT minute, platform, events, impressions, clicks, conversions, cost_micros, revenue_micros
         FROM metrics_by_minute WHERE campaign_id = $1 AND minute >= $2 AND minute < $3 ORDER BY minute",
    )
    .bind::<Text, _>(campaign_id)
    .bind::<Timestamptz, _>(since.floor(Length::MINUTE))
    .bind::<Timestamptz, _>(until.floor(Length::MINUTE))
    .load(connection)?;
    rows.into_iter()
        .map(|row| {
            Ok(Minute {
                start: row.minute,
                platform: platform(row.sums.platform)?,
                totals: row.sums.totals(),
            })
        })
        .collect()
}

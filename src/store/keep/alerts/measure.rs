//! The sums that rules are held against: those of insights, for many campaigns and windows at once.

use std::collections::{BTreeMap, HashMap};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, Integer, Text, Timestamptz};

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
    campaigns: HashMap<String, Parts>,
}

/// By the table and the beginning of a part; see [`parts`].
type Parts = BTreeMap<(Grain, Timestamp), Vec<(Platform, Totals)>>;

impl Sums {
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
            .flat_map(|(grain, from, to)| campaign.range((grain, from)..(grain, to)))
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

/// Adds up these campaigns over these windows, in a statement that reads each row once.
///
/// # Errors
/// When the database does not answer.
pub fn sums(
    connection: &mut PgConnection,
    campaigns: &[&str],
    windows: &[Window],
) -> Result<Sums, StoreError> {
    let mut out = Sums::default();
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
        let Some(start) = run.and_then(start) else {
            continue;
        };
        let entry = (platform(row.sums.platform)?, row.sums.totals());
        let campaign = out.campaigns.entry(row.campaign_id).or_default();
        campaign.entry(start).or_default().push(entry);
    }
    Ok(out)
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

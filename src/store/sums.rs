//! The tables of sums, and the columns of their rows.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, SmallInt, Text};

use super::StoreError;
use crate::event::{Count, Money};
use crate::time::Length;
use crate::totals::Totals;

/// The grains of time that have a table of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grain {
    Minute,
    Hour,
    Day,
}

impl Grain {
    /// Every grain, finest first.
    pub const ALL: [Grain; 3] = [Grain::Minute, Grain::Hour, Grain::Day];

    /// Its length.
    pub fn length(self) -> Length {
        match self {
            Grain::Minute => Length::MINUTE,
            Grain::Hour => Length::HOUR,
            Grain::Day => Length::DAY,
        }
    }

    /// Its table.
    pub fn table(self) -> &'static str {
        match self {
            Grain::Minute => "metrics_by_minute",
            Grain::Hour => "metrics_by_hour",
            Grain::Day => "metrics_by_day",
        }
    }

    /// A statement written for minutes, as it is for this grain. Its name stands wherever `minute` does, in the
    /// table's name too.
    pub(super) fn sql(self, of_minutes: &str) -> String {
        of_minutes.replace("minute", self.column())
    }

    /// The column that holds the start of the interval.
    pub fn column(self) -> &'static str {
        match self {
            Grain::Minute => "minute",
            Grain::Hour => "hour",
            Grain::Day => "day",
        }
    }
}

/// The table of all-time sums.
pub const TOTAL_TABLE: &str = "metrics_total";

/// The first statement of a transaction that reads projections from one snapshot of its own
/// (repeatable read). A rebuild puts other tables in the place of these, and a snapshot from before
/// that does not see their rows; it is taken after this lock, and the rebuild waits for the lock.
/// Nobody else is held up. In a transaction without a lasting snapshot it is not needed.
pub(super) const BEFORE_SNAPSHOT: &str = "LOCK TABLE metrics_by_minute, metrics_by_hour, metrics_by_day, metrics_total IN ACCESS SHARE MODE";

/// The columns that a row of sums has, for reading.
#[derive(Debug, QueryableByName)]
pub(super) struct SumRow {
    #[diesel(sql_type = SmallInt)]
    pub platform: i16,
    #[diesel(sql_type = BigInt)]
    pub events: Count,
    #[diesel(sql_type = BigInt)]
    pub impressions: Count,
    #[diesel(sql_type = BigInt)]
    pub clicks: Count,
    #[diesel(sql_type = BigInt)]
    pub conversions: Count,
    #[diesel(sql_type = BigInt)]
    pub cost_micros: Money,
    #[diesel(sql_type = BigInt)]
    pub revenue_micros: Money,
}

impl SumRow {
    pub fn totals(&self) -> Totals {
        Totals {
            events: self.events,
            counts: crate::event::Counts {
                impressions: self.impressions,
                clicks: self.clicks,
                conversions: self.conversions,
                cost_micros: self.cost_micros,
                revenue_micros: self.revenue_micros,
            },
        }
    }
}

/// The all-time sums of campaigns, by campaign and platform index.
pub(super) fn totals_of(
    connection: &mut PgConnection,
    campaigns: &[&str],
) -> Result<Vec<(String, u8, Totals)>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        campaign_id: String,
        #[diesel(embed)]
        sums: SumRow,
    }
    let rows: Vec<Row> = sql_query(
        "SELECT campaign_id, platform, events, impressions, clicks, conversions, cost_micros, revenue_micros
         FROM metrics_total WHERE campaign_id = ANY($1)",
    )
    .bind::<Array<Text>, _>(campaigns)
    .load(connection)?;
    Ok(rows
        .into_iter()
        .map(|r| (r.campaign_id, r.sums.platform as u8, r.sums.totals()))
        .collect())
}

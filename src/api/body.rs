//! The documents the API answers. Their fields are described in the README.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use crate::store::insights::{CampaignSums, Listed, Window};
use crate::totals::Totals;

/// A set of sums and the ratios derived from them. Money is given twice: exactly in micros, and in
/// currency units.
#[derive(Debug, Serialize)]
pub struct Metrics {
    events: i64,
    impressions: i64,
    clicks: i64,
    conversions: i64,
    cost_micros: i64,
    revenue_micros: i64,
    profit_micros: i64,
    cost: f64,
    revenue: f64,
    profit: f64,
    ctr: Option<f64>,
    cvr: Option<f64>,
    cpc: Option<f64>,
    cpm: Option<f64>,
    cpa: Option<f64>,
    roas: Option<f64>,
    aov: Option<f64>,
}

impl From<&Totals> for Metrics {
    fn from(t: &Totals) -> Metrics {
        let c = &t.counts;
        let units = |micros: i64| micros as f64 / 1e6;
        Metrics {
            events: t.events,
            impressions: c.impressions,
            clicks: c.clicks,
            conversions: c.conversions,
            cost_micros: c.cost_micros,
            revenue_micros: c.revenue_micros,
            profit_micros: t.profit_micros(),
            cost: units(c.cost_micros),
            revenue: units(c.revenue_micros),
            profit: units(t.profit_micros()),
            ctr: t.ctr(),
            cvr: t.cvr(),
            cpc: t.cpc(),
            cpm: t.cpm(),
            cpa: t.cpa(),
            roas: t.roas(),
            aov: t.aov(),
        }
    }
}

/// The span of time an answer is about: `since` included, `until` not.
#[derive(Debug, Serialize)]
pub struct Span {
    since: Option<String>,
    until: Option<String>,
}

impl Span {
    /// The window; for all time, both ends are null.
    pub fn of(window: Option<Window>) -> Span {
        let time = |micros| DateTime::<Utc>::from_timestamp_micros(micros).map(rfc3339);
        Span {
            since: window.and_then(|w| time(w.since())),
            until: window.and_then(|w| time(w.until())),
        }
    }
}

/// The next offset to read of one partition.
#[derive(Debug, Serialize)]
struct PositionOf<'a> {
    topic: &'a str,
    partition: i32,
    next_offset: i64,
}

#[derive(Debug, Serialize)]
struct Fresh<'a> {
    first_event_time: String,
    last_event_time: String,
    counted_at: String,
    commit_id: i64,
    stale: bool,
    positions: Vec<PositionOf<'a>>,
}

#[derive(Debug, Serialize)]
struct PlatformMetrics {
    platform: &'static str,
    #[serde(flatten)]
    metrics: Metrics,
}

/// `GET /campaign/{id}/insights`.
#[derive(Debug, Serialize)]
pub struct Insights<'a> {
    campaign_id: &'a str,
    /// The instant of which it was asked, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    as_of: Option<String>,
    window: Span,
    freshness: Fresh<'a>,
    totals: Metrics,
    platforms: Vec<PlatformMetrics>,
}

impl<'a> Insights<'a> {
    /// The document for `sums` over `window`.
    pub fn of(sums: &'a CampaignSums, window: Option<Window>, stale: bool) -> Insights<'a> {
        // Each platform's sums are within 2^53, so four of them fit.
        let totals = sums
            .platforms
            .iter()
            .try_fold(Totals::default(), |sum, (_, t)| sum.checked_add(*t))
            .unwrap_or_default();
        let f = &sums.freshness;
        Insights {
            campaign_id: &sums.campaign_id,
            as_of: None,
            window: Span::of(window),
            freshness: Fresh {
                first_event_time: rfc3339(f.first_event_time),
                last_event_time: rfc3339(f.last_event_time),
                counted_at: rfc3339(f.counted_at),
                commit_id: f.commit_id,
                stale,
                positions: sums
                    .positions
                    .iter()
                    .map(|p| PositionOf {
                        topic: &p.topic,
                        partition: p.partition,
                        next_offset: p.next_offset,
                    })
                    .collect(),
            },
            totals: Metrics::from(&totals),
            platforms: sums
                .platforms
                .iter()
                .map(|(platform, totals)| PlatformMetrics {
                    platform: platform.name(),
                    metrics: totals.into(),
                })
                .collect(),
        }
    }

    /// The same, said to be what was known at `instant`.
    pub fn known_at(self, instant: DateTime<Utc>) -> Insights<'a> {
        Insights {
            as_of: Some(rfc3339(instant)),
            ..self
        }
    }
}

/// One campaign of `GET /campaigns`.
#[derive(Debug, Serialize)]
pub struct CampaignRow<'a> {
    campaign_id: &'a str,
    #[serde(flatten)]
    metrics: Metrics,
}

/// `GET /campaigns`.
#[derive(Debug, Serialize)]
pub struct Campaigns<'a> {
    pub window: Span,
    pub data: Vec<CampaignRow<'a>>,
    pub paging: Paging,
}

/// How to get the next page; null on the last one.
#[derive(Debug, Serialize)]
pub struct Paging {
    pub next_cursor: Option<String>,
}

impl<'a> From<&'a Listed> for CampaignRow<'a> {
    fn from(row: &'a Listed) -> CampaignRow<'a> {
        CampaignRow {
            campaign_id: &row.campaign_id,
            metrics: Metrics::from(&row.totals),
        }
    }
}

pub(super) fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

//! The documents the API answers. Their fields are described in docs/api.md.

use chrono_tz::Tz;
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::window;
use crate::currency::Currency;
use crate::event::{Conversions, Count, Money, Platform};
use crate::expected::account::OfDay;
use crate::offset::Offset;
use crate::report_row::Values;
use crate::store::CommitId;
use crate::store::positions::Position;
use crate::store::read::descriptions::Description;
use crate::store::read::insights::converted::Used;
use crate::store::read::insights::{Freshness, Window};
use crate::time::rfc3339;
use crate::totals::Totals;
use crate::totals::metric::{Metric, Sums, Unit, Value};
use crate::totals::mixed::{Claims, Shown};

/// Which metrics an answer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields(u32);

impl Fields {
    /// All of them.
    pub const ALL: Fields = Fields(u32::MAX);

    /// Those with these names; unknown ones are left out.
    pub fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Fields {
        let metrics = names.into_iter().filter_map(Metric::parse);
        Fields(metrics.fold(0, |bits, metric| bits | 1 << metric as u32))
    }

    /// Its metrics, in the order answers have them.
    pub fn metrics(self) -> impl Iterator<Item = Metric> {
        let chosen = move |m: &Metric| self.0 & 1 << *m as u32 != 0;
        Metric::ALL.iter().copied().filter(chosen)
    }
}

/// A set of sums and the ratios derived from them. Money is given twice: exactly in micros, and in
/// currency units.
#[derive(Debug)]
pub struct Metrics {
    pub sums: Shown,
    pub fields: Fields,
}

impl From<&Totals> for Metrics {
    fn from(totals: &Totals) -> Metrics {
        Metrics {
            sums: Shown::from(*totals),
            fields: Fields::ALL,
        }
    }
}

impl Serialize for Metrics {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for metric in self.fields.metrics() {
            map.serialize_entry(metric.name(), &Number(self.sums.value(metric)))?;
        }
        map.end()
    }
}

/// A metric's value as a number of JSON, or null.
struct Number(Value);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Integer(value) => value.serialize(serializer),
            Value::Conversions(value) => decimal(&value, serializer),
            Value::Number(value) => value.serialize(serializer),
        }
    }
}

/// Conversions, written as the number they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal(pub Conversions);

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        decimal(&self.0, serializer)
    }
}

/// Conversions as the number they are, digit by digit: `12`, `1.5`. What writes floats would round large ones, and give small ones
/// an exponent.
fn decimal<S: Serializer>(value: &Conversions, serializer: S) -> Result<S::Ok, S::Error> {
    if value.is_whole() {
        return value.parts().0.serialize(serializer);
    }
    let number = RawValue::from_string(value.to_string());
    number
        .map_err(serde::ser::Error::custom)?
        .serialize(serializer)
}

/// Metrics and, if it was asked for, what they were in the period before.
#[derive(Debug, Serialize)]
pub struct Figures {
    #[serde(flatten)]
    pub metrics: Metrics,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Comparison>,
}

/// Sums over all rows of an answer.
#[derive(Debug, Serialize)]
pub struct Whole {
    #[serde(flatten)]
    pub figures: Figures,
    /// The platforms whose conversions and revenue are in it; left out where no metric rests on them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claimed_by: Option<Vec<&'static str>>,
    /// What is unknown of some of what is added up, where a metric rests on it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub partial: Vec<&'static str>,
}

impl Whole {
    /// Of these figures and claims; of what is `partial`, they are those of the rows of which it is known.
    pub fn of(figures: Figures, claims: Claims, partial: Sums) -> Whole {
        let metrics = figures.metrics.fields.metrics();
        let needed = metrics.fold(Sums::default(), |all, metric| all.and(metric.rests_on()));
        let platforms = || claims.platforms().map(Platform::name).collect();
        Whole {
            claimed_by: needed.meet(Sums::CLAIMS).then(platforms),
            partial: names(partial.without(Sums::ALL.without(needed))).collect(),
            figures,
        }
    }
}

/// What these sums are called.
pub fn names(sums: Sums) -> impl Iterator<Item = &'static str> {
    let all = Values::NAMES.into_iter().zip(Sums::EACH);
    all.filter(move |(_, sum)| sums.meet(*sum))
        .map(|(name, _)| name)
}

/// Sums over those whose campaigns have one currency.
#[derive(Debug, Serialize)]
pub struct OfCurrency {
    /// None: no currency of theirs is known.
    pub currency: Option<Currency>,
    #[serde(flatten)]
    pub whole: Whole,
}

/// What a campaign is called and whose it is; null where that is not known.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Described<'a> {
    pub campaign_name: Option<&'a str>,
    pub account_id: Option<&'a str>,
    /// That of the money beside it: the account's, or that which was asked for.
    pub currency: Option<Currency>,
    /// That of the account, where another one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_currency: Option<Option<Currency>>,
    pub account_time_zone: Option<&'a str>,
}

impl<'a> From<Option<&'a Description>> for Described<'a> {
    fn from(description: Option<&'a Description>) -> Described<'a> {
        let account = description.map(|known| &*known.account);
        Described {
            campaign_name: description.and_then(|known| known.name.as_deref()),
            account_id: account.map(|account| account.id.as_str()),
            currency: account.map(|account| account.currency),
            account_currency: None,
            account_time_zone: account.map(|account| account.time_zone.as_str()),
        }
    }
}

impl Described<'_> {
    /// The same beside money in the currency that was asked for, if one was.
    pub fn beside(self, asked: Option<Currency>) -> Self {
        match asked {
            None => self,
            Some(_) => Described {
                currency: asked,
                account_currency: Some(self.currency),
                ..self
            },
        }
    }

    /// Its columns in a table, where a currency was asked for or not.
    pub fn columns(asked: Option<Currency>) -> impl Iterator<Item = &'static str> {
        let account = asked.map(|_| "account_currency");
        ["campaign_name", "account_id", "currency"]
            .into_iter()
            .chain(account)
            .chain(["account_time_zone"])
    }

    /// What stands in them.
    pub fn cells(&self) -> impl Iterator<Item = String> {
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let code = |of: Option<Currency>| of.map_or_else(String::new, |c| c.to_string());
        let account = self.account_currency.map(code);
        [
            text(self.campaign_name),
            text(self.account_id),
            code(self.currency),
        ]
        .into_iter()
        .chain(account)
        .chain([text(self.account_time_zone)])
    }
}

/// What the period before had, and what has changed since.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// Null where the period before has no such part, or there is no period before.
    previous: Option<Metrics>,
    /// Now minus then; null where one of them has no value.
    absolute: Change,
    /// The absolute change by what it was, as a fraction: null where that was zero.
    relative: Change,
}

/// A change of each metric.
#[derive(Debug)]
struct Change(Vec<(Metric, Value)>);

impl Serialize for Change {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (metric, value) in &self.0 {
            map.serialize_entry(metric.name(), &Number(*value))?;
        }
        map.end()
    }
}

impl Comparison {
    /// The change from `before` to `now`.
    pub fn of(now: &Shown, before: Option<&Shown>, fields: Fields) -> Comparison {
        let each = |change: fn(Metric, &Shown, &Shown) -> Value| {
            let change = |m: Metric| (m, before.map_or(Value::Number(None), |b| change(m, now, b)));
            Change(fields.metrics().map(change).collect())
        };
        Comparison {
            previous: before.map(|before| Metrics {
                sums: *before,
                fields,
            }),
            absolute: each(absolute),
            relative: each(|metric, now, before| {
                let was = before.value(metric).number().filter(|was| *was != 0.0);
                let change = absolute(metric, now, before).number();
                Value::Number(was.zip(change).map(|(was, change)| change / was.abs()))
            }),
        }
    }

    /// Each metric of the period before, its absolute and its relative change, for a table.
    pub fn cells(&self) -> impl Iterator<Item = Value> {
        let absolute = self.absolute.0.iter().zip(&self.relative.0);
        absolute.flat_map(|((metric, absolute), (_, relative))| {
            let none = Value::Number(None);
            let was = self
                .previous
                .as_ref()
                .map_or(none, |p| p.sums.value(*metric));
            [was, *absolute, *relative]
        })
    }
}

fn absolute(metric: Metric, now: &Shown, before: &Shown) -> Value {
    match (now.value(metric), before.value(metric)) {
        (Value::Integer(now), Value::Integer(before)) => Value::Integer(now.saturating_sub(before)),
        (Value::Conversions(now), Value::Conversions(before)) => {
            Value::Conversions(now.saturating_sub(before))
        }
        // From the micros, so that it is the same number.
        _ if metric.unit() == Unit::Money => {
            let micros = match metric {
                Metric::Cost => Metric::CostMicros,
                Metric::Revenue => Metric::RevenueMicros,
                _ => Metric::ProfitMicros,
            };
            let change = absolute(micros, now, before).number();
            Value::Number(change.map(|change| change / 1e6))
        }
        (now, before) => Value::Number(
            now.number()
                .zip(before.number())
                .map(|(now, was)| now - was),
        ),
    }
}

/// A span of time: `since` included, `until` not; both null for all time.
#[derive(Debug, Serialize)]
pub struct Span {
    since: Option<String>,
    until: Option<String>,
}

impl Span {
    /// The window, with the offset of its zone.
    pub fn of(window: Option<Window>, zone: Tz) -> Span {
        Span {
            since: window.and_then(|w| window::show(w.since(), zone)),
            until: window.and_then(|w| window::show(w.until(), zone)),
        }
    }
}

/// How fresh an answer is.
#[derive(Debug, Serialize)]
pub struct Fresh {
    first_event_time: String,
    last_event_time: String,
    counted_at: String,
    commit_id: CommitId,
    stale: bool,
    positions: Vec<PositionOf>,
}

/// The next offset to read of one partition.
#[derive(Debug, Serialize)]
struct PositionOf {
    topic: String,
    partition: i32,
    next_offset: Offset,
}

impl Fresh {
    /// What is known of it, and the positions it rests on; `stale` when the database did not
    /// answer.
    pub fn of(f: &Freshness, positions: &[Position], stale: bool) -> Fresh {
        Fresh {
            first_event_time: rfc3339(f.first_event_time),
            last_event_time: rfc3339(f.last_event_time),
            counted_at: rfc3339(f.counted_at),
            commit_id: f.commit_id,
            stale,
            positions: positions
                .iter()
                .map(|p| PositionOf {
                    topic: p.topic.clone(),
                    partition: p.partition,
                    next_offset: p.next_offset,
                })
                .collect(),
        }
    }
}

/// A row of insights: a part of the window, a platform, a campaign, or all of them.
#[derive(Debug, Serialize)]
pub struct Row<'a> {
    pub since: Option<String>,
    pub until: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub campaign_id: Option<&'a str>,
    /// Of the campaign, if it is of one.
    #[serde(flatten)]
    pub described: Option<Described<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<&'static str>,
    #[serde(flatten)]
    pub of_currency: Option<OneCurrency>,
    /// Of a campaign's day, if it is of one.
    #[serde(flatten)]
    pub reported: Option<ReportedDay>,
    #[serde(flatten)]
    pub figures: Figures,
    /// Of a day that its platform still restates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<OfDay>,
}

/// What reports say of a day besides its numbers; null of a day that none is about.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ReportedDay {
    pub provisional: Option<bool>,
    pub observed_at: Option<String>,
    /// The values that some row of the day leaves unknown.
    pub partial: Option<Vec<&'static str>>,
}

impl ReportedDay {
    /// As cells of a table.
    pub fn cells(self) -> [String; 3] {
        let provisional = self.provisional.map(|is| is.to_string());
        let partial = self.partial.map(|names| names.join(" "));
        [provisional, self.observed_at, partial].map(Option::unwrap_or_default)
    }
}

/// Which currency a row is of, where rows are by currency.
#[derive(Debug, Serialize)]
pub struct OneCurrency {
    pub currency: Option<Currency>,
}

/// The sums of a platform over the whole window.
#[derive(Debug, Serialize)]
pub struct OfPlatform {
    pub platform: &'static str,
    #[serde(flatten)]
    pub figures: Figures,
}

/// `GET /campaign/{id}/insights` and `GET /insights`.
#[derive(Debug, Serialize)]
pub struct Insights<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub campaign_id: Option<&'a str>,
    #[serde(flatten)]
    pub described: Option<Described<'a>>,
    /// Of several campaigns: the currency that was asked for. Of one, its description says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<Currency>,
    /// By what money was converted, where a currency was asked for; null where none was of another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rates: Option<Option<Used>>,
    /// The instant of which it was asked, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_of: Option<String>,
    pub window: Span,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_window: Option<Span>,
    pub time_zone: &'static str,
    pub freshness: Option<Fresh>,
    pub totals: Whole,
    /// Of several campaigns, by currency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub totals_by_currency: Option<Vec<OfCurrency>>,
    pub platforms: Vec<OfPlatform>,
    pub data: Vec<Row<'a>>,
    pub paging: Paging,
}

/// How to get the next page; null on the last one.
#[derive(Debug, Serialize)]
pub struct Paging {
    pub next_cursor: Option<String>,
    /// Rows on all pages together, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<usize>,
}

/// One campaign of `GET /campaigns`.
#[derive(Debug, Serialize)]
pub struct CampaignRow<'a> {
    pub campaign_id: &'a str,
    #[serde(flatten)]
    pub described: Described<'a>,
    #[serde(flatten)]
    pub figures: Figures,
}

/// `GET /campaigns`.
#[derive(Debug, Serialize)]
pub struct Campaigns<'a> {
    /// That which was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<Currency>,
    /// By what money was converted, where a currency was asked for; null where none was of another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rates: Option<Option<Used>>,
    pub window: Span,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_window: Option<Span>,
    pub time_zone: &'static str,
    pub freshness: Option<Fresh>,
    /// Of all campaigns of the list, on whichever page.
    pub totals: Whole,
    pub totals_by_currency: Vec<OfCurrency>,
    pub data: Vec<CampaignRow<'a>>,
    pub paging: Paging,
}

/// One event of `GET /campaign/{id}/events`.
#[derive(Debug, Serialize)]
pub struct EventRow {
    pub event_id: String,
    pub platform: String,
    pub event_time: String,
    pub impressions: Count,
    pub clicks: Count,
    #[serde(serialize_with = "decimal")]
    pub conversions: Conversions,
    pub cost_micros: Money,
    pub revenue_micros: Money,
    pub cost: f64,
    pub revenue: f64,
    pub topic: String,
    pub partition: i32,
    pub offset: Offset,
    pub counted_at: String,
    /// Of a restatement, when the platform was asked; an increment has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_at: Option<String>,
}

/// `GET /campaign/{id}/events`.
#[derive(Debug, Serialize)]
pub struct Events<'a> {
    pub campaign_id: &'a str,
    pub window: Span,
    pub data: Vec<EventRow>,
    pub paging: Paging,
}

/// A dead letter of `GET /dead-letters`, and `GET /dead-letters/{topic}/{partition}/{offset}`.
#[derive(Debug, Serialize)]
pub struct LetterRow {
    pub topic: String,
    pub partition: i32,
    pub offset: Offset,
    pub reason: String,
    pub explanation: Option<&'static str>,
    pub created_at: String,
    pub record_time: Option<String>,
    /// The key where it is text.
    pub key: Option<String>,
    pub key_hex: Option<String>,
    /// At most so much of it as an answer takes.
    pub payload_hex: Option<String>,
    /// How many there are.
    pub payload_bytes: Option<i32>,
    /// Null where there are too many for this answer.
    pub headers: Option<serde_json::Value>,
    /// Where the rest is, if this is not all.
    pub more: Option<String>,
}

/// `GET /dead-letters`.
#[derive(Debug, Serialize)]
pub struct Letters {
    pub window: Span,
    pub data: Vec<LetterRow>,
    pub paging: Paging,
}

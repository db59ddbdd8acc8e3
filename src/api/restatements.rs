//! `GET /campaign/{id}/restatements`: what its platform said of each of a campaign's days, and how that changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Datelike as _, NaiveDate, Utc};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;
use warp::reply::Response;

use super::answer::{self, Format};
use super::body::{Decimal, Paging};
use super::endpoint::{Content, Endpoint, Handler, Schema};
use super::limits::Cost;
use super::openapi::schemas::{
    self, count, described, id, integer, list, nullable, number, object, platform, reference, text,
    time,
};
use super::parameters::{CURSOR, FORMAT, ID, LIMIT, Parameter, ParameterType};
use super::problem::Problem;
use super::request::{Arguments, Request};
use super::{State, cursor, window};
use crate::cache::Source;
use crate::event::{Conversions, Count, Money};
use crate::report_row::Values;
use crate::store::read::restatements::{self, Cursor, Page, Restatement};
use crate::time::{Timestamp, rfc3339};

static DAY: Parameter = Parameter::query(
    "day",
    ParameterType::Date,
    "Only this day of the account's calendar.",
);
static SINCE: Parameter = Parameter::query(
    "since",
    ParameterType::Date,
    "Only days from this one on, included.",
);
static UNTIL: Parameter =
    Parameter::query("until", ParameterType::Date, "Only days before this one.");

/// `GET /campaign/{id}/restatements`
pub(super) static RESTATEMENTS: Endpoint = Endpoint {
    tag: Some("records"),
    summary: "How a campaign's days were restated",
    description: "What the platform said of each day of a campaign, and of each slice of a day: one row for each time that it said something else than before, newest day and newest answer first.",
    parameters: &[&[ID, DAY, SINCE, UNTIL, LIMIT, CURSOR, FORMAT]],
    csv: true,
    failures: &[404],
    questions: &[(
        "How did a campaign's day grow after it was over?",
        "/campaign/cmp-42/restatements?day=2026-11-01",
    )],
    cost: Cost::Heavy,
    ..Endpoint::get(
        "/campaign/{id}/restatements",
        Content::Json(Schema {
            name: "Restatements",
            describe: || {
                let date = || json!({ "type": "string", "format": "date" });
                let change =
                    || object(json!({ "from": nullable(number()), "to": nullable(number()) }));
                object(json!({
                    "campaign_id": id(),
                    "data": list(object(json!({
                        "day": described(date(), "A day of the account's time zone."),
                        "slice": described(text(), "What part of the campaign, as ad_group=123,country=DE; empty: all of it."),
                        "event_id": described(json!({ "type": "string", "format": "uuid" }), "That of the day's restatements in /events."),
                        "observed_at": described(time(), "When the platform was asked that first said so."),
                        "confirmed_at": described(nullable(time()), "When it was last asked again and said the same; null: never."),
                        "newest": described(json!({ "type": "boolean" }), "Whether this is its newest answer, which counts."),
                        "impressions": described(nullable(integer()), "Null, here and below: it did not say, which is not zero."),
                        "clicks": nullable(integer()), "conversions": nullable(number()),
                        "cost_micros": nullable(integer()), "revenue_micros": nullable(integer()),
                        "changes": described(
                            object(json!({
                                "impressions?": change(), "clicks?": change(), "conversions?": change(),
                                "cost_micros?": change(), "revenue_micros?": change(),
                            })),
                            "What it said otherwise before; before the first answer, nothing.",
                        ),
                        "file": described(nullable(text()), "The SHA-256 of the file that said so first, in hexadecimal."),
                        "line": described(nullable(count()), "The line in it, or the row of its sheet, or the number of the report, from 1."),
                        "counted_at": described(time(), "When that was counted."),
                        "definition": object(json!({
                            "platform": platform(), "account_id": text(), "time_zone": text(), "currency": text(),
                            "conversions": described(text(), "What counts as a conversion, in the platform's own words; empty: what it counts itself."),
                            "revenue": described(text(), "What is revenue, likewise."),
                            "grain": described(text(), "The names of what the day's rows are split by; empty: not at all."),
                        })),
                    }))),
                    "paging": reference(&schemas::PAGING),
                }))
            },
        }),
        Handler::With(|state, request| Box::pin(of_campaign(state, request))),
    )
};

/// A value of a report, as it is written: known, or null.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
enum Value {
    Integer(Option<i64>),
    Conversions(Option<Decimal>),
}

impl Value {
    fn cell(self) -> String {
        match self {
            Value::Integer(value) => value.map(|value| value.to_string()),
            Value::Conversions(value) => value.map(|value| value.0.to_string()),
        }
        .unwrap_or_default()
    }
}

/// Their names in answers, in the order of [`values`].
const NAMES: [&str; 5] = [
    "impressions",
    "clicks",
    "conversions",
    "cost_micros",
    "revenue_micros",
];

fn values(values: &Values) -> [Value; 5] {
    let count = |value: Option<Count>| Value::Integer(value.map(Count::get));
    let money = |value: Option<Money>| Value::Integer(value.map(Money::get));
    let conversions = |value: Option<Conversions>| Value::Conversions(value.map(Decimal));
    [
        count(values.impressions),
        count(values.clicks),
        conversions(values.conversions),
        money(values.cost),
        money(values.revenue),
    ]
}

#[derive(Serialize)]
struct Change {
    from: Value,
    to: Value,
}

#[derive(Serialize)]
struct Definition {
    platform: &'static str,
    account_id: String,
    time_zone: String,
    currency: String,
    conversions: String,
    revenue: String,
    grain: String,
}

#[derive(Serialize)]
struct Row {
    day: NaiveDate,
    slice: String,
    event_id: String,
    observed_at: String,
    confirmed_at: Option<String>,
    newest: bool,
    #[serde(flatten)]
    values: BTreeMap<&'static str, Value>,
    changes: BTreeMap<&'static str, Change>,
    file: Option<String>,
    line: Option<i64>,
    counted_at: String,
    definition: Definition,
}

#[derive(Serialize)]
struct Document<'a> {
    campaign_id: &'a str,
    data: Vec<Row>,
    paging: Paging,
}

async fn of_campaign(state: Arc<State>, request: Request) -> Result<Response, Problem> {
    let given = &request.arguments;
    let id = given.in_path(&ID);
    let question = format!("{id}?{}", given.question(&[&CURSOR, &LIMIT, &FORMAT]));
    let after = state.cursors.read(&question, given).await?;
    let page = Page {
        campaign_id: id.to_owned(),
        days: days(given)?,
        after: after.map(place).transpose()?,
        limit: given.integer(&LIMIT),
    };
    let (found, more) = state
        .ask_of(id, request.cost, move |connection| {
            restatements::read(connection, &page)
        })
        .await?
        .ok_or_else(|| Problem::unknown_campaign(id))?;
    let next_cursor = match found.last().filter(|_| more) {
        Some(last) => Some(state.cursors.give(&question, &numbers(last)).await?),
        None => None,
    };
    let response = if request.format() == Format::Csv {
        table(found, next_cursor.as_deref())
    } else {
        answer::json(&Document {
            campaign_id: id,
            data: found.into_iter().map(row).collect(),
            paging: Paging {
                next_cursor,
                total: None,
            },
        })
    };
    Ok(answer::from(response, Source::Database))
}

/// The first day and the last that are asked for.
fn days(given: &Arguments) -> Result<(NaiveDate, NaiveDate), Problem> {
    let date = |parameter| given.get(parameter).and_then(window::parse_date);
    let (day, since, until) = (date(&DAY), date(&SINCE), date(&UNTIL));
    if let Some(day) = day {
        return match since.or(until) {
            None => Ok((day, day)),
            Some(_) => {
                let detail = "give either day or since and until, not both";
                Err(Problem::parameter(DAY.name, detail))
            }
        };
    }
    if since
        .zip(until)
        .is_some_and(|(since, until)| since >= until)
    {
        return Err(Problem::window(SINCE.name, "since is not before until"));
    }
    let last = until.and_then(|until| until.pred_opt());
    let (earliest, latest) = (
        NaiveDate::from_yo_opt(1, 1),
        NaiveDate::from_yo_opt(9999, 1),
    );
    Ok((
        since.or(earliest).unwrap_or_default(),
        last.or(latest).unwrap_or_default(),
    ))
}

/// A place as the numbers of a cursor.
fn numbers(last: &Restatement) -> [i64; 4] {
    let (high, low) = last.event_id.as_u64_pair();
    [
        last.day.num_days_from_ce().into(),
        high.cast_signed(),
        low.cast_signed(),
        last.observed_at.timestamp_micros(),
    ]
}

fn place([day, high, low, observed_at]: [i64; 4]) -> Result<Cursor, Problem> {
    let day = i32::try_from(day).ok();
    let day = day.and_then(NaiveDate::from_num_days_from_ce_opt);
    let observed_at: Option<DateTime<Utc>> = Timestamp::new(observed_at).datetime();
    let place = day.zip(observed_at).map(|(day, observed_at)| Cursor {
        day,
        event_id: Uuid::from_u64_pair(high.cast_unsigned(), low.cast_unsigned()),
        observed_at,
    });
    place.ok_or_else(|| Problem::cursor(cursor::NOT_OURS))
}

fn row(said: Restatement) -> Row {
    let now = values(&said.values);
    let before = values(&said.before.unwrap_or_default());
    let pairs = NAMES.into_iter().zip(before.into_iter().zip(now));
    let changed = pairs.filter(|(_, (from, to))| from != to);
    let (file, line) = said.origin;
    let definition = said.definition;
    Row {
        day: said.day,
        slice: said.slice,
        event_id: said.event_id.to_string(),
        observed_at: rfc3339(said.observed_at),
        confirmed_at: said.confirmed_at.map(rfc3339),
        newest: said.is_newest,
        values: NAMES.into_iter().zip(now).collect(),
        changes: changed
            .map(|(name, (from, to))| (name, Change { from, to }))
            .collect(),
        file,
        line,
        counted_at: rfc3339(said.counted_at),
        definition: Definition {
            platform: said.platform.name(),
            account_id: definition.account,
            time_zone: definition.time_zone,
            currency: definition.currency,
            conversions: definition.conversions,
            revenue: definition.revenue,
            grain: said.grain,
        },
    }
}

/// The values of each row, and those before it.
fn table(found: Vec<Restatement>, next_cursor: Option<&str>) -> Response {
    let head = ["day", "slice", "observed_at", "confirmed_at", "newest"].into_iter();
    let head = head.map(str::to_owned).chain(NAMES.map(str::to_owned));
    let head = head.chain(NAMES.map(|name| format!("previous_{name}")));
    let ends = [
        "file",
        "line",
        "counted_at",
        "platform",
        "account_id",
        "time_zone",
        "currency",
    ];
    let head = head.chain(ends.map(str::to_owned)).collect();
    let records = found.into_iter().map(|said| {
        let now = values(&said.values);
        let before = values(&said.before.unwrap_or_default());
        let row = row(said);
        let mut record = vec![
            row.day.to_string(),
            row.slice,
            row.observed_at,
            row.confirmed_at.unwrap_or_default(),
            row.newest.to_string(),
        ];
        record.extend(now.into_iter().chain(before).map(Value::cell));
        record.extend([
            row.file.unwrap_or_default(),
            row.line.map_or_else(String::new, |line| line.to_string()),
            row.counted_at,
            row.definition.platform.to_owned(),
            row.definition.account_id,
            row.definition.time_zone,
            row.definition.currency,
        ]);
        record
    });
    answer::csv(head, records, next_cursor)
}

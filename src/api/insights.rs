//! `GET /campaign/{id}/insights` and `GET /insights`.
//!
//! A campaign's sums over a window in one part come from the caches. Everything else is a series,
//! asked once at a time and kept for a moment.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde_json::json;
use warp::reply::Response;

use super::answer::{self, Format};
use super::body::Fields;
use super::endpoint::{Content, Endpoint, Handler, Schema};
use super::limits::Cost;
use super::openapi::schemas::{
    self, Of, described, figures, id, list, nullable, number, object, platform, reference, text,
    time, with_description,
};
use super::parameters::{
    ACCOUNT, COMPARE, CURSOR, DATE_PRESET, FIELDS, FORMAT, ID, PLATFORM, Parameter, ParameterType,
    SINCE, TIME_ZONE, UNTIL, WINDOW, WINDOW_OF_CAMPAIGN,
};
use super::problem::Problem;
use super::rates::{self, CURRENCY};
use super::request::{Arguments, Request};
use super::window::{Asked, Increment, TIME_INCREMENTS};
use super::{State, as_of, asked, expected, written};
use crate::cache::Source;
use crate::currency::Currency;
use crate::event::Platform;
use crate::report_row::Values;
use crate::store::read::insights::Window;
use crate::store::read::insights::series::Scope;
use crate::time::Timestamp;
use crate::totals::metric::Metric;

mod days;
mod read;
mod write;

use read::Sums;

/// The most rows an answer has on all its pages.
const MAX_ROWS: usize = 50_000;

fn check_rows(rows: usize) -> Result<(), Problem> {
    if rows > MAX_ROWS {
        let detail = format!(
            "the answer would have {rows} rows and may have {MAX_ROWS}; take a coarser time_increment, a shorter window or fewer campaigns"
        );
        return Err(Problem::window("time_increment", detail));
    }
    Ok(())
}

static AS_OF: Parameter = Parameter::query(
    "as_of",
    ParameterType::Time,
    "Answers what was known at this instant, from the event store. A date_preset, or a window without until, is relative to it. Not together with time_increment or compare.",
);
pub(super) static TIME_INCREMENT: Parameter = Parameter::query(
    "time_increment",
    ParameterType::OneOf(TIME_INCREMENTS),
    "A row of data for each minute, hour, day, week (from Monday) or month of the window, in time_zone; at most 4,000. The first and the last may be cut by the window. all: one row for the whole window.",
)
.or("all");
static CAMPAIGN_BREAKDOWN: Parameter = Parameter::query(
    "breakdown",
    ParameterType::SomeOf(&["platform"]),
    "A row for each platform.",
);
static BREAKDOWN: Parameter = Parameter::query(
    "breakdown",
    ParameterType::SomeOf(&["campaign", "platform", "currency"]),
    "A row for each platform, for each of the campaigns that are named, for each currency, or for several of these (campaign,platform). Rows of a campaign have one currency anyway.",
);
static CAMPAIGNS_NAMED: Parameter = Parameter::query(
    "campaigns",
    ParameterType::CampaignIds { most: 100 },
    "Only these campaigns, separated by commas, at most 100. Needed with breakdown=campaign; lists of all campaigns come from /campaigns.",
);
static ROWS: Parameter = Parameter::query(
    "limit",
    ParameterType::Integer {
        least: 1,
        most: 10_000,
    },
    "Rows of data in an answer.",
)
.or("10000");

/// `GET /campaign/{id}/insights`
pub(super) static OF_CAMPAIGN: Endpoint = Endpoint {
    tag: Some("insights"),
    summary: "Insights of a campaign",
    description: "Sums and ratios of one campaign over a window: in all, by time and by platform, and compared with the period before.",
    parameters: &[
        &[ID],
        WINDOW_OF_CAMPAIGN,
        &[
            TIME_INCREMENT,
            AS_OF,
            CAMPAIGN_BREAKDOWN,
            PLATFORM,
            FIELDS,
            COMPARE,
            CURRENCY,
            ROWS,
            CURSOR,
            FORMAT,
        ],
    ],
    csv: true,
    failures: &[404, 422],
    questions: &[
        (
            "What has a campaign earned, ever?",
            "/campaign/cmp-42/insights",
        ),
        (
            "How did it do today, hour by hour in New York, only ROAS and spend?",
            "/campaign/cmp-42/insights?date_preset=today&time_zone=America/New_York&time_increment=hour&fields=roas,cost",
        ),
    ],
    cost: Cost::Heavy,
    ..Endpoint::get(
        "/campaign/{id}/insights",
        INSIGHTS,
        Handler::With(|state, request| Box::pin(of_campaign(state, request))),
    )
};

/// `GET /insights`
pub(super) static OF_ALL: Endpoint = Endpoint {
    tag: Some("insights"),
    summary: "Insights of all campaigns together",
    description: "Sums and ratios of all campaigns, or of those named, over a window: in all, by time, by platform and by campaign, and compared with the period before.",
    parameters: &[
        WINDOW,
        &[
            TIME_INCREMENT,
            BREAKDOWN,
            CAMPAIGNS_NAMED,
            PLATFORM,
            FIELDS,
            COMPARE,
            CURRENCY,
            ROWS,
            CURSOR,
            FORMAT,
        ],
    ],
    csv: true,
    failures: &[422],
    questions: &[
        (
            "How did all campaigns together do, day by day, in the last two weeks?",
            "/insights?date_preset=last_14d&time_increment=day",
        ),
        (
            "Which platform pays, against the week before?",
            "/insights?date_preset=last_7d&breakdown=platform&compare=previous_period",
        ),
        (
            "What did all accounts together earn last month, in euros?",
            "/insights?date_preset=last_month&currency=EUR",
        ),
    ],
    cost: Cost::Heavy,
    ..Endpoint::get(
        "/insights",
        INSIGHTS,
        Handler::With(|state, request| Box::pin(of_all(state, request))),
    )
};

const INSIGHTS: Content = Content::Json(Schema {
    name: "Insights",
    describe: || {
        object(schemas::with_rates(with_description(
            json!({
                "campaign_id?": id(),
                "as_of?": described(time(), "The instant that was asked about."),
                "window": reference(&schemas::WINDOW),
                "previous_window?": reference(&schemas::WINDOW),
                "time_zone": text(),
                "freshness": nullable(reference(&schemas::FRESHNESS)),
                "totals": schemas::whole(json!({}), Of::Many),
                "totals_by_currency?": schemas::by_currency(),
                "platforms": list(figures(json!({ "platform": platform() }), Of::Many)),
                "data": list(figures(with_description(json!({
                    "since": nullable(time()), "until": nullable(time()), "campaign_id?": id(), "platform?": platform(),
                "provisional?": described(
                    nullable(json!({ "type": "boolean" })),
                    "Of a campaign's day: whether its platform may still restate it, since it was last asked too soon after the day; null where no report is about it.",
                ),
                "observed_at?": described(nullable(time()), "Of a campaign's day: when its platform was last asked about it."),
                "partial?": described(
                    nullable(list(json!({ "type": "string", "enum": Values::NAMES }))),
                    "Of a campaign's day: what some of its reports do not say. Where none does, the value is null.",
                ),
                "expected?": described(of_day(), "Of a day of the campaign's account that its platform still restates: what it will come to, from how past days grew. Four in five days end between low and high; days: on how many past days that rests. Null: too few, or nothing is known yet."),
                }), true), Of::Many)),
                "paging": reference(&schemas::PAGING),
            }),
            true,
        )))
    },
});

fn of_day() -> serde_json::Value {
    let expected = || {
        object(json!({
            "known": number(), "expected": number(), "low": number(), "high": number(), "days": schemas::count(),
        }))
    };
    object(json!({ "conversions": nullable(expected()), "revenue": nullable(expected()) }))
}

/// The sums and ratios of one campaign.
async fn of_campaign(state: Arc<State>, request: Request) -> Result<Response, Problem> {
    let given = &request.arguments;
    let id = given.in_path(&ID);
    let zone = asked::zone_of_campaign(&state, id, given).await?;
    let instant = instant(given, zone)?;
    let now = instant.unwrap_or_else(|| state.now());
    let mut wanted = Wanted::of(&state, given, id, zone, now).await?;
    if wanted.currency.is_some() {
        let own = state.shards.of(id).cache.description(id).await;
        let own = own.map(|known| known.account.currency);
        wanted.is_converted = own != wanted.currency;
    }
    let mut kept = None;
    let answer = match (instant, wanted.one_row()) {
        (Some(instant), _) => {
            wanted.as_of = Some(instant);
            let window = wanted.asked.window;
            // By rates that are known now: when each became known does not matter to what money was worth.
            let conversion = wanted.conversion_of_all(&state, &one(id)).await?;
            let known = as_of::campaign(&state, id, window, conversion, instant).await?;
            let (mut sums, converted) = known;
            wanted.refuse(&converted)?;
            // Whose it is does not change; its name is that of now.
            sums.description = state.shards.of(id).cache.description(id).await;
            wanted.of_the_past(window, &sums, converted)
        }
        (None, Some(window)) => {
            let found = state.shards.of(id).cache.get(id, window).await;
            let found = found.map_err(|e| Problem::unavailable(&e))?;
            let Some(sums) = found.sums else {
                return Err(Problem::unknown_campaign(id));
            };
            let answer = Sums::of_campaign(window, &sums, found.source);
            if found.source != Source::Stale && request.format() == Format::Json {
                let question = written::Question {
                    target: request.target(),
                    campaign: Arc::from(id),
                    window,
                    lasting: is_lasting(given),
                };
                if let Some(response) = state.written.get(&question, &sums) {
                    return Ok(answer::from(response, found.source));
                }
                kept = Some((question, sums));
            }
            answer
        }
        (None, None) => wanted.answer(&state, &one(id)).await?,
    };
    if answer.now.series.freshness.is_none() {
        return Err(Problem::unknown_campaign(id));
    }
    let expected = match answer.now.window {
        Some(window) if wanted.is_of_days() => {
            let days = expected::days(&state, id, window.until()).await;
            match (days, wanted.currency) {
                (Some(days), Some(into)) if wanted.is_converted => {
                    let own = answer.now.series.descriptions.currency(id);
                    let rates = rates::all(&state).await?;
                    Some(days.converted(|day| rates.factor(own?, into, day).ok()))
                }
                (days, _) => days,
            }
        }
        _ => None,
    };
    let mut response = wanted
        .write(&state, &request, &one(id), &answer, Some(id), expected)
        .await?;
    if let Some((question, sums)) = kept {
        let written = &state.written;
        response = written.keep(&OF_CAMPAIGN, question, sums, response).await;
    }
    Ok(answer::from(response, answer.source))
}

/// The instant of the past that is asked about, if one is.
fn instant(given: &Arguments, zone: Tz) -> Result<Option<DateTime<Utc>>, Problem> {
    let Some(instant) = asked::time(given, &AS_OF)? else {
        return Ok(None);
    };
    let increment = given.get(&TIME_INCREMENT) != Some("all");
    if increment || given.has(&COMPARE) {
        let detail =
            "as_of goes with one row for the whole window: leave time_increment and compare out";
        return Err(Problem::parameter("as_of", detail));
    }
    Ok(instant.instant(zone))
}

/// Whether the window moves neither with the clock nor with an account.
fn is_lasting(given: &Arguments) -> bool {
    let preset = given.get(&DATE_PRESET);
    preset.is_none_or(|preset| preset == "maximum")
        && given.has(&SINCE) == given.has(&UNTIL)
        && given.get(&TIME_ZONE) != Some(ACCOUNT)
}

fn one(id: &str) -> Scope {
    Scope::Campaigns {
        ids: vec![id.to_owned()],
        each: false,
    }
}

/// The sums and ratios of all campaigns, or of some.
async fn of_all(state: Arc<State>, request: Request) -> Result<Response, Problem> {
    let given = &request.arguments;
    let zone = asked::zone(given)?;
    let wanted = Wanted::of(&state, given, "", zone, state.now()).await?;
    let scope = match given.words(&CAMPAIGNS_NAMED) {
        Some(ids) => Scope::Campaigns {
            ids: ids.into_iter().map(str::to_owned).collect(),
            each: wanted.by_campaign,
        },
        None if wanted.by_campaign => {
            let detail = "breakdown=campaign needs campaigns, the ids of at most 100; GET /campaigns lists all of them";
            return Err(Problem::parameter("breakdown", detail));
        }
        None => Scope::All,
    };
    let answer = wanted.answer(&state, &scope).await?;
    let response = wanted
        .write(&state, &request, &scope, &answer, None, None)
        .await?;
    Ok(answer::from(response, answer.source))
}

/// What is asked about a scope.
struct Wanted {
    asked: Asked,
    zone: Tz,
    increment: Increment,
    by_campaign: bool,
    by_platform: bool,
    by_currency: bool,
    platforms: Vec<Platform>,
    fields: Fields,
    compare: bool,
    /// In which all money is wanted.
    currency: Option<Currency>,
    /// Whether money may be of another one.
    is_converted: bool,
    /// What a cursor belongs to.
    question: String,
    /// The first row that is shown.
    offset: usize,
    /// The instant of the past that is asked about.
    as_of: Option<DateTime<Utc>>,
}

impl Wanted {
    async fn of(
        state: &State,
        given: &Arguments,
        about: &str,
        zone: Tz,
        now: DateTime<Utc>,
    ) -> Result<Wanted, Problem> {
        let mut window = asked::window_in(given, zone, now)?;
        let question = given.question(&[&CURSOR, &ROWS, &FORMAT]);
        let question = format!("{about}?{question}");
        let mut offset = 0;
        if let Some([row, ends @ ..]) = state.cursors.read::<5>(&question, given).await? {
            // A preset moves on with the clock; the pages of one answer are of one window.
            let [since, until, from, to] = ends.map(Timestamp::new);
            offset = usize::try_from(row).unwrap_or(usize::MAX);
            window = Asked {
                window: Window::covering(since, until),
                previous: Window::covering(from, to),
            };
        }
        let breakdown = given.words(&BREAKDOWN).unwrap_or_default();
        if given.has(&CURRENCY) && breakdown.contains(&"currency") {
            let detail = "with currency, all money is in that one: leave currency out of breakdown";
            return Err(Problem::parameter("breakdown", detail));
        }
        let increment = given.get(&TIME_INCREMENT);
        Ok(Wanted {
            asked: window,
            zone,
            increment: increment
                .and_then(Increment::parse)
                .unwrap_or(Increment::All),
            by_campaign: breakdown.contains(&"campaign"),
            by_platform: breakdown.contains(&"platform"),
            // A campaign has one.
            by_currency: breakdown.contains(&"currency") && !breakdown.contains(&"campaign"),
            platforms: asked::platforms(given),
            fields: asked::fields(given),
            compare: given.has(&COMPARE),
            currency: rates::currency(given),
            is_converted: given.has(&CURRENCY),
            question,
            offset,
            as_of: None,
        })
    }

    /// Whether its rows are days and say something that is expected.
    fn is_of_days(&self) -> bool {
        let is_expected = |metric| matches!(metric, Metric::Conversions | Metric::Revenue);
        self.increment == Increment::Day && self.fields.metrics().any(is_expected)
    }

    /// The window, where all of it is one part and nothing is compared with it.
    fn one_row(&self) -> Option<Option<Window>> {
        let is_one = self.increment == Increment::All && !self.compare && !self.is_converted;
        is_one.then_some(self.asked.window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use warp::http::HeaderMap;

    #[test]
    fn windows_that_move_with_the_clock_do_not_last() {
        let lasting = |raw| {
            let path = "/campaign/a/insights";
            let given =
                super::super::reading::arguments(&OF_CAMPAIGN, path, raw, &HeaderMap::new());
            is_lasting(&given.expect("arguments"))
        };
        for raw in [
            "",
            "date_preset=maximum",
            "since=2026-01-01&until=2026-01-02&time_zone=Asia/Kolkata",
        ] {
            assert!(lasting(raw), "{raw}");
        }
        for raw in [
            "date_preset=today",
            "date_preset=last_month",
            "since=2026-01-01",
            "since=2026-01-01&until=2026-01-02&time_zone=account",
        ] {
            assert!(!lasting(raw), "{raw}");
        }
    }
}

//! `GET /campaign/{id}/insights` and `GET /campaigns`.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde::Serialize;
use warp::http::{HeaderValue, StatusCode, header};
use warp::reply::Response;

use super::body::{CampaignRow, Campaigns, Insights, Paging, Span};
use super::cursor;
use super::params::{Parameter, Query};
use super::problem::Problem;
use super::window::{self, When, parse_time, parse_zone};
use super::{State, as_of, endpoints};
use crate::cache::Source;
use crate::event::CampaignId;
use crate::metrics;
use crate::store::insights::{self, Page, Window};
use crate::totals::metric::Metric;

fn zone(query: &Query) -> Result<Tz, Problem> {
    let name = query.get(&endpoints::TIME_ZONE).unwrap_or("UTC");
    parse_zone(endpoints::TIME_ZONE.name, name)
}

fn time(query: &Query, parameter: &'static Parameter) -> Result<Option<When>, Problem> {
    let given = query.get(parameter);
    given.map(|t| parse_time(parameter.name, t)).transpose()
}

/// The window a request asks for; none: all time.
fn asked(query: &Query, now: DateTime<Utc>) -> Result<Option<Window>, Problem> {
    window::asked(
        time(query, &endpoints::SINCE)?,
        time(query, &endpoints::UNTIL)?,
        query.get(&endpoints::DATE_PRESET),
        zone(query)?,
        now,
    )
    .map(|asked| asked.window)
}

/// The sums and ratios of one campaign.
pub(super) async fn campaign(state: State, id: String, raw: String) -> Result<Response, Problem> {
    // Ids need no escapes, so an escaped one is not valid either.
    let campaign_id = CampaignId::parse(&id).map_err(|_| Problem::campaign_id(&id))?;
    let query = Query::parse(&raw, &endpoints::CAMPAIGN_INSIGHTS)?;
    if let Some(instant) = time(&query, &endpoints::AS_OF)? {
        let instant = instant.instant(zone(&query)?).unwrap_or_default();
        let window = asked(&query, instant)?;
        return as_of::campaign(state, campaign_id.as_str(), window, instant).await;
    }
    let window = asked(&query, Utc::now())?;
    let answer = state
        .cache
        .get(campaign_id.as_str(), window)
        .await
        .map_err(|e| Problem::unavailable(&e))?;
    metrics::CACHE
        .with_label_values(&[answer.source.as_str()])
        .inc();
    let sums = answer.sums.ok_or_else(|| Problem::unknown_campaign(&id))?;
    let stale = answer.source == Source::Stale;
    let mut response = json(&Insights::of(&sums, window, stale));
    let source = HeaderValue::from_static(answer.source.as_str());
    response.headers_mut().insert("x-cache", source);
    Ok(response)
}

/// The campaigns with their sums and ratios, sorted and in pages.
pub(super) async fn campaigns(state: State, raw: String) -> Result<Response, Problem> {
    let query = Query::parse(&raw, &endpoints::CAMPAIGNS)?;
    let window = asked(&query, Utc::now())?;
    let metric = query.get(&endpoints::SORT).and_then(Metric::parse);
    let sort = metric.unwrap_or(Metric::Revenue);
    let descending = query.get(&endpoints::ORDER) == Some("desc");
    let limit = query.integer(&endpoints::LIMIT);
    // The window as it was asked for: a preset's end moves on from page to page.
    let question = query.question(&[&endpoints::CURSOR, &endpoints::LIMIT]);
    let after = query
        .get(&endpoints::CURSOR)
        .map(|c| cursor::decode(&question, c))
        .transpose()?;
    // One more than asked tells whether there is another page.
    let page = Page {
        window,
        sort,
        descending,
        after,
        limit: limit + 1,
    };
    let mut rows = state
        .database
        .read(move |connection| insights::campaigns(connection, &page))
        .await
        .map_err(|e| Problem::unavailable(&e))?;
    let more = rows.len() as i64 > limit;
    rows.truncate(limit as usize);
    let next_cursor = rows
        .last()
        .filter(|_| more)
        .map(|last| cursor::encode(&question, &(last.value, last.campaign_id.clone())));
    let mut response = json(&Campaigns {
        window: Span::of(window),
        data: rows.iter().map(CampaignRow::from).collect(),
        paging: Paging { next_cursor },
    });
    // Lists are always as of now.
    let source = HeaderValue::from_static(Source::Database.as_str());
    response.headers_mut().insert("x-cache", source);
    Ok(response)
}

/// A JSON answer that is not to be kept: the next one may be newer.
pub(super) fn json(body: &impl Serialize) -> Response {
    let mut response = match serde_json::to_vec(body) {
        Ok(bytes) => Response::new(bytes.into()),
        Err(error) => {
            log::error!("an answer could not be written as JSON: {error}");
            let mut response = Response::default();
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            return response;
        }
    };
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

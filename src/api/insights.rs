//! `GET /campaign/{id}/insights` and `GET /campaigns`.

use chrono::Utc;
use serde::Serialize;
use warp::http::{HeaderValue, StatusCode, header};
use warp::reply::Response;

use super::State;
use super::body::{CampaignRow, Campaigns, Insights, Paging, Span};
use super::cursor;
use super::problem::{Problem, shorten};
use super::query::Query;
use crate::cache::Source;
use crate::event::CampaignId;
use crate::metrics;
use crate::store::insights::{self, Page, SORT_KEYS};

/// The most campaigns a page has.
const MAX_LIMIT: i64 = 500;

/// The sums and ratios of one campaign.
pub(super) async fn campaign(state: State, id: String, raw: String) -> Result<Response, Problem> {
    // Ids need no escapes, so an escaped one is not valid either.
    let campaign_id = CampaignId::parse(&id).map_err(|_| Problem::campaign_id(&id))?;
    let window = Query::parse(&raw, &["since", "until", "date_preset"])?.window(Utc::now())?;
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
    let query = Query::parse(
        &raw,
        &[
            "since",
            "until",
            "date_preset",
            "sort",
            "order",
            "limit",
            "cursor",
        ],
    )?;
    let window = query.window(Utc::now())?;
    let name = query.get("sort").unwrap_or("revenue");
    let sort = *SORT_KEYS
        .iter()
        .find(|key| key.name == name)
        .ok_or_else(|| {
            let known: Vec<&str> = SORT_KEYS.iter().map(|key| key.name).collect();
            Problem::parameter(
                "sort",
                format!("'{}' is none of {}", shorten(name), known.join(", ")),
            )
        })?;
    let descending = match query.get("order") {
        None | Some("desc") => true,
        Some("asc") => false,
        Some(other) => {
            let detail = format!("'{}' is neither asc nor desc", shorten(other));
            return Err(Problem::parameter("order", detail));
        }
    };
    let limit = query.number("limit", 50, 1..=MAX_LIMIT)?;
    // The window as it was asked for: a preset's end moves on from page to page.
    let asked = |name| query.get(name).unwrap_or("");
    let question = format!(
        "{name} {descending} {} {} {}",
        asked("since"),
        asked("until"),
        asked("date_preset")
    );
    let after = query
        .get("cursor")
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

//! `GET /alerts`: what rules have opened and resolved.

use serde::Serialize;
use warp::reply::Response;

use super::answer::json;
use super::body::Paging;
use super::params::Query;
use super::problem::Problem;
use super::{State, endpoints};
use crate::alerts::document::Document;
use crate::store::keep::alerts::episodes::{self, Filter};

/// `GET /alerts`.
#[derive(Serialize)]
struct Alerts {
    data: Vec<Document>,
    paging: Paging,
}

/// Alerts, those to which something happened last first.
pub(super) async fn alerts(state: State, raw: String) -> Result<Response, Problem> {
    let query = Query::parse(&raw, &endpoints::ALERTS)?;
    let limit = query.integer(&endpoints::LIMIT);
    let text = |parameter| query.get(parameter).map(str::to_owned);
    let before = query.get(&endpoints::CURSOR).map(|cursor| {
        let invalid = || Problem::cursor(super::cursor::NOT_OURS);
        cursor.parse::<i64>().map_err(|_| invalid())
    });
    let filter = Filter {
        open: match query.get(&endpoints::STATE) {
            Some("open") => Some(true),
            Some("resolved") => Some(false),
            _ => None,
        },
        rule_name: text(&endpoints::RULE),
        campaign_id: text(&endpoints::CAMPAIGN),
        before: before.transpose()?,
        // One more than asked tells whether there is another page.
        limit: limit + 1,
    };
    let mut rows = state
        .database
        .read(move |connection| episodes::list(connection, &filter))
        .await
        .map_err(|e| Problem::unavailable(&e))?;
    let more = rows.len() as i64 > limit;
    rows.truncate(limit as usize);
    let last = rows.last().filter(|_| more);
    let next_cursor = last
        .and_then(|last| last.transition_id)
        .map(|id| id.to_string());
    Ok(json(&Alerts {
        data: rows.iter().map(Document::from).collect(),
        paging: Paging {
            next_cursor,
            total: None,
        },
    }))
}

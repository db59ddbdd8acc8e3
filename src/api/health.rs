//! `/livez`, `/readyz` and `/metrics`: for those who run it.

use serde_json::{Map, Value, json};
use warp::http::{HeaderValue, StatusCode, header};
use warp::reply::Response;

use super::State;
use super::answer::json as json_response;
use crate::metrics;
use crate::store::read::insights;

/// The process runs and answers.
pub(super) fn live() -> Response {
    json_response(&json!({ "status": "ok" }))
}

/// Whether requests can be answered, with each dependency by name. Redis is not needed for that,
/// but is named where it is used.
pub(super) async fn ready(state: State) -> Response {
    let database = state.database.read(insights::ping).await;
    let shared = state.cache.shared_answers().await;
    let word = |up: bool| if up { "ok" } else { "unreachable" };
    let mut dependencies = Map::new();
    dependencies.insert("postgresql".to_owned(), word(database.is_ok()).into());
    if let Some(up) = shared {
        dependencies.insert("redis".to_owned(), word(up).into());
    }
    readiness(database.is_ok(), dependencies)
}

/// The same of a processor, which answers nothing else.
pub(super) fn ready_to_count() -> Response {
    readiness(true, Map::new())
}

/// A process whose writers stand still is not ready, whatever else it can do.
fn readiness(is_ready: bool, mut body: Map<String, Value>) -> Response {
    let standstill = metrics::standstill();
    let is_ready = is_ready && standstill.is_none();
    let status = if is_ready { "ok" } else { "unavailable" };
    body.insert("status".to_owned(), status.into());
    if let Some(cause) = standstill {
        body.insert("standstill".to_owned(), cause.into());
    }
    let mut response = json_response(&body);
    if !is_ready {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

/// Everything that is counted, in Prometheus' text format.
pub(super) fn prometheus() -> Response {
    let mut response = Response::new(metrics::text().into());
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

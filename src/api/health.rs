//! `/livez`, `/readyz` and `/metrics`: for those who run it.

use serde_json::json;
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
    let mut body = json!({
        "status": if database.is_ok() { "ok" } else { "unavailable" },
        "postgresql": word(database.is_ok()),
    });
    if let (Some(up), Some(body)) = (shared, body.as_object_mut()) {
        body.insert("redis".to_owned(), word(up).into());
    }
    let mut response = json_response(&body);
    if database.is_err() {
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

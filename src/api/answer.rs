//! How an answer is written: as JSON, or a list as CSV.

use std::borrow::Cow;

use serde::Serialize;
use warp::Reply as _;
use warp::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use warp::reply::Response;

use super::body::{Comparison, Fields, Figures};
use crate::cache::Source;
use crate::metrics;
use crate::spreadsheet;
use crate::totals::metric::Value;

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Csv,
}

/// Whether the `Accept` header asks for a table.
pub(super) fn wants_csv(headers: &HeaderMap) -> bool {
    let accepts = |kind: &str| {
        let values = headers.get_all(header::ACCEPT).iter();
        let mut kinds = values
            .filter_map(|v| v.to_str().ok())
            .flat_map(|v| v.split(','));
        kinds.any(|k| {
            let name = k.split(';').next().unwrap_or_default().trim();
            name.eq_ignore_ascii_case(kind)
        })
    };
    accepts("text/csv") && !accepts("application/json")
}

/// A JSON answer.
pub(super) fn json(body: &impl Serialize) -> Response {
    let mut response = match serde_json::to_vec(body) {
        Ok(bytes) => Response::new(bytes.into()),
        Err(error) => return failed(&error),
    };
    as_type(&mut response, "application/json");
    response
}

/// Rows of a table that are written at a time.
const ROWS_AT_A_TIME: usize = 1_000;

/// A CSV answer, written as it is sent. `next_cursor` has no place in a table, so it is a header.
pub(super) fn csv(
    head: Vec<String>,
    records: impl Iterator<Item = Vec<String>> + Send + Sync + 'static,
    next_cursor: Option<&str>,
) -> Response {
    let mut records = std::iter::once(head).chain(records).fuse();
    let chunks = std::iter::from_fn(move || {
        let mut writer = csv::Writer::from_writer(Vec::new());
        for record in records.by_ref().take(ROWS_AT_A_TIME) {
            // Writing to memory cannot fail, and all records are as long as the head.
            writer.write_record(record.into_iter().map(shown)).ok()?;
        }
        let chunk = writer.into_inner().ok()?;
        (!chunk.is_empty()).then_some(Ok::<_, std::convert::Infallible>(chunk))
    });
    let mut response = warp::reply::stream(tokio_stream::iter(chunks)).into_response();
    as_type(&mut response, "text/csv; charset=utf-8");
    if let Some(cursor) = next_cursor.and_then(|c| HeaderValue::from_str(c).ok()) {
        response.headers_mut().insert(X_NEXT_CURSOR, cursor);
    }
    response
}

/// A cell as a spreadsheet is to show it.
fn shown(text: String) -> String {
    let changed = match spreadsheet::cell(&text) {
        Cow::Owned(changed) => Some(changed),
        Cow::Borrowed(_) => None,
    };
    changed.unwrap_or(text)
}

/// The columns that [`figures`] fills.
pub(super) fn figures_head(fields: Fields, compare: bool) -> impl Iterator<Item = String> {
    let own = fields.metrics().map(|metric| metric.name().to_owned());
    let compared = fields
        .metrics()
        .filter(move |_| compare)
        .flat_map(|metric| {
            let name = metric.name();
            ["previous", "absolute", "relative"].map(|what| format!("{what}_{name}"))
        });
    own.chain(compared)
}

/// Metrics and their comparison, as cells of a table.
pub(super) fn figures(figures: &Figures) -> impl Iterator<Item = String> {
    let metrics = &figures.metrics;
    let own = metrics
        .fields
        .metrics()
        .map(|metric| metrics.sums.value(metric));
    let compared = figures.comparison.iter().flat_map(Comparison::cells);
    own.chain(compared).map(cell)
}

/// A metric's value in a table; nothing where it has none.
fn cell(value: Value) -> String {
    match value {
        Value::Integer(value) => value.to_string(),
        Value::Conversions(value) => value.to_string(),
        Value::Number(value) => value.map_or_else(String::new, |value| value.to_string()),
    }
}

/// Where the next page of a table is.
pub(super) const X_NEXT_CURSOR: HeaderName = HeaderName::from_static("x-next-cursor");

/// Says where an answer came from.
pub(super) const X_CACHE: HeaderName = HeaderName::from_static("x-cache");

/// Says where an answer came from, and counts it.
pub(super) fn from(mut response: Response, source: Source) -> Response {
    let name = source.as_str();
    metrics::CACHE.with_label_values(&[name]).inc();
    response
        .headers_mut()
        .insert(X_CACHE, HeaderValue::from_static(name));
    response
}

fn as_type(response: &mut Response, content_type: &'static str) {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
}

fn failed(error: &serde_json::Error) -> Response {
    log::error!("an answer could not be written as JSON: {error}");
    let mut response = Response::default();
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

//! `/livez`, `/readyz` and `/metrics`: for those who run it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use moka::future::Cache;
use serde_json::{Map, Value, json};
use warp::http::{HeaderValue, StatusCode, header};
use warp::reply::Response;

use super::State;
use super::answer::json as json_response;
use super::endpoint::{Caching, Content, Endpoint, Handler, Schema};
use super::limits::Cost;
use super::openapi::schemas::{count, described, list, nullable, number, object, text, time};
use super::problem::Problem;
use super::shards::Served;
use crate::metrics;
use crate::progress::{BOARD, Standing};
use crate::shard::Shard;
use crate::store::read::insights;
use crate::store::{self, Standby};
use crate::time::rfc3339;

/// `GET /livez`
pub(super) static LIVEZ: Endpoint = Endpoint {
    tag: Some("operations"),
    summary: "Whether the process runs",
    description: "For orchestrators. Needs no key.",
    is_strict: false,
    cost: Cost::Memory,
    scope: None,
    // An orchestrator that asks whether we live must not be told to slow down.
    is_paced: false,
    ..Endpoint::get(
        "/livez",
        Content::Json(Schema {
            name: "Lives",
            describe: || object(json!({ "status": text() })),
        }),
        Handler::Alone(|_| Ok(live())),
    )
};

/// `GET /readyz`
pub(super) static READYZ: Endpoint = Endpoint {
    tag: Some("operations"),
    summary: "Whether requests can be answered",
    description: "Names each dependency, and why nothing is being counted. Redis is not needed. Needs no key.",
    is_strict: false,
    scope: None,
    ..Endpoint::get(
        "/readyz",
        Content::Health(Schema {
            name: "Ready",
            describe: || {
                object(json!({
                    "status": text(), "postgresql": text(), "redis?": described(text(), "`ok`, or what keeps it from taking what is written: `unreachable`, `read-only`, `full`, `not permitted`, `not authenticated`, `not trusted`, `a cluster` (which `REDIS_URL` does not say) or `refuses`."),
                    "shards?": described(list(object(json!({ "partitions": text(), "postgresql": text() }))), "Each database that has a range of the topic's partitions, where there are several, as `0-59/120`; what needs one that is `unreachable` may be answered with 503."),
                    "standby?": described(object(json!({
                        "replayed_until": nullable(time()), "receiving": { "type": "boolean" },
                    })), "Answers are read from a standby, as old as the last commit that it has; older if it receives no more."),
                    "stopping?": described(json!({ "type": "boolean" }), "The server was told to end: what is sent now should go elsewhere."),
                    "standstill?": described(text(), "What is in the way of the first of the partitions that stand still."),
                    "standstills?": list(object(json!({
                        "partition": count(), "state": text(), "seconds": number(), "cause": text(), "message": text(),
                    }))),
                }))
            },
        }),
        Handler::With(|state, _| Box::pin(ready(state))),
    )
};

/// `GET /readyz` of a processor that serves nothing else: ready unless its partitions stand still.
pub(super) static READY_TO_COUNT: Endpoint = Endpoint {
    cost: Cost::Memory,
    handler: Handler::Alone(|_| Ok(readiness(true, Map::new()))),
    ..READYZ
};

/// `GET /metrics`
pub(super) static METRICS: Endpoint = Endpoint {
    tag: Some("operations"),
    summary: "Metrics for Prometheus",
    description: "Everything that is counted in this process, in Prometheus' text format.",
    is_strict: false,
    caching: Caching::Unsaid,
    cost: Cost::Memory,
    ..Endpoint::get(
        "/metrics",
        Content::Text("text/plain"),
        Handler::Alone(|_| Ok(prometheus())),
    )
};

/// The process runs and answers.
fn live() -> Response {
    json_response(&json!({ "status": "ok" }))
}

/// Whether the databases answer, and how Redis is, if there is one.
#[derive(Clone)]
struct Behind {
    database: bool,
    standby: Option<Standby>,
    /// Of each database that has a range of partitions, whether it answers.
    shards: Vec<(Shard, bool)>,
    redis: Option<&'static str>,
}

/// What was found when it was last looked: it needs no key, so it must cost nothing to ask often.
pub(super) struct Readiness(Cache<(), Behind>);

impl Readiness {
    /// Looks again after so long.
    pub fn new(kept: Duration) -> Readiness {
        Readiness(Cache::builder().max_capacity(1).time_to_live(kept).build())
    }

    async fn look(&self, state: &State) -> Behind {
        let look = async {
            let asked = state.shards.home().read(|connection| {
                insights::ping(connection)?;
                store::standby(connection)
            });
            let database = asked.await;
            let answers = async |served: Served| {
                // One that has everything has answered already.
                let Some(shard) = served.shard else {
                    return Ok(None);
                };
                let answers = served.database.read(insights::ping).await.is_ok();
                Ok(Some((shard, answers)))
            };
            let shards = state.shards.each(answers).await;
            Behind {
                database: database.is_ok(),
                standby: database.ok().flatten(),
                shards: shards.unwrap_or_default().into_iter().flatten().collect(),
                redis: state.shards.lists().shared_standing().await,
            }
        };
        self.0.get_with((), look).await
    }
}

/// Whether requests can be answered, with each dependency by name. Redis is not needed for that,
/// but is named where it is used.
async fn ready(state: Arc<State>) -> Result<Response, Problem> {
    let behind = state.ready.look(&state).await;
    let is_stopping = state.stop.load(Ordering::Relaxed);
    let standing = |answers| if answers { "ok" } else { "unreachable" };
    let postgresql = standing(behind.database);
    let mut dependencies = Map::new();
    dependencies.insert("postgresql".to_owned(), postgresql.into());
    if !behind.shards.is_empty() {
        let shards = behind.shards.iter().map(|(shard, answers)| {
            json!({ "partitions": shard.to_string(), "postgresql": standing(*answers) })
        });
        dependencies.insert("shards".to_owned(), shards.collect());
    }
    if let Some(standby) = behind.standby {
        let standby = json!({
            "replayed_until": standby.replayed_until.map(rfc3339),
            "receiving": standby.is_receiving,
        });
        dependencies.insert("standby".to_owned(), standby);
    }
    if let Some(standing) = behind.redis {
        dependencies.insert("redis".to_owned(), standing.into());
    }
    if is_stopping {
        dependencies.insert("stopping".to_owned(), true.into());
    }
    Ok(readiness(behind.database && !is_stopping, dependencies))
}

/// A process whose partitions stand still is not ready, whatever else it can do.
fn readiness(is_ready: bool, mut body: Map<String, Value>) -> Response {
    let still = BOARD.still();
    let is_ready = is_ready && still.is_empty();
    let status = if is_ready { "ok" } else { "unavailable" };
    body.insert("status".to_owned(), status.into());
    if let Some(cause) = still.first().and_then(|s| s.cause.as_ref()) {
        body.insert("standstill".to_owned(), cause.word.clone().into());
        body.insert(
            "standstills".to_owned(),
            still.iter().map(standstill).collect(),
        );
    }
    let mut response = json_response(&body);
    if !is_ready {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

fn standstill(standing: &Standing) -> Value {
    let cause = standing.cause.as_ref();
    json!({
        "partition": standing.partition,
        "state": standing.state.as_str(),
        "seconds": standing.lasted.as_secs(),
        "cause": cause.map(|c| &c.word),
        "message": cause.map(|c| &c.message),
    })
}

/// Everything that is counted, in Prometheus' text format.
fn prometheus() -> Response {
    let mut response = Response::new(metrics::text().into());
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

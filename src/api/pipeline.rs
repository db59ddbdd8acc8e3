//! `GET /pipeline`: how the pipeline is doing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use serde::Serialize;
use serde_json::json;
use warp::reply::Response;

use super::State;
use super::answer;
use super::endpoint::{Content, Endpoint, Handler, Schema};
use super::openapi::schemas::{
    count, described, erased, list, nullable, number, object, superseded, text, time, unchanged,
};
use super::problem::Problem;
use super::shards::{Served, Shards};
use crate::database::Unavailable;
use crate::event::Count;
use crate::metrics;
use crate::offset::Offset;
use crate::progress::BOARD;
use crate::store::read::pipeline::{self, PartitionRow, Pipeline};
use crate::store::states::Reported;
use crate::store::{CommitId, Epoch};
use crate::time::rfc3339;

/// `GET /pipeline`
pub(super) static PIPELINE: Endpoint = Endpoint {
    tag: Some("operations"),
    summary: "How the pipeline is doing",
    description: "Lag, pace, delay, batches, dead letters by reason, partitions that stand still and the position of every partition.",
    questions: &[("Is everything counted, and how quickly?", "/pipeline")],
    ..Endpoint::get(
        "/pipeline",
        Content::Json(Schema {
            name: "Pipeline",
            describe: || {
                let lag = || {
                    described(
                        nullable(count()),
                        "Records of the log not yet counted, as its processor last saw it; null where none has.",
                    )
                };
                object(json!({
                    "measured_at": time(),
                    "lag": lag(),
                    "counted_at": nullable(time()),
                    "seconds_since_commit": nullable(number()),
                    "events_per_second": described(number(), "Over the last minute."),
                    "delay_seconds": described(nullable(number()), "From an event's own time to its commit: half were quicker; null when there was none in the last minute. Reports, which are of days gone by, do not count."),
                    "totals": object(json!({
                        "records": described(count(), "events + duplicates + dead_letters + unchanged + superseded + erased."),
                        "events": count(), "duplicates": count(), "dead_letters": count(), "unchanged": unchanged(), "superseded": superseded(), "erased": erased(), "commit_id": count(),
                    })),
                    "batches": object(json!({
                        "per_second": described(number(), "Transactions that brought events, over the last minute."),
                        "mean_events": described(nullable(number()), "Events of one, over the last minute."),
                        "mean_seconds": described(nullable(number()), "In PostgreSQL, since this process started; null where it does not count."),
                    })),
                    "sums": object(json!({
                        "parts": described(count(), "Parts that the sums are in."),
                        "waiting": described(count(), "Parts of a commit each that are not carried to longer intervals yet, in the partition that has most; counting waits at 64."),
                        "is_behind": described(json!({ "type": "boolean" }), "More come than are carried: three quarters of those that may wait do."),
                    })),
                    "dead_letters": list(object(json!({ "reason": text(), "count": count(), "newest_at": time() }))),
                    "standstills": described(list(object(json!({
                        "topic": text(), "partition": count(), "state": text(), "since": time(),
                        "cause": described(text(), "In a word: the constraint that failed, postgresql, no_leader, unreadable, …"),
                        "message": described(text(), "In full, with what to do."),
                    }))), "Partitions that are not counted: they have stopped, or have waited for a minute."),
                    "partitions": list(object(json!({
                        "cluster_id": text(), "topic": text(), "partition": count(), "owner": text(), "epoch": count(),
                        "start_offset": count(), "next_offset": count(), "lag": lag(),
                        "state": described(nullable(text()), "counting, catching_up, idle, waiting or stopped; null where no processor has reported."),
                        "state_since": nullable(time()), "cause": nullable(text()), "records": count(), "events": count(),
                        "duplicates": count(), "dead_letters": count(), "unchanged": unchanged(), "superseded": superseded(), "erased": erased(),
                        "commit_id": count(), "counted_at": nullable(time()),
                    }))),
                }))
            },
        }),
        Handler::With(|state, _| Box::pin(now(state))),
    )
};

/// Read once in this time, however many ask.
const FRESH: Duration = Duration::from_secs(1);

/// The last reading. Cheap to clone.
#[derive(Clone)]
pub(super) struct Reading(Cache<(), Arc<Pipeline>>);

impl Reading {
    /// Nothing was read yet.
    pub fn new() -> Reading {
        Reading(Cache::builder().max_capacity(1).time_to_live(FRESH).build())
    }

    async fn get(&self, shards: &Shards) -> Result<Arc<Pipeline>, Arc<Unavailable>> {
        let read = async {
            let parts =
                shards.each(async |served: Served| served.database.read(pipeline::read).await);
            let whole = parts.await?.into_iter().reduce(Pipeline::and);
            whole.map(Arc::new).ok_or(Unavailable::Busy)
        };
        self.0.try_get_with((), read).await
    }
}

#[derive(Serialize)]
struct Document<'a> {
    measured_at: String,
    /// Records of the log not yet counted; null where no processor has seen it.
    lag: Option<Count>,
    counted_at: Option<String>,
    /// Since then.
    seconds_since_commit: Option<f64>,
    events_per_second: f64,
    /// From an event's own time to its commit; null when there was none lately.
    delay_seconds: Option<f64>,
    totals: Totals,
    batches: Batches,
    sums: Sums,
    dead_letters: Vec<Reason<'a>>,
    standstills: Vec<Standstill<'a>>,
    partitions: Vec<Partition<'a>>,
}

#[derive(Default, Serialize)]
struct Totals {
    records: Count,
    events: Count,
    duplicates: Count,
    dead_letters: Count,
    unchanged: Count,
    superseded: Count,
    erased: Count,
    commit_id: CommitId,
}

#[derive(Serialize)]
struct Batches {
    /// Transactions that brought events, lately.
    per_second: f64,
    mean_events: Option<f64>,
    /// In PostgreSQL, since this process started; null where it does not count.
    mean_seconds: Option<f64>,
}

#[derive(Serialize)]
struct Sums {
    parts: Count,
    /// Of the partition that has most.
    waiting: Count,
    is_behind: bool,
}

#[derive(Serialize)]
struct Reason<'a> {
    reason: &'a str,
    count: Count,
    newest_at: String,
}

#[derive(Serialize)]
struct Standstill<'a> {
    topic: &'a str,
    partition: i32,
    state: &'a str,
    since: String,
    cause: &'a str,
    message: &'a str,
}

#[derive(Serialize)]
struct Partition<'a> {
    cluster_id: &'a str,
    topic: &'a str,
    partition: i32,
    owner: &'a str,
    epoch: Epoch,
    start_offset: Offset,
    next_offset: Offset,
    lag: Option<Count>,
    state: Option<&'a str>,
    state_since: Option<String>,
    cause: Option<&'a str>,
    records: Count,
    events: Count,
    duplicates: Count,
    dead_letters: Count,
    unchanged: Count,
    superseded: Count,
    erased: Count,
    commit_id: CommitId,
    counted_at: Option<String>,
}

/// How the pipeline is doing.
async fn now(state: Arc<State>) -> Result<Response, Problem> {
    let read = state.pipeline.get(&state.shards).await;
    let pipeline = read.map_err(|e| Problem::unavailable(&e))?;
    Ok(answer::json(&document(
        &pipeline,
        &lags(&pipeline, BOARD.lags()),
    )))
}

/// How much is not yet counted: as this process knows it, or as the one that counts has reported it.
fn lags(p: &Pipeline, own: BTreeMap<i32, Count>) -> BTreeMap<i32, Count> {
    if !own.is_empty() {
        return own;
    }
    let lag = |row: &PartitionRow| {
        let end = state_of(p, row)?.log_end?;
        Some((row.partition, end.since(row.next_offset).max(Count::ZERO)))
    };
    p.partitions.iter().filter_map(lag).collect()
}

fn state_of<'a>(p: &'a Pipeline, row: &PartitionRow) -> Option<&'a Reported> {
    p.states.iter().find(|state| {
        (&state.cluster_id, &state.topic, state.partition)
            == (&row.cluster_id, &row.topic, row.partition)
    })
}

fn document<'a>(p: &'a Pipeline, lag: &BTreeMap<i32, Count>) -> Document<'a> {
    let mut totals = Totals::default();
    for row in &p.partitions {
        totals.records += row.records;
        totals.events += row.events;
        totals.duplicates += row.duplicates;
        totals.dead_letters += row.dead_letters;
        totals.unchanged += row.unchanged;
        totals.superseded += row.superseded;
        totals.erased += row.erased;
        totals.commit_id = totals.commit_id.max(row.commit_id);
    }
    let counted_at = p.partitions.iter().filter_map(|row| row.committed_at).max();
    let per_second = |count: Count| count.as_f64() / p.pace.seconds.max(1.0);
    Document {
        measured_at: rfc3339(p.now),
        lag: (!lag.is_empty()).then(|| lag.values().copied().sum()),
        counted_at: counted_at.map(rfc3339),
        seconds_since_commit: counted_at.map(|at| (p.now - at).as_seconds_f64().max(0.0)),
        events_per_second: per_second(p.pace.events),
        delay_seconds: p.pace.delay,
        totals,
        batches: Batches {
            per_second: per_second(p.pace.commits),
            mean_events: (p.pace.commits > Count::ZERO)
                .then(|| p.pace.events.as_f64() / p.pace.commits.as_f64()),
            mean_seconds: metrics::mean_batch_seconds(),
        },
        sums: Sums {
            parts: p.sums.parts,
            waiting: p.sums.waiting,
            is_behind: p.sums.is_behind(),
        },
        dead_letters: p
            .dead_letters
            .iter()
            .map(|row| Reason {
                reason: &row.reason,
                count: row.letters,
                newest_at: rfc3339(row.newest_at),
            })
            .collect(),
        standstills: p
            .states
            .iter()
            .filter(|row| row.is_still)
            .map(|row| Standstill {
                topic: &row.topic,
                partition: row.partition,
                state: &row.state,
                since: rfc3339(row.since),
                cause: row.cause.as_deref().unwrap_or_default(),
                message: row.message.as_deref().unwrap_or_default(),
            })
            .collect(),
        partitions: p
            .partitions
            .iter()
            .map(|row| {
                let reported = state_of(p, row);
                Partition {
                    cluster_id: &row.cluster_id,
                    topic: &row.topic,
                    partition: row.partition,
                    owner: &row.owner,
                    epoch: row.epoch,
                    start_offset: row.start_offset,
                    next_offset: row.next_offset,
                    lag: lag.get(&row.partition).copied(),
                    state: reported.map(|s| s.state.as_str()),
                    state_since: reported.map(|s| rfc3339(s.since)),
                    cause: reported.and_then(|s| s.cause.as_deref()),
                    records: row.records,
                    events: row.events,
                    duplicates: row.duplicates,
                    dead_letters: row.dead_letters,
                    unchanged: row.unchanged,
                    superseded: row.superseded,
                    erased: row.erased,
                    commit_id: row.commit_id,
                    counted_at: row.committed_at.map(rfc3339),
                }
            })
            .collect(),
    }
}

//! `GET /receipts/{id}`: what has become of what was sent.

use std::collections::BTreeMap;
use std::sync::Arc;

use diesel::PgConnection;
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;
use warp::reply::Response;

use super::State;
use super::answer;
use super::endpoint::{Content, Endpoint, Handler, Schema};
use super::limits::Cost;
use super::openapi::schemas::{count, described, list, nullable, object, text, time};
use super::parameters::{Parameter, ParameterType};
use super::problem::Problem;
use super::request::Request;
use crate::event::{Count, Reason};
use crate::keys::Scope;
use crate::offset::Offset;
use crate::store::keep::receipts::{self, Outcomes, Receipt};
use crate::time::rfc3339;

/// So many dead letters are named.
const NAMED: usize = 100;

static ID: Parameter = Parameter::path("id", ParameterType::Name, "The receipt's id.");

/// `GET /receipts/{id}`
pub(super) static RECEIPT: Endpoint = Endpoint {
    tag: Some("sending"),
    summary: "What has become of what was sent",
    description: "How many of a request's records are waiting, counted, nothing new, or dead letters, and why.",
    parameters: &[&[ID]],
    failures: &[404],
    scope: Some(Scope::Ingest),
    ..Endpoint::get(
        "/receipts/{id}",
        Content::Json(Schema {
            name: "Receipt",
            describe: || {
                object(json!({
                    "receipt_id": { "type": "string", "format": "uuid" },
                    "kind": { "type": "string", "enum": ["events", "reports"] },
                    "created_at": described(time(), "When the broker had all of it."),
                    "topic": text(),
                    "state": described(json!({ "type": "string", "enum": ["waiting", "counted"] }), "counted: none is waiting any more."),
                    "records": described(count(), "All of them: the sum of the following."),
                    "waiting": described(count(), "Not read by a processor yet."),
                    "counted": described(count(), "In the event store."),
                    "duplicates": described(count(), "Nothing new: counted before; or of reports, the same as what was known, or older."),
                    "skipped": described(count(), "Never read: they were given up, or counting began after them."),
                    "dead": described(count(), "Could not be counted."),
                    "dead_letters": described(list(object(json!({
                        "number": described(count(), "Which of the request it was: its line or row, or its place in the array, from 1."),
                        "topic": text(), "partition": count(), "offset": count(), "reason": text(), "explanation": nullable(text()),
                    }))), "The first 100 of these."),
                }))
            },
        }),
        Handler::With(|state, request| Box::pin(one(state, request))),
    )
};

#[derive(Serialize)]
struct Document {
    receipt_id: Uuid,
    kind: String,
    created_at: String,
    topic: String,
    state: &'static str,
    records: Count,
    waiting: Count,
    counted: Count,
    duplicates: Count,
    skipped: Count,
    dead: Count,
    dead_letters: Vec<Letter>,
}

#[derive(Serialize)]
struct Letter {
    number: i64,
    topic: String,
    partition: i32,
    offset: Offset,
    reason: String,
    explanation: Option<&'static str>,
}

async fn one(state: Arc<State>, request: Request) -> Result<Response, Problem> {
    let name = request.arguments.in_path(&ID);
    let unknown = || Problem::unknown_receipt(name);
    let id = Uuid::try_parse(name).map_err(|_| unknown())?;
    let found = state
        .ask(state.shards.home(), request.cost, move |connection| {
            receipts::find(connection, id)
        })
        .await?;
    let receipt = found.ok_or_else(unknown)?;
    let records = receipt.records();
    let outcomes = outcomes(&state, request.cost, &receipt).await?;
    let topic = receipt.topic;
    let dead = Count::of(outcomes.dead.len());
    let letters = outcomes.dead.into_iter().take(NAMED).map(|dead| {
        let known = Reason::ALL.iter().find(|r| r.as_str() == dead.reason);
        Letter {
            number: dead.number,
            topic: topic.clone(),
            partition: dead.partition,
            offset: dead.offset,
            explanation: known.map(|reason| reason.explain()),
            reason: dead.reason,
        }
    });
    Ok(answer::json(&Document {
        receipt_id: id,
        kind: receipt.kind,
        created_at: rfc3339(receipt.created_at),
        state: if outcomes.waiting > Count::ZERO {
            "waiting"
        } else {
            "counted"
        },
        records,
        waiting: outcomes.waiting,
        counted: outcomes.counted,
        duplicates: outcomes.duplicates,
        skipped: outcomes.skipped,
        dead,
        dead_letters: letters.collect(),
        topic: topic.clone(),
    }))
}

/// What has become of a receipt's records: each database is asked for those on its partitions, if there are any.
async fn outcomes(state: &State, cost: Cost, receipt: &Receipt) -> Result<Outcomes, Problem> {
    let mut left = receipt.sent.clone();
    let mut outcomes = Outcomes::default();
    for served in state.shards.all() {
        let is_there = |partition: &i32| served.shard.is_none_or(|shard| shard.has(*partition));
        let (sent, others): (BTreeMap<_, _>, BTreeMap<_, _>) = left
            .into_iter()
            .partition(|(partition, _)| is_there(partition));
        left = others;
        if sent.is_empty() {
            continue;
        }
        let part = Receipt {
            sent,
            ..receipt.clone()
        };
        let read = move |connection: &mut PgConnection| receipts::outcomes(connection, &part);
        outcomes = outcomes.and(state.ask(&served.database, cost, read).await?);
    }
    // On partitions that no database has.
    outcomes.waiting += Count::of(left.values().map(Vec::len).sum());
    Ok(outcomes)
}

//! `POST /events` and `POST /reports`: what is sent is checked whole, sent on whole, and answered with a receipt.
//!
//! ```text
//! head ─▶ room for the body? ─▶ body ─▶ each record checked ─▶ room on the way? ─▶ the broker has all of it ─▶ receipt, 202
//!              └ 503                        └ 422: nothing is sent      └ 503             └ 503: send it again
//! ```
//!
//! A file is kept before anything of it is sent, where that is asked for.
//!
//! Whatever is answered, the same body may be sent again: events have ids and report rows revisions, so nothing counts twice.
//! What is being taken in is bounded in requests, bytes, records and time; beyond that, who sends is told to wait.

// Bytes from outside come through here.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::fs::File;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use diesel::PgConnection;
use rdkafka::error::KafkaError;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use warp::http::{HeaderMap, HeaderValue, StatusCode, header};
use warp::reply::Response;

use super::State;
use super::answer;
use super::endpoint::{Body, Caching, Content, Endpoint, Handler, JSON, Method, Most, Schema};
use super::limits::{Cost, Limits};
use super::openapi::schemas::{count, described, object, text};
use super::problem::Problem;
use super::request::Request;
use crate::codec::SchemaIds;
use crate::import::originals::Originals;
use crate::import::remember;
use crate::kafka::Cluster;
use crate::kafka::courier::{Courier, Landed};
use crate::keys::Scope;
use crate::store;
use crate::store::keep::imports::Import;
use crate::store::keep::receipts;
use crate::time::Timestamp;
use crate::traces;

mod checked;
mod event;
mod file;
mod object;
mod row;

use checked::Records;

/// One record of a line.
const NDJSON: &str = "application/x-ndjson";

/// Where Kafka is, for a server that takes in events and reports.
#[derive(Clone)]
pub struct Brokers {
    pub cluster: Cluster,
    /// None: it is asked. The demo's broker does not know it.
    pub cluster_id: Option<String>,
}

/// What all requests share that send something.
pub struct Intake {
    courier: Arc<Courier>,
    topic: String,
    cluster_id: Option<String>,
    /// Set once they are known.
    ids: Arc<OnceLock<SchemaIds>>,
    requests: Arc<Semaphore>,
    /// In KiB.
    bodies: Arc<Semaphore>,
    /// In KiB, of what is on its way to the broker.
    on_the_way: Arc<Semaphore>,
    /// Files that are being read and kept: each takes a core, and memory beside its bytes.
    files: Arc<Semaphore>,
    /// Where they are kept; none: they are neither kept nor noted.
    originals: Option<Originals>,
    max_body: u64,
    upload_time: Duration,
    delivery_time: Duration,
}

/// The largest record's share of the broker's queue beside its own bytes.
const BESIDE_A_RECORD: usize = 256;
/// What may be on its way to the broker, in KiB; fewer records than its queue holds.
const ON_THE_WAY: u32 = 120 << 10;
/// Bodies that are held at a time, in KiB; one of the largest size always fits.
const BODIES: u32 = 64 << 10;
const FILES_AT_A_TIME: usize = 2;

/// A request's share of what may be taken in at a time.
pub struct Room {
    _request: OwnedSemaphorePermit,
    _body: OwnedSemaphorePermit,
}

impl Intake {
    /// Connects when something is sent.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration.
    pub fn new(
        brokers: &Brokers,
        topic: &str,
        ids: Arc<OnceLock<SchemaIds>>,
        originals: Option<Originals>,
        limits: &Limits,
    ) -> Result<Intake, KafkaError> {
        let courier = Courier::within(&brokers.cluster, topic, limits.delivery_time)?;
        let bodies = BODIES.max(kibibytes(limits.body_bytes));
        Ok(Intake {
            courier: Arc::new(courier),
            topic: topic.to_owned(),
            cluster_id: brokers.cluster_id.clone(),
            ids,
            requests: Arc::new(Semaphore::new(limits.sending)),
            bodies: Arc::new(Semaphore::new(bodies as usize)),
            on_the_way: Arc::new(Semaphore::new(ON_THE_WAY as usize)),
            files: Arc::new(Semaphore::new(FILES_AT_A_TIME)),
            originals,
            max_body: limits.body_bytes,
            upload_time: limits.upload_time,
            delivery_time: limits.delivery_time,
        })
    }

    /// The largest body that is read.
    pub(super) fn max_body(&self) -> u64 {
        self.max_body
    }

    /// How long a body may take to arrive.
    pub(super) fn upload_time(&self) -> Duration {
        self.upload_time
    }

    /// Room for a body of this many bytes, if there is any now: waiting would only be another queue.
    pub(super) fn admit(&self, bytes: u64) -> Result<Room, Problem> {
        let request = Arc::clone(&self.requests).try_acquire_owned();
        let body = Arc::clone(&self.bodies).try_acquire_many_owned(kibibytes(bytes));
        match (request, body) {
            (Ok(request), Ok(body)) => Ok(Room {
                _request: request,
                _body: body,
            }),
            _ => Err(Problem::intake_full()),
        }
    }
}

/// Rounded up.
fn kibibytes(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(1_024)).unwrap_or(u32::MAX)
}

const fn taking(path: &'static str, handler: Handler) -> Endpoint {
    Endpoint {
        tag: Some("sending"),
        caching: Caching::Never,
        successes: &[202],
        failures: &[404, 408, 422],
        cost: Cost::Intake,
        scope: Some(Scope::Ingest),
        ..Endpoint::write(Method::Post, path, Content::Json(TAKEN), handler)
    }
}

const TAKEN: Schema = Schema {
    name: "Taken",
    describe: || {
        object(json!({
            "receipt_id": { "type": "string", "format": "uuid" },
            "records": described(count(), "How many there were."),
            "location": described(text(), "Where to ask what has become of them."),
        }))
    },
};

/// `POST /events`
pub(super) static EVENTS: Endpoint = Endpoint {
    summary: "Send events",
    description: "One event, an array of events, or lines of them (application/x-ndjson), each with the fields of schemas/ad_event.avsc; \
        event_time is RFC 3339. All of them are checked before any is sent; 202 says that the broker has all of them. The same \
        event sent again counts once.",
    body: Some(Body {
        schema: Schema {
            name: "EventsToSend",
            describe: || one_or_more(event::schema()),
        },
        types: &[JSON, NDJSON],
        most: Most::Intake,
    }),
    ..taking(
        "/events",
        Handler::With(|state, request| Box::pin(take_events(state, request))),
    )
};

/// `POST /reports`
pub(super) static REPORTS: Endpoint = Endpoint {
    summary: "Send reports of platforms",
    description: "Report rows, as one object, an array or lines of them (application/x-ndjson), with the fields of \
        schemas/report_row.avsc, but for conversions, cost and revenue, which are decimal numbers: what is left out is unknown. Or \
        a file or answer of a platform, as adflux import reads them; parameters say what a file does not. All of it is checked \
        before any of it is sent; 202 says that the broker has all of it. The same sent again changes nothing.",
    parameters: &[file::PARAMETERS],
    body: Some(Body {
        schema: Schema {
            name: "ReportsToSend",
            describe: || one_or_more(row::schema()),
        },
        types: &[
            JSON,
            NDJSON,
            "text/csv",
            "text/tab-separated-values",
            "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            "application/zip",
            "application/gzip",
        ],
        most: Most::Intake,
    }),
    ..taking(
        "/reports",
        Handler::With(|state, request| Box::pin(take_reports(state, request))),
    )
};

fn one_or_more(record: Value) -> Value {
    json!({ "anyOf": [record.clone(), { "type": "array", "items": record, "minItems": 1 }] })
}

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Json,
    Lines,
    File,
}

impl Form {
    /// As the content type says, which was found to be one that is taken.
    fn of(headers: &HeaderMap) -> Form {
        let content_type = headers.get(header::CONTENT_TYPE);
        let text = content_type.and_then(|value| value.to_str().ok());
        let kind = text.and_then(|text| text.split(';').next()).unwrap_or("");
        match kind.trim().to_ascii_lowercase().as_str() {
            JSON => Form::Json,
            NDJSON => Form::Lines,
            _ => Form::File,
        }
    }
}

async fn take_events(state: Arc<State>, request: Request) -> Result<Response, Problem> {
    let form = Form::of(&request.headers);
    take(state, request, "events", move |body, ids| {
        event::check(body, form, ids.event, Timestamp::now())
    })
    .await
}

async fn take_reports(state: Arc<State>, request: Request) -> Result<Response, Problem> {
    let form = Form::of(&request.headers);
    let (options, given) = file::options(&request.arguments)?;
    let intake = state.intake.as_ref().ok_or_else(Problem::no_brokers)?;
    let (files, originals) = (Arc::clone(&intake.files), intake.originals.clone());
    let (database, runtime) = (state.shards.home().clone(), Handle::current());
    let keep = {
        let (database, runtime) = (database.clone(), runtime.clone());
        move |sha256, mut content: File, import: Import| {
            let Some(originals) = originals else {
                return Ok(());
            };
            let put = originals.put(&sha256, &mut content);
            let kept = put.and_then(|()| {
                runtime.block_on(database.write(move |connection| {
                    Ok(originals.note(connection, &sha256, &mut content, &import))
                }))?
            });
            kept.map_err(|error| Problem::not_kept(&error))
        }
    };
    let shards = state.shards.clone();
    let remembered = move |platform, account: String| {
        let read = shards.each(|served| {
            let account = account.clone();
            let read = move |connection: &mut PgConnection| {
                remember::meaning(connection, platform, &account)
            };
            async move { served.database.read(read).await }
        });
        let known = runtime.block_on(read);
        let known = known.map_err(|e| Problem::unavailable(&e))?;
        Ok(remember::newest(known, false))
    };
    take(state, request, "reports", move |body, ids| {
        let now = Timestamp::now();
        if form == Form::File || !row::are_rows(body, form) {
            let reading = files.try_acquire();
            let _reading = reading.map_err(|_| Problem::intake_full())?;
            return file::check(body, &options, remembered, keep, ids.report, now);
        }
        if let Some(name) = given {
            let detail = "report rows say it themselves; this is for files";
            return Err(Problem::parameter(name, detail));
        }
        row::check(body, form, ids.report, now)
    })
    .await
}

/// Checks, sends on, and answers with a receipt.
async fn take(
    state: Arc<State>,
    request: Request,
    kind: &'static str,
    check: impl FnOnce(&Bytes, SchemaIds) -> Result<Records, Problem> + Send + 'static,
) -> Result<Response, Problem> {
    let intake = state.intake.as_ref().ok_or_else(Problem::no_brokers)?;
    // Before anything is sent: what cannot be kept a receipt of is not taken.
    let found = state
        .shards
        .home()
        .read(|connection| Ok((store::standby(connection)?, receipts::lacking(connection)?)))
        .await;
    match found.map_err(|e| Problem::unavailable(&e))? {
        (Some(_), _) => return Err(Problem::read_only()),
        (None, Some(lacking)) => return Err(Problem::no_receipts(&lacking)),
        (None, None) => {}
    }
    let ids = *intake.ids.get().ok_or_else(Problem::no_schema_ids)?;
    let sending = traces::Sending::request(&request.headers, &intake.topic);
    let (body, room) = (request.body, request.room);
    let checked = tokio::task::spawn_blocking(move || (check(&body, ids), room));
    let (records, room) = checked.await.map_err(Problem::failed)?;
    let mut records = records?;
    records.carry(&sending.headers());
    let landed = intake.send(records, room).await?;
    let count = landed.partitions.len();
    sending.sent(count);
    let (topic, cluster_id) = (intake.topic.clone(), intake.cluster_id().await?);
    let kept = state
        .shards
        .home()
        .write(move |connection| receipts::insert(connection, kind, &cluster_id, &topic, &landed))
        .await;
    let id = kept.map_err(|error| {
        log::warn!(
            "{count} records of {kind} were acknowledged, and their receipt was not kept: {error}"
        );
        Problem::receipt_lost()
    })?;
    let location = format!("{}/receipts/{id}", state.base);
    let mut response = answer::json(&json!({
        "receipt_id": id,
        "records": count,
        "location": location,
    }));
    *response.status_mut() = StatusCode::ACCEPTED;
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

impl Intake {
    /// Sends records on and waits until the broker has all of them.
    async fn send(
        &self,
        records: Records,
        room: Option<Room>,
    ) -> Result<receipts::Landed, Problem> {
        let Records {
            whole,
            numbers,
            bytes,
        } = records;
        let beside = whole.len().saturating_mul(BESIDE_A_RECORD);
        let needed = bytes.saturating_add(beside);
        let needed = kibibytes(u64::try_from(needed).unwrap_or(u64::MAX));
        if needed > ON_THE_WAY {
            return Err(Problem::too_many_records());
        }
        let on_the_way = Arc::clone(&self.on_the_way).try_acquire_many_owned(needed);
        let on_the_way = on_the_way.map_err(|_| Problem::intake_full())?;
        let courier = Arc::clone(&self.courier);
        // The broker's answers come within `delivery_time`; whoever does not hear of one waits no longer than this.
        let patience = self.delivery_time.saturating_mul(2);
        let delivering = tokio::task::spawn_blocking(move || {
            // Kept until the last record has its answer, also when the client has gone.
            let (_room, _on_the_way) = (room, on_the_way);
            let begun = std::time::Instant::now();
            courier.deliver(&whole, || begun.elapsed() > patience)
        });
        let answers = delivering.await.map_err(Problem::failed)?;
        let mut landed = receipts::Landed {
            numbers,
            ..receipts::Landed::default()
        };
        let sent = answers.len();
        let mut error = None;
        for answer in answers {
            match answer {
                Some(Ok((partition, offset))) => {
                    landed.partitions.push(partition);
                    landed.offsets.push(offset);
                }
                other => error = error.or(Some(other)),
            }
        }
        match error {
            None => Ok(landed),
            Some(first) => {
                let why = first.and_then(Landed::err);
                Err(self
                    .not_acknowledged(landed.partitions.len(), sent, why)
                    .await)
            }
        }
    }

    /// What there is to set is for who runs the server; who sends is told what became of the records.
    async fn not_acknowledged(&self, of: usize, sent: usize, error: Option<KafkaError>) -> Problem {
        let told = error
            .as_ref()
            .map_or("it did not answer".to_owned(), ToString::to_string);
        let courier = Arc::clone(&self.courier);
        let asked = tokio::task::spawn_blocking(move || courier.why(error.as_ref()));
        let topic = &self.topic;
        match asked.await {
            Ok(why) => {
                log::warn!(
                    "of {sent} records for topic '{topic}' the broker acknowledged {of}: {why}"
                );
                let told = why.wrong_with_topic().unwrap_or(&told);
                Problem::not_acknowledged(of, sent, told)
            }
            Err(failed) => Problem::failed(failed),
        }
    }

    /// What the receipts call the cluster. It is known once the broker has acknowledged something.
    async fn cluster_id(&self) -> Result<String, Problem> {
        if let Some(id) = &self.cluster_id {
            return Ok(id.clone());
        }
        let courier = Arc::clone(&self.courier);
        let asked = tokio::task::spawn_blocking(move || courier.cluster_id());
        let asked = asked.await.map_err(Problem::failed)?;
        asked.map_err(|error| {
            log::warn!("records were acknowledged, and their receipt was not kept: {error}");
            Problem::receipt_lost()
        })
    }
}

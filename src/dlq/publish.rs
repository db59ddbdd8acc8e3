//! Copies every dead letter to the dead-letter topic, for tools that look there.
//!
//! Read from the table after the commit, on a thread and a connection of its own, so that nothing here
//! can hold the pipeline up: with Kafka or the topic away, letters wait in the table. At least once:
//! how far it came is stored after Kafka has acknowledged, so a crash in between publishes
//! a page again, and none is missed. One process at a time publishes the letters of a topic, the one whose
//! session holds the lock; when it dies, so does its session, and another one goes on.
//!
//! A record is as it was, with the [headers that Kafka Connect adds][connect] after its own.
//!
//! [connect]: https://cwiki.apache.org/confluence/display/KAFKA/KIP-298%3A+Error+Handling+in+Connect

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use diesel::PgConnection;
use rdkafka::error::KafkaError;

use super::known;
use crate::event::{Count, Reason};
use crate::kafka::courier::{Courier, Whole, refusal};
use crate::kafka::refused::Why;
use crate::kafka::waiting::{self, Waiting};
use crate::kafka::{Cluster, logs, topic};
use crate::metrics;
use crate::outage::Outage;
use crate::pause::pause;
use crate::store::keep::publications::{self, Advance};
use crate::store::read::dead_letters::Row;
use crate::store::{self, Limits, StoreError, StreamId};

/// How often it is looked for new letters.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long it waits after a failure.
const PAUSE: Duration = Duration::from_secs(2);
/// How long Kafka may take to acknowledge a page, before another process may try.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the last letters may take once the processor has stopped.
const LAST_LETTERS: Duration = Duration::from_secs(3);

/// What is published, and where to.
pub struct Settings {
    pub cluster: Cluster,
    pub database_url: String,
    /// The topic whose dead letters these are.
    pub topic: String,
    /// Where they go.
    pub dlq_topic: String,
    /// The consumer group, which stands for the connector's name.
    pub group: String,
    /// Overrides the cluster's own id, where that does not identify its log.
    pub cluster_id: Option<String>,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("Kafka: {0}")]
    Kafka(#[from] KafkaError),
    #[error("Kafka: {0}")]
    Asking(Why),
    /// In time. Who waited for it has said why.
    #[error("Kafka has not acknowledged them")]
    Unacknowledged,
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// Publishes until `done` is set, and then, for a moment, what is left.
pub fn run(settings: &Settings, done: &AtomicBool) {
    let topic = &settings.dlq_topic;
    let waiting = Waiting::new(&settings.cluster, topic);
    let mut publisher = Publisher::new(settings, &waiting, settings.cluster_id.clone());
    let outage = Outage::forgiving();
    let mut over = None;
    loop {
        // Asked first: what was committed before is seen by this round.
        let ending = done.load(Ordering::Relaxed);
        match publisher.round(&mut || is_over(done, &mut over)) {
            Ok(letters) => {
                outage.ended(format_args!(
                    "dead letters are published to '{topic}' again"
                ));
                if letters == 0 {
                    if ending {
                        return;
                    }
                    pause(INTERVAL, done);
                }
            }
            Err(failure) => {
                // Whatever it was, new connections have no half-done work and no lock.
                publisher = Publisher::new(settings, &waiting, publisher.cluster_id);
                match failure {
                    // The processor says when the database is away.
                    Failure::Store(_) | Failure::Unacknowledged => {
                        log::debug!("publishing dead letters: {failure}");
                    }
                    failure => outage.failed(format_args!(
                        "dead letters cannot be published to '{topic}' ({failure}); they stay in the database, and it is \
                         tried again. --dlq-topic off publishes none"
                    )),
                }
                if ending {
                    return;
                }
                pause(PAUSE, done);
            }
        }
        if is_over(done, &mut over) {
            return;
        }
    }
}

/// Whether the time for the last letters is over; `since` is when the processor was seen to stop.
fn is_over(done: &AtomicBool, since: &mut Option<Instant>) -> bool {
    done.load(Ordering::Relaxed) && since.get_or_insert_with(Instant::now).elapsed() >= LAST_LETTERS
}

struct Publisher<'a> {
    settings: &'a Settings,
    waiting: &'a Waiting,
    cluster_id: Option<String>,
    /// The connection, and whether its session is the one that publishes.
    session: Option<(PgConnection, bool)>,
    /// Once there are letters, and the topic for them.
    courier: Option<Courier>,
}

impl<'a> Publisher<'a> {
    fn new(
        settings: &'a Settings,
        waiting: &'a Waiting,
        cluster_id: Option<String>,
    ) -> Publisher<'a> {
        Publisher {
            settings,
            waiting,
            cluster_id,
            session: None,
            courier: None,
        }
    }

    /// Publishes some letters, and returns how many.
    fn round(&mut self, over: &mut dyn FnMut() -> bool) -> Result<usize, Failure> {
        let settings = self.settings;
        let cluster_id = match &self.cluster_id {
            Some(id) => id,
            None => {
                let (id, _) =
                    logs::describe(&settings.cluster, &settings.topic).map_err(Failure::Asking)?;
                self.cluster_id.insert(id)
            }
        };
        let (connection, ours) = match &mut self.session {
            Some(session) => session,
            None => {
                let connection = store::connect(&settings.database_url, Limits::API)?;
                self.session.insert((connection, false))
            }
        };
        if !*ours {
            *ours = publications::be_the_publisher(connection, cluster_id, &settings.topic)?;
            if !*ours {
                return Ok(0);
            }
        }
        let letters = publications::next(connection, cluster_id, &settings.topic)?;
        if !letters.is_empty() {
            let courier = match &mut self.courier {
                Some(courier) => courier,
                None => self.courier.insert(prepare(settings)?),
            };
            let records: Vec<Whole> = letters
                .iter()
                .map(|row| whole(settings, row))
                .collect::<Result<_, _>>()?;
            let started = Instant::now();
            let landed = courier.deliver(&records, || {
                if started.elapsed() > waiting::PATIENCE {
                    self.waiting.stuck();
                }
                over() || started.elapsed() >= PATIENCE
            });
            if landed.iter().flatten().any(Result::is_ok) {
                self.waiting.moved();
            }
            let mut failure = None;
            let mut advances: Vec<Advance> = Vec::new();
            for (letter, landed) in letters.iter().zip(landed) {
                if let Some(error) = refusal(landed.as_ref()) {
                    log::warn!(
                        "dead letter {} is refused by '{}' ({error}) and is not published; it stays in the database. A \
                         topic takes records of up to its max.message.bytes, and a compacted one only those with a key",
                        letter.place(),
                        settings.dlq_topic
                    );
                } else {
                    failure = match landed {
                        Some(answer) => answer.err().map(Failure::Kafka),
                        None => Some(Failure::Unacknowledged),
                    };
                }
                // Whatever comes after it is published again.
                if failure.is_some() {
                    break;
                }
                advance(&mut advances, letter);
            }
            publications::advance(connection, &advances)?;
            let published = advances.iter().map(|a| a.letters.as_u64()).sum();
            metrics::DEAD_LETTERS_PUBLISHED.inc_by(published);
            if let Some(failure) = failure {
                return Err(failure);
            }
        }
        let waiting = publications::waiting(connection, cluster_id, &settings.topic)?;
        metrics::DEAD_LETTERS_WAITING.set(waiting.get());
        Ok(letters.len())
    }
}

/// One letter more; they come partition by partition.
fn advance(advances: &mut Vec<Advance>, letter: &Row) {
    let stream = StreamId(letter.stream_id);
    let next_offset = letter.offset.next();
    match advances.last_mut() {
        Some(last) if last.stream == stream => {
            last.next_offset = next_offset;
            last.letters += Count::new(1);
        }
        _ => advances.push(Advance {
            stream,
            next_offset,
            letters: Count::new(1),
        }),
    }
}

/// Makes sure of the topic, and opens a way to it.
fn prepare(settings: &Settings) -> Result<Courier, Failure> {
    // One partition, as Kafka Connect makes it, and as many replicas as the cluster gives by itself.
    let create = topic::create(
        &settings.cluster,
        &settings.dlq_topic,
        1,
        topic::OF_THE_CLUSTER,
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    if runtime.block_on(create)? {
        log::info!("created topic '{}' for dead letters", settings.dlq_topic);
    }
    Ok(Courier::new(&settings.cluster, &settings.dlq_topic)?)
}

fn whole(settings: &Settings, row: &Row) -> Result<Whole, StoreError> {
    let mut headers = row.headers()?;
    headers.extend(
        connect_headers(&settings.group, row)
            .into_iter()
            .map(|(name, value)| (format!("__connect.errors.{name}"), Some(value.into_bytes()))),
    );
    Ok(Whole {
        key: row.key.clone(),
        payload: row.payload.clone(),
        headers,
    })
}

/// The headers of Kafka Connect's `DeadLetterQueueReporter`, all of them text, without their common prefix.
/// Where it names a Java class, this names the reason or the module that found it.
fn connect_headers(group: &str, row: &Row) -> [(&'static str, String); 10] {
    let (stage, class) = stage(&row.reason);
    let message = known(&row.reason).map_or_else(|| row.reason.clone(), |r| r.to_string());
    let exception = format!("adflux.{}", row.reason);
    [
        ("topic", row.topic.clone()),
        ("partition", row.partition.to_string()),
        ("offset", row.offset.to_string()),
        ("connector.name", group.to_owned()),
        ("task.id", "0".to_owned()),
        ("stage", stage.to_owned()),
        ("class.name", class.to_owned()),
        ("exception.stacktrace", format!("{exception}: {message}")),
        ("exception.class.name", exception),
        ("exception.message", message),
    ]
}

/// Which of Connect's stages a reason belongs to, and which module of ours is its converter or task.
fn stage(reason: &str) -> (&'static str, &'static str) {
    match known(reason) {
        Some(Reason::KeyMismatch) => ("KEY_CONVERTER", "adflux::codec"),
        Some(Reason::WrongPartition) => ("KEY_CONVERTER", "adflux::shard"),
        Some(Reason::SumOverflow | Reason::ConflictingDuplicate | Reason::TooOld) => {
            ("TASK_PUT", "adflux::store")
        }
        Some(Reason::NegativeValue | Reason::InvalidEventTime | Reason::FutureEventTime) => {
            ("TASK_PUT", "adflux::event")
        }
        _ => ("VALUE_CONVERTER", "adflux::codec"),
    }
}

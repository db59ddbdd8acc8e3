//! The producer: idempotent, acknowledged by all in-sync replicas, partitioned as Java clients do.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};

use super::Cluster;
use super::log_librdkafka;
use super::places::Places;
use super::refused::Why;
use super::waiting::{self, Waiting};
use crate::offset::LogRange;
use crate::traces;

/// Counts what became of the records.
#[derive(Default)]
struct Deliveries {
    acknowledged: AtomicU64,
    failed: AtomicU64,
    /// By partition, from the first record to behind the last. One thread writes it.
    landed: Mutex<BTreeMap<i32, LogRange>>,
    places: Mutex<Places>,
}

impl Deliveries {
    fn land(&self, partition: i32, said: i64) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let mut landed = self.landed.lock().unwrap_or_else(PoisonError::into_inner);
        // Where it is not known, it is after the one before it.
        let place = places.place(partition, said);
        let Some(offset) = place.or_else(|| Some(landed.get(&partition)?.end)) else {
            return;
        };
        let range = landed.entry(partition).or_insert(LogRange {
            start: offset,
            end: offset,
        });
        range.start = range.start.min(offset);
        range.end = range.end.max(offset.next());
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_librdkafka(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        log::debug!(target: "librdkafka", "{error}: {reason}");
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(message) => {
                self.land(message.partition(), message.offset());
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Err((error, _)) => {
                if self.failed.fetch_add(1, Ordering::Relaxed) == 0 {
                    log::error!("a record was not delivered: {error}");
                }
            }
        }
    }
}

/// How every producer is configured.
pub fn properties(cluster: &Cluster) -> ClientConfig {
    let mut config = cluster.client();
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        // Of several requests for a partition that is new, the first may come before its leader knows it, and the second
        // after. A broker that has seen none of a producer takes any sequence number, so the second is taken; and librdkafka,
        // which goes by the broker refusing what is out of sequence, says that the first is there too
        // (confluentinc/librdkafka#3712).
        .set("max.in.flight", "1")
        .set("partitioner", "murmur2_random");
    for (key, value) in [
        ("linger.ms", "5"),
        ("compression.type", "lz4"),
        ("batch.size", "262144"),
        ("queue.buffering.max.messages", "500000"),
        // An outage of the broker delays events, it does not lose them.
        ("message.timeout.ms", "0"),
    ] {
        if !cluster.properties.iter().any(|(k, _)| k == key) {
            config.set(key, value);
        }
    }
    config
}

/// Sends records to one topic. When brokers acknowledge nothing for a while, it says why.
pub struct Producer {
    inner: ThreadedProducer<Deliveries>,
    topic: String,
    waiting: Waiting,
    progress: Mutex<Progress>,
}

/// How often it is looked whether brokers acknowledge anything.
const LOOK: Duration = Duration::from_secs(1);

/// What was seen when it was last looked.
struct Progress {
    looked: Instant,
    acknowledged: u64,
    /// Since when it is so many, while others wait.
    since: Instant,
}

impl Producer {
    /// Connects lazily: the first record finds out whether the brokers are there.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration.
    pub fn new(cluster: &Cluster, topic: &str) -> Result<Producer, KafkaError> {
        Ok(Producer {
            inner: properties(cluster)
                .create_with_context(Deliveries::default())
                .map_err(super::without_value)?,
            topic: topic.to_owned(),
            waiting: Waiting::new(cluster, topic),
            progress: Mutex::new(Progress {
                looked: Instant::now(),
                acknowledged: 0,
                since: Instant::now(),
            }),
        })
    }

    /// Queues a record, with the time of sending: retention goes by it, and history that is sent now
    /// must not be deleted as old. Waits while the queue is full. Gives up when `stop` says so.
    ///
    /// # Errors
    /// When librdkafka refuses the record for good.
    pub fn send(
        &self,
        key: &[u8],
        value: &[u8],
        stop: impl Fn() -> bool,
    ) -> Result<(), KafkaError> {
        let sending = traces::Sending::record(&self.topic);
        let mut record = BaseRecord::to(&self.topic).key(key).payload(value);
        let headers = sending.headers();
        if !headers.is_empty() {
            record = record.headers(super::headers::to_send(&headers));
        }
        loop {
            self.look();
            match self.inner.send(record) {
                Ok(()) => {
                    sending.sent(1);
                    return Ok(());
                }
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back))
                    if !stop() =>
                {
                    record = back;
                    // Waits for room: served by the polling thread, there is nothing else to wait on.
                    self.inner.poll(Duration::from_millis(5));
                }
                Err((error, _)) => return Err(error),
            }
        }
    }

    /// Waits until everything queued was acknowledged or has failed.
    ///
    /// # Errors
    /// When that takes longer than `timeout`.
    pub fn flush(&self, timeout: Duration) -> Result<(), KafkaError> {
        self.look();
        self.inner.flush(timeout)
    }

    /// Notices when nothing is acknowledged.
    fn look(&self) {
        let now = Instant::now();
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(progress.looked) < LOOK {
            return;
        }
        progress.looked = now;
        let acknowledged = self.acknowledged();
        if acknowledged != progress.acknowledged || self.inner.in_flight_count() == 0 {
            progress.acknowledged = acknowledged;
            progress.since = now;
            self.waiting.moved();
        } else if now.duration_since(progress.since) > waiting::PATIENCE {
            self.waiting.stuck();
        }
    }

    /// Why nothing is acknowledged, as far as it can be found out. That takes a few seconds at most.
    pub fn why(&self) -> Why {
        self.waiting.why()
    }

    /// Records the brokers have acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.inner.context().acknowledged.load(Ordering::Relaxed)
    }

    /// Where the records are that the brokers have acknowledged: of each partition, from the first to behind the last. Those of
    /// others may be among them.
    pub fn landed(&self) -> BTreeMap<i32, LogRange> {
        let landed = self.inner.context().landed.lock();
        landed.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Records that were not delivered.
    pub fn failed(&self) -> u64 {
        self.inner.context().failed.load(Ordering::Relaxed)
    }

    /// The partitions of the topic; none if it does not exist.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub fn partitions(&self) -> Result<Vec<i32>, KafkaError> {
        super::topic::partitions(self.inner.client(), &self.topic)
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::consumer::{BaseConsumer, Consumer as _};
    use rdkafka::mocking::MockCluster;
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

    use super::*;

    const TOPIC: &str = "new";
    const BROKER: i32 = 1;
    const PATIENCE: Duration = Duration::from_secs(30);

    /// A mock, because a real broker is between creating a partition and knowing it for a few milliseconds only.
    #[test]
    fn what_a_new_partition_refuses_is_sent_again_before_what_comes_next() {
        let brokers = MockCluster::new(1).expect("a broker");
        brokers.create_topic(TOPIC, 1, 1).expect("a topic");
        // Long enough for all of the records to be on their way before the first answer, if they may.
        let slow = Duration::from_millis(300);
        brokers
            .broker_round_trip_time(BROKER, slow)
            .expect("a slow broker");
        brokers.request_errors(
            RDKafkaApiKey::Produce,
            &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART],
        );
        let at_once = [("linger.ms", "0"), ("batch.num.messages", "1")];
        let cluster = Cluster {
            brokers: brokers.bootstrap_servers(),
            properties: at_once
                .map(|(key, value)| (key.into(), value.into()))
                .to_vec(),
        };
        let producer = Producer::new(&cluster, TOPIC).expect("a producer");
        for n in 0..3 {
            producer.send(b"key", &[n], || false).expect("room");
        }
        producer.flush(PATIENCE).expect("answers");
        assert_eq!((producer.acknowledged(), producer.failed()), (3, 0));
        let reader: BaseConsumer = cluster.client().create().expect("a consumer");
        let log = reader.fetch_watermarks(TOPIC, 0, PATIENCE).expect("an end");
        assert_eq!(log, (0, 3), "what was acknowledged is in the log");
    }
}

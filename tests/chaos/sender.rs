//! Sends records and notes in the ledger what Kafka acknowledged.

use std::time::Duration;

use anyhow::Context as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext};

use crate::ledger::Fate;
use crate::producer::SharedLedger;
use crate::traffic::{Record, Traffic};

const TIMEOUT: Duration = Duration::from_secs(60);

struct Acknowledgements(SharedLedger);

impl ClientContext for Acknowledgements {}

impl ProducerContext for Acknowledgements {
    type DeliveryOpaque = Box<Fate>;

    fn delivery(&self, result: &DeliveryResult<'_>, fate: Box<Fate>) {
        match result {
            Ok(message) => {
                let mut ledger = self.0.lock();
                ledger.acknowledged(message.partition(), message.offset(), *fate);
            }
            // It stays unacknowledged in the ledger, which the checker does not accept.
            Err((error, _)) => eprintln!("a record was not acknowledged: {error}"),
        }
    }
}

/// See the module.
pub struct Sender {
    producer: ThreadedProducer<Acknowledgements>,
    topic: String,
    ledger: SharedLedger,
}

impl Sender {
    /// A sender to a topic that is there.
    pub fn new(brokers: &str, topic: &str, ledger: &SharedLedger) -> anyhow::Result<Sender> {
        Sender::with(brokers, topic, ledger, &[])
    }

    /// One that is told more than others are.
    pub fn with(
        brokers: &str,
        topic: &str,
        ledger: &SharedLedger,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Sender> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", brokers)
            .set("partitioner", "murmur2_random")
            .set("enable.idempotence", "true")
            .set("max.in.flight", "1")
            .set("acks", "all")
            .set("linger.ms", "50")
            .set("queue.buffering.max.messages", "500000")
            // Longer than any fault lasts: what is not acknowledged nobody can account for.
            .set("message.timeout.ms", "600000")
            .set("reconnect.backoff.max.ms", "500");
        for (name, value) in settings {
            config.set(*name, *value);
        }
        let producer = config.create_with_context(Acknowledgements(ledger.clone()))?;
        Ok(Sender {
            producer,
            topic: topic.to_owned(),
            ledger: ledger.clone(),
        })
    }

    /// Sends what comes next; `now` in microseconds since 1970.
    pub fn send_next(&self, traffic: &mut Traffic, now: i64) -> anyhow::Result<()> {
        let record = traffic.next(&mut self.ledger.lock(), now);
        self.send(&record, None)
    }

    /// Sends a record to the partition of its key, or to the one that is named.
    pub fn send(&self, record: &Record, partition: Option<i32>) -> anyhow::Result<()> {
        self.ledger.lock().sent();
        let mut to_send = BaseRecord::with_opaque_to(&self.topic, Box::new(record.fate))
            .key(&record.key)
            .payload(&record.payload);
        to_send.partition = partition;
        loop {
            match self.producer.send(to_send) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    to_send = back;
                    self.producer.poll(Duration::from_millis(5));
                }
                Err((error, _)) => return Err(error).context("Kafka refuses a record"),
            }
        }
    }

    /// Sends what `send` sends in a transaction, of a producer that was given a `transactional.id`.
    pub fn in_transaction(
        &self,
        send: impl FnOnce(&Sender) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.producer.init_transactions(TIMEOUT)?;
        self.producer.begin_transaction()?;
        send(self)?;
        Ok(self.producer.commit_transaction(TIMEOUT)?)
    }

    /// Has it ask how many partitions there are, which it sends to from then on.
    pub fn partitions(&self) -> anyhow::Result<usize> {
        let asked = self.producer.client();
        let metadata = asked.fetch_metadata(Some(&self.topic), TIMEOUT)?;
        let topic = metadata.topics().first();
        Ok(topic.map_or(0, |topic| topic.partitions().len()))
    }

    /// Waits for the acknowledgements.
    pub fn flush(&self) -> anyhow::Result<()> {
        let flushed = self.producer.flush(TIMEOUT);
        flushed.context("Kafka acknowledges what was sent")
    }
}

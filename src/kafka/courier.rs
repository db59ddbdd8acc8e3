//! Whole records, key, value and headers as they are, and where each of them landed.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};

use super::Cluster;
use super::headers;
use super::listening::Listening;
use super::places::Places;
use super::refused::Why;
use super::replicas;
use crate::offset::Offset;

/// A record to send.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whole {
    pub key: Option<Vec<u8>>,
    pub payload: Option<Vec<u8>>,
    /// Name and value of each header.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// The partition and offset of a record, or why it was not taken.
pub type Landed = Result<(i32, Offset), KafkaError>;

/// Why the broker refused the record for what it is: whenever it is sent, it is refused. It is too large, or has no key
/// where the topic is compacted.
pub fn refusal(landed: Option<&Landed>) -> Option<&KafkaError> {
    match landed {
        Some(Err(
            error @ KafkaError::MessageProduction(
                RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidRecord,
            ),
        )) => Some(error),
        _ => None,
    }
}

/// What was found out of the topic holds for so long: when nothing is acknowledged, everybody asks.
const HOLDS: Duration = Duration::from_secs(5);
/// How long brokers may take to tell how the topic is. A thread of a server waits for it.
const TELLS: Duration = Duration::from_secs(1);

/// So many records wait at most in one of [`Courier::within`].
pub const MOST_QUEUED: usize = 500_000;

/// Passes each record's answer on to who sent it.
#[derive(Default)]
struct Answers {
    listening: Listening,
    places: Mutex<Places>,
}

/// Which record of a call it is, and where its answer is waited for.
type Answer = (usize, Sender<(usize, Landed)>);

impl ClientContext for Answers {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.listening.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.listening.error(error, reason);
    }
}

impl ProducerContext for Answers {
    type DeliveryOpaque = Box<Answer>;

    fn delivery(&self, result: &DeliveryResult<'_>, answer: Box<Answer>) {
        let landed = match result {
            Ok(message) => {
                let partition = message.partition();
                let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
                // That it is there is not enough: whoever sends it again does no harm, and learns where.
                let place = places.place(partition, message.offset());
                place.map(|offset| (partition, offset)).ok_or({
                    KafkaError::MessageProduction(RDKafkaErrorCode::DuplicateSequenceNumber)
                })
            }
            Err((error, _)) => Err(error.clone()),
        };
        // Whoever gave up waiting does not want to know.
        let _ = answer.1.send((answer.0, landed));
    }
}

/// Sends whole records to one topic.
pub struct Courier {
    inner: ThreadedProducer<Answers>,
    cluster: Cluster,
    topic: String,
    /// What was wrong with the topic when it was last asked.
    wanting: Mutex<Option<(Instant, Option<Why>)>>,
}

impl Courier {
    /// Connects lazily, as [`super::producer::Producer`] does, and writes as safely.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration.
    pub fn new(cluster: &Cluster, topic: &str) -> Result<Courier, KafkaError> {
        Courier::of(super::producer::properties(cluster), cluster, topic)
    }

    /// One whose records fail that were not acknowledged within this time, so that what waits for a broker is bounded in
    /// number, bytes and time.
    ///
    /// # Errors
    /// As [`Courier::new`].
    pub fn within(
        cluster: &Cluster,
        topic: &str,
        patience: Duration,
    ) -> Result<Courier, KafkaError> {
        let mut config = super::producer::properties(cluster);
        config
            .set("message.timeout.ms", patience.as_millis().to_string())
            .set("queue.buffering.max.messages", MOST_QUEUED.to_string())
            .set("queue.buffering.max.kbytes", "262144");
        Courier::of(config, cluster, topic)
    }

    fn of(mut config: ClientConfig, cluster: &Cluster, topic: &str) -> Result<Courier, KafkaError> {
        // How large a record may be is the broker's to say: these were on a topic before.
        config.set("message.max.bytes", "1000000000");
        Ok(Courier {
            inner: config
                .create_with_context(Answers::default())
                .map_err(super::without_value)?,
            cluster: cluster.clone(),
            topic: topic.to_owned(),
            wanting: Mutex::default(),
        })
    }

    /// Sends the records in order and waits until each was acknowledged on all in-sync replicas or
    /// refused for good; as long as it takes, or until `give_up` says so, which is asked several
    /// times a second. The answers are in the order of the records; `None` where none came in time.
    pub fn deliver(
        &self,
        records: &[Whole],
        mut give_up: impl FnMut() -> bool,
    ) -> Vec<Option<Landed>> {
        let mut landed = self.together(records, &mut give_up);
        // The broker refuses the batch that a record is in, good ones with the bad one. Alone,
        // each is judged by itself.
        if records.len() > 1 {
            for (record, landed) in records.iter().zip(&mut landed) {
                let beside_another = matches!(
                    landed,
                    Some(Err(KafkaError::MessageProduction(
                        RDKafkaErrorCode::InvalidDifferentRecord
                    )))
                );
                if beside_another || refusal(landed.as_ref()).is_some() {
                    *landed = self
                        .together(std::slice::from_ref(record), &mut give_up)
                        .pop()
                        .flatten();
                }
            }
        }
        landed
    }

    fn together(
        &self,
        records: &[Whole],
        give_up: &mut impl FnMut() -> bool,
    ) -> Vec<Option<Landed>> {
        let mut landed: Vec<Option<Landed>> = records.iter().map(|_| None).collect();
        let (answer, answers) = channel();
        for (index, (record, landed)) in records.iter().zip(&mut landed).enumerate() {
            if let Err(error) = self.queue(record, (index, answer.clone()), give_up) {
                *landed = Some(Err(error));
            }
        }
        drop(answer);
        loop {
            match answers.recv_timeout(Duration::from_millis(100)) {
                Ok((index, answer)) => {
                    if let Some(landed) = landed.get_mut(index) {
                        *landed = Some(answer);
                    }
                }
                // The last answer has come, and its sender is gone.
                Err(RecvTimeoutError::Disconnected) => return landed,
                Err(RecvTimeoutError::Timeout) if give_up() => return landed,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn queue(
        &self,
        whole: &Whole,
        answer: Answer,
        give_up: &mut impl FnMut() -> bool,
    ) -> Result<(), KafkaError> {
        let mut record: BaseRecord<'_, Vec<u8>, Vec<u8>, Box<Answer>> =
            BaseRecord::with_opaque_to(&self.topic, Box::new(answer));
        record.key = whole.key.as_ref();
        record.payload = whole.payload.as_ref();
        if !whole.headers.is_empty() {
            record = record.headers(headers::to_send(&whole.headers));
        }
        loop {
            match self.inner.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back))
                    if !give_up() =>
                {
                    record = back;
                    // Waits for room: served by the polling thread, there is nothing else to wait on.
                    self.inner.poll(Duration::from_millis(5));
                }
                Err((error, _)) => return Err(error),
            }
        }
    }

    /// Why a record has no answer, or this one, and what to try. It may ask a broker.
    pub fn why(&self, error: Option<&KafkaError>) -> Why {
        let unanswered = error.is_none_or(|error| {
            *error == KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut)
        });
        // Brokers that are away may be why, and then the others know what that means for the topic.
        if unanswered && let Some(wanting) = self.wanting() {
            return wanting;
        }
        let said = self.inner.context().listening.said_lately();
        match (said.filter(|_| unanswered), error) {
            (Some(said), _) => Why::of(said, &self.cluster),
            (None, Some(error)) => error.to_string().into(),
            (None, None) => "it did not answer".to_owned().into(),
        }
    }

    fn wanting(&self) -> Option<Why> {
        let mut last = self.wanting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, found)) = last.as_ref()
            && at.elapsed() < HOLDS
        {
            return found.clone();
        }
        let found = replicas::wanting(self.inner.client(), &self.cluster, &self.topic, TELLS);
        *last = Some((Instant::now(), found.clone()));
        found
    }

    /// The cluster's own id.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub fn cluster_id(&self) -> Result<String, KafkaError> {
        super::topic::cluster_id(self.inner.client())
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

    use super::*;

    /// As a leader does that was just elected, where the one before it could not say any more that it has the record.
    #[test]
    fn records_of_which_the_broker_does_not_know_where_they_are_have_not_landed() {
        let brokers = MockCluster::new(1).expect("a broker");
        brokers.create_topic("t", 1, 1).expect("a topic");
        brokers.request_errors(
            RDKafkaApiKey::Produce,
            &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_DUPLICATE_SEQUENCE_NUMBER],
        );
        // Long enough for both to be in one batch.
        let together = ("linger.ms".to_owned(), "500".to_owned());
        let cluster = Cluster {
            brokers: brokers.bootstrap_servers(),
            properties: vec![together],
        };
        let courier = Courier::new(&cluster, "t").expect("a courier");
        let record = Whole {
            payload: Some(b"value".to_vec()),
            ..Whole::default()
        };
        let deliver = || courier.deliver(&[record.clone(), record.clone()], || false);
        assert!(matches!(deliver()[..], [Some(Err(_)), Some(Err(_))]));
        assert!(matches!(deliver()[..], [Some(Ok(_)), Some(Ok(_))]));
    }
}

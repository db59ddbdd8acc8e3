//! Questions about a topic's logs that take a while: where they begin and end, and whether what comes next can be read.
//!
//! Asked over a consumer of its own that is in no group, from another thread than the one that polls.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::{Client, ClientContext};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{Offset as At, TopicPartitionList};

use super::{Cluster, consumer, log_librdkafka, topic};
use crate::offset::{LogRange, Offset};
use crate::progress::Cause;

/// How long librdkafka is waited for to say what is wrong.
const COMPLAINT: Duration = Duration::from_secs(2);
/// How long a look at what comes next may take.
const LOOK: Duration = Duration::from_secs(10);

/// Keeps the last thing that librdkafka complained of: its errors have their reason only here.
#[derive(Default)]
pub(super) struct Listening(Mutex<Option<String>>);

impl Listening {
    pub(super) fn said(&self) -> Option<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl ClientContext for Listening {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_librdkafka(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        log::debug!(target: "librdkafka", "{error}: {reason}");
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *said = Some(reason.to_owned());
    }
}

impl ConsumerContext for Listening {}

/// Whether an error says that the bytes of a batch cannot be read: it fails its checksum, does not decompress, or
/// unpacks to more than is allowed. It does not go away by itself, and librdkafka may pass over it.
pub fn is_unreadable(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::*;
    matches!(
        code,
        BadMessage | BadCompression | NotImplemented | InvalidMessage | MessageSizeTooLarge
    )
}

/// What comes next in a log.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// A record at this offset.
    Record(Offset),
    /// Nothing: the log ends here.
    End,
    /// Bytes that cannot be read, and why.
    Unreadable(String),
    /// No answer, and why, as far as is known.
    Silence(String),
}

/// A consumer in no group, to ask about one topic.
pub struct Log {
    consumer: BaseConsumer<Listening>,
    topic: String,
}

impl Log {
    /// Connects in the background.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration.
    pub fn of(cluster: &Cluster, topic: &str) -> KafkaResult<Log> {
        // A consumer has to name a group, even one that it never joins.
        let mut config = consumer::properties(cluster, "adflux-asks", Duration::from_secs(10));
        config.set("statistics.interval.ms", "0");
        let consumer = config
            .create_with_context(Listening::default())
            .map_err(super::without_value)?;
        let topic = topic.to_owned();
        Ok(Log { consumer, topic })
    }

    /// To ask other questions.
    pub(super) fn client(&self) -> &Client<Listening> {
        self.consumer.client()
    }

    /// What librdkafka complained of, by itself and within a moment.
    pub(super) fn complaint(&self) -> Option<String> {
        let deadline = Instant::now() + COMPLAINT;
        while self.consumer.context().said().is_none() && Instant::now() < deadline {
            // Serves librdkafka; there is nothing to read.
            let _ = self.consumer.poll(Duration::from_millis(50));
        }
        self.consumer.context().said()
    }

    /// What each partition's log holds, or why that is not known.
    pub fn ranges(&self, partitions: &[i32]) -> BTreeMap<i32, Result<LogRange, Cause>> {
        ranges(&self.consumer, &self.topic, partitions)
    }

    /// What comes next from `offset` on. Asked by one after the other.
    pub fn next(&self, partition: i32, offset: Offset) -> Next {
        let mut list = TopicPartitionList::new();
        let listed = list.add_partition_offset(&self.topic, partition, At::Offset(offset.get()));
        if let Err(error) = listed.and_then(|()| self.consumer.assign(&list)) {
            return Next::Silence(error.to_string());
        }
        let next = self.first(partition);
        // Nothing more is fetched.
        let _ = self.consumer.unassign();
        next
    }

    fn first(&self, partition: i32) -> Next {
        let deadline = Instant::now() + LOOK;
        let said = || self.consumer.context().said();
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            match self.consumer.poll(left) {
                Some(Ok(record)) if record.partition() == partition => {
                    return Next::Record(Offset::new(record.offset()));
                }
                Some(Err(KafkaError::PartitionEOF(p))) if p == partition => return Next::End,
                Some(Err(KafkaError::MessageConsumption(code))) if is_unreadable(code) => {
                    return Next::Unreadable(said().unwrap_or_else(|| code.to_string()));
                }
                Some(_) | None => {}
            }
        }
        Next::Silence(said().unwrap_or_else(|| "no answer".to_owned()))
    }
}

/// What each partition's log holds, or why that is not known: one question to each leader, whatever the number of
/// partitions.
pub(super) fn ranges<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partitions: &[i32],
) -> BTreeMap<i32, Result<LogRange, Cause>> {
    let all = |cause: Cause| {
        partitions
            .iter()
            .map(|&p| (p, Err(cause.clone())))
            .collect()
    };
    let metadata = match consumer
        .client()
        .fetch_metadata(Some(topic), topic::TIMEOUT)
    {
        Ok(metadata) => metadata,
        Err(error) => return all(Cause::new("kafka", format!("no broker answers ({error})"))),
    };
    let described = metadata.topics().iter().find(|t| t.name() == topic);
    if let Some(error) = described.and_then(|t| t.error()) {
        return all(topic::refusal(topic, error.into()));
    }
    let leaders: BTreeMap<i32, i32> = described
        .map(|t| {
            t.partitions()
                .iter()
                .map(|p| (p.id(), p.leader()))
                .collect()
        })
        .unwrap_or_default();
    let has_leader = |p: &i32| leaders.get(p).is_some_and(|&leader| leader >= 0);
    let led: Vec<i32> = partitions.iter().copied().filter(has_leader).collect();
    let ask = |asked: &[i32], timeout| {
        let at = |at: At| {
            let mut list = TopicPartitionList::new();
            for &partition in asked {
                list.add_partition_offset(topic, partition, at)?;
            }
            consumer.offsets_for_times(list, timeout)
        };
        Ok::<_, KafkaError>((at(At::Beginning)?, at(At::End)?))
    };
    let of = |partition: i32, (starts, ends): &(TopicPartitionList, TopicPartitionList)| {
        let offset = |list: &TopicPartitionList| {
            let element = list.find_partition(topic, partition)?;
            match (element.error(), element.offset()) {
                (Ok(()), At::Offset(offset)) => Some(Offset::new(offset)),
                _ => None,
            }
        };
        let (start, end) = (offset(starts)?, offset(ends)?);
        Some(LogRange { start, end })
    };
    let together = ask(&led, topic::TIMEOUT).ok();
    let range = |&partition: &i32| {
        if !has_leader(&partition) {
            let message = "the partition has no leader: a broker that holds it must come back";
            return (partition, Err(Cause::new("no_leader", message)));
        }
        let found = together.as_ref().and_then(|answers| of(partition, answers));
        let range = match found {
            Some(range) => Ok(range),
            // One whose leader does not answer must not hide the others.
            None => match ask(&[partition], topic::TIMEOUT / 5) {
                Ok(answers) => {
                    of(partition, &answers).ok_or_else(|| no_answer("it has no offsets"))
                }
                Err(error) => Err(no_answer(&error.to_string())),
            },
        };
        (partition, range)
    };
    partitions.iter().map(range).collect()
}

fn no_answer(why: &str) -> Cause {
    Cause::new(
        "kafka",
        format!("the partition's leader does not say where the log begins and ends ({why})"),
    )
}

//! Questions about a topic's logs that take a while: where they begin and end, and whether what comes next can be read.
//!
//! Asked over a consumer of its own that is in no group, from another thread than the one that polls.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::client::Client;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{Offset as At, TopicPartitionList};

use super::listening::Listening;
use super::refused::Why;
use super::{Cluster, consumer, topic};
use crate::offset::{LogRange, Offset};
use crate::progress::Cause;
use crate::time::Timestamp;

/// How long librdkafka is waited for to say what is wrong.
const COMPLAINT: Duration = Duration::from_secs(2);
/// How long a look at what comes next may take.
const LOOK: Duration = Duration::from_secs(10);

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
    /// A record at this offset, with its timestamp.
    Record(Offset, Option<Timestamp>),
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
        topic::ranges(&self.consumer, &self.topic, partitions)
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
                    return Next::Record(Offset::new(record.offset()), super::record_time(&record));
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

/// What a group has committed of a topic's partitions. Asked without joining it.
///
/// # Errors
/// When the cluster does not answer, or does not tell us.
pub fn committed(
    cluster: &Cluster,
    topic: &str,
    group: &str,
    partitions: &[i32],
) -> KafkaResult<BTreeMap<i32, Offset>> {
    let mut config = consumer::properties(cluster, group, Duration::from_secs(10));
    config.set("statistics.interval.ms", "0");
    let consumer: BaseConsumer<Listening> = config
        .create_with_context(Listening::default())
        .map_err(super::without_value)?;
    let ask = || {
        let mut list = TopicPartitionList::new();
        for &partition in partitions {
            list.add_partition(topic, partition);
        }
        consumer.committed_offsets(list, topic::TIMEOUT)
    };
    // Who coordinates the group may be found only the next time.
    let found = ask().or_else(|_| ask())?;
    let offset = |at: At| at.to_raw().filter(|offset| *offset >= 0).map(Offset::new);
    let elements = found.elements();
    Ok(elements
        .iter()
        .filter_map(|e| Some((e.partition(), offset(e.offset())?)))
        .collect())
}

/// The cluster's id and the topic's partitions, over a connection of its own.
///
/// # Errors
/// Why the cluster did not answer, and what to try.
pub fn describe(cluster: &Cluster, name: &str) -> Result<(String, Vec<i32>), Why> {
    let log = Log::of(cluster, name).map_err(|error| error.to_string())?;
    let client = log.client();
    let asked =
        topic::partitions(client, name).and_then(|found| Ok((topic::cluster_id(client)?, found)));
    asked.map_err(|error| topic::why(&error, name, cluster, log.complaint()))
}

//! The topic: is it there, how many partitions has it, where does it end.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::{Client, ClientContext};
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset as At, TopicPartitionList};

use super::Cluster;
use super::listening::Listening;
use super::refused::Why;
use crate::offset::{LogRange, Offset};
use crate::progress::Cause;

/// How long a question to the cluster may take.
pub const TIMEOUT: Duration = Duration::from_secs(5);

fn admin(cluster: &Cluster) -> Result<AdminClient<Listening>, KafkaError> {
    AdminClient::from_config_and_context(&cluster.client(), Listening::default())
        .map_err(super::without_value)
}

/// As many replicas as the cluster gives by itself.
pub const OF_THE_CLUSTER: i32 = -1;

/// Creates the topic if it is not there. Returns whether it did.
///
/// # Errors
/// When the cluster does not answer or refuses.
pub async fn create(
    cluster: &Cluster,
    topic: &str,
    partitions: i32,
    replication: i32,
) -> Result<bool, KafkaError> {
    let admin = admin(cluster)?;
    // Asked first: whoever may write to a topic need not be allowed to create one.
    if !self::partitions(admin.inner(), topic)?.is_empty() {
        return Ok(false);
    }
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(replication));
    let options = AdminOptions::new()
        .operation_timeout(Some(TIMEOUT))
        .request_timeout(Some(TIMEOUT * 2));
    let results = admin.create_topics(&[new], &options).await?;
    match results.into_iter().next() {
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(false),
        Some(Err((_, code))) => Err(KafkaError::AdminOp(code)),
        _ => Ok(true),
    }
}

/// What stands in the way of whoever asks for a topic.
pub fn refusal(topic: &str, code: RDKafkaErrorCode) -> Cause {
    match code {
        RDKafkaErrorCode::TopicAuthorizationFailed => Cause::new(
            "topic_authorization",
            format!(
                "the user may not read topic '{topic}': allow it READ, or WRITE to send to it; each lets it DESCRIBE as well"
            ),
        ),
        RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => Cause::new(
            "no_topic",
            format!(
                "topic '{topic}' does not exist; `adflux simulate` creates it, or your own tools do"
            ),
        ),
        other => Cause::new(
            "kafka",
            format!("the cluster says of topic '{topic}': {other}"),
        ),
    }
}

/// The partitions of the topic, ascending; none if there is no such topic.
///
/// # Errors
/// When the cluster does not answer, or does not let us see the topic.
pub fn partitions<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
) -> Result<Vec<i32>, KafkaError> {
    let metadata = client.fetch_metadata(Some(topic), TIMEOUT)?;
    let mut partitions = Vec::new();
    for described in metadata.topics().iter().filter(|t| t.name() == topic) {
        match described.error().map(RDKafkaErrorCode::from) {
            None => partitions.extend(described.partitions().iter().map(|p| p.id())),
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {}
            // A topic that was just created.
            Some(RDKafkaErrorCode::LeaderNotAvailable) => {}
            Some(other) => return Err(KafkaError::MetadataFetch(other)),
        }
    }
    partitions.sort_unstable();
    Ok(partitions)
}

/// A setting of the topic, by Kafka's name for it; None if the broker knows none of that name.
///
/// # Errors
/// When the cluster does not answer, or does not tell us.
pub(super) fn setting(
    cluster: &Cluster,
    topic: &str,
    name: &str,
) -> anyhow::Result<Option<String>> {
    let admin = admin(cluster)?;
    let options = AdminOptions::new().request_timeout(Some(TIMEOUT));
    let which = [ResourceSpecifier::Topic(topic)];
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let answers = runtime.block_on(admin.describe_configs(&which, &options))?;
    let Some(answer) = answers.into_iter().next() else {
        return Ok(None);
    };
    let answer = answer.map_err(KafkaError::AdminOp)?;
    Ok(answer.get(name).and_then(|entry| entry.value.clone()))
}

/// Whether the broker removes a record when there is a newer one with its key.
///
/// # Errors
/// When the cluster does not answer, or does not tell us.
pub fn is_compacted(cluster: &Cluster, topic: &str) -> anyhow::Result<bool> {
    let policy = setting(cluster, topic, "cleanup.policy")?;
    Ok(policy.is_some_and(|policy| policy.contains("compact")))
}

/// What is wrong with a topic of events that is compacted.
pub const COMPACTED: &str = "is compacted (cleanup.policy): Kafka removes an event when a newer one of its campaign has come, and what is \
     removed before it is read is never counted. Set cleanup.policy=delete";

/// Warns of a topic of events that is compacted. Asked on a thread of its own: nothing has to wait for the answer.
pub fn warn_of_compaction(cluster: &Cluster, topic: &str) {
    let (cluster, name) = (cluster.clone(), topic.to_owned());
    let asking = std::thread::Builder::new().name("cleanup-policy".to_owned());
    let asking = asking.spawn(move || match is_compacted(&cluster, &name) {
        Ok(true) => log::warn!("topic '{name}' {COMPACTED}"),
        Ok(false) => {}
        Err(error) => log::debug!("whether topic '{name}' is compacted is not known: {error}"),
    });
    if let Err(error) = asking {
        log::debug!("whether topic '{topic}' is compacted was not asked: {error}");
    }
}

/// The cluster's own id: with the topic and the partition, it names a log.
///
/// # Errors
/// When the cluster does not answer, or is too old to have an id.
pub fn cluster_id<C: ClientContext>(client: &Client<C>) -> Result<String, KafkaError> {
    client
        .fetch_cluster_id(TIMEOUT)
        .ok_or(KafkaError::ClientCreation(
            "it did not tell the cluster's id".into(),
        ))
}

/// Why a question to the cluster failed, and what to try: its own error is often only that time ran out, and what
/// librdkafka said meanwhile is the reason.
pub(super) fn why(error: &KafkaError, topic: &str, cluster: &Cluster, said: Option<String>) -> Why {
    if error.rdkafka_error_code() == Some(RDKafkaErrorCode::TopicAuthorizationFailed) {
        return refusal(topic, RDKafkaErrorCode::TopicAuthorizationFailed)
            .message
            .into();
    }
    match said {
        Some(said) => Why::of(said, cluster),
        None => error.to_string().into(),
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
    let metadata = match consumer.client().fetch_metadata(Some(topic), TIMEOUT) {
        Ok(metadata) => metadata,
        Err(error) => return all(Cause::new("kafka", format!("no broker answers ({error})"))),
    };
    let described = metadata.topics().iter().find(|t| t.name() == topic);
    if let Some(error) = described.and_then(|t| t.error()) {
        return all(refusal(topic, error.into()));
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
    let together = ask(&led, TIMEOUT).ok();
    let range = |&partition: &i32| {
        if !has_leader(&partition) {
            let message = "the partition has no leader: a broker that holds it must come back";
            return (partition, Err(Cause::new("no_leader", message)));
        }
        let found = together.as_ref().and_then(|answers| of(partition, answers));
        let range = match found {
            Some(range) => Ok(range),
            // One whose leader does not answer must not hide the others.
            None => match ask(&[partition], TIMEOUT / 5) {
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

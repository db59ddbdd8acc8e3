//! The topic: is it there, how many partitions has it, where does it end.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{Client, ClientContext};
use rdkafka::config::{FromClientConfigAndContext as _, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::Cluster;
use super::log_librdkafka;

/// How long a question to the cluster may take.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// Who asks hears of a failure from the answer.
struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_librdkafka(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        log::debug!(target: "librdkafka", "{error}: {reason}");
    }
}

fn admin(cluster: &Cluster) -> Result<AdminClient<Quiet>, KafkaError> {
    AdminClient::from_config_and_context(&cluster.client(), Quiet).map_err(super::without_value)
}

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

/// The partitions of the topic, ascending; none if there is no such topic.
///
/// # Errors
/// When the cluster does not answer.
pub fn partitions<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
) -> Result<Vec<i32>, KafkaError> {
    // Asking for one topic by name would create it on a cluster that creates topics by itself.
    let metadata = client.fetch_metadata(None, TIMEOUT)?;
    let mut partitions: Vec<i32> = metadata
        .topics()
        .iter()
        .filter(|t| t.name() == topic && t.error().is_none())
        .flat_map(|t| t.partitions().iter().map(|p| p.id()))
        .collect();
    partitions.sort_unstable();
    Ok(partitions)
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

/// The cluster's id and the topic's partitions, over a connection of its own.
///
/// # Errors
/// When the cluster does not answer.
pub fn describe(cluster: &Cluster, topic: &str) -> Result<(String, Vec<i32>), KafkaError> {
    let client = admin(cluster)?;
    let partitions = partitions(client.inner(), topic)?;
    Ok((cluster_id(client.inner())?, partitions))
}

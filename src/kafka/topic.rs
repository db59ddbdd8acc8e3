//! The topic: is it there, how many partitions has it, where does it end.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::{Client, ClientContext};
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::Cluster;
use super::logs::{Listening, Log};
use crate::progress::Cause;

/// How long a question to the cluster may take.
pub const TIMEOUT: Duration = Duration::from_secs(5);

fn admin(cluster: &Cluster) -> Result<AdminClient<Listening>, KafkaError> {
    AdminClient::from_config_and_context(&cluster.client(), Listening::default())
        .map_err(super::without_value)
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

/// What stands in the way of whoever asks for a topic.
pub fn refusal(topic: &str, code: RDKafkaErrorCode) -> Cause {
    match code {
        RDKafkaErrorCode::TopicAuthorizationFailed => Cause::new(
            "topic_authorization",
            format!("the user may not read topic '{topic}': allow it READ and DESCRIBE"),
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

/// Whether the broker removes a record when there is a newer one with its key.
///
/// # Errors
/// When the cluster does not answer, or does not tell us.
pub fn is_compacted(cluster: &Cluster, topic: &str) -> anyhow::Result<bool> {
    let admin = admin(cluster)?;
    let options = AdminOptions::new().request_timeout(Some(TIMEOUT));
    let which = [ResourceSpecifier::Topic(topic)];
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let answers = runtime.block_on(admin.describe_configs(&which, &options))?;
    let Some(answer) = answers.into_iter().next() else {
        return Ok(false);
    };
    let answer = answer.map_err(KafkaError::AdminOp)?;
    let policy = answer
        .get("cleanup.policy")
        .and_then(|e| e.value.as_deref());
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

/// The cluster's id and the topic's partitions, over a connection of its own.
///
/// # Errors
/// Why the cluster did not answer, and what to try.
pub fn describe(cluster: &Cluster, topic: &str) -> Result<(String, Vec<i32>), String> {
    let log = Log::of(cluster, topic).map_err(|error| error.to_string())?;
    let client = log.client();
    let asked = partitions(client, topic).and_then(|found| Ok((cluster_id(client)?, found)));
    asked.map_err(|error| why(&error, topic, log.complaint()))
}

/// Why a question to the cluster failed, and what to try: its own error is often only that time ran out, and what
/// librdkafka said meanwhile is the reason.
pub(super) fn why(error: &KafkaError, topic: &str, said: Option<String>) -> String {
    if error.rdkafka_error_code() == Some(RDKafkaErrorCode::TopicAuthorizationFailed) {
        return refusal(topic, RDKafkaErrorCode::TopicAuthorizationFailed).message;
    }
    let Some(said) = said else {
        return error.to_string();
    };
    let lower = said.to_lowercase();
    let advice = if lower.contains("sasl") || lower.contains("authentication") {
        ". Check sasl.mechanism, sasl.username and sasl.password"
    } else if lower.contains("ssl") || lower.contains("certificate") {
        ". Check security.protocol and ssl.ca.location"
    } else {
        ""
    };
    format!("{said}{advice}")
}

//! Kafka: how a client is configured, the topic, the producer, the consumer.
//!
//! Everything that correctness rests on is set here, and only here; what a user adds with
//! `--kafka-property` cannot change it.

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;

pub mod consumer;
pub mod courier;
pub mod headers;
pub mod logs;
pub mod producer;
pub mod topic;

/// Where Kafka is, and what else librdkafka should know (TLS, SASL, …).
#[derive(Clone)]
pub struct Cluster {
    /// `host:port`, several separated by commas.
    pub brokers: String,
    /// librdkafka properties; checked by [`parse_property`].
    pub properties: Vec<(String, String)>,
}

/// Properties that the pipeline's guarantees rest on, and why each is not the user's to set.
const OWNED: &[(&str, &str)] = &[
    ("bootstrap.servers", "set it with --brokers"),
    ("metadata.broker.list", "set it with --brokers"),
    ("group.id", "set it with --group"),
    ("client.id", "it names adflux in the broker's logs"),
    (
        "enable.auto.commit",
        "offsets are committed after PostgreSQL has the events",
    ),
    (
        "enable.auto.offset.store",
        "offsets are committed after PostgreSQL has the events",
    ),
    (
        "auto.offset.reset",
        "positions come from PostgreSQL; a missing one must be an error, not a jump",
    ),
    ("partition.assignment.strategy", "assignment is incremental"),
    (
        "group.protocol",
        "assignment is incremental under the classic protocol",
    ),
    (
        "group.instance.id",
        "a killed member's partitions must move at once",
    ),
    (
        "enable.partition.eof",
        "the end of the log is a signal the processor needs",
    ),
    (
        "partitioner",
        "a campaign must land on the partition Java clients choose for it",
    ),
    ("enable.idempotence", "a retried send must not write twice"),
    (
        "acks",
        "an acknowledged event must be on all in-sync replicas",
    ),
    ("transactional.id", "the transaction is PostgreSQL's"),
    (
        "statistics.interval.ms",
        "the lag is read from the statistics",
    ),
];

/// Parses one `--kafka-property`, `key=value`.
///
/// # Errors
/// A message for the user: not of that form, or a property that the design owns.
pub fn parse_property(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| format!("'{text}' is not of the form key=value"))?;
    let key = key.trim();
    if let Some((_, why)) = OWNED.iter().find(|(owned, _)| *owned == key) {
        return Err(format!("'{key}' cannot be set: {why}"));
    }
    Ok((key.to_owned(), value.to_owned()))
}

impl Cluster {
    /// What producers, consumers and admin clients have in common.
    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "adflux")
            .set("socket.keepalive.enable", "true")
            .set("reconnect.backoff.ms", "100")
            .set("reconnect.backoff.max.ms", "5000")
            // A black-holed connection is noticed after this long.
            .set("socket.timeout.ms", "10000")
            // Who asks for a topic by name must not create it where the cluster creates what is asked for.
            .set("allow.auto.create.topics", "false")
            // Partitions that are added, and leaders that move, are noticed within this time.
            .set("topic.metadata.refresh.interval.ms", "10000")
            .set_log_level(RDKafkaLogLevel::Info);
        for (key, value) in &self.properties {
            config.set(key, value);
        }
        config
    }
}

/// An error of librdkafka without the value it may quote: a secret under a mistyped name is one
/// still.
fn without_value(error: KafkaError) -> KafkaError {
    match error {
        KafkaError::ClientConfig(result, reason, key, value) => {
            let reason = if value.is_empty() {
                reason
            } else {
                reason.replace(&value, "...")
            };
            KafkaError::ClientConfig(result, reason, key, "(its value is not shown)".to_owned())
        }
        other => other,
    }
}

/// librdkafka's log lines, under a target of their own: its warnings about brokers that come and
/// go would otherwise bury the one line that says so.
fn log_librdkafka(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            log::error!(target: "librdkafka", "{facility} {message}");
        }
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice => {
            log::debug!(target: "librdkafka", "{facility} {message}");
        }
        _ => log::trace!(target: "librdkafka", "{facility} {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_the_design_owns_are_refused() {
        assert_eq!(
            parse_property("security.protocol=SASL_SSL"),
            Ok(("security.protocol".into(), "SASL_SSL".into()))
        );
        assert_eq!(parse_property("a=b=c"), Ok(("a".into(), "b=c".into())));
        for bad in ["novalue", "acks=1", " enable.auto.commit =true"] {
            assert!(parse_property(bad).is_err(), "{bad}");
        }
        assert!(parse_property("acks=1").unwrap_err().contains("in-sync"));
    }
}

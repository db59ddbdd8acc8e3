//! Kafka: how a client is configured, the topic, the producer, the consumer.
//!
//! Everything that correctness rests on is set here, and only here; what a user adds with
//! `--kafka-property` cannot change it.

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::Message;

use crate::time::{Length, Timestamp};

pub mod consumer;
pub mod courier;
pub mod headers;
mod listening;
pub mod logs;
mod places;
pub mod producer;
pub mod refused;
pub mod replicas;
pub mod security;
pub mod topic;
pub mod waiting;

/// A record's timestamp, whoever set it.
pub fn record_time(record: &impl Message) -> Option<Timestamp> {
    let millis = record.timestamp().to_millis()?;
    Some(Timestamp::EPOCH + Length::MILLISECOND.times(millis))
}

/// Where Kafka is, and what else librdkafka should know (TLS, SASL, …).
#[derive(Clone)]
pub struct Cluster {
    /// `host:port`, several separated by commas.
    pub brokers: String,
    /// librdkafka properties; checked by [`parse_properties`] and [`security::Settings`].
    pub properties: Vec<(String, String)>,
}

/// Properties that the pipeline's guarantees rest on, and why each is not the user's to set.
const OWNED: &[(&str, &str)] = &[
    ("bootstrap.servers", "set it with --brokers"),
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
        "check.crcs",
        "a batch whose bytes have changed must be an error, not other numbers",
    ),
    (
        "partitioner",
        "a campaign must land on the partition Java clients choose for it",
    ),
    ("enable.idempotence", "a retried send must not write twice"),
    (
        "max.in.flight",
        "what a new partition refuses must be sent again, and not be taken for written",
    ),
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

/// Other names of properties, as librdkafka's `CONFIGURATION.md` lists them, and those they stand for. Under one name each,
/// what a user sets takes the place of what is set here.
const ALIASES: &[(&str, &str)] = &[
    ("metadata.broker.list", "bootstrap.servers"),
    ("max.in.flight.requests.per.connection", "max.in.flight"),
    ("sasl.mechanisms", "sasl.mechanism"),
    ("fetch.message.max.bytes", "max.partition.fetch.bytes"),
    ("queue.buffering.max.ms", "linger.ms"),
    ("message.send.max.retries", "retries"),
    ("compression.codec", "compression.type"),
    ("request.required.acks", "acks"),
    ("delivery.timeout.ms", "message.timeout.ms"),
    ("auto.commit.enable", "enable.auto.commit"),
];

/// Properties of librdkafka, as one `--kafka-property` or the environment gives them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Properties(pub Vec<(String, String)>);

/// Parses `key=value`, or several of them separated by `;`; `\;` is a semicolon in a value.
///
/// # Errors
/// A message for the user: not of that form, or a property that the design owns.
pub fn parse_properties(text: &str) -> Result<Properties, String> {
    if text.trim().is_empty() {
        return Ok(Properties(Vec::new()));
    }
    let mut parts = vec![String::new()];
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(';') {
        let escaped = before.strip_suffix('\\');
        if let Some(last) = parts.last_mut() {
            last.push_str(escaped.unwrap_or(before));
            if escaped.is_some() {
                last.push(';');
            }
        }
        if escaped.is_none() {
            parts.push(String::new());
        }
        rest = after;
    }
    if let Some(last) = parts.last_mut() {
        last.push_str(rest);
    }
    // One at the end separates nothing.
    if parts.len() > 1 && parts.last().is_some_and(|last| last.trim().is_empty()) {
        parts.pop();
    }
    parts
        .iter()
        .map(|part| parse_property(part))
        .collect::<Result<_, _>>()
        .map(Properties)
}

fn parse_property(text: &str) -> Result<(String, String), String> {
    // The text is not quoted: it may be the end of a password.
    let (key, value) = text
        .split_once('=')
        .ok_or("not of the form key=value; write a semicolon that is part of a value as \\;")?;
    let key = key.trim();
    let alias = ALIASES.iter().find(|(alias, _)| *alias == key);
    let name = alias.map_or(key, |(_, name)| name);
    if let Some((_, why)) = OWNED.iter().find(|(owned, _)| *owned == name) {
        return Err(format!("'{key}' cannot be set: {why}"));
    }
    Ok((name.to_owned(), value.to_owned()))
}

impl Cluster {
    /// What is set for a property of librdkafka.
    fn property(&self, name: &str) -> Option<&str> {
        let set = self.properties.iter().find(|(key, _)| key == name);
        set.map(|(_, value)| value.as_str())
    }

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

/// What a line of librdkafka's log says of a connection that failed, if it is one.
fn failure(facility: &str, message: &str) -> Option<String> {
    let (_thread, said) = message.split_once("]: ")?;
    (facility == "FAIL").then(|| said.to_owned())
}

/// librdkafka's log lines, under a target of their own: its warnings about brokers that come and
/// go would otherwise bury the one line that says so.
fn log_librdkafka(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        // What libsasl says has libsasl's levels, of which the lower are librdkafka's higher.
        _ if facility == "LIBSASL" => {
            log::debug!(target: "librdkafka", "{facility} {message}");
        }
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

    fn parsed(text: &str) -> Result<Vec<(String, String)>, String> {
        parse_properties(text).map(|properties| properties.0)
    }

    fn properties(all: &[(&str, &str)]) -> Result<Vec<(String, String)>, String> {
        Ok(all
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect())
    }

    #[test]
    fn properties_the_design_owns_are_refused_under_each_of_their_names() {
        assert_eq!(
            parsed("security.protocol=SASL_SSL"),
            properties(&[("security.protocol", "SASL_SSL")])
        );
        assert_eq!(parsed("a=b=c"), properties(&[("a", "b=c")]));
        for bad in [
            "novalue",
            "acks=1",
            " enable.auto.commit =true",
            "request.required.acks=1",
            "auto.commit.enable=true",
            "metadata.broker.list=elsewhere:9092",
            "a=b;request.required.acks=1",
        ] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
        let refused = parsed("request.required.acks=1").unwrap_err();
        assert!(refused.contains("'request.required.acks'") && refused.contains("in-sync"));
    }

    /// librdkafka itself says that both names are one property.
    #[test]
    fn aliases_are_those_of_librdkafka() {
        let differs = |value: &str| match value {
            "sasl.mechanism" => "PLAIN",
            "compression.type" => "gzip",
            "bootstrap.servers" => "elsewhere:9092",
            _ => "1",
        };
        // A topic's own, which stands for nothing that can be asked for.
        let asked = ALIASES
            .iter()
            .filter(|(alias, _)| *alias != "auto.commit.enable");
        for (alias, name) in asked {
            let mut config = ClientConfig::new();
            config.set(*alias, differs(name));
            let native = config.create_native_config().expect(alias);
            assert_eq!(native.get(name).expect(name), differs(name), "{alias}");
        }
    }

    #[test]
    fn a_value_may_hold_a_semicolon() {
        for (text, read) in [
            ("a=1;b=2", &[("a", "1"), ("b", "2")][..]),
            ("a=1;b=2;", &[("a", "1"), ("b", "2")]),
            (
                r"sasl.password=x\;y;b=2",
                &[("sasl.password", "x;y"), ("b", "2")],
            ),
            (r"sasl.password=\;\;x\y", &[("sasl.password", r";;x\y")]),
            (r"sasl.password=x\;", &[("sasl.password", "x;")]),
        ] {
            assert_eq!(parsed(text), properties(read), "{text}");
        }
        let refused = parsed("sasl.password=secret;hunter2").unwrap_err();
        assert!(
            refused.contains(r"\;") && !refused.contains("hunter2"),
            "{refused}"
        );
    }
}

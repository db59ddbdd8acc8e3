//! `adflux simulate`: the simulator's stream, paced, into the topic.

pub mod reports;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::kafka::logs::{self, Log};
use crate::kafka::producer::Producer;
use crate::kafka::{Cluster, topic};
use crate::offset::Offset;
use crate::outage::Outage;
use crate::pause::{Backoff, pause};
use crate::simulator::reports::{World, Written};
use crate::simulator::{self, Ledger, Simulator};
use crate::time::{Length, Timestamp};

/// How fast events are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// Events a second.
    PerSecond(f64),
    /// As fast as the brokers take them.
    Max,
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Rate::PerSecond(rate) => write!(f, "{rate}"),
            Rate::Max => f.write_str("max"),
        }
    }
}

impl std::str::FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Rate, String> {
        match text {
            "max" => Ok(Rate::Max),
            number => match number.parse::<f64>() {
                Ok(rate) if rate > 0.0 && rate.is_finite() => Ok(Rate::PerSecond(rate)),
                _ => Err(format!(
                    "'{number}' is neither a positive number of events a second nor 'max'"
                )),
            },
        }
    }
}

/// What to send, where, and how fast.
#[derive(Clone)]
pub struct Settings {
    pub cluster: Cluster,
    pub topic: String,
    /// For a topic that has to be created.
    pub partitions: i32,
    /// [`topic::OF_THE_CLUSTER`] for as many as it gives by itself.
    pub replication: i32,
    pub simulator: simulator::Settings,
    pub rate: Rate,
    /// Records to send; none: until stopped.
    pub count: Option<u64>,
    /// How much history to send first, at the same spacing of event times but at full speed. Only to a topic that is empty:
    /// whoever starts again must not send a second history beside the first.
    pub backfill: Duration,
    /// What platforms report of the past, sent before the history of events and as that is; and the schema id of its rows.
    pub reports: Option<(World, u32)>,
    /// The event time of the first record; the others follow at the pace of `rate` (a millisecond
    /// apart at `max`). None: events happen when they are sent.
    pub start: Option<Timestamp>,
}

/// The most events a backfill has: longer histories are thinned out.
pub const MAX_BACKFILL_EVENTS: i64 = 1_000_000;

/// How long what was sent last may take.
const LAST_ACKNOWLEDGEMENTS: Duration = Duration::from_secs(30);

/// What was sent.
pub struct Sent {
    pub ledger: Ledger,
    pub acknowledged: u64,
    pub failed: u64,
}

/// Sends until the count is reached or `stop` is set, and waits for the acknowledgements. Before
/// each record, `may_send` is asked with the number sent so far; it says `false` to slow down.
///
/// # Errors
/// When the topic can neither be found nor created, or a record is refused.
pub fn run(
    settings: &Settings,
    stop: &AtomicBool,
    may_send: &dyn Fn(u64) -> bool,
) -> anyhow::Result<Sent> {
    let stopped = || stop.load(Ordering::Relaxed);
    let created = ensure_topic(settings, stop)?;
    let sends_history = !settings.backfill.is_zero() && (created || is_empty(settings)?);
    let mut rows = 0u64;
    if sends_history && let Some((world, schema_id)) = &settings.reports {
        let mut ledger = world.ledger(std::io::sink())?;
        let to = (&settings.cluster, settings.topic.as_str());
        let told = &mut |written: Written| {
            rows += written.rows;
            Ok(())
        };
        reports::send_all(world, &mut ledger, to, *schema_id, stop, may_send, told)?;
    }
    let producer = Producer::new(&settings.cluster, &settings.topic)?;
    let mut simulator = Simulator::new(&settings.simulator);
    let mut sent = 0u64;
    let mut send = |event_time: Timestamp| -> anyhow::Result<bool> {
        while !may_send(rows + sent) && pause(Duration::from_millis(1), stop) {}
        if stopped() || settings.count.is_some_and(|count| sent >= count) {
            return Ok(false);
        }
        let record = simulator.next_record(event_time);
        match producer.send(record.key, record.value, stopped) {
            Ok(()) => sent += 1,
            Err(_) if stopped() => return Ok(false),
            Err(error) => return Err(error).context("sending a record"),
        }
        Ok(true)
    };
    let spacing = match settings.rate {
        Rate::PerSecond(rate) => Length::new((1e6 / rate).max(1.0) as i64),
        Rate::Max => Length::MILLISECOND,
    };
    let mut go_on = true;
    if sends_history {
        let length = i64::try_from(settings.backfill.as_micros()).unwrap_or(i64::MAX);
        let end = settings.start.unwrap_or_else(Timestamp::now);
        // Times before 1970 are no event times.
        let mut time = (end - Length::new(length)).max(Timestamp::EPOCH);
        let spacing = spacing.max(Length::new((end - time).get() / MAX_BACKFILL_EVENTS));
        while go_on && time < end {
            go_on = send(time)?;
            time = time + spacing;
        }
    }
    let started = Instant::now();
    let mut n = 0u64;
    while go_on {
        if let Rate::PerSecond(rate) = settings.rate {
            let due = Duration::from_secs_f64(n as f64 / rate);
            pause(due.saturating_sub(started.elapsed()), stop);
        }
        let time = match settings.start {
            Some(start) => start + spacing.times(i64::try_from(n)?),
            None => Timestamp::now(),
        };
        go_on = send(time)?;
        n += 1;
    }
    await_acknowledgements(&producer)?;
    Ok(Sent {
        ledger: simulator.ledger().clone(),
        acknowledged: producer.acknowledged(),
        failed: producer.failed(),
    })
}

/// Waits until brokers have all that was sent.
fn await_acknowledgements(producer: &Producer) -> anyhow::Result<()> {
    producer.flush(LAST_ACKNOWLEDGEMENTS).map_err(|error| {
        anyhow!(
            "waiting for the last acknowledgements: {error}: {}",
            producer.why()
        )
    })
}

/// Creates the topic if it is absent; waits for a broker that is away. Says whether it did.
fn ensure_topic(settings: &Settings, stop: &AtomicBool) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let brokers = &settings.cluster.brokers;
    let outage = Outage::default();
    let mut failures = 0;
    loop {
        let create = topic::create(
            &settings.cluster,
            &settings.topic,
            settings.partitions,
            settings.replication,
        );
        match runtime.block_on(create) {
            Ok(created) => {
                outage.ended(format_args!("Kafka is there"));
                if created {
                    log::info!(
                        "created topic '{}' with {} partitions",
                        settings.topic,
                        settings.partitions
                    );
                }
                return Ok(created);
            }
            Err(error) if is_away(&error) => {
                // Said once, and asked once: its own error is often only that time ran out.
                let asked =
                    (failures == 0).then(|| logs::describe(&settings.cluster, &settings.topic));
                let why = asked
                    .and_then(Result::err)
                    .map_or_else(|| error.to_string(), |why| why.to_string());
                outage.failed(format_args!(
                    "Kafka at {brokers}: {why}; retrying until it answers"
                ));
            }
            Err(KafkaError::AdminOp(code) | KafkaError::MetadataFetch(code))
                if is_not_allowed(code) =>
            {
                bail!(
                    "the user may not create topic '{0}' ({code}): allow it CREATE and DESCRIBE on the topic, or create that \
                     first; to send, it needs WRITE as well",
                    settings.topic
                );
            }
            Err(error) => {
                return Err(error).with_context(|| {
                    format!(
                        "creating topic '{}' with {} partitions and {}",
                        settings.topic,
                        settings.partitions,
                        match settings.replication {
                            topic::OF_THE_CLUSTER => "the cluster's own replication".to_owned(),
                            replicas => format!("replication {replicas}"),
                        }
                    )
                });
            }
        }
        if !pause(Backoff::SERVER.after(failures), stop) {
            bail!("stopped while waiting for Kafka at {brokers}");
        }
        failures += 1;
    }
}

/// Whether nothing was ever sent to the topic.
fn is_empty(settings: &Settings) -> anyhow::Result<bool> {
    let (cluster, topic) = (&settings.cluster, &settings.topic);
    let (_, partitions) = logs::describe(cluster, topic).map_err(anyhow::Error::msg)?;
    for (partition, range) in Log::of(cluster, topic)?.ranges(&partitions) {
        let range = range
            .map_err(|cause| anyhow!(cause.message))
            .with_context(|| format!("asking whether {topic}[{partition}] is empty"))?;
        if range.end > Offset::new(0) {
            log::info!("topic '{topic}' has records: no history is sent");
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether an error means that the cluster cannot be reached, rather than that it refuses.
fn is_away(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::*;
    let (KafkaError::AdminOp(code) | KafkaError::MetadataFetch(code)) = error else {
        return false;
    };
    matches!(
        code,
        OperationTimedOut
            | BrokerTransportFailure
            | AllBrokersDown
            | RequestTimedOut
            | NotController
            | Resolve
    )
}

fn is_not_allowed(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::*;
    matches!(code, TopicAuthorizationFailed | ClusterAuthorizationFailed)
}

/// The longest `--backfill`.
pub const MAX_BACKFILL: Duration =
    Duration::from_micros(Length::DAY.times(3_660).get().unsigned_abs());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        assert_eq!("max".parse(), Ok(Rate::Max));
        assert_eq!("0.5".parse(), Ok(Rate::PerSecond(0.5)));
        for bad in ["", "0", "-1", "inf", "NaN", "fast"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
    }
}

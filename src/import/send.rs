//! Rows go to the topic, each campaign's to its partition: idempotent, and acknowledged on all in-sync replicas.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::files::{Opened, bar};
use super::spool::{Put, Spool};
use crate::codec::{self, SchemaIds};
use crate::kafka::producer::Producer;
use crate::kafka::{Cluster, logs};
use crate::offset::LogRange;
use crate::reports::refusal::Refusal;

/// How often it is looked whether all is acknowledged.
const LOOK: Duration = Duration::from_millis(50);

/// So many records wait for their acknowledgement at most: what waits is memory.
const WAITING: &str = "50000";

/// Where rows are sent.
pub struct Topic {
    pub cluster: Cluster,
    pub name: String,
    pub cluster_id: String,
    /// How many it has.
    pub partitions: usize,
    pub schema_ids: SchemaIds,
}

impl Topic {
    /// Asks whether it is there.
    ///
    /// # Errors
    /// Why nothing can be sent to it.
    pub fn find(cluster: &Cluster, name: &str, schema_ids: SchemaIds) -> anyhow::Result<Topic> {
        let (cluster_id, partitions) = logs::describe(cluster, name).map_err(|why| {
            anyhow::anyhow!("Kafka at {}: {why}; nothing was sent", cluster.brokers)
        })?;
        if partitions.is_empty() {
            bail!(
                "topic '{name}' does not exist; `adflux simulate` creates it, or your own tools do; nothing was sent"
            );
        }
        let mut cluster = cluster.clone();
        let bound = "queue.buffering.max.messages";
        if !cluster.properties.iter().any(|(key, _)| key == bound) {
            cluster
                .properties
                .push((bound.to_owned(), WAITING.to_owned()));
        }
        Ok(Topic {
            cluster,
            name: name.to_owned(),
            cluster_id,
            partitions: partitions.len(),
            schema_ids,
        })
    }

    /// What each partition holds now.
    ///
    /// # Errors
    /// When Kafka does not say.
    pub fn log(&self) -> anyhow::Result<BTreeMap<i32, LogRange>> {
        let at = &self.cluster.brokers;
        let (_, partitions) = logs::describe(&self.cluster, &self.name)
            .map_err(|why| anyhow::anyhow!("Kafka at {at}: {why}"))?;
        let log = logs::Log::of(&self.cluster, &self.name)?;
        let ranges = log.ranges(&partitions).into_iter();
        ranges
            .map(|(partition, range)| match range {
                Ok(range) => Ok((partition, range)),
                Err(why) => bail!("Kafka at {at}: partition {partition}: {}", why.message),
            })
            .collect()
    }
}

/// Sends what good files say, and returns where it is when all is acknowledged.
///
/// # Errors
/// When a record is refused, a file is not what it was, or `stop` was set before all was acknowledged.
pub fn send(
    topic: &Topic,
    files: &mut [Opened],
    stop: &AtomicBool,
) -> anyhow::Result<BTreeMap<i32, LogRange>> {
    let schema_id = topic.schema_ids.report;
    let again = "import the same files again: what is there already counts once";
    sending(topic, stop, again, |sending| sending.all(files, schema_id))
}

/// Sends records that were made before, and returns where they are when all are acknowledged. `again`: what to do if it breaks
/// off.
///
/// # Errors
/// As [`send`].
pub fn records<'s>(
    topic: &Topic,
    spools: impl IntoIterator<Item = &'s mut Spool>,
    stop: &AtomicBool,
    again: &str,
) -> anyhow::Result<BTreeMap<i32, LogRange>> {
    sending(topic, stop, again, |sending| {
        for spool in spools {
            spool.each(&mut |key, value| sending.put(key, value))?;
        }
        Ok(())
    })
}

fn sending(
    topic: &Topic,
    stop: &AtomicBool,
    again: &str,
    put: impl FnOnce(&mut Sending<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<BTreeMap<i32, LogRange>> {
    let mut sending = Sending {
        producer: Producer::new(&topic.cluster, &topic.name)?,
        stop,
        sent: 0,
    };
    let result = put(&mut sending).and_then(|()| sending.acknowledged());
    result.with_context(|| {
        format!(
            "of {} rows sent, {} are acknowledged; {again}",
            sending.sent,
            sending.producer.acknowledged()
        )
    })?;
    Ok(sending.producer.landed())
}

struct Sending<'a> {
    producer: Producer,
    stop: &'a AtomicBool,
    sent: u64,
}

impl Sending<'_> {
    /// Whether a person has stopped it.
    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> anyhow::Result<()> {
        self.producer.send(key, value, || self.is_stopped())?;
        self.sent = self.sent.saturating_add(1);
        if self.is_stopped() {
            bail!("stopped");
        }
        Ok(())
    }

    fn all(&mut self, files: &mut [Opened], schema_id: u32) -> anyhow::Result<()> {
        for one in files.iter_mut().filter(|one| one.same_as.is_none()) {
            let others = one.withdrawals.records.saturating_add(one.absent.records);
            let length = one.report.gathered.rows.saturating_add(others);
            let bar = bar(length, "sending", "rows");
            let before = self.sent;
            let mut put = |key: &[u8], value: &[u8]| -> anyhow::Result<()> {
                self.put(key, value)?;
                if self.sent.is_multiple_of(4096) {
                    bar.set_position(self.sent.saturating_sub(before));
                }
                Ok(())
            };
            one.withdrawals.each(&mut put)?;
            rows(one, schema_id, &mut put)?;
            one.absent.each(&mut put)?;
            one.sent = self.sent.saturating_sub(before);
            bar.finish_and_clear();
        }
        Ok(())
    }

    /// Waits until all that was sent is acknowledged.
    fn acknowledged(&self) -> anyhow::Result<()> {
        while self.producer.flush(LOOK).is_err() {
            if self.is_stopped() {
                bail!("stopped");
            }
        }
        match self.producer.failed() {
            0 => Ok(()),
            failed => bail!("{failed} rows were refused by the brokers"),
        }
    }
}

/// Hands over a file's rows as records.
fn rows(one: &Opened, schema_id: u32, put: &mut Put<'_>) -> anyhow::Result<()> {
    let Some(shape) = &one.report.shape else {
        return Ok(());
    };
    let mut value = Vec::new();
    let mut failure = None;
    let read = one.rows(&mut |row| {
        let Some(said) = shape.report_row(&row, one.file) else {
            return Ok(());
        };
        value.clear();
        codec::report::encode(&said, schema_id, &mut value);
        put(row.campaign_id.as_bytes(), &value).map_err(|error| {
            let refusal = Refusal::new("not sent");
            failure = Some(error);
            refusal
        })
    });
    match failure {
        Some(failure) => Err(failure),
        None => Ok(read.with_context(|| format!("reading {} again", one.report.name))?),
    }
}

//! Rows go to the topic, each campaign's to its partition: idempotent, and acknowledged on all in-sync replicas.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use indicatif::ProgressBar;

use super::files::{Opened, bar};
use crate::codec::{self, SchemaIds};
use crate::kafka::producer::Producer;
use crate::kafka::{Cluster, logs};
use crate::offset::LogRange;
use crate::reports::refusal::Refusal;

/// Brokers may take so long before a person is told what is being waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// So many records wait for their acknowledgement at most: what waits is memory.
const WAITING: &str = "50000";

/// Where rows are sent.
pub struct Topic {
    pub cluster: Cluster,
    pub name: String,
    pub cluster_id: String,
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
            schema_ids,
        })
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
    let producer = Producer::new(&topic.cluster, &topic.name)?;
    let mut sent = 0;
    let result = all(&producer, topic, files, stop, &mut sent).and_then(|()| {
        let stopped = || stop.load(Ordering::Relaxed);
        acknowledged(&producer, sent, &topic.cluster.brokers, &stopped)
    });
    result.with_context(|| {
        format!(
            "of {sent} rows sent, {} are acknowledged; send the same files again: what is there already counts once",
            producer.acknowledged()
        )
    })?;
    Ok(producer.landed())
}

fn all(
    producer: &Producer,
    topic: &Topic,
    files: &mut [Opened],
    stop: &AtomicBool,
    sent: &mut u64,
) -> anyhow::Result<()> {
    let stopped = || stop.load(Ordering::Relaxed);
    for one in files.iter_mut().filter(|one| one.same_as.is_none()) {
        let length = one
            .report
            .gathered
            .rows
            .saturating_add(one.withdrawals.records)
            .saturating_add(one.absent.records);
        let bar = bar(length, "sending", "rows");
        let before = *sent;
        let mut put = |key: &[u8], value: &[u8]| -> anyhow::Result<()> {
            producer.send(key, value, stopped)?;
            *sent = sent.saturating_add(1);
            if sent.is_multiple_of(4096) {
                tell(&bar, sent.saturating_sub(before));
            }
            if stopped() {
                bail!("stopped");
            }
            Ok(())
        };
        let mut withdrawals = std::mem::take(&mut one.withdrawals);
        withdrawals.each(&mut put)?;
        rows(one, topic.schema_ids.report, &mut put)?;
        one.absent.each(&mut put)?;
        one.sent = sent.saturating_sub(before);
        bar.finish_and_clear();
    }
    Ok(())
}

fn tell(bar: &ProgressBar, sent: u64) {
    bar.set_position(sent);
}

/// Hands over a file's rows as records.
fn rows(
    one: &Opened,
    schema_id: u32,
    put: &mut dyn FnMut(&[u8], &[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
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

/// Waits until all that was sent is acknowledged.
fn acknowledged(
    producer: &Producer,
    sent: u64,
    brokers: &str,
    stopped: &dyn Fn() -> bool,
) -> anyhow::Result<()> {
    let (mut since, mut last) = (Instant::now(), producer.acknowledged());
    while producer.flush(Duration::from_millis(100)).is_err() {
        if stopped() {
            bail!("stopped");
        }
        let now = producer.acknowledged();
        if now != last {
            (since, last) = (Instant::now(), now);
        } else if since.elapsed() > PATIENCE {
            log::warn!(
                "Kafka at {brokers} has acknowledged {now} of {sent} rows; waiting for it, or for Ctrl-C"
            );
            since = Instant::now();
        }
    }
    if producer.failed() > 0 {
        bail!("{} rows were refused by the brokers", producer.failed());
    }
    Ok(())
}

//! A topic of the benchmark's own, and what is sent to it.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use adflux::codec;
use adflux::kafka::Cluster;
use adflux::simulate::{self, Rate, Sent};
use adflux::simulator::{self, Faults};
use adflux::time::{Length, Timestamp};
use anyhow::ensure;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::database::service;
use crate::delivery::START;

pub const PARTITIONS: i32 = 4;

/// A topic of the benchmark's own; deleted with this value.
pub struct Topic {
    pub cluster: Cluster,
    pub name: String,
    partitions: i32,
}

impl Topic {
    /// Only thinks up its name: the simulator creates it.
    pub fn create() -> anyhow::Result<Topic> {
        Topic::with_partitions(PARTITIONS)
    }

    /// As [`Topic::create`].
    pub fn with_partitions(partitions: i32) -> anyhow::Result<Topic> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        Ok(Topic {
            cluster: Cluster {
                brokers: service("KAFKA_BROKERS"),
                properties: Vec::new(),
            },
            name: format!("adflux-bench-{}", now.as_micros()),
            partitions,
        })
    }

    /// Deletes the records that are in it.
    pub fn forget(&self) -> anyhow::Result<()> {
        let mut ends = TopicPartitionList::new();
        for partition in 0..self.partitions {
            ends.add_partition_offset(&self.name, partition, Offset::End)?;
        }
        self.administer(async |admin| {
            let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(60)));
            let left = admin.delete_records(&ends, &options).await?;
            left.elements().iter().try_for_each(|one| one.error())?;
            Ok(())
        })
    }

    fn administer(
        &self,
        request: impl AsyncFnOnce(AdminClient<DefaultClientContext>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let admin = ClientConfig::new()
            .set("bootstrap.servers", &self.cluster.brokers)
            .create()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(request(admin))
    }

    /// Sends so many events, a millisecond of event time apart: the same ones for the same seed.
    /// Returns what was sent, and how long that took.
    pub fn fill(&self, seed: u64, campaigns: u32, events: u64) -> anyhow::Result<(Sent, Duration)> {
        let started = Instant::now();
        let sent = self.simulate(seed, campaigns, Rate::Max, events, Duration::ZERO, START)?;
        Ok((sent, started.elapsed()))
    }

    /// As [`Topic::fill`], with the times that follow those of so many events before.
    pub fn fill_after(
        &self,
        before: u64,
        seed: u64,
        campaigns: u32,
        events: u64,
    ) -> anyhow::Result<Sent> {
        let start = START + Length::MILLISECOND.times(i64::try_from(before)?);
        self.simulate(seed, campaigns, Rate::Max, events, Duration::ZERO, start)
    }

    /// The same, a microsecond of event time apart: what reports come to when they come at full speed.
    pub fn fill_live(&self, seed: u64, campaigns: u32, events: u64) -> anyhow::Result<Sent> {
        self.simulate(
            seed,
            campaigns,
            Rate::PerSecond(1e6),
            events,
            Duration::ZERO,
            START,
        )
    }

    /// Sends the events of a span of time, so many a second of it, as fast as the broker takes them.
    pub fn fill_span(
        &self,
        seed: u64,
        campaigns: u32,
        per_second: u32,
        span: Duration,
    ) -> anyhow::Result<Sent> {
        let events = span.as_secs() * u64::from(per_second);
        let rate = Rate::PerSecond(per_second.into());
        self.simulate(seed, campaigns, rate, events, span, START)
    }

    fn simulate(
        &self,
        seed: u64,
        campaigns: u32,
        rate: Rate,
        events: u64,
        backfill: Duration,
        start: Timestamp,
    ) -> anyhow::Result<Sent> {
        let sent = simulate::run(
            &simulate::Settings {
                cluster: self.cluster.clone(),
                topic: self.name.clone(),
                partitions: self.partitions,
                replication: 1,
                simulator: simulator::Settings {
                    seed,
                    campaigns,
                    faults: Faults::default(),
                    schema_id: codec::SchemaIds::OWN.event,
                },
                rate,
                count: Some(events),
                backfill,
                reports: None,
                start: Some(start),
            },
            &AtomicBool::new(false),
            &|_| true,
        )?;
        ensure!(
            sent.failed == 0,
            "{} records were not delivered",
            sent.failed
        );
        Ok(sent)
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        let deleted = self.administer(async |admin| {
            admin
                .delete_topics(&[&self.name], &AdminOptions::new())
                .await?;
            Ok(())
        });
        if let Err(error) = deleted {
            eprintln!("topic {} was left behind: {error:#}", self.name);
        }
    }
}

//! A topic of the benchmark's own, and what is sent to it.

use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use adflux::codec;
use adflux::kafka::Cluster;
use adflux::simulate::{self, Rate, Sent};
use adflux::simulator::{self, Faults};
use anyhow::{Context as _, ensure};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;

use crate::database::service;
use crate::measured::Run;

pub const PARTITIONS: i32 = 4;

/// 2026-01-31T12:00:00Z: the same seed is the same events in every run.
const START: i64 = 1_769_860_800_000_000;

/// A topic of the benchmark's own; deleted with this value.
pub struct Topic {
    pub cluster: Cluster,
    pub name: String,
}

impl Topic {
    /// Only thinks up its name: the simulator creates it.
    pub fn create() -> anyhow::Result<Topic> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        Ok(Topic {
            cluster: Cluster {
                brokers: service("KAFKA_BROKERS"),
                properties: Vec::new(),
            },
            name: format!("adflux-bench-{}", now.as_micros()),
        })
    }

    /// Sends so many events, a millisecond of event time apart: the same ones for the same seed.
    /// Returns what was sent, and how long that took.
    pub fn fill(&self, seed: u64, campaigns: u32, events: u64) -> anyhow::Result<(Sent, Duration)> {
        let started = Instant::now();
        let sent = simulate::run(
            &simulate::Settings {
                cluster: self.cluster.clone(),
                topic: self.name.clone(),
                partitions: PARTITIONS,
                replication: 1,
                simulator: simulator::Settings {
                    seed,
                    campaigns,
                    faults: Faults::default(),
                    schema_id: codec::SCHEMA_ID,
                },
                rate: Rate::Max,
                count: Some(events),
                backfill: Duration::ZERO,
                start: Some(START),
            },
            &AtomicBool::new(false),
            &|_| true,
        )?;
        ensure!(
            sent.failed == 0,
            "{} records were not delivered",
            sent.failed
        );
        Ok((sent, started.elapsed()))
    }

    /// Runs this program again, as one of [`crate::measured::Measured`].
    pub fn measure(&self, what: &str, group: &str, more: &[&str]) -> anyhow::Result<Run> {
        let output = Command::new(std::env::current_exe()?)
            .args([
                what,
                "--brokers",
                &self.cluster.brokers,
                "--topic",
                &self.name,
            ])
            .args(["--group", &format!("{}-{group}", self.name)])
            .args(more)
            .stderr(std::process::Stdio::inherit())
            .output()?;
        ensure!(
            output.status.success(),
            "'{what}' failed: {}",
            output.status
        );
        serde_json::from_slice(&output.stdout).with_context(|| format!("what '{what}' said"))
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        let delete = || -> anyhow::Result<()> {
            let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
                .set("bootstrap.servers", &self.cluster.brokers)
                .create()?;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(admin.delete_topics(&[&self.name], &AdminOptions::new()))?;
            Ok(())
        };
        if let Err(error) = delete() {
            eprintln!("topic {} was left behind: {error:#}", self.name);
        }
    }
}

//! Beside an embedded ClickHouse that keeps the same events and adds them up by minute: `benches/peer/clickhouse.py`.

use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;

use crate::Size;
use crate::cases::median;
use crate::database::Database;
use crate::measured::measure;
use crate::serving::{Server, ask_all};
use crate::table::{Goal, Table};
use crate::topic::Topic;

/// What the peer measured of itself.
#[derive(Deserialize)]
struct Peer {
    events: u64,
    batches: u64,
    seconds: f64,
    one_campaign_ms: f64,
    list_ms: f64,
    daily_ms: f64,
}

impl Peer {
    fn rate(&self) -> f64 {
        self.events as f64 / self.seconds
    }
}

/// The peer's best number of events a batch is one of these, or ours.
const BATCHES: [u64; 2] = [250_000, 1_000_000];
/// Questions of a kind.
const ASKED: usize = 9;

/// Counting and asking, with ever more campaigns.
pub fn clickhouse(size: Size, table: &mut Table) -> anyhow::Result<()> {
    let Ok(python) = std::env::var("ADFLUX_BENCH_PYTHON") else {
        if size.quick {
            eprintln!("clickhouse: not measured, since ADFLUX_BENCH_PYTHON names no Python");
            return Ok(());
        }
        bail!("ADFLUX_BENCH_PYTHON must name a Python that has chdb: `make bench` makes one");
    };
    let (events, of) = if size.quick {
        (50_000, &[100][..])
    } else {
        (
            size.events.min(2_000_000),
            &[100, 10_000, 100_000, 1_000_000][..],
        )
    };
    for &campaigns in of {
        let topic = Topic::create()?;
        topic.fill_live(7, campaigns, events)?;
        let database = Database::create(&format!("peer_{campaigns}"));
        let run = measure(
            &topic,
            "count",
            &format!("peer-{campaigns}"),
            &["--database-url", &database.url],
        )?;
        let folder = tempfile::tempdir()?;
        let parquet = folder.path().join("events.parquet");
        let exported = Command::new(env!("CARGO_BIN_EXE_adflux"))
            .args([
                "export",
                "events",
                "--since",
                "2000-01-01",
                "--until",
                "2100-01-01",
                "--format",
                "parquet",
                "--output",
            ])
            .arg(&parquet)
            .env("DATABASE_URL", &database.url)
            .stdout(Stdio::null())
            .status()?;
        ensure!(exported.success(), "the export failed");
        let ours = events / run.transactions.max(1);
        let mut peers = Vec::new();
        for batch in [ours].into_iter().chain(BATCHES) {
            let database = folder.path().join(format!("batch-{batch}"));
            let output = Command::new(&python)
                .arg(concat!(
                    env!("CARGO_MANIFEST_DIR"),
                    "/benches/peer/clickhouse.py"
                ))
                .arg(&parquet)
                .arg(batch.to_string())
                .arg(&database)
                .stderr(Stdio::inherit())
                .output()?;
            ensure!(output.status.success(), "the peer failed");
            let peer: Peer = serde_json::from_slice(&output.stdout)?;
            ensure!(
                peer.events == events,
                "the peer counted {} events",
                peer.events
            );
            peers.push(peer);
            std::fs::remove_dir_all(&database)?;
        }
        let same = peers.first().context("a peer")?;
        let best = peers
            .iter()
            .max_by(|a, b| a.rate().total_cmp(&b.rate()))
            .context("a peer")?;
        let goal = if campaigns >= 10_000 {
            Goal::AtLeast(1.0)
        } else {
            Goal::None
        };
        for (which, peer) in [("the same batches", same), ("its best batches", best)] {
            table.line(
                format!(
                    "{campaigns} campaigns, counted, beside ClickHouse's insert and view, {which}"
                ),
                run.rate() / peer.rate(),
                " ×",
                goal,
                format!(
                    "{:.0}/s beside {:.0}/s in {} inserts",
                    run.rate(),
                    peer.rate(),
                    peer.batches
                ),
            );
        }
        let server = Server::start("serve", &topic, &database, &[])?;
        let quickest = |of: fn(&Peer) -> f64| peers.iter().map(of).fold(f64::INFINITY, f64::min);
        for (what, path, theirs) in [
            (
                "one campaign",
                "/campaign/cmp-N/insights",
                quickest(|p| p.one_campaign_ms),
            ),
            (
                "a list of a year",
                "/campaigns?since=2026-01-01T00:0N:00Z&until=2027-01-01&sort=roas&limit=50",
                quickest(|p| p.list_ms),
            ),
            (
                "all by day",
                "/insights?time_increment=day&since=2026-01-01T00:0N:00Z&until=2026-12-31",
                quickest(|p| p.daily_ms),
            ),
        ] {
            let urls = (1..=ASKED).map(|n| server.url(&path.replace('N', &n.to_string())));
            let took = median(ask_all(&urls.collect::<Vec<_>>())?);
            table.line(
                format!("{campaigns} campaigns, {what}, beside ClickHouse, not cached"),
                theirs / took,
                " ×",
                Goal::AtLeast(1.0),
                format!("{took:.2} ms by HTTP, beside {theirs:.2} ms in its own process"),
            );
        }
    }
    Ok(())
}

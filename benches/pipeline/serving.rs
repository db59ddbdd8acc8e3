//! What the API serves: how soon an event is seen, how fast an insight is answered.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use adflux::codec;
use adflux::event::{AdEvent, CampaignId, Count, Counts, Platform};
use adflux::kafka::{consumer, producer};
use adflux::time::{Length, Timestamp};
use anyhow::{Context as _, bail, ensure};
use diesel::connection::SimpleConnection as _;
use rand::{RngExt as _, SeedableRng as _};
use rdkafka::Message as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use serde_json::Value;
use uuid::Uuid;

use crate::Size;
use crate::cases::median;
use crate::database::Database;
use crate::measured::measure;
use crate::sums::{Batch, STREAM, settle};
use crate::table::{Goal, Table};
use crate::topic::Topic;

/// Events a second while freshness is measured.
const RATE: u32 = 10_000;
/// Time between two probes, on average.
const BETWEEN_PROBES: Duration = Duration::from_millis(20);
const PROBE: &str = "probe";
const PATIENCE: Duration = Duration::from_secs(180);

/// `adflux` at work, ended with this value.
pub struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts `adflux COMMAND` and waits until it is ready.
    pub fn start(
        command: &str,
        topic: &Topic,
        database: &Database,
        more: &[&str],
    ) -> anyhow::Result<Server> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let process = Command::new(env!("CARGO_BIN_EXE_adflux"))
            .arg(command)
            .args(more)
            .env("KAFKA_BROKERS", &topic.cluster.brokers)
            .env("ADFLUX_TOPIC", &topic.name)
            .env("ADFLUX_GROUP", &topic.name)
            .env("DATABASE_URL", &database.url)
            .env("ADFLUX_LISTEN", address.to_string())
            .env("ADFLUX_REQUESTS_PER_ADDRESS", "0")
            .env_remove("REDIS_URL")
            .env("RUST_LOG", "warn")
            .stdout(Stdio::null())
            .spawn()?;
        let server = Server { process, address };
        server.until("ready", |client| async move {
            let ready = client.get(server_url(address, "/readyz")).send().await;
            ready.is_ok_and(|r| r.status().is_success())
        })?;
        Ok(server)
    }

    pub fn url(&self, path: &str) -> String {
        server_url(self.address, path)
    }

    /// How many it counts, from now on for so long.
    fn events_a_second(&self, time: Duration) -> anyhow::Result<f64> {
        let counted = || {
            let text = block_on(async {
                let answer = reqwest::get(self.url("/metrics")).await?;
                answer.error_for_status()?.text().await
            })??;
            let mut lines = text.lines();
            let events = lines.find_map(|line| line.strip_prefix("adflux_events_total "));
            let events = events.and_then(|n| n.parse::<f64>().ok());
            events.context("adflux_events_total is not among the metrics")
        };
        let (started, before) = (Instant::now(), counted()?);
        std::thread::sleep(time);
        let after = counted()?;
        Ok((after - before) / started.elapsed().as_secs_f64())
    }

    fn until<F: Future<Output = bool>>(
        &self,
        what: &str,
        holds: impl Fn(reqwest::Client) -> F,
    ) -> anyhow::Result<()> {
        let client = reqwest::Client::new();
        block_on(async {
            let since = Instant::now();
            while !holds(client.clone()).await {
                ensure!(since.elapsed() < PATIENCE, "never {what}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok(())
        })?
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn server_url(address: SocketAddr, path: &str) -> String {
    format!("http://{address}{path}")
}

/// Asks each, one after the other, and says how long each took, in milliseconds. One connection, as a page has.
pub fn ask_all(urls: &[String]) -> anyhow::Result<Vec<f64>> {
    block_on(async {
        let client = reqwest::Client::new();
        // Connects.
        let any = urls.first().context("a question")?;
        client.get(url_of(any)?).send().await?;
        let mut times = Vec::with_capacity(urls.len());
        for url in urls {
            let began = Instant::now();
            let answer = client.get(url).send().await?;
            let status = answer.status();
            let body = answer.text().await?;
            ensure!(status.is_success(), "{url}: {body}");
            times.push(ms(began.elapsed()));
        }
        Ok(times)
    })?
}

/// Where a server says that it is alive, of one of its URLs.
fn url_of(url: &str) -> anyhow::Result<reqwest::Url> {
    Ok(reqwest::Url::parse(url)?.join("/livez")?)
}

pub fn block_on<T>(future: impl Future<Output = T>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(future))
}

/// From the moment an event is handed to a producer until HTTP shows it, while others flow; beside a bare
/// consumer that is handed such a record.
pub fn freshness(size: Size, table: &mut Table) -> anyhow::Result<()> {
    let probes = if size.quick { 20 } else { 1_000 };
    let topic = Topic::create()?;
    topic.fill(1, 100, 1_000)?;
    let database = Database::create("freshness");
    let rate = RATE.to_string();
    let server = Server::start("run", &topic, &database, &["--rate", &rate])?;
    let url = server.url(&format!("/campaign/{PROBE}/insights?fields=clicks"));
    let (sent, sends) = mpsc::channel();
    let seen = std::thread::scope(|scope| {
        scope.spawn(|| send_probes(&topic, probes, &sent));
        block_on(see_probes(&url, probes))
    })??;
    drop(sent);
    let sends: Vec<Instant> = sends.iter().collect();
    let visible: Vec<f64> = sends
        .iter()
        .zip(&seen)
        .map(|(sent, seen)| ms(seen.duration_since(*sent)))
        .collect();
    drop(server);

    let bare_topic = Topic::create()?;
    bare_topic.fill(1, 100, 1_000)?;
    let bare = round_trips(&bare_topic, probes)?;
    let how = |times: &[f64]| {
        format!(
            "{probes} probes at {RATE} events/s, p99 of a bare produce→consume {:.2} ms",
            quantile(times, 0.99)
        )
    };
    table.line(
        "freshness, p50",
        quantile(&visible, 0.5),
        " ms",
        Goal::AtMost(10.0),
        how(&bare),
    );
    table.line(
        "freshness, p99",
        quantile(&visible, 0.99),
        " ms",
        Goal::AtMost(50.0),
        how(&bare),
    );
    table.line(
        "freshness beside a bare round trip, p50",
        quantile(&visible, 0.5) / quantile(&bare, 0.5),
        " ×",
        Goal::AtMost(5.0),
        format!(
            "{:.2} ms beside {:.2} ms",
            quantile(&visible, 0.5),
            quantile(&bare, 0.5)
        ),
    );
    Ok(())
}

/// Sends probes whenever they are due, whatever becomes of those before; one click each.
fn send_probes(topic: &Topic, probes: usize, sent: &mpsc::Sender<Instant>) -> anyhow::Result<()> {
    let producer: ThreadedProducer<DefaultProducerContext> = at_once(topic)?;
    let mut chance = rand_chacha::ChaCha8Rng::seed_from_u64(7);
    let mut due = Instant::now() + Duration::from_secs(2);
    for n in 0..probes {
        due += BETWEEN_PROBES.mul_f64(chance.random_range(0.5..1.5));
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let event = AdEvent {
            event_id: Uuid::from_u128(n as u128 + 1),
            campaign_id: CampaignId::parse(PROBE).map_err(|e| anyhow::anyhow!("{e:?}"))?,
            platform: Platform::Meta,
            event_time: Timestamp::now(),
            counts: Counts {
                clicks: Count::new(1),
                ..Counts::default()
            },
        };
        let mut payload = Vec::new();
        codec::encode(&event, codec::SchemaIds::OWN.event, &mut payload);
        sent.send(Instant::now())?;
        producer
            .send(BaseRecord::to(&topic.name).key(PROBE).payload(&payload))
            .map_err(|(error, _)| error)?;
    }
    Ok(producer.flush(Duration::from_secs(30))?)
}

/// When each probe was first in an answer.
async fn see_probes(url: &str, probes: usize) -> anyhow::Result<Vec<Instant>> {
    let client = reqwest::Client::new();
    let mut seen = Vec::with_capacity(probes);
    let mut last = Instant::now();
    while seen.len() < probes {
        // As often as needed to see it within half a millisecond; more would only take the cores away.
        tokio::time::sleep(Duration::from_micros(500)).await;
        let answer = client.get(url).send().await?;
        // Before the first probe nobody knows the campaign.
        if answer.status().is_success() {
            let answer: Value = answer.json().await?;
            let clicks = answer["totals"]["clicks"].as_u64().context("clicks")?;
            let now = Instant::now();
            while (seen.len() as u64) < clicks {
                seen.push(now);
                last = now;
            }
        }
        ensure!(
            last.elapsed() < PATIENCE,
            "probe {} was never seen",
            seen.len()
        );
    }
    Ok(seen)
}

fn at_once(topic: &Topic) -> anyhow::Result<ThreadedProducer<DefaultProducerContext>> {
    Ok(producer::properties(&topic.cluster)
        .set("linger.ms", "0")
        .create()?)
}

/// From the producer to a consumer that does nothing else, while as many events flow.
fn round_trips(topic: &Topic, probes: usize) -> anyhow::Result<Vec<f64>> {
    let config = consumer::properties(&topic.cluster, &topic.name, Duration::from_secs(6));
    let consumer: BaseConsumer = config.create()?;
    let mut ends = rdkafka::TopicPartitionList::new();
    for partition in 0..crate::topic::PARTITIONS {
        ends.add_partition_offset(&topic.name, partition, rdkafka::Offset::End)?;
    }
    consumer.assign(&ends)?;
    // Only then is the end known from which on it reads.
    let (mut at_end, since) = (BTreeSet::new(), Instant::now());
    while at_end.len() < crate::topic::PARTITIONS as usize {
        if let Some(Err(KafkaError::PartitionEOF(partition))) =
            consumer.poll(Duration::from_millis(100))
        {
            at_end.insert(partition);
        }
        ensure!(since.elapsed() < PATIENCE, "the topic's end never came");
    }
    let mut flow = Command::new(env!("CARGO_BIN_EXE_adflux"))
        .args(["simulate", "--rate", &RATE.to_string()])
        .env("KAFKA_BROKERS", &topic.cluster.brokers)
        .env("ADFLUX_TOPIC", &topic.name)
        .env("RUST_LOG", "warn")
        .stdout(Stdio::null())
        .spawn()?;
    let (sent, sends) = mpsc::channel();
    let seen = std::thread::scope(|scope| -> anyhow::Result<Vec<Instant>> {
        scope.spawn(|| send_probes(topic, probes, &sent));
        let mut seen = Vec::with_capacity(probes);
        let mut last = Instant::now();
        while seen.len() < probes {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(record)) if record.key() == Some(PROBE.as_bytes()) => {
                    last = Instant::now();
                    seen.push(last);
                }
                Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) | None => {}
                Some(Err(error)) => return Err(error.into()),
            }
            ensure!(last.elapsed() < PATIENCE, "probe {} never came", seen.len());
        }
        Ok(seen)
    });
    flow.kill()?;
    flow.wait()?;
    drop(sent);
    Ok(sends
        .iter()
        .zip(seen?)
        .map(|(sent, seen)| ms(seen.duration_since(sent)))
        .collect())
}

/// An insight from the process's cache, beside a bare route with the same bytes: with wrk, in turn.
pub fn answers(size: Size, table: &mut Table) -> anyhow::Result<()> {
    let (rounds, seconds) = if size.quick { (1, 1) } else { (size.rounds, 4) };
    let topic = Topic::create()?;
    topic.fill(7, 100, 20_000)?;
    let database = Database::create("answers");
    measure(
        &topic,
        "count",
        "answers",
        &["--database-url", &database.url],
    )?;
    let server = Server::start("serve", &topic, &database, &[])?;
    let url = server.url("/campaign/cmp-42/insights");
    let body = block_on(async { reqwest::get(&url).await?.bytes().await })??;
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(&file, &body)?;
    let bare = Bare::start(file.path())?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        theirs.push(wrk(&bare.url, seconds)?);
        ours.push(wrk(&url, seconds)?);
    }
    let rate = |runs: &[Wrk]| median(runs.iter().map(|run| run.rate));
    let p99 = |runs: &[Wrk]| median(runs.iter().map(|run| run.p99_ms));
    let cached = rate(&ours);
    table.line(
        "insights from the process's cache",
        cached / rate(&theirs),
        " ×",
        Goal::AtLeast(0.90),
        format!(
            "{cached:.0}/s, beside {:.0}/s of a bare warp route with the same {} bytes",
            rate(&theirs),
            body.len()
        ),
    );
    table.line(
        "their p99",
        p99(&ours) / p99(&theirs),
        " ×",
        Goal::AtMost(1.2),
        format!("{:.2} ms beside {:.2} ms", p99(&ours), p99(&theirs)),
    );
    drop(server);

    // What a process that simulates and counts can do at the most, in the same run.
    let full = Topic::create()?;
    full.fill(7, 100, 20_000)?;
    let counted = Database::create("most");
    let server = Server::start("run", &full, &counted, &["--rate", "max"])?;
    // Its first second is that of new campaigns, new files and a cold broker.
    server.events_a_second(Duration::from_secs(2))?;
    let (mut most, since) = (0.0, Instant::now());
    // A single commit may take longer than the smallest run looks on.
    while most == 0.0 {
        ensure!(since.elapsed() < PATIENCE, "nothing is counted");
        most = server.events_a_second(Duration::from_secs(seconds.into()))?;
    }
    drop(server);
    let half = format!("{:.0}", most / 2.0);
    let server = Server::start("run", &topic, &database, &["--rate", &half])?;
    let url = server.url("/campaign/cmp-42/insights");
    block_on(async { reqwest::get(&url).await?.bytes().await })??;
    let runs = (0..rounds)
        .map(|_| wrk(&url, seconds))
        .collect::<anyhow::Result<Vec<_>>>()?;
    table.line(
        "insights while the pipeline runs at half its most",
        rate(&runs) / cached,
        " ×",
        Goal::AtLeast(0.6),
        format!(
            "{:.0}/s, with {half} events/s simulated and counted by the same process, whose most is {most:.0}/s",
            rate(&runs)
        ),
    );
    Ok(())
}

/// A warp route that returns constant bytes, in a process of its own.
struct Bare {
    process: Child,
    url: String,
}

impl Bare {
    fn start(body: &std::path::Path) -> anyhow::Result<Bare> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let process = Command::new(std::env::current_exe()?)
            .arg("bare")
            .args(["--listen", &address.to_string(), "--body"])
            .arg(body)
            .stdout(Stdio::null())
            .spawn()?;
        let bare = Bare {
            process,
            url: server_url(address, "/campaign/cmp-42/insights"),
        };
        let since = Instant::now();
        while std::net::TcpStream::connect(address).is_err() {
            ensure!(since.elapsed() < PATIENCE, "the bare route does not answer");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(bare)
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub struct Wrk {
    pub rate: f64,
    pub p99_ms: f64,
}

/// For so long, or for longer where nothing was answered in that time.
pub fn wrk(url: &str, seconds: u32) -> anyhow::Result<Wrk> {
    let longer = [seconds, 4 * seconds, 16 * seconds];
    for seconds in longer {
        if let Some(run) = wrk_for(url, seconds)? {
            return Ok(run);
        }
    }
    bail!("{url} answered nothing in {longer:?} s")
}

fn wrk_for(url: &str, seconds: u32) -> anyhow::Result<Option<Wrk>> {
    let output = Command::new("wrk")
        .args(["-t1", "-c32", &format!("-d{seconds}s"), "--latency", url])
        .output()
        .context("wrk, which makes the requests, cannot be run")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "wrk: {text}");
    ensure!(
        !text.contains("Non-2xx"),
        "not every answer was one: {text}"
    );
    let after = |name: &str| text.lines().find_map(|line| line.trim().strip_prefix(name));
    let rate = after("Requests/sec:").and_then(|t| t.trim().parse().ok());
    let p99 = after("99%").and_then(|t| milliseconds(t.trim()));
    match (rate, p99) {
        (Some(rate), Some(p99_ms)) if p99_ms > 0.0 => Ok(Some(Wrk { rate, p99_ms })),
        (Some(_), Some(_)) => Ok(None),
        _ => bail!("wrk said something else: {text}"),
    }
}

/// wrk writes `850.00us`, `1.20ms`, `1.02s`.
fn milliseconds(text: &str) -> Option<f64> {
    let units = BTreeMap::from([("us", 1e-3), ("ms", 1.0), ("s", 1e3)]);
    let at = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(at);
    Some(number.parse::<f64>().ok()? * units.get(unit)?)
}

/// One campaign over a year that begins and ends in the middle of an hour, never the same twice.
pub fn a_year(size: Size, table: &mut Table) -> anyhow::Result<()> {
    let (campaigns, asked) = if size.quick { (2, 5) } else { (100, 100) };
    let topic = Topic::create()?;
    topic.fill(7, 1, 1_000)?;
    let database = Database::create("year");
    measure(&topic, "count", "year", &["--database-url", &database.url])?;
    // One campaign has every minute, the others every hour.
    let ids: Vec<String> = (0..campaigns)
        .map(|n| {
            if n == 0 {
                "cmp-year".to_owned()
            } else {
                format!("cmp-y{n}")
            }
        })
        .collect();
    let since = Timestamp::new(1_735_689_600_000_000); // 2025-01-01
    let mut connection = database.connect();
    for day in 0..365 {
        let mut batch = Batch::new(&ids);
        for minute in 0..24 * 60 {
            let time = since + Length::DAY.times(day) + Length::MINUTE.times(minute);
            let whole_hour = minute % 60 == 0;
            (0..if whole_hour { ids.len() } else { 1 })
                .for_each(|campaign| batch.push(campaign, time));
        }
        batch.write(&mut connection)?;
    }
    settle(&mut connection)?;
    connection.batch_execute(&format!(
        "INSERT INTO campaigns SELECT 'cmp-year', ({STREAM}); ANALYZE"
    ))?;
    let server = Server::start("serve", &topic, &database, &[])?;
    let times = block_on(async {
        let client = reqwest::Client::new();
        let mut times = Vec::new();
        for n in 0..asked + 10 {
            let url = server.url(&format!(
                "/campaign/cmp-year/insights?since=2025-01-01T00:{:02}:00Z&until=2025-12-31T{:02}:{:02}:00Z",
                1 + n % 59,
                n % 24,
                1 + n % 58
            ));
            let started = Instant::now();
            let answer = client.get(url).send().await?.error_for_status()?;
            let body: Value = answer.json().await?;
            // The first ones find cold pages and connections.
            if n >= 10 {
                times.push(ms(started.elapsed()));
            }
            ensure!(body["totals"]["events"].as_u64() > Some(1_000), "{body}");
        }
        Ok(times)
    })??;
    table.line(
        "a year of minutes of one campaign, not cached",
        quantile(&times, 0.5),
        " ms",
        Goal::AtMost(10.0),
        format!(
            "p50 of {asked} windows, each new; p99 {:.2} ms",
            quantile(&times, 0.99)
        ),
    );
    Ok(())
}

pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

pub fn quantile(times: &[f64], share: f64) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted
        .get((last as f64 * share).round() as usize)
        .copied()
        .unwrap_or(f64::NAN)
}

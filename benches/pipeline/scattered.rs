//! Events of all days at once, as imports and replays bring them: each batch has some of every day.

use std::time::Duration;

use adflux::codec;
use adflux::event::{AdEvent, CampaignId, Counts, Platform};
use adflux::kafka::producer;
use adflux::time::Length;
use anyhow::{Context as _, ensure};
use rand::{RngExt as _, SeedableRng as _};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use serde_json::Value;
use uuid::Uuid;

use crate::Size;
use crate::cases::{median, send};
use crate::database::Database;
use crate::delivery::START;
use crate::measured::measure;
use crate::serving::{Server, ask_all, block_on};
use crate::sums::settle;
use crate::table::{Goal, Table};
use crate::topic::Topic;

const SEED: u64 = 7;
const DAYS: i64 = 90;
const CAMPAIGNS: u32 = 10_000;
/// Questions of a round.
const ASKED: i64 = 9;

/// Counts them beside as many that come in order, and asks for a list of all days: as counting leaves them, and merged.
pub fn scattered(size: Size, table: &mut Table) -> anyhow::Result<()> {
    let events = size.events.min(if size.quick { 20_000 } else { 2_000_000 });
    let in_order = Topic::create()?;
    in_order.fill_live(SEED, CAMPAIGNS, events)?;
    let scattered = Topic::create()?;
    scattered.fill(SEED, CAMPAIGNS, 0)?;
    fill(&scattered, events)?;
    let database = Database::create("in_order");
    let base = measure(
        &in_order,
        "count",
        "in-order",
        &["--database-url", &database.url],
    )?;
    let database = Database::create("scattered");
    let run = measure(
        &scattered,
        "count",
        "scattered",
        &["--database-url", &database.url],
    )?;
    table.line(
        format!("{DAYS} days of {CAMPAIGNS} campaigns in no order"),
        run.rate() / base.rate(),
        " ×",
        Goal::None,
        format!(
            "{:.0}/s, beside {:.0}/s of one hour; {events} events",
            run.rate(),
            base.rate()
        ),
    );
    let server = Server::start("serve", &scattered, &database, &[])?;
    let before = list(&server, events, 0)?;
    let settled = settle(&mut database.connect())?;
    let after = list(&server, events, 1)?;
    table.line(
        "their list of all days, merged",
        after,
        " ms",
        Goal::AtMost(200.0),
        format!(
            "{before:.0} ms as counting leaves them; merged in {:.0} s",
            settled.as_secs_f64()
        ),
    );
    Ok(())
}

/// An event of any campaign, on any platform, at any time.
fn fill(topic: &Topic, events: u64) -> anyhow::Result<()> {
    let producer: ThreadedProducer<DefaultProducerContext> =
        producer::properties(&topic.cluster).create()?;
    let mut chance = rand_chacha::ChaCha8Rng::seed_from_u64(SEED);
    let mut payload = Vec::new();
    for n in 1..=events {
        let campaign = format!("cmp-{}", chance.random_range(0..CAMPAIGNS));
        let event = AdEvent {
            event_id: Uuid::from_u128(n.into()),
            campaign_id: CampaignId::parse(&campaign).map_err(|e| anyhow::anyhow!("{e:?}"))?,
            platform: Platform::ALL[chance.random_range(0..Platform::ALL.len())],
            event_time: START
                + Length::MICROSECOND
                    .times(chance.random_range(0..Length::DAY.times(DAYS) / Length::MICROSECOND)),
            counts: Counts::of([100, 10, 1_000_000, 1_000_000, 2_000_000]),
        };
        payload.clear();
        codec::encode(&event, codec::SchemaIds::OWN.event, &mut payload);
        let record = BaseRecord::to(&topic.name)
            .key(&campaign)
            .payload(&payload[..]);
        send(&producer, record)?;
    }
    Ok(producer.flush(Duration::from_secs(60))?)
}

/// How long a list of them all takes, in milliseconds, by the windows of a `round`: none is asked for twice, so that none is
/// cached.
fn list(server: &Server, events: u64, round: i64) -> anyhow::Result<f64> {
    let url = |n: i64| {
        let since = START.get() / 1_000_000 - 60 * (60 + round * ASKED + n);
        let since = chrono::DateTime::from_timestamp(since, 0).context("a time")?;
        let until = since + chrono::Days::new(DAYS as u64 + 1);
        let form = "%Y-%m-%dT%H:%M:%SZ";
        Ok(server.url(&format!(
            "/campaigns?since={}&until={}&sort=roas&limit=50",
            since.format(form),
            until.format(form)
        )))
    };
    let urls = (0..ASKED).map(url).collect::<anyhow::Result<Vec<_>>>()?;
    let took = median(ask_all(&urls)?);
    let last = urls.last().context("a question")?;
    let body: Value = block_on(async { reqwest::get(last).await?.json().await })??;
    let counted = body["totals"]["events"].as_u64();
    ensure!(counted == Some(events), "the list is of {counted:?} events");
    Ok(took)
}

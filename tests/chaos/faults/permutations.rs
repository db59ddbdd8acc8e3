//! Row 14: one set of events, delivered in 1,000 orders: shuffled, so that most come late, and with
//! copies, some of them on another partition. Each order makes the identical projections.
//!
//! Every delivery goes through Kafka and a real processor. So that a thousand of them are cheap, many
//! share a topic: each has the set under campaign ids and event ids of its own, and the deliveries are
//! dealt into one another, so no two meet the same batches. Each topic is counted with other sizes of
//! batch and memory, down to a memory of a few events, where the event store must know the copies.

use adflux::event::MILLION;
use diesel::sql_types::{BigInt, Text};
use diesel::{QueryableByName, RunQueryDsl, sql_query};
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use uuid::Uuid;

use crate::lab::Lab;
use crate::ledger::{Event, Fate};
use crate::stage::{self, PATIENCE, Stage};
use crate::table::Row;
use crate::traffic::{Record, payload};

/// Events of the set; over three days, so that every grain has rows of its own.
const EVENTS: usize = 100;
/// Copies in each delivery.
const COPIES: usize = 20;
/// One record in so many goes to another partition than its key's.
const ASTRAY: u32 = 4_000;
const CAMPAIGNS: usize = 3;
const SPAN_MICROS: i64 = 3 * 86_400_000_000;
const PARTITIONS: i32 = 3;
/// Deliveries that share a topic.
const TOGETHER: usize = 100;

/// How a topic is counted: memory, records a batch, processors.
const WAYS: [(&str, &str, usize); 5] = [
    ("1000000", "100000", 1),
    ("300", "500", 1),
    ("20", "1000", 1),
    ("5000", "200", 2),
    ("1000", "5000", 3),
];

/// Delivers the set in so many orders.
pub fn delivered(lab: &mut Lab, times: usize, row: &mut Row) -> anyhow::Result<()> {
    let mut set_chance = ChaCha8Rng::seed_from_u64(lab.chance.random());
    let now = chrono::Utc::now().timestamp_micros();
    let set: Vec<Event> = (0..EVENTS).map(|_| event(&mut set_chance, now)).collect();
    let mut identical: Option<String> = None;
    let mut left = times;
    for topic in 0.. {
        if left == 0 {
            break;
        }
        let together = left.min(TOGETHER);
        left -= together;
        let (memory, batch, processors) = WAYS[topic % WAYS.len()];
        let mut chance = ChaCha8Rng::seed_from_u64(lab.chance.random());
        let stage = Stage::new(&lab.services, &lab.folder.join("logs"), "permutations")?;
        stage.create_topic(PARTITIONS)?;
        deliver(&stage, &set, together, &mut chance)?;
        let args = ["--recent-events", memory, "--batch-records", batch];
        let started = std::time::Instant::now();
        let running = (0..processors)
            .map(|_| stage.start("process", &args))
            .collect::<anyhow::Result<Vec<_>>>()?;
        stage.wait_until_counted(PATIENCE * 2)?;
        let took = started.elapsed() / u32::try_from(together)?;
        (0..together).for_each(|_| row.recovered(took));
        // While they run: were all of them to stop in the middle of a rebalance, nobody could tell Kafka.
        let violations = stage.check();
        for mut process in running {
            stage::end(&mut process)?;
        }
        if violations.count() > 0 {
            row.violation(format!("memory {memory}, batches of {batch}: {violations}"));
        }
        for (projections, deliveries) in projections(&stage)? {
            let expected = identical.get_or_insert_with(|| projections.clone());
            if *expected != projections {
                row.violation(format!(
                    "{deliveries} deliveries with memory {memory} and batches of {batch} made other projections"
                ));
            }
        }
    }
    Ok(())
}

fn event(chance: &mut ChaCha8Rng, now: i64) -> Event {
    Event {
        id: Uuid::from_u128(chance.random()),
        time: now - chance.random_range(0..SPAN_MICROS),
        campaign: chance.random_range(0..CAMPAIGNS as u32),
        platform: chance.random_range(0..4),
        counts: [
            chance.random_range(0..1_000),
            chance.random_range(0..100),
            chance.random_range(0..10) * MILLION,
            chance.random_range(0..5_000_000),
            chance.random_range(0..9_000_000),
        ],
    }
}

/// Sends the set under so many names at once, each in an order of its own.
fn deliver(
    stage: &Stage,
    set: &[Event],
    together: usize,
    chance: &mut ChaCha8Rng,
) -> anyhow::Result<()> {
    let mut deliveries: Vec<Vec<Record>> = Vec::new();
    for n in 0..together {
        let mut ledger = stage.ledger.lock();
        let mut records: Vec<Record> = set
            .iter()
            .map(|event| {
                let campaign = format!("delivery-{n}.{}", event.campaign);
                let event = Event {
                    id: Uuid::from_u128(event.id.as_u128() ^ (n as u128 + 1)),
                    campaign: ledger.campaign(&campaign),
                    ..*event
                };
                Record {
                    payload: payload(&event, &campaign),
                    key: campaign.into_bytes(),
                    fate: Fate::Event(ledger.event(event)),
                }
            })
            .collect();
        for _ in 0..COPIES {
            let copy = records[chance.random_range(0..set.len())].clone();
            records.push(copy);
        }
        records.shuffle(chance);
        deliveries.push(records);
    }
    let sender = stage.sender()?;
    while !deliveries.is_empty() {
        let from = chance.random_range(0..deliveries.len());
        match deliveries[from].pop() {
            Some(record) => {
                let astray = chance.random_range(0..ASTRAY) == 0;
                let partition = astray.then(|| chance.random_range(0..PARTITIONS));
                sender.send(&record, partition)?;
            }
            None => drop(deliveries.swap_remove(from)),
        }
    }
    sender.flush()
}

/// All projections of each delivery as a text, and how many deliveries have the same.
fn projections(stage: &Stage) -> anyhow::Result<Vec<(String, i64)>> {
    #[derive(QueryableByName)]
    struct Made {
        #[diesel(sql_type = Text)]
        projections: String,
        #[diesel(sql_type = BigInt)]
        deliveries: i64,
    }
    let table = |table: &str, start: &str| {
        format!(
            "SELECT split_part(campaign_id, '.', 1) AS delivery, concat_ws(' ', '{table}', \
                 split_part(campaign_id, '.', 2), {start}, platform, events, impressions, clicks, conversions, \
                 cost_micros, revenue_micros) AS row FROM {table}"
        )
    };
    let made: Vec<Made> = sql_query(format!(
        "SELECT projections, count(*) AS deliveries FROM ( \
             SELECT delivery, string_agg(row, E'\\n' ORDER BY row) AS projections \
             FROM ({} UNION ALL {} UNION ALL {} UNION ALL {}) AS rows GROUP BY delivery) AS each \
         GROUP BY projections ORDER BY deliveries DESC",
        table("metrics_by_minute", "minute"),
        table("metrics_by_hour", "hour"),
        table("metrics_by_day", "day"),
        table("metrics_total", "concat(min_event_time, max_event_time)"),
    ))
    .load(&mut stage.connect()?)?;
    let made = made.into_iter();
    Ok(made.map(|m| (m.projections, m.deliveries)).collect())
}

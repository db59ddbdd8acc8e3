//! Row 22: two databases that each have a range of the topic's partitions, behind one server. The second one's primary dies
//! under load, and its standby takes over: nothing is lost there, and the first is counted and answered meanwhile.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use rand::RngExt as _;

use crate::api::{self, Api, Reply};
use crate::check::{self, Target};
use crate::lab::{Lab, RATE};
use crate::ledger::Ledger;
use crate::producer::Producer;
use crate::stage::{self, PATIENCE, Stage};
use crate::support::server::{Server, Standby};
use crate::table::Row;
use crate::wait::wait_until;

const PARTITIONS: i32 = 4;
const RANGES: [RangeInclusive<i32>; 2] = [0..=1, 2..=3];

/// Lets the second database fail over so many times.
pub fn one_fails_over(lab: &mut Lab, times: usize, row: &mut Row) -> anyhow::Result<()> {
    (0..times).try_for_each(|_| once(lab, row))
}

fn once(lab: &mut Lab, row: &mut Row) -> anyhow::Result<()> {
    let primary = Server::start();
    let standby = Standby::of(&primary);
    primary.wait_for_standby();
    let pair = standby.pair(&primary);
    let mut first = Stage::new(&lab.services, &lab.folder.join("logs"), "shards")?;
    first.create_topic(PARTITIONS)?;
    let mut second = first.again(&lab.services)?;
    second.use_database(&pair, &pair);
    for (stage, range) in [&first, &second].into_iter().zip(&RANGES) {
        let (done, said) = stage.run("migrate", &["--shard", &shard(range)])?;
        ensure!(done, "{said}");
    }
    let urls = [&first.target.database_url, &pair];
    let shards = urls.iter().zip(&RANGES);
    let shards: Vec<String> = shards
        .map(|(url, range)| format!("{}={url}", shard(range)))
        .collect();
    let mut producer = Producer::start(
        &first.target.brokers,
        &first.target.topic,
        lab.chance.random(),
        RATE / 2,
    )?;
    let mut processors = [first.start("process", &[])?, second.start("process", &[])?];
    first.settings.env.push(("ADFLUX_SHARDS", shards.join(" ")));
    let mut server = first.serve()?;
    let address = first.target.servers.pop().context("a server")?;
    all_move(&first, &RANGES[0])?;
    all_move(&second, &RANGES[1])?;

    primary.kill();
    all_move(&first, &RANGES[0])?;
    answers_of_the_first(&first, &address)?;
    standby.promote();
    let began = Instant::now();
    all_move(&second, &RANGES[1])?;
    row.recovered(began.elapsed());

    producer.pause()?;
    let ledger = producer.ledger().lock();
    for (stage, range) in [&first, &second].into_iter().zip(&RANGES) {
        let ledger = ledger.within(range);
        wait_until(PATIENCE, "everything is counted", || {
            let positions = stage.positions();
            let log = ledger.log().iter();
            let mut ends = log.map(|(partition, log)| (partition, log.len() as i64));
            Ok(ends.all(|(partition, end)| positions.get(partition) >= Some(&end)))
        })?;
        let target = Target {
            group: format!("{}-{}-{}", stage.target.group, range.start(), range.end()),
            ..stage.target.clone()
        };
        row.violations(&check::check(&target, &ledger));
    }
    answers_of_both([&first, &second], &address, &ledger, row)?;
    drop(ledger);
    producer.stop()?;
    processors.iter_mut().try_for_each(stage::end)?;
    stage::end(&mut server)
}

fn shard(range: &RangeInclusive<i32>) -> String {
    format!("{}-{}/{PARTITIONS}", range.start(), range.end())
}

/// Waits until each of these partitions is counted further than it is now.
fn all_move(stage: &Stage, range: &RangeInclusive<i32>) -> anyhow::Result<()> {
    let before = stage.positions();
    wait_until(PATIENCE, "every partition is counted further", || {
        let now = stage.positions();
        Ok(range.clone().all(|p| now.get(&p) > before.get(&p)))
    })
}

/// Whoever asks for a campaign of the first database need not know that the second is away.
fn answers_of_the_first(first: &Stage, server: &str) -> anyhow::Result<()> {
    let stored = api::from_database(&mut first.connect()?)?;
    let campaign = stored.keys().next().context("a campaign")?;
    match Api::new().ask(server, campaign) {
        Reply::Insight(_) => Ok(()),
        other => bail!("{campaign}, whose database is there: {other}"),
    }
}

/// A campaign is in one of the databases, and the server answers what that holds.
fn answers_of_both(
    stages: [&Stage; 2],
    server: &str,
    ledger: &Ledger,
    row: &mut Row,
) -> anyhow::Result<()> {
    let api = Api::new();
    let mut stored = HashMap::new();
    for stage in stages {
        for (campaign, insight) in api::from_database(&mut stage.connect()?)? {
            if stored.insert(campaign.clone(), insight).is_some() {
                row.violation(format!("{campaign} is in two databases"));
            }
        }
    }
    for campaign in ledger.campaigns() {
        let expected = stored.get(campaign);
        // A server that was not told of a commit looks again by itself.
        let answered = wait_until(PATIENCE, "the server answers what is stored", || {
            Ok(match (api.ask(server, campaign), expected) {
                (Reply::Insight(found), Some(expected)) => found == *expected,
                (Reply::Unknown, None) => true,
                _ => false,
            })
        });
        if let Err(error) = answered {
            row.violation(format!("{campaign}: {error:#}"));
        }
    }
    Ok(())
}

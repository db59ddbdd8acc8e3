//! `adflux dlq redrive`: dead letters that can be counted by now go back to the topic.
//!
//! ```text
//! page of letters ─▶ verdict ─▶ mark as taken up ─▶ send, unchanged ─▶ acknowledged ─▶ mark where it is
//!                      └ stays: why
//! ```
//!
//! Exactly once, wherever it is killed: before the first mark nothing was sent; between the marks the
//! letter may be on the topic, and the next run sends it again, which the processor tells by its
//! identity and counts as a duplicate; after the second it is never taken up again. A
//! letter is not lost in any case, for it stays where it is. What a run sends and a processor refuses
//! once more is a new dead letter with a header that says where it came from: it is not sent again unless
//! that is asked for.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::bail;

use super::verdict::{ORIGIN, Verdict, judge, origin};
use crate::codec::{self, KnownIds};
use crate::kafka::courier::{Courier, Whole};
use crate::kafka::waiting::{self, Waiting};
use crate::kafka::{Cluster, logs};
use crate::offset::Offset;
use crate::schema_registry::{self, Learner};
use crate::store::keep::redrives;
use crate::store::read::dead_letters::{self, Filter, Key, Row};
use crate::store::{self, Limits, StoreError};
use crate::time::Timestamp;

/// What is to be redriven, and how.
pub struct Settings {
    pub cluster: Cluster,
    pub database_url: String,
    /// The topic the letters were on and go back to.
    pub topic: String,
    /// Which letters; its topic is `topic`.
    pub filter: Filter,
    /// Send so many at the most.
    pub limit: Option<u64>,
    /// Only say what would happen.
    pub dry_run: bool,
    /// Also those that were sent back before and refused again.
    pub again: bool,
    pub schema_ids: KnownIds,
    pub writer_schemas: Vec<(u32, PathBuf)>,
    pub schema_registry: Option<schema_registry::Settings>,
}

/// What a run did.
#[derive(Default)]
struct Done {
    sent: u64,
    stay: u64,
    failed: u64,
    /// The schema ids of what was sent.
    schema_ids: BTreeSet<u32>,
}

/// Redrives until there is nothing more, the limit is reached, or `stop` is set, and prints a line
/// a letter. `false` if one could not be sent.
///
/// # Errors
/// When database or Kafka do not answer, or another redrive is running. What was not finished is
/// taken up by the next run.
pub fn run(out: &mut impl Write, settings: &Settings, stop: &AtomicBool) -> anyhow::Result<bool> {
    let mut learner = Learner::new(
        settings.schema_ids,
        &settings.writer_schemas,
        settings.schema_registry.as_ref(),
    )?;
    let mut connection = store::open(&settings.database_url, Limits::PROCESSOR)?;
    // What becomes a dead letter from here on is left to the next run: this one must end.
    let before = redrives::be_the_only_one(&mut connection)?;
    let courier = if settings.dry_run {
        None
    } else {
        Some(courier(settings)?)
    };
    let filter = Filter {
        topic: Some(settings.topic.clone()),
        redriven: false,
        ..settings.filter.clone()
    };
    let mut done = Done::default();
    let mut after: Key = (0, Offset::BEFORE_ALL);
    let waiting = Waiting::new(&settings.cluster, &settings.topic);
    loop {
        let page = dead_letters::page(&mut connection, &filter, after, before)?;
        let Some(last) = page.last() else { break };
        after = (last.stream_id, last.offset);
        let countable = choose(out, settings, &page, &mut learner, &mut done)?;
        let Some(courier) = &courier else {
            done.sent += countable.len() as u64;
            continue;
        };
        let keys: Vec<Key> = countable.iter().map(|r| (r.stream_id, r.offset)).collect();
        if keys.is_empty() {
            continue;
        }
        redrives::start(&mut connection, &keys)?;
        let records: Vec<Whole> = countable
            .iter()
            .map(|row| whole(row))
            .collect::<Result<_, _>>()?;
        let begun = Instant::now();
        let landed = courier.deliver(&records, || {
            if begun.elapsed() > waiting::PATIENCE {
                waiting.stuck();
            }
            stop.load(Ordering::Relaxed)
        });
        if landed.iter().flatten().any(Result::is_ok) {
            waiting.moved();
        }
        let mut redriven = Vec::new();
        for (row, landed) in countable.iter().zip(landed) {
            let what = match landed {
                Some(Ok(to)) => {
                    redriven.push(((row.stream_id, row.offset), to));
                    done.sent += 1;
                    done.schema_ids
                        .extend(row.payload.as_deref().and_then(codec::schema_id));
                    format!("sent back to {}:{}:{}", settings.topic, to.0, to.1)
                }
                Some(Err(error)) => {
                    done.failed += 1;
                    format!("could not be sent: {error}")
                }
                None => {
                    done.failed += 1;
                    "not acknowledged before it was stopped; the next redrive sends it again"
                        .to_owned()
                }
            };
            line(out, row, &what)?;
        }
        redrives::finish(&mut connection, &redriven)?;
        if stop.load(Ordering::Relaxed) || limit_left(settings, &done) == 0 {
            break;
        }
    }
    sum_up(out, settings, &done)?;
    Ok(done.failed == 0)
}

fn courier(settings: &Settings) -> anyhow::Result<Courier> {
    let (_, partitions) = logs::describe(&settings.cluster, &settings.topic)
        .map_err(|why| anyhow::anyhow!("Kafka at {}: {why}", settings.cluster.brokers))?;
    if partitions.is_empty() {
        bail!(
            "topic '{}' does not exist: there is nowhere to send its dead letters back to",
            settings.topic
        );
    }
    Ok(Courier::new(&settings.cluster, &settings.topic)?)
}

/// The letters of the page that are to be sent; says of the others why they stay.
fn choose<'a>(
    out: &mut impl Write,
    settings: &Settings,
    page: &'a [Row],
    learner: &mut Learner,
    done: &mut Done,
) -> anyhow::Result<Vec<&'a Row>> {
    let now = Timestamp::now();
    let mut chosen = Vec::new();
    for row in page {
        if chosen.len() as u64 >= limit_left(settings, done) {
            break;
        }
        match judge(row, learner.of(row.payload.as_deref())?, now)? {
            Verdict::CameBack(why) if !settings.again => {
                done.stay += 1;
                line(out, row, &format!("stays: {why}"))?;
            }
            Verdict::Countable | Verdict::CameBack(_) => {
                if settings.dry_run {
                    line(out, row, "would be sent back")?;
                }
                chosen.push(row);
            }
            Verdict::Not(why) => {
                done.stay += 1;
                line(out, row, &format!("stays: {why}"))?;
            }
        }
    }
    Ok(chosen)
}

fn limit_left(settings: &Settings, done: &Done) -> u64 {
    settings.limit.map_or(u64::MAX, |limit| {
        limit.saturating_sub(done.sent + done.failed)
    })
}

fn line(out: &mut impl Write, row: &Row, what: &str) -> std::io::Result<()> {
    writeln!(out, "{}  {:<22} {what}", row.place(), row.reason)
}

/// The record as it was, and where it was a dead letter first.
fn whole(row: &Row) -> Result<Whole, StoreError> {
    let mut headers = row.headers()?;
    if origin(row)?.is_none() {
        headers.push((ORIGIN.to_owned(), Some(row.place().into_bytes())));
    }
    Ok(Whole {
        key: row.key.clone(),
        payload: row.payload.clone(),
        headers,
    })
}

fn sum_up(out: &mut impl Write, settings: &Settings, done: &Done) -> anyhow::Result<()> {
    let sent = if settings.dry_run {
        "would be sent back"
    } else {
        "sent back"
    };
    writeln!(
        out,
        "{} {sent} to {}, {} stay",
        done.sent, settings.topic, done.stay
    )?;
    if done.failed > 0 {
        writeln!(out, "{} could not be sent; run it again", done.failed)?;
    }
    let others: Vec<String> = done
        .schema_ids
        .iter()
        .filter(|id| ![settings.schema_ids.event, settings.schema_ids.report].contains(&Some(**id)))
        .map(|id| format!("--writer-schema {id}=FILE"))
        .collect();
    if settings.schema_registry.is_some() && !others.is_empty() {
        writeln!(
            out,
            "`adflux process` counts them if it was started with this --schema-registry too; otherwise they become dead \
             letters again"
        )?;
    } else if !others.is_empty() {
        writeln!(
            out,
            "`adflux process` counts them if it was started with {}; otherwise they become dead letters again",
            others.join(" ")
        )?;
    }
    Ok(())
}

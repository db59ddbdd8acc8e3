//! Waiting until a processor has counted what was sent, and what it could not count.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::databases::{Databases, Part};
use super::files::{Opened, bar};
use super::send::Topic;
use crate::codec::{Decoder, Message};
use crate::offset::{LogRange, Offset};
use crate::pause::pause;
use crate::report_row::Origin;
use crate::store::read::reports;
use crate::store::{StoreError, positions, states};

/// Without progress for so long, a person is told.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the positions are looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Waits until the positions are behind what was sent. `false` if `stop` was set before.
///
/// # Errors
/// When the database does not answer.
pub fn counted(
    databases: &mut Databases,
    topic: &Topic,
    landed: &BTreeMap<i32, LogRange>,
    stop: &AtomicBool,
) -> Result<bool, StoreError> {
    let all: u64 = landed
        .values()
        .map(|range| range.end.since(range.start).as_u64())
        .sum();
    let bar = bar(all, "counting", "rows");
    let (mut since, mut last) = (Instant::now(), None);
    loop {
        let stored = stored(databases, topic)?;
        let done = landed.iter().map(|(partition, range)| {
            let next = stored.get(partition).copied().unwrap_or(range.start);
            next.min(range.end)
                .max(range.start)
                .since(range.start)
                .as_u64()
        });
        let done: u64 = done.sum();
        bar.set_position(done);
        if done == all {
            bar.finish_and_clear();
            return Ok(true);
        }
        if last != Some(stored.clone()) {
            (since, last) = (Instant::now(), Some(stored));
        } else if since.elapsed() > PATIENCE {
            let left = all.saturating_sub(done);
            let why = standing(databases, topic, landed)?;
            bar.suspend(|| {
                log::warn!("no processor makes progress, {left} rows are not counted yet{why}. Waiting; Ctrl-C ends that, and what is sent stays sent");
            });
            since = Instant::now();
        }
        if !pause(LOOK, stop) {
            bar.finish_and_clear();
            return Ok(false);
        }
    }
}

/// Up to where each partition is counted, by the database that counts it.
fn stored(databases: &mut Databases, topic: &Topic) -> Result<BTreeMap<i32, Offset>, StoreError> {
    let mut stored = BTreeMap::new();
    for part in databases.parts() {
        let of = (&topic.cluster_id, &topic.name);
        let mut positions = positions::next_offsets(&mut part.connection, of.0, of.1)?;
        positions.retain(|(partition, _)| part.has(*partition));
        stored.extend(positions);
    }
    Ok(stored)
}

/// Why nothing moves, as far as processors say.
fn standing(
    databases: &mut Databases,
    topic: &Topic,
    landed: &BTreeMap<i32, LogRange>,
) -> Result<String, StoreError> {
    let mut reported = Vec::new();
    let concerned = |part: &&mut Part| landed.keys().any(|partition| part.has(*partition));
    for part in databases.parts().filter(concerned) {
        let mut of_part = states::list(&mut part.connection)?;
        of_part.retain(|one| one.cluster_id == topic.cluster_id && one.topic == topic.name);
        if of_part.is_empty() {
            let of = part.shard.map(|shard| format!(", of {shard}"));
            let of = of.unwrap_or_default();
            return Ok(format!(
                ": is `adflux process` running on this topic and database{of}?"
            ));
        }
        reported.extend(of_part);
    }
    let why = reported.into_iter().find_map(|one| {
        let message = one.message?;
        Some(format!(": partition {}: {message}", one.partition))
    });
    Ok(why.unwrap_or_default())
}

/// Rows of a file that could not be counted for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dead {
    pub reason: String,
    pub explain: String,
    pub rows: u64,
    /// The first few lines.
    pub lines: Vec<i64>,
}

impl Dead {
    /// So many lines are told.
    pub const TOLD: usize = 20;
}

/// Finds which rows of the files are dead letters.
///
/// # Errors
/// When the database does not answer, or the schema is not one.
pub fn dead_letters(
    databases: &mut Databases,
    topic: &Topic,
    landed: &BTreeMap<i32, LogRange>,
    files: &mut [Opened],
) -> anyhow::Result<()> {
    const PAGE: i64 = 500;
    let mut decoder = Decoder::new(topic.schema_ids)?;
    for one in files.iter_mut().filter(|one| one.same_as.is_none()) {
        one.dead = Some(Vec::new());
    }
    for (partition, range) in landed {
        let mut parts = databases.parts();
        let Some(part) = parts.find(|part| part.has(*partition)) else {
            continue;
        };
        let mut left = *range;
        loop {
            let of = (topic.cluster_id.as_str(), topic.name.as_str(), *partition);
            let page = reports::refused(&mut part.connection, of, left, PAGE)?;
            let Some(last) = page.last() else { break };
            left.start = last.offset.next();
            for letter in &page {
                let payload = letter.payload.as_deref().unwrap_or_default();
                let origin = match decoder.decode(payload) {
                    Ok(Message::Report(row)) => row.origin,
                    _ => Origin::default(),
                };
                // Others send to the topic too.
                let mine = files.iter_mut().find(|one| Some(one.file) == origin.file);
                if let Some(dead) = mine.and_then(|one| one.dead.as_mut()) {
                    add(dead, letter, origin.line);
                }
            }
        }
    }
    Ok(())
}

fn add(dead: &mut Vec<Dead>, letter: &reports::Refused, line: Option<i64>) {
    let known = dead.iter().position(|known| known.reason == letter.reason);
    let known = known.unwrap_or_else(|| {
        dead.push(Dead {
            reason: letter.reason.clone(),
            explain: letter.explain().unwrap_or_default().to_owned(),
            rows: 0,
            lines: Vec::new(),
        });
        dead.len().saturating_sub(1)
    });
    if let Some(known) = dead.get_mut(known) {
        known.rows = known.rows.saturating_add(1);
        if known.lines.len() < Dead::TOLD {
            known.lines.extend(line);
        }
    }
}

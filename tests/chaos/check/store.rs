//! The event store and the dead letters against the ledger, record by record.
//!
//! ledger ids = event-store ids ∪ dead-letter ids, disjoint, none twice: a record's place in the log
//! says what it must have become, so every stored row is looked up by its partition and offset, and at
//! the end nothing may be left that was found nowhere. A report row that said something new must have
//! become the difference that it made.

use std::collections::{HashMap, HashSet};

use adflux::event::MILLION;
use chrono::{DateTime, Utc};
use diesel::pg::PgRowByRowLoadingMode;
use diesel::sql_types::{
    Array, BigInt, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel::{PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query};
use uuid::Uuid;

use super::Violations;
use super::sums::{ByMinute, Key};
use crate::ledger::reports::{Outcome, Reported};
use crate::ledger::{Event, Fate, Ledger, Sums};

pub const STORED_EVENT: &str = "a stored event is the acknowledged one";
pub const ONCE: &str = "no event is stored twice";
pub const NONE_LOST: &str = "every acknowledged event is in the event store";
pub const DISJOINT: &str = "no record is both event and dead letter";
pub const DEAD_LETTER: &str = "a dead letter is one that must be, with its reason";
pub const NO_LETTER_LOST: &str = "every record that cannot be counted is a dead letter";

#[derive(QueryableByName)]
struct Block {
    #[diesel(sql_type = Integer)]
    partition: i32,
    #[diesel(sql_type = BigInt)]
    first_offset: i64,
    #[diesel(sql_type = Nullable<Array<Integer>>)]
    offset_delta: Option<Vec<i32>>,
    #[diesel(sql_type = Array<SqlUuid>)]
    event_id: Vec<Uuid>,
    #[diesel(sql_type = Array<Text>)]
    campaign_id: Vec<String>,
    #[diesel(sql_type = Array<SmallInt>)]
    platform: Vec<i16>,
    #[diesel(sql_type = Array<Timestamptz>)]
    event_time: Vec<DateTime<Utc>>,
    #[diesel(sql_type = Array<BigInt>)]
    impressions: Vec<i64>,
    #[diesel(sql_type = Array<BigInt>)]
    clicks: Vec<i64>,
    #[diesel(sql_type = Array<BigInt>)]
    conversions: Vec<i64>,
    #[diesel(sql_type = Nullable<Array<Integer>>)]
    conversion_millionths: Option<Vec<i32>>,
    #[diesel(sql_type = Array<BigInt>)]
    cost_micros: Vec<i64>,
    #[diesel(sql_type = Array<BigInt>)]
    revenue_micros: Vec<i64>,
    #[diesel(sql_type = Nullable<Array<Nullable<Timestamptz>>>)]
    observed_at: Option<Vec<Option<DateTime<Utc>>>>,
}

/// What the event store adds up to.
#[derive(Default)]
pub struct Stored {
    pub sums: ByMinute,
    /// Of restatements, by their id.
    pub restated: HashMap<Uuid, Sums>,
}

/// Goes through the event store, and returns its sums.
pub fn check_events(
    connection: &mut PgConnection,
    ledger: &Ledger,
    reported: &Reported,
    violations: &mut Violations,
) -> QueryResult<Stored> {
    let blocks = sql_query(
        "SELECT s.partition, b.first_offset, b.offset_delta, b.event_id, b.campaign_id, b.platform, b.event_time, \
             b.impressions, b.clicks, b.conversions, b.conversion_millionths, b.cost_micros, b.revenue_micros, b.observed_at \
         FROM event_blocks AS b JOIN stream_positions AS s USING (stream_id) \
         ORDER BY s.stream_id, b.first_offset",
    )
    // One block after the other: all of them together are as large as the event store.
    .load_iter::<Block, PgRowByRowLoadingMode>(connection)?;
    let mut stored = Stored::default();
    let mut restatements = HashSet::new();
    let mut found = vec![false; ledger.events().len()];
    let mut places = HashSet::new();
    let mut identities = HashMap::new();
    for block in blocks {
        let block = block?;
        for at in 0..block.event_id.len() {
            let delta = match &block.offset_delta {
                Some(deltas) => i64::from(deltas[at]),
                None => at as i64,
            };
            let (partition, offset) = (block.partition, block.first_offset + delta);
            let place = || place(partition, offset);
            let id = block.event_id[at];
            if !places.insert((partition, offset)) {
                violations.add(
                    ONCE,
                    place(),
                    "one event at this offset",
                    format!("{id} as well"),
                );
            }
            let time = block.event_time[at].timestamp_micros();
            let asked = block.observed_at.as_ref().and_then(|asked| asked[at]);
            let asked = asked.map(|asked| asked.timestamp_micros());
            if let Some(before) = identities.insert((id, time, asked), (partition, offset)) {
                let only = format!("only at {}", self::place(before.0, before.1));
                violations.add(
                    ONCE,
                    format!("event {id}"),
                    only,
                    format!("at {} too", place()),
                );
            }
            let beyond = block.conversion_millionths.as_ref();
            let beyond = beyond.map_or(0, |beyond| i64::from(beyond[at]));
            let event = Event {
                id,
                time,
                // A campaign that nobody sent is equal to none.
                campaign: ledger
                    .campaign_number(&block.campaign_id[at])
                    .unwrap_or(u32::MAX),
                platform: u8::try_from(block.platform[at]).unwrap_or(u8::MAX),
                counts: [
                    block.impressions[at],
                    block.clicks[at],
                    block.conversions[at] * MILLION + beyond,
                    block.cost_micros[at],
                    block.revenue_micros[at],
                ],
            };
            stored.add(&event, asked);
            let fate = ledger.fate(partition, offset);
            let expected = match (fate, reported.outcomes.get(&(partition, offset))) {
                (Some(Fate::Event(index)), _) => {
                    let sent = *ledger.get(index);
                    found[index.at()] |= (sent, None) == (event, asked);
                    Ok((sent, None))
                }
                (Some(Fate::Report(index)), Some(Outcome::Restated(counts))) => {
                    restatements.insert((partition, offset));
                    let row = ledger.get_report(index);
                    Ok((row.key.event(id, *counts), Some(row.observed_at)))
                }
                (_, Some(outcome)) => Err(format!("a report row that is counted as {outcome:?}")),
                (Some(Fate::Dead(reason)), _) => Err(format!("a dead letter ({reason})")),
                _ => Err("no record".to_owned()),
            };
            if expected != Ok((event, asked)) {
                let expected = expected.map(|(sent, asked)| {
                    describe(&sent, asked, &ledger.campaigns()[sent.campaign as usize])
                });
                violations.add(
                    STORED_EVENT,
                    place(),
                    expected.unwrap_or_else(|other| other),
                    describe(&event, asked, &block.campaign_id[at]),
                );
            }
        }
    }
    for ((event, found), copies) in ledger.events().iter().zip(&found).zip(ledger.copies()) {
        if copies > 0 && !found {
            violations.add(
                NONE_LOST,
                format!("event {}", event.id),
                format!("stored once ({copies} copies were acknowledged)"),
                "nowhere",
            );
        }
    }
    for (&(partition, offset), outcome) in &reported.outcomes {
        if let Outcome::Restated(counts) = outcome
            && !restatements.contains(&(partition, offset))
        {
            let expected = format!("a restatement by {counts:?}");
            violations.add(NONE_LOST, place(partition, offset), expected, "nothing");
        }
    }
    Ok(stored)
}

impl Stored {
    fn add(&mut self, event: &Event, asked: Option<i64>) {
        self.sums.add(Key::of(event), event.sums());
        if asked.is_some() {
            let sums = self.restated.entry(event.id).or_default();
            for (sum, more) in sums.iter_mut().zip(event.sums()) {
                *sum += more;
            }
        }
    }
}

/// Goes through the dead letters.
pub fn check_dead_letters(
    connection: &mut PgConnection,
    ledger: &Ledger,
    violations: &mut Violations,
) -> QueryResult<()> {
    #[derive(QueryableByName)]
    struct Letter {
        #[diesel(sql_type = Integer)]
        partition: i32,
        #[diesel(sql_type = BigInt)]
        offset: i64,
        #[diesel(sql_type = Text)]
        reason: String,
        #[diesel(sql_type = BigInt)]
        events: i64,
    }
    // Only the last block that begins before it can hold it: that blocks overlap is found elsewhere.
    let letters: Vec<Letter> = sql_query(
        "SELECT s.partition, d.\"offset\", d.reason, \
             (SELECT count(*) FROM ( \
                      SELECT b.first_offset, b.last_offset, b.offset_delta FROM event_blocks AS b \
                      WHERE b.stream_id = d.stream_id AND b.first_offset <= d.\"offset\" \
                      ORDER BY b.first_offset DESC LIMIT 1) AS b \
                  WHERE d.\"offset\" <= b.last_offset \
                  AND (b.offset_delta IS NULL OR (d.\"offset\" - b.first_offset) = ANY (b.offset_delta))) AS events \
         FROM dead_letters AS d JOIN stream_positions AS s USING (stream_id)",
    )
    .load(connection)?;
    let mut found: HashMap<(i32, i64), String> = HashMap::with_capacity(letters.len());
    for letter in letters {
        let place = place(letter.partition, letter.offset);
        if letter.events > 0 {
            violations.add(
                DISJOINT,
                &place,
                "one of both",
                format!("an event, and {}", letter.reason),
            );
        }
        match ledger.fate(letter.partition, letter.offset) {
            Some(Fate::Dead(reason)) if reason == letter.reason => {}
            Some(Fate::Dead(reason)) => {
                violations.add(DEAD_LETTER, &place, reason, &letter.reason);
            }
            Some(Fate::Event(index)) => violations.add(
                DEAD_LETTER,
                &place,
                format!("event {}", ledger.get(index).id),
                &letter.reason,
            ),
            Some(Fate::Report(index)) => violations.add(
                DEAD_LETTER,
                &place,
                format!("report row {:?}", ledger.get_report(index)),
                &letter.reason,
            ),
            None => violations.add(DEAD_LETTER, &place, "no record", &letter.reason),
        }
        found.insert((letter.partition, letter.offset), letter.reason);
    }
    for (&partition, log) in ledger.log() {
        for (offset, fate) in (0..).zip(log) {
            if let Some(Fate::Dead(reason)) = fate
                && !found.contains_key(&(partition, offset))
            {
                violations.add(
                    NO_LETTER_LOST,
                    place(partition, offset),
                    reason,
                    "no dead letter",
                );
            }
        }
    }
    Ok(())
}

fn place(partition: i32, offset: i64) -> String {
    format!("partition {partition}, offset {offset}")
}

fn describe(event: &Event, asked: Option<i64>, campaign: &str) -> String {
    let Event {
        id,
        time,
        platform,
        counts,
        ..
    } = event;
    let kind = asked.map_or("event".to_owned(), |at| format!("restatement of {at}"));
    format!("{kind} {id} of {campaign} on platform {platform} at {time} with {counts:?}")
}

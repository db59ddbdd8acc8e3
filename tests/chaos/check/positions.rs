//! The stored positions against the ledger, the log, and what Kafka was told.

use std::collections::BTreeMap;

use diesel::sql_types::{BigInt, Integer, Text};
use diesel::{PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query};
use rdkafka::ClientConfig;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::{READABLE, SETTLING, Target, Violations, connect, until_settled};
use crate::ledger::reports::{Outcome, Reported};
use crate::ledger::{Fate, Ledger};
use crate::wait::wait_for;

pub const POSITION: &str = "a position counts exactly what was acknowledged";
pub const LOG_END: &str = "a stored position is the end of the log";
pub const NOT_AHEAD: &str = "Kafka's offset is never ahead of the stored position";
pub const CAUGHT_UP: &str = "Kafka's offset catches up with the stored position";

/// One row of `stream_positions`.
#[derive(QueryableByName)]
struct Position {
    #[diesel(sql_type = Text)]
    topic: String,
    #[diesel(sql_type = Integer)]
    partition: i32,
    #[diesel(sql_type = BigInt)]
    start_offset: i64,
    #[diesel(sql_type = BigInt)]
    next_offset: i64,
    #[diesel(sql_type = BigInt)]
    records: i64,
    #[diesel(sql_type = BigInt)]
    events: i64,
    #[diesel(sql_type = BigInt)]
    duplicates: i64,
    #[diesel(sql_type = BigInt)]
    dead_letters: i64,
    #[diesel(sql_type = BigInt)]
    unchanged: i64,
    #[diesel(sql_type = BigInt)]
    superseded: i64,
}

fn positions(connection: &mut PgConnection) -> QueryResult<Vec<Position>> {
    sql_query(
        "SELECT topic, partition, start_offset, next_offset, records, events, duplicates, dead_letters, \
             unchanged, superseded \
         FROM stream_positions ORDER BY topic, partition",
    )
    .load(connection)
}

/// Holds the counters of each position against the ledger.
pub fn check_positions(
    connection: &mut PgConnection,
    topic: &str,
    ledger: &Ledger,
    reported: &Reported,
    violations: &mut Violations,
) -> QueryResult<()> {
    let mut events = 0;
    let mut seen = BTreeMap::new();
    for position in positions(connection)? {
        let place = |what: &str| format!("{}[{}], {what}", position.topic, position.partition);
        let mut compare = |what, expected: i64, found| {
            violations.compare(POSITION, place(what), expected, found);
        };
        let none = Vec::new();
        let log = match ledger.log().get(&position.partition) {
            Some(log) if position.topic == topic => log,
            _ => &none,
        };
        let count = |of: fn(&Fate) -> bool| log.iter().flatten().filter(|f| of(f)).count() as i64;
        let dead = count(|fate| matches!(fate, Fate::Dead(_)));
        let copies = count(|fate| matches!(fate, Fate::Event(_)));
        let reports = count(|fate| matches!(fate, Fate::Report(_)));
        let count = |of: Outcome| reported.count(position.partition, |outcome| *outcome == of);
        let unchanged = count(Outcome::Unchanged);
        let superseded = count(Outcome::Superseded);
        compare("next_offset", log.len() as i64, position.next_offset);
        compare("records", dead + copies + reports, position.records);
        compare("dead_letters", dead, position.dead_letters);
        compare("unchanged", unchanged, position.unchanged);
        compare("superseded", superseded, position.superseded);
        compare(
            "events + duplicates",
            copies + reports - unchanged - superseded,
            position.events + position.duplicates,
        );
        compare("start_offset", 0, position.start_offset);
        events += position.events;
        seen.insert(position.partition, ());
    }
    for (partition, log) in ledger.log() {
        if !seen.contains_key(partition) {
            violations.add(
                POSITION,
                format!("{topic}[{partition}]"),
                log.len(),
                "no position",
            );
        }
    }
    let acknowledged = ledger.copies();
    let unique = acknowledged.iter().filter(|copies| **copies > 0).count();
    let outcomes = reported.outcomes.values();
    let restated = outcomes.filter(|outcome| matches!(outcome, Outcome::Restated(_)));
    let expected = (unique + restated.count()) as i64;
    violations.compare(POSITION, "events of all partitions", expected, events);
    Ok(())
}

/// Holds the stored positions against Kafka: its log's ends, and the offsets it was told.
pub fn check_log(target: &Target, ledger: &Ledger) -> Violations {
    let mut violations = Violations::default();
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &target.brokers)
        .set("group.id", &target.group)
        .create()
        .expect("a consumer");
    let stored = |violations: &mut Violations| -> BTreeMap<i32, i64> {
        let rows = connect(&target.database_url).and_then(|mut c| Ok(positions(&mut c)?));
        match rows {
            Ok(rows) => rows
                .into_iter()
                .filter(|row| row.topic == target.topic)
                .map(|row| (row.partition, row.next_offset))
                .collect(),
            Err(error) => {
                violations.add(READABLE, &target.topic, "positions", format!("{error:#}"));
                BTreeMap::new()
            }
        }
    };
    let place = |partition: i32| format!("{}[{partition}]", target.topic);
    let next_offsets = stored(&mut violations);
    for (&partition, log) in ledger.log() {
        let mut refused = None;
        let range = wait_for(SETTLING, || {
            let asked = consumer.fetch_watermarks(&target.topic, partition, SETTLING);
            Ok(asked.map_err(|error| refused = Some(error)).ok())
        });
        match range.ok().flatten() {
            Some((_, end)) => {
                let acknowledged = log.len() as i64;
                violations.compare(
                    "the log ends with the last acknowledged record",
                    place(partition),
                    acknowledged,
                    end,
                );
                let next = next_offsets.get(&partition).copied().unwrap_or(-1);
                violations.compare(LOG_END, place(partition), end, next);
            }
            None => violations.add(LOG_END, place(partition), "an end", format!("{refused:?}")),
        }
    }
    violations.append(until_settled(|| {
        let mut violations = Violations::default();
        let mut list = TopicPartitionList::new();
        for &partition in ledger.log().keys() {
            list.add_partition(&target.topic, partition);
        }
        // Kafka is asked first: a position only rises, so what Kafka was told before is not above
        // what is stored afterwards.
        match consumer.committed_offsets(list, SETTLING) {
            Ok(committed) => {
                let next_offsets = stored(&mut violations);
                for element in committed.elements() {
                    let partition = element.partition();
                    let told = element.offset().to_raw().filter(|offset| *offset >= 0);
                    let next = next_offsets.get(&partition).copied().unwrap_or(-1);
                    match told {
                        Some(told) if told > next => {
                            violations.add(NOT_AHEAD, place(partition), next, told);
                        }
                        Some(told) => {
                            violations.compare(CAUGHT_UP, place(partition), next, told);
                        }
                        None if next > 0 => {
                            violations.add(CAUGHT_UP, place(partition), next, "none");
                        }
                        None => {}
                    }
                }
            }
            Err(error) => violations.add(CAUGHT_UP, &target.topic, "offsets", error),
        }
        violations
    }));
    violations
}

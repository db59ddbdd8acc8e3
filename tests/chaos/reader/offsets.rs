//! Kafka's committed offsets, which follow the stored positions and are never ahead of them: what a
//! lag tool shows as counted is counted.

use std::time::Duration;

use diesel::sql_types::{BigInt, Integer, Text};
use diesel::{PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query};
use rdkafka::ClientConfig;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

use super::{Shared, database};
use crate::check::positions::NOT_AHEAD;
use crate::check::{Target, Violations};

/// Often enough to meet an offset that was told too early while the database is away.
const INTERVAL: Duration = Duration::from_millis(250);
const PATIENCE: Duration = Duration::from_secs(2);

/// Polls until it is told to stop.
pub fn read(target: &Target, shared: &Shared) {
    let consumer = ClientConfig::new()
        .set("bootstrap.servers", &target.brokers)
        .set("group.id", &target.group)
        .create::<BaseConsumer>();
    let consumer = match consumer {
        Ok(consumer) => consumer,
        Err(error) => {
            let mut state = shared.state();
            state
                .violations
                .add(NOT_AHEAD, "the reader", "a consumer", error);
            return;
        }
    };
    let mut connection = None;
    while !shared.stopped() {
        std::thread::sleep(INTERVAL);
        // Asked first: a position only rises, so what Kafka was told before is not above it.
        let Some(committed) = committed(&consumer, &target.topic) else {
            continue;
        };
        if connection.is_none() {
            connection = database::connect(&target.database_url);
        }
        let Some(answering) = &mut connection else {
            continue;
        };
        match compare(answering, target, &committed) {
            Ok(violations) => {
                let mut state = shared.state();
                state.looks.offsets += 1;
                state.violations.append(violations);
            }
            Err(_) => connection = None,
        }
    }
}

/// What the group has told Kafka; none while Kafka does not answer.
fn committed(consumer: &BaseConsumer, topic: &str) -> Option<TopicPartitionList> {
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).ok()?;
    let mut list = TopicPartitionList::new();
    for partition in metadata.topics().first()?.partitions() {
        list.add_partition(topic, partition.id());
    }
    consumer.committed_offsets(list, PATIENCE).ok()
}

fn compare(
    connection: &mut PgConnection,
    target: &Target,
    committed: &TopicPartitionList,
) -> QueryResult<Violations> {
    #[derive(QueryableByName)]
    struct Position {
        #[diesel(sql_type = Integer)]
        partition: i32,
        #[diesel(sql_type = BigInt)]
        next_offset: i64,
    }
    let positions: Vec<Position> =
        sql_query("SELECT partition, next_offset FROM stream_positions WHERE topic = $1")
            .bind::<Text, _>(&target.topic)
            .load(connection)?;
    let mut violations = Violations::default();
    for element in committed.elements() {
        let Some(told) = element.offset().to_raw().filter(|offset| *offset >= 0) else {
            continue;
        };
        let position = positions
            .iter()
            .find(|position| position.partition == element.partition());
        let next = position.map_or(0, |position| position.next_offset);
        if told > next {
            let place = format!("{}[{}]", target.topic, element.partition());
            violations.add(NOT_AHEAD, place, format!("at most {next}"), told);
        }
    }
    Ok(violations)
}

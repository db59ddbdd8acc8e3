//! A position must be within the log, or it is not this log's; and the topic must have the partitions that databases were
//! divided by.

use crate::offset::{LogRange, Offset};
use crate::shard::Shard;
use crate::time::Timestamp;

/// What a position means for a log.
#[derive(Debug, PartialEq, Eq)]
pub enum Fit {
    Within,
    /// Records were deleted before they were counted.
    Behind,
    Beyond,
}

/// Compares a position with its log.
pub fn fit(position: Offset, log: LogRange) -> Fit {
    if position > log.end {
        Fit::Beyond
    } else if position < log.start {
        Fit::Behind
    } else {
        Fit::Within
    }
}

/// Why the processor halts at a position beyond the end.
pub fn beyond(topic: &str, partition: i32, position: Offset, end: Offset) -> anyhow::Error {
    anyhow::anyhow!(
        "the stored position {position} of {topic}[{partition}] is beyond the end of the log, {end}: the topic was deleted \
         and created anew, or the cluster was restored. Nothing was read. Give the new topic another name and set \
         --topic, or restore the log"
    )
}

/// Why the processor halts at a position before the oldest record.
pub fn behind(topic: &str, partition: i32, position: Offset, start: Offset) -> anyhow::Error {
    anyhow::anyhow!(
        "{} records of {topic}[{partition}] (offsets {position} to {}) were deleted by retention before they were counted. \
         Nothing was skipped. Restore them, or start once with --accept-loss to go on from offset {start}",
        start.since(position),
        start.previous()
    )
}

/// Why the processor halts at a record that is not the one that was counted at its place.
pub fn another(
    topic: &str,
    partition: i32,
    offset: Offset,
    found: Option<Timestamp>,
    counted: Timestamp,
) -> anyhow::Error {
    let found = found.map_or_else(|| "no time".to_owned(), |time| time.to_string());
    anyhow::anyhow!(
        "the record at offset {offset} of {topic}[{partition}], the last before the stored position, is another one than was \
         counted: it is of {found}, and that one was of {counted}. The topic was deleted and created anew, or the cluster was \
         restored. Nothing was read. Give the new topic another name and set --topic, or restore the log"
    )
}

/// Why the processor halts where the topic has other partitions than the range is of.
pub fn divided(topic: &str, partitions: usize, shard: Shard) -> anyhow::Error {
    anyhow::anyhow!(
        "topic '{topic}' has {partitions} partitions, and this database has the range {shard} of a topic with {}. By another \
         number a key leads to another partition, so a campaign might come to be in two databases: no more is counted. A topic \
         that databases are divided by keeps its number of partitions; to have more, count a new topic into new databases. If this \
         is not the topic, set --topic",
        shard.of()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions() {
        let [before, at, after] = [4, 5, 6].map(Offset::new);
        let log = LogRange { start: at, end: at };
        assert_eq!(fit(at, log), Fit::Within);
        assert_eq!(fit(before, log), Fit::Behind);
        assert_eq!(fit(after, log), Fit::Beyond);
        assert!(
            another("t", 0, after, None, Timestamp::EPOCH)
                .to_string()
                .contains("1970-01-01")
        );
        assert!(beyond("t", 0, after, at).to_string().contains("t[0]"));
        assert!(
            behind("t", 0, before, after)
                .to_string()
                .starts_with("2 records of t[0] (offsets 4 to 5)")
        );
    }
}

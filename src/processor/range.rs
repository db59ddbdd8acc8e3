//! A position must be within the log, or it is not this log's.

/// What a position means for a log that holds the offsets from `start` up to `end`.
#[derive(Debug, PartialEq, Eq)]
pub enum Fit {
    Within,
    /// So many records were deleted before they were counted.
    Behind(i64),
    Beyond,
}

/// Compares a position with its log.
pub fn fit(position: i64, start: i64, end: i64) -> Fit {
    if position > end {
        Fit::Beyond
    } else if position < start {
        Fit::Behind(start.saturating_sub(position))
    } else {
        Fit::Within
    }
}

/// Why the processor halts at a position beyond the end.
pub fn beyond(topic: &str, partition: i32, position: i64, end: i64) -> anyhow::Error {
    anyhow::anyhow!(
        "the stored position {position} of {topic}[{partition}] is beyond the end of the log, {end}: the topic was deleted \
         and created anew, or the cluster was restored. Nothing was read. Give the new topic another name and set \
         --topic, or restore the log"
    )
}

/// Why the processor halts at a position before the oldest record.
pub fn behind(topic: &str, partition: i32, position: i64, start: i64) -> anyhow::Error {
    anyhow::anyhow!(
        "{} records of {topic}[{partition}] (offsets {position} to {}) were deleted by retention before they were counted. \
         Nothing was skipped. Restore them, or start once with --accept-loss to go on from offset {start}",
        start.saturating_sub(position),
        start.saturating_sub(1)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions() {
        assert_eq!(fit(5, 5, 5), Fit::Within);
        assert_eq!(fit(4, 5, 5), Fit::Behind(1));
        assert_eq!(fit(6, 5, 5), Fit::Beyond);
        assert!(beyond("t", 0, 6, 5).to_string().contains("t[0]"));
        assert!(
            behind("t", 0, 4, 6)
                .to_string()
                .starts_with("2 records of t[0] (offsets 4 to 5)")
        );
    }
}

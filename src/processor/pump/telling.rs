//! What Kafka and people are told of what was committed.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rdkafka::consumer::CommitMode;

use super::Pump;
use crate::crash;
use crate::event::Count;
use crate::metrics;
use crate::progress::{BOARD, Cause, Side};
use crate::time::{Length, Timestamp};

/// How often Kafka is told the offsets.
const OFFSET_COMMIT_INTERVAL: Duration = Duration::from_millis(500);
/// How often it is told them again. Its answer is not heard, and a broker that was away when they were
/// told has taken none; where nothing more comes, lag tools would show a lag for ever.
const OFFSETS_REPEATED: Duration = Duration::from_secs(5);

/// How often it is shown what is in the way of reading.
const ENDS_SHOWN: Duration = Duration::from_millis(500);

impl Pump<'_> {
    /// Tells Kafka the offsets, people what was done, and everybody whether brokers are there.
    pub(super) fn tell(&mut self) {
        let interval = if self.untold {
            OFFSET_COMMIT_INTERVAL
        } else {
            OFFSETS_REPEATED
        };
        if !self.committed.is_empty() && self.offsets_told.elapsed() >= interval {
            crash::point("before-kafka-commit");
            self.member
                .commit_offsets(&self.committed, CommitMode::Async);
            crash::point("after-kafka-commit");
            self.untold = false;
            self.offsets_told = Instant::now();
        }
        let (member, assigned) = (&self.member, &self.assigned);
        self.reporter.line(|| {
            let ends = member.ends();
            let lags = assigned
                .iter()
                .map(|(p, a)| Some(ends.get(p)?.since(a.next_offset()).max(Count::ZERO)));
            lags.sum::<Option<Count>>()
        });
        if self.ends_shown.elapsed() >= ENDS_SHOWN {
            self.ends_shown = Instant::now();
            self.show();
        }
    }

    /// Shows where the logs end, and what is in the way of reading them.
    fn show(&mut self) {
        BOARD.ends(&self.member.ends());
        self.show_schemas();
        let ours: Vec<i32> = self.claims.ours().collect();
        let brokers = &self.settings.cluster.brokers;
        if !self.member.reachable() {
            let mut message = format!("no Kafka broker can be reached at {brokers}");
            self.no_broker
                .failed(format_args!("{message}; retrying until one answers"));
            if let Some(why) = self.member.refused() {
                message = format!("Kafka at {brokers}: {why}");
                self.refused
                    .failed(format_args!("{message}; retrying until it lets us in"));
            }
            BOARD.waits(&ours, Side::Log, &Cause::new("kafka", message.as_str()));
            BOARD.outside(Cause::new("kafka", message));
            self.is_away = true;
            return;
        }
        self.no_broker.ended(format_args!("Kafka is back"));
        self.refused.ended(format_args!("Kafka lets us in again"));
        self.show_outside();
        if std::mem::take(&mut self.is_away) {
            BOARD.clear(&ours, Side::Log);
        }
        let named = |partitions: BTreeSet<i32>, word: &str, message: &str| {
            let partitions: Vec<i32> = partitions.into_iter().collect();
            if !partitions.is_empty() {
                BOARD.waits(&partitions, Side::Log, &Cause::new(word, message));
            }
            partitions
        };
        let leaderless = named(
            self.member.leaderless(),
            "no_leader",
            "the partition has no leader: a broker that holds it must come back",
        );
        let held_back = named(
            self.member.held_back(),
            "transaction",
            "a producer's transaction is open, and what comes after its beginning may not be read before it ends",
        );
        let now: BTreeSet<i32> = leaderless.into_iter().chain(held_back).collect();
        let over: Vec<i32> = self.named.difference(&now).copied().collect();
        BOARD.clear(&over, Side::Log);
        self.named = now;
    }

    /// The log's clock against ours: a record cannot be of the future.
    pub(super) fn compare_clocks(&mut self, stamp: Timestamp, now: Timestamp) {
        let ahead = (stamp - now).max(Length::default());
        metrics::CLOCK_SKEW
            .with_label_values(&["records"])
            .set(-(ahead.get() as f64) / 1e6);
        if ahead > Length::MINUTE {
            self.clock_behind.failed(format_args!(
                "records are stamped {} s ahead of this machine's clock: set it right (NTP), or that of their producers",
                ahead.get() / Length::SECOND.get()
            ));
        } else {
            self.clock_behind.ended(format_args!(
                "records are no longer stamped ahead of this machine's clock,"
            ));
        }
    }
}

//! What Kafka and people are told of what was committed.

use std::time::{Duration, Instant};

use rdkafka::consumer::CommitMode;

use super::Pump;
use crate::event::Count;
use crate::{crash, metrics};

/// How often Kafka is told the offsets.
const OFFSET_COMMIT_INTERVAL: Duration = Duration::from_millis(500);
/// How often it is told them again. Its answer is not heard, and a broker that was away when they were
/// told has taken none; where nothing more comes, lag tools would show a lag for ever.
const OFFSETS_REPEATED: Duration = Duration::from_secs(5);

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
            let ends = self.member.ends();
            for (partition, next) in &self.committed {
                if let Some(end) = ends.get(partition) {
                    metrics::LAG
                        .with_label_values(&[&partition.to_string()])
                        .set(end.since(*next).get().max(0));
                }
            }
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
        if self.member.reachable() {
            self.no_broker.ended(format_args!("Kafka is back"));
        } else {
            self.no_broker.failed(format_args!(
                "no Kafka broker can be reached at {}; retrying until one answers",
                self.settings.cluster.brokers
            ));
        }
    }
}

//! Asks Kafka what takes a while, on threads of its own, so that polling never waits: where logs begin and end, and
//! in which partition it is that something cannot be read.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use rdkafka::error::KafkaResult;

use crate::kafka::Cluster;
use crate::kafka::logs::{Log, Next};
use crate::offset::{LogRange, Offset};
use crate::progress::Cause;

/// How often what cannot be read is tried before it is believed, and how long apart.
const TRIES: usize = 3;
const BETWEEN_TRIES: Duration = Duration::from_secs(1);

/// What was found.
pub enum Found {
    /// What each log holds, or why that is not known.
    Ranges(BTreeMap<i32, Result<LogRange, Cause>>),
    /// What comes next in each, at the offset that was asked about, where that could be found out.
    Nexts(BTreeMap<i32, (Offset, Next)>),
}

/// See the module.
pub struct Scout {
    cluster: Cluster,
    topic: String,
    ranges: Sender<Vec<i32>>,
    outgoing: Sender<Found>,
    found: Receiver<Found>,
}

impl Scout {
    /// Starts one. Its threads end by themselves when it is dropped and what they ask is answered.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration, or the system gives us no thread.
    pub fn start(cluster: &Cluster, topic: &str) -> anyhow::Result<Scout> {
        let (ranges, asked) = channel::<Vec<i32>>();
        let (outgoing, found) = channel();
        let log = Log::of(cluster, topic)?;
        let answers = outgoing.clone();
        std::thread::Builder::new()
            .name("scout".into())
            .spawn(move || {
                for partitions in asked {
                    if answers
                        .send(Found::Ranges(log.ranges(&partitions)))
                        .is_err()
                    {
                        return;
                    }
                }
            })?;
        Ok(Scout {
            cluster: cluster.clone(),
            topic: topic.to_owned(),
            ranges,
            outgoing,
            found,
        })
    }

    /// Asks what these partitions' logs hold.
    pub fn ask_ranges(&self, partitions: Vec<i32>) {
        // The thread ends after us.
        let _ = self.ranges.send(partitions);
    }

    /// Asks what comes next in each.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration, or the system gives us no thread.
    pub fn ask_nexts(&self, offsets: BTreeMap<i32, Offset>) -> anyhow::Result<()> {
        let log: KafkaResult<Log> = Log::of(&self.cluster, &self.topic);
        let (log, answers) = (log?, self.outgoing.clone());
        let look = move || {
            let nexts = offsets
                .into_iter()
                .map(|(p, offset)| (p, (offset, next(&log, p, offset))));
            // Nobody wants to know any more.
            let _ = answers.send(Found::Nexts(nexts.collect()));
        };
        std::thread::Builder::new()
            .name("scout-next".into())
            .spawn(look)?;
        Ok(())
    }

    /// What was found, if anything.
    pub fn found(&self) -> Option<Found> {
        self.found.try_recv().ok()
    }
}

/// What comes next in a log; what cannot be read is tried again, since a leader that moves may have it whole.
fn next(log: &Log, partition: i32, offset: Offset) -> Next {
    let mut next = log.next(partition, offset);
    for _ in 1..TRIES {
        if !matches!(next, Next::Unreadable(_)) {
            break;
        }
        std::thread::sleep(BETWEEN_TRIES);
        next = log.next(partition, offset);
    }
    next
}

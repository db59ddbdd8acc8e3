//! The consumer group's member: partitions come, wait for their positions, and go.
//!
//! Kafka says which partitions are ours; where to read from is PostgreSQL's to say. So an
//! assignment is acknowledged at once, inside the callback and without waiting for anything, but
//! nothing is fetched until [`Member::start`] is called with the stored position. Where databases are divided, those of other
//! ranges are acknowledged too, and nobody hears of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::Statistics;
use rdkafka::TopicPartitionList;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::statistics;
use rdkafka::types::RDKafkaRespErr;

use super::refused::Why;
use super::{Cluster, failure, log_librdkafka, topic};
use crate::crash;
use crate::offset::{LogRange, Offset};
use crate::progress::Cause;
use crate::shard::Shard;

/// The longest time between two heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Kilobytes of records that are read ahead.
const READ_AHEAD: u64 = 32 << 10;

/// A change of what the group has given us.
#[derive(Debug)]
pub enum Rebalance {
    /// These partitions are ours; nothing is fetched before [`Member::start`].
    Assigned(Vec<i32>),
    /// These are not any more; fetching has stopped.
    Revoked(Vec<i32>),
}

/// What librdkafka complains of that names no partition. It says it once, until something else is wrong.
#[derive(Clone, Debug)]
pub struct Complaint {
    pub code: RDKafkaErrorCode,
    pub reason: String,
    pub at: Instant,
}

/// What the callbacks leave for the loop to find.
#[derive(Default)]
struct State {
    events: Vec<Rebalance>,
    /// Partitions that are being fetched.
    started: BTreeSet<i32>,
    /// Whether those are paused.
    paused: bool,
    /// The log's end by partition, as of the last statistics.
    ends: BTreeMap<i32, Offset>,
    /// Those partitions that have no leader, and those whose end an open transaction holds back.
    leaderless: BTreeSet<i32>,
    held_back: BTreeSet<i32>,
    /// Whether we are in the group, and it is not about to change.
    group_works: bool,
    /// What librdkafka last complained of.
    complaint: Option<Complaint>,
    /// What it last logged of a connection that failed.
    failure: Option<String>,
    /// Statistics in a row without a broker that is up.
    silent_seconds: u32,
}

/// The callbacks of librdkafka. They run inside `poll` and must not wait.
pub struct Context {
    topic: String,
    /// The range that is counted; none: all.
    shard: Option<Shard>,
    state: Mutex<State>,
}

impl Context {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a partition is ours to hear of: one of the range, or one that the topic did not have when it was divided.
    fn concerns(&self, partition: i32) -> bool {
        let concerns = |shard: Shard| shard.has(partition) || partition >= shard.of();
        self.shard.is_none_or(concerns)
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_librdkafka(level, facility, message);
        // A broker that just hangs up is no error to librdkafka, though that may be all it says to who comes without TLS.
        if let Some(failure) = failure(facility, message) {
            self.state().failure = Some(failure);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // Whether brokers can be reached is told once, from the statistics; of the error that a poll returns next,
        // this is the reason.
        log::debug!(target: "librdkafka", "{error}: {reason}");
        // That all brokers are down comes after what each of them has said.
        let code = error.rdkafka_error_code();
        if let Some(code) = code.filter(|code| *code != RDKafkaErrorCode::AllBrokersDown) {
            // That no token came is in no line about a connection: without one, none is made.
            if code == RDKafkaErrorCode::Authentication {
                self.state().failure = Some(reason.to_owned());
            }
            self.state().complaint = Some(Complaint {
                code,
                reason: reason.to_owned(),
                at: Instant::now(),
            });
        }
    }

    fn stats(&self, statistics: Statistics) {
        let mut state = self.state();
        let up = statistics.brokers.values().any(|b| b.state == "UP");
        state.silent_seconds = if up {
            0
        } else {
            state.silent_seconds.saturating_add(1)
        };
        let group = statistics.cgrp.as_ref();
        state.group_works = group.is_some_and(|g| g.state == "up" && g.join_state == "steady");
        if let Some(topic) = statistics.topics.get(&self.topic) {
            state.ends = topic
                .partitions
                .iter()
                .filter(|(_, p)| p.hi_offset >= 0)
                .map(|(&id, p)| (id, Offset::new(p.hi_offset)))
                .collect();
            let that = |is: fn(&statistics::Partition) -> bool| {
                let partitions = topic.partitions.iter();
                partitions
                    .filter(|(_, p)| is(p))
                    .map(|(&id, _)| id)
                    .collect()
            };
            state.leaderless = that(|p| p.desired && p.leader < 0);
            state.held_back =
                that(|p| (0..p.hi_offset).contains(&p.ls_offset) && p.next_offset == p.ls_offset);
        }
    }
}

impl ConsumerContext for Context {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        err: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let ids = || {
            partitions
                .elements()
                .iter()
                .map(|e| e.partition())
                .filter(|id| self.concerns(*id))
                .collect::<Vec<_>>()
        };
        let acknowledged = match err {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                crash::point("on-assign");
                self.state().events.push(Rebalance::Assigned(ids()));
                // Nothing to fetch yet: positions are asked for outside of this callback.
                consumer.incremental_assign(&TopicPartitionList::new())
            }
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => {
                crash::point("on-revoke");
                let mut stopping = TopicPartitionList::new();
                let mut state = self.state();
                for id in ids() {
                    if state.started.remove(&id) {
                        stopping.add_partition(&self.topic, id);
                    }
                }
                state.events.push(Rebalance::Revoked(ids()));
                let paused = state.paused;
                drop(state);
                stop_fetching(consumer, &stopping, paused)
            }
            other => {
                log::error!("the consumer group reported {other:?}");
                Ok(())
            }
        };
        if let Err(error) = acknowledged {
            log::error!("answering a rebalance failed: {error}");
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            log::debug!("Kafka did not take the offsets ({error}); PostgreSQL has the positions");
        }
    }
}

/// A partition that is paused stays so in librdkafka after it was taken from us, and nothing would be
/// fetched from it when it comes back.
fn stop_fetching(
    consumer: &BaseConsumer<Context>,
    partitions: &TopicPartitionList,
    paused: bool,
) -> KafkaResult<()> {
    if paused {
        consumer.resume(partitions)?;
    }
    consumer.incremental_unassign(partitions)
}

/// A member of the consumer group, subscribed to one topic.
pub struct Member {
    consumer: BaseConsumer<Context>,
    cluster: Cluster,
    topic: String,
}

impl Member {
    /// Joins `group` for `topic`, of whose partitions it hears of those in the range, if there is one. A member that is silent
    /// for `session_timeout` is taken for dead. The process may use so many bytes of `memory`.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration.
    pub fn join(
        cluster: &Cluster,
        topic: &str,
        group: &str,
        shard: Option<Shard>,
        session_timeout: Duration,
        memory: u64,
    ) -> KafkaResult<Member> {
        let mut config = properties(cluster, group, session_timeout);
        // A sixteenth of the memory at most.
        let read_ahead = (memory >> 14).min(READ_AHEAD).to_string();
        set_default(
            &mut config,
            cluster,
            "queued.max.messages.kbytes",
            &read_ahead,
        );
        let context = Context {
            topic: topic.to_owned(),
            shard,
            state: Mutex::default(),
        };
        let consumer: BaseConsumer<Context> = config
            .create_with_context(context)
            .map_err(super::without_value)?;
        consumer.subscribe(&[topic])?;
        Ok(Member {
            consumer,
            cluster: cluster.clone(),
            topic: topic.to_owned(),
        })
    }

    /// The next record, or what happened instead, or nothing for `timeout`.
    pub fn poll(&self, timeout: Duration) -> Option<KafkaResult<BorrowedMessage<'_>>> {
        self.consumer.poll(timeout)
    }

    /// What the group has changed since the last call, in order.
    pub fn rebalances(&self) -> Vec<Rebalance> {
        std::mem::take(&mut self.consumer.context().state().events)
    }

    /// Starts fetching a partition at `offset`; fetching it already, it starts over there.
    ///
    /// # Errors
    /// When librdkafka refuses.
    pub fn start(&self, partition: i32, offset: Offset) -> KafkaResult<()> {
        self.stop(partition)?;
        let mut list = TopicPartitionList::new();
        let at = rdkafka::Offset::Offset(offset.get());
        list.add_partition_offset(&self.topic, partition, at)?;
        self.consumer.incremental_assign(&list)?;
        self.consumer.context().state().started.insert(partition);
        Ok(())
    }

    /// Stops fetching a partition, if it was fetched; it stays ours.
    ///
    /// # Errors
    /// When librdkafka refuses.
    pub fn stop(&self, partition: i32) -> KafkaResult<()> {
        if self.consumer.context().state().started.remove(&partition) {
            let mut list = TopicPartitionList::new();
            list.add_partition(&self.topic, partition);
            let paused = self.consumer.context().state().paused;
            stop_fetching(&self.consumer, &list, paused)?;
        }
        Ok(())
    }

    /// Pauses or resumes all that is being fetched. While paused, `poll` still keeps us in the group.
    ///
    /// # Errors
    /// When librdkafka refuses.
    pub fn pause(&self, pause: bool) -> KafkaResult<()> {
        let mut list = TopicPartitionList::new();
        {
            let mut state = self.consumer.context().state();
            state.paused = pause;
            for &partition in &state.started {
                list.add_partition(&self.topic, partition);
            }
        }
        if pause {
            self.consumer.pause(&list)
        } else {
            self.consumer.resume(&list)
        }
    }

    /// What each partition's log holds, or why that is not known.
    pub fn log_ranges(&self, partitions: &[i32]) -> BTreeMap<i32, Result<LogRange, Cause>> {
        topic::ranges(&self.consumer, &self.topic, partitions)
    }

    /// The offset after all that was polled of a partition since it was started: after markers of transactions too,
    /// which come with a poll and are no records.
    pub fn position(&self, partition: i32) -> Option<Offset> {
        let positions = self.consumer.position().ok()?;
        match positions.find_partition(&self.topic, partition)?.offset() {
            rdkafka::Offset::Offset(position) => Some(Offset::new(position)),
            _ => None,
        }
    }

    /// The end of each partition's log, as of the last second.
    pub fn ends(&self) -> BTreeMap<i32, Offset> {
        self.consumer.context().state().ends.clone()
    }

    /// Those partitions that have no leader, as of the last second.
    pub fn leaderless(&self) -> BTreeSet<i32> {
        self.consumer.context().state().leaderless.clone()
    }

    /// Those of which all was read but what an open transaction holds back.
    pub fn held_back(&self) -> BTreeSet<i32> {
        self.consumer.context().state().held_back.clone()
    }

    /// Whether we are in the group, and it is not about to change, as of the last second.
    pub fn group_works(&self) -> bool {
        self.consumer.context().state().group_works
    }

    /// Has librdkafka look at all topics there are: it notices one that was created since only then, or after its
    /// next refresh.
    pub fn look_around(&self) {
        // What fails here is noticed by whoever asks next.
        let _ = self.consumer.client().fetch_metadata(None, topic::TIMEOUT);
    }

    /// What librdkafka last complained of: of an error that was just polled, the reason.
    pub fn said(&self) -> Option<String> {
        Some(self.complaint()?.reason)
    }

    /// The same, with what it is and when it was said.
    pub fn complaint(&self) -> Option<Complaint> {
        self.consumer.context().state().complaint.clone()
    }

    /// Why a question to the cluster failed, and what to try.
    pub fn why(&self, error: &KafkaError) -> Why {
        let said = self.said().or_else(|| self.failure());
        topic::why(error, &self.topic, &self.cluster, said)
    }

    fn failure(&self) -> Option<String> {
        self.consumer.context().state().failure.clone()
    }

    /// Why no broker can be reached, if there is something to set.
    pub fn refused(&self) -> Option<Why> {
        let why = Why::at_once(self.failure()?);
        why.advice.is_some().then_some(why)
    }

    /// Whether a broker could be reached within the last seconds; a reconnection is no outage.
    pub fn reachable(&self) -> bool {
        self.consumer.context().state().silent_seconds < 3
    }

    /// The partitions of the topic, of whichever range.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub fn partitions(&self) -> KafkaResult<Vec<i32>> {
        topic::partitions(self.consumer.client(), &self.topic)
    }

    /// The cluster's own id.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub fn cluster_id(&self) -> KafkaResult<String> {
        topic::cluster_id(self.consumer.client())
    }

    /// Tells Kafka how far the partitions have been counted: a courtesy to lag tools. Partitions
    /// that are not ours any more are left out. `false` if the group did not take them, because it is
    /// rebalancing, for one: it may, once the member was polled a few times.
    pub fn commit_offsets(&self, next_offsets: &BTreeMap<i32, Offset>, mode: CommitMode) -> bool {
        let mut list = TopicPartitionList::new();
        {
            let state = self.consumer.context().state();
            for (&partition, &offset) in next_offsets {
                if state.started.contains(&partition) {
                    // Only a negative offset is refused.
                    let at = rdkafka::Offset::Offset(offset.get());
                    let _ = list.add_partition_offset(&self.topic, partition, at);
                }
            }
        }
        if list.count() > 0
            && let Err(error) = self.consumer.commit(&list, mode)
        {
            log::debug!("Kafka did not take the offsets ({error}); PostgreSQL has the positions");
            return false;
        }
        true
    }
}

/// The consumer's configuration. Public for the benchmark that holds the pipeline against a consumer
/// that does nothing else.
pub fn properties(cluster: &Cluster, group: &str, session_timeout: Duration) -> ClientConfig {
    let mut config = cluster.client();
    config
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true")
        // A batch whose bytes have changed must be an error, not other numbers.
        .set("check.crcs", "true")
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set(
            "session.timeout.ms",
            session_timeout.as_millis().to_string(),
        )
        // The answer to a heartbeat is also what tells a member to rebalance: a long session must not
        // make the others wait for their partitions.
        .set(
            "heartbeat.interval.ms",
            (session_timeout / 6).min(HEARTBEAT).as_millis().to_string(),
        )
        .set("statistics.interval.ms", "1000");
    // The default of a second leaves a fast consumer asleep most of the time.
    set_default(&mut config, cluster, "fetch.queue.backoff.ms", "1");
    // Read ahead of each partition: enough that a poll seldom waits, little enough for the memory bound, since
    // librdkafka needs several times a record's size for it.
    set_default(&mut config, cluster, "queued.min.messages", "20000");
    set_default(
        &mut config,
        cluster,
        "queued.max.messages.kbytes",
        &READ_AHEAD.to_string(),
    );
    config
}

fn set_default(config: &mut ClientConfig, cluster: &Cluster, key: &str, value: &str) {
    if !cluster.properties.iter().any(|(k, _)| k == key) {
        config.set(key, value);
    }
}

//! What every partition of this process is doing: changes are said, metrics set, and whoever asks is told.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::partition::{Obstacle, Patience, Progress};
use super::{Cause, Side, Standing, State};
use crate::event::Count;
use crate::metrics;
use crate::offset::Offset;

#[derive(Default)]
struct Inner {
    topic: String,
    patience: Patience,
    partitions: BTreeMap<i32, Progress>,
    /// Why no partition is ours, and the word for it that was said to be a standstill.
    outside: Option<Obstacle>,
    outside_said: Option<String>,
}

/// What every partition of this process is doing.
#[derive(Default)]
pub struct Board(Mutex<Inner>);

/// Of this process.
pub static BOARD: LazyLock<Board> = LazyLock::new(Board::default);

impl Board {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to follow a topic, of which nothing is ours yet. Whoever waits for `standstill` stands still.
    pub fn begin(&self, topic: &str, standstill: Duration) {
        let mut inner = self.lock();
        inner.partitions.keys().for_each(|&p| forget(p));
        *inner = Inner {
            topic: topic.to_owned(),
            patience: standstill.into(),
            ..Inner::default()
        };
    }

    /// A partition is ours.
    pub fn assigned(&self, partition: i32) {
        let now = Instant::now();
        let mut inner = self.lock();
        inner.outside = None;
        inner.outside_said = None;
        let progress = inner.partitions.entry(partition);
        progress.or_insert_with(|| Progress::new(now));
    }

    /// It is claimed anew, and what was known of it is not so any more.
    pub fn restart(&self, partition: i32) {
        if let Some(progress) = self.lock().partitions.get_mut(&partition) {
            progress.next = None;
            progress.obstacles.remove(&Side::Log);
        }
    }

    /// It is not any more.
    pub fn revoked(&self, partition: i32) {
        self.lock().partitions.remove(&partition);
        forget(partition);
    }

    /// No partition is ours, and that is why.
    pub fn outside(&self, cause: Cause) {
        let obstacle = Obstacle {
            cause,
            since: Instant::now(),
            stops: false,
        };
        let mut inner = self.lock();
        if inner.partitions.is_empty() {
            obstacle.put(&mut inner.outside);
        }
    }

    /// The group works, whatever it has given us: what kept us out of it is over.
    pub fn group_works(&self) {
        let mut inner = self.lock();
        if inner
            .outside
            .as_ref()
            .is_some_and(|o| o.cause.word != "no_topic")
        {
            inner.outside = None;
            inner.outside_said = None;
        }
    }

    /// It has been counted up to here.
    pub fn counted(&self, partition: i32, next: Offset) {
        if let Some(progress) = self.lock().partitions.get_mut(&partition) {
            progress.counted(next, Instant::now());
        }
    }

    /// The logs end here.
    pub fn ends(&self, ends: &BTreeMap<i32, Offset>) {
        let mut inner = self.lock();
        for (partition, progress) in &mut inner.partitions {
            if let Some(end) = ends.get(partition) {
                progress.end = Some(*end);
            }
        }
    }

    /// Something is in the way of partitions, and may go by itself.
    pub fn waits(&self, partitions: &[i32], side: Side, cause: &Cause) {
        self.put(partitions, side, cause, false);
    }

    /// Something is in the way of partitions, and a person must see to it.
    pub fn stops(&self, partitions: &[i32], side: Side, cause: &Cause) {
        self.put(partitions, side, cause, true);
    }

    fn put(&self, partitions: &[i32], side: Side, cause: &Cause, stops: bool) {
        let now = Instant::now();
        let mut inner = self.lock();
        for partition in partitions {
            if let Some(progress) = inner.partitions.get_mut(partition) {
                let obstacle = Obstacle {
                    cause: cause.clone(),
                    since: now,
                    stops,
                };
                let mut place = progress.obstacles.remove(&side);
                obstacle.put(&mut place);
                progress.obstacles.extend(place.map(|o| (side, o)));
            }
        }
    }

    /// What they waited for there is over. What has stopped them stays.
    pub fn clear(&self, partitions: &[i32], side: Side) {
        self.remove(partitions, side, |obstacle| !obstacle.stops);
    }

    /// Nothing is in the way of them there any more, not even what had stopped them.
    pub fn release(&self, partitions: &[i32], side: Side) {
        self.remove(partitions, side, |_| true);
    }

    fn remove(&self, partitions: &[i32], side: Side, which: fn(&Obstacle) -> bool) {
        let mut inner = self.lock();
        for partition in partitions {
            if let Some(progress) = inner.partitions.get_mut(partition)
                && progress.obstacles.get(&side).is_some_and(which)
            {
                progress.obstacles.remove(&side);
            }
        }
    }

    /// Those that wait for something between the log and us.
    pub fn waiting_for_log(&self) -> Vec<i32> {
        let inner = self.lock();
        let waits = |p: &Progress| {
            p.obstacles.get(&Side::Log).is_some_and(|o| !o.stops)
                || p.stalled(Instant::now()) >= inner.patience.standstill
        };
        let waiting = inner.partitions.iter().filter(|(_, p)| waits(p));
        waiting.map(|(&partition, _)| partition).collect()
    }

    /// The next offset to count of each, as it was committed.
    pub fn positions(&self) -> BTreeMap<i32, Offset> {
        let inner = self.lock();
        let position =
            |(&partition, progress): (&i32, &Progress)| Some((partition, progress.next?));
        inner.partitions.iter().filter_map(position).collect()
    }

    /// What each is doing, and if none is ours, why.
    pub fn standings(&self) -> (Vec<Standing>, Option<Standing>) {
        let now = Instant::now();
        let inner = self.lock();
        let standing = |(&partition, progress): (&i32, &Progress)| {
            let (state, since, cause) = progress.state(now, inner.patience);
            let lasted = now.saturating_duration_since(since);
            Standing {
                partition,
                state,
                lasted,
                cause,
                is_still: inner.patience.is_still(state, lasted),
                end: progress.end,
            }
        };
        let outside = inner.outside.as_ref().map(|obstacle| {
            let lasted = now.saturating_duration_since(obstacle.since);
            Standing {
                partition: 0,
                state: obstacle.state(),
                lasted,
                cause: Some(obstacle.cause.clone()),
                is_still: inner.patience.is_still(obstacle.state(), lasted),
                end: None,
            }
        });
        (inner.partitions.iter().map(standing).collect(), outside)
    }

    /// Those that stand still.
    pub fn still(&self) -> Vec<Standing> {
        let (standings, outside) = self.standings();
        let all = standings.into_iter().chain(outside);
        all.filter(|standing| standing.is_still).collect()
    }

    /// Records of each partition that are not yet counted; empty in a process that does not count.
    pub fn lags(&self) -> BTreeMap<i32, Count> {
        let inner = self.lock();
        let lag = |(&partition, progress): (&i32, &Progress)| Some((partition, progress.lag()?));
        inner.partitions.iter().filter_map(lag).collect()
    }

    /// Looks again: says what has changed, and sets the metrics. To be called about once a second.
    pub fn look(&self) {
        let now = Instant::now();
        let mut inner = self.lock();
        let patience = inner.patience;
        let mut changes: BTreeMap<Change, Vec<i32>> = BTreeMap::new();
        let mut still: BTreeMap<String, i64> = BTreeMap::new();
        for (&partition, progress) in &mut inner.partitions {
            progress.look(now);
            let (state, since, cause) = progress.state(now, patience);
            let word = cause.as_ref().map(|c| c.word.clone());
            let is_still = patience.is_still(state, now.saturating_duration_since(since));
            if (state, &word) != (progress.said.0, &progress.said.2) {
                let lasted = now.saturating_duration_since(progress.said.1).as_secs();
                let before = (progress.said.0, progress.said.2.take(), lasted);
                let change = Change::To(state, cause.clone().map(|c| (c.word, c.message)), before);
                changes.entry(change).or_default().push(partition);
                progress.said = (state, now, word.clone());
                progress.said_still = state == State::Stopped;
            }
            if is_still && !progress.said_still {
                let (word, message) = cause.map(|c| (c.word, c.message)).unwrap_or_default();
                let change = Change::Still(word, message);
                changes.entry(change).or_default().push(partition);
                progress.said_still = true;
            }
            if is_still {
                *still.entry(word.unwrap_or_default()).or_default() += 1;
            }
            set_metrics(partition, state, progress, now);
        }
        if let Some(outside) = &inner.outside
            && now.saturating_duration_since(outside.since) >= patience.standstill
        {
            *still.entry(outside.cause.word.clone()).or_default() += 1;
            if inner.outside_said.as_ref() != Some(&outside.cause.word) {
                log::error!(
                    "no partition of {} is ours, standing still, waiting for {}: {}",
                    inner.topic,
                    outside.cause.word,
                    outside.cause.message
                );
                inner.outside_said = Some(outside.cause.word.clone());
            }
        }
        metrics::STANDSTILL.reset();
        for (cause, partitions) in still {
            metrics::STANDSTILL
                .with_label_values(&[&cause])
                .set(partitions);
        }
        for (change, partitions) in changes {
            change.say(&inner.topic, &partitions);
        }
    }
}

fn set_metrics(partition: i32, state: State, progress: &Progress, now: Instant) {
    let label = partition.to_string();
    if let Some(lag) = progress.lag() {
        metrics::LAG.with_label_values(&[&label]).set(lag.get());
    }
    let stalled = progress.stalled(now).as_secs_f64();
    metrics::STALLED.with_label_values(&[&label]).set(stalled);
    for each in State::ALL {
        let gauge = metrics::STATE.with_label_values(&[&label, each.as_str()]);
        gauge.set(i64::from(each == state));
    }
}

fn forget(partition: i32) {
    let label = partition.to_string();
    metrics::LAG.remove_label_values(&[&label]).ok();
    metrics::STALLED.remove_label_values(&[&label]).ok();
    for state in State::ALL {
        let labels = [label.as_str(), state.as_str()];
        metrics::STATE.remove_label_values(&labels).ok();
    }
}

/// What is to be said of partitions, of several at once.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    /// To this state, because of a word and what it means; from that one, which had this cause and lasted so long.
    To(
        State,
        Option<(String, String)>,
        (State, Option<String>, u64),
    ),
    /// It has waited too long.
    Still(String, String),
}

impl Change {
    fn say(&self, topic: &str, partitions: &[i32]) {
        match self {
            Change::To(State::Stopped, cause, _) => {
                let (word, message) = cause.clone().unwrap_or_default();
                log::error!("{topic}{partitions:?} stopped because of {word}: {message}");
            }
            Change::To(State::Waiting, cause, _) => {
                let (word, message) = cause.clone().unwrap_or_default();
                log::warn!("{topic}{partitions:?} waiting for {word}: {message}");
            }
            Change::To(state, _, (State::Waiting | State::Stopped, before, lasted)) => {
                let before = before.as_deref().unwrap_or_default();
                log::info!(
                    "{topic}{partitions:?} {}: counting goes on after {lasted} s ({before})",
                    state.as_str()
                );
            }
            Change::To(State::CatchingUp, ..) => {
                log::info!(
                    "{topic}{partitions:?} catching_up: there is more to read than can be counted at once"
                );
            }
            Change::To(state, _, (State::CatchingUp, _, lasted)) => {
                log::info!(
                    "{topic}{partitions:?} {}: caught up after {lasted} s",
                    state.as_str()
                );
            }
            // Between records of a quiet topic, many times a minute.
            Change::To(state, ..) => log::debug!("{topic}{partitions:?} {}", state.as_str()),
            Change::Still(word, message) => {
                log::error!("{topic}{partitions:?} standing still, waiting for {word}: {message}");
            }
        }
    }
}

//! What each partition of this process is doing, in one word. The processor says it; `/metrics`, `/readyz` and, through
//! the database, `/pipeline`, the page and `adflux doctor` show it.
//!
//! ```text
//! counting ◀──▶ catching_up      there is more to read, new or from a while ago
//!     ▲
//!     ▼
//!   idle                         all is counted
//!
//! waiting                        something is in the way, and may get out of it by itself
//! stopped                        something is in the way, and a person must see to it
//! ```
//!
//! No cause need be known: where there is more in the log than was counted and nothing moves, that is a standstill.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::event::Count;
use crate::metrics;
use crate::offset::Offset;

/// How long is long.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// What is in the way for less than this is not worth a word: a broker that moves, a connection made anew.
    brief: Duration,
    /// Who has not counted what was in the log so long ago is catching up.
    behind: Duration,
    /// Whoever waits for so long stands still.
    standstill: Duration,
}

impl From<Duration> for Patience {
    fn from(standstill: Duration) -> Patience {
        Patience {
            brief: standstill / 12,
            behind: standstill / 6,
            standstill,
        }
    }
}

/// Whoever waits for so long stands still, unless something else is said.
pub const STANDSTILL: Duration = Duration::from_secs(60);

impl Default for Patience {
    fn default() -> Patience {
        Patience::from(STANDSTILL)
    }
}

/// What a partition is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    Idle,
    Counting,
    CatchingUp,
    Waiting,
    Stopped,
}

impl State {
    /// All of them.
    pub const ALL: [State; 5] = [
        State::Idle,
        State::Counting,
        State::CatchingUp,
        State::Waiting,
        State::Stopped,
    ];

    /// As it is shown and stored.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Idle => "idle",
            State::Counting => "counting",
            State::CatchingUp => "catching_up",
            State::Waiting => "waiting",
            State::Stopped => "stopped",
        }
    }
}

/// What is in the way of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// One word, to count and to look up: the constraint that failed, `postgresql`, `no_leader`, …
    pub word: String,
    /// What it is in full, and what to do.
    pub message: String,
}

impl Cause {
    /// A cause.
    pub fn new(word: impl Into<String>, message: impl Into<String>) -> Cause {
        let (word, message) = (word.into(), message.into());
        Cause { word, message }
    }
}

/// Where something is in the way. What is cleared on one side leaves the other as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// Between the log and us.
    Log,
    /// Between us and the database.
    Database,
}

#[derive(Clone, Debug)]
struct Obstacle {
    cause: Cause,
    since: Instant,
    stops: bool,
}

impl Obstacle {
    /// Puts it in the way; the same one has been there since before.
    fn put(self, place: &mut Option<Obstacle>) {
        let since = match place {
            Some(there) if there.cause.word == self.cause.word && there.stops == self.stops => {
                there.since
            }
            _ => self.since,
        };
        *place = Some(Obstacle { since, ..self });
    }

    fn state(&self) -> State {
        if self.stops {
            State::Stopped
        } else {
            State::Waiting
        }
    }
}

/// What a partition is doing, since when, and why.
#[derive(Clone, Debug)]
pub struct Standing {
    pub partition: i32,
    pub state: State,
    pub lasted: Duration,
    pub cause: Option<Cause>,
    /// Whether it stands still: it is not counted, and that is not about to pass.
    pub is_still: bool,
    /// Where the log ends.
    pub end: Option<Offset>,
}

impl Patience {
    fn is_still(self, state: State, lasted: Duration) -> bool {
        state == State::Stopped || state == State::Waiting && lasted >= self.standstill
    }
}

/// How far a partition has come, and what is in its way.
#[derive(Debug)]
struct Progress {
    /// The next offset to count, and where the log ends, where these are known.
    next: Option<Offset>,
    end: Option<Offset>,
    /// When the position last moved, or there was nothing more to read.
    moved: Instant,
    /// All that was in the log then is counted.
    caught_up: Instant,
    /// Where the log ended at an instant after that.
    target: Option<(Offset, Instant)>,
    obstacles: BTreeMap<Side, Obstacle>,
    /// What was last said of it: the state, since when, and the cause's word.
    said: (State, Instant, Option<String>),
    /// Whether it was said that it stands still.
    said_still: bool,
}

impl Progress {
    fn new(now: Instant) -> Progress {
        Progress {
            next: None,
            end: None,
            moved: now,
            caught_up: now,
            target: None,
            obstacles: BTreeMap::new(),
            said: (State::Idle, now, None),
            said_still: false,
        }
    }

    fn has_more(&self) -> bool {
        match (self.next, self.end) {
            (Some(next), Some(end)) => next < end,
            // Nobody has seen it yet.
            (None, _) => true,
            (Some(_), None) => false,
        }
    }

    fn lag(&self) -> Option<Count> {
        Some(self.end?.since(self.next?).max(Count::ZERO))
    }

    fn counted(&mut self, next: Offset, now: Instant) {
        if self.next != Some(next) {
            self.next = Some(next);
            self.moved = now;
            // What waited goes on.
            self.obstacles.retain(|_, obstacle| obstacle.stops);
        }
    }

    fn look(&mut self, now: Instant) {
        if !self.has_more() {
            self.moved = now;
            self.caught_up = now;
            self.target = None;
            return;
        }
        // A busy log is never counted to its end, only to where it ended a moment ago.
        if let (Some(next), Some((end, at))) = (self.next, self.target)
            && next >= end
        {
            self.caught_up = at;
            self.target = None;
        }
        if self.target.is_none() {
            self.target = self.end.map(|end| (end, now));
        }
    }

    /// How long nothing has moved although there was more to read.
    fn stalled(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.moved)
    }

    /// What it is doing, since when, and why.
    fn state(&self, now: Instant, patience: Patience) -> (State, Instant, Option<Cause>) {
        let lasting =
            |o: &&Obstacle| o.stops || now.saturating_duration_since(o.since) >= patience.brief;
        let worst = self
            .obstacles
            .values()
            .filter(lasting)
            .max_by_key(|o| o.stops);
        if let Some(obstacle) = worst {
            return (
                obstacle.state(),
                obstacle.since,
                Some(obstacle.cause.clone()),
            );
        }
        if !self.has_more() {
            return (State::Idle, self.caught_up, None);
        }
        if self.stalled(now) >= patience.standstill {
            let cause = Cause::new("unknown", self.unexplained());
            return (State::Waiting, self.moved, Some(cause));
        }
        if now.saturating_duration_since(self.caught_up) >= patience.behind {
            (State::CatchingUp, self.caught_up, None)
        } else {
            (State::Counting, self.caught_up, None)
        }
    }

    fn unexplained(&self) -> String {
        let show = |offset: Option<Offset>| offset.map_or("?".to_owned(), |o| o.to_string());
        format!(
            "the log goes up to {}, and counting does not get past {}. Nobody said why: see what librdkafka says with \
             RUST_LOG=info,librdkafka=debug, and whether the broker can read this partition",
            show(self.end),
            show(self.next)
        )
    }
}

#[derive(Default)]
struct Inner {
    topic: String,
    patience: Patience,
    partitions: BTreeMap<i32, Progress>,
    /// Why no partition is ours, and the word for it that was said.
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
        let word = inner.outside.as_ref().map(|o| o.cause.word.clone());
        if word != inner.outside_said {
            match &inner.outside {
                Some(Obstacle { cause, .. }) => log::warn!(
                    "no partition of {} is ours, waiting for {}: {}",
                    inner.topic,
                    cause.word,
                    cause.message
                ),
                None => log::info!("partitions of {} are ours", inner.topic),
            }
            inner.outside_said = word;
        }
        if let Some(outside) = &inner.outside
            && now.saturating_duration_since(outside.since) >= patience.standstill
        {
            *still.entry(outside.cause.word.clone()).or_default() += 1;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn after(seconds: u64, start: Instant) -> Instant {
        start + Duration::from_secs(seconds)
    }

    fn progress(start: Instant, next: i64, end: i64) -> Progress {
        let mut progress = Progress::new(start);
        progress.counted(Offset::new(next), start);
        progress.end = Some(Offset::new(end));
        progress
    }

    fn state(progress: &mut Progress, now: Instant) -> (State, Option<String>) {
        progress.look(now);
        let (state, _, cause) = progress.state(now, Patience::default());
        (state, cause.map(|c| c.word))
    }

    #[test]
    fn a_partition_counts_then_catches_up_then_is_idle() {
        let start = Instant::now();
        let mut p = progress(start, 5, 10);
        assert_eq!(state(&mut p, start).0, State::Counting);
        p.counted(Offset::new(7), after(9, start));
        assert_eq!(state(&mut p, after(11, start)).0, State::CatchingUp);
        // A busy one that keeps up.
        p.counted(Offset::new(9), after(12, start));
        p.end = Some(Offset::new(20));
        assert_eq!(state(&mut p, after(12, start)).0, State::CatchingUp);
        p.counted(Offset::new(15), after(13, start));
        assert_eq!(state(&mut p, after(13, start)).0, State::CatchingUp);
        p.counted(Offset::new(20), after(14, start));
        p.end = Some(Offset::new(30));
        assert_eq!(state(&mut p, after(14, start)).0, State::Counting);
        p.end = Some(Offset::new(20));
        assert_eq!(state(&mut p, after(500, start)).0, State::Idle);
        p.end = Some(Offset::new(21));
        assert_eq!(
            state(&mut p, after(500, start)).0,
            State::Counting,
            "just now"
        );
    }

    #[test]
    fn more_to_read_and_no_progress_is_a_standstill_whatever_the_cause() {
        let start = Instant::now();
        let mut p = progress(start, 5, 10);
        assert_eq!(state(&mut p, after(59, start)).0, State::CatchingUp);
        let unknown = (State::Waiting, Some("unknown".to_owned()));
        assert_eq!(state(&mut p, after(60, start)), unknown);
        p.counted(Offset::new(6), after(61, start));
        assert_eq!(state(&mut p, after(62, start)).0, State::CatchingUp);
        // One that was assigned and never claimed.
        let mut p = Progress::new(start);
        assert_eq!(state(&mut p, after(60, start)), unknown);
    }

    #[test]
    fn what_is_in_the_way_is_named_once_it_lasts_and_the_worse_of_two_first() {
        let start = Instant::now();
        let mut p = progress(start, 10, 10);
        let put = |p: &mut Progress, side, word: &str, stops, since| {
            let cause = Cause::new(word, "");
            p.obstacles.insert(
                side,
                Obstacle {
                    cause,
                    since,
                    stops,
                },
            );
        };
        put(&mut p, Side::Log, "no_leader", false, start);
        assert_eq!(state(&mut p, after(4, start)).0, State::Idle);
        let named = |state, word: &str| (state, Some(word.to_owned()));
        assert_eq!(
            state(&mut p, after(5, start)),
            named(State::Waiting, "no_leader")
        );
        put(&mut p, Side::Database, "a_check", true, after(6, start));
        assert_eq!(
            state(&mut p, after(6, start)),
            named(State::Stopped, "a_check")
        );
        p.obstacles.clear();
        assert_eq!(state(&mut p, after(7, start)).0, State::Idle);
    }

    #[test]
    fn the_same_obstacle_has_been_there_since_it_came() {
        let start = Instant::now();
        let obstacle = |word: &str, since| Obstacle {
            cause: Cause::new(word, ""),
            since,
            stops: false,
        };
        let mut place = None;
        obstacle("a", start).put(&mut place);
        obstacle("a", after(9, start)).put(&mut place);
        assert_eq!(place.as_ref().map(|o| o.since), Some(start));
        obstacle("b", after(9, start)).put(&mut place);
        assert_eq!(place.map(|o| o.since), Some(after(9, start)));
    }
}

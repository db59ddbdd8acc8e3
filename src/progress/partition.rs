//! What one partition is doing, as a function of how far it has come, what is in its way, and the time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Cause, STANDSTILL, Side, State};
use crate::event::Count;
use crate::offset::Offset;

/// How long is long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// What is in the way for less than this is not worth a word: a broker that moves, a connection made anew.
    pub(super) brief: Duration,
    /// Who has not counted what was in the log so long ago is catching up.
    pub(super) behind: Duration,
    /// Whoever waits for so long stands still.
    pub(super) standstill: Duration,
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

impl Default for Patience {
    fn default() -> Patience {
        Patience::from(STANDSTILL)
    }
}

impl Patience {
    pub(super) fn is_still(self, state: State, lasted: Duration) -> bool {
        state == State::Stopped || state == State::Waiting && lasted >= self.standstill
    }
}

#[derive(Clone, Debug)]
pub(super) struct Obstacle {
    pub(super) cause: Cause,
    pub(super) since: Instant,
    pub(super) stops: bool,
}

impl Obstacle {
    /// Puts it in the way; the same one has been there since before.
    pub(super) fn put(self, place: &mut Option<Obstacle>) {
        let since = match place {
            Some(there) if there.cause.word == self.cause.word && there.stops == self.stops => {
                there.since
            }
            _ => self.since,
        };
        *place = Some(Obstacle { since, ..self });
    }

    pub(super) fn state(&self) -> State {
        if self.stops {
            State::Stopped
        } else {
            State::Waiting
        }
    }
}

/// How far a partition has come, and what is in its way.
#[derive(Debug)]
pub(super) struct Progress {
    /// The next offset to count, and where the log ends, where these are known.
    pub(super) next: Option<Offset>,
    pub(super) end: Option<Offset>,
    /// When the position last moved, or there was nothing more to read.
    pub(super) moved: Instant,
    /// All that was in the log then is counted.
    pub(super) caught_up: Instant,
    /// Where the log ended at an instant after that.
    pub(super) target: Option<(Offset, Instant)>,
    pub(super) obstacles: BTreeMap<Side, Obstacle>,
    /// What was last said of it: the state, since when, and the cause's word.
    pub(super) said: (State, Instant, Option<String>),
    /// Whether it was said that it stands still.
    pub(super) said_still: bool,
}

impl Progress {
    pub(super) fn new(now: Instant) -> Progress {
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

    pub(super) fn has_more(&self) -> bool {
        match (self.next, self.end) {
            (Some(next), Some(end)) => next < end,
            // Nobody has seen it yet.
            (None, _) => true,
            (Some(_), None) => false,
        }
    }

    pub(super) fn lag(&self) -> Option<Count> {
        Some(self.end?.since(self.next?).max(Count::ZERO))
    }

    pub(super) fn counted(&mut self, next: Offset, now: Instant) {
        if self.next != Some(next) {
            self.next = Some(next);
            self.moved = now;
            // What waited goes on.
            self.obstacles.retain(|_, obstacle| obstacle.stops);
        }
    }

    pub(super) fn look(&mut self, now: Instant) {
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
    pub(super) fn stalled(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.moved)
    }

    /// What it is doing, since when, and why.
    pub(super) fn state(
        &self,
        now: Instant,
        patience: Patience,
    ) -> (State, Instant, Option<Cause>) {
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

    pub(super) fn unexplained(&self) -> String {
        let show = |offset: Option<Offset>| offset.map_or("?".to_owned(), |o| o.to_string());
        format!(
            "the log goes up to {}, and counting does not get past {}. Nobody said why: see what librdkafka says with \
             RUST_LOG=info,librdkafka=debug, and whether the broker can read this partition",
            show(self.end),
            show(self.next)
        )
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

//! Which cells make up windows, and few of them.
//!
//! A window is cut into pieces of the longest grains. Where one of them reaches past an end of the window by less than half,
//! it is taken nevertheless, and what is too much is taken away again: 23 hours are a day less one hour.
//!
//! A piece of a grain counts in the parts of that grain that are not fresh, and in all fresh parts of it and of shorter
//! grains. So for each kind of part there are stretches of time, each with the windows that a cell in it adds to, or is taken
//! from. Stretches that touch are one **range**: what a statement asks for at once.

use std::collections::BTreeMap;

use super::chunk::Cell;
use super::{Grain, Reach};
use crate::time::{Length, Timestamp};

/// A span of time, from `since` up to but not including `until`, both whole minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    since: Timestamp,
    until: Timestamp,
}

impl Window {
    /// The smallest window of whole minutes that holds `since` up to `until`; none if that is
    /// empty.
    pub fn covering(since: Timestamp, until: Timestamp) -> Option<Window> {
        (since < until).then(|| Window {
            since: since.floor(Length::MINUTE),
            until: until.ceil(Length::MINUTE),
        })
    }

    /// Those between cuts, which ascend, so that none is empty.
    pub fn between(cuts: &[Timestamp]) -> Vec<Option<Window>> {
        let windows = cuts.windows(2).filter_map(|ends| match ends {
            [since, until] => Window::covering(*since, *until),
            _ => None,
        });
        windows.map(Some).collect()
    }

    /// Its first microsecond.
    pub fn since(self) -> Timestamp {
        self.since
    }

    /// The first microsecond after it.
    pub fn until(self) -> Timestamp {
        self.until
    }
}

/// A stretch of time that is added or taken away, whole intervals of a grain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    grain: Grain,
    taken_away: bool,
    from: Timestamp,
    until: Timestamp,
}

fn pieces(
    from: Timestamp,
    until: Timestamp,
    grains: &[(Grain, Length)],
    taken_away: bool,
    out: &mut Vec<Piece>,
) {
    let [(grain, length), shorter @ ..] = grains else {
        return;
    };
    let (mut start, last) = (from.floor(*length), until.ceil(*length));
    while start < last {
        // Whole intervals in one go.
        let whole = (from <= start)
            .then(|| until.floor(*length))
            .filter(|end| *end > start);
        let end = whole.unwrap_or(start + *length);
        let inside = (from.max(start), until.min(end));
        if (inside.1 - inside.0).times(2) > end - start {
            out.push(Piece {
                grain: *grain,
                taken_away,
                from: start,
                until: end,
            });
            for (from, until) in [(start, inside.0), (inside.1, end)] {
                if from < until {
                    pieces(from, until, shorter, !taken_away, out);
                }
            }
        } else {
            pieces(inside.0, inside.1, shorter, taken_away, out);
        }
        start = end;
    }
}

/// How often a cell counts in a window: by number, and mostly once or less once.
type Effects = Vec<(u32, i8)>;

/// What is asked of one kind of part, without gaps.
#[derive(Clone, Debug, PartialEq)]
pub struct Range {
    pub grain: Grain,
    pub is_fresh: bool,
    pub since: Timestamp,
    pub until: Timestamp,
    /// From when on, what. All time has one.
    steps: Vec<(Timestamp, Effects)>,
}

impl Range {
    /// The windows that a cell counts in, and how often.
    pub fn effects(&self, cell: &Cell) -> &[(u32, i8)] {
        if self.grain == Grain::AllTime {
            return self.steps.first().map_or(&[], |(_, effects)| effects);
        }
        if cell.start >= self.until {
            return &[];
        }
        let behind = self.steps.partition_point(|(from, _)| *from <= cell.start);
        let step = behind.checked_sub(1).and_then(|at| self.steps.get(at));
        step.map_or(&[], |(_, effects)| effects)
    }
}

/// All that is asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub ranges: Vec<Range>,
}

/// Before and after all events, in times that PostgreSQL has.
const EVER: (Timestamp, Timestamp) = (
    Timestamp::new(-62_135_596_800_000_000),
    Timestamp::LAST_WRITTEN,
);

impl Plan {
    /// Of windows, numbered as they come; none stands for all time. `events`: when the first and the last of all happened, if
    /// that is known: where there is nothing, an end of a window is moved to where it is cheap.
    pub fn of(windows: &[Option<Window>], events: Option<(Timestamp, Timestamp)>) -> Plan {
        let grains: Vec<(Grain, Length)> = Grain::ALL
            .into_iter()
            .rev()
            .filter_map(|grain| Some((grain, grain.length()?)))
            .collect();
        let longest = grains.first().map_or(Length::DAY, |(_, length)| *length);
        let mut plan = Plan::default();
        // Of each kind of part, how its effects change in time.
        let mut changes: BTreeMap<(Grain, bool), BTreeMap<Timestamp, BTreeMap<u32, i32>>> =
            BTreeMap::new();
        let mut change = |kind, at, window, by| {
            *changes
                .entry(kind)
                .or_default()
                .entry(at)
                .or_default()
                .entry(window)
                .or_default() += by;
        };
        for (number, window) in (0..).zip(windows) {
            let Some(window) = window else {
                change((Grain::AllTime, false), EVER.0, number, 1);
                for grain in Grain::ALL
                    .into_iter()
                    .filter(|grain| *grain != Grain::AllTime)
                {
                    change((grain, true), EVER.0, number, 1);
                    change((grain, true), EVER.1, number, -1);
                }
                continue;
            };
            let (mut since, mut until) = (window.since, window.until);
            if let Some((first, last)) = events {
                if since <= first {
                    since = since.floor(longest).max(first.floor(Length::DAY));
                }
                if until > last {
                    until = until
                        .ceil(longest)
                        .min((last + Length::MICROSECOND).ceil(Length::DAY));
                }
            }
            let mut made = Vec::new();
            if since < until {
                pieces(since, until, &grains, false, &mut made);
            }
            for piece in made {
                let sign = if piece.taken_away { -1 } else { 1 };
                change((piece.grain, false), piece.from, number, sign);
                change((piece.grain, false), piece.until, number, -sign);
                for grain in Grain::ALL.into_iter().filter(|grain| *grain <= piece.grain) {
                    change((grain, true), piece.from, number, sign);
                    change((grain, true), piece.until, number, -sign);
                }
            }
        }
        for ((grain, is_fresh), changes) in changes {
            plan.add(grain, is_fresh, changes);
        }
        plan
    }

    /// Of the cells of a grain that begin in a window, one window.
    pub fn of_grain(grain: Grain, window: Window) -> Plan {
        let kinds = Grain::ALL.into_iter().filter(|shorter| *shorter <= grain);
        let kinds = kinds.map(|shorter| (shorter, true)).chain([(grain, false)]);
        let range = |(grain, is_fresh)| Range {
            grain,
            is_fresh,
            since: window.since,
            until: window.until,
            steps: vec![(window.since, vec![(0, 1)])],
        };
        Plan {
            ranges: kinds.map(range).collect(),
        }
    }

    fn add(
        &mut self,
        grain: Grain,
        is_fresh: bool,
        changes: BTreeMap<Timestamp, BTreeMap<u32, i32>>,
    ) {
        let mut now: BTreeMap<u32, i32> = BTreeMap::new();
        let mut range: Option<Range> = None;
        for (at, by) in changes {
            for (window, by) in by {
                *now.entry(window).or_default() += by;
            }
            now.retain(|_, times| *times != 0);
            if now.is_empty() {
                if let Some(mut range) = range.take() {
                    range.until = at;
                    self.ranges.push(range);
                }
                continue;
            }
            let effects = now
                .iter()
                .map(|(window, times)| (*window, *times as i8))
                .collect();
            let range = range.get_or_insert_with(|| Range {
                grain,
                is_fresh,
                since: at,
                until: EVER.1,
                steps: Vec::new(),
            });
            range.steps.push((at, effects));
        }
        self.ranges.extend(range);
    }

    /// The ranges as a statement asks for them: for each kind of window that parts of it may have, which windows.
    pub fn asked(&self) -> Asked {
        let mut asked = Asked::default();
        for (number, range) in (0..).zip(&self.ranges) {
            let mut ask = |reach: Reach, first: Timestamp, last: Timestamp| {
                asked.range.push(number);
                asked.grain.push(range.grain.number());
                asked.reach.push(reach.number());
                asked.first_window.push(first);
                asked.last_window.push(last);
                asked.since.push(range.since);
                asked.until.push(range.until);
            };
            if range.is_fresh {
                ask(Reach::Fresh, Timestamp::EPOCH, Timestamp::EPOCH);
                continue;
            }
            if range.grain == Grain::AllTime {
                ask(Reach::AllTime, Timestamp::EPOCH, Timestamp::EPOCH);
                continue;
            }
            let last = range.until - Length::MICROSECOND;
            for reach in Reach::WINDOWS {
                ask(reach, reach.window(range.since), reach.window(last));
            }
        }
        asked
    }
}

/// A [`Plan`] in columns, to be bound.
#[derive(Debug, Default)]
pub struct Asked {
    pub range: Vec<i32>,
    pub grain: Vec<i16>,
    pub reach: Vec<i16>,
    pub first_window: Vec<Timestamp>,
    pub last_window: Vec<Timestamp>,
    pub since: Vec<Timestamp>,
    pub until: Vec<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sums::chunk::Facts;
    use crate::totals::Totals;
    use proptest::prelude::*;

    const DAY: i64 = Length::DAY.get();

    fn cell(start: Timestamp) -> Cell {
        Cell {
            start,
            platform: 0,
            totals: Totals::default(),
            facts: Facts::NONE,
        }
    }

    /// How often an event at `time` counts in each window, if the part it is in is fresh and of this grain, or if it has been
    /// carried on to all longer ones.
    fn counted(plan: &Plan, time: Timestamp, fresh: Option<Grain>) -> BTreeMap<u32, i32> {
        let mut counted = BTreeMap::new();
        for range in &plan.ranges {
            let stands = match fresh {
                // In parts of all shorter grains it has been carried from.
                Some(grain) => {
                    (range.is_fresh && range.grain == grain)
                        || (!range.is_fresh && range.grain < grain)
                }
                None => !range.is_fresh,
            };
            let cell = cell(range.grain.start(time));
            if stands && (range.grain == Grain::AllTime || cell.start >= range.since) {
                for (window, times) in range.effects(&cell) {
                    *counted.entry(*window).or_default() += i32::from(*times);
                }
            }
        }
        counted.retain(|_, times| *times != 0);
        counted
    }

    proptest! {
        #[test]
        fn each_event_counts_once_in_the_windows_it_is_in_wherever_it_has_been_carried_to(
            spans in prop::collection::vec((
                0i64..2_000_000_000_000_000,
                prop_oneof![1i64..DAY / 6, 1i64..3 * DAY, 1i64..900 * DAY],
            ), 1..4),
            first in -100 * DAY..100 * DAY,
            last in -100 * DAY..900 * DAY,
            knows_events in any::<bool>(),
            fresh in prop::option::of(0usize..5),
            at in 0f64..1.0,
        ) {
            let after = Length::new;
            let windows: Vec<Window> = spans
                .iter()
                .filter_map(|(since, length)| {
                    let since = Timestamp::new(*since);
                    Window::covering(since, since + after(*length))
                })
                .collect();
            let since = windows[0].since();
            let events = (since + after(first), since + after(last.max(first)));
            let mut asked: Vec<Option<Window>> = windows.iter().copied().map(Some).collect();
            asked.push(None);
            let plan = Plan::of(&asked, knows_events.then_some(events));
            let fresh = fresh.map(|grain| Grain::ALL[grain]);
            let ends = windows.iter().flat_map(|w| [w.since(), w.until()]);
            let edges = ends.flat_map(|end| [end - Length::MICROSECOND, end]);
            let inner = events.0 + after(((events.1 - events.0).get() as f64 * at) as i64);
            for time in edges.chain([events.0, events.1, inner]) {
                if knows_events && !(events.0..=events.1).contains(&time) {
                    continue;
                }
                let mut expected: BTreeMap<u32, i32> = (0..)
                    .zip(&windows)
                    .filter(|(_, w)| (w.since()..w.until()).contains(&time))
                    .map(|(n, _)| (n, 1))
                    .collect();
                expected.insert(windows.len() as u32, 1);
                prop_assert_eq!(counted(&plan, time, fresh), expected, "{} {:?}", time, fresh);
            }
        }
    }

    #[test]
    fn a_year_is_a_few_cells() {
        // 2025 in UTC and in Berlin, on any other day too.
        let year = Timestamp::new(1_735_689_600_000_000);
        let starts = (0..64).map(|day| year + Length::DAY.times(day));
        for since in starts.flat_map(|utc| [utc, utc - Length::HOUR]) {
            let window = Window::covering(since, since + Length::DAY.times(365));
            let plan = Plan::of(&[window], None);
            let settled = plan.ranges.iter().filter(|range| !range.is_fresh);
            let cells = |range: &Range| {
                let length = range.grain.length().expect("not all time");
                let ends: Vec<Timestamp> = range
                    .steps
                    .iter()
                    .map(|(at, _)| *at)
                    .chain([range.until])
                    .collect();
                ends.windows(2)
                    .map(|two| (two[1] - two[0]) / length)
                    .sum::<i64>()
            };
            let cells: i64 = settled.map(cells).sum();
            assert!(cells <= 40, "{cells} a platform: {plan:?}");
        }
    }
}

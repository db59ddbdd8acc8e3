//! Which rows make up the sums of all campaigns over a window, and few of them.
//!
//! A window is cut into spans, days, hours and minutes, the longest first. Where one of them reaches past an end of
//! the window by less than half, it is taken nevertheless, and what is too much is taken away again: 23 hours are
//! a day less one hour.

use std::collections::HashSet;

use super::window::{Window, sql_time};
use crate::event::Platform;
use crate::store::read::spans;
use crate::store::sums::{Grain, TOTAL_TABLE};
use crate::time::{Length, Timestamp};

/// Where sums are: of stretches of equal length, aligned to 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    /// Spans of so many days.
    Spans(i32),
    Table(Grain),
}

impl Source {
    /// All, longest first.
    fn all() -> Vec<Source> {
        let spans = spans::LENGTHS.into_iter().map(Source::Spans);
        let tables = Grain::ALL.into_iter().rev().map(Source::Table);
        spans.chain(tables).collect()
    }

    fn length(self) -> Length {
        match self {
            Source::Spans(days) => Length::DAY.times(i64::from(days)),
            Source::Table(grain) => grain.length(),
        }
    }
}

/// A stretch of time whose sums are added or taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Piece {
    source: Source,
    take_away: bool,
    from: Timestamp,
    until: Timestamp,
}

/// What a window is made of.
#[derive(Default)]
pub(super) struct Cover(Vec<Piece>);

/// The range that spans are of use in: a span may reach past the ends of the window.
pub(super) fn range(window: Window) -> (Timestamp, Timestamp) {
    let sources = Source::all();
    let longest = sources
        .first()
        .map_or(Length::DAY, |source| source.length());
    (window.since().floor(longest), window.until().ceil(longest))
}

impl Cover {
    /// Of the spans that are `current` and the tables. `events` are the times of the first and of the last
    /// event: where there is nothing, an end of the window is moved to where it is cheap.
    pub fn of(
        window: Window,
        current: &HashSet<(i32, Timestamp)>,
        events: (Timestamp, Timestamp),
    ) -> Cover {
        let (lowest, highest) = range(window);
        let since = if window.since() <= events.0 {
            lowest.max(events.0.floor(Length::DAY))
        } else {
            window.since()
        };
        let until = if window.until() > events.1 {
            highest.min((events.1 + Length::MICROSECOND).ceil(Length::DAY))
        } else {
            window.until()
        };
        let mut cover = Cover::default();
        cover.add((since, until), &Source::all(), current, false);
        cover.join();
        cover
    }

    fn add(
        &mut self,
        (from, until): (Timestamp, Timestamp),
        sources: &[Source],
        current: &HashSet<(i32, Timestamp)>,
        take_away: bool,
    ) {
        let [source, finer @ ..] = sources else {
            return;
        };
        let length = source.length();
        let mut start = from.floor(length);
        while start < until {
            let end = start + length;
            let (first, last) = (from.max(start), until.min(end));
            let is_there = match *source {
                Source::Spans(days) => current.contains(&(days, start)),
                Source::Table(_) => true,
            };
            if is_there && (last - first).times(2) > length {
                self.0.push(Piece {
                    source: *source,
                    take_away,
                    from: start,
                    until: end,
                });
                self.add((start, first), finer, current, !take_away);
                self.add((last, end), finer, current, !take_away);
            } else {
                self.add((first, last), finer, current, take_away);
            }
            start = end;
        }
    }

    /// What lies side by side in one table becomes one piece.
    fn join(&mut self) {
        self.0.sort_unstable();
        self.0.dedup_by(|next, piece| {
            let joins = matches!(piece.source, Source::Table(_))
                && (piece.source, piece.take_away, piece.until)
                    == (next.source, next.take_away, next.from);
            if joins {
                piece.until = next.until;
            }
            joins
        });
    }

    /// The rows that make the window up, as a subquery with the columns of a sum, of some platforms; none
    /// named: of all. What was added and taken away leaves zeros. None if nothing can be in the window.
    pub fn sql(&self, platforms: &[Platform]) -> Option<String> {
        let chosen = of_platforms(platforms);
        let (of_table, of_span) = match &chosen {
            Some(chosen) => (chosen.as_str(), chosen.as_str()),
            None => ("true", "platform IS NULL"),
        };
        let together = |a: &Piece, b: &Piece| {
            matches!(a.source, Source::Spans(_))
                && (a.source, a.take_away) == (b.source, b.take_away)
        };
        // Numbers only, so nothing needs quoting.
        let parts = self.0.chunk_by(together).filter_map(|pieces| {
            let piece = pieces.first()?;
            let (table, condition) = match piece.source {
                Source::Spans(days) => {
                    let starts: Vec<String> = pieces.iter().map(|p| sql_time(p.from)).collect();
                    let starts = starts.join(", ");
                    (
                        "metrics_by_span",
                        format!("days = {days} AND start IN ({starts}) AND {of_span}"),
                    )
                }
                Source::Table(grain) => {
                    let (from, until) = (sql_time(piece.from), sql_time(piece.until));
                    let column = grain.column();
                    (
                        grain.table(),
                        format!("{column} >= {from} AND {column} < {until} AND {of_table}"),
                    )
                }
            };
            let sign = if piece.take_away { "-" } else { "" };
            Some(format!(
                "SELECT campaign_id, {sign}events AS events, {sign}impressions AS impressions, {sign}clicks AS clicks,
                     {sign}conversions AS conversions, {sign}cost_micros AS cost_micros,
                     {sign}revenue_micros AS revenue_micros FROM {table} WHERE {condition}"
            ))
        });
        let parts: Vec<String> = parts.collect();
        (!parts.is_empty()).then(|| parts.join(" UNION ALL "))
    }
}

/// All time, as [`Cover::sql`].
pub(super) fn all_time(platforms: &[Platform]) -> String {
    let chosen = of_platforms(platforms).unwrap_or_else(|| "true".to_owned());
    format!(
        "SELECT campaign_id, events, impressions, clicks, conversions, cost_micros, revenue_micros
         FROM {TOTAL_TABLE} WHERE {chosen}"
    )
}

/// The condition on the column; none if all are wanted. Numbers only, so nothing needs quoting.
fn of_platforms(platforms: &[Platform]) -> Option<String> {
    let indexes: Vec<String> = platforms.iter().map(|p| p.index().to_string()).collect();
    (!indexes.is_empty()).then(|| format!("platform IN ({})", indexes.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const DAY: i64 = Length::DAY.get();

    /// How often each instant is counted, as changes in time. Checks that there are rows for each piece.
    fn counted(cover: &Cover, current: &HashSet<(i32, Timestamp)>) -> BTreeMap<Timestamp, i64> {
        let mut changes = BTreeMap::new();
        for piece in &cover.0 {
            assert!(piece.from < piece.until, "{piece:?}");
            let length = piece.source.length();
            assert_eq!(piece.from, piece.from.floor(length), "{piece:?}");
            assert_eq!(piece.until, piece.until.floor(length), "{piece:?}");
            if let Source::Spans(days) = piece.source {
                assert!(current.contains(&(days, piece.from)), "{piece:?}");
                assert_eq!(piece.until - piece.from, length);
            }
            let sign = if piece.take_away { -1 } else { 1 };
            *changes.entry(piece.from).or_default() += sign;
            *changes.entry(piece.until).or_default() -= sign;
        }
        changes.retain(|_, change| *change != 0);
        changes
    }

    fn spans_of(window: Window, is_current: impl Fn(i64) -> bool) -> HashSet<(i32, Timestamp)> {
        let (from, until) = range(window);
        let all = spans::LENGTHS.into_iter().flat_map(|days| {
            let length = Length::DAY.times(i64::from(days)).get();
            let numbers = from.get() / length..until.get() / length;
            numbers.map(move |n| (days, Timestamp::new(n * length)))
        });
        all.filter(|(days, start)| is_current(i64::from(*days) + start.get() / DAY))
            .collect()
    }

    proptest! {
        #[test]
        fn a_cover_is_the_window_where_there_are_events(
            since in 0i64..2_000_000_000_000_000,
            length in prop_oneof![1i64..DAY / 6, 1i64..3 * DAY, 1i64..900 * DAY],
            one_in in 1i64..5,
            first in -100 * DAY..100 * DAY,
            last in -100 * DAY..900 * DAY,
        ) {
            let (since, after) = (Timestamp::new(since), Length::new);
            let window = Window::covering(since, since + after(length)).expect("not empty");
            let current = spans_of(window, |n| (n * 7_919 / 8) % one_in == 0);
            let events = (since + after(first), since + after(last.max(first)));
            let changes = counted(&Cover::of(window, &current, events), &current);
            // Once from the beginning of the window to its end, as far as there are events; elsewhere no matter.
            let at = |time: Timestamp| changes.range(..=time).map(|(_, change)| change).sum::<i64>();
            let edges = changes.keys().flat_map(|&edge| [edge - after(1), edge]);
            let ends = [window.since() - after(1), window.since(), window.until() - after(1), window.until(), events.0, events.1];
            for time in edges.chain(ends).filter(|t| (events.0..=events.1).contains(t)) {
                prop_assert_eq!(at(time), i64::from((window.since()..window.until()).contains(&time)));
            }
        }
    }

    #[test]
    fn a_year_is_a_few_pieces() {
        // 2025 in UTC and in Berlin, on any other day too.
        let year = Timestamp::new(1_735_689_600_000_000);
        let starts = (0..64).map(|day| year + Length::DAY.times(day));
        for since in starts.flat_map(|utc| [utc, utc - Length::HOUR]) {
            let window =
                Window::covering(since, since + Length::DAY.times(365)).expect("not empty");
            let events = (Timestamp::EPOCH, Timestamp::LAST_WRITTEN);
            let cover = Cover::of(window, &spans_of(window, |_| true), events);
            let rows = |piece: &Piece| match piece.source {
                Source::Spans(_) => 1,
                Source::Table(grain) => 4 * ((piece.until - piece.from) / grain.length()),
            };
            let rows: i64 = cover.0.iter().map(rows).sum();
            assert!(rows <= 54, "{rows} a campaign: {:?}", cover.0);
        }
    }

    #[test]
    fn what_is_still_to_come_costs_nothing() {
        // From midnight until ten in the morning, which is now: the day as it is so far.
        let start = Timestamp::EPOCH + Length::DAY.times(20_000);
        let now = start + Length::HOUR.times(10);
        let window = Window::covering(start, now).expect("not empty");
        let cover = Cover::of(
            window,
            &HashSet::new(),
            (Timestamp::EPOCH, now - Length::MICROSECOND),
        );
        let day = Piece {
            source: Source::Table(Grain::Day),
            take_away: false,
            from: start,
            until: start + Length::DAY,
        };
        assert_eq!(cover.0, [day]);
    }
}

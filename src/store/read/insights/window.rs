//! A span of time, and which rows of the projections make it up.
//!
//! A window is cut at days and hours, so that a year is read from 365 rows of `metrics_by_day` a
//! platform and only its ragged ends from hours and minutes.

use crate::store::sums::Grain;
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

    /// Its first microsecond.
    pub fn since(self) -> Timestamp {
        self.since
    }

    /// The first microsecond after it.
    pub fn until(self) -> Timestamp {
        self.until
    }

    /// The ranges of each table that make it up: whole days, whole hours before and after them,
    /// and whole minutes before and after those.
    pub(in crate::store) fn ranges(self) -> [(Grain, Timestamp, Timestamp); 5] {
        let inner = |(since, until): (Timestamp, Timestamp), grain: Grain| {
            let (start, end) = (since.ceil(grain.length()), until.floor(grain.length()));
            // Nothing whole inside: an empty range at the end, so that all of it is "before".
            if start < end {
                (start, end)
            } else {
                (until, until)
            }
        };
        let hours = inner((self.since, self.until), Grain::Hour);
        let days = inner(hours, Grain::Day);
        [
            (Grain::Day, days.0, days.1),
            (Grain::Hour, hours.0, days.0),
            (Grain::Hour, days.1, hours.1),
            (Grain::Minute, self.since, hours.0),
            (Grain::Minute, hours.1, self.until),
        ]
    }

    /// The rows that make it up, as a subquery with the columns of a sum; `condition` is
    /// added to each part.
    pub(in crate::store) fn sql(self, condition: &str) -> String {
        let parts: Vec<String> = self
            .ranges()
            .into_iter()
            .filter(|(_, from, to)| from < to)
            .map(|(grain, from, to)| {
                let (table, column) = (grain.table(), grain.column());
                format!(
                    "SELECT campaign_id, platform, events, impressions, clicks, conversions, cost_micros, revenue_micros
                     FROM {table} WHERE {column} >= {} AND {column} < {}{condition}",
                    sql_time(from),
                    sql_time(to),
                )
            })
            .collect();
        parts.join(" UNION ALL ")
    }
}

/// A time as SQL. Numbers only, so nothing needs quoting.
pub(super) fn sql_time(time: Timestamp) -> String {
    format!(
        "(timestamptz 'epoch' + interval '1 microsecond' * {})",
        time.get()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The parts are disjoint, aligned to their grain, and together are the window.
        #[test]
        fn ranges_make_up_the_window(since in 0i64..4_000_000_000_000_000, length in 1i64..90_000_000_000_000) {
            let (since, length) = (Timestamp::new(since), Length::new(length));
            let window = Window::covering(since, since + length).expect("not empty");
            prop_assert!(window.since() <= since && since + length <= window.until());
            prop_assert!(since - window.since() < Length::MINUTE);
            prop_assert!(window.until() - (since + length) < Length::MINUTE);
            let mut parts: Vec<_> = window.ranges().into_iter().filter(|(_, a, b)| a < b).collect();
            for (grain, from, to) in &parts {
                prop_assert_eq!(*from, from.floor(grain.length()));
                prop_assert_eq!(*to, to.floor(grain.length()));
            }
            parts.sort_by_key(|p| p.1);
            let mut at = window.since();
            for (_, from, to) in parts {
                prop_assert_eq!(from, at);
                at = to;
            }
            prop_assert_eq!(at, window.until());
        }
    }

    #[test]
    fn an_empty_window_is_none() {
        let time = Timestamp::new;
        assert_eq!(Window::covering(time(5), time(5)), None);
        assert_eq!(Window::covering(time(6), time(5)), None);
    }
}

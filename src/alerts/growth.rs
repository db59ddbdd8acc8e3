//! By how much the days of a campaign will still grow that its platform restates: what `expected` adds to what is known. Pure.

use std::collections::BTreeMap;

use chrono::NaiveDate;

use super::calendar::Calendar;
use crate::event::{Conversions, Counts, MILLION, Money};
use crate::expected::Expected;
use crate::expected::account::Developments;
use crate::store::read::growth::KnownDay;
use crate::time::Timestamp;
use crate::totals::Totals;
use crate::totals::metric::Sums;

/// See the module.
#[derive(Clone, Debug)]
pub struct Growth {
    calendar: Calendar,
    /// When the platform was last asked about the campaign.
    asked: Timestamp,
    days: BTreeMap<NaiveDate, More>,
}

/// How much more a day will have than is known of it; none: nobody can say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct More {
    conversions: Option<Conversions>,
    revenue: Option<Money>,
}

impl Growth {
    /// Of what is known of days at `now`, and how those of the account grow, if that can be said.
    pub fn of(
        days: &[KnownDay],
        developments: Option<&Developments>,
        calendar: Calendar,
        asked: Timestamp,
        now: Timestamp,
    ) -> Growth {
        let settled = calendar.date(calendar.settled_until(now));
        let days = days.iter().map(|known| {
            let is_over = calendar.date(known.observed_at) > known.day;
            let is_final = known.day < settled || developments.is_some_and(|d| d.is_final(known));
            let more = is_over.then(|| more(known, developments, is_final));
            (known.day, more.unwrap_or_default())
        });
        Growth {
            calendar,
            asked,
            days: days.collect(),
        }
    }

    /// What these totals of whole days will come to, as far as these sums are concerned; none where nobody can say.
    pub fn ended(
        &self,
        known: Totals,
        sums: Sums,
        since: Timestamp,
        until: Timestamp,
    ) -> Option<Totals> {
        // There may be rows to come.
        if self.asked < until {
            return None;
        }
        let days = self.calendar.date(since)..self.calendar.date(until);
        let mut ended = known;
        for (_, more) in self.days.range(days) {
            let mut counts = Counts::default();
            if sums.meet(Sums::CONVERSIONS) {
                counts.conversions = more.conversions?;
            }
            if sums.meet(Sums::REVENUE) {
                counts.revenue_micros = more.revenue?;
            }
            let more = Totals {
                counts,
                ..Totals::default()
            };
            ended = ended.saturating_add(more);
        }
        Some(ended)
    }
}

/// What a day will have more than is known of it.
fn more(known: &KnownDay, developments: Option<&Developments>, is_final: bool) -> More {
    let (conversions, revenue) = (
        known.conversions.map(Conversions::get),
        known.revenue.map(Money::get),
    );
    // Nothing stays nothing, where it can be said how something would grow.
    let or_one = |known: i64| if known > 0 { known } else { MILLION };
    let something = KnownDay {
        conversions: conversions.map(|known| Conversions::new(or_one(known))),
        revenue: revenue.map(|known| Money::new(or_one(known))),
        ..*known
    };
    let expected = developments.and_then(|developments| developments.expect(&something));
    let expected = expected.unwrap_or_default();
    let more = |known: Option<i64>, expected: Option<Expected>| match (known?, expected) {
        (..=0, Some(_)) => Some(0),
        (
            _,
            Some(Expected {
                known, expected, ..
            }),
        ) => Some((expected - known).round() as i64),
        (_, None) => is_final.then_some(0),
    };
    More {
        conversions: more(conversions, expected.conversions).map(Conversions::new),
        revenue: more(revenue, expected.revenue).map(Money::new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Length, parse_rfc3339};

    #[test]
    fn what_cannot_be_said_of_one_day_cannot_be_said_of_all() {
        let at = |text: &str| Timestamp::from(parse_rfc3339(text).expect("a time"));
        let day = |day: u32, asked: &str, conversions: Option<i64>| KnownDay {
            day: NaiveDate::from_ymd_opt(2026, 3, day).expect("a date"),
            observed_at: at(asked),
            conversions: conversions.map(Conversions::new),
            revenue: None,
        };
        // Days of UTC are final when they are over; the third was last asked about before.
        let days = [
            day(1, "2026-03-02T06:00:00Z", Some(5_000_000)),
            day(2, "2026-03-03T06:00:00Z", Some(0)),
            day(3, "2026-03-03T06:00:00Z", Some(1_000_000)),
        ];
        let asked = at("2026-03-04T06:00:00Z");
        let calendar = Calendar::default();
        let growth = Growth::of(&days, None, calendar, asked, asked);
        let known = Totals::default();
        let ended =
            |sums: Sums, since: &str, until: &str| growth.ended(known, sums, at(since), at(until));
        let (first, third, fourth, fifth) = (
            "2026-03-01T00:00:00Z",
            "2026-03-03T00:00:00Z",
            "2026-03-04T00:00:00Z",
            "2026-03-05T00:00:00Z",
        );
        assert_eq!(ended(Sums::CONVERSIONS, first, third), Some(known));
        assert_eq!(ended(Sums::CONVERSIONS, first, fourth), None, "not whole");
        assert_eq!(ended(Sums::REVENUE, first, third), None, "unknown");
        assert_eq!(ended(Sums::COST, first, fourth), Some(known));
        assert_eq!(ended(Sums::COST, first, fifth), None, "not asked yet");
        // Those that still grow, of which nothing was learned.
        let now = at("2026-03-02T12:00:00Z");
        let growth = Growth::of(&days, None, calendar, asked, now);
        let second = at(third) - Length::DAY;
        let since = at(first);
        assert_eq!(
            growth.ended(known, Sums::CONVERSIONS, since, second),
            Some(known)
        );
        assert_eq!(
            growth.ended(known, Sums::CONVERSIONS, since, at(third)),
            None
        );
    }
}

//! Whose days a campaign's are, and how many of them its platform still restates. Pure.

use chrono::{Days, NaiveDate};
use chrono_tz::Tz;

use crate::expected::provisional::ProvisionalDays;
use crate::store::read::descriptions::Description;
use crate::time::{Length, Timestamp, midnight};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Calendar {
    zone: Tz,
    /// So many days before today may still change.
    provisional: u32,
}

impl Default for Calendar {
    /// That of a campaign which no platform reports: days of UTC, which are final when they are over.
    fn default() -> Calendar {
        Calendar {
            zone: Tz::UTC,
            provisional: 0,
        }
    }
}

impl Calendar {
    /// That of a campaign; `reported` says whose it is, where there are reports of it.
    pub fn of(reported: Option<&Description>, provisional_days: ProvisionalDays) -> Calendar {
        reported.map_or_else(Calendar::default, |campaign| Calendar {
            // A newer version may know zones that this one does not.
            zone: campaign.account.time_zone.parse().unwrap_or(Tz::UTC),
            provisional: provisional_days.of(campaign.account.platform).into(),
        })
    }

    /// Where the days begin that are not final yet: the last instant before them is of the newest that is.
    pub fn settled_until(self, now: Timestamp) -> Timestamp {
        self.days_before(now, self.provisional)
    }

    /// The day of an instant. What is stored is far from the ends of the calendar.
    pub fn date(self, time: Timestamp) -> NaiveDate {
        let time = time.datetime().unwrap_or_default();
        time.with_timezone(&self.zone).date_naive()
    }

    /// How many days are from that of the one instant to that of the other.
    pub fn days_between(self, since: Timestamp, until: Timestamp) -> i64 {
        let days = self.date(until).signed_duration_since(self.date(since));
        days.num_days()
    }

    /// Where the day began that was so many before that of `time`.
    pub fn days_before(self, time: Timestamp, days: u32) -> Timestamp {
        let date = self.date(time).checked_sub_days(Days::new(days.into()));
        let first = date.and_then(|date| midnight(self.zone, date));
        first.map_or_else(
            || time.floor(Length::DAY) - Length::DAY.times(days.into()),
            Timestamp::from,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Platform;
    use crate::time::parse_rfc3339;

    #[test]
    fn what_is_settled_is_what_answers_do_not_call_provisional() {
        let days: ProvisionalDays = "google=2".parse().expect("valid");
        let zone = Tz::America__New_York;
        let calendar = Calendar {
            zone,
            provisional: days.of(Platform::Google).into(),
        };
        let at = |text: &str| Timestamp::from(parse_rfc3339(text).expect("a time"));
        // Clocks go forward on the 10th. The 9th is settled when the 10th and the 11th are over.
        for (now, until) in [
            ("2024-03-12T03:59:59Z", "2024-03-09T05:00:00Z"),
            ("2024-03-12T04:00:00Z", "2024-03-10T05:00:00Z"),
            ("2024-03-13T03:59:59Z", "2024-03-10T05:00:00Z"),
            ("2024-03-13T04:00:00Z", "2024-03-11T04:00:00Z"),
        ] {
            let until = at(until);
            assert_eq!(calendar.settled_until(at(now)), until, "{now}");
            let last = until - Length::MICROSECOND;
            let day = last.datetime().expect("valid").with_timezone(&zone);
            let settled = days.settled_at(Platform::Google, zone, day.date_naive());
            assert!(settled <= Some(at(now)), "{now}");
        }
        let utc = Calendar::default();
        let noon = at("2024-03-12T12:00:00Z");
        assert_eq!(utc.settled_until(noon), at("2024-03-12T00:00:00Z"));
        assert_eq!(utc.days_before(noon, 1), at("2024-03-11T00:00:00Z"));
    }
}

//! What a platform says a campaign's day was: the [`ReportRow`], and when one is not acceptable.
//!
//! It is state, not increment: the same day is told again, with other numbers, for weeks. A row's **key** is its platform,
//! account, campaign, day and slice, its **revision** the instant at which the platform was asked. The newest revision of a key
//! counts, in whatever order they arrive ([`revisions`]).
//!
//! Pure and without I/O: the clock is passed in. Nothing here knows of Avro, Kafka or PostgreSQL.

// Bytes from outside come through here.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use chrono::{DateTime, Datelike as _, NaiveDate, NaiveTime, TimeZone as _, Utc};
use chrono_tz::Tz;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::currency::Currency;
use crate::event::{
    CampaignId, Conversions, Count, Counts, MAX_AHEAD, MAX_SUM, Money, Platform, Reason,
};
use crate::time::Timestamp;

pub mod revisions;

/// The longest account id, in bytes.
pub const MAX_ACCOUNT_LEN: usize = 64;

/// The longest name, slice, or name of an action, in bytes.
pub const MAX_TEXT_LEN: usize = 1024;

/// How far below zero a number may be: platforms take something back, but not more than there was. A million units of money.
const MIN_VALUE: i64 = -(1 << 40);

/// The years that a day can be of.
const YEARS: std::ops::RangeInclusive<i32> = 1990..=2199;

/// The numbers of a row. What the platform does not say is unknown, which is not zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Values {
    pub impressions: Option<Count>,
    pub clicks: Option<Count>,
    /// In millionths: platforms report fractions.
    pub conversions: Option<Conversions>,
    /// In millionths of the currency unit.
    pub cost: Option<Money>,
    /// In millionths of the currency unit.
    pub revenue: Option<Money>,
}

impl Values {
    /// Their names, in the order of [`Values::numbers`].
    pub const NAMES: [&'static str; 5] =
        ["impressions", "clicks", "conversions", "cost", "revenue"];

    /// Of the numbers alone, as [`Values::numbers`] gives them.
    pub fn of([impressions, clicks, conversions, cost, revenue]: [Option<i64>; 5]) -> Values {
        Values {
            impressions: impressions.map(Count::new),
            clicks: clicks.map(Count::new),
            conversions: conversions.map(Conversions::new),
            cost: cost.map(Money::new),
            revenue: revenue.map(Money::new),
        }
    }

    /// The numbers alone, in the order of the fields; of conversions and money, the millionths.
    pub fn numbers(&self) -> [Option<i64>; 5] {
        [
            self.impressions.map(Count::get),
            self.clicks.map(Count::get),
            self.conversions.map(Conversions::get),
            self.cost.map(Money::get),
            self.revenue.map(Money::get),
        ]
    }

    /// Whether any of them is known.
    pub fn say_something(&self) -> bool {
        self.numbers().iter().any(Option::is_some)
    }

    /// By how much more these are than others: what sums grow by when they take their place. To a sum, unknown adds nothing.
    pub fn beyond(&self, others: &Values) -> Counts {
        let mut differences = [0; 5];
        let pairs = self.numbers().into_iter().zip(others.numbers());
        for (difference, (new, old)) in differences.iter_mut().zip(pairs) {
            // Both are within the limit of a sum, so it fits.
            *difference = new.unwrap_or(0).saturating_sub(old.unwrap_or(0));
        }
        Counts::of(differences)
    }
}

/// What the numbers of a campaign's day mean. Those of one day have one definition, or they could not be added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Definition<'a> {
    pub platform: Platform,
    /// The platform's own id of the account.
    pub account: &'a str,
    /// Whose days they are.
    pub time_zone: Tz,
    pub currency: Currency,
    /// What counts as a conversion, in the platform's own words; empty: what it counts itself.
    pub conversions: &'a str,
    /// What is revenue, likewise.
    pub revenue: &'a str,
}

/// Where a row stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The SHA-256 of the file.
    pub file: Option<[u8; 32]>,
    /// The line in it, or the row of its sheet, or the so-manieth report, from 1.
    pub line: Option<i64>,
}

/// What a platform says of one campaign, day and slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportRow<'a> {
    pub campaign_id: CampaignId<'a>,
    /// Empty: not said.
    pub campaign_name: &'a str,
    pub definition: Definition<'a>,
    /// A day of the account's time zone.
    pub day: NaiveDate,
    /// What part of the campaign, as `ad_group=123,country=DE`; empty: all of it.
    pub slice: &'a str,
    /// When the platform was asked.
    pub observed_at: Timestamp,
    pub values: Values,
    pub origin: Origin,
}

impl ReportRow<'_> {
    /// Whether it is acceptable at `now`.
    ///
    /// # Errors
    /// The [`Reason`] it cannot be counted.
    pub fn validate(&self, now: Timestamp) -> Result<(), Reason> {
        let Definition {
            account,
            conversions,
            revenue,
            ..
        } = self.definition;
        if account.is_empty()
            || account.len() > MAX_ACCOUNT_LEN
            || !account.bytes().all(|b| b.is_ascii_graphic())
        {
            return Err(Reason::InvalidAccount);
        }
        let texts = [self.campaign_name, self.slice, conversions, revenue];
        if texts.iter().any(|text| text.contains('\0')) {
            return Err(Reason::NulByte);
        }
        if texts.iter().any(|text| text.len() > MAX_TEXT_LEN) {
            return Err(Reason::TextTooLong);
        }
        let numbers = self.values.numbers();
        let [impressions, clicks, ..] = numbers;
        let counts_are_negative = [impressions, clicks].iter().flatten().any(|&v| v < 0);
        if counts_are_negative || numbers.iter().flatten().any(|&v| v < MIN_VALUE) {
            return Err(Reason::NegativeValue);
        }
        if numbers.iter().flatten().any(|&v| v > MAX_SUM) {
            return Err(Reason::SumOverflow);
        }
        if self.observed_at < Timestamp::EPOCH {
            return Err(Reason::InvalidEventTime);
        }
        if self.observed_at > now + MAX_AHEAD {
            return Err(Reason::FutureEventTime);
        }
        let asked = self.observed_at.datetime();
        let asked = asked.map(|at| at.with_timezone(&self.definition.time_zone).date_naive());
        // Whoever asked may have gone by the day of another zone.
        let last = asked.and_then(|day| day.succ_opt());
        if !YEARS.contains(&self.day.year()) || last.is_none_or(|last| self.day > last) {
            return Err(Reason::InvalidDay);
        }
        Ok(())
    }

    /// What all revisions of it have in common, as an id: a UUID of version 8 (RFC 9562), of the SHA-256 of the parts.
    pub fn key(&self) -> Uuid {
        let mut hash = Sha256::new();
        let day = self.day.num_days_from_ce().to_be_bytes();
        for part in [
            self.definition.platform.name().as_bytes(),
            self.definition.account.as_bytes(),
            self.campaign_id.as_str().as_bytes(),
            &day,
            self.slice.as_bytes(),
        ] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let hash = hash.finalize();
        let mut bytes = [0; 16];
        for (byte, hashed) in bytes.iter_mut().zip(hash) {
            *byte = hashed;
        }
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    }

    /// The names of the slice's parts: two rows of a day are of one grain where these are the same.
    pub fn grain(&self) -> String {
        let parts = self.slice.split(',');
        let names = parts.map(|part| part.split_once('=').map_or(part, |(name, _)| name));
        names.collect::<Vec<_>>().join(",")
    }

    /// When what changed with this revision is taken to have happened.
    pub fn event_time(&self) -> Timestamp {
        event_time(self.day, self.definition.time_zone, self.observed_at)
    }
}

/// When what a platform says of a day at an instant is taken to have happened: at that instant where it is within the day, so
/// that today has a curve; else at the day's noon, which is in the day in whatever zone near it somebody asks.
pub fn event_time(day: NaiveDate, zone: Tz, observed_at: Timestamp) -> Timestamp {
    let asked = observed_at.datetime().map(|at| at.with_timezone(&zone));
    if asked.is_some_and(|at| at.date_naive() == day) {
        return observed_at;
    }
    noon(day, zone)
}

/// The noon of a day, by which it is found in other zones.
pub fn noon(day: NaiveDate, zone: Tz) -> Timestamp {
    let noon = day.and_time(NaiveTime::from_hms_opt(12, 0, 0).unwrap_or_default());
    // Clocks are set at night; where one was set at noon, it is taken as UTC's.
    let instant: DateTime<Utc> = zone
        .from_local_datetime(&noon)
        .earliest()
        .map_or_else(|| noon.and_utc(), |at| at.to_utc());
    instant.into()
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        DateTime::parse_from_rfc3339(text)
            .expect("valid")
            .to_utc()
            .into()
    }

    fn row() -> ReportRow<'static> {
        ReportRow {
            campaign_id: CampaignId::parse("google:1:2").expect("valid"),
            campaign_name: "Été",
            definition: Definition {
                platform: Platform::Google,
                account: "1",
                time_zone: chrono_tz::Europe::Berlin,
                currency: Currency::from_code("EUR").expect("known"),
                conversions: "",
                revenue: "",
            },
            day: NaiveDate::from_ymd_opt(2024, 6, 3).expect("valid"),
            slice: "ad_group=7,country=DE",
            observed_at: at("2024-06-04T09:00:00Z"),
            values: Values::of([Some(100), Some(5), Some(1_500_000), Some(7), None]),
            origin: Origin::default(),
        }
    }

    #[test]
    fn a_day_that_is_asked_about_while_it_lasts_has_a_curve() {
        let row = row();
        assert_eq!(row.event_time(), at("2024-06-03T10:00:00Z"));
        for (asked, happened) in [
            ("2024-06-03T21:59:59Z", "2024-06-03T21:59:59Z"),
            ("2024-06-03T22:00:00Z", "2024-06-03T10:00:00Z"),
            ("2024-06-02T22:00:00Z", "2024-06-02T22:00:00Z"),
            ("2024-06-02T21:59:59Z", "2024-06-03T10:00:00Z"),
        ] {
            let row = ReportRow {
                observed_at: at(asked),
                ..row
            };
            assert_eq!(row.event_time(), at(happened), "{asked}");
        }
    }

    #[test]
    fn a_key_is_of_all_its_parts_and_of_nothing_else() {
        let row = row();
        let again = ReportRow {
            campaign_name: "Summer",
            observed_at: at("2024-06-05T09:00:00Z"),
            values: Values::default(),
            ..row
        };
        assert_eq!(row.key(), again.key());
        assert_eq!(row.key().get_version_num(), 8);
        let others = [
            ReportRow { slice: "", ..row },
            ReportRow {
                day: row.day.succ_opt().expect("valid"),
                ..row
            },
            ReportRow {
                definition: Definition {
                    account: "11",
                    ..row.definition
                },
                ..row
            },
        ];
        for other in others {
            assert_ne!(row.key(), other.key(), "{other:?}");
        }
        assert_eq!(row.grain(), "ad_group,country");
        assert_eq!(ReportRow { slice: "", ..row }.grain(), "");
    }

    #[test]
    fn what_is_not_acceptable_has_its_reason() {
        let now = at("2024-06-10T00:00:00Z");
        let good = row();
        assert_eq!(good.validate(now), Ok(()));
        let values = |n: usize, value: i64| {
            let mut numbers = good.values.numbers();
            numbers[n] = Some(value);
            ReportRow {
                values: Values::of(numbers),
                ..good
            }
        };
        let of_account = |account| ReportRow {
            definition: Definition {
                account,
                ..good.definition
            },
            ..good
        };
        let day = |day: &str| ReportRow {
            day: day.parse().expect("a date"),
            ..good
        };
        let long = "x".repeat(MAX_TEXT_LEN + 1);
        for (row, reason) in [
            (values(0, -1), Reason::NegativeValue),
            (values(3, -(1 << 41)), Reason::NegativeValue),
            (values(4, MAX_SUM + 1), Reason::SumOverflow),
            (of_account(""), Reason::InvalidAccount),
            (of_account("a b"), Reason::InvalidAccount),
            (day("2024-06-06"), Reason::InvalidDay),
            (day("1989-12-31"), Reason::InvalidDay),
            (
                ReportRow {
                    slice: &long,
                    ..good
                },
                Reason::TextTooLong,
            ),
            (
                ReportRow {
                    campaign_name: "a\0",
                    ..good
                },
                Reason::NulByte,
            ),
            (
                ReportRow {
                    observed_at: at("2024-06-11T00:00:01Z"),
                    ..good
                },
                Reason::FutureEventTime,
            ),
        ] {
            assert_eq!(row.validate(now), Err(reason), "{row:?}");
        }
        assert_eq!(values(3, -5).validate(now), Ok(()), "a refund");
        assert_eq!(
            day("2024-06-05").validate(now),
            Ok(()),
            "tomorrow somewhere"
        );
    }
}

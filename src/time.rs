//! Instants and lengths of time, when days begin, and RFC 3339, in which people and documents write instants.

use std::fmt;
use std::ops::{Add, Div, Sub};

use chrono::{
    DateTime, Days, MappedLocalTime, NaiveDate, NaiveTime, ParseError, SecondsFormat,
    SubsecRound as _, TimeZone, Utc,
};
use chrono_tz::Tz;

crate::unit::unit! {
    /// An instant, in microseconds since 1970-01-01T00:00:00 UTC.
    Timestamp, without Display
}

crate::unit::unit! {
    /// A length of time, in microseconds.
    Length
}

impl Timestamp {
    /// 1970-01-01T00:00:00 UTC.
    pub const EPOCH: Timestamp = Timestamp(0);
    /// Before every other; `-infinity` in SQL.
    pub const MIN: Timestamp = Timestamp(i64::MIN);
    /// The last that RFC 3339 can write, whose years have four digits: 9999-12-31T23:59:59.999999Z.
    pub const LAST_WRITTEN: Timestamp = Timestamp(253_402_300_799_999_999);
    /// After every other.
    pub const MAX: Timestamp = Timestamp(i64::MAX);

    /// The time by this machine's clock.
    pub fn now() -> Timestamp {
        Utc::now().into()
    }

    /// The same instant in the calendar; none if it is hundreds of thousands of years away.
    pub fn datetime(self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_micros(self.0)
    }

    /// The last multiple of `length` since 1970 that is not after this one.
    pub const fn floor(self, length: Length) -> Timestamp {
        Timestamp(self.0.saturating_sub(self.0.rem_euclid(length.0)))
    }

    /// The first multiple of `length` since 1970 that is not before this one.
    pub const fn ceil(self, length: Length) -> Timestamp {
        Timestamp(
            self.0
                .saturating_add(self.0.wrapping_neg().rem_euclid(length.0)),
        )
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(time: DateTime<Utc>) -> Timestamp {
        Timestamp(time.timestamp_micros())
    }
}

/// Stops at the ends, as all sums and differences here.
impl Add<Length> for Timestamp {
    type Output = Timestamp;

    fn add(self, length: Length) -> Timestamp {
        Timestamp(self.0.saturating_add(length.0))
    }
}

impl Sub<Length> for Timestamp {
    type Output = Timestamp;

    fn sub(self, length: Length) -> Timestamp {
        Timestamp(self.0.saturating_sub(length.0))
    }
}

impl Sub for Timestamp {
    type Output = Length;

    fn sub(self, earlier: Timestamp) -> Length {
        Length(self.0.saturating_sub(earlier.0))
    }
}

impl Length {
    /// The smallest: two instants that are this far apart have none between them.
    pub const MICROSECOND: Length = Length(1);
    pub const MILLISECOND: Length = Length(1_000);
    pub const SECOND: Length = Length(1_000_000);
    /// The finest grain of a projection.
    pub const MINUTE: Length = Length::SECOND.times(60);
    pub const HOUR: Length = Length::MINUTE.times(60);
    /// UTC has no other length of day in Unix time.
    pub const DAY: Length = Length::HOUR.times(24);

    /// So many of it.
    pub const fn times(self, number: i64) -> Length {
        Length(self.0.saturating_mul(number))
    }

    /// It without its sign.
    pub const fn abs(self) -> Length {
        Length(self.0.saturating_abs())
    }
}

/// How often the other one fits.
impl Div for Length {
    type Output = i64;

    fn div(self, unit: Length) -> i64 {
        self.0 / unit.0
    }
}

/// RFC 3339 in UTC, with as many digits as it takes.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.datetime() {
            Some(time) => f.write_str(&time.to_rfc3339()),
            None => write!(f, "{} microseconds since 1970", self.0),
        }
    }
}

/// RFC 3339 in UTC, to the microsecond.
pub fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// RFC 3339 in UTC, with as many digits as it takes and a `Z`.
pub fn rfc3339_exact(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// RFC 3339 to the second, with the offset of its zone.
pub fn rfc3339_seconds<Zone: TimeZone>(time: DateTime<Zone>) -> String
where
    Zone::Offset: fmt::Display,
{
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Reads RFC 3339.
///
/// # Errors
/// What is wrong with it.
pub fn parse_rfc3339(text: &str) -> Result<DateTime<Utc>, ParseError> {
    DateTime::parse_from_rfc3339(text).map(|time| time.to_utc())
}

/// Reads the RFC 3339 of a person, such as `2026-01-31T12:00:00Z`, to the microsecond, as PostgreSQL keeps it.
///
/// # Errors
/// A message for whoever wrote it.
pub fn instant(text: &str) -> Result<DateTime<Utc>, String> {
    match parse_rfc3339(text) {
        Ok(time) => Ok(time.trunc_subsecs(6)),
        Err(error) => Err(format!(
            "not an RFC 3339 time such as 2026-01-31T12:00:00Z: {error}"
        )),
    }
}

/// The first instant at which calendars of `zone` show `date`, or a later one where they never do.
pub fn midnight(zone: Tz, date: NaiveDate) -> Option<DateTime<Utc>> {
    let local = date.and_time(NaiveTime::MIN);
    match zone.from_local_datetime(&local) {
        MappedLocalTime::Single(time) => Some(time.to_utc()),
        MappedLocalTime::Ambiguous(first, _) => Some(first.to_utc()),
        // Clocks skip midnight. The zone's dates only go forward around a gap: halve the days around
        // it down to the second it begins.
        MappedLocalTime::None => {
            let middle = local.and_utc();
            let mut before = middle.checked_sub_days(Days::new(2))?.timestamp();
            let mut after = middle.checked_add_days(Days::new(2))?.timestamp();
            let shows = |second: i64| {
                let time = DateTime::from_timestamp(second, 0)?.with_timezone(&zone);
                Some(time.date_naive() >= date)
            };
            while after.saturating_sub(before) > 1 {
                let halfway = before.midpoint(after);
                if shows(halfway)? {
                    after = halfway;
                } else {
                    before = halfway;
                }
            }
            DateTime::from_timestamp(after, 0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn floor_and_ceil_are_the_multiples_around(time in any::<i64>(), length in 1i64..10_000_000_000_000) {
            let (time, length) = (Timestamp::new(time), Length::new(length));
            let (floor, ceil) = (time.floor(length), time.ceil(length));
            prop_assert!(floor <= time && time <= ceil);
            prop_assert!(time - floor < length && ceil - time < length);
            for end in [floor, ceil].into_iter().filter(|end| *end > Timestamp::MIN && *end < Timestamp::MAX) {
                prop_assert_eq!((end - Timestamp::EPOCH).get() % length.get(), 0);
            }
        }
    }

    #[test]
    fn times_are_written_as_precisely_as_they_are_asked_for() {
        let time = Timestamp::EPOCH + Length::MILLISECOND.times(1_500);
        let utc = time.datetime().expect("in the calendar");
        assert_eq!(time.to_string(), "1970-01-01T00:00:01.500+00:00");
        assert_eq!(rfc3339(utc), "1970-01-01T00:00:01.500000Z");
        assert_eq!(rfc3339_exact(utc), "1970-01-01T00:00:01.500Z");
        assert_eq!(rfc3339_seconds(utc), "1970-01-01T00:00:01Z");
        let in_berlin = utc.with_timezone(&chrono_tz::Europe::Berlin);
        assert_eq!(rfc3339_seconds(in_berlin), "1970-01-01T01:00:01+01:00");
        assert_eq!(parse_rfc3339("1970-01-01T01:00:01.5+01:00"), Ok(utc));
        let last = Timestamp::LAST_WRITTEN.datetime().expect("in the calendar");
        assert_eq!(rfc3339(last), "9999-12-31T23:59:59.999999Z");
        assert_eq!(
            Timestamp::MAX.to_string(),
            "9223372036854775807 microseconds since 1970"
        );
    }
}

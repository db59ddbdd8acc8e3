//! Spans of time as people ask for them: in a time zone, by name, cut into days and months.
//!
//! A day is what a calendar on a wall in that zone says: 23, 24 or 25 hours, or none at all. All of
//! it is pure; now is passed in.

// Bytes from outside come through here.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use chrono::{
    DateTime, Datelike as _, Days, Months, NaiveDate, Offset as _, TimeDelta, TimeZone as _, Utc,
};
use chrono_tz::Tz;

use super::problem::{Problem, shorten};
use crate::store::read::insights::Window;
use crate::time::{Length, Timestamp, midnight, parse_rfc3339, rfc3339_seconds};

/// Names for windows of time, relative to now.
pub(super) const DATE_PRESETS: &[&str] = &[
    "today",
    "yesterday",
    "last_7d",
    "last_14d",
    "last_28d",
    "last_30d",
    "last_90d",
    "last_7d_including_today",
    "last_14d_including_today",
    "last_28d_including_today",
    "last_30d_including_today",
    "last_90d_including_today",
    "this_month",
    "last_month",
    "maximum",
];

/// How finely a window is cut.
pub(super) const TIME_INCREMENTS: &[&str] = &["minute", "hour", "day", "week", "month", "all"];

/// The longest window, in days.
pub(super) const MAX_WINDOW_DAYS: i64 = 3_660;

/// The most parts a window is cut into.
pub(super) const MAX_PARTS: usize = 4_000;

/// How finely a window is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Increment {
    Minute,
    Hour,
    Day,
    /// From Monday, as in ISO 8601.
    Week,
    Month,
    /// Not at all.
    All,
}

impl Increment {
    /// The increment of this name.
    pub fn parse(name: &str) -> Option<Increment> {
        use Increment::{All, Day, Hour, Minute, Month, Week};
        [Minute, Hour, Day, Week, Month, All]
            .into_iter()
            .zip(TIME_INCREMENTS)
            .find_map(|(increment, n)| (*n == name).then_some(increment))
    }
}

/// A span in a zone, and the one of the same length before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Asked {
    /// None: all time.
    pub window: Option<Window>,
    /// What "the previous period" is; none for all time.
    pub previous: Option<Window>,
}

/// A time as a client writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    At(DateTime<Utc>),
    /// Midnight, in the zone of the request.
    On(NaiveDate),
}

impl When {
    /// The instant it is in `zone`.
    pub(super) fn instant(self, zone: Tz) -> Option<DateTime<Utc>> {
        match self {
            When::At(time) => Some(time),
            When::On(date) => midnight(zone, date),
        }
    }
}

/// Reads a time or a date.
///
/// # Errors
/// A [`Problem`] that names the parameter.
pub(super) fn parse_time(parameter: &str, text: &str) -> Result<When, Problem> {
    let invalid = || {
        let detail = format!(
            "'{}' is neither a date such as 2026-01-31 nor an RFC 3339 time such as 2026-01-31T12:00:00Z (write + as %2B), from 1970 to 9999",
            shorten(text)
        );
        Problem::parameter(parameter, detail)
    };
    if text.len() == 10 {
        return parse_date(text).map(When::On).ok_or_else(invalid);
    }
    let time = parse_rfc3339(text).map_err(|_| invalid())?;
    if time < DateTime::UNIX_EPOCH || time.date_naive() > last_date() {
        return Err(invalid());
    }
    Ok(When::At(time))
}

fn last_date() -> NaiveDate {
    NaiveDate::from_ymd_opt(9999, 12, 30).unwrap_or_default()
}

/// Reads a date; none if it is none, or so far away that a zone could lead out of the calendar.
pub(super) fn parse_date(text: &str) -> Option<NaiveDate> {
    let first = NaiveDate::from_ymd_opt(1970, 1, 2).unwrap_or_default();
    let date = text.parse().ok().filter(|_| text.len() == 10)?;
    (first..=last_date()).contains(&date).then_some(date)
}

/// Reads the name of a time zone.
///
/// # Errors
/// A [`Problem`] that names the parameter.
pub(super) fn parse_zone(parameter: &str, text: &str) -> Result<Tz, Problem> {
    text.parse().map_err(|_| {
        let detail = format!(
            "'{}' is not an IANA time zone such as Europe/Berlin or UTC",
            shorten(text)
        );
        Problem::parameter(parameter, detail)
    })
}

/// The window that `since` and `until`, or a preset, ask for; neither: all time.
///
/// # Errors
/// A [`Problem`] that names the parameter at fault.
pub(super) fn asked(
    since: Option<When>,
    until: Option<When>,
    preset: Option<&str>,
    zone: Tz,
    now: DateTime<Utc>,
) -> Result<Asked, Problem> {
    if let Some(preset) = preset {
        if since.or(until).is_some() {
            return Err(Problem::parameter(
                "date_preset",
                "give either date_preset or since and until, not both",
            ));
        }
        return Ok(of_preset(preset, zone, now).unwrap_or(ALL_TIME));
    }
    if since.is_none() && until.is_none() {
        return Ok(ALL_TIME);
    }
    let Some(since) = since.and_then(|s| s.instant(zone)) else {
        let detail = "until was given without since";
        return Err(Problem::window("since", detail));
    };
    let until = until.map_or(Some(now), |u| u.instant(zone)).unwrap_or(now);
    if since >= until {
        let detail = "since is not before until (which is now if it is not given)";
        return Err(Problem::window("since", detail));
    }
    if until.signed_duration_since(since).num_days() >= MAX_WINDOW_DAYS {
        let detail = format!("the window is longer than {MAX_WINDOW_DAYS} days");
        return Err(Problem::window("since", detail));
    }
    Ok(Asked {
        window: window(since, until),
        previous: before(zone, since, until),
    })
}

const ALL_TIME: Asked = Asked {
    window: None,
    previous: None,
};

fn window(since: DateTime<Utc>, until: DateTime<Utc>) -> Option<Window> {
    Window::covering(since.into(), until.into())
}

/// The period before: of whole months as many months, of days as many days, up to the same time where
/// the last of them is not over; of anything else the same length.
fn before(zone: Tz, since: DateTime<Utc>, until: DateTime<Utc>) -> Option<Window> {
    let (first, last) = (date_of(zone, since), date_of(zone, until));
    if midnight(zone, first) != Some(since) {
        let length = until.signed_duration_since(since);
        return window(since.checked_sub_signed(length)?, since);
    }
    let over = midnight(zone, last) == Some(until);
    if over && first.day() == 1 && last.day() == 1 {
        let months = |d: NaiveDate| {
            i64::from(d.year())
                .saturating_mul(12)
                .saturating_add(d.month().into())
        };
        let length = months(last).saturating_sub(months(first));
        let start = first.checked_sub_months(Months::new(u32::try_from(length).ok()?))?;
        return window(midnight(zone, start)?, since);
    }
    let days = last.signed_duration_since(first).num_days();
    let length = TimeDelta::try_days(days.saturating_add(i64::from(!over)))?;
    let end = if over {
        since
    } else {
        same_time(zone, last.checked_sub_signed(length)?, until)?
    };
    window(midnight(zone, first.checked_sub_signed(length)?)?, end)
}

/// The time of `moment` on another day; the end of that day where clocks leave that time out.
fn same_time(zone: Tz, day: NaiveDate, moment: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let time = moment.with_timezone(&zone).time();
    let local = zone.from_local_datetime(&day.and_time(time)).earliest();
    local.map_or_else(
        || midnight(zone, day.succ_opt()?),
        |time| Some(time.to_utc()),
    )
}

/// The window of a preset; none: all time.
fn of_preset(preset: &str, zone: Tz, now: DateTime<Utc>) -> Option<Asked> {
    let today = date_of(zone, now);
    let first = today.with_day(1)?;
    let whole = |since: NaiveDate, until: NaiveDate| {
        let (since, until) = (midnight(zone, since)?, midnight(zone, until)?);
        Some(Asked {
            window: window(since, until),
            previous: before(zone, since, until),
        })
    };
    // What is not over yet is compared with as much of the day or the month before.
    let so_far = |since: NaiveDate, start: NaiveDate, same: NaiveDate| {
        let end = same_time(zone, same, now)?;
        Some(Asked {
            // Now is included.
            window: window(
                midnight(zone, since)?,
                now.checked_add_signed(TimeDelta::microseconds(1))?,
            ),
            previous: window(midnight(zone, start)?, end),
        })
    };
    match preset {
        "today" => {
            let yesterday = today.pred_opt()?;
            so_far(today, yesterday, yesterday)
        }
        "yesterday" => whole(today.pred_opt()?, today),
        "this_month" => {
            let month = Months::new(1);
            so_far(
                first,
                first.checked_sub_months(month)?,
                today.checked_sub_months(month)?,
            )
        }
        "last_month" => whole(first.checked_sub_months(Months::new(1))?, first),
        other => {
            let with_today = other.strip_suffix("_including_today");
            let days = with_today.unwrap_or(other);
            let days = days.strip_prefix("last_")?.strip_suffix('d')?;
            let days = Days::new(days.parse().ok()?);
            let since = today.checked_sub_days(days)?;
            if with_today.is_none() {
                // Whole days, as the platforms report them: up to and without today.
                return whole(since, today);
            }
            let first = since.succ_opt()?;
            so_far(first, first.checked_sub_days(days)?, since)
        }
    }
}

pub(super) fn date_of(zone: Tz, time: DateTime<Utc>) -> NaiveDate {
    time.with_timezone(&zone).date_naive()
}

/// Where a window is cut: its start, the start of every later part, its end. Each within whole
/// minutes, because sums are kept by the minute.
///
/// # Errors
/// A [`Problem`] when there would be more than [`MAX_PARTS`].
pub(super) fn cuts(
    window: Window,
    increment: Increment,
    zone: Tz,
) -> Result<Vec<Timestamp>, Problem> {
    let mut cuts = vec![window.since()];
    let mut at = window.since();
    while let Some(next) = next_cut(at, increment, zone) {
        // Zones have had offsets with seconds; whatever happens, it goes on.
        at = next.floor(Length::MINUTE).max(at + Length::MINUTE);
        if at >= window.until() {
            break;
        }
        if cuts.len() >= MAX_PARTS {
            let detail = format!(
                "the window has more than {MAX_PARTS} parts; take a coarser time_increment or a shorter window"
            );
            return Err(Problem::window("time_increment", detail));
        }
        cuts.push(at);
    }
    cuts.push(window.until());
    Ok(cuts)
}

/// The first cut after a time; none where there is no further one.
fn next_cut(at: Timestamp, increment: Increment, zone: Tz) -> Option<Timestamp> {
    let time = at.datetime()?;
    let date = date_of(zone, time);
    let next = match increment {
        Increment::All => return None,
        Increment::Minute => return Some(at + Length::MINUTE),
        Increment::Hour => {
            let offset = zone.offset_from_utc_datetime(&time.naive_utc()).fix();
            let offset = Length::SECOND.times(offset.local_minus_utc().into());
            return Some((at + offset).floor(Length::HOUR) - offset + Length::HOUR);
        }
        Increment::Day => date.succ_opt()?,
        Increment::Week => {
            let to_monday = 7_u64.checked_sub(date.weekday().num_days_from_monday().into())?;
            date.checked_add_days(Days::new(to_monday))?
        }
        Increment::Month => date.with_day(1)?.checked_add_months(Months::new(1))?,
    };
    midnight(zone, next).map(Timestamp::from)
}

/// A time as answers show it: with the offset of the zone.
pub(super) fn show(time: Timestamp, zone: Tz) -> Option<String> {
    Some(rfc3339_seconds(time.datetime()?.with_timezone(&zone)))
}

#[cfg(test)]
mod tests;

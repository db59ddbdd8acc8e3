//! What stands before the header of a table.

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};

use crate::reports::day;

/// What the lines before the header say.
#[derive(Clone, Debug, Default)]
pub(super) struct Titles {
    pub generated: Option<DateTime<Utc>>,
    pub start: Option<NaiveDate>,
    pub end: Option<NaiveDate>,
}

impl Titles {
    /// LinkedIn writes `Date Generated: …`, `Report Start: …`, `Report End: …`.
    pub fn add(&mut self, line: &str) {
        let Some((name, text)) = line.split_once(':') else {
            return;
        };
        let (name, text) = (name.trim().to_lowercase(), text.trim());
        match name.as_str() {
            "date generated" | "generated" => self.generated = instant(text),
            "report start" => self.start = first_day(text),
            "report end" => self.end = first_day(text),
            _ => {}
        }
    }
}

/// `July 3, 2024, 9:05 AM`, and days before a time of day in general; in UTC.
fn instant(text: &str) -> Option<DateTime<Utc>> {
    if let Ok(time) = crate::time::parse_rfc3339(text) {
        return Some(time);
    }
    let text = text.trim_end_matches(" UTC").trim_end_matches(" (UTC)");
    let upper = text.to_uppercase();
    let (clock, half) = match (upper.strip_suffix("AM"), upper.strip_suffix("PM")) {
        (Some(rest), _) => (rest.trim_end(), Some(0)),
        (_, Some(rest)) => (rest.trim_end(), Some(12)),
        _ => (upper.as_str(), None),
    };
    let (day, clock) = clock.rsplit_once([' ', '\u{202f}', 'T'])?;
    let day = day::in_order(day.trim_end_matches([',', ' ']), None)?;
    let mut parts = clock.split(':').map(str::parse::<u32>);
    let hour = parts.next()?.ok()?;
    let minute = parts.next()?.ok()?;
    let second = parts.next().and_then(Result::ok).unwrap_or(0);
    let hour = match half {
        Some(half) if (1..=12).contains(&hour) => hour.checked_rem(12)?.checked_add(half)?,
        Some(_) => return None,
        None => hour,
    };
    let time = NaiveTime::from_hms_opt(hour, minute, second)?;
    Some(day.and_time(time).and_utc())
}

/// The day that a text begins with, before a time of day.
fn first_day(text: &str) -> Option<NaiveDate> {
    day::in_order(text, None).or_else(|| instant(text).map(|time| time.date_naive()))
}

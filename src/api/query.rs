//! Query strings: every parameter known, each at most once, each checked.

// Bytes from outside come through here.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use chrono::{DateTime, Days, NaiveDate, NaiveTime, Utc};

use super::problem::{Problem, shorten};
use crate::store::insights::Window;

/// The parameters of a request, each taken once.
pub struct Query {
    parameters: Vec<(String, String)>,
}

/// Names for windows of time, relative to now, in UTC.
pub const DATE_PRESETS: &[&str] = &[
    "today",
    "yesterday",
    "last_7d",
    "last_14d",
    "last_28d",
    "last_30d",
    "last_90d",
    "this_month",
    "last_month",
    "maximum",
];

/// The longest window, in days.
const MAX_WINDOW_DAYS: i64 = 3_660;

impl Query {
    /// Parses a query string; `known` are the parameters of the route.
    ///
    /// # Errors
    /// A [`Problem`] that names a parameter that is unknown or given twice.
    pub fn parse(raw: &str, known: &[&str]) -> Result<Query, Problem> {
        let mut parameters: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(raw.as_bytes()) {
            if !known.contains(&name.as_ref()) {
                let detail = format!(
                    "unknown parameter '{}'; this path takes {}",
                    shorten(&name),
                    known.join(", ")
                );
                return Err(Problem::parameter(&name, detail));
            }
            if parameters.iter().any(|(n, _)| *n == name) {
                return Err(Problem::parameter(
                    &name,
                    format!("'{name}' was given twice"),
                ));
            }
            parameters.push((name.into_owned(), value.into_owned()));
        }
        Ok(Query { parameters })
    }

    /// The value of a parameter, if it was given.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }

    /// The window that `since` and `until`, or `date_preset`, ask for; none: all time.
    ///
    /// # Errors
    /// A [`Problem`] that names the parameter at fault.
    pub fn window(&self, now: DateTime<Utc>) -> Result<Option<Window>, Problem> {
        let (since, until) = (self.time("since")?, self.time("until")?);
        if let Some(preset) = self.get("date_preset") {
            if since.or(until).is_some() {
                return Err(Problem::parameter(
                    "date_preset",
                    "give either date_preset or since and until, not both",
                ));
            }
            return window_of_preset(preset, now);
        }
        if since.is_none() && until.is_none() {
            return Ok(None);
        }
        let until = until.unwrap_or(now);
        let since =
            since.ok_or_else(|| Problem::parameter("since", "until was given without since"))?;
        if since >= until {
            return Err(Problem::parameter(
                "since",
                "since is not before until (which is now if it is not given)",
            ));
        }
        if until.signed_duration_since(since).num_days() >= MAX_WINDOW_DAYS {
            return Err(Problem::parameter(
                "since",
                format!("the window is longer than {MAX_WINDOW_DAYS} days"),
            ));
        }
        Ok(Window::covering(
            since.timestamp_micros(),
            until.timestamp_micros(),
        ))
    }

    fn time(&self, name: &str) -> Result<Option<DateTime<Utc>>, Problem> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        let invalid = || {
            let detail = format!(
                "'{}' is not an RFC 3339 time such as 2026-01-31T12:00:00Z (write + as %2B), from 1970 to 9999",
                shorten(text)
            );
            Problem::parameter(name, detail)
        };
        let time = DateTime::parse_from_rfc3339(text)
            .map_err(|_| invalid())?
            .to_utc();
        if time < DateTime::UNIX_EPOCH {
            Err(invalid())
        } else {
            Ok(Some(time))
        }
    }

    /// A number within bounds, or the default.
    ///
    /// # Errors
    /// A [`Problem`] that names the parameter and the bounds.
    pub fn number(
        &self,
        name: &str,
        default: i64,
        range: std::ops::RangeInclusive<i64>,
    ) -> Result<i64, Problem> {
        let Some(text) = self.get(name) else {
            return Ok(default);
        };
        match text.parse() {
            Ok(number) if range.contains(&number) => Ok(number),
            _ => Err(Problem::parameter(
                name,
                format!(
                    "'{}' is not a whole number from {} to {}",
                    shorten(text),
                    range.start(),
                    range.end()
                ),
            )),
        }
    }
}

fn window_of_preset(preset: &str, now: DateTime<Utc>) -> Result<Option<Window>, Problem> {
    use chrono::{Datelike as _, Months};

    let today = now.date_naive();
    let month = today.with_day(1).unwrap_or(today);
    let (since, until) = match preset {
        "maximum" => return Ok(None),
        "today" => (today, None),
        "yesterday" => (days_before(today, 1), Some(today)),
        "this_month" => (month, None),
        "last_month" => (
            month.checked_sub_months(Months::new(1)).unwrap_or(month),
            Some(month),
        ),
        other => match other
            .strip_prefix("last_")
            .and_then(|d| d.strip_suffix('d'))
            .map(str::parse::<u64>)
        {
            // Whole days, as the platforms report them: up to and without today.
            Some(Ok(days)) if DATE_PRESETS.contains(&other) => {
                (days_before(today, days), Some(today))
            }
            _ => {
                let detail = format!(
                    "'{}' is none of {}",
                    shorten(other),
                    DATE_PRESETS.join(", ")
                );
                return Err(Problem::parameter("date_preset", detail));
            }
        },
    };
    let midnight = |date: NaiveDate| date.and_time(NaiveTime::MIN).and_utc().timestamp_micros();
    let until = until.map_or(now.timestamp_micros().saturating_add(1), midnight);
    Ok(Window::covering(midnight(since), until))
}

/// Years away from where the calendar ends.
fn days_before(date: NaiveDate, days: u64) -> NaiveDate {
    date.checked_sub_days(Days::new(days)).unwrap_or(date)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KNOWN: &[&str] = &["since", "until", "date_preset", "limit"];

    fn now() -> DateTime<Utc> {
        "2026-03-05T12:34:56.789Z".parse().expect("valid")
    }

    fn window(raw: &str) -> Result<Option<(String, String)>, Problem> {
        let show = |micros| {
            DateTime::<Utc>::from_timestamp_micros(micros)
                .expect("valid")
                .to_rfc3339()
        };
        Ok(Query::parse(raw, KNOWN)?
            .window(now())?
            .map(|w| (show(w.since()), show(w.until()))))
    }

    fn at_fault(raw: &str) -> String {
        let problem = Query::parse(raw, KNOWN).and_then(|q| {
            q.number("limit", 1, 1..=10)?;
            q.window(now())
        });
        serde_json::to_value(problem.expect_err("a problem")).expect("serialises")["parameter"]
            .as_str()
            .expect("names a parameter")
            .to_owned()
    }

    #[test]
    fn windows() {
        let day =
            |from: &str, to: &str| Ok(Some((format!("{from}T00:00:00+00:00"), to.to_owned())));
        assert_eq!(window(""), Ok(None));
        assert_eq!(window("date_preset=maximum"), Ok(None));
        assert_eq!(
            window("date_preset=today"),
            day("2026-03-05", "2026-03-05T12:35:00+00:00")
        );
        assert_eq!(
            window("date_preset=yesterday"),
            day("2026-03-04", "2026-03-05T00:00:00+00:00")
        );
        assert_eq!(
            window("date_preset=last_7d"),
            day("2026-02-26", "2026-03-05T00:00:00+00:00")
        );
        assert_eq!(
            window("date_preset=last_month"),
            day("2026-02-01", "2026-03-01T00:00:00+00:00")
        );
        assert_eq!(
            window("date_preset=this_month"),
            day("2026-03-01", "2026-03-05T12:35:00+00:00")
        );
        assert_eq!(
            window("since=2026-03-01T10:00:30%2B01:00&until=2026-03-02T00:00:00Z"),
            Ok(Some((
                "2026-03-01T09:00:00+00:00".into(),
                "2026-03-02T00:00:00+00:00".into()
            )))
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(at_fault("color=red"), "color");
        assert_eq!(at_fault("limit=1&limit=2"), "limit");
        for limit in ["0", "11", "x", "", "99999999999999999999"] {
            assert_eq!(at_fault(&format!("limit={limit}")), "limit");
        }
        assert_eq!(at_fault("since=yesterday"), "since");
        assert_eq!(at_fault("until=2026-03-02T00:00:00Z"), "since");
        assert_eq!(
            at_fault("since=2026-03-02T00:00:00Z&until=2026-03-01T00:00:00Z"),
            "since"
        );
        assert_eq!(at_fault("since=1969-12-31T23:59:59Z"), "since");
        assert_eq!(at_fault("since=1990-01-01T00:00:00Z"), "since");
        assert_eq!(at_fault("date_preset=last_8d"), "date_preset");
        assert_eq!(
            at_fault("date_preset=today&since=2026-03-02T00:00:00Z"),
            "date_preset"
        );
    }

    proptest! {
        #[test]
        fn nothing_panics(raw in "\\PC{0,200}") {
            if let Ok(query) = Query::parse(&raw, KNOWN) {
                let _ = query.window(now());
                let _ = query.number("limit", 1, 1..=10);
            }
        }

        #[test]
        fn no_time_panics(since in "[0-9TZ:.+-]{0,40}", until in "[0-9]{1,6}-1[0-2]-[0-3][0-9]T[0-2][0-9]:00:00Z") {
            if let Ok(query) = Query::parse(&format!("since={since}&until={until}"), KNOWN) {
                let _ = query.window(now());
            }
        }
    }
}

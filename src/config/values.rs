//! How the value of a setting is written, and what is said to whoever wrote it otherwise.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{Arg, Command};

use crate::kafka::{self, Properties};
use crate::time::{Timestamp, parse_rfc3339};
use crate::{memory, simulate, store};

/// Parses a length of time: 500ms, 2s, 5m, 7d, 1h30m.
///
/// # Errors
/// A message for the user.
pub fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| format!("'{text}' is not a length of time such as 500ms, 30s, 5m or 7d"))
}

/// Parses where a range begins or ends: an RFC 3339 time, or a date, which is midnight UTC.
///
/// # Errors
/// A message for the user.
pub fn bound(text: &str) -> Result<Timestamp, String> {
    let date = text.parse::<chrono::NaiveDate>().ok();
    let time = match date {
        Some(date) => date.and_time(chrono::NaiveTime::MIN).and_utc(),
        None => parse_rfc3339(text).map_err(|_| {
            format!(
                "'{text}' is not a time such as 2026-01-31T12:00:00Z, or a date such as 2026-01-31"
            )
        })?,
    };
    let time = Timestamp::from(time);
    // What PostgreSQL holds, and events can have.
    if (Timestamp::EPOCH..=Timestamp::LAST_WRITTEN).contains(&time) {
        Ok(time)
    } else {
        Err("event times are from 1970 to 9999".to_owned())
    }
}

pub(super) fn backfill(text: &str) -> Result<Duration, String> {
    let length = duration(text)?;
    if length > simulate::MAX_BACKFILL {
        return Err("the longest history is ten years".to_owned());
    }
    Ok(length)
}

pub(super) fn body_size(text: &str) -> Result<u64, String> {
    let size = memory::bytes(text).filter(|size| (1 << 10..=1 << 30).contains(size));
    size.ok_or_else(|| format!("'{text}' is not a size such as 8MB, from 1KB to 1GB"))
}

pub(super) fn share(text: &str) -> Result<f64, String> {
    let (number, scale) = text
        .strip_suffix('%')
        .map_or((text, 1.0), |percent| (percent, 100.0));
    match number.trim().parse::<f64>() {
        Ok(value) if (0.0..=scale).contains(&value) => Ok(value / scale),
        _ => Err(format!("'{text}' is not a share such as 1% or 0.01")),
    }
}

pub(super) fn topic_name(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if text.is_empty()
        || text.len() > 249
        || !text.chars().all(allowed)
        || text == "."
        || text == ".."
    {
        return Err(format!(
            "'{text}' is not a topic name: 1 to 249 of A-Z a-z 0-9 . _ -"
        ));
    }
    Ok(text.to_owned())
}

/// In whichever form, as a URL. Refused later, where no part of it is quoted.
pub(super) fn database_url(text: &str) -> Result<String, String> {
    Ok(store::as_url(text))
}

pub(super) fn writer_schema(text: &str) -> Result<(u32, PathBuf), String> {
    text.split_once('=')
        .and_then(|(id, file)| Some((id.trim().parse().ok()?, PathBuf::from(file))))
        .ok_or_else(|| format!("'{text}' is not of the form ID=FILE"))
}

/// Reads properties. In clap's own words, what is wrong would be quoted, and a part of it may be a password.
#[derive(Clone)]
pub(super) struct PropertiesParser;

impl TypedValueParser for PropertiesParser {
    type Value = Properties;

    fn parse_ref(
        &self,
        command: &Command,
        _: Option<&Arg>,
        value: &OsStr,
    ) -> Result<Properties, clap::Error> {
        let text = value.to_str().ok_or_else(|| "not UTF-8".to_owned());
        text.and_then(kafka::parse_properties).map_err(|why| {
            let why = format!("--kafka-property (ADFLUX_KAFKA_PROPERTIES): {why}\n");
            clap::Error::raw(ErrorKind::ValueValidation, why).with_cmd(command)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        assert_eq!(share("1%"), Ok(0.01));
        assert_eq!(share("0.5"), Ok(0.5));
        assert_eq!(share("100%"), Ok(1.0));
        for bad in ["", "101%", "1.1", "-1%", "x"] {
            assert!(share(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lengths_of_time() {
        assert_eq!(duration("2ms"), Ok(Duration::from_millis(2)));
        assert_eq!(backfill("7d"), Ok(Duration::from_secs(7 * 86_400)));
        assert!(duration("7").is_err());
        assert!(backfill("20years").is_err());
    }

    #[test]
    fn topic_names() {
        assert!(topic_name("ad-events").is_ok());
        for bad in ["", "a b", "..", &"x".repeat(250)] {
            assert!(topic_name(bad).is_err(), "{bad}");
        }
    }
}

//! Times as documents have them.

use chrono::{DateTime, SecondsFormat, Utc};

/// RFC 3339 in UTC, to the microsecond.
pub fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

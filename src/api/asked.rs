//! What a request asks for: the window, the metrics, the platforms. The same parameters wherever sums or
//! events are asked for.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::body::Fields;
use super::endpoints;
use super::params::{Parameter, Query};
use super::problem::Problem;
use super::window::{self, Asked, When, parse_time, parse_zone};
use crate::event::Platform;

fn zone(query: &Query) -> Result<Tz, Problem> {
    let name = query.get(&endpoints::TIME_ZONE).unwrap_or("UTC");
    parse_zone(endpoints::TIME_ZONE.name, name)
}

fn time(query: &Query, parameter: &'static Parameter) -> Result<Option<When>, Problem> {
    let given = query.get(parameter);
    given.map(|t| parse_time(parameter.name, t)).transpose()
}

/// The instant of the past that is asked about, if one is.
pub(super) fn instant(query: &Query) -> Result<Option<DateTime<Utc>>, Problem> {
    let Some(instant) = time(query, &endpoints::AS_OF)? else {
        return Ok(None);
    };
    let increment = query.get(&endpoints::TIME_INCREMENT) != Some("all");
    if increment || query.has(&endpoints::COMPARE) {
        let detail =
            "as_of goes with one row for the whole window: leave time_increment and compare out";
        return Err(Problem::parameter("as_of", detail));
    }
    Ok(instant.instant(zone(query)?))
}

/// The window a request asks for at an instant, and its zone.
pub(super) fn window(query: &Query, now: DateTime<Utc>) -> Result<(Asked, Tz), Problem> {
    let zone = zone(query)?;
    let asked = window::asked(
        time(query, &endpoints::SINCE)?,
        time(query, &endpoints::UNTIL)?,
        query.get(&endpoints::DATE_PRESET),
        zone,
        now,
    )?;
    Ok((asked, zone))
}

/// The metrics a request asks for.
pub(super) fn fields(query: &Query) -> Fields {
    query
        .words(&endpoints::FIELDS)
        .map_or(Fields::ALL, Fields::named)
}

/// The platforms a request is about; none named: all.
pub(super) fn platforms(query: &Query) -> Vec<Platform> {
    let names = query.words(&endpoints::PLATFORM).unwrap_or_default();
    names.into_iter().filter_map(Platform::from_name).collect()
}

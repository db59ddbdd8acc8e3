//! What a request asks for: the window, the metrics, the platforms. The same parameters wherever sums or
//! events are asked for.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::body::Fields;
use super::parameters::{DATE_PRESET, FIELDS, PLATFORM, Parameter, SINCE, TIME_ZONE, UNTIL};
use super::problem::Problem;
use super::request::Arguments;
use super::window::{self, Asked, When, parse_time, parse_zone};
use crate::event::Platform;

pub(super) fn zone(given: &Arguments) -> Result<Tz, Problem> {
    let name = given.get(&TIME_ZONE).unwrap_or("UTC");
    parse_zone(TIME_ZONE.name, name)
}

pub(super) fn time(
    given: &Arguments,
    parameter: &'static Parameter,
) -> Result<Option<When>, Problem> {
    let given = given.get(parameter);
    given.map(|t| parse_time(parameter.name, t)).transpose()
}

/// The window a request asks for at an instant, and its zone.
pub(super) fn window(given: &Arguments, now: DateTime<Utc>) -> Result<(Asked, Tz), Problem> {
    let zone = zone(given)?;
    let asked = window::asked(
        time(given, &SINCE)?,
        time(given, &UNTIL)?,
        given.get(&DATE_PRESET),
        zone,
        now,
    )?;
    Ok((asked, zone))
}

/// The metrics a request asks for.
pub(super) fn fields(given: &Arguments) -> Fields {
    given.words(&FIELDS).map_or(Fields::ALL, Fields::named)
}

/// The platforms a request is about; none named: all.
pub(super) fn platforms(given: &Arguments) -> Vec<Platform> {
    let names = given.words(&PLATFORM).unwrap_or_default();
    names.into_iter().filter_map(Platform::from_name).collect()
}

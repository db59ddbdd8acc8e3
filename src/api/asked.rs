//! What a request asks for: the window, the metrics, the platforms. The same parameters wherever sums or
//! events are asked for.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use diesel::PgConnection;

use super::State;
use super::body::Fields;
use super::limits::Cost;
use super::parameters::{
    ACCOUNT, DATE_PRESET, FIELDS, PLATFORM, Parameter, SINCE, TIME_ZONE, UNTIL,
};
use super::problem::Problem;
use super::request::Arguments;
use super::window::{self, Asked, When, parse_time, parse_zone};
use crate::event::Platform;
use crate::store::read::descriptions;

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

/// The zone of a request about a campaign, which may be that of its account.
pub(super) async fn zone_of_campaign(
    state: &State,
    id: &str,
    given: &Arguments,
) -> Result<Tz, Problem> {
    if given.get(&TIME_ZONE) != Some(ACCOUNT) {
        return zone(given);
    }
    let description = match state.shards.of(id).cache.description(id).await {
        Some(known) => Some(known),
        // Nothing is known of it, or the database was away.
        None => {
            let asked = id.to_owned();
            let read =
                move |connection: &mut PgConnection| descriptions::of_one(connection, &asked);
            state.ask_of(id, Cost::Index, read).await?
        }
    };
    let zone = description.and_then(|known| known.account.time_zone.parse().ok());
    zone.ok_or_else(|| Problem::no_account(id))
}

/// The window a request asks for at an instant, and its zone.
pub(super) fn window(given: &Arguments, now: DateTime<Utc>) -> Result<(Asked, Tz), Problem> {
    let zone = zone(given)?;
    Ok((window_in(given, zone, now)?, zone))
}

/// The window a request asks for at an instant, in a zone.
pub(super) fn window_in(given: &Arguments, zone: Tz, now: DateTime<Utc>) -> Result<Asked, Problem> {
    window::asked(
        time(given, &SINCE)?,
        time(given, &UNTIL)?,
        given.get(&DATE_PRESET),
        zone,
        now,
    )
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

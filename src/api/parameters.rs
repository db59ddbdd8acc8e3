//! The parameters of endpoints: what a value may be, how it is checked, and those that several endpoints take.

// Bytes from outside come through here.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use serde_json::{Value, json};

use super::filter::Filter;
use super::live::event_id;
use super::problem::{Problem, shorten};
use super::{cursor, window};
use crate::alerts::draft::{MAX_NAME, NAME_FORM, is_name};
use crate::currency::Currency;
use crate::event::{CampaignId, Platform};
use crate::totals::metric::Metric;

/// What a parameter's value may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ParameterType {
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Several of these words, separated by commas, each at most once.
    SomeOf(&'static [&'static str]),
    /// A whole number within bounds.
    Integer { least: i64, most: i64 },
    /// An RFC 3339 time, or a date: midnight of it in the request's time zone.
    Time,
    /// An IANA time zone.
    TimeZone,
    /// The same, or that of a campaign's account.
    TimeZoneOrAccount,
    /// A currency of ISO 4217.
    Currency,
    /// A day of a calendar.
    Date,
    /// A campaign id.
    CampaignId,
    /// Several campaign ids, separated by commas.
    CampaignIds { most: usize },
    /// The name of an alert rule.
    RuleName,
    /// `METRIC OPERATOR NUMBER`, such as `roas<1`.
    Filter,
    /// What `paging.next_cursor` of an earlier answer said.
    Cursor,
    /// The id of an event of a live feed.
    EventId,
    /// Any text of up to so many characters.
    Text { most: usize },
    /// A name that is known or not, whatever it is.
    Name,
}

/// Where a parameter stands in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum In {
    Path,
    Query,
    Header,
}

impl In {
    /// As OpenAPI says it.
    pub fn as_str(self) -> &'static str {
        match self {
            In::Path => "path",
            In::Query => "query",
            In::Header => "header",
        }
    }
}

/// Makes the problem of a parameter from its name, its value and what is wrong with it.
type Refuse = fn(&str, &str, String) -> Problem;

/// One parameter of an endpoint.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameter {
    pub name: &'static str,
    pub within: In,
    pub is_a: ParameterType,
    /// What stands in for it when it is not given, as it would be given.
    pub default: Option<&'static str>,
    /// How often it may be given.
    pub times: usize,
    pub description: &'static str,
    refuse: Refuse,
}

impl Parameter {
    const fn new(
        within: In,
        name: &'static str,
        is_a: ParameterType,
        description: &'static str,
    ) -> Parameter {
        Parameter {
            name,
            within,
            is_a,
            default: None,
            times: 1,
            description,
            refuse: |name, _, detail| Problem::parameter(name, detail),
        }
    }

    /// A parameter of the query string that may be given once.
    pub const fn query(
        name: &'static str,
        is_a: ParameterType,
        description: &'static str,
    ) -> Parameter {
        Parameter::new(In::Query, name, is_a, description)
    }

    /// A part of the path.
    pub const fn path(
        name: &'static str,
        is_a: ParameterType,
        description: &'static str,
    ) -> Parameter {
        Parameter::new(In::Path, name, is_a, description)
    }

    /// A header.
    pub const fn header(
        name: &'static str,
        is_a: ParameterType,
        description: &'static str,
    ) -> Parameter {
        Parameter::new(In::Header, name, is_a, description)
    }

    /// With what stands in for it.
    pub const fn or(self, default: &'static str) -> Parameter {
        Parameter {
            default: Some(default),
            ..self
        }
    }

    /// Given up to so many times.
    pub const fn up_to(self, times: usize) -> Parameter {
        Parameter { times, ..self }
    }

    /// With a problem of its own for a value that is not of its type.
    pub const fn refused_as(self, refuse: Refuse) -> Parameter {
        Parameter { refuse, ..self }
    }

    /// Whether a value is of its type. What needs more than the text alone (`since` after `until`) is left to
    /// who reads it.
    ///
    /// # Errors
    /// A [`Problem`] that names the parameter.
    pub fn check(&self, value: &str) -> Result<(), Problem> {
        let fail = |detail: String| Err((self.refuse)(self.name, value, detail));
        let shown = shorten(value);
        if self.is_a != ParameterType::Name && value.chars().any(char::is_control) {
            return fail(format!("'{shown}' has control characters"));
        }
        match self.is_a {
            ParameterType::OneOf(words) => {
                if !words.contains(&value) {
                    return fail(format!("'{shown}' is none of {}", words.join(", ")));
                }
            }
            ParameterType::SomeOf(words) => {
                let mut seen: Vec<&str> = Vec::new();
                for word in value.split(',') {
                    if !words.contains(&word) {
                        let word = shorten(word);
                        return fail(format!("'{word}' is none of {}", words.join(", ")));
                    }
                    if seen.contains(&word) {
                        return fail(format!("'{word}' stands there twice"));
                    }
                    seen.push(word);
                }
            }
            ParameterType::Integer { least, most } => {
                if !value.parse().is_ok_and(|n| (least..=most).contains(&n)) {
                    return fail(format!(
                        "'{shown}' is not a whole number from {least} to {most}"
                    ));
                }
            }
            ParameterType::Time => {
                window::parse_time(self.name, value)?;
            }
            ParameterType::TimeZoneOrAccount if value == ACCOUNT => {}
            ParameterType::TimeZone | ParameterType::TimeZoneOrAccount => {
                window::parse_zone(self.name, value)?;
            }
            ParameterType::Currency => {
                // In capitals, so that a question is written in one way.
                let known = Currency::from_code(value);
                if known.is_none_or(|known| known.code() != value) {
                    return fail(format!(
                        "'{shown}' is not a currency of ISO 4217 such as EUR"
                    ));
                }
            }
            ParameterType::Date => {
                if window::parse_date(value).is_none() {
                    return fail(format!(
                        "'{shown}' is not a date such as 2026-01-31, from 1970 to 9999"
                    ));
                }
            }
            ParameterType::CampaignId => {
                if CampaignId::parse(value).is_err() {
                    return fail(format!("'{shown}' is not a campaign id: {ID_FORM}"));
                }
            }
            ParameterType::CampaignIds { most } => {
                let mut ids: Vec<&str> = value.split(',').collect();
                if ids.len() > most {
                    return fail(format!("{} campaigns; at most {most}", ids.len()));
                }
                for id in &ids {
                    if CampaignId::parse(id).is_err() {
                        let id = shorten(id);
                        return fail(format!("'{id}' is not a campaign id: {ID_FORM}"));
                    }
                }
                ids.sort_unstable();
                let count = ids.len();
                ids.dedup();
                if ids.len() < count {
                    return fail("a campaign stands there twice".to_owned());
                }
            }
            ParameterType::RuleName => {
                if !is_name(value) {
                    return fail(format!("'{shown}' is not a name: {NAME_FORM}"));
                }
            }
            ParameterType::Filter => {
                Filter::parse(self.name, value)?;
            }
            ParameterType::Cursor => {
                // What it says is checked against the question it belongs to.
                if value.len() > MAX_CURSOR || !value.bytes().all(|b| b.is_ascii_graphic()) {
                    return fail(cursor::NOT_OURS.to_owned());
                }
            }
            ParameterType::EventId => {
                event_id::read(value)?;
            }
            ParameterType::Text { most } => {
                if value.is_empty() || value.chars().count() > most {
                    return fail(format!("must have 1 to {most} characters"));
                }
            }
            ParameterType::Name => {}
        }
        Ok(())
    }
}

/// The longest cursor that is read, in bytes.
const MAX_CURSOR: usize = 512;
/// What a campaign id may be, in words.
const ID_FORM: &str = "1 to 64 characters of A-Z a-z 0-9 _ . : -";
/// The same in JSON Schema.
pub(super) const ID_PATTERN: &str = "^[A-Za-z0-9_.:-]{1,64}$";
/// Such an id, or the beginning of one with a * behind it.
pub(super) const ID_PREFIX_PATTERN: &str = "^[A-Za-z0-9_.:-]{1,64}\\*?$";
/// What a rule's or a webhook's name may be, in JSON Schema.
pub(super) fn name_schema() -> Value {
    json!({
        "type": "string", "maxLength": MAX_NAME,
        "pattern": "^[A-Za-z0-9_.-]*[A-Za-z0-9_-][A-Za-z0-9_.-]*$",
    })
}

impl ParameterType {
    /// Whether values are several, separated by commas.
    pub fn is_list(self) -> bool {
        matches!(
            self,
            ParameterType::SomeOf(_) | ParameterType::CampaignIds { .. }
        )
    }

    /// What a value may be, in JSON Schema.
    pub fn schema(self) -> Value {
        match self {
            ParameterType::OneOf(words) => json!({ "type": "string", "enum": words }),
            ParameterType::SomeOf(words) => json!({
                "type": "array", "items": { "type": "string", "enum": words }, "uniqueItems": true, "minItems": 1,
            }),
            ParameterType::Integer { least, most } => {
                json!({ "type": "integer", "minimum": least, "maximum": most })
            }
            ParameterType::Time => json!({
                "type": "string",
                "anyOf": [{ "format": "date-time" }, { "format": "date" }],
                "examples": ["2026-01-31T12:00:00Z", "2026-01-31"],
            }),
            ParameterType::TimeZone => json!({
                "type": "string", "pattern": "^[A-Za-z0-9_+/-]{1,64}$",
                "examples": ["Europe/Berlin", "America/New_York", "UTC"],
            }),
            ParameterType::TimeZoneOrAccount => json!({
                "type": "string", "pattern": "^[A-Za-z0-9_+/-]{1,64}$",
                "examples": ["Europe/Berlin", "UTC", ACCOUNT],
            }),
            ParameterType::Currency => {
                json!({ "type": "string", "pattern": "^[A-Z]{3}$", "examples": ["EUR"] })
            }
            ParameterType::Date => {
                json!({ "type": "string", "format": "date", "examples": ["2026-01-31"] })
            }
            ParameterType::CampaignId => json!({ "type": "string", "pattern": ID_PATTERN }),
            ParameterType::CampaignIds { most } => json!({
                "type": "array", "items": { "type": "string", "pattern": ID_PATTERN },
                "uniqueItems": true, "minItems": 1, "maxItems": most,
            }),
            ParameterType::RuleName => name_schema(),
            ParameterType::Filter => json!({
                "type": "string",
                "pattern": format!(
                    "^ *({}) *(<|<=|>|>=|=|!=) *[+-]?[0-9]{{1,12}}(\\.[0-9]{{1,6}})?(e[+-]?[0-9]{{1,2}})? *$",
                    Metric::NAMES.join("|")
                ),
                "examples": ["roas<1", "cost>=100"],
            }),
            ParameterType::Cursor => json!({
                "type": "string", "maxLength": MAX_CURSOR,
                "pattern": format!("^[0-9a-f]{{{}}}(\\.-?[0-9]{{1,19}})+$", cursor::BEFORE_NUMBERS),
            }),
            ParameterType::EventId => json!({
                "type": "string", "maxLength": 8192,
                "pattern": "^([0-9]*|[0-9]{1,9}\\.[0-9]{1,18}(-[0-9]{1,9}\\.[0-9]{1,18})*)$",
            }),
            ParameterType::Text { most } => json!({
                "type": "string", "minLength": 1, "maxLength": most,
                "pattern": "^[^\\x00-\\x1f\\x7f-\\x9f]*$",
            }),
            ParameterType::Name => json!({ "type": "string", "minLength": 1 }),
        }
    }
}

pub(super) static ID: Parameter = Parameter::path(
    "id",
    ParameterType::CampaignId,
    "The campaign: 1 to 64 characters of A-Z a-z 0-9 _ . : -",
)
.refused_as(|name, _, detail| Problem::campaign_id(name, detail));
pub(super) static SINCE: Parameter = Parameter::query(
    "since",
    ParameterType::Time,
    "Start of the window, included: an RFC 3339 time, or a date, which is midnight in time_zone. Rounded down to the minute.",
);
pub(super) static UNTIL: Parameter = Parameter::query(
    "until",
    ParameterType::Time,
    "End of the window, not included; now if it is not given. Rounded up to the minute. At most 3,660 days after since.",
);
pub(super) static DATE_PRESET: Parameter = Parameter::query(
    "date_preset",
    ParameterType::OneOf(window::DATE_PRESETS),
    "A window by name instead of since and until, in days of time_zone. last_7d and its like are whole days without today, last_7d_including_today ends now; maximum is all time, as is no window at all.",
);
pub(super) static TIME_ZONE: Parameter = Parameter::query(
    "time_zone",
    ParameterType::TimeZone,
    "The IANA time zone whose days, weeks and months are meant, such as Europe/Berlin.",
)
.or("UTC");
/// The time zone of a campaign's account, among time zones.
pub(super) const ACCOUNT: &str = "account";
static ACCOUNT_OR_TIME_ZONE: Parameter = Parameter::query(
    TIME_ZONE.name,
    ParameterType::TimeZoneOrAccount,
    "The IANA time zone whose days, weeks and months are meant, such as Europe/Berlin; or account, that of the campaign's account, whose days its reports are of.",
)
.or("UTC");
/// The window of time that is meant.
pub(super) static WINDOW: &[Parameter] = &[SINCE, UNTIL, DATE_PRESET, TIME_ZONE];
/// The same, of one campaign.
pub(super) static WINDOW_OF_CAMPAIGN: &[Parameter] =
    &[SINCE, UNTIL, DATE_PRESET, ACCOUNT_OR_TIME_ZONE];
pub(super) static PLATFORM: Parameter = Parameter::query(
    "platform",
    ParameterType::SomeOf(&Platform::NAMES),
    "Only these platforms, separated by commas.",
);
pub(super) static FIELDS: Parameter = Parameter::query(
    "fields",
    ParameterType::SomeOf(Metric::NAMES),
    "Only these metrics, separated by commas; all of them if it is not given.",
);
pub(super) static COMPARE: Parameter = Parameter::query(
    "compare",
    ParameterType::OneOf(&["previous_period"]),
    "Adds what the period of the same length before had, and the change since: absolute, and relative to it, which is null where it was zero or had no value.",
);
pub(super) static FORMAT: Parameter = Parameter::query(
    "format",
    ParameterType::OneOf(&["json", "csv"]),
    "How the answer is written; without it, the Accept header decides: text/csv is CSV, everything else JSON.",
);
pub(super) static CURSOR: Parameter = Parameter::query(
    "cursor",
    ParameterType::Cursor,
    "paging.next_cursor of the page before, with the same other parameters.",
)
.refused_as(|_, _, detail| Problem::cursor(detail));
pub(super) static LIMIT: Parameter = Parameter::query(
    "limit",
    ParameterType::Integer {
        least: 1,
        most: 500,
    },
    "Rows of data in an answer.",
)
.or("50");

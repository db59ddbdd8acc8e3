//! The parameters of a request: declared once, in a table an endpoint. The same table refuses what
//! it does not know, and is what the OpenAPI document is made from.

// Bytes from outside come through here.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::fmt::Write as _;

use super::problem::{Problem, shorten};

/// What a parameter's value may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
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
    /// A campaign id.
    CampaignId,
    /// Several campaign ids, separated by commas.
    CampaignIds { most: usize },
    /// `METRIC OPERATOR NUMBER`, such as `roas<1`.
    Filter,
    /// What `paging.next_cursor` of an earlier answer said.
    Cursor,
    /// Any text of up to so many characters.
    Text { most: usize },
}

/// Where a parameter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Path,
    Query,
}

/// One parameter of an endpoint.
#[allow(dead_code, reason = "some fields are for what documents the API")]
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameter {
    pub name: &'static str,
    pub place: Place,
    pub kind: Kind,
    /// What stands in for it when it is not given, as it would be given.
    pub default: Option<&'static str>,
    /// How often it may be given.
    pub times: usize,
    pub description: &'static str,
}

impl Parameter {
    /// A parameter of the query string that may be given once.
    pub const fn query(name: &'static str, kind: Kind, description: &'static str) -> Parameter {
        Parameter {
            name,
            place: Place::Query,
            kind,
            default: None,
            times: 1,
            description,
        }
    }

    /// A part of the path.
    pub const fn path(name: &'static str, kind: Kind, description: &'static str) -> Parameter {
        Parameter {
            name,
            place: Place::Path,
            kind,
            default: None,
            times: 1,
            description,
        }
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
}

/// A path, what it answers and the parameters it takes.
#[allow(dead_code, reason = "some fields are for what documents the API")]
#[derive(Clone, Copy, Debug)]
pub(super) struct Endpoint {
    /// The path, with its parameters in braces.
    pub path: &'static str,
    /// What it answers, in a few words.
    pub summary: &'static str,
    pub description: &'static str,
    pub parameters: &'static [Parameter],
    /// Whether it answers CSV as well.
    pub csv: bool,
}

/// The longest query string that is read, in bytes.
pub(super) const MAX_QUERY_BYTES: usize = 8_192;

/// The parameters of a request, each known to its endpoint and of the right kind.
#[derive(Debug)]
pub(super) struct Query {
    given: Vec<(&'static Parameter, String)>,
}

impl Query {
    /// Parses a query string.
    ///
    /// # Errors
    /// A [`Problem`] that names the parameter that is unknown, given too often or not what it must
    /// be.
    pub fn parse(raw: &str, endpoint: &'static Endpoint) -> Result<Query, Problem> {
        if raw.len() > MAX_QUERY_BYTES {
            return Err(Problem::query_too_long(raw.len(), MAX_QUERY_BYTES));
        }
        let mut given: Vec<(&'static Parameter, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(raw.as_bytes()) {
            let known = |p: &&Parameter| p.place == Place::Query && p.name == name;
            let Some(parameter) = endpoint.parameters.iter().find(known) else {
                return Err(unknown(&name, endpoint));
            };
            let before = given.iter().filter(|(p, _)| p.name == parameter.name);
            match (before.count(), parameter.times) {
                (before, times) if before < times => {}
                (_, 1) => {
                    let detail = format!("'{name}' was given twice");
                    return Err(Problem::parameter(&name, detail));
                }
                (_, times) => {
                    let detail = format!("'{name}' was given more than {times} times");
                    return Err(Problem::parameter(&name, detail));
                }
            }
            check(parameter, &value)?;
            given.push((parameter, value.into_owned()));
        }
        Ok(Query { given })
    }

    /// The value of a parameter, or its default.
    pub fn get(&self, parameter: &'static Parameter) -> Option<&str> {
        self.all(parameter).next().or(parameter.default)
    }

    /// Every value of a parameter.
    pub fn all(&self, parameter: &'static Parameter) -> impl Iterator<Item = &str> {
        self.given
            .iter()
            .filter(|(p, _)| p.name == parameter.name)
            .map(|(_, value)| value.as_str())
    }

    /// Whether a parameter was given.
    pub fn has(&self, parameter: &'static Parameter) -> bool {
        self.all(parameter).next().is_some()
    }

    /// The words of a list; none if it was not given.
    pub fn words(&self, parameter: &'static Parameter) -> Option<Vec<&str>> {
        Some(self.get(parameter)?.split(',').collect())
    }

    /// The value of an [`Kind::Integer`], which was found to be one.
    pub fn integer(&self, parameter: &'static Parameter) -> i64 {
        self.get(parameter)
            .and_then(|text| text.parse().ok())
            .unwrap_or_default()
    }

    /// What was asked, whatever the order of its parameters; without those named.
    pub fn question(&self, without: &[&'static Parameter]) -> String {
        let mut parts: Vec<_> = self
            .given
            .iter()
            .filter(|(p, _)| !without.iter().any(|w| w.name == p.name))
            .map(|(p, value)| (p.name, value.as_str()))
            .collect();
        parts.sort_unstable();
        let mut text = String::new();
        for (name, value) in parts {
            // Writing to a String cannot fail.
            let _ = write!(text, "{name}={value}&");
        }
        text
    }
}

fn unknown(name: &str, endpoint: &Endpoint) -> Problem {
    let known: Vec<&str> = endpoint
        .parameters
        .iter()
        .filter(|p| p.place == Place::Query)
        .map(|p| p.name)
        .collect();
    let detail = format!(
        "unknown parameter '{}'; {} takes {}",
        shorten(name),
        endpoint.path,
        known.join(", ")
    );
    Problem::unknown_parameter(name, detail)
}

/// Whether a value is of its parameter's kind. What needs more than the text alone (a metric's name
/// in a filter, `since` after `until`) is left to who reads it.
pub(super) fn check(parameter: &Parameter, value: &str) -> Result<(), Problem> {
    let fail = |detail: String| Err(Problem::parameter(parameter.name, detail));
    let shown = shorten(value);
    if value.chars().any(char::is_control) {
        return fail(format!("'{shown}' has control characters"));
    }
    match parameter.kind {
        Kind::OneOf(words) => {
            if !words.contains(&value) {
                return fail(format!("'{shown}' is none of {}", words.join(", ")));
            }
        }
        Kind::SomeOf(words) => {
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
        Kind::Integer { least, most } => {
            if !value.parse().is_ok_and(|n| (least..=most).contains(&n)) {
                return fail(format!(
                    "'{shown}' is not a whole number from {least} to {most}"
                ));
            }
        }
        Kind::Time => {
            super::window::parse_time(parameter.name, value)?;
        }
        Kind::TimeZone => {
            super::window::parse_zone(parameter.name, value)?;
        }
        Kind::CampaignId => {
            if crate::event::CampaignId::parse(value).is_err() {
                return Err(Problem::campaign_id(value));
            }
        }
        Kind::CampaignIds { most } => {
            let mut ids: Vec<&str> = value.split(',').collect();
            if ids.len() > most {
                return fail(format!("{} campaigns; at most {most}", ids.len()));
            }
            for id in &ids {
                if crate::event::CampaignId::parse(id).is_err() {
                    let id = shorten(id);
                    return fail(format!(
                        "'{id}' is not a campaign id: 1 to 64 characters of A-Z a-z 0-9 _ . : -"
                    ));
                }
            }
            ids.sort_unstable();
            let count = ids.len();
            ids.dedup();
            if ids.len() < count {
                return fail("a campaign stands there twice".to_owned());
            }
        }
        Kind::Filter => {
            super::filter::Filter::parse(parameter.name, value)?;
        }
        Kind::Cursor => {
            // What it says is checked against the question it belongs to.
            if value.len() > 512 || !value.bytes().all(|b| b.is_ascii_graphic()) {
                return Err(Problem::cursor(super::cursor::NOT_OURS));
            }
        }
        Kind::Text { most } => {
            if value.is_empty() || value.chars().count() > most {
                return fail(format!("must have 1 to {most} characters"));
            }
            // No text in PostgreSQL has one.
            if value.contains('\0') {
                return fail("must not hold a NUL".to_owned());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::endpoints::CAMPAIGNS;
    use super::*;
    use proptest::prelude::*;

    static LIMIT: Parameter =
        Parameter::query("limit", Kind::Integer { least: 1, most: 10 }, "").or("5");
    static WORDS: Parameter = Parameter::query("words", Kind::SomeOf(&["a", "b"]), "");
    static IDS: Parameter = Parameter::query("ids", Kind::CampaignIds { most: 2 }, "");
    static TEXT: Parameter = Parameter::query("text", Kind::Text { most: 3 }, "").up_to(2);
    static ENDPOINT: Endpoint = Endpoint {
        path: "/test",
        summary: "",
        description: "",
        parameters: &[LIMIT, WORDS, IDS, TEXT],
        csv: false,
    };

    fn refused(raw: &str) -> (String, String) {
        let problem = Query::parse(raw, &ENDPOINT).expect_err(raw);
        let problem = serde_json::to_value(problem).expect("serialises");
        let text = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
        (text("parameter"), text("detail"))
    }

    #[test]
    fn values_and_defaults() {
        let query = Query::parse("words=b,a&text=x&text=y%20z", &ENDPOINT).expect("valid");
        assert_eq!(query.integer(&LIMIT), 5);
        assert_eq!(query.words(&WORDS), Some(vec!["b", "a"]));
        assert_eq!(query.words(&IDS), None);
        assert_eq!(query.all(&TEXT).collect::<Vec<_>>(), ["x", "y z"]);
        let other = Query::parse("text=x&text=y+z&limit=3&words=b,a", &ENDPOINT).expect("valid");
        assert_eq!(query.question(&[]), other.question(&[&LIMIT]));
        assert_ne!(query.question(&[]), other.question(&[]));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (raw, parameter, detail) in [
            (
                "color=red",
                "color",
                "unknown parameter 'color'; /test takes limit, words, ids, text",
            ),
            ("limit=1&limit=2", "limit", "given twice"),
            ("text=a&text=b&text=c", "text", "more than 2 times"),
            ("limit=0", "limit", "'0' is not a whole number from 1 to 10"),
            ("limit=99999999999999999999", "limit", "not a whole number"),
            ("limit=", "limit", "not a whole number"),
            ("words=a,c", "words", "'c' is none of a, b"),
            ("words=a,a", "words", "twice"),
            ("ids=a,b,c", "ids", "3 campaigns; at most 2"),
            ("ids=a,a", "ids", "twice"),
            ("ids=a,%2F", "ids", "not a campaign id"),
            ("text=abcd", "text", "1 to 3 characters"),
            ("text=%00", "text", "control characters"),
        ] {
            let (at, said) = refused(raw);
            assert_eq!(at, parameter, "{raw}");
            assert!(said.contains(detail), "{raw}: {said}");
        }
        assert!(
            refused(&"x".repeat(MAX_QUERY_BYTES + 1))
                .1
                .contains("bytes")
        );
    }

    proptest! {
        #[test]
        fn nothing_panics(raw in "\\PC{0,200}") {
            let _ = Query::parse(&raw, &CAMPAIGNS);
        }

        #[test]
        fn no_value_panics(parameter in prop::sample::select(CAMPAIGNS.parameters.to_vec()), value in "\\PC{0,40}") {
            let _ = check(&parameter, &value);
        }

        #[test]
        fn no_time_panics(time in "[0-9TZ:.+-]{0,40}", date in "[0-9]{4}-[01][0-9]-[0-3][0-9]") {
            let _ = Query::parse(&format!("since={time}&until={date}"), &CAMPAIGNS);
        }
    }
}

//! A request as handlers see it: every parameter in it was checked by [`super::reading`].

// Bytes from outside come through here.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::fmt::Write as _;
use std::net::IpAddr;
use std::str::FromStr;

use bytes::Bytes;
use warp::http::HeaderMap;
use warp::path::FullPath;

use super::answer::{Format, wants_csv};
use super::intake::Room;
use super::limits::Cost;
use super::parameters::{FORMAT, In, Parameter};
use super::problem::Problem;

/// The longest query string that is read, in bytes.
pub(super) const MAX_QUERY_BYTES: usize = 8_192;

/// The name of the key that a request came with.
#[derive(Clone, Debug)]
pub(super) struct KeyName(pub String);

/// Whose request it is: an address, or the network that stands for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client(pub IpAddr);

/// See the module.
pub(super) struct Request {
    /// Whose it is; unknown in a process that serves no more than its metrics.
    pub client: Option<Client>,
    pub arguments: Arguments,
    /// What its endpoint costs.
    pub cost: Cost,
    pub path: FullPath,
    pub query: String,
    pub headers: HeaderMap,
    /// None: it needs no key here.
    pub key: Option<KeyName>,
    pub body: Bytes,
    /// Its share of what may be taken in at a time, where it sends something.
    pub room: Option<Room>,
}

impl Request {
    /// How the answer is to be written: as `format` says, or else the `Accept` header.
    pub fn format(&self) -> Format {
        match self.arguments.get(&FORMAT) {
            Some("csv") => Format::Csv,
            None if wants_csv(&self.headers) => Format::Csv,
            Some(_) | None => Format::Json,
        }
    }

    /// The name of the key it came with, if keys are required.
    pub fn key_name(&self) -> Option<&str> {
        self.key.as_ref().map(|key| key.0.as_str())
    }

    /// The path and the query string, as they were sent.
    pub fn target(&self) -> String {
        let mark = if self.query.is_empty() { "" } else { "?" };
        format!("{}{mark}{}", self.path.as_str(), self.query)
    }
}

/// What was given for an endpoint's parameters: each known to it, and of its type.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    given: Vec<(&'static Parameter, String)>,
}

impl Arguments {
    /// Adds what was given for a parameter.
    ///
    /// # Errors
    /// A [`Problem`] when it is not of the parameter's type.
    pub fn add(&mut self, parameter: &'static Parameter, value: String) -> Result<(), Problem> {
        parameter.check(&value)?;
        self.given.push((parameter, value));
        Ok(())
    }

    /// The value of a parameter, or its default.
    pub fn get(&self, parameter: &'static Parameter) -> Option<&str> {
        self.all(parameter).next().or(parameter.default)
    }

    /// The value of a parameter of the path, which is always there.
    pub fn in_path(&self, parameter: &'static Parameter) -> &str {
        self.get(parameter).unwrap_or_default()
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

    /// The value of a whole number above zero, which was found to be one and has a default.
    pub fn integer<N: FromStr + Default>(&self, parameter: &'static Parameter) -> N {
        self.get(parameter)
            .and_then(|text| text.parse().ok())
            .unwrap_or_default()
    }

    /// What the query string asked, whatever the order of its parameters; without those named.
    pub fn question(&self, without: &[&'static Parameter]) -> String {
        let mut parts: Vec<_> = self
            .given
            .iter()
            .filter(|(p, _)| p.within == In::Query && !without.iter().any(|w| w.name == p.name))
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

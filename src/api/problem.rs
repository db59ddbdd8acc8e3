//! Errors as RFC 9457 problem documents: what is wrong, where, and what to do.

// Bytes from outside come through here.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::time::Duration;

use serde::Serialize;
use warp::http::{HeaderValue, StatusCode, header};
use warp::reply::Response;

use crate::database::Unavailable;
use crate::totals::Overflow;

mod intake;

/// A problem, as it is sent.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct Problem {
    /// Names the kind of problem; docs/api.md lists them.
    #[serde(rename = "type", serialize_with = "urn")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: Box<str>,
    /// The parameter at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    parameter: Option<String>,
    /// Where in the parameter, in characters from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<u32>,
    /// What is refused of what was sent.
    #[serde(flatten)]
    records: Option<Box<intake::Refused>>,
    #[serde(skip)]
    allow: Option<Box<str>>,
    #[serde(skip)]
    retry_after_seconds: Option<u32>,
}

impl From<Overflow> for Problem {
    fn from(_: Overflow) -> Problem {
        Problem::sum_too_large()
    }
}

impl Problem {
    fn new(
        status: u16,
        kind: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Problem {
        Problem {
            kind,
            title,
            status,
            detail: detail.into().into_boxed_str(),
            parameter: None,
            column: None,
            records: None,
            allow: None,
            retry_after_seconds: None,
        }
    }

    fn retry_after(self, seconds: u32) -> Problem {
        Problem {
            retry_after_seconds: Some(seconds),
            ..self
        }
    }

    /// 400: this parameter is not as it must be.
    pub fn parameter(name: &str, detail: impl Into<String>) -> Problem {
        Problem::at(name, "invalid-parameter", "Invalid parameter", detail)
    }

    /// 400: this parameter is not known here.
    pub fn unknown_parameter(name: &str, detail: impl Into<String>) -> Problem {
        Problem::at(name, "unknown-parameter", "Unknown parameter", detail)
    }

    /// 400: each parameter may be right, but together they ask for no window, or too large a one.
    pub fn window(name: &str, detail: impl Into<String>) -> Problem {
        Problem::at(name, "invalid-window", "Invalid window", detail)
    }

    /// 400: a cursor that this API did not give, or that was changed, or of another question.
    pub fn cursor(detail: impl Into<String>) -> Problem {
        Problem::at("cursor", "invalid-cursor", "Invalid cursor", detail)
    }

    /// 410: the list this cursor is a place in is no longer held.
    pub fn cursor_expired() -> Problem {
        let detail =
            "the list this cursor belongs to is no longer held; start again without a cursor";
        Problem {
            status: 410,
            ..Problem::at("cursor", "expired-cursor", "Expired cursor", detail)
        }
    }

    /// 414: more than any question needs.
    pub fn query_too_long(bytes: usize, most: usize) -> Problem {
        let detail = format!("the query string has {bytes} bytes; at most {most} are read");
        Problem::new(414, "query-too-long", "Query string too long", detail)
    }

    /// 400: a problem of one parameter.
    fn at(
        name: &str,
        kind: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Problem {
        Problem {
            parameter: Some(shorten(name)),
            ..Problem::new(400, kind, title, detail)
        }
    }

    /// 400: this cannot be a campaign id.
    pub fn campaign_id(name: &str, detail: impl Into<String>) -> Problem {
        Problem::at(name, "invalid-campaign-id", "Invalid campaign id", detail)
    }

    /// 404: no event of this campaign was counted.
    pub fn unknown_campaign(id: &str) -> Problem {
        let detail = format!(
            "no event of campaign '{id}' has been counted; GET /campaigns lists those that are known"
        );
        Problem::new(404, "unknown-campaign", "Unknown campaign", detail)
    }

    /// 404: no event of this campaign had been counted by an instant.
    pub fn unknown_campaign_then(id: &str, instant: &str) -> Problem {
        let detail = format!("no event of campaign '{id}' had been counted by {instant}");
        Problem::new(404, "unknown-campaign", "Unknown campaign", detail)
    }

    /// 404: no dead letter at this place.
    pub fn unknown_dead_letter() -> Problem {
        let detail =
            "there is no dead letter at this place; GET /dead-letters lists those there are";
        Problem::new(404, "unknown-dead-letter", "Unknown dead letter", detail)
    }

    /// 503: what is asked for is bounded, and the bound was met.
    pub fn too_busy(detail: &str) -> Problem {
        Problem::new(503, "unavailable", "Temporarily unavailable", detail).retry_after(1)
    }

    /// 503: of several databases not all have what was changed.
    pub fn not_everywhere(why: &Unavailable) -> Problem {
        log::debug!("answering 503: {why}");
        Problem::too_busy(
            "a database does not answer, and not all of them have this yet: say it again",
        )
    }

    /// 404: no such route.
    pub fn not_found() -> Problem {
        let detail =
            "there is nothing at this path; see GET /campaigns and GET /campaign/{id}/insights";
        Problem::new(404, "not-found", "Not found", detail)
    }

    /// 405: the path exists and takes these methods.
    pub fn method_not_allowed(allow: String) -> Problem {
        let detail = match allow.as_str() {
            "GET, HEAD" => "this path answers GET only".to_owned(),
            others => format!("this path answers {others} only"),
        };
        Problem {
            allow: Some(allow.into()),
            ..Problem::new(405, "method-not-allowed", "Method not allowed", detail)
        }
    }

    /// 400: this is not an alert rule; the field at fault, and where in it.
    pub fn rule(field: Option<&str>, column: Option<u32>, detail: impl Into<String>) -> Problem {
        Problem {
            parameter: field.map(str::to_owned),
            column,
            ..Problem::new(400, "invalid-rule", "Invalid rule", detail)
        }
    }

    /// 404: no rule of that name.
    pub fn unknown_rule(name: &str) -> Problem {
        let detail = format!(
            "there is no rule '{}'; GET /alerts/rules lists those there are",
            shorten(name)
        );
        Problem::new(404, "unknown-rule", "Unknown rule", detail)
    }

    /// 404: no alert of that id.
    pub fn unknown_alert(id: &str) -> Problem {
        let detail = format!(
            "there is no alert '{}'; GET /alerts lists those there are",
            shorten(id)
        );
        Problem::new(404, "unknown-alert", "Unknown alert", detail)
    }

    /// 409: as things are, this cannot be done with a rule.
    pub fn rule_conflict(detail: impl Into<String>) -> Problem {
        Problem::new(409, "rule-conflict", "Conflict", detail)
    }

    /// 415: what is sent must be JSON.
    pub fn not_json() -> Problem {
        let detail = "send JSON, with Content-Type: application/json";
        Problem::new(
            415,
            "unsupported-media-type",
            "Unsupported media type",
            detail,
        )
    }

    /// 400: less of a body came than was announced.
    pub fn body_cut_off() -> Problem {
        let detail = "the body ended before Content-Length said";
        Problem::new(400, "body-cut-off", "Body cut off", detail)
    }

    /// 413: a body is larger than is read.
    pub fn too_large(most: u64) -> Problem {
        let detail = format!(
            "at most {most} bytes of a body are read, and Content-Length says how many it has"
        );
        Problem::new(413, "body-too-large", "Body too large", detail)
    }

    /// 422: the sums over many campaigns do not fit what an answer has for a number.
    pub fn sum_too_large() -> Problem {
        let detail = "a sum over these campaigns passes 2^63 - 1; ask for fewer campaigns, or a shorter window";
        Problem::new(422, "sum-too-large", "Sum too large", detail)
    }

    /// 422: money cannot be converted.
    pub fn no_rate(detail: impl Into<String>) -> Problem {
        Problem {
            parameter: Some("currency".to_owned()),
            ..Problem::new(422, "no-rate", "No exchange rate", detail)
        }
    }

    /// 422: of what zone is asked is not known.
    pub fn no_account(id: &str) -> Problem {
        let detail = format!(
            "no report of campaign '{id}' has been counted, so the time zone of its account is not known; name one, such as time_zone=Europe/Berlin"
        );
        Problem {
            parameter: Some("time_zone".to_owned()),
            ..Problem::new(422, "unknown-account", "Unknown account", detail)
        }
    }

    /// 503: what is behind us does not answer; or 403, it takes no changes.
    pub fn unavailable(why: &Unavailable) -> Problem {
        log::debug!("answering 503: {why}");
        let detail = match why {
            Unavailable::Busy => "too many requests are waiting for the database; try again".into(),
            Unavailable::Database(which, _) => format!(
                "the database{which} does not answer and nothing about this is cached; try again"
            ),
            Unavailable::Standby => return Problem::read_only(),
        };
        Problem::too_busy(&detail)
    }

    /// 403: this would change the database, which is a standby.
    pub fn read_only() -> Problem {
        let detail = "this server reads from a standby of PostgreSQL and changes nothing; send this to a server whose \
                      DATABASE_URL leads to the primary";
        Problem::new(403, "read-only", "Read-only", detail)
    }

    /// 401: a key is needed.
    pub fn unauthorized(what: &str) -> Problem {
        let detail = format!(
            "{what}: send one as `Authorization: Bearer adflux_…`; `adflux keys create` makes one"
        );
        Problem::new(401, "unauthorized", "Unauthorized", detail)
    }

    /// 403: this key may not.
    pub fn forbidden(scope: &str) -> Problem {
        let detail = format!("this API key does not have the scope '{scope}' that this needs");
        Problem::new(403, "forbidden", "Forbidden", detail)
    }

    /// 429: more requests than are allowed.
    pub fn too_many_requests(who: &str, wait: Duration) -> Problem {
        let detail =
            format!("{who} has asked more often than is allowed; wait as Retry-After says");
        // Rounded up, and never zero, which would invite at once.
        let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX);
        Problem::new(429, "too-many-requests", "Too many requests", detail)
            .retry_after(seconds.saturating_add(1))
    }

    /// 429: an address has as many connections as it may.
    pub fn too_many_connections() -> Problem {
        let detail =
            "this address has as many connections open as it may; use those, or close some";
        Problem::new(429, "too-many-connections", "Too many connections", detail).retry_after(1)
    }

    /// 400: which name a request comes by is not said, or twice.
    pub fn invalid_host() -> Problem {
        let detail = "a request has one Host header, with the name or address it is sent to";
        Problem::new(400, "invalid-host", "Invalid host", detail)
    }

    /// 421: this server is not asked under that name.
    pub fn unknown_host(name: &str) -> Problem {
        let name = shorten(name);
        let detail = format!(
            "this server is not known as '{name}'; if it should be, start it with --allowed-hosts {name} (ADFLUX_ALLOWED_HOSTS), or with --public-url and the address that people use"
        );
        Problem::new(421, "unknown-host", "Unknown host", detail)
    }

    /// 403: a page of elsewhere would change something.
    pub fn cross_origin(origin: &str) -> Problem {
        let origin = shorten(origin);
        let detail = format!(
            "a page of {origin} may change nothing here; if it is this server's own page behind a proxy, start the server with --public-url and the address that people use; other pages need an API key, or --cors-origin with their origin"
        );
        Problem::new(403, "cross-origin", "Cross-origin request", detail)
    }

    /// 431: more than any request needs.
    pub fn head_too_large(most: usize) -> Problem {
        let detail = format!("the target and the headers of a request may have {most} bytes");
        Problem::new(431, "head-too-large", "Request head too large", detail)
    }

    /// 503: the answer took too long.
    pub fn too_slow(time: Duration) -> Problem {
        let detail = format!(
            "there was no answer within {} s; ask for less, or try again",
            time.as_secs()
        );
        Problem::new(503, "too-slow", "Too slow", detail).retry_after(1)
    }

    /// 503: all places for live feeds are taken.
    pub fn too_many_live() -> Problem {
        Problem::new(
            503,
            "too-many-live",
            "Too many live feeds",
            "as many live feeds are open as this server allows; try again, or ask for totals instead",
        ).retry_after(5)
    }

    /// 429: all live feeds that an address may have are open.
    pub fn too_many_live_here() -> Problem {
        Problem::new(
            429,
            "too-many-live",
            "Too many live feeds",
            "this address has as many live feeds open as it may; close some, or ask for totals instead",
        )
        .retry_after(5)
    }

    /// The answer with this problem in it.
    pub fn response(&self) -> Response {
        let mut response = Response::new(serde_json::to_vec(self).unwrap_or_default().into());
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == 401 {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        let allow = self.allow.as_deref().map(HeaderValue::from_str);
        if let Some(Ok(allow)) = allow {
            headers.insert(header::ALLOW, allow);
        }
        response
    }
}

fn urn<S: serde::Serializer>(kind: &&'static str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("urn:adflux:problem:{kind}"))
}

/// What is quoted back of what a client sent: enough to recognise it.
pub(super) fn shorten(text: &str) -> String {
    const MOST: usize = 80;
    let mut short: String = text
        .chars()
        .filter(|c| !c.is_control())
        .take(MOST)
        .collect();
    if text.chars().count() > MOST {
        short.push('…');
    }
    short
}

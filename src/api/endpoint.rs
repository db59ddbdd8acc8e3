//! What an endpoint is: one value, which stands beside the handler. Routing, the check of what is asked, keys,
//! permits, deadlines, metrics and documents all come from it, so they cannot disagree.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use serde_json::Value;
use warp::http::{self, HeaderMap, HeaderValue, header};
use warp::reply::Response;

use super::State;
use super::limits::Cost;
use super::parameters::{In, Parameter};
use super::problem::Problem;
use super::request::Request;
use crate::keys::Scope;

/// See the module.
#[derive(Clone, Copy)]
pub(super) struct Endpoint {
    pub method: Method,
    /// Its segments; one in braces is the value of the parameter of that name. Also the label of its metrics.
    pub path: &'static str,
    /// The group of endpoints it belongs to; none: it serves the page, and no document lists it.
    pub tag: Option<&'static str>,
    pub summary: &'static str,
    pub description: &'static str,
    /// In groups, some of which several endpoints take.
    pub parameters: &'static [&'static [Parameter]],
    /// Whether a parameter it does not take is refused. Orchestrators and browsers add some of their own.
    pub is_strict: bool,
    pub body: Option<Body>,
    /// What it answers when all is well.
    pub content: Content,
    /// Whether it answers CSV as well.
    pub csv: bool,
    pub caching: Caching,
    /// Statuses when all is well.
    pub successes: &'static [u16],
    /// Other statuses, besides those that follow from the rest.
    pub failures: &'static [u16],
    /// Questions that it answers, and how they are asked.
    pub questions: &'static [(&'static str, &'static str)],
    pub cost: Cost,
    /// What a key must be allowed, where keys are required; none: it needs no key.
    pub scope: Option<Scope>,
    /// Whether it counts towards the rate of who asks.
    pub is_paced: bool,
    pub handler: Handler,
}

/// The methods there are; `GET` stands for `HEAD` as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Post,
    Put,
    Delete,
}

impl Method {
    /// As `Allow` lists it.
    pub fn allows(self) -> &'static str {
        match self {
            Method::Get => "GET, HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
        }
    }

    fn is(self, method: &http::Method) -> bool {
        match self {
            Method::Get => method == http::Method::GET || method == http::Method::HEAD,
            Method::Post => method == http::Method::POST,
            Method::Put => method == http::Method::PUT,
            Method::Delete => method == http::Method::DELETE,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Method::Get => "GET",
            other => other.allows(),
        })
    }
}

/// What may be sent.
#[derive(Clone, Copy)]
pub(super) struct Body {
    /// Of what is JSON.
    pub schema: Schema,
    /// Content types that it may be of. A page of another origin can send each only if a preflight allows it.
    pub types: &'static [&'static str],
    pub most: Most,
}

/// JSON's content type.
pub(super) const JSON: &str = "application/json";

/// The largest body that is read.
#[derive(Clone, Copy)]
pub(super) enum Most {
    Bytes(u64),
    /// As the server was set up to take in, and room for it.
    Intake,
}

/// A document in JSON Schema.
#[derive(Clone, Copy)]
pub(super) struct Schema {
    pub name: &'static str,
    pub describe: fn() -> Value,
}

/// What an endpoint answers when all is well.
#[derive(Clone, Copy)]
pub(super) enum Content {
    /// Nothing but the status.
    Nothing,
    Json(Schema),
    /// The same, also when something is amiss: with 503.
    Health(Schema),
    /// In the form of the Schema Registry, whose errors have a form of their own.
    Registry(Schema),
    /// Server-sent events: the name of each, what it says, and its data; none: null.
    Events(&'static [(&'static str, &'static str, Option<Schema>)]),
    /// Another kind of text.
    Text(&'static str),
}

/// How long an answer may be kept by who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caching {
    /// It has an `ETag`; whoever keeps it asks again whether it has changed.
    Revalidate,
    Never,
    /// It is named for its content.
    Forever,
    /// Nothing is said about it.
    Unsaid,
}

impl Caching {
    /// `Cache-Control`.
    pub const fn header(self) -> Option<&'static str> {
        match self {
            Caching::Revalidate => Some("no-cache"),
            Caching::Never => Some("no-store"),
            Caching::Forever => Some("public, max-age=31536000, immutable"),
            Caching::Unsaid => None,
        }
    }
}

/// An answer to come.
pub(super) type Answering = Pin<Box<dyn Future<Output = Result<Response, Problem>> + Send>>;

/// What answers.
#[derive(Clone, Copy)]
pub(super) enum Handler {
    /// Needs nothing that handlers share, so that a processor can answer it too.
    Alone(fn(&Request) -> Result<Response, Problem>),
    With(fn(Arc<State>, Request) -> Answering),
}

impl Endpoint {
    /// Answers JSON of this schema from an index; whatever differs is written before `..Endpoint::get(…)`.
    pub const fn get(path: &'static str, content: Content, handler: Handler) -> Endpoint {
        Endpoint {
            method: Method::Get,
            path,
            tag: None,
            summary: "",
            description: "",
            parameters: &[],
            is_strict: true,
            body: None,
            content,
            csv: false,
            caching: Caching::Revalidate,
            successes: &[200],
            failures: &[],
            questions: &[],
            cost: Cost::Index,
            scope: Some(Scope::Read),
            is_paced: true,
            handler,
        }
    }

    /// The same for a method that changes something.
    pub const fn write(
        method: Method,
        path: &'static str,
        content: Content,
        handler: Handler,
    ) -> Endpoint {
        Endpoint {
            method,
            scope: Some(Scope::Write),
            ..Endpoint::get(path, content, handler)
        }
    }

    /// Says of an answer how long it may be kept, and by which headers of the request it was chosen.
    pub fn mark(&self, headers: &mut HeaderMap) {
        let Some(caching) = self.caching.header() else {
            return;
        };
        let of_answer = headers.entry(header::CACHE_CONTROL);
        of_answer.or_insert(HeaderValue::from_static(caching));
        let vary = match self.csv {
            true => "accept, accept-encoding",
            false => "accept-encoding",
        };
        headers.insert(header::VARY, HeaderValue::from_static(vary));
    }

    /// The segments of its path, and of those in braces the names.
    fn segments(&self) -> impl Iterator<Item = Segment> {
        self.path.split('/').map(|segment| {
            let name = segment.strip_prefix('{').and_then(|s| s.strip_suffix('}'));
            name.map_or(Segment::Literal(segment), Segment::Value)
        })
    }

    /// All its parameters.
    pub fn parameters(&self) -> impl Iterator<Item = &'static Parameter> {
        self.parameters.iter().copied().flatten()
    }

    /// Its parameters that stand there in a request.
    pub fn parameters_in(&self, within: In) -> impl Iterator<Item = &'static Parameter> {
        self.parameters().filter(move |p| p.within == within)
    }

    /// Whether it is found at this path, whatever the values in it.
    pub fn is_at(&self, path: &str) -> bool {
        let mut given = given_segments(path);
        let fits = self.segments().all(|segment| {
            given.next().is_some_and(|given| match segment {
                Segment::Literal(literal) => literal == given,
                Segment::Value(_) => !given.is_empty(),
            })
        });
        fits && given.next().is_none()
    }

    /// The values in a path at which it is found, by name, as they were sent.
    pub fn values<'a>(&self, path: &'a str) -> impl Iterator<Item = (&'static str, &'a str)> {
        let pairs = self.segments().zip(given_segments(path));
        pairs.filter_map(|(segment, given)| match segment {
            Segment::Literal(_) => None,
            Segment::Value(name) => Some((name, given)),
        })
    }

    /// Every status of its answers that is no success.
    pub fn refusals(&self) -> Vec<u16> {
        let mut all = self.failures.to_vec();
        if self.is_strict {
            all.extend([400, 414]);
        }
        if self.body.is_some() {
            all.extend([400, 413]);
        }
        if self.method != Method::Get {
            all.push(415);
        }
        if self.scope.is_some() {
            // With a key, any of them asks the database for it.
            all.extend([401, 403, 503]);
        }
        if self.cost != Cost::Memory {
            all.push(503);
        }
        if self.is_paced {
            all.push(429);
        }
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// A piece of an endpoint's path.
enum Segment {
    Literal(&'static str),
    Value(&'static str),
}

/// One slash at the end makes no difference.
fn given_segments(path: &str) -> std::str::Split<'_, char> {
    match path.strip_suffix('/') {
        Some(before) if !before.is_empty() => before.split('/'),
        _ => path.split('/'),
    }
}

/// The endpoint among these that a request is for.
pub(super) fn find(
    endpoints: &[&'static Endpoint],
    method: &http::Method,
    path: &str,
) -> Option<&'static Endpoint> {
    let mut found = endpoints.iter().filter(|e| e.method.is(method));
    found.find(|e| e.is_at(path)).copied()
}

/// Why there is none: 405 where there is one for another method, otherwise 404.
pub(super) fn refusal(endpoints: &[&'static Endpoint], path: &str) -> Problem {
    let there = endpoints.iter().filter(|e| e.is_at(path));
    let allow: Vec<&str> = there.map(|e| e.method.allows()).collect();
    if allow.is_empty() {
        Problem::not_found()
    } else {
        Problem::method_not_allowed(allow.join(", "))
    }
}

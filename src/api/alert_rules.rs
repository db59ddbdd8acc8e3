//! `/alerts/rules`: the rules of alerts, the one thing that the API writes.

use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use warp::http::{HeaderValue, Method, StatusCode, header};
use warp::reply::Response;

use super::State;
use super::answer::json;
use super::endpoints::RULES;
use super::params::{Endpoint, Kind, Parameter, Query};
use super::problem::Problem;
use crate::alerts::draft::{Draft, MAX_RULES, Part, is_name};
use crate::alerts::rule::Rule;
use crate::store::keep::alerts::rules::{self, Edited, Stored};

/// The largest rule that is read, in bytes.
pub(super) const MAX_BODY: u64 = 128 * 1024;

static NAMED: &[Parameter] = &[Parameter::path(
    "name",
    Kind::Text { most: 64 },
    "The rule's name.",
)];

const fn endpoint(
    path: &'static str,
    parameters: &'static [Parameter],
    summary: &'static str,
    description: &'static str,
) -> Endpoint {
    Endpoint {
        path,
        summary,
        description,
        parameters,
        csv: false,
    }
}

/// `POST /alerts/rules`
pub(super) static ADD: Endpoint = endpoint(
    RULES.path,
    &[],
    "A new rule of alerts",
    "Adds a rule, which is evaluated from then on. A malformed one is refused: `parameter` and `column` say where the fault is.",
);
/// `GET /alerts/rules/{name}`
pub(super) static ONE: Endpoint = endpoint(
    "/alerts/rules/{name}",
    NAMED,
    "A rule of alerts",
    "The rule of this name.",
);
/// `PUT /alerts/rules/{name}`
pub(super) static PUT: Endpoint = endpoint(
    ONE.path,
    NAMED,
    "A rule of alerts, new or in place of the one of this name",
    "As POST, but what has this name already is replaced. The name may be left out of the body.",
);
/// `DELETE /alerts/rules/{name}`
pub(super) static DELETE: Endpoint = endpoint(
    ONE.path,
    NAMED,
    "A rule of alerts, no more",
    "Deletes a rule; the alerts it has open resolve.",
);

/// A rule as it is answered.
#[derive(Serialize)]
struct RuleDocument {
    name: String,
    when: String,
    /// The condition with every window said; null if this version does not understand it.
    understood_as: Option<String>,
    campaigns: Vec<String>,
    platforms: Vec<String>,
    #[serde(rename = "for")]
    hold: Option<String>,
    to: Vec<String>,
    /// `file` or `api`; the file's are read-only here.
    source: &'static str,
    created_at: String,
    updated_at: String,
}

impl From<Stored> for RuleDocument {
    fn from(stored: Stored) -> RuleDocument {
        let time = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Micros, true);
        let rule = stored.draft.check(&|_| true);
        let draft = stored.draft;
        RuleDocument {
            understood_as: rule.ok().map(|rule: Rule| rule.when.to_string()),
            name: draft.name,
            when: draft.when,
            campaigns: draft.campaigns,
            platforms: draft.platforms,
            hold: draft.hold,
            to: draft.to,
            source: stored.source.as_str(),
            created_at: time(stored.created_at),
            updated_at: time(stored.updated_at),
        }
    }
}

/// A rule as it is sent to us.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleBody {
    name: Option<String>,
    when: String,
    #[serde(default)]
    campaigns: Vec<String>,
    #[serde(default)]
    platforms: Vec<String>,
    #[serde(rename = "for")]
    hold: Option<String>,
    #[serde(default)]
    to: Vec<String>,
}

/// A request that may have a body.
pub(super) struct Sent {
    pub method: Method,
    pub query: String,
    pub content_type: Option<String>,
    pub body: Bytes,
}

/// `/alerts/rules`: `GET` lists, `POST` adds.
pub(super) async fn all(state: State, sent: Sent) -> Result<Response, Problem> {
    Query::parse(&sent.query, &RULES)?;
    match sent.method {
        Method::GET | Method::HEAD => {
            let stored = read(&state).await?;
            let data: Vec<RuleDocument> = stored.into_iter().map(RuleDocument::from).collect();
            Ok(json(&serde_json::json!({ "data": data })))
        }
        Method::POST => {
            let draft = draft(&sent, None)?;
            put(state, draft, true).await
        }
        _ => Err(Problem::not_allowed("GET, HEAD, POST")),
    }
}

/// `/alerts/rules/{name}`: `GET`, `PUT` and `DELETE`.
pub(super) async fn one(state: State, name: String, sent: Sent) -> Result<Response, Problem> {
    Query::parse(&sent.query, &ONE)?;
    match sent.method {
        Method::GET | Method::HEAD => match find(&state, &name).await? {
            Some(stored) => Ok(json(&RuleDocument::from(stored))),
            None => Err(Problem::unknown_rule(&name)),
        },
        Method::PUT => {
            let draft = draft(&sent, Some(&name))?;
            put(state, draft, false).await
        }
        // Not even asked for: PostgreSQL could not read all that can stand in a path.
        Method::DELETE if !is_name(&name) => Err(Problem::unknown_rule(&name)),
        Method::DELETE => {
            let asked = name.clone();
            let edited = state
                .database
                .write(move |connection| rules::delete(connection, &asked))
                .await
                .map_err(|e| Problem::unavailable(&e))?;
            match refusal(edited, &name) {
                Some(problem) => Err(problem),
                None => {
                    let mut response = Response::default();
                    *response.status_mut() = StatusCode::NO_CONTENT;
                    Ok(response)
                }
            }
        }
        _ => Err(Problem::not_allowed("GET, HEAD, PUT, DELETE")),
    }
}

async fn read(state: &State) -> Result<Vec<Stored>, Problem> {
    let stored = state.database.read(rules::all).await;
    stored.map_err(|e| Problem::unavailable(&e))
}

async fn find(state: &State, name: &str) -> Result<Option<Stored>, Problem> {
    let all = read(state).await?;
    Ok(all.into_iter().find(|stored| stored.draft.name == name))
}

/// The rule in a body; `name` is the one in the path.
fn draft(sent: &Sent, name: Option<&str>) -> Result<Draft, Problem> {
    // A page of another origin can send JSON only if a preflight allows it; anything else, unasked.
    let content_type = sent.content_type.as_deref().unwrap_or_default();
    if content_type.split(';').next().map(str::trim) != Some("application/json") {
        return Err(Problem::not_json());
    }
    let body: RuleBody = serde_json::from_slice(&sent.body)
        .map_err(|e| Problem::rule(None, None, format!("the body is not a rule: {e}")))?;
    let name = match (name, body.name) {
        (Some(path), Some(body)) if path != body => {
            let detail = "the name in the body is not that in the path";
            return Err(Problem::rule(Some("name"), None, detail));
        }
        (Some(name), _) => name.to_owned(),
        (None, Some(name)) => name,
        (None, None) => {
            return Err(Problem::rule(Some("name"), None, "a rule has a name"));
        }
    };
    Ok(Draft {
        name,
        when: body.when,
        campaigns: body.campaigns,
        platforms: body.platforms,
        hold: body.hold,
        to: body.to,
    })
}

async fn put(state: State, draft: Draft, only_new: bool) -> Result<Response, Problem> {
    let known = state.database.read(rules::webhooks).await;
    let known = known.map_err(|e| Problem::unavailable(&e))?;
    draft
        .check(&|name| known.iter().any(|k| k == name))
        .map_err(|refusal| {
            let text = match &refusal.part {
                Part::When(at) => Some((draft.when.as_str(), at)),
                Part::For(at) => draft.hold.as_deref().map(|hold| (hold, at)),
                _ => None,
            };
            let column = text.map(|(text, at)| {
                let before = text.get(..at.start).unwrap_or_default();
                u32::try_from(before.chars().count()).map_or(u32::MAX, |n| n.saturating_add(1))
            });
            Problem::rule(Some(refusal.part.field()), column, refusal.message)
        })?;
    let draft = Arc::new(draft);
    let stored = Arc::clone(&draft);
    let edited = state
        .database
        .write(move |connection| rules::put(connection, &stored, only_new))
        .await
        .map_err(|e| Problem::unavailable(&e))?;
    if let Some(problem) = refusal(edited, &draft.name) {
        return Err(problem);
    }
    let Some(stored) = find(&state, &draft.name).await? else {
        // Deleted by somebody else meanwhile.
        return Err(Problem::unknown_rule(&draft.name));
    };
    let mut response = json(&RuleDocument::from(stored));
    if edited == Edited::Created {
        *response.status_mut() = StatusCode::CREATED;
        // A name needs no escapes.
        if let Ok(location) = HeaderValue::from_str(&format!("/alerts/rules/{}", draft.name)) {
            response.headers_mut().insert(header::LOCATION, location);
        }
    }
    Ok(response)
}

fn refusal(edited: Edited, name: &str) -> Option<Problem> {
    match edited {
        Edited::Created | Edited::Replaced | Edited::Deleted => None,
        Edited::Unknown => Some(Problem::unknown_rule(name)),
        Edited::Exists => Some(Problem::rule_conflict(format!(
            "there is a rule '{name}' already; PUT /alerts/rules/{name} replaces it"
        ))),
        Edited::OfFile => Some(Problem::rule_conflict(format!(
            "rule '{name}' belongs to the file of rules; change it there"
        ))),
        Edited::TooMany => Some(Problem::rule_conflict(format!(
            "there are {MAX_RULES} rules already; delete one first"
        ))),
    }
}

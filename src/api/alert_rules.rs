//! `/alerts/rules`: the alert rules; and `/alerts/mutes`: those of which webhooks are told nothing for a while.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use diesel::{Connection as _, PgConnection};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use warp::http::{HeaderValue, StatusCode, header};
use warp::reply::Response;

use super::State;
use super::answer::json;
use super::endpoint::{Body, Caching, Content, Endpoint, Handler, JSON, Method, Most, Schema};
use super::limits::Cost;
use super::openapi::schemas::{
    described, list, nullable, object, platform, reference, severity, text, time,
};
use super::parameters::{ID_PREFIX_PATTERN, Parameter, ParameterType, name_schema};
use super::problem::Problem;
use super::request::Request;
use crate::alerts::draft::{Draft, MAX_RULES, NAME_FORM, Part};
use crate::alerts::rule::{RESERVED, Rule};
use crate::database::Unavailable;
use crate::store::StoreError;
use crate::store::keep::alerts::rules::{self, Edited, Source, Stored};
use crate::time::{parse_rfc3339, rfc3339};

/// The largest rule that is read, in bytes.
const MAX_BODY: u64 = 128 * 1024;

/// Of a rule that there is: what can be no name is unknown.
static NAME: Parameter = Parameter::path("name", ParameterType::RuleName, "The rule's name.")
    .refused_as(|_, name, _| Problem::unknown_rule(name));
/// Of a rule that may be new.
static NEW_NAME: Parameter = Parameter::path("name", ParameterType::RuleName, "The rule's name.")
    .refused_as(|name, _, detail| Problem::rule(Some(name), None, detail));

static WRITTEN: Option<Body> = Some(Body {
    schema: Schema {
        name: "RuleToWrite",
        describe: || object(written()),
    },
    types: &[JSON],
    most: Most::Bytes(MAX_BODY),
});
/// What is written of a rule.
fn written() -> Value {
    let campaign = json!({ "type": "string", "pattern": ID_PREFIX_PATTERN });
    json!({
        "name?": described(name_schema(), NAME_FORM),
        "when": described(json!({ "type": "string", "examples": ["roas < 1 over 1h and cost > 50"] }), "The condition."),
        "campaigns?": described(list(campaign), "Only these campaigns; a * at the end stands for any end. Empty: all."),
        "platforms?": described(list(platform()), "Sums are over these platforms. Empty: all."),
        "for?": described(nullable(text()), "How long the condition must hold before an alert opens, such as 10m."),
        "severity?": described(nullable(severity()), "How grave it is; null: warning."),
        "to?": described(list(name_schema()), "The webhooks that are told, by name."),
    })
}

static RULE: Schema = Schema {
    name: "Rule",
    describe: || {
        let mut fields = json!({
            "understood_as": described(nullable(text()), "The condition with every window said; null if this version does not understand it."),
            "source": described(json!({ "type": "string", "enum": ["file", "api"] }), "The file's are read-only here."),
            "written_by": described(nullable(text()), "file, or the name of the API key it was last written with; null if it was without a key."),
            "muted_until": described(nullable(time()), "Until then webhooks are told nothing of it; null: they are."),
            "muted_by": described(nullable(text()), "The name of the API key it was muted with, where keys are required."),
            "created_at": time(),
            "updated_at": time(),
        });
        if let (Some(fields), Value::Object(written)) = (fields.as_object_mut(), written()) {
            // What may be left out is answered all the same.
            fields.extend(
                written
                    .into_iter()
                    .map(|(name, schema)| (name.replace('?', ""), schema)),
            );
        }
        object(fields)
    },
};

/// `GET /alerts/rules`
pub(super) static ALL: Endpoint = Endpoint {
    tag: Some("alerts"),
    summary: "List alert rules",
    description: "Every rule, from the file and from the API, and how each is understood.",
    questions: &[("When is somebody told, and who?", "/alerts/rules")],
    ..Endpoint::get(
        "/alerts/rules",
        Content::Json(Schema {
            name: "Rules",
            describe: || object(json!({ "data": list(reference(&RULE)) })),
        }),
        Handler::With(|state, _| Box::pin(all(state))),
    )
};

/// `POST /alerts/rules`
pub(super) static ADD: Endpoint = Endpoint {
    tag: Some("alerts"),
    summary: "Create an alert rule",
    description: "The rule is evaluated from then on. A malformed rule is refused: `parameter` and `column` say where the fault is.",
    body: WRITTEN,
    successes: &[201],
    failures: &[404, 409],
    ..Endpoint::write(
        Method::Post,
        "/alerts/rules",
        Content::Json(RULE),
        Handler::With(|state, request| Box::pin(add(state, request))),
    )
};

/// `GET /alerts/rules/{name}`
pub(super) static ONE: Endpoint = Endpoint {
    tag: Some("alerts"),
    summary: "Show an alert rule",
    description: "The rule with this name.",
    parameters: &[&[NAME]],
    failures: &[404],
    ..Endpoint::get(
        "/alerts/rules/{name}",
        Content::Json(RULE),
        Handler::With(|state, request| Box::pin(one(state, request))),
    )
};

/// `PUT /alerts/rules/{name}`
pub(super) static PUT: Endpoint = Endpoint {
    tag: Some("alerts"),
    summary: "Create or replace an alert rule",
    description: "As POST, but a rule with this name is replaced. The body may leave the name out.",
    parameters: &[&[NEW_NAME]],
    body: WRITTEN,
    successes: &[200, 201],
    failures: &[404, 409],
    ..Endpoint::write(
        Method::Put,
        "/alerts/rules/{name}",
        Content::Json(RULE),
        Handler::With(|state, request| Box::pin(put(state, request))),
    )
};

/// `DELETE /alerts/rules/{name}`
pub(super) static DELETE: Endpoint = Endpoint {
    tag: Some("alerts"),
    summary: "Delete an alert rule",
    description: "The alerts that the rule has open resolve.",
    parameters: &[&[NAME]],
    caching: Caching::Unsaid,
    successes: &[204],
    failures: &[404, 409],
    ..Endpoint::write(
        Method::Delete,
        "/alerts/rules/{name}",
        Content::Nothing,
        Handler::With(|state, request| Box::pin(delete(state, request))),
    )
};

/// Of a rule that there is, or of what is said without one.
static MUTED: Parameter = Parameter::path(
    "name",
    ParameterType::RuleName,
    "The rule's name, of the file as well; or pipeline, or reports.",
)
.refused_as(|_, name, _| Problem::unknown_rule(name));

/// `PUT /alerts/mutes/{name}`
pub(super) static MUTE: Endpoint = Endpoint {
    tag: Some("alerts"),
    summary: "Mute an alert rule",
    description: "Webhooks are told nothing of the rule until then. Its alerts open and resolve all the same.",
    parameters: &[&[MUTED]],
    body: Some(Body {
        schema: Schema {
            name: "MuteToWrite",
            describe: || object(json!({ "until": time() })),
        },
        types: &[JSON],
        most: Most::Bytes(MAX_BODY),
    }),
    failures: &[404],
    ..Endpoint::write(
        Method::Put,
        "/alerts/mutes/{name}",
        Content::Json(Schema {
            name: "Mute",
            describe: || {
                object(json!({
                    "rule": text(),
                    "until": time(),
                    "muted_by": described(nullable(text()), "The name of the API key, where keys are required."),
                }))
            },
        }),
        Handler::With(|state, request| Box::pin(mute(state, request))),
    )
};

/// `DELETE /alerts/mutes/{name}`
pub(super) static UNMUTE: Endpoint = Endpoint {
    tag: Some("alerts"),
    summary: "Unmute an alert rule",
    description: "Webhooks are told of the rule again.",
    parameters: &[&[MUTED]],
    caching: Caching::Unsaid,
    successes: &[204],
    failures: &[404],
    ..Endpoint::write(
        Method::Delete,
        "/alerts/mutes/{name}",
        Content::Nothing,
        Handler::With(|state, request| Box::pin(unmute(state, request))),
    )
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MuteBody {
    until: String,
}

async fn mute(state: Arc<State>, request: Request) -> Result<Response, Problem> {
    let name = request.arguments.in_path(&MUTED);
    let body: MuteBody = serde_json::from_slice(&request.body)
        .map_err(|e| Problem::rule(Some("until"), None, format!("the body is not a mute: {e}")))?;
    let until = parse_rfc3339(&body.until)
        .ok()
        .filter(|until| *until > Utc::now());
    let until = until.ok_or_else(|| {
        let detail = "until is not a time to come, such as 2026-01-31T12:00:00Z";
        Problem::rule(Some("until"), None, detail)
    })?;
    let by = request.key_name().map(str::to_owned);
    set_mute(&state, name, Some(until), by.clone()).await?;
    Ok(json(
        &json!({ "rule": name, "until": rfc3339(until), "muted_by": by }),
    ))
}

async fn unmute(state: Arc<State>, request: Request) -> Result<Response, Problem> {
    set_mute(&state, request.arguments.in_path(&MUTED), None, None).await?;
    Ok(nothing())
}

async fn set_mute(
    state: &State,
    name: &str,
    until: Option<DateTime<Utc>>,
    by: Option<String>,
) -> Result<(), Problem> {
    if !RESERVED.contains(&name) && find(state, name).await?.is_none() {
        return Err(Problem::unknown_rule(name));
    }
    let name = name.to_owned();
    everywhere(state, move |connection, _| {
        rules::mute(connection, &name, until, by.as_deref()).map(Ok)
    })
    .await
}

/// Whose answer it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Database {
    /// The one that decides.
    First,
    Other,
}

/// Why nothing is changed in the first database.
enum Undone {
    Refused(Problem),
    Store(StoreError),
    Elsewhere(Unavailable),
}

impl From<diesel::result::Error> for Undone {
    fn from(error: diesel::result::Error) -> Undone {
        Undone::Store(error.into())
    }
}

/// Changes what is the same in all databases: in the first, and in the others while the first holds it, so that it is changed by
/// one at a time. The first has it only when all do: what broke off is said again as if it were for the first time.
async fn everywhere<T: Send + 'static>(
    state: &State,
    change: impl Fn(&mut PgConnection, Database) -> Result<Result<T, Problem>, StoreError>
    + Clone
    + Send
    + 'static,
) -> Result<T, Problem> {
    let (first, others) = state.shards.first_and_others();
    let others: Vec<_> = others.cloned().collect();
    let is_divided = !others.is_empty();
    let unavailable = move |why: &Unavailable| match why {
        Unavailable::Busy | Unavailable::Database(..) if is_divided => Problem::not_everywhere(why),
        _ => Problem::unavailable(why),
    };
    let runtime = Handle::current();
    let changed = first.write(move |connection| {
        let changed = connection.transaction(|connection| {
            let changed = change(connection, Database::First).map_err(Undone::Store)?;
            let changed = changed.map_err(Undone::Refused)?;
            for other in &others {
                let change = change.clone();
                let follow = other.write(move |connection| change(connection, Database::Other));
                let followed = runtime.block_on(follow).map_err(Undone::Elsewhere)?;
                followed.map_err(Undone::Refused)?;
            }
            Ok(changed)
        });
        match changed {
            Ok(changed) => Ok(Ok(changed)),
            Err(Undone::Refused(problem)) => Ok(Err(problem)),
            Err(Undone::Elsewhere(why)) => Ok(Err(unavailable(&why))),
            Err(Undone::Store(error)) => Err(error),
        }
    });
    changed.await.map_err(|why| unavailable(&why))?
}

/// 204.
fn nothing() -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

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
    severity: Option<String>,
    to: Vec<String>,
    /// `file` or `api`; the file's are read-only here.
    source: &'static str,
    written_by: Option<String>,
    muted_until: Option<String>,
    muted_by: Option<String>,
    created_at: String,
    updated_at: String,
}

impl From<Stored> for RuleDocument {
    fn from(stored: Stored) -> RuleDocument {
        let rule = stored.draft.check(&|_| true);
        let draft = stored.draft;
        RuleDocument {
            understood_as: rule.ok().map(|rule: Rule| rule.when.to_string()),
            name: draft.name,
            when: draft.when,
            campaigns: draft.campaigns,
            platforms: draft.platforms,
            hold: draft.hold,
            severity: draft.severity,
            to: draft.to,
            source: stored.source.as_str(),
            written_by: match stored.source {
                Source::File => Some(Source::File.as_str().to_owned()),
                Source::Api => stored.written_by,
            },
            muted_until: stored.muted_until.map(rfc3339),
            muted_by: stored.muted_by,
            created_at: rfc3339(stored.created_at),
            updated_at: rfc3339(stored.updated_at),
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
    severity: Option<String>,
    #[serde(default)]
    to: Vec<String>,
}

async fn all(state: Arc<State>) -> Result<Response, Problem> {
    let data: Vec<RuleDocument> = read(&state)
        .await?
        .into_iter()
        .map(RuleDocument::from)
        .collect();
    Ok(json(&json!({ "data": data })))
}

async fn add(state: Arc<State>, request: Request) -> Result<Response, Problem> {
    keep(&state, &request, None).await
}

async fn one(state: Arc<State>, request: Request) -> Result<Response, Problem> {
    let name = request.arguments.in_path(&NAME);
    let stored = find(&state, name).await?;
    let stored = stored.ok_or_else(|| Problem::unknown_rule(name))?;
    Ok(json(&RuleDocument::from(stored)))
}

async fn put(state: Arc<State>, request: Request) -> Result<Response, Problem> {
    let name = request.arguments.in_path(&NEW_NAME);
    keep(&state, &request, Some(name)).await
}

async fn delete(state: Arc<State>, request: Request) -> Result<Response, Problem> {
    let name = request.arguments.in_path(&NAME);
    let asked = name.to_owned();
    let delete = move |connection: &mut PgConnection, database| {
        let edited = rules::delete(connection, &asked)?;
        let is_gone = edited == Edited::Unknown && database == Database::Other;
        Ok(if is_gone {
            Ok(())
        } else {
            succeed(edited, &asked)
        })
    };
    everywhere(&state, delete).await?;
    Ok(nothing())
}

async fn read(state: &State) -> Result<Vec<Stored>, Problem> {
    let (first, _) = state.shards.first_and_others();
    state.ask(first, Cost::Index, rules::all).await
}

async fn find(state: &State, name: &str) -> Result<Option<Stored>, Problem> {
    let all = read(state).await?;
    Ok(all.into_iter().find(|stored| stored.draft.name == name))
}

/// The rule in a body; `name` is the one in the path.
fn draft(request: &Request, name: Option<&str>) -> Result<Draft, Problem> {
    let body: RuleBody = serde_json::from_slice(&request.body)
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
        severity: body.severity,
        to: body.to,
    })
}

/// Keeps the rule in a body: with the name in the path, if there is one, or else a new one.
async fn keep(state: &State, request: &Request, name: Option<&str>) -> Result<Response, Problem> {
    let (draft, only_new) = (draft(request, name)?, name.is_none());
    let written_by = request.key_name().map(str::to_owned);
    let (first, _) = state.shards.first_and_others();
    let known = state.ask(first, Cost::Index, rules::webhooks).await?;
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
    let put = move |connection: &mut PgConnection, database| {
        let only_new = only_new && database == Database::First;
        let edited = rules::put(connection, &stored, only_new, written_by.as_deref())?;
        Ok(succeed(edited, &stored.name).map(|()| edited))
    };
    let edited = everywhere(state, put).await?;
    let Some(stored) = find(state, &draft.name).await? else {
        // Deleted by somebody else meanwhile.
        return Err(Problem::unknown_rule(&draft.name));
    };
    let mut response = json(&RuleDocument::from(stored));
    if edited == Edited::Created {
        *response.status_mut() = StatusCode::CREATED;
        // A name needs no escapes.
        if let Ok(location) =
            HeaderValue::from_str(&format!("{}/alerts/rules/{}", state.base, draft.name))
        {
            response.headers_mut().insert(header::LOCATION, location);
        }
    }
    Ok(response)
}

fn succeed(edited: Edited, name: &str) -> Result<(), Problem> {
    let conflict = |detail| Err(Problem::rule_conflict(detail));
    match edited {
        Edited::Created | Edited::Replaced | Edited::Deleted => Ok(()),
        Edited::Unknown => Err(Problem::unknown_rule(name)),
        Edited::Exists => conflict(format!(
            "there is a rule '{name}' already; PUT /alerts/rules/{name} replaces it"
        )),
        Edited::OfFile => conflict(format!(
            "rule '{name}' belongs to the file of rules; change it there"
        )),
        Edited::TooMany => conflict(format!(
            "there are {MAX_RULES} rules already; delete one first"
        )),
    }
}

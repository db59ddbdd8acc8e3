//! `GET /openapi.json` and `GET /docs`: the API described by what it is made of.
//!
//! Parameters, their bounds and defaults, metrics and reasons come from the tables that requests are
//! checked against and answers are written from. Documents are described in [`schemas`], closed to
//! fields that are not named there; the tests hold real answers against them.
//!
//! Format: [OpenAPI 3.1](https://spec.openapis.org/oas/v3.1.0).

use std::sync::LazyLock;

use serde_json::{Map, Value, json};
use warp::http::{HeaderValue, header};
use warp::reply::Response;

use super::endpoints;
use super::params::{Endpoint, Kind, MAX_QUERY_BYTES, Parameter, Place};

mod schemas;
mod served;

/// What an endpoint answers with when all is well.
#[derive(Clone, Copy)]
enum Content {
    /// Nothing but the status.
    Nothing,
    /// JSON of the schema of this name.
    Json(&'static str),
    /// The same, also when something is amiss: with 503.
    Health(&'static str),
    /// The same, in the form of the Schema Registry, whose errors have a form of their own.
    Registry(&'static str),
    /// Server-sent events.
    Events,
    /// Another kind of text.
    Text(&'static str),
}

/// An endpoint, and what is not in its parameters.
struct Operation {
    endpoint: &'static Endpoint,
    /// As the document writes it: `get`.
    method: &'static str,
    tag: &'static str,
    /// The schema of what is sent.
    body: Option<&'static str>,
    content: Content,
    /// Statuses when all is well.
    successes: &'static [u16],
    /// Other statuses besides 401, 429 and 503.
    statuses: &'static [u16],
    /// Questions that it answers, and how they are asked.
    questions: &'static [(&'static str, &'static str)],
}

impl Operation {
    /// The same as one that changes something, and so needs a key that may write.
    fn writes(
        self,
        method: &'static str,
        body: Option<&'static str>,
        successes: &'static [u16],
    ) -> Operation {
        Operation {
            method,
            body,
            successes,
            ..self
        }
    }
}

static DOCUMENT: LazyLock<String> = LazyLock::new(|| document().to_string());
static PAGE: &str = include_str!("docs.html");

/// The document.
pub(super) fn json() -> Response {
    text(&DOCUMENT, "application/json")
}

/// The page that shows it.
pub(super) fn page() -> Response {
    let mut response = text(PAGE, "text/html; charset=utf-8");
    // Nothing from elsewhere, whatever the page says.
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    response.headers_mut().insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(policy),
    );
    response
}

fn text(body: &'static str, kind: &'static str) -> Response {
    let mut response = Response::new(body.into());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for operation in served::operations() {
        let path = operation.endpoint.path.to_owned();
        let methods = paths.entry(path).or_insert_with(|| json!({}));
        if let Some(methods) = methods.as_object_mut() {
            methods.insert(operation.method.to_owned(), describe(&operation));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "adflux",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "What advertising campaigns earn, milliseconds after it happened",
            "description": format!(
                "Money is in the account's currency: exactly, as integer millionths (`_micros`), and in units. Ratios are \
                 derived from sums when they are read, and null where the denominator is zero. Errors are RFC 9457 problem \
                 documents: branch on `type`. A query string has at most {MAX_QUERY_BYTES} bytes."
            ),
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{}, { "key": [] }],
        "tags": served::TAGS.iter()
            .map(|(name, description)| json!({ "name": name, "description": description }))
            .collect::<Vec<_>>(),
        "paths": paths,
        "components": {
            "schemas": schemas::all(),
            "securitySchemes": { "key": {
                "type": "http", "scheme": "bearer",
                "description": "An API key, where the server requires one (`--require-keys`). `adflux keys create` makes it.",
            } },
        },
    })
}

fn describe(operation: &Operation) -> Value {
    let endpoint = operation.endpoint;
    let mut responses = Map::new();
    for status in operation.successes {
        responses.insert(status.to_string(), answer(operation));
    }
    let may_write: &[u16] = if operation.method == "get" {
        &[]
    } else {
        &[403]
    };
    let common = [401, 429, 503];
    for status in operation.statuses.iter().chain(may_write).chain(&common) {
        responses.insert(status.to_string(), otherwise(operation.content, *status));
    }
    let mut parameters: Vec<Value> = endpoint.parameters.iter().map(parameter).collect();
    if matches!(operation.content, Content::Events) {
        parameters.push(json!({
            "name": "Last-Event-ID", "in": "header", "required": false,
            "description": "The last id that was received: what has changed since is sent first.",
            "schema": { "type": "string", "pattern": "^[0-9]{1,9}(\\.[0-9]{1,15}(-[0-9]{1,9}\\.[0-9]{1,15})*)?$", "maxLength": 8192 },
        }));
    }
    let path = endpoint
        .path
        .trim_matches('/')
        .replace(['/', '-', '.'], "_")
        .replace(['{', '}'], "");
    let id = match operation.method {
        "get" => path,
        method => format!("{method}_{path}"),
    };
    let mut described = json!({
        "operationId": id,
        "summary": endpoint.summary,
        "description": endpoint.description,
        "tags": [operation.tag],
        "parameters": parameters,
        "responses": responses,
        "x-questions": operation.questions.iter()
            .map(|(question, ask)| json!({ "question": question, "ask": ask }))
            .collect::<Vec<_>>(),
    });
    if let (Some(body), Some(object)) = (operation.body, described.as_object_mut()) {
        let content = json!({ "application/json": { "schema": reference(body) } });
        object.insert(
            "requestBody".to_owned(),
            json!({ "required": true, "content": content }),
        );
    }
    described
}

fn answer(operation: &Operation) -> Value {
    let mut content = Map::new();
    let (kind, schema) = match operation.content {
        Content::Nothing => return json!({ "description": operation.endpoint.summary }),
        Content::Json(name) | Content::Health(name) => ("application/json", reference(name)),
        Content::Registry(name) => (super::schemas::CONTENT_TYPE, reference(name)),
        Content::Events => ("text/event-stream", json!({ "type": "string" })),
        Content::Text(kind) => (kind, json!({ "type": "string" })),
    };
    content.insert(kind.to_owned(), json!({ "schema": schema }));
    if operation.endpoint.csv {
        content.insert(
            "text/csv".to_owned(),
            json!({ "schema": { "type": "string" } }),
        );
    }
    json!({
        "description": operation.endpoint.summary,
        "headers": {
            "ETag": { "description": "Hand it back as If-None-Match: 304 when nothing has changed.", "schema": { "type": "string" } },
            "X-Request-Id": { "description": "The request's id: the one that was sent, or a new one.", "schema": { "type": "string" } },
        },
        "content": content,
    })
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// An answer that is not 200.
fn otherwise(content: Content, status: u16) -> Value {
    let mut answer = problem(status);
    let own = match (content, status) {
        (Content::Registry(_), 404) => (super::schemas::CONTENT_TYPE, "RegistryError"),
        (Content::Health(name), 503) => ("application/json", name),
        _ => return answer,
    };
    if let Some(content) = answer.get_mut("content").and_then(Value::as_object_mut) {
        content.insert(own.0.to_owned(), json!({ "schema": reference(own.1) }));
    }
    answer
}

fn problem(status: u16) -> Value {
    let description = match status {
        400 => "Something that was asked is not as it must be: `parameter` names it",
        401 => "An API key is required, and this is none that is good",
        403 => "This API key may not",
        404 => "There is no such thing",
        409 => "As things are, this cannot be done: `detail` says why",
        413 => "More was sent than is read",
        415 => "What is sent must be JSON",
        429 => "Asked too often: wait as Retry-After says",
        _ => "The database does not answer, or too many ask: wait as Retry-After says",
    };
    let schema = reference("Problem");
    let mut problem = json!({
        "description": description,
        "content": { "application/problem+json": { "schema": schema } },
    });
    if matches!(status, 429 | 503)
        && let Some(problem) = problem.as_object_mut()
    {
        let retry = json!({ "Retry-After": { "description": "Seconds.", "schema": { "type": "integer", "minimum": 1 } } });
        problem.insert("headers".to_owned(), retry);
    }
    problem
}

fn parameter(parameter: &Parameter) -> Value {
    let mut schema = schema(parameter.kind);
    if let (Some(default), Some(object)) = (parameter.default, schema.as_object_mut()) {
        let default = match parameter.kind {
            Kind::Integer { .. } => default.parse::<i64>().map_or(Value::Null, Value::from),
            _ => Value::from(default),
        };
        object.insert("default".to_owned(), default);
    }
    let is_list = matches!(parameter.kind, Kind::SomeOf(_) | Kind::CampaignIds { .. });
    if parameter.times > 1 {
        schema = json!({ "type": "array", "items": schema, "maxItems": parameter.times });
    }
    let mut described = json!({
        "name": parameter.name,
        "in": if parameter.place == Place::Path { "path" } else { "query" },
        "required": parameter.place == Place::Path,
        "description": parameter.description,
        "schema": schema,
    });
    if let Some(object) = described.as_object_mut()
        && (is_list || parameter.times > 1)
    {
        object.insert("style".to_owned(), "form".into());
        // A list is separated by commas; what may be given several times is given several times.
        object.insert("explode".to_owned(), (!is_list).into());
    }
    described
}

/// What a value may be, in JSON Schema.
fn schema(kind: Kind) -> Value {
    let id = json!({ "type": "string", "pattern": "^[A-Za-z0-9_.:-]{1,64}$" });
    match kind {
        Kind::OneOf(words) => json!({ "type": "string", "enum": words }),
        Kind::SomeOf(words) => json!({
            "type": "array", "items": { "type": "string", "enum": words }, "uniqueItems": true, "minItems": 1,
        }),
        Kind::Integer { least, most } => {
            json!({ "type": "integer", "minimum": least, "maximum": most })
        }
        Kind::Time => json!({
            "type": "string",
            "anyOf": [{ "format": "date-time" }, { "format": "date" }],
            "examples": ["2026-01-31T12:00:00Z", "2026-01-31"],
        }),
        Kind::TimeZone => {
            json!({ "type": "string", "examples": ["Europe/Berlin", "America/New_York", "UTC"] })
        }
        Kind::CampaignId => id,
        Kind::CampaignIds { most } => json!({
            "type": "array", "items": id, "uniqueItems": true, "minItems": 1, "maxItems": most,
        }),
        Kind::Filter => json!({
            "type": "string",
            "pattern": format!("^({})(<|<=|>|>=|=|!=)-?[0-9]{{1,12}}(\\.[0-9]{{1,6}})?$", schemas::metric_names().join("|")),
            "examples": ["roas<1", "cost>=100"],
        }),
        Kind::Cursor => json!({ "type": "string", "maxLength": 512 }),
        Kind::Text { most } => json!({ "type": "string", "minLength": 1, "maxLength": most }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_endpoint_is_described_once() {
        let operations = served::operations();
        let described = |path: &str, method: &str| {
            operations
                .iter()
                .filter(|o| o.endpoint.path == path && o.method == method)
                .count()
        };
        for endpoint in endpoints::ALL {
            assert_eq!(described(endpoint.path, "get"), 1, "{}", endpoint.path);
        }
        for operation in &operations {
            assert_eq!(described(operation.endpoint.path, operation.method), 1);
            assert!(served::TAGS.iter().any(|(tag, _)| *tag == operation.tag));
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let text = document.to_string();
        let references: Vec<&str> = text.split("#/components/schemas/").skip(1).collect();
        assert!(references.len() > 20);
        for reference in references {
            let name = reference.split('"').next().unwrap_or_default();
            assert!(
                document["components"]["schemas"][name].is_object(),
                "{name}"
            );
        }
    }
}

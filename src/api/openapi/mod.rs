//! `GET /openapi.json` and `GET /docs`: the API described by what it is made of.
//!
//! Endpoints are the values that requests are answered by; metrics and reasons come from the tables that answers
//! are written from. Schemas are closed to fields that are not named there; the tests hold real answers against
//! them.
//!
//! Format: [OpenAPI 3.1](https://spec.openapis.org/oas/v3.1.0).

use bytes::Bytes;
use serde_json::{Map, Value, json};
use warp::http::{HeaderValue, header};
use warp::reply::Response;

use super::endpoint::{Caching, Content, Endpoint, Handler, JSON, Method, Schema};
use super::limits::Cost;
use super::page::OPENER_POLICY;
use super::parameters::{In, Parameter, ParameterType};
use super::registry;
use super::request::MAX_QUERY_BYTES;

pub mod markdown;
pub(super) mod schemas;

/// Groups of endpoints.
pub(super) static TAGS: &[(&str, &str)] = &[
    ("insights", "What campaigns earned"),
    ("live", "Totals as they change"),
    ("alerts", "When somebody should look"),
    ("records", "What is behind the numbers"),
    ("sending", "Events and reports, sent to be counted"),
    ("operations", "How the system is doing"),
    (
        "schema",
        "The event's schema, in the form of Confluent's Schema Registry",
    ),
];

static PAGE: &str = include_str!("docs.html");

const fn endpoint(path: &'static str, content: Content, handler: Handler) -> Endpoint {
    Endpoint {
        tag: Some("operations"),
        is_strict: false,
        cost: Cost::Memory,
        scope: None,
        ..Endpoint::get(path, content, handler)
    }
}

/// `GET /openapi.json`
pub(super) static DOCUMENT: Endpoint = Endpoint {
    summary: "This document",
    description: "The API in OpenAPI 3.1. Needs no key.",
    ..endpoint(
        "/openapi.json",
        Content::Json(Schema {
            name: "Anything",
            describe: || json!({ "type": "object" }),
        }),
        Handler::With(|state, _| {
            Box::pin(async move { Ok(text(state.openapi.clone(), "application/json")) })
        }),
    )
};

/// `GET /docs`
pub(super) static DOCS: Endpoint = Endpoint {
    summary: "This document, for people",
    description: "Needs no key.",
    ..endpoint(
        "/docs",
        Content::Text("text/html"),
        Handler::Alone(|_| Ok(page())),
    )
};

fn page() -> Response {
    let mut response = text(PAGE, "text/html; charset=utf-8");
    // Nothing from elsewhere, whatever the page says.
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let headers = response.headers_mut();
    let policy = HeaderValue::from_static(policy);
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    headers.insert(OPENER_POLICY, HeaderValue::from_static("same-origin"));
    response
}

fn text(body: impl Into<Bytes>, content_type: &'static str) -> Response {
    let mut response = Response::new(body.into().into());
    let content_type = HeaderValue::from_static(content_type);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    response
}

/// The document of these endpoints, as the server at this URL serves it.
pub fn document(endpoints: &[&'static Endpoint], server: &str) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for endpoint in documented(endpoints) {
        let methods = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        if let Some(methods) = methods.as_object_mut() {
            let method = endpoint.method.to_string().to_lowercase();
            methods.insert(method, describe(endpoint));
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
        "servers": [{ "url": server }],
        "security": [{}, { "key": [] }],
        "tags": TAGS.iter()
            .map(|(name, description)| json!({ "name": name, "description": description }))
            .collect::<Vec<_>>(),
        "paths": paths,
        "components": {
            "schemas": components(endpoints),
            "securitySchemes": { "key": {
                "type": "http", "scheme": "bearer",
                "description": "An API key, where the server requires one (`--require-keys`). `adflux keys create` makes it.",
            } },
        },
    })
}

/// The endpoints that documents list.
fn documented(endpoints: &[&'static Endpoint]) -> impl Iterator<Item = &'static Endpoint> {
    endpoints.iter().copied().filter(|e| e.tag.is_some())
}

/// Every schema by its name.
fn components(endpoints: &[&'static Endpoint]) -> Map<String, Value> {
    let of_endpoint = |endpoint: &Endpoint| {
        let mut schemas: Vec<Schema> = endpoint.body.iter().map(|body| body.schema).collect();
        match endpoint.content {
            Content::Nothing | Content::Text(_) => {}
            Content::Json(schema) | Content::Health(schema) => schemas.push(schema),
            Content::Registry(schema) => schemas.extend([schema, registry::ERROR]),
            Content::Events(events) => schemas.extend(events.iter().filter_map(|(.., data)| *data)),
        }
        schemas
    };
    let all = documented(endpoints).flat_map(of_endpoint);
    let all = all.chain(schemas::SHARED.iter().copied());
    all.map(|schema| (schema.name.to_owned(), (schema.describe)()))
        .collect()
}

fn describe(endpoint: &Endpoint) -> Value {
    let mut responses = Map::new();
    for status in endpoint.successes {
        responses.insert(status.to_string(), answer(endpoint));
    }
    for status in endpoint.refusals() {
        responses.insert(status.to_string(), otherwise(endpoint.content, status));
    }
    let path = endpoint
        .path
        .trim_matches('/')
        .replace(['/', '-', '.'], "_")
        .replace(['{', '}'], "");
    let id = match endpoint.method {
        Method::Get => path,
        method => format!("{}_{path}", method.to_string().to_lowercase()),
    };
    let mut described = json!({
        "operationId": id,
        "summary": endpoint.summary,
        "description": endpoint.description,
        "tags": [endpoint.tag],
        "parameters": endpoint.parameters().map(parameter).collect::<Vec<_>>(),
        "responses": responses,
        "x-questions": endpoint.questions.iter()
            .map(|(question, ask)| json!({ "question": question, "ask": ask }))
            .collect::<Vec<_>>(),
        "x-cost": endpoint.cost.as_str(),
        "security": match endpoint.scope {
            None => json!([]),
            // An HTTP scheme knows no scopes, but 3.1 lets roles be named.
            Some(scope) => json!([{}, { "key": [scope.as_str()] }]),
        },
    });
    if let (Some(body), Some(object)) = (&endpoint.body, described.as_object_mut()) {
        let of_type = |kind: &&str| {
            let schema = match *kind {
                JSON => schemas::reference(&body.schema),
                kind if kind.starts_with("text/") => json!({ "type": "string" }),
                kind if kind.ends_with("json") => json!({ "type": "string" }),
                _ => json!({ "type": "string", "format": "binary" }),
            };
            ((*kind).to_owned(), json!({ "schema": schema }))
        };
        let content: Map<String, Value> = body.types.iter().map(of_type).collect();
        object.insert(
            "requestBody".to_owned(),
            json!({ "required": true, "content": content }),
        );
    }
    described
}

/// An answer when all is well.
fn answer(endpoint: &Endpoint) -> Value {
    let plain = || json!({ "schema": { "type": "string" } });
    let of = |schema| json!({ "schema": schemas::reference(schema) });
    let mut content = Map::new();
    let (content_type, described) = match &endpoint.content {
        Content::Nothing => return json!({ "description": endpoint.summary }),
        Content::Json(schema) | Content::Health(schema) => ("application/json", of(schema)),
        Content::Registry(schema) => (registry::CONTENT_TYPE, of(schema)),
        Content::Events(events) => ("text/event-stream", stream(events)),
        Content::Text(content_type) => (*content_type, plain()),
    };
    content.insert(content_type.to_owned(), described);
    if endpoint.csv {
        content.insert("text/csv".to_owned(), plain());
    }
    let text = |description| json!({ "description": description, "schema": { "type": "string" } });
    let mut headers = Map::new();
    let id = text("The request's id: the one that was sent, or a new one.");
    headers.insert("X-Request-Id".to_owned(), id);
    if let Some(caching) = endpoint.caching.header() {
        let header = json!({ "schema": { "type": "string", "const": caching } });
        headers.insert("Cache-Control".to_owned(), header);
    }
    if endpoint.caching == Caching::Revalidate && endpoint.method == Method::Get {
        let tag = text("Hand it back as If-None-Match: 304 when nothing has changed.");
        headers.insert("ETag".to_owned(), tag);
    }
    json!({ "description": endpoint.summary, "headers": headers, "content": content })
}

/// A stream of events: text to OpenAPI 3.1; what each event is, in the words that 3.2 has for it.
fn stream(events: &[(&str, &str, Option<Schema>)]) -> Value {
    let items = events.iter().map(|(name, description, data)| {
        let data = match data {
            Some(schema) => schemas::reference(schema),
            None => json!({ "type": "null" }),
        };
        json!({
            "type": "object",
            "description": description,
            "properties": {
                "event": { "type": "string", "const": name },
                "id": { "type": "string" },
                "data": { "type": "string", "contentMediaType": "application/json", "contentSchema": data },
            },
            "required": ["event", "data"],
        })
    });
    json!({
        "schema": { "type": "string", "description": "Server-sent events: x-itemSchema says which." },
        "x-itemSchema": { "oneOf": items.collect::<Vec<_>>() },
    })
}

/// An answer that is not 200.
fn otherwise(content: Content, status: u16) -> Value {
    let mut answer = problem(status);
    let own = match (content, status) {
        (Content::Registry(_), 404) => (registry::CONTENT_TYPE, registry::ERROR),
        (Content::Health(schema), 503) => ("application/json", schema),
        _ => return answer,
    };
    if let Some(content) = answer.get_mut("content").and_then(Value::as_object_mut) {
        content.insert(
            own.0.to_owned(),
            json!({ "schema": schemas::reference(&own.1) }),
        );
    }
    answer
}

fn problem(status: u16) -> Value {
    let description = match status {
        400 => "Something that was asked is not as it must be: `parameter` names it",
        401 => "An API key is required, and this is none that is good",
        403 => "This API key may not",
        404 => "There is no such thing",
        408 => "What is sent took too long to arrive",
        409 => "As things are, this cannot be done: `detail` says why",
        410 => "What this cursor belongs to is no longer held: start again without it",
        413 => "More was sent than is read",
        414 => "The query string is longer than is read",
        415 => "What is sent must be of one of the types that are taken",
        422 => {
            "A sum over these campaigns is larger than a number of an answer can be, or what is sent is refused: `refusals` says why"
        }
        429 => "Asked too often: wait as Retry-After says",
        _ => "The database does not answer, or too many ask: wait as Retry-After says",
    };
    let schema = schemas::reference(&schemas::PROBLEM);
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
    let mut schema = parameter.is_a.schema();
    if let (Some(default), Some(object)) = (parameter.default, schema.as_object_mut()) {
        let default = match parameter.is_a {
            ParameterType::Integer { .. } => {
                default.parse::<i64>().map_or(Value::Null, Value::from)
            }
            _ => Value::from(default),
        };
        object.insert("default".to_owned(), default);
    }
    let is_list = parameter.is_a.is_list();
    if parameter.times > 1 {
        schema = json!({ "type": "array", "items": schema, "maxItems": parameter.times });
    }
    let mut described = json!({
        "name": parameter.name,
        "in": parameter.within.as_str(),
        "required": parameter.within == In::Path,
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

#[cfg(test)]
mod tests {
    use super::super::endpoints::ALL;
    use super::*;

    #[test]
    fn every_reference_leads_somewhere_and_every_name_to_one_schema() {
        let document = document(ALL, "/");
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
        for endpoint in documented(ALL) {
            if let Content::Json(schema) = endpoint.content {
                let described = &document["components"]["schemas"][schema.name];
                assert_eq!(*described, (schema.describe)(), "{}", endpoint.path);
            }
        }
    }
}

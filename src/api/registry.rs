//! Our schemas, read-only, in the form of the Confluent Schema Registry's API, so that
//! Avro-aware consumers can read the topic with nothing else running.
//!
//! Format: Confluent's [Schema Registry API reference][api]; errors carry its `error_code`s.
//!
//! [api]: https://docs.confluent.io/platform/current/schema-registry/develop/api.html

use serde_json::{Value, json};
use warp::http::{HeaderValue, StatusCode, header};
use warp::reply::Response;

use super::endpoint::{Caching, Content, Endpoint, Handler, Schema};
use super::limits::Cost;
use super::openapi::schemas::{count, list, object, text};
use super::parameters::{Parameter, ParameterType};
use crate::codec::{self, SchemaIds};

const fn endpoint(path: &'static str, content: Schema, handler: Handler) -> Endpoint {
    Endpoint {
        tag: Some("schema"),
        is_strict: false,
        caching: Caching::Unsaid,
        failures: &[404],
        cost: Cost::Memory,
        ..Endpoint::get(path, Content::Registry(content), handler)
    }
}

static SUBJECT: Parameter = Parameter::path("subject", ParameterType::Name, "The subject.");
static NUMBER: Parameter =
    Parameter::path("version", ParameterType::Name, "The version, or latest.");
static ID: Parameter = Parameter::path("id", ParameterType::Name, "The schema's id.");

/// `GET /subjects`
pub(super) static SUBJECTS: Endpoint = Endpoint {
    summary: "List subjects",
    description: "There are two: the events of the topic, and its report rows.",
    failures: &[],
    ..endpoint(
        "/subjects",
        Schema {
            name: "Subjects",
            describe: || list(text()),
        },
        Handler::With(|state, _| Box::pin(async move { Ok(state.registry.subjects()) })),
    )
};

/// `GET /subjects/{subject}/versions`
pub(super) static VERSIONS: Endpoint = Endpoint {
    summary: "List the versions of a subject",
    description: "There is one.",
    parameters: &[&[SUBJECT]],
    ..endpoint(
        "/subjects/{subject}/versions",
        Schema {
            name: "Versions",
            describe: || list(count()),
        },
        Handler::With(|state, request| {
            Box::pin(
                async move { Ok(state.registry.versions(request.arguments.in_path(&SUBJECT))) },
            )
        }),
    )
};

/// `GET /subjects/{subject}/versions/{version}`
pub(super) static VERSION: Endpoint = Endpoint {
    summary: "Show a version of a subject",
    description: "The Avro schema and its id.",
    parameters: &[&[SUBJECT, NUMBER]],
    ..endpoint(
        "/subjects/{subject}/versions/{version}",
        Schema {
            name: "SubjectVersion",
            describe: || {
                object(
                    json!({ "subject": text(), "version": count(), "id": count(), "schema": text() }),
                )
            },
        },
        Handler::With(|state, request| {
            Box::pin(async move {
                let (subject, version) = (
                    request.arguments.in_path(&SUBJECT),
                    request.arguments.in_path(&NUMBER),
                );
                Ok(state.registry.version(subject, version))
            })
        }),
    )
};

/// `GET /schemas/ids/{id}`
pub(super) static SCHEMA: Endpoint = Endpoint {
    summary: "Show the schema with an id",
    description: "The Avro schema that frames values with this id: that of events, that of report rows, or that of another writer, if the server was started with its --writer-schema.",
    parameters: &[&[ID]],
    ..endpoint(
        "/schemas/ids/{id}",
        Schema {
            name: "AvroSchema",
            describe: || object(json!({ "schema": text() })),
        },
        Handler::With(|state, request| {
            Box::pin(async move { Ok(state.registry.by_id(request.arguments.in_path(&ID))) })
        }),
    )
};

/// What it answers where it does not know something.
pub(super) static ERROR: Schema = Schema {
    name: "RegistryError",
    describe: || object(json!({ "error_code": count(), "message": text() })),
};

/// What answers are.
pub(super) const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// What the registry knows: our own schemas, a version each, and those of other writers.
pub struct Registry {
    own: [Own; 2],
    others: Vec<(u32, String)>,
}

/// A schema of ours.
struct Own {
    subject: String,
    id: u32,
    schema: String,
}

impl Registry {
    /// The registry for a topic whose values are framed with these ids, or with those of other writers' schemas.
    pub fn new(topic: &str, ids: SchemaIds, others: Vec<(u32, String)>) -> Registry {
        // Without the white space that only people need.
        let compact = |text: &str| {
            serde_json::from_str::<Value>(text)
                .map_or_else(|_| text.to_owned(), |schema| schema.to_string())
        };
        Registry {
            own: [
                Own {
                    subject: format!("{topic}-value"),
                    id: ids.event,
                    schema: compact(codec::SCHEMA_JSON),
                },
                // One topic has values of two records: Confluent's TopicRecordNameStrategy.
                Own {
                    subject: format!("{topic}-adflux.ReportRow"),
                    id: ids.report,
                    schema: compact(codec::report::SCHEMA_JSON),
                },
            ],
            others: others
                .into_iter()
                .map(|(id, text)| (id, compact(&text)))
                .collect(),
        }
    }

    fn by_id(&self, id: &str) -> Response {
        let own = self.own.iter().map(|own| (own.id, &own.schema));
        let others = self.others.iter().map(|(id, schema)| (*id, schema));
        match own
            .chain(others)
            .find(|(known, _)| id.parse() == Ok(*known))
        {
            Some((_, schema)) => answer(StatusCode::OK, &json!({ "schema": schema })),
            None => error(40403, "Schema not found"),
        }
    }

    fn subjects(&self) -> Response {
        let subjects: Vec<&str> = self.own.iter().map(|own| own.subject.as_str()).collect();
        answer(StatusCode::OK, &json!(subjects))
    }

    fn versions(&self, subject: &str) -> Response {
        match self.own.iter().find(|own| own.subject == subject) {
            Some(_) => answer(StatusCode::OK, &json!([1])),
            None => error(40401, "Subject not found"),
        }
    }

    fn version(&self, subject: &str, version: &str) -> Response {
        match self.own.iter().find(|own| own.subject == subject) {
            None => error(40401, "Subject not found"),
            Some(own) if matches!(version, "1" | "latest" | "-1") => {
                let body = json!({ "subject": own.subject, "version": 1, "id": own.id, "schema": own.schema });
                answer(StatusCode::OK, &body)
            }
            Some(_) => error(40402, "Version not found"),
        }
    }
}

fn error(code: u32, message: &str) -> Response {
    answer(
        StatusCode::NOT_FOUND,
        &json!({ "error_code": code, "message": message }),
    )
}

fn answer(status: StatusCode, body: &Value) -> Response {
    let mut response = Response::new(body.to_string().into());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    response
}

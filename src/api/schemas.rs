//! The event's schema, read-only, in the form of the Confluent Schema Registry's API, so that
//! Avro-aware consumers can read the topic with nothing else running.
//!
//! Format: Confluent's [Schema Registry API reference][api]; errors carry its `error_code`s.
//!
//! [api]: https://docs.confluent.io/platform/current/schema-registry/develop/api.html

use serde_json::{Value, json};
use warp::http::{HeaderValue, StatusCode, header};
use warp::reply::Response;

use crate::codec::SCHEMA_JSON;

/// What answers are.
pub(super) const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// What the registry knows: one subject with one version of one schema.
pub(super) struct Registry {
    id: u32,
    subject: String,
    schema: String,
}

impl Registry {
    /// The registry for a topic whose values are framed with `id`.
    pub(super) fn new(topic: &str, id: u32) -> Registry {
        // Without the white space that only people need.
        let schema = serde_json::from_str::<Value>(SCHEMA_JSON)
            .map_or_else(|_| SCHEMA_JSON.to_owned(), |schema| schema.to_string());
        Registry {
            id,
            subject: format!("{topic}-value"),
            schema,
        }
    }

    /// `GET /schemas/ids/{id}`
    pub(super) fn by_id(&self, id: &str) -> Response {
        if id.parse() == Ok(self.id) {
            answer(StatusCode::OK, &json!({ "schema": self.schema }))
        } else {
            error(40403, "Schema not found")
        }
    }

    /// `GET /subjects`
    pub(super) fn subjects(&self) -> Response {
        answer(StatusCode::OK, &json!([self.subject]))
    }

    /// `GET /subjects/{subject}/versions`
    pub(super) fn versions(&self, subject: &str) -> Response {
        if subject == self.subject {
            answer(StatusCode::OK, &json!([1]))
        } else {
            error(40401, "Subject not found")
        }
    }

    /// `GET /subjects/{subject}/versions/{version}`
    pub(super) fn version(&self, subject: &str, version: &str) -> Response {
        if subject != self.subject {
            error(40401, "Subject not found")
        } else if matches!(version, "1" | "latest" | "-1") {
            let body = json!({ "subject": self.subject, "version": 1, "id": self.id, "schema": self.schema });
            answer(StatusCode::OK, &body)
        } else {
            error(40402, "Version not found")
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

//! Asks the registry. Each question is of one thread, which waits for the answer.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use openssl::x509::X509;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Certificate, Method, StatusCode, Url, redirect};
use serde::Deserialize;
use serde_json::json;
use tokio::runtime::Runtime;

use super::{Credentials, Settings};

/// For a server to answer, and before that to be reached.
const TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The largest answer that is read: schemas of ours are a few kilobytes.
const MOST_BYTES: usize = 1 << 20;
const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";
/// What the registry calls what is not there: a subject, a version, a schema.
const NOT_THERE: std::ops::RangeInclusive<u32> = 40401..=40403;

/// The last id that a registry can hand out: to all of them ids are signed. Asked for a larger one, some answer as if the URL
/// were wrong.
pub const LAST_ID: u32 = i32::MAX.cast_unsigned();

/// What the registry has under an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// An Avro schema, in JSON.
    Schema(String),
    /// What nothing can be read with, and why.
    Unusable(String),
    /// Nothing, as far as this server knows by now.
    Nothing,
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No server answered, or none as it should; the next time one may.
    #[error("{0}")]
    Away(String),
    /// The registry refuses the question, or what answers is no registry: a setting must be changed.
    #[error("{0}")]
    Refused(String),
}

/// See the module.
pub struct Client {
    http: reqwest::Client,
    runtime: Runtime,
    urls: Vec<Url>,
    credentials: Option<Credentials>,
    /// The server that answered last.
    good: AtomicUsize,
}

struct Response {
    status: StatusCode,
    server: String,
    /// None: it was too large.
    body: Option<Vec<u8>>,
}

/// What a registry says of itself, as far as it is there.
#[derive(Deserialize)]
struct Document {
    schema: Option<String>,
    #[serde(rename = "schemaType")]
    kind: Option<String>,
    #[serde(default)]
    references: Vec<serde_json::Value>,
    id: Option<u32>,
    error_code: Option<u32>,
    message: Option<String>,
}

impl Client {
    /// One that has asked nothing yet.
    ///
    /// # Errors
    /// When the file of certificates is none, TLS cannot be set up, or the system gives us no runtime.
    pub fn new(settings: &Settings) -> anyhow::Result<Client> {
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("adflux/", env!("CARGO_PKG_VERSION")))
            .timeout(TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            // Where it leads, credentials have no business.
            .redirect(redirect::Policy::none());
        if let Some(file) = &settings.ca_file {
            let shown = file.display();
            let pem = std::fs::read(file)
                .with_context(|| format!("SCHEMA_REGISTRY_CA_FILE: cannot read '{shown}'"))?;
            let found = X509::stack_from_pem(&pem).unwrap_or_default();
            anyhow::ensure!(
                !found.is_empty(),
                "SCHEMA_REGISTRY_CA_FILE: there is no certificate in '{shown}'; it must be in PEM (BEGIN CERTIFICATE)"
            );
            for certificate in found {
                let certificate = Certificate::from_der(&certificate.to_der()?)?;
                http = http.add_root_certificate(certificate);
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(Client {
            http: http.build()?,
            runtime,
            urls: settings.urls.clone(),
            credentials: settings.credentials.clone(),
            good: AtomicUsize::new(0),
        })
    }

    /// What it has under an id.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn schema(&self, id: u32) -> Result<Answer, Failure> {
        if id > LAST_ID {
            return Ok(Answer::Nothing);
        }
        let id = id.to_string();
        let response = self.ask(&Method::GET, &["schemas", "ids", &id], None)?;
        if response.body.is_none() {
            let why = format!("the registry's answer is larger than {MOST_BYTES} bytes");
            return Ok(Answer::Unusable(why));
        }
        let Some(document) = response.found()? else {
            return Ok(Answer::Nothing);
        };
        Ok(match (document.kind.as_deref(), document.schema) {
            (Some(kind), _) if kind != "AVRO" => {
                Answer::Unusable(format!("it is a schema of type {kind}, and not of Avro"))
            }
            _ if !document.references.is_empty() => Answer::Unusable(
                "it refers to other schemas of the registry; only one that is whole can be read"
                    .to_owned(),
            ),
            (_, Some(schema)) => Answer::Schema(schema),
            (_, None) => return Err(response.is_none_of_a_registry()),
        })
    }

    /// The id of a schema that is registered under a subject.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn look_up(&self, subject: &str, schema: &str) -> Result<Option<u32>, Failure> {
        let response = self.ask(&Method::POST, &["subjects", subject], Some(schema))?;
        match response.found()? {
            None => Ok(None),
            Some(document) => match document.id {
                Some(id) => Ok(Some(id)),
                None => Err(response.is_none_of_a_registry()),
            },
        }
    }

    /// Registers a schema under a subject, if it is not there already. Its id.
    ///
    /// # Errors
    /// When there is no answer, or the registry does not take it.
    pub fn register(&self, subject: &str, schema: &str) -> Result<u32, Failure> {
        let path = ["subjects", subject, "versions"];
        let response = self.ask(&Method::POST, &path, Some(schema))?;
        let id = response.found()?.and_then(|document| document.id);
        id.ok_or_else(|| response.is_none_of_a_registry())
    }

    /// Asks the servers, the one that answered last first, until one answers.
    fn ask(
        &self,
        method: &Method,
        path: &[&str],
        schema: Option<&str>,
    ) -> Result<Response, Failure> {
        let first = self.good.load(Ordering::Relaxed);
        let order = (0..self.urls.len()).cycle().skip(first);
        let mut why = Vec::new();
        for (at, url) in order
            .take(self.urls.len())
            .filter_map(|at| Some((at, self.urls.get(at)?)))
        {
            let asked = self
                .runtime
                .block_on(self.ask_one(url, method, path, schema));
            match asked {
                Ok(response) => {
                    self.good.store(at, Ordering::Relaxed);
                    return Ok(response);
                }
                Err(failure) => why.push(failure),
            }
        }
        Err(Failure::Away(why.join("; ")))
    }

    async fn ask_one(
        &self,
        url: &Url,
        method: &Method,
        path: &[&str],
        schema: Option<&str>,
    ) -> Result<Response, String> {
        let server = url.as_str().trim_end_matches('/');
        let path: Vec<String> = path
            .iter()
            .map(|part| utf8_percent_encode(part, NON_ALPHANUMERIC).to_string())
            .collect();
        let request = self
            .http
            .request(method.clone(), format!("{server}/{}", path.join("/")))
            .header("accept", CONTENT_TYPE);
        let request = match &self.credentials {
            Some(Credentials::Basic { user, password }) => request.basic_auth(user, Some(password)),
            Some(Credentials::Bearer(token)) => request.bearer_auth(token),
            None => request,
        };
        let request = match schema {
            Some(schema) => request
                .header("content-type", CONTENT_TYPE)
                .body(json!({ "schema": schema }).to_string()),
            None => request,
        };
        let failed = |error: reqwest::Error| {
            let why = why(&error.without_url());
            format!("the schema registry at {server} does not answer: {why}")
        };
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status();
        let is_busy = matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
        );
        if status.is_server_error() || is_busy {
            return Err(format!("the schema registry at {server} answers {status}"));
        }
        let mut body = Some(Vec::new());
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            body = body.take().and_then(|mut read| {
                read.extend_from_slice(&chunk);
                (read.len() <= MOST_BYTES).then_some(read)
            });
            if body.is_none() {
                break;
            }
        }
        Ok(Response {
            status,
            server: server.to_owned(),
            body,
        })
    }
}

impl Response {
    /// What was asked for; none if it is not there.
    fn found(&self) -> Result<Option<Document>, Failure> {
        let server = &self.server;
        let body = self.body.as_deref().unwrap_or_default();
        let document: Option<Document> = serde_json::from_slice(body).ok();
        let code = document.as_ref().and_then(|document| document.error_code);
        if self.status == StatusCode::NOT_FOUND
            && code.is_some_and(|code| NOT_THERE.contains(&code))
        {
            return Ok(None);
        }
        let said = || {
            document
                .as_ref()
                .and_then(|document| document.message.clone())
        };
        match self.status {
            status if status.is_success() => match document {
                Some(document) => Ok(Some(document)),
                None => Err(self.is_none_of_a_registry()),
            },
            StatusCode::UNAUTHORIZED => Err(Failure::Refused(format!(
                "the schema registry at {server} does not know who asks (401): set SCHEMA_REGISTRY_USERNAME and \
                 SCHEMA_REGISTRY_PASSWORD, or SCHEMA_REGISTRY_TOKEN, as it has them"
            ))),
            StatusCode::FORBIDDEN => Err(Failure::Refused(format!(
                "the schema registry at {server} does not allow this (403): give the user of SCHEMA_REGISTRY_USERNAME or of \
                 SCHEMA_REGISTRY_TOKEN the right to read schemas, and to write them where they are registered"
            ))),
            StatusCode::CONFLICT => Err(Failure::Refused(format!(
                "the subject has another schema with which this one is not compatible, says the registry at {server}: {}. \
                 See what is registered under it; --subject-strategy names another",
                said().unwrap_or_default()
            ))),
            _ => Err(self.is_none_of_a_registry()),
        }
    }

    fn is_none_of_a_registry(&self) -> Failure {
        Failure::Refused(format!(
            "what answers at {} is not the API of a schema registry, or does not take this (status {}): look at \
             SCHEMA_REGISTRY_URL. On Apicurio's server the API of Confluent's is below /apis/ccompat/v7",
            self.server, self.status
        ))
    }
}

/// The innermost cause says what it is.
fn why(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    let mut all = cause.to_string();
    while let Some(inner) = cause.source() {
        cause = inner;
        all = format!("{all}: {cause}");
    }
    if all.contains("certificate") {
        return format!(
            "{cause}; if its certificate is of an authority of your own, name that one's in SCHEMA_REGISTRY_CA_FILE"
        );
    }
    if error.is_timeout() {
        return "nothing came in time".to_owned();
    }
    cause.to_string()
}

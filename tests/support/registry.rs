//! Apicurio's schema registry, and what may stand before it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use openssl::asn1::Asn1Time;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use openssl::ssl::{SslAcceptor, SslMethod};
use openssl::x509::extension::SubjectAlternativeName;
use openssl::x509::{X509, X509NameBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;

fn script(dir: &Path, args: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/services");
    let mut command = Command::new(script);
    command.args(args).arg("--dir").arg(dir);
    // What is not needed is used as given, and not at all.
    for (name, nowhere) in [
        ("KAFKA_BROKERS", "127.0.0.1:1"),
        ("DATABASE_URL", "postgres://127.0.0.1:1/none"),
        ("REDIS_URL", "redis://127.0.0.1:1"),
    ] {
        command.env(name, nowhere);
    }
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .expect("the script runs");
    assert!(status.success(), "scripts/services {args:?}");
}

fn url_in(dir: &Path) -> String {
    let url = std::fs::read_to_string(dir.join("registry.url")).expect("it has started");
    url.trim().to_owned()
}

/// The URL of one that all tests share; it ends with the services. Our own schemas are registered there first of all, and so
/// have the ids that they have without any registry.
pub fn shared() -> &'static str {
    static URL: LazyLock<String> = LazyLock::new(|| {
        let dir = PathBuf::from(std::env::var("ADFLUX_SERVICES_DIR").expect("services"));
        script(&dir, &["start", "registry"]);
        let url = url_in(&dir);
        for schema in [
            adflux::codec::SCHEMA_JSON,
            adflux::codec::report::SCHEMA_JSON,
        ] {
            register(&url, "ours", schema, None);
        }
        url
    });
    &URL
}

/// One of a test's own.
pub struct Registry {
    folder: TempDir,
    pub url: String,
}

impl Registry {
    pub fn start() -> Registry {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("services");
        script(&dir, &["up"]);
        script(&dir, &["start", "registry"]);
        let url = url_in(&dir);
        Registry { folder, url }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        script(&self.folder.path().join("services"), &["down"]);
    }
}

/// Registers a schema of a type (default: Avro), and returns its id.
pub fn register(url: &str, subject: &str, schema: &str, kind: Option<&str>) -> u32 {
    let mut body = json!({ "schema": schema });
    if let Some(kind) = kind {
        body["schemaType"] = json!(kind);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let answer: Value = runtime.block_on(async {
        let request = reqwest::Client::new()
            .post(format!("{url}/subjects/{subject}/versions"))
            .json(&body);
        let response = request.send().await.expect("the registry answers");
        response.json().await.expect("JSON")
    });
    let id = answer["id"].as_u64();
    u32::try_from(id.unwrap_or_else(|| panic!("not registered: {answer}"))).expect("an id")
}

/// What stands before a registry: asks for credentials, or speaks TLS, and counts requests.
pub struct Front {
    pub url: String,
    /// The certificate, in PEM.
    pub certificate: Option<Vec<u8>>,
    requests: Arc<AtomicUsize>,
}

impl Front {
    /// One that lets through who says `authorization`, if anything.
    pub fn before(registry: &str, authorization: Option<&str>, tls: bool) -> Front {
        let rest = registry.strip_prefix("http://").expect("http");
        let (server, path) = rest.split_once('/').expect("a path");
        let (server, wanted) = (server.to_owned(), authorization.map(str::to_owned));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (acceptor, certificate) = match tls {
            true => {
                let (acceptor, certificate) = acceptor();
                (Some(Arc::new(acceptor)), Some(certificate))
            }
            false => (None, None),
        };
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        // Ends with the process; nothing comes once the test is over.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (server, wanted) = (server.clone(), wanted.clone());
                let (acceptor, counted) = (acceptor.clone(), Arc::clone(&counted));
                std::thread::spawn(move || {
                    let answered = match acceptor {
                        Some(acceptor) => acceptor
                            .accept(stream)
                            .map(|stream| pass(stream, &server, wanted.as_deref(), &counted)),
                        None => Ok(pass(stream, &server, wanted.as_deref(), &counted)),
                    };
                    // A client that trusts nobody goes away.
                    drop(answered);
                });
            }
        });
        let scheme = if tls { "https" } else { "http" };
        Front {
            url: format!("{scheme}://{address}/{path}"),
            certificate,
            requests,
        }
    }

    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

/// Passes one request on, and its answer back.
fn pass(
    mut client: impl Read + Write,
    server: &str,
    wanted: Option<&str>,
    counted: &AtomicUsize,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte)?;
        head.extend_from_slice(&byte);
    }
    counted.fetch_add(1, Ordering::Relaxed);
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.lines();
    let first = lines.next().unwrap_or_default();
    let headers: BTreeMap<String, &str> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .collect();
    let length = headers.get("content-length").and_then(|n| n.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    client.read_exact(&mut body)?;
    if wanted.is_some() && headers.get("authorization").copied() != wanted {
        let refusal = "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        return client.write_all(refusal.as_bytes());
    }
    let mut upstream = TcpStream::connect(server)?;
    write!(
        upstream,
        "{first}\r\nhost: {server}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )?;
    upstream.write_all(&body)?;
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer)?;
    client.write_all(&answer)?;
    client.flush()
}

/// A certificate of its own for this machine, and what speaks with it.
fn acceptor() -> (SslAcceptor, Vec<u8>) {
    let key = PKey::from_rsa(Rsa::generate(2048).expect("a key")).expect("a key");
    let mut name = X509NameBuilder::new().expect("a name");
    name.append_entry_by_nid(Nid::COMMONNAME, "registry")
        .expect("a name");
    let name = name.build();
    let mut builder = X509::builder().expect("a certificate");
    let day = |days| Asn1Time::days_from_now(days).expect("a day");
    builder.set_version(2).expect("set");
    builder.set_subject_name(&name).expect("set");
    builder.set_issuer_name(&name).expect("set");
    builder.set_pubkey(&key).expect("set");
    builder.set_not_before(&day(0)).expect("set");
    builder.set_not_after(&day(2)).expect("set");
    let names = SubjectAlternativeName::new()
        .ip("127.0.0.1")
        .build(&builder.x509v3_context(None, None))
        .expect("names");
    builder.append_extension(names).expect("set");
    builder.sign(&key, MessageDigest::sha256()).expect("signed");
    let certificate = builder.build();
    let mut acceptor = SslAcceptor::mozilla_intermediate(SslMethod::tls_server()).expect("TLS");
    acceptor.set_private_key(&key).expect("set");
    acceptor.set_certificate(&certificate).expect("set");
    (acceptor.build(), certificate.to_pem().expect("PEM"))
}

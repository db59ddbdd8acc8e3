//! A receiver of webhooks: a real HTTP server that does what it is told to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};
use openssl::asn1::Asn1Time;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use openssl::ssl::{SslAcceptor, SslMethod};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Name};
use serde_json::Value;

use adflux::alerts::deliver::signature;
use adflux::time::{Length, Timestamp};

/// How it answers.
#[derive(Clone, Debug)]
pub enum Manner {
    Answer(u16),
    /// 302 to this URL.
    Redirect(String),
    /// Takes the request and never answers.
    Hang,
}

/// A request that it got.
#[derive(Clone, Debug)]
pub struct Got {
    pub delivery: String,
    pub signature: String,
    pub body: String,
    /// When it came.
    pub at: DateTime<Utc>,
    /// Whether it was answered with success.
    pub taken: bool,
}

impl Got {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }

    /// `alert.opened cmp-1`, and so for each further alert.
    pub fn in_short(&self) -> String {
        let body = self.json();
        let text = |v: &Value| v.as_str().expect("a string").to_owned();
        let event = text(&body["event"]);
        let alerts = body["alerts"].as_array().expect("alerts").iter();
        let all: Vec<String> = alerts
            .map(|alert| format!("{event} {}", text(&alert["campaign_id"])))
            .collect();
        all.join(", ")
    }

    /// Fails unless it was signed with `secret`, as a receiver would check it.
    pub fn assert_signed(&self, secret: &str) {
        let (time, _) = self.signature.split_once(",v1=").expect("t=…,v1=…");
        let seconds: i64 = time
            .strip_prefix("t=")
            .expect("t=")
            .parse()
            .expect("a number");
        assert!((self.at.timestamp() - seconds).abs() < 300);
        let at = Timestamp::EPOCH + Length::SECOND.times(seconds);
        assert_eq!(self.signature, signature(secret, at, &self.body));
    }
}

/// See the module. Ends with the test's process.
pub struct Receiver {
    pub address: SocketAddr,
    /// The name that its URL has instead of its address.
    name: Option<String>,
    /// What a client must trust, if it speaks TLS.
    pub certificate: Option<Vec<u8>>,
    manner: Arc<Mutex<Manner>>,
    got: Arc<Mutex<Vec<Got>>>,
}

impl Receiver {
    pub fn start() -> Receiver {
        Receiver::with("127.0.0.1:0", None)
    }

    /// One that is called by this name, wherever that leads on this machine.
    pub fn start_named(name: &str) -> Receiver {
        Receiver {
            name: Some(name.to_owned()),
            ..Receiver::with("0.0.0.0:0", None)
        }
    }

    /// One that speaks TLS, with a certificate of its own.
    pub fn start_tls() -> Receiver {
        let key = PKey::from_rsa(Rsa::generate(2048).expect("a key")).expect("a key");
        let mut name = X509Name::builder().expect("a name");
        name.append_entry_by_text("CN", "receiver").expect("a name");
        let name = name.build();
        let mut builder = X509::builder().expect("a certificate");
        builder.set_version(2).expect("version 3");
        builder.set_subject_name(&name).expect("a subject");
        builder.set_issuer_name(&name).expect("an issuer");
        builder.set_pubkey(&key).expect("a key");
        let (from, to) = (Asn1Time::days_from_now(0), Asn1Time::days_from_now(1));
        builder.set_not_before(&from.expect("now")).expect("now");
        builder.set_not_after(&to.expect("later")).expect("later");
        let constraints = BasicConstraints::new().critical().ca().build();
        builder
            .append_extension(constraints.expect("built"))
            .expect("a CA");
        let address = SubjectAlternativeName::new()
            .ip("127.0.0.1")
            .build(&builder.x509v3_context(None, None));
        builder
            .append_extension(address.expect("built"))
            .expect("an address");
        builder.sign(&key, MessageDigest::sha256()).expect("signs");
        let certificate = builder.build();
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).expect("TLS");
        acceptor.set_private_key(&key).expect("a key");
        acceptor
            .set_certificate(&certificate)
            .expect("a certificate");
        let pem = certificate.to_pem().expect("PEM");
        Receiver {
            certificate: Some(pem),
            ..Receiver::with("127.0.0.1:0", Some(acceptor.build()))
        }
    }

    fn with(listen: &str, acceptor: Option<SslAcceptor>) -> Receiver {
        let listener = TcpListener::bind(listen).expect("binds");
        let address = listener.local_addr().expect("has an address");
        let manner = Arc::new(Mutex::new(Manner::Answer(200)));
        let got = Arc::new(Mutex::new(Vec::new()));
        let (how, gathered) = (Arc::clone(&manner), Arc::clone(&got));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (how, gathered) = (Arc::clone(&how), Arc::clone(&gathered));
                let acceptor = acceptor.clone();
                std::thread::spawn(move || match acceptor {
                    None => serve(stream, &how, &gathered),
                    Some(acceptor) => {
                        if let Ok(stream) = acceptor.accept(stream) {
                            serve(stream, &how, &gathered);
                        }
                    }
                });
            }
        });
        Receiver {
            address,
            name: None,
            certificate: None,
            manner,
            got,
        }
    }

    pub fn url(&self) -> String {
        let scheme = if self.certificate.is_some() {
            "https"
        } else {
            "http"
        };
        let host = match &self.name {
            Some(name) => format!("{name}:{}", self.address.port()),
            None => self.address.to_string(),
        };
        format!("{scheme}://{host}/hook?token=hidden")
    }

    /// What it does from now on.
    pub fn will(&self, manner: Manner) {
        *self.manner.lock().expect("locks") = manner;
    }

    /// Everything it got, answered or not.
    pub fn got(&self) -> Vec<Got> {
        self.got.lock().expect("locks").clone()
    }

    /// What it has taken.
    pub fn taken(&self) -> Vec<Got> {
        self.got().into_iter().filter(|got| got.taken).collect()
    }
}

fn serve(stream: impl Read + Write, manner: &Mutex<Manner>, got: &Mutex<Vec<Got>>) {
    let mut stream = BufReader::new(stream);
    while let Some(mut request) = read(&mut stream) {
        let how = manner.lock().expect("locks").clone();
        request.taken = matches!(how, Manner::Answer(200..=299));
        got.lock().expect("locks").push(request);
        let answer = match how {
            Manner::Answer(status) => format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"),
            Manner::Redirect(to) => {
                format!("HTTP/1.1 302 X\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")
            }
            Manner::Hang => {
                // Until the client has had enough.
                let _ = stream.read(&mut [0]);
                return;
            }
        };
        if stream.get_mut().write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn read(stream: &mut impl BufRead) -> Option<Got> {
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line.trim().is_empty() {
            break;
        }
        headers.push(line.trim().to_owned());
    }
    assert!(
        headers[0].starts_with("POST /hook?token=hidden "),
        "{headers:?}"
    );
    let header = |name: &str| {
        let found = headers.iter().find_map(|line| {
            let (header, value) = line.split_once(": ")?;
            header.eq_ignore_ascii_case(name).then(|| value.to_owned())
        });
        found.unwrap_or_default()
    };
    let mut body = vec![0; header("content-length").parse().expect("a length")];
    stream.read_exact(&mut body).ok()?;
    Some(Got {
        delivery: header("adflux-delivery"),
        signature: header("adflux-signature"),
        body: String::from_utf8(body).expect("UTF-8"),
        at: Utc::now(),
        taken: false,
    })
}

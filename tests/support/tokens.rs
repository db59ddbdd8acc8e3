//! A server that gives out tokens by OAuth 2's client credentials (RFC 6749, section 4.4): JWTs that it signs, over TLS.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::sign::Signer;
use openssl::ssl::{SslAcceptor, SslFiletype, SslMethod};
use serde_json::{Value, json};

use super::certificates::Issued;

/// Id and secret of the only client.
pub const CLIENT: (&str, &str) = ("counting", "a secret; with=signs");
pub const ISSUER: &str = "https://login.adflux.test";
pub const SCOPE: &str = "kafka";
const KEY_ID: &str = "one";

struct Signing {
    key: PKey<Private>,
    /// How long a token holds.
    seconds: u64,
    given: AtomicUsize,
    has_ended: AtomicBool,
}

/// It ends with its value.
pub struct TokenServer {
    address: String,
    signing: Arc<Signing>,
    thread: Option<JoinHandle<()>>,
}

impl TokenServer {
    /// One that shows this certificate, and whose tokens hold for so long.
    pub fn start(certificate: &Issued, seconds: u64) -> TokenServer {
        let rsa = Rsa::generate(2048).expect("a key");
        let signing = Arc::new(Signing {
            key: PKey::from_rsa(rsa).expect("a key"),
            seconds,
            given: AtomicUsize::new(0),
            has_ended: AtomicBool::new(false),
        });
        let mut acceptor = SslAcceptor::mozilla_intermediate(SslMethod::tls_server()).expect("TLS");
        acceptor
            .set_certificate_chain_file(&certificate.certificate_file)
            .expect("a certificate");
        acceptor
            .set_private_key_file(&certificate.key_file, SslFiletype::PEM)
            .expect("its key");
        let acceptor = acceptor.build();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address").to_string();
        let theirs = Arc::clone(&signing);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if theirs.has_ended.load(Ordering::SeqCst) {
                    return;
                }
                // Who does not trust us hangs up.
                if let Ok(stream) = acceptor.accept(stream) {
                    let _ = theirs.answer(stream);
                }
            }
        });
        TokenServer {
            address,
            signing,
            thread: Some(thread),
        }
    }

    pub fn url(&self) -> String {
        format!("https://{}/token", self.address)
    }

    /// How many tokens it has given out.
    pub fn given(&self) -> usize {
        self.signing.given.load(Ordering::SeqCst)
    }

    /// Writes the keys by which a broker knows its tokens (RFC 7517).
    pub fn write_keys(&self, file: &Path) {
        let rsa = self.signing.key.rsa().expect("RSA");
        let encode = |number: &openssl::bn::BigNumRef| encoded(&number.to_vec());
        let key = json!({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": KEY_ID, "n": encode(rsa.n()), "e": encode(rsa.e())});
        std::fs::write(file, json!({ "keys": [key] }).to_string()).expect("written");
    }
}

impl Drop for TokenServer {
    fn drop(&mut self) {
        self.signing.has_ended.store(true, Ordering::SeqCst);
        // It is woken up.
        let _ = TcpStream::connect(&self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Signing {
    /// Answers one question, and hangs up.
    fn answer(&self, stream: impl std::io::Read + std::io::Write) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        let (mut authorization, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                if line.trim_end().is_empty() {
                    break;
                }
                continue;
            };
            match name.to_ascii_lowercase().as_str() {
                "authorization" => authorization = value.to_owned(),
                "content-length" => length = value.parse().unwrap_or(0),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        let asked: Vec<(String, String)> = form_urlencoded::parse(&body).into_owned().collect();
        let asks = |name: &str| {
            let found = asked.iter().find(|(key, _)| key == name);
            found.map_or("", |(_, value)| value.as_str())
        };
        let basic = BASE64_STANDARD.encode(format!("{}:{}", CLIENT.0, CLIENT.1));
        let (status, answer) = if authorization != format!("Basic {basic}") {
            let error = json!({"error": "invalid_client", "error_description": "no such client, or another secret"});
            ("401 Unauthorized", error)
        } else if asks("grant_type") != "client_credentials" {
            (
                "400 Bad Request",
                json!({"error": "unsupported_grant_type"}),
            )
        } else {
            self.given.fetch_add(1, Ordering::SeqCst);
            let token = self.token(asks("scope"));
            (
                "200 OK",
                json!({"access_token": token, "token_type": "Bearer", "expires_in": self.seconds}),
            )
        };
        let answer = answer.to_string();
        let length = answer.len();
        write!(
            stream.get_mut(),
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{answer}"
        )?;
        stream.get_mut().flush()
    }

    /// A JWT (RFC 7519) that says who the client is.
    fn token(&self, scope: &str) -> String {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("a time")
            .as_secs();
        let part = |value: Value| encoded(value.to_string().as_bytes());
        let header = part(json!({"alg": "RS256", "typ": "JWT", "kid": KEY_ID}));
        let claims = part(json!({
            "iss": ISSUER, "sub": CLIENT.0, "aud": "kafka", "scope": scope, "iat": now, "exp": now + self.seconds,
        }));
        let signed = format!("{header}.{claims}");
        let mut signer = Signer::new(MessageDigest::sha256(), &self.key).expect("a signer");
        signer.update(signed.as_bytes()).expect("signed");
        let signature = encoded(&signer.sign_to_vec().expect("signed"));
        format!("{signed}.{signature}")
    }
}

fn encoded(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

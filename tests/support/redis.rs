//! Servers of Redis of a test's own. All end with their value.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509NameBuilder};
use tempfile::TempDir;

use super::ports::free_port;
use super::wait::wait_until;

/// What a user needs on a single server, beyond Sentinels and a Cluster.
pub const RIGHTS: &str = "~adflux:* &adflux:* +get +set +evalsha +script|load +publish +subscribe";

/// A server without TLS, which lets its default user do everything.
pub struct RedisServer {
    server: Child,
    pub port: u16,
    _folder: TempDir,
}

impl RedisServer {
    pub fn start() -> RedisServer {
        RedisServer::start_with(&[])
    }

    /// With these lines in its configuration.
    pub fn start_with(lines: &[&str]) -> RedisServer {
        let port = free_port();
        let lines = format!("port {port}\nsave \"\"\n{}\n", lines.join("\n"));
        RedisServer::configured(port, &lines, &[])
    }

    /// With TLS only, and the certificate of this folder.
    pub fn start_with_tls(certificates: &Path, lines: &[&str]) -> RedisServer {
        let port = free_port();
        let folder = certificates.display();
        let lines = format!(
            "port 0\nsave \"\"\ntls-port {port}\ntls-ca-cert-file {folder}/ca.pem\n\
             tls-cert-file {folder}/server.pem\ntls-key-file {folder}/server.key\n{}\n",
            lines.join("\n")
        );
        RedisServer::configured(port, &lines, &[])
    }

    /// A Sentinel that watches `main` alone, and lets nobody in but adflux.
    pub fn sentinel_of(master: &RedisServer) -> RedisServer {
        let port = free_port();
        let lines = format!(
            "port {port}\nsentinel monitor main 127.0.0.1 {} 1\nsentinel down-after-milliseconds main 500\n\
             sentinel failover-timeout main 2000\nuser default off\n\
             user adflux on >secret +sentinel\nuser tester on >tester +@all\n",
            master.port
        );
        RedisServer::configured(port, &lines, &["--sentinel"])
    }

    fn configured(port: u16, lines: &str, arguments: &[&str]) -> RedisServer {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("redis.conf");
        let all = format!("bind 127.0.0.1\ndir {}\n{lines}", folder.path().display());
        std::fs::write(&file, all).expect("writes");
        let server = Command::new("redis-server")
            .arg(&file)
            .args(arguments)
            .stdout(Stdio::null())
            .spawn()
            .expect("starts");
        let redis = RedisServer {
            server,
            port,
            _folder: folder,
        };
        wait_until("it listens", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        redis
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn connect(&self) -> redis::RedisResult<redis::Connection> {
        redis::Client::open(self.url())?.get_connection()
    }

    /// `COMMAND ARGUMENT…`
    pub fn run(&self, command: &str) -> redis::Value {
        run(&self.url(), command)
    }

    /// What it says of itself.
    pub fn info(&self, section: &str) -> String {
        let mut connection = self.connect().expect("connects");
        let asked = redis::cmd("INFO").arg(section).query(&mut connection);
        asked.expect("answers")
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Has the server at a URL do `COMMAND ARGUMENT…`.
pub fn run(url: &str, command: &str) -> redis::Value {
    let mut words = command.split(' ');
    let mut run = redis::cmd(words.next().expect("a command"));
    for word in words {
        run.arg(word);
    }
    let connection = redis::Client::open(url).and_then(|client| client.get_connection());
    let run = run.query(&mut connection.expect("connects"));
    run.unwrap_or_else(|e| panic!("{command}: {e}"))
}

/// `ca.pem`, and for each of `server` and `client` a certificate of it and its key.
pub fn write_certificates(folder: &Path) {
    let write =
        |name: &str, bytes: Vec<u8>| std::fs::write(folder.join(name), bytes).expect("writes");
    let (ca, ca_key) = certificate("an authority", None);
    write("ca.pem", ca.to_pem().expect("PEM"));
    for name in ["server", "client"] {
        let (certificate, key) = certificate(name, Some((&ca, &ca_key)));
        write(&format!("{name}.pem"), certificate.to_pem().expect("PEM"));
        // As openssl writes keys of old.
        let key = key.rsa().and_then(|key| key.private_key_to_pem());
        write(&format!("{name}.key"), key.expect("PEM"));
    }
}

fn certificate(name: &str, by: Option<(&X509, &PKey<Private>)>) -> (X509, PKey<Private>) {
    let key = Rsa::generate(2048).and_then(PKey::from_rsa).expect("a key");
    let signed = || {
        let mut subject = X509NameBuilder::new()?;
        subject.append_entry_by_text("CN", name)?;
        let subject = subject.build();
        let mut made = X509Builder::new()?;
        made.set_version(2)?;
        let mut serial = BigNum::new()?;
        serial.rand(64, openssl::bn::MsbOption::MAYBE_ZERO, false)?;
        made.set_serial_number(&*serial.to_asn1_integer()?)?;
        made.set_subject_name(&subject)?;
        made.set_issuer_name(by.map_or(&*subject, |(ca, _)| ca.subject_name()))?;
        made.set_not_before(&*Asn1Time::days_from_now(0)?)?;
        made.set_not_after(&*Asn1Time::days_from_now(1)?)?;
        made.set_pubkey(&key)?;
        if by.is_none() {
            made.append_extension(BasicConstraints::new().critical().ca().build()?)?;
        } else {
            let mut names = SubjectAlternativeName::new();
            let names = names
                .ip("127.0.0.1")
                .build(&made.x509v3_context(None, None))?;
            made.append_extension(names)?;
        }
        made.sign(
            by.map_or(&key, |(_, ca_key)| ca_key),
            MessageDigest::sha256(),
        )?;
        Ok::<_, openssl::error::ErrorStack>(made.build())
    };
    let signed = signed().expect("a certificate");
    (signed, key)
}

//! Who vouches for brokers and clients, made anew for a test.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509NameBuilder};

/// One who signs certificates.
pub struct Authority {
    certificate: X509,
    key: PKey<Private>,
    folder: PathBuf,
    name: String,
}

/// A certificate and its key, in files.
pub struct Issued {
    pub certificate_file: PathBuf,
    pub key_file: PathBuf,
    /// Both of them in one, as Kafka reads them.
    pub keystore: PathBuf,
}

/// When a certificate is valid, in days from today.
pub type Days = std::ops::Range<i64>;

/// Now, and for as long as a test takes.
pub const NOW: Days = -1..1;

impl Authority {
    pub fn new(name: &str, folder: &Path) -> Authority {
        let key = new_key();
        let mut builder = unsigned(name, &key, NOW);
        builder.set_issuer_name(&named(name)).expect("its name");
        let is_ca = BasicConstraints::new().critical().ca().build();
        builder
            .append_extension(is_ca.expect("an extension"))
            .expect("an extension");
        builder.sign(&key, MessageDigest::sha256()).expect("signed");
        let authority = Authority {
            certificate: builder.build(),
            key,
            folder: folder.to_owned(),
            name: name.to_owned(),
        };
        let pem = authority.certificate.to_pem().expect("PEM");
        std::fs::write(authority.file(), pem).expect("written");
        authority
    }

    /// The file with its certificate.
    pub fn file(&self) -> PathBuf {
        self.folder.join(format!("{}.pem", self.name))
    }

    /// Signs a certificate for somebody, who is at this IP address, on these days.
    pub fn issue(&self, name: &str, address: &str, days: Days) -> Issued {
        let key = new_key();
        let mut builder = unsigned(name, &key, days);
        builder
            .set_issuer_name(self.certificate.subject_name())
            .expect("its name");
        let names = SubjectAlternativeName::new()
            .ip(address)
            .build(&builder.x509v3_context(Some(&self.certificate), None));
        builder
            .append_extension(names.expect("an extension"))
            .expect("an extension");
        builder
            .sign(&self.key, MessageDigest::sha256())
            .expect("signed");
        let certificate = builder.build().to_pem().expect("PEM");
        let key = key.private_key_to_pem_pkcs8().expect("PEM");
        let write = |end: &str, bytes: &[u8]| {
            let path = self.folder.join(format!("{name}.{end}"));
            std::fs::write(&path, bytes).expect("written");
            path
        };
        Issued {
            certificate_file: write("certificate.pem", &certificate),
            key_file: write("key.pem", &key),
            keystore: write("keystore.pem", &[key.clone(), certificate.clone()].concat()),
        }
    }
}

fn new_key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).expect("a curve");
    PKey::from_ec_key(EcKey::generate(&group).expect("a key")).expect("a key")
}

fn named(name: &str) -> openssl::x509::X509Name {
    let mut builder = X509NameBuilder::new().expect("a name");
    builder
        .append_entry_by_text("CN", name)
        .expect("a common name");
    builder.build()
}

fn unsigned(name: &str, key: &PKey<Private>, days: Days) -> X509Builder {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = i64::try_from(now.expect("a time").as_secs()).expect("a time");
    let on = |day: i64| Asn1Time::from_unix(now + day * 86_400).expect("a time");
    let serial = BigNum::from_u32(rand::random()).expect("a number");
    let mut builder = X509::builder().expect("a certificate");
    builder.set_version(2).expect("version 3");
    builder
        .set_serial_number(&serial.to_asn1_integer().expect("a number"))
        .expect("a number");
    builder.set_subject_name(&named(name)).expect("a name");
    builder.set_not_before(&on(days.start)).expect("a time");
    builder.set_not_after(&on(days.end)).expect("a time");
    builder.set_pubkey(key).expect("its key");
    builder
}

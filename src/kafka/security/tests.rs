use std::fs;
use std::path::Path;

use openssl::asn1::Asn1Time;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::symm::Cipher;
use openssl::x509::X509;
use tempfile::TempDir;

use super::*;

fn given(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

fn scram() -> Settings {
    Settings {
        security: Some(Security::SaslTls),
        mechanism: Some(Mechanism::ScramSha512),
        username: Some("counting".into()),
        password: Some("hunter2".into()),
        ..Settings::default()
    }
}

#[test]
fn names_are_ours_and_librdkafkas() {
    for (text, security) in [
        ("plaintext", Security::Plaintext),
        ("PLAINTEXT", Security::Plaintext),
        ("tls", Security::Tls),
        ("SSL", Security::Tls),
        ("sasl-plaintext", Security::SaslPlaintext),
        ("SASL_PLAINTEXT", Security::SaslPlaintext),
        ("sasl-tls", Security::SaslTls),
        ("sasl_ssl", Security::SaslTls),
    ] {
        assert_eq!(text.parse(), Ok(security), "{text}");
    }
    assert!("https".parse::<Security>().is_err());
    assert_eq!("SCRAM-SHA-256".parse(), Ok(Mechanism::ScramSha256));
    assert_eq!("plain".parse(), Ok(Mechanism::Plain));
    assert!("scram".parse::<Mechanism>().is_err());
}

#[test]
fn settings_are_properties_and_those_given_stay() {
    let properties = scram().properties(given(&[("linger.ms", "9")]));
    let wanted = given(&[
        ("linger.ms", "9"),
        ("security.protocol", "sasl_ssl"),
        ("sasl.mechanism", "SCRAM-SHA-512"),
        ("sasl.username", "counting"),
        ("sasl.password", "hunter2"),
    ]);
    assert_eq!(properties, Ok(wanted));
    let alone = given(&[("security.protocol", "SASL_SSL")]);
    assert_eq!(Settings::default().properties(alone.clone()), Ok(alone));
    let both = Settings {
        password: Some("hunter2".into()),
        ..Settings::default()
    };
    let rest = given(&[
        ("security.protocol", "SASL_SSL"),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.username", "counting"),
    ]);
    let properties = both.properties(rest).expect("one has what the other lacks");
    assert_eq!(properties.len(), 4, "{properties:?}");
}

/// librdkafka takes each of them.
#[test]
fn properties_are_those_of_librdkafka() {
    let all = Settings {
        token_url: Some("https://login.example.com/token".into()),
        token_scope: Some("kafka".into()),
        ca_file: Some("ca".into()),
        certificate_file: Some("certificate".into()),
        key_file: Some("key".into()),
        key_password: Some("hunter2".into()),
        ..scram()
    };
    for mechanism in [Mechanism::OauthBearer, Mechanism::Plain] {
        for Set {
            property, value, ..
        } in all.set(Some(mechanism))
        {
            let mut config = ClientConfig::new();
            config.set(property, &value);
            let native = config.create_native_config();
            // Without its part built in, librdkafka knows the name, and says so.
            let known = match native {
                Ok(_) => true,
                Err(error) => !error.to_string().contains("No such configuration property"),
            };
            assert!(known, "{property}");
        }
    }
}

#[test]
fn each_contradiction_says_what_to_set_and_nothing_secret() {
    let nothing = Settings::default;
    let sasl = || Settings {
        mechanism: Some(Mechanism::Plain),
        ..scram()
    };
    let file = || Some(PathBuf::from("/no/such/file"));
    for (settings, properties, says) in [
        (
            scram(),
            given(&[("sasl.username", "reader")]),
            "sasl.username is set with --kafka-property, and KAFKA_USERNAME sets it too",
        ),
        (
            Settings {
                password: Some("hunter2".into()),
                ..nothing()
            },
            vec![],
            "KAFKA_PASSWORD is set, and KAFKA_SECURITY is plaintext, without a login: set KAFKA_SECURITY to sasl-tls",
        ),
        (
            Settings {
                security: Some(Security::Tls),
                ..scram()
            },
            vec![],
            "KAFKA_MECHANISM is set, and KAFKA_SECURITY is tls, without a login: set KAFKA_SECURITY to sasl-tls",
        ),
        (
            Settings {
                ca_file: file(),
                ..nothing()
            },
            vec![],
            "KAFKA_CA_FILE is set, and KAFKA_SECURITY is plaintext, without TLS: set KAFKA_SECURITY to tls",
        ),
        (
            Settings {
                security: Some(Security::SaslPlaintext),
                ca_file: file(),
                ..sasl()
            },
            vec![],
            "KAFKA_CA_FILE is set, and KAFKA_SECURITY is sasl-plaintext, without TLS: set KAFKA_SECURITY to sasl-tls",
        ),
        (
            Settings {
                mechanism: None,
                ..scram()
            },
            vec![],
            "KAFKA_SECURITY is sasl-tls: set KAFKA_MECHANISM to plain",
        ),
        (
            Settings {
                username: None,
                ..sasl()
            },
            vec![],
            "KAFKA_MECHANISM is plain: set KAFKA_USERNAME",
        ),
        (
            Settings {
                password: None,
                ..scram()
            },
            vec![],
            "KAFKA_MECHANISM is scram-sha-512: set KAFKA_PASSWORD or KAFKA_PASSWORD_FILE",
        ),
        (
            Settings {
                token_url: Some("https://login.example.com".into()),
                ..scram()
            },
            vec![],
            "KAFKA_TOKEN_URL is set, and KAFKA_MECHANISM is scram-sha-512",
        ),
        (
            Settings {
                key_file: file(),
                ..scram()
            },
            vec![],
            "KAFKA_KEY_FILE is set without KAFKA_CERTIFICATE_FILE",
        ),
        (
            Settings {
                certificate_file: file(),
                ..scram()
            },
            vec![],
            "KAFKA_CERTIFICATE_FILE is set without KAFKA_KEY_FILE",
        ),
        (
            Settings {
                key_password: Some("hunter2".into()),
                ..scram()
            },
            vec![],
            "KAFKA_KEY_PASSWORD is set without KAFKA_KEY_FILE",
        ),
        (
            Settings {
                ca_file: file(),
                ..scram()
            },
            vec![],
            "KAFKA_CA_FILE: cannot read '/no/such/file'",
        ),
    ] {
        let said = settings.properties(properties).expect_err(says);
        assert!(said.contains(says), "{said}\nnot: {says}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[test]
fn what_is_not_built_in_is_said() {
    let settings = |mechanism| Settings {
        mechanism: Some(mechanism),
        token_url: Some("https://login.example.com/token".into()),
        ..scram()
    };
    let oauth = settings(Mechanism::OauthBearer).properties(vec![]);
    let kerberos = Settings {
        token_url: None,
        username: None,
        password: None,
        ..settings(Mechanism::Gssapi)
    };
    for (built, result, feature) in [
        (cfg!(feature = "oidc"), oauth, "--features oidc"),
        (
            cfg!(feature = "kerberos"),
            kerberos.properties(vec![]),
            "--features kerberos",
        ),
    ] {
        assert_eq!(built, result.is_ok(), "{result:?}");
        if let Err(said) = result {
            assert!(said.contains(feature), "{said}");
        }
    }
}

#[cfg(feature = "kerberos")]
#[test]
fn by_kerberos_we_are_who_is_in_the_keytab() {
    let kerberos = || Settings {
        mechanism: Some(Mechanism::Gssapi),
        username: None,
        password: None,
        ..scram()
    };
    let properties = kerberos().properties(vec![]).expect("all that it needs");
    let no_kinit = ("sasl.kerberos.min.time.before.relogin", "0");
    assert!(
        properties.contains(&given(&[no_kinit])[0]),
        "{properties:?}"
    );
    let named = Settings {
        username: Some("counting".into()),
        ..kerberos()
    };
    let keytab = given(&[("sasl.kerberos.keytab", "/etc/adflux/counting.keytab")]);
    for (settings, properties, setting) in [
        (named, vec![], "KAFKA_USERNAME is set"),
        (kerberos(), keytab, "sasl.kerberos.keytab is set"),
    ] {
        let said = settings.properties(properties).expect_err(setting);
        assert!(said.contains(setting), "{said}");
        assert!(said.contains("set KRB5_CLIENT_KTNAME"), "{said}");
    }
}

fn key() -> PKey<Private> {
    let rsa = Rsa::generate(2048).expect("a key");
    PKey::from_rsa(rsa).expect("a key")
}

fn certificate(key: &PKey<Private>) -> X509 {
    let mut builder = X509::builder().expect("a certificate");
    let now = Asn1Time::days_from_now(0).expect("a time");
    let then = Asn1Time::days_from_now(1).expect("a time");
    builder.set_not_before(&now).expect("a time");
    builder.set_not_after(&then).expect("a time");
    builder.set_pubkey(key).expect("its key");
    builder
        .sign(key, MessageDigest::sha256())
        .expect("a signature");
    builder.build()
}

/// What of the two files is wrong, with a key that has a password if `secret` is one.
fn paired(folder: &Path, key: &[u8], certificate: &X509, password: Option<&str>) -> String {
    let (key_file, certificate_file) = (folder.join("key.pem"), folder.join("certificate.pem"));
    fs::write(&key_file, key).expect("written");
    fs::write(&certificate_file, certificate.to_pem().expect("PEM")).expect("written");
    let settings = Settings {
        security: Some(Security::Tls),
        key_file: Some(key_file),
        certificate_file: Some(certificate_file),
        key_password: password.map(str::to_owned),
        ..Settings::default()
    };
    settings.properties(vec![]).err().unwrap_or_default()
}

#[test]
fn files_are_what_their_settings_say() {
    let folder = TempDir::new().expect("a folder");
    let at = folder.path();
    let key = key();
    let ours = certificate(&key);
    let plain = key.private_key_to_pem_pkcs8().expect("PEM");
    let locked = key
        .private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"hunter2")
        .expect("PEM");
    assert_eq!(paired(at, &plain, &ours, None), "");
    assert_eq!(paired(at, &locked, &ours, Some("hunter2")), "");
    let long = "x".repeat(5_000);
    for (key, certificate, password, says) in [
        (&locked, &ours, None, "is encrypted: set KAFKA_KEY_PASSWORD"),
        (
            &locked,
            &ours,
            Some("other"),
            "KAFKA_KEY_PASSWORD does not open",
        ),
        (
            &locked,
            &ours,
            Some(long.as_str()),
            "KAFKA_KEY_PASSWORD does not open",
        ),
        (&b"DER".to_vec(), &ours, None, "holds no private key"),
        (
            &plain,
            &certificate(&self::key()),
            None,
            "is not that of the first certificate",
        ),
    ] {
        let said = paired(at, key, certificate, password);
        assert!(said.contains(says), "{said}\nnot: {says}");
    }
    let ca_file = at.join("ca.der");
    fs::write(&ca_file, ours.to_der().expect("DER")).expect("written");
    let settings = Settings {
        security: Some(Security::Tls),
        ca_file: Some(ca_file),
        ..Settings::default()
    };
    let said = settings.properties(vec![]).expect_err("no PEM");
    assert!(
        said.contains("ca.der' holds no certificate in PEM form"),
        "{said}"
    );
}

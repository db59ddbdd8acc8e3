//! The files: is in them what their settings promise? librdkafka says of each of these no more than that TLS does not work.

// Bytes from outside come through here.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::path::Path;

use openssl::pkey::{PKey, Private};
use openssl::x509::X509;

/// Those who may vouch for a broker.
pub(super) fn authorities(path: &Path) -> Result<(), String> {
    certificates("KAFKA_CA_FILE", path).map(|_| ())
}

/// A certificate, with those of who vouches for it behind it, and its key.
pub(super) fn pair(certificate: &Path, key: &Path, password: Option<&str>) -> Result<(), String> {
    let certificates = certificates("KAFKA_CERTIFICATE_FILE", certificate)?;
    let private = private_key(key, password)?;
    let ours = certificates.first().map(|first| first.public_key());
    if ours.is_some_and(|ours| ours.is_ok_and(|ours| ours.public_eq(&private))) {
        return Ok(());
    }
    Err(format!(
        "the key in '{}' (KAFKA_KEY_FILE) is not that of the first certificate in '{}' (KAFKA_CERTIFICATE_FILE)",
        key.display(),
        certificate.display()
    ))
}

fn read(setting: &str, path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path)
        .map_err(|error| format!("{setting}: cannot read '{}': {error}", path.display()))
}

fn certificates(setting: &str, path: &Path) -> Result<Vec<X509>, String> {
    let found = X509::stack_from_pem(&read(setting, path)?).unwrap_or_default();
    if found.is_empty() {
        return Err(format!(
            "{setting}: '{}' holds no certificate in PEM form, which begins with -----BEGIN CERTIFICATE-----",
            path.display()
        ));
    }
    Ok(found)
}

fn private_key(path: &Path, password: Option<&str>) -> Result<PKey<Private>, String> {
    const SETTING: &str = "KAFKA_KEY_FILE";
    let text = read(SETTING, path)?;
    let mut asked = false;
    // Without this, the password would be asked for on the terminal.
    let key = PKey::private_key_from_pem_callback(&text, |room| {
        asked = true;
        let password = password.unwrap_or_default().as_bytes();
        Ok(room.get_mut(..password.len()).map_or(0, |room| {
            room.copy_from_slice(password);
            password.len()
        }))
    });
    key.map_err(|_| {
        let path = path.display();
        match (asked, password) {
            (true, None) => format!(
                "{SETTING}: the key in '{path}' is encrypted: set KAFKA_KEY_PASSWORD or KAFKA_KEY_PASSWORD_FILE"
            ),
            (true, Some(_)) => format!(
                "{SETTING}: KAFKA_KEY_PASSWORD does not open the key in '{path}'"
            ),
            (false, _) => format!(
                "{SETTING}: '{path}' holds no private key in PEM form, which begins with -----BEGIN PRIVATE KEY-----"
            ),
        }
    })
}

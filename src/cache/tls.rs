//! The files with which TLS is spoken with Redis. Read once, when the process begins.

use std::path::{Path, PathBuf};

use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::x509::X509;
use redis::{ClientTlsConfig, TlsCertificates};

use super::servers::BadSetting;

/// Where the files are; without any, the system's authorities are believed, and we don't say who we are.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    /// The authorities that are believed instead of the system's.
    pub authorities: Option<PathBuf>,
    /// The certificate with which we say who we are, and those that vouch for it.
    pub certificate: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
}

impl TlsFiles {
    /// What is in them; none if there are none.
    ///
    /// # Errors
    /// When one cannot be read, or is not what it should be.
    pub(super) fn read(&self) -> Result<Option<TlsCertificates>, BadSetting> {
        let read_authorities = |path| file("REDIS_CA_FILE", path, certificates);
        let root_cert = self.authorities.as_deref().map(read_authorities);
        let client_tls = match (&self.certificate, &self.key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some(ClientTlsConfig {
                client_cert: file("REDIS_CERTIFICATE_FILE", certificate, certificates)?,
                client_key: file("REDIS_KEY_FILE", key, private_key)?,
            }),
            _ => return Err(BadSetting::HalfAnIdentity),
        };
        let root_cert = root_cert.transpose()?;
        Ok(
            (root_cert.is_some() || client_tls.is_some()).then_some(TlsCertificates {
                client_tls,
                root_cert,
            }),
        )
    }
}

fn file(
    setting: &'static str,
    path: &Path,
    understand: fn(Vec<u8>) -> Result<Vec<u8>, String>,
) -> Result<Vec<u8>, BadSetting> {
    let read = std::fs::read(path).map_err(|error| format!("cannot be read ({error})"));
    read.and_then(understand).map_err(|why| BadSetting::File {
        setting,
        path: path.to_owned(),
        why,
    })
}

fn certificates(pem: Vec<u8>) -> Result<Vec<u8>, String> {
    match X509::stack_from_pem(&pem) {
        Ok(certificates) if certificates.is_empty() => {
            Err("has no certificate in it, in PEM".to_owned())
        }
        Ok(_) => Ok(pem),
        Err(error) => Err(format!("is not certificates in PEM ({error})")),
    }
}

/// The key in the one form that the client reads.
fn private_key(pem: Vec<u8>) -> Result<Vec<u8>, String> {
    // Without a callback, the library would ask for the passphrase at the terminal.
    let read = PKey::private_key_from_pem_callback(&pem, |_| Err(ErrorStack::get()));
    read.and_then(|key| key.private_key_to_pem_pkcs8())
        .map_err(|error| format!("is not a private key in PEM without a passphrase ({error})"))
}

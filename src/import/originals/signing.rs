//! What requests to a bucket are signed with: the cryptography that is here anyway, instead of another library of it.

use hmac::{Hmac, KeyInit as _, Mac as _};
use object_store::client::{
    CryptoProvider, DigestAlgorithm, DigestContext, HmacContext, Signer, SigningAlgorithm,
};
use object_store::{Error, Result};
use sha2::{Digest as _, Sha256};

/// SHA-256, and HMAC with it: all that S3 asks for.
#[derive(Debug)]
pub struct Signing;

/// What is being computed, and what came of it.
struct Computing<T> {
    of: T,
    done: [u8; 32],
}

impl DigestContext for Computing<Sha256> {
    fn update(&mut self, data: &[u8]) {
        self.of.update(data);
    }

    fn finish(&mut self) -> Result<&[u8]> {
        self.done = self.of.clone().finalize().into();
        Ok(&self.done)
    }
}

impl HmacContext for Computing<Hmac<Sha256>> {
    fn update(&mut self, data: &[u8]) {
        self.of.update(data);
    }

    fn finish(&mut self) -> Result<&[u8]> {
        self.done = self.of.clone().finalize().into_bytes().into();
        Ok(&self.done)
    }
}

impl CryptoProvider for Signing {
    fn digest(&self, algorithm: DigestAlgorithm) -> Result<Box<dyn DigestContext>> {
        is_sha256(&algorithm)?;
        let (of, done) = (Sha256::new(), [0; 32]);
        Ok(Box::new(Computing { of, done }))
    }

    fn hmac(&self, algorithm: DigestAlgorithm, secret: &[u8]) -> Result<Box<dyn HmacContext>> {
        is_sha256(&algorithm)?;
        let of = Hmac::new_from_slice(secret).map_err(not_supported)?;
        let done = [0; 32];
        Ok(Box::new(Computing { of, done }))
    }

    fn sign(&self, algorithm: SigningAlgorithm, _: &[u8]) -> Result<Box<dyn Signer>> {
        Err(not_supported(format!("{algorithm:?}")))
    }
}

fn is_sha256(algorithm: &DigestAlgorithm) -> Result<()> {
    match algorithm {
        DigestAlgorithm::Sha256 => Ok(()),
        other => Err(not_supported(format!("{other:?}"))),
    }
}

fn not_supported(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::NotSupported {
        source: what.into(),
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    /// RFC 4231, test case 2; FIPS 180-4, "abc".
    #[test]
    fn known_answers() {
        let mut mac = Signing
            .hmac(DigestAlgorithm::Sha256, b"Jefe")
            .expect("SHA-256");
        mac.update(b"what do ya want ");
        mac.update(b"for nothing?");
        assert_eq!(
            HEXLOWER.encode(mac.finish().expect("done")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        let mut digest = Signing.digest(DigestAlgorithm::Sha256).expect("SHA-256");
        digest.update(b"abc");
        assert_eq!(
            HEXLOWER.encode(digest.finish().expect("done")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}

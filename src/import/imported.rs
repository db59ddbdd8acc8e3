//! What was imported: listed, shown, and taken back.

use anyhow::bail;
use data_encoding::HEXLOWER;
use diesel::PgConnection;

use crate::store::read::imports::{self, File};
use crate::time::{Timestamp, rfc3339_exact};

mod list;
mod numbers;
mod show;
mod standing;
pub mod undo;

pub use list::list;
pub use show::{Viewed, show};

/// So many digits of a hash tell files apart, for people.
const SHORT: usize = 12;

/// A hash as people write it.
fn short(sha256: &[u8]) -> String {
    let mut hash = HEXLOWER.encode(sha256);
    hash.truncate(SHORT);
    hash
}

/// An instant as people and programs read it.
fn instant(at: Timestamp) -> String {
    at.datetime().map_or_else(|| at.to_string(), rfc3339_exact)
}

/// Checks that a text may be the beginning of a SHA-256.
///
/// # Errors
/// A message for the user.
pub fn hash(text: &str) -> Result<String, String> {
    let hash = text.to_ascii_lowercase();
    let is_hash = (1..=64).contains(&hash.len()) && hash.bytes().all(|b| b.is_ascii_hexdigit());
    is_hash.then_some(hash).ok_or_else(|| {
        "not the beginning of a file's SHA-256 in hexadecimal, as `adflux import list` shows it"
            .to_owned()
    })
}

/// The file whose hash begins so.
fn find(connection: &mut PgConnection, hash: &str) -> anyhow::Result<File> {
    let mut files = imports::files(connection, hash, 2)?;
    match (files.pop(), files.pop()) {
        (Some(file), None) => Ok(file),
        (Some(one), Some(other)) => bail!(
            "more than one file begins with {hash}, {} and {} among them: say more of it",
            short(&other.sha256),
            short(&one.sha256)
        ),
        (None, _) => bail!(
            "no file that begins with {hash} was imported: `adflux import list` shows those that were"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes() {
        assert_eq!(hash("3F2a"), Ok("3f2a".to_owned()));
        for bad in ["", "june.csv", "3g", &"a".repeat(65)] {
            assert!(hash(bad).is_err(), "{bad}");
        }
    }
}

//! Cursors: where a page ended, and of which question.
//!
//! To a client a cursor is opaque: a checksum, a signature and some numbers. The checksum only tells a cursor of another
//! question from one that is not ours. The signature is HMAC-SHA256, cut to 128 bits, of the question and the numbers: what
//! comes back is what was given, so no number in it is out of bounds.
//!
//! The key is the database's (`cursor_key`), so it is one for all servers, those on standbys too, and outlives them.

// Bytes from outside come through here.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use data_encoding::HEXLOWER;
use hmac::digest::Key;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::problem::Problem;

/// Why a cursor is refused that is not one of ours.
pub(super) const NOT_OURS: &str = "this cursor is not one that this API gave; start without one";

/// Hexadecimal digits of a checksum, and of a signature.
const CHECKSUM: usize = 8;
const SIGNATURE: usize = 32;
/// What stands before the numbers, in digits.
pub(super) const BEFORE_NUMBERS: usize = CHECKSUM + SIGNATURE;

/// Signs cursors, and reads those that were signed with the same key.
#[derive(Clone)]
pub(super) struct Signer(Hmac<Sha256>);

impl Signer {
    /// One with this key, of up to 64 bytes.
    pub fn new(key: &[u8]) -> Signer {
        // HMAC fills a key up with zeros.
        let mut block = Key::<Hmac<Sha256>>::default();
        for (to, from) in block.iter_mut().zip(key) {
            *to = *from;
        }
        Signer(Hmac::new(&block))
    }

    /// A cursor with these numbers, for `question`.
    pub fn encode(&self, question: &str, numbers: &[i64]) -> String {
        let numbers: Vec<String> = numbers.iter().map(i64::to_string).collect();
        let text = numbers.join(".");
        let mut signature = HEXLOWER.encode(&self.mac(question, &text).finalize().into_bytes());
        signature.truncate(SIGNATURE);
        format!("{:08x}{signature}.{text}", checksum(question))
    }

    /// Reads a cursor back: its `N` numbers.
    ///
    /// # Errors
    /// A [`Problem`] when it is not one of ours, was changed, or belongs to another question.
    pub fn decode<const N: usize>(
        &self,
        question: &str,
        cursor: &str,
    ) -> Result<[i64; N], Problem> {
        let numbers = self.decode_all(question, cursor)?.try_into();
        numbers.map_err(|_| Problem::cursor(NOT_OURS))
    }

    /// Reads a cursor back, however many numbers it has.
    ///
    /// # Errors
    /// As [`Signer::decode`].
    pub fn decode_all(&self, question: &str, cursor: &str) -> Result<Vec<i64>, Problem> {
        let invalid = || Problem::cursor(NOT_OURS);
        let (of, rest) = cursor.split_at_checked(CHECKSUM).ok_or_else(invalid)?;
        let (signature, text) = rest.split_once('.').ok_or_else(invalid)?;
        let given = HEXLOWER.decode(signature.as_bytes());
        let given = given.ok().filter(|_| signature.len() == SIGNATURE);
        let given = given.ok_or_else(invalid)?;
        if of != format!("{:08x}", checksum(question)) {
            let detail =
                "this cursor belongs to a question with other parameters; start without one";
            return Err(Problem::cursor(detail));
        }
        // In the same time, however much of it is right.
        self.mac(question, text)
            .verify_truncated_left(&given)
            .map_err(|_| invalid())?;
        let numbers: Option<Vec<i64>> = text.split('.').map(|n| n.parse().ok()).collect();
        numbers.ok_or_else(invalid)
    }

    fn mac(&self, question: &str, text: &str) -> Hmac<Sha256> {
        // No parameter has a control character, so it is certain where the one ends and the other begins.
        let parts = [question.as_bytes(), &[0], text.as_bytes()];
        parts
            .iter()
            .fold(self.0.clone(), |mac, part| mac.chain_update(part))
    }
}

/// FNV-1a, 32 bits.
fn checksum(question: &str) -> u32 {
    question.bytes().fold(0x811c_9dc5, |hash, b| {
        (hash ^ u32::from(b)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn signer() -> Signer {
        Signer::new(&[7; 32])
    }

    proptest! {
        #[test]
        fn round_trip(numbers in any::<[i64; 3]>()) {
            let cursor = signer().encode("sort=roas&", &numbers);
            prop_assert_eq!(signer().decode("sort=roas&", &cursor), Ok(numbers));
        }

        #[test]
        fn a_changed_cursor_is_refused(at in any::<prop::sample::Index>(), byte in "[0-9a-fA-F.]") {
            let cursor = signer().encode("q", &[7, 123_456]);
            let at = at.index(cursor.len());
            let mut changed = cursor.clone();
            changed.replace_range(at..=at, &byte);
            prop_assume!(changed != cursor);
            prop_assert!(signer().decode::<2>("q", &changed).is_err());
        }

        #[test]
        fn nothing_panics(cursor in "\\PC{0,100}") {
            let _ = signer().decode::<2>("q", &cursor);
        }
    }

    #[test]
    fn another_question_or_another_key_is_refused() {
        let cursor = signer().encode("sort=roas&", &[1]);
        assert!(signer().decode::<1>("sort=ctr&", &cursor).is_err());
        assert!(signer().decode::<2>("sort=roas&", &cursor).is_err());
        let other = Signer::new(&[8; 32]);
        assert_eq!(
            other.decode::<1>("sort=roas&", &cursor),
            Err(Problem::cursor(NOT_OURS))
        );
        assert_eq!(signer().decode("sort=roas&", &cursor), Ok([1]));
    }
}

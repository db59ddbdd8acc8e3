//! Cursors: where a page ended, and of which question.
//!
//! To a client a cursor is opaque: two checksums and some numbers. One checksum tells that it
//! belongs to another question, the other that it was changed or cut. They are no secret and need
//! not be: a cursor gives access to nothing that its question does not, and what it says is
//! checked again by who uses it.

// Bytes from outside come through here.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::problem::Problem;

/// Why a cursor is refused that does not even look like one.
pub(super) const NOT_OURS: &str = "this cursor is not one that this API gave; start without one";

/// A cursor with these numbers, for `question`.
pub fn encode(question: &str, numbers: &[i64]) -> String {
    let numbers: Vec<String> = numbers.iter().map(i64::to_string).collect();
    let text = numbers.join(".");
    let (of, check) = checksums(question, &text);
    format!("{of:08x}{check:08x}.{text}")
}

/// Reads a cursor back: its `N` numbers.
///
/// # Errors
/// A [`Problem`] when it is not one of ours, was changed, or belongs to another question.
pub fn decode<const N: usize>(question: &str, cursor: &str) -> Result<[i64; N], Problem> {
    let invalid = || Problem::cursor(NOT_OURS);
    let (sums, text) = cursor.split_at_checked(17).ok_or_else(invalid)?;
    let (of, check) = checksums(question, text);
    let given = sums.strip_suffix('.').ok_or_else(invalid)?;
    let (given_of, given_check) = given.split_at_checked(8).ok_or_else(invalid)?;
    if given_check != format!("{check:08x}") {
        return Err(invalid());
    }
    if given_of != format!("{of:08x}") {
        let detail = "this cursor belongs to a question with other parameters; start without one";
        return Err(Problem::cursor(detail));
    }
    let numbers: Option<Vec<i64>> = text.split('.').map(|n| n.parse().ok()).collect();
    numbers
        .and_then(|numbers| numbers.try_into().ok())
        .ok_or_else(invalid)
}

fn checksums(question: &str, text: &str) -> (u32, u32) {
    let start = 0x811c_9dc5;
    (fnv(start, question.as_bytes()), fnv(start, text.as_bytes()))
}

/// FNV-1a, 32 bits.
fn fnv(start: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(start, |hash, &b| {
        (hash ^ u32::from(b)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(numbers in any::<[i64; 3]>()) {
            prop_assert_eq!(decode("sort=roas&", &encode("sort=roas&", &numbers)), Ok(numbers));
        }

        #[test]
        fn a_changed_cursor_is_refused(at in any::<prop::sample::Index>(), byte in "[0-9a-f.]") {
            let cursor = encode("q", &[7, 123_456]);
            let at = at.index(cursor.len());
            let mut changed = cursor.clone();
            changed.replace_range(at..=at, &byte);
            prop_assume!(changed != cursor);
            prop_assert!(decode::<2>("q", &changed).is_err());
        }

        #[test]
        fn nothing_panics(cursor in "\\PC{0,100}") {
            let _ = decode::<2>("q", &cursor);
        }
    }

    #[test]
    fn another_question_is_refused() {
        let cursor = encode("sort=roas&", &[1]);
        assert!(decode::<1>("sort=ctr&", &cursor).is_err());
        assert!(decode::<2>("sort=roas&", &cursor).is_err());
    }
}

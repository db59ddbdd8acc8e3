//! Cursors of `GET /campaigns`: where a page ended, and of which question.
//!
//! To a client a cursor is opaque. It names the question it belongs to, so that it cannot be
//! used with another order or window by mistake.

// Bytes from outside come through here.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::problem::Problem;

/// Where a page ended: the value its last campaign was sorted by, and that campaign.
pub type End = (Option<f64>, String);

/// Why a cursor is refused that does not even look like one.
pub(super) const NOT_OURS: &str = "this cursor is not one that this API gave; start without one";

/// The cursor for what follows `end` in the answer to `question`.
pub fn encode(question: &str, end: &End) -> String {
    let value = end
        .0
        .map_or_else(|| "-".to_owned(), |v| format!("{:016x}", v.to_bits()));
    let text = format!("{question}|{value}|{}", end.1);
    let check = checksum(text.as_bytes());
    crate::store::dead_letters::hex(format!("{check:08x}{text}").as_bytes())
}

/// Reads a cursor back.
///
/// # Errors
/// A [`Problem`] when it is not one of ours, was changed, or belongs to another question.
pub fn decode(question: &str, cursor: &str) -> Result<End, Problem> {
    let invalid = || Problem::cursor(NOT_OURS);
    let bytes: Option<Vec<u8>> = cursor
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    let text = String::from_utf8(bytes.ok_or_else(invalid)?).map_err(|_| invalid())?;
    let (check, text) = text.split_at_checked(8).ok_or_else(invalid)?;
    if check != format!("{:08x}", checksum(text.as_bytes())) {
        return Err(invalid());
    }
    let mut parts = text.rsplitn(3, '|');
    let (Some(id), Some(value), Some(of)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(invalid());
    };
    if of != question {
        let detail = "this cursor belongs to a question with another sort, order or window; start without one";
        return Err(Problem::cursor(detail));
    }
    let value = match value {
        "-" => None,
        bits => Some(f64::from_bits(
            u64::from_str_radix(bits, 16).map_err(|_| invalid())?,
        )),
    };
    Ok((value, id.to_owned()))
}

/// FNV-1a, 32 bits: notices a cursor that was cut or mistyped. It is no secret and need not be: a
/// cursor gives access to nothing that the question itself does not.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, &b| {
        (hash ^ u32::from(b)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(value in prop::option::of(any::<f64>()), id in "[A-Za-z0-9_.:-]{1,64}") {
            let (back, same_id) = decode("roas desc", &encode("roas desc", &(value, id.clone()))).expect("ours");
            prop_assert_eq!(back.map(f64::to_bits), value.map(f64::to_bits));
            prop_assert_eq!(same_id, id);
        }

        #[test]
        fn a_changed_cursor_is_refused(at in any::<prop::sample::Index>(), byte in "[0-9a-f]") {
            let cursor = encode("q", &(Some(1.5), "cmp-1".into()));
            let at = at.index(cursor.len());
            let mut changed = cursor.clone();
            changed.replace_range(at..=at, &byte);
            prop_assume!(changed != cursor);
            prop_assert!(decode("q", &changed).is_err());
        }

        #[test]
        fn nothing_panics(cursor in "\\PC{0,100}") {
            let _ = decode("q", &cursor);
        }
    }

    #[test]
    fn another_question_is_refused() {
        let cursor = encode("roas desc", &(None, "cmp-1".into()));
        assert!(decode("ctr desc", &cursor).is_err());
    }
}

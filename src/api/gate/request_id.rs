//! A name for each request, in its answer and in what is logged of it.

// Bytes from outside come through here.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use uuid::Uuid;
use warp::http::{HeaderMap, HeaderName, HeaderValue};

/// `X-Request-Id`.
pub const HEADER: HeaderName = HeaderName::from_static("x-request-id");
const LONGEST: usize = 64;

/// See the module.
#[derive(Clone, Debug)]
pub struct RequestId(pub HeaderValue);

/// The id the sender gave, if it can stand in a log line as it is; otherwise a new one.
pub fn of(headers: &HeaderMap) -> RequestId {
    let sane = |id: &&HeaderValue| {
        let allowed = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        (1..=LONGEST).contains(&id.len()) && id.as_bytes().iter().all(allowed)
    };
    let given = headers.get(HEADER).filter(sane).cloned();
    RequestId(given.unwrap_or_else(|| {
        let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
        // Hexadecimal and hyphens, which a header can hold.
        HeaderValue::from_str(next().hyphenated().encode_lower(&mut text))
            .unwrap_or_else(|_| HeaderValue::from_static("none"))
    }))
}

/// A random one to begin with, and from there on the next each time: asking the system for each would
/// cost as much as some answers.
fn next() -> Uuid {
    static FIRST: LazyLock<u128> = LazyLock::new(|| Uuid::new_v4().as_u128());
    static GIVEN: AtomicU64 = AtomicU64::new(0);
    let given = GIVEN.fetch_add(1, Ordering::Relaxed);
    Uuid::from_u128(FIRST.wrapping_add(given.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sane_ids_are_kept_and_others_replaced() {
        let of_header = |id: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, HeaderValue::from_bytes(id).expect("a header"));
            of(&headers).0
        };
        assert_eq!(of_header(b"trace-1.2_3"), "trace-1.2_3");
        for bad in [&b""[..], b"a b", b"a\"b", b"\xff", &[b'a'; 65]] {
            assert_eq!(of_header(bad).len(), 36);
        }
        let made = |_| of(&HeaderMap::new()).0.as_bytes().to_vec();
        let different: std::collections::HashSet<_> = (0..10_000).map(made).collect();
        assert_eq!(different.len(), 10_000);
    }
}

//! A name for each request, in its answer and in what is logged of it.

// Bytes from outside come through here.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

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
        // Hexadecimal and hyphens, which a header can hold.
        HeaderValue::from_str(&Uuid::new_v4().to_string())
            .unwrap_or_else(|_| HeaderValue::from_static("none"))
    }))
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
        assert_ne!(of(&HeaderMap::new()).0, of(&HeaderMap::new()).0);
    }
}

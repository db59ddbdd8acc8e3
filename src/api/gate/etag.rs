//! `ETag` and 304: who has an answer already is not sent it again.

use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use sha2::{Digest as _, Sha256};
use warp::http::{HeaderValue, StatusCode, header};
use warp::reply::Response;

use crate::store::dead_letters::hex;

/// Larger answers, and those whose length is not known, are sent as they are, in bytes.
const LARGEST: u64 = 16 << 20;

/// Gives an answer that may be kept, if it is asked about again, its `ETag`; or says that `held` is the
/// same.
pub async fn validate(response: Response, held: Option<&HeaderValue>) -> Response {
    let kept = response.status() == StatusCode::OK
        && response.headers().get(header::CACHE_CONTROL) == Some(&NO_CACHE)
        && response
            .body()
            .size_hint()
            .exact()
            .is_some_and(|n| n <= LARGEST);
    if !kept {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let bytes = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => {
            log::error!("an answer could not be read: {error}");
            let mut response = Response::default();
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            return response;
        }
    };
    // 128 bits tell answers apart. Weak, because a compressed answer has other bytes and the same tag.
    let hash = Sha256::digest(&bytes);
    let tag = format!("W/\"{}\"", hex(hash.get(..16).unwrap_or_default()));
    let same = held.is_some_and(|held| matches(held, &tag));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        parts.headers.insert(header::ETAG, tag);
    }
    if same {
        parts.status = StatusCode::NOT_MODIFIED;
        parts.headers.remove(header::CONTENT_TYPE);
        return Response::from_parts(parts, warp::reply::Response::default().into_body());
    }
    Response::from_parts(parts, bytes.into())
}

static NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache");

/// RFC 9110's weak comparison with a list of tags.
fn matches(held: &HeaderValue, tag: &str) -> bool {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    held.to_str().is_ok_and(|held| {
        held.trim() == "*" || held.split(',').any(|held| opaque(held) == opaque(tag))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weak_comparison() {
        let held = |text| matches(&HeaderValue::from_static(text), "W/\"a\"");
        assert!(held("W/\"a\"") && held("\"a\"") && held("*") && held("\"b\", W/\"a\""));
        assert!(!held("\"b\"") && !held("") && !held("a"));
    }
}

//! `ETag` and 304: who has an answer already is not sent it again.

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use sha2::{Digest as _, Sha256};
use warp::http::{HeaderValue, StatusCode, header};
use warp::reply::Response;

use data_encoding::HEXLOWER;

/// Larger answers, and those whose length is not known, are sent as they are, in bytes.
const LARGEST: u64 = 16 << 20;

/// Gives an answer that may be kept, if it is asked about again, its `ETag`; or says that `held` is the
/// same.
pub async fn validate(response: Response, held: &[HeaderValue]) -> Response {
    let mut response = if response.headers().contains_key(header::ETAG) {
        response
    } else {
        let (mut response, tagged) = tag(response).await;
        if let Some((_, tag)) = tagged {
            response.headers_mut().insert(header::ETAG, tag);
        }
        response
    };
    let tag = response.headers().get(header::ETAG);
    if tag.is_some_and(|tag| held.iter().any(|held| matches(held, tag))) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response.headers_mut().remove(header::CONTENT_TYPE);
        *response.body_mut() = Response::default().into_body();
    }
    response
}

/// The body of an answer that may be kept, and its tag.
pub async fn tag(response: Response) -> (Response, Option<(Bytes, HeaderValue)>) {
    let kept = response.status() == StatusCode::OK
        && response.headers().get(header::CACHE_CONTROL) == Some(&REVALIDATE)
        && response
            .body()
            .size_hint()
            .exact()
            .is_some_and(|n| n <= LARGEST);
    if !kept {
        return (response, None);
    }
    let (parts, body) = response.into_parts();
    let bytes = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => {
            log::error!("an answer could not be read: {error}");
            let mut response = Response::default();
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            return (response, None);
        }
    };
    // 128 bits tell answers apart. Weak, because a compressed answer has other bytes and the same tag.
    let hash = Sha256::digest(&bytes);
    let tag = format!(
        "W/\"{}\"",
        HEXLOWER.encode(hash.get(..16).unwrap_or_default())
    );
    let response = Response::from_parts(parts, bytes.clone().into());
    let tagged = HeaderValue::from_str(&tag).ok().map(|tag| (bytes, tag));
    (response, tagged)
}

/// Of an answer that may be kept, if it is asked about again.
pub(in crate::api) static REVALIDATE: HeaderValue = HeaderValue::from_static("no-cache");

/// RFC 9110's weak comparison with a list of tags.
fn matches(held: &HeaderValue, tag: &HeaderValue) -> bool {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    let (Ok(held), Ok(tag)) = (held.to_str(), tag.to_str()) else {
        return false;
    };
    held.trim() == "*" || held.split(',').any(|held| opaque(held) == opaque(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weak_comparison() {
        let tag = HeaderValue::from_static("W/\"a\"");
        let held = |text| matches(&HeaderValue::from_static(text), &tag);
        assert!(held("W/\"a\"") && held("\"a\"") && held("*") && held("\"b\", W/\"a\""));
        assert!(!held("\"b\"") && !held("") && !held("a"));
    }
}

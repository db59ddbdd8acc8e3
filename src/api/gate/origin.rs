//! Origins whose pages may call the API, and those whose pages may change something.

use std::str::FromStr;

use warp::http::{HeaderMap, HeaderName, HeaderValue, header};

use super::host::PublicUrl;
use crate::api::problem::Problem;

/// Scheme, host and port as a browser sends them, or `*`: all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(HeaderValue);

impl Origin {
    /// Whether it stands for all.
    pub(super) fn is_any(&self) -> bool {
        self.0 == "*"
    }

    /// As the `Origin` header has it.
    pub(super) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Origin, String> {
        let is_origin = text == "*"
            || text
                .split_once("://")
                .is_some_and(|(_, host)| !host.is_empty() && !host.contains('/'));
        HeaderValue::from_str(text)
            .ok()
            .filter(|_| is_origin)
            .map(Origin)
            .ok_or_else(|| format!("'{text}' is not an origin such as https://example.com, or *"))
    }
}

/// What browsers say of where a request comes from, also where they leave the origin out.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Looks where a request comes from that would change something, and that no key vouches for: from a page of this
/// server, from one of an origin that is allowed by name, or from no page at all.
///
/// # Errors
/// A [`Problem`]: it comes from a page of elsewhere.
pub(super) fn admit_change(
    headers: &HeaderMap,
    allowed: &[Origin],
    public: Option<&PublicUrl>,
) -> Result<(), Problem> {
    let Some(origin) = headers.get(header::ORIGIN) else {
        let site = headers.get(SEC_FETCH_SITE);
        return match site.is_none_or(|site| site == "same-origin" || site == "none") {
            true => Ok(()),
            false => Err(Problem::cross_origin("another site")),
        };
    };
    let shown = origin.to_str().unwrap_or_default();
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let is_own = shown
        .split_once("://")
        .is_some_and(|(_, at)| host.is_some_and(|host| host.eq_ignore_ascii_case(at)));
    // `*` lets everybody ask, and nobody change.
    let is_named = allowed
        .iter()
        .any(|allowed| !allowed.is_any() && allowed.0 == origin);
    if is_own || is_named || public.is_some_and(|url| url.origin() == origin) {
        Ok(())
    } else {
        Err(Problem::cross_origin(shown))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_an_origin() {
        let parse = |text: &str| text.parse::<Origin>();
        assert!(parse("https://example.com:8443").is_ok() && parse("*").is_ok_and(|o| o.is_any()));
        for bad in ["", "example.com", "https://example.com/", "https://\n"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
    #[test]
    fn who_may_change_something() {
        let named: Vec<Origin> = ["https://a.example", "*"]
            .map(|origin| origin.parse().expect("an origin"))
            .into();
        let public: PublicUrl = "https://x.example/adflux".parse().expect("a URL");
        for (headers, admitted) in [
            (&[("host", "localhost:8080")][..], true),
            (&[("sec-fetch-site", "none")], true),
            (&[("sec-fetch-site", "same-origin")], true),
            (&[("sec-fetch-site", "cross-site")], false),
            (&[("sec-fetch-site", "same-site")], false),
            (
                &[
                    ("origin", "http://localhost:8080"),
                    ("host", "localhost:8080"),
                ],
                true,
            ),
            (
                &[
                    ("origin", "http://localhost:3000"),
                    ("host", "localhost:8080"),
                ],
                false,
            ),
            (
                &[("origin", "https://x.example"), ("host", "127.0.0.1:8080")],
                true,
            ),
            (&[("origin", "https://a.example")], true),
            (
                &[("origin", "https://b.example"), ("host", "localhost")],
                false,
            ),
            (&[("origin", "null"), ("host", "localhost")], false),
            (&[("origin", "*"), ("host", "localhost")], false),
        ] {
            let headers: HeaderMap = headers
                .iter()
                .map(|(name, value)| {
                    let name = HeaderName::from_static(name);
                    (name, HeaderValue::from_static(value))
                })
                .collect();
            let is = admit_change(&headers, &named, Some(&public)).is_ok();
            assert_eq!(is, admitted, "{headers:?}");
        }
    }
}

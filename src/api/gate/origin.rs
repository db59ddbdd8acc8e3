//! Origins whose pages may call the API.

use std::str::FromStr;

use warp::http::HeaderValue;

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
}

//! Under which names this server may be asked. A page of elsewhere can have its own name lead to our address (DNS
//! rebinding); to a browser, what we answer is then that page's own. But each of its requests says which name it used.
//!
//! An IP address is no name: nobody can make it lead elsewhere.

// Bytes from outside come through here.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::net::IpAddr;
use std::str::FromStr;

use hyper::Request;
use reqwest::Url;
use warp::http::{HeaderValue, Version, header};

use crate::api::problem::Problem;

/// A name this server may be asked under, or `*`: any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName(Box<str>);

impl HostName {
    fn is(&self, name: &str) -> bool {
        *self.0 == *"*" || self.0.eq_ignore_ascii_case(name)
    }
}

impl FromStr for HostName {
    type Err = String;

    fn from_str(text: &str) -> Result<HostName, String> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if text != "*" && (text.is_empty() || !text.bytes().all(allowed)) {
            return Err(format!(
                "'{text}' is not the name of a host, such as adflux.example.com without scheme, port and path, or *"
            ));
        }
        Ok(HostName(without_dot(text).into()))
    }
}

/// Where people find this server when a proxy stands before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl {
    host: HostName,
    origin: HeaderValue,
    path: String,
    /// All of it, without a slash at the end.
    text: String,
}

impl PublicUrl {
    /// Without a slash at the end.
    pub(in crate::api) fn as_str(&self) -> &str {
        &self.text
    }

    /// As the `Origin` header of its pages has it.
    pub(super) fn origin(&self) -> &HeaderValue {
        &self.origin
    }

    /// What stands before each path, without a slash at the end; usually nothing.
    pub(in crate::api) fn path(&self) -> &str {
        &self.path
    }
}

impl FromStr for PublicUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<PublicUrl, String> {
        let invalid = || format!("'{text}' is not a URL such as https://example.com/adflux");
        let url = Url::parse(text).map_err(|_| invalid())?;
        let more = [url.query(), url.fragment(), url.password()];
        let is_plain = more.iter().all(Option::is_none) && url.username().is_empty();
        let host = url.host_str().filter(|_| is_plain).ok_or_else(invalid)?;
        let origin = url.origin().ascii_serialization();
        match url.scheme() {
            "http" | "https" => {
                let path = url.path().trim_end_matches('/').to_owned();
                Ok(PublicUrl {
                    host: HostName(without_dot(host).into()),
                    text: format!("{origin}{path}"),
                    origin: HeaderValue::from_str(&origin).map_err(|_| invalid())?,
                    path,
                })
            }
            _ => Err(invalid()),
        }
    }
}

/// See the module.
pub(super) struct Hosts(Vec<HostName>);

impl Hosts {
    /// Those that were allowed, besides `localhost` and every address.
    pub fn new(allowed: &[HostName], public: Option<&PublicUrl>) -> Hosts {
        let public = public.map(|url| url.host.clone());
        Hosts(allowed.iter().cloned().chain(public).collect())
    }

    /// Looks at the name a request came under. Each request passes here, so this makes nothing.
    ///
    /// # Errors
    /// A [`Problem`]: the name is not one of ours, or the request does not say it once.
    pub fn admit<B>(&self, request: &Request<B>) -> Result<(), Problem> {
        let mut hosts = request.headers().get_all(header::HOST).iter();
        let host = match (hosts.next(), hosts.next()) {
            // No browser speaks it.
            (None, _) if request.version() == Version::HTTP_10 => return Ok(()),
            (Some(host), None) => host.to_str().ok().filter(|host| !host.is_empty()),
            _ => None,
        };
        let host = host.ok_or_else(Problem::invalid_host)?;
        // A target may be a whole URL, and is what counts then.
        for name in [Some(name_in(host)), request.uri().host().map(name_in)]
            .into_iter()
            .flatten()
        {
            if !self.is_ours(name) {
                return Err(Problem::unknown_host(name));
            }
        }
        Ok(())
    }

    fn is_ours(&self, name: &str) -> bool {
        name.eq_ignore_ascii_case("localhost")
            || name.parse::<IpAddr>().is_ok()
            || self.0.iter().any(|ours| ours.is(name))
    }
}

/// The name, or the address, of a host with a port.
fn name_in(host: &str) -> &str {
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split_once(']').map_or(v6, |(v6, _)| v6),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    without_dot(name)
}

/// A dot at the end says only that the name is whole.
fn without_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(allowed: &[&str], public: Option<&str>) -> Hosts {
        let allowed: Vec<HostName> = allowed.iter().map(|n| n.parse().expect(n)).collect();
        let public = public.map(|url| url.parse().expect(url));
        Hosts::new(&allowed, public.as_ref())
    }

    #[test]
    fn addresses_and_names_of_ours_are_and_others_are_not() {
        let by_default = hosts(&[], None);
        let told = hosts(&["serve", "a.example."], Some("https://x.example/adflux"));
        for (host, usually, when_told) in [
            ("localhost:8080", true, true),
            ("LOCALHOST.", true, true),
            ("127.0.0.1", true, true),
            ("192.0.2.7:8080", true, true),
            ("[::1]:8080", true, true),
            ("[2001:db8::1]", true, true),
            ("serve:8080", false, true),
            ("A.example:80", false, true),
            ("x.example", false, true),
            ("a.example.evil.example", false, false),
            ("evil.example:8080", false, false),
            ("localhost.evil.example", false, false),
            ("127.0.0.1.evil.example", false, false),
            ("[evil.example]:8080", false, false),
            ("evil.example#@localhost", false, false),
            (":8080", false, false),
        ] {
            assert_eq!(by_default.is_ours(name_in(host)), usually, "{host}");
            assert_eq!(told.is_ours(name_in(host)), when_told, "{host}");
        }
        assert!(hosts(&["*"], None).is_ours("any.example"));
    }

    #[test]
    fn what_is_a_name_and_what_a_url() {
        for bad in ["", "serve:8080", "https://a.example", "a/b", "*.a.example"] {
            assert!(bad.parse::<HostName>().is_err(), "{bad}");
        }
        let parse = |text: &str| text.parse::<PublicUrl>();
        let url = parse("HTTPS://X.example:443/adflux/").expect("a URL");
        assert_eq!(
            (url.origin.to_str().ok(), url.path()),
            (Some("https://x.example"), "/adflux")
        );
        assert_eq!(url.as_str(), "https://x.example/adflux");
        assert_eq!(parse("http://x.example:8080").expect("a URL").path(), "");
        for bad in [
            "x.example",
            "ftp://x",
            "https://x?a",
            "https://u@x",
            "https://x/#a",
            "/adflux",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}

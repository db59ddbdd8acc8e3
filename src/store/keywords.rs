//! libpq's other way to say where a database is: `host=db port=5432 dbname=campaigns`.
//!
//! It is written as a URL as soon as it is read, so that there is one form to add settings to and to show without its
//! password.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::str::Chars;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What stands for itself anywhere in a URL.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_');

/// A database's URL, of whichever of both forms. What is of neither comes back as it is, for
/// [`check_url`](super::check_url) to refuse.
pub fn as_url(text: &str) -> String {
    if text.contains("://") {
        return text.to_owned();
    }
    let url = settings(text).and_then(url_of);
    url.unwrap_or_else(|| text.to_owned())
}

/// The settings by name, read as libpq does: the last of a name counts, a backslash takes the next character as it is,
/// and quotes hold spaces.
fn settings(text: &str) -> Option<BTreeMap<String, String>> {
    let mut settings = BTreeMap::new();
    let mut rest = text.chars().peekable();
    loop {
        skip_spaces(&mut rest);
        if rest.peek().is_none() {
            return (!settings.is_empty()).then_some(settings);
        }
        let mut name = String::new();
        while let Some(c) = rest.next_if(|c| c.is_ascii_lowercase() || *c == '_') {
            name.push(c);
        }
        skip_spaces(&mut rest);
        rest.next_if_eq(&'=').filter(|_| !name.is_empty())?;
        skip_spaces(&mut rest);
        settings.insert(name, value(&mut rest)?);
    }
}

fn skip_spaces(rest: &mut Peekable<Chars<'_>>) {
    while rest.next_if(char::is_ascii_whitespace).is_some() {}
}

fn value(rest: &mut Peekable<Chars<'_>>) -> Option<String> {
    let is_quoted = rest.next_if_eq(&'\'').is_some();
    let mut value = String::new();
    loop {
        match rest.peek() {
            None if is_quoted => return None,
            None => return Some(value),
            Some(c) if !is_quoted && c.is_ascii_whitespace() => return Some(value),
            Some(_) => {}
        }
        match rest.next()? {
            '\'' if is_quoted => return Some(value),
            '\\' => value.push(rest.next()?),
            c => value.push(c),
        }
    }
}

/// Who, where and which are put where a reader of a URL looks for them.
fn url_of(mut settings: BTreeMap<String, String>) -> Option<String> {
    let encoded = |text: &str| utf8_percent_encode(text, ENCODED).to_string();
    let mut take = |name: &str| settings.remove(name).unwrap_or_default();
    let (user, password) = (take("user"), take("password"));
    let user = match (user.as_str(), password.as_str()) {
        ("", "") => String::new(),
        (user, "") => format!("{}@", encoded(user)),
        (user, password) => format!("{}:{}@", encoded(user), encoded(password)),
    };
    let hosts = places(&take("host"), &take("port"), encoded)?;
    let database = encoded(&take("dbname"));
    let others: Vec<String> = settings
        .iter()
        .map(|(name, value)| format!("{name}={}", encoded(value)))
        .collect();
    let query = if others.is_empty() { "" } else { "?" };
    Some(format!(
        "postgres://{user}{hosts}/{database}{query}{}",
        others.join("&")
    ))
}

/// Hosts with their ports: one for all of them, or one each.
fn places(hosts: &str, ports: &str, encoded: impl Fn(&str) -> String) -> Option<String> {
    let hosts: Vec<&str> = hosts.split(',').collect();
    let ports: Vec<&str> = ports.split(',').collect();
    if ports.len() != 1 && ports.len() != hosts.len() {
        return None;
    }
    let places = hosts
        .iter()
        .zip(ports.iter().cycle())
        .map(|(host, port)| {
            let host = if host.contains(':') {
                format!("[{host}]")
            } else {
                encoded(host)
            };
            match *port {
                "" => host,
                port => format!("{host}:{}", encoded(port)),
            }
        })
        .collect::<Vec<_>>();
    Some(places.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{check_url, redact};

    #[test]
    fn keywords_become_the_url_that_says_the_same() {
        for (text, url) in [
            (
                "host=db port=5432 dbname=x user=me password=secret",
                "postgres://me:secret@db:5432/x",
            ),
            (
                "host = db\n dbname = 'x' user=me password='a b\\'c/@%'",
                "postgres://me:a%20b%27c%2F%40%25@db/x",
            ),
            (
                "host=a,b port=1,2 dbname=x target_session_attrs=read-write",
                "postgres://a:1,b:2/x?target_session_attrs=read-write",
            ),
            ("host=a,::1 port=1 dbname=x", "postgres://a:1,[::1]:1/x"),
            ("host=/var/run dbname=x", "postgres://%2Fvar%2Frun/x"),
            (
                "dbname=x dbname=y sslrootcert=/etc/ca.pem",
                "postgres:///y?sslrootcert=%2Fetc%2Fca.pem",
            ),
            ("service=adflux", "postgres:///?service=adflux"),
            ("postgres://db/x?host=a", "postgres://db/x?host=a"),
        ] {
            assert_eq!(as_url(text), url);
            assert_eq!(check_url(&as_url(text)).map_err(|e| e.to_string()), Ok(()));
        }
    }

    #[test]
    fn what_is_no_keywords_is_left_to_be_refused() {
        for text in [
            "",
            "localhost",
            "host=db password='secret",
            "host=db password=secret\\",
            "host=a,b port=1,2,3 dbname=x",
            "=secret",
            "secret",
        ] {
            assert_eq!(as_url(text), text);
            assert!(check_url(text).is_err(), "{text}");
        }
        // A database must be named, and none of it is shown.
        let url = as_url("host=db password=secret");
        assert!(check_url(&url).is_err() && !redact(&url).contains("secret"));
    }
}

//! What a database's URL says, and how much of it may be shown.
//!
//! No safe binding of libpq that diesel's can stand beside offers its parser, so a URL is split here where libpq splits it.
//! What could be read in two ways is refused: libpq would quote it, and that may be part of the password.

use percent_encoding::percent_decode_str;

/// A URL in its parts, still encoded.
struct Parts<'a> {
    hosts: &'a str,
    path: &'a str,
    /// The settings behind the `?`.
    query: Option<&'a str>,
}

impl<'a> Parts<'a> {
    fn of(url: &'a str) -> Option<Parts<'a>> {
        let (_, rest) = url
            .split_once("://")
            .filter(|(scheme, _)| matches!(*scheme, "postgres" | "postgresql"))?;
        // User and password end at the first @, if no slash comes before it.
        let place = match rest.split_once('@') {
            Some((user, place)) if !user.contains('/') => place,
            _ => rest,
        };
        let (place, query) = match place.split_once('?') {
            Some((place, query)) => (place, Some(query)),
            None => (place, None),
        };
        let (hosts, path) = place.split_once('/').unwrap_or((place, ""));
        Some(Parts { hosts, path, query })
    }

    fn settings(&self) -> impl DoubleEndedIterator<Item = (&'a str, &'a str)> {
        let pieces = self.query.unwrap_or_default().split('&');
        pieces.filter_map(|piece| piece.split_once('='))
    }

    /// As the path has it, unless a setting overrules that.
    fn database(&self) -> Option<String> {
        let set = self.settings().rfind(|(name, _)| *name == "dbname");
        let encoded = set.map_or(self.path, |(_, value)| value);
        let name = percent_decode_str(encoded).decode_utf8_lossy();
        (!name.is_empty()).then(|| name.into_owned())
    }
}

/// Finds what libpq could not make sense of, or would make another sense of than its reader.
///
/// # Errors
/// What is wrong, without any part of the URL.
pub fn check(url: &str) -> Result<(), &'static str> {
    if url.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("has a space or a line break in it; if one belongs there, write it as %20");
    }
    let Some(parts) = Parts::of(url) else {
        return Err(
            "is not of the form postgres://user:password@host:port/database, nor host=… dbname=… user=…",
        );
    };
    let mut bytes = url.bytes();
    while let Some(byte) = bytes.next() {
        let mut digit = || bytes.next().filter(u8::is_ascii_hexdigit);
        if byte == b'%'
            && !matches!((digit(), digit()), (Some(a), Some(b)) if (a, b) != (b'0', b'0'))
        {
            return Err(
                "has a % that is not followed by two hexadecimal digits; write % itself as %25",
            );
        }
    }
    if [parts.hosts, parts.path, parts.query.unwrap_or_default()]
        .iter()
        .any(|part| part.contains('@'))
    {
        return Err(
            "has an @ too many, or a / before it; in a password, write @ as %40 and / as %2F",
        );
    }
    if !parts.hosts.split(',').all(is_host) {
        return Err("has a port that is not a number up to 65535");
    }
    let query = parts.query.unwrap_or_default();
    if !query.is_empty()
        && query
            .split('&')
            .any(|piece| piece.matches('=').count() != 1)
    {
        return Err("has something behind the ? that is not of the form name=value&name=value");
    }
    if parts.database().is_none() && !has(url, "service") {
        return Err("names no database: write postgres://user:password@host:port/database");
    }
    Ok(())
}

/// Whether this is an address, perhaps with a port.
fn is_host(host: &str) -> bool {
    let (_, after) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some(split) => split,
            None => return false,
        },
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let is_port = |port: &str| port.is_empty() || port.parse::<u16>().is_ok();
    after.is_empty() || after.strip_prefix(':').is_some_and(is_port)
}

/// The name of the database.
pub(super) fn database(url: &str) -> Option<String> {
    Parts::of(url)?.database()
}

/// Whether a name is certainly meant as one, and is no leftover of a quoted, cut or mistyped URL. PostgreSQL would
/// shorten one of more than 63 bytes.
pub(super) fn is_plain(name: &str) -> bool {
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    name.len() <= 63 && name.chars().all(is_plain)
}

/// The URL with one more setting, which overrules.
pub(super) fn with(url: &str, name: &str, value: &str) -> String {
    let separator = match Parts::of(url).and_then(|parts| parts.query) {
        None => "?",
        Some("") => "",
        Some(_) => "&",
    };
    format!("{url}{separator}{name}={value}")
}

/// Whether the URL has this setting.
pub(super) fn has(url: &str, name: &str) -> bool {
    Parts::of(url).is_some_and(|parts| parts.settings().any(|(set, _)| set == name))
}

/// Who and where, of the URL of a database or a cache, for logs: no password, and nothing that could be part of one.
pub fn redact(url: &str) -> String {
    const UNREADABLE: &str = "a URL that cannot be read";
    fn plain(text: &str) -> &str {
        let is_other = |c: char| !(c.is_alphanumeric() || "_-.:,[]/%".contains(c));
        text.split(is_other).next().unwrap_or_default()
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        return UNREADABLE.to_owned();
    };
    let (user, place) = rest.rsplit_once('@').unwrap_or(("", rest));
    let hosts = place.split(['/', '?']).next().unwrap_or_default();
    // A password that is not encoded may hold what splits a URL.
    if user.contains(['/', '?']) || !hosts.split(',').all(is_host) {
        return UNREADABLE.to_owned();
    }
    let place = plain(place);
    match plain(user.split(':').next().unwrap_or_default()) {
        "" => format!("{scheme}://{place}"),
        user => format!("{scheme}://{user}@{place}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        for (url, shown) in [
            (
                "postgres://me:secret@db:5432/x?a=b",
                "postgres://me@db:5432/x",
            ),
            ("postgres://me:p@secret@db/x", "postgres://me@db/x"),
            ("postgres://me:p;secret@db/x", "postgres://me@db/x"),
            ("postgres://me;p=secret@db/x", "postgres://me@db/x"),
            ("postgres://db/x?user=me&password=secret", "postgres://db/x"),
            ("postgres://db/x?user=me;password=secret", "postgres://db/x"),
            ("postgres://db/x;password=secret", "postgres://db/x"),
            ("postgres://db/x?sslpassword=secret", "postgres://db/x"),
            ("postgres://[::1]:5432/x", "postgres://[::1]:5432/x"),
            ("redis://:secret@cache:6379/0", "redis://cache:6379/0"),
        ] {
            assert_eq!(redact(url), shown);
        }
        for url in [
            "host=db password=secret",
            "postgres://me:a/secret@db/x",
            "postgres://me:a?secret@db/x",
            "postgres://db/x?password=p@secret",
            "postgres://db:5432/x?password=p@secret",
            "postgres://db:5432?password=p@secret",
            "postgres://me:secret/x",
        ] {
            assert!(!redact(url).contains("secret"), "{}", redact(url));
        }
    }

    #[test]
    fn what_libpq_understands_passes() {
        for url in [
            "postgres://adflux:adflux@localhost:5432/campaigns",
            "postgresql://me@db/x?sslmode=require&connect_timeout=1",
            "postgres://me:p%40ss%2f@db/x",
            "postgres://me:p?ss;#@db/x",
            "postgres:///x?host=/var/run/postgresql",
            "postgres://a:1,b:2,c/x",
            "postgres://me@[::1]:5432/x",
            "postgres://[::1]/x",
            "postgres://db:/x",
            "postgres://db?dbname=x",
            "postgres://db/x?",
            "postgres:///?service=adflux",
        ] {
            assert_eq!(check(url), Ok(()), "{url}");
        }
    }

    #[test]
    fn what_libpq_would_quote_or_guess_is_refused() {
        for url in [
            "",
            "localhost",
            "host=db password=secret",
            "mysql://db/x",
            "postgres://me:%secret@db/x",
            "postgres://me:100%@db/x",
            "postgres://db/x%00y",
            "postgres://me:p@ss@db/x",
            "postgres://me:se/cret@db/x",
            "postgres://me:1/se?c@db/x",
            "postgres://me:1/se?c=1@db/x",
            "postgres://me:secret@db:port/x",
            "postgres://me:secret@db:99999/x",
            "postgres://me:secret@[::1/x",
            "postgres://me:secret@[::1]5/x",
            "postgres://me:secret@db/x?sslmode",
            "postgres://me@db/x?user=me;password=secret",
            "postgres://db",
            "postgres://db/",
            "postgres://db/x?dbname=",
            "postgres://db/x\n",
            "postgres://db/x y",
        ] {
            assert!(check(url).is_err(), "{url}");
        }
    }

    #[test]
    fn settings_are_added_behind_what_is_there() {
        for (url, longer) in [
            ("postgres://db/x", "postgres://db/x?a=b"),
            ("postgres://db/x?", "postgres://db/x?a=b"),
            ("postgres://db/x?c=d", "postgres://db/x?c=d&a=b"),
            ("postgres://me:p?ss@db/x", "postgres://me:p?ss@db/x?a=b"),
        ] {
            assert_eq!(with(url, "a", "b"), longer);
        }
    }
}

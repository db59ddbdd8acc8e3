//! What a database's URL may look like, and how much of it may be shown.

/// Finds what libpq could not make sense of. Whatever passes is split by libpq where we split it,
/// so that its error messages hold no part of the password.
///
/// # Errors
/// What is wrong, without any part of the URL.
pub fn check(url: &str) -> Result<(), &'static str> {
    let Some((_, rest)) = url
        .split_once("://")
        .filter(|(scheme, _)| matches!(*scheme, "postgres" | "postgresql"))
    else {
        return Err("is not of the form postgres://user:password@host:port/database");
    };
    let mut bytes = url.bytes();
    while let Some(byte) = bytes.next() {
        let mut is_digit = || bytes.next().is_some_and(|b| b.is_ascii_hexdigit());
        if byte == b'%' && !(is_digit() && is_digit()) {
            return Err(
                "has a % that is not followed by two hexadecimal digits; write % itself as %25",
            );
        }
    }
    let (place, _) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = place.split_once('/').unwrap_or((place, ""));
    if path.contains('@') || authority.matches('@').count() > 1 {
        return Err(
            "has an @ too many, or a / before it; in a password, write @ as %40 and / as %2F",
        );
    }
    let hosts = authority
        .rsplit_once('@')
        .map_or(authority, |(_, hosts)| hosts);
    let has_bad_port = hosts.split(',').any(|host| {
        let after_address = host.rsplit_once(']').map_or(host, |(_, after)| after);
        let port = after_address.rsplit_once(':').map_or("", |(_, port)| port);
        !port.is_empty() && port.parse::<u16>().is_err()
    });
    if has_bad_port {
        return Err("has a port that is not a number up to 65535");
    }
    Ok(())
}

/// The URL without its password, for logs.
pub fn redact(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        // Not a URL: there is no telling which part of it is secret.
        return "the server in DATABASE_URL".to_owned();
    };
    let (place, query) = match rest.split_once('?') {
        Some((place, query)) => (place, Some(query)),
        None => (rest, None),
    };
    let place = match place.rsplit_once('@') {
        Some((user, host)) => {
            let user = user.split_once(':').map_or(user, |(name, _)| name);
            format!("{user}@{host}")
        }
        None => place.to_owned(),
    };
    let Some(query) = query else {
        return format!("{scheme}://{place}");
    };
    let shown: Vec<&str> = query
        .split('&')
        .filter(|setting| {
            let (name, _) = setting.split_once('=').unwrap_or((setting, ""));
            !name.contains("pass")
        })
        .collect();
    if shown.is_empty() {
        format!("{scheme}://{place}")
    } else {
        format!("{scheme}://{place}?{}", shown.join("&"))
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
                "postgres://me@db:5432/x?a=b",
            ),
            ("postgres://me:p@ss@db/x", "postgres://me@db/x"),
            ("postgres://me:a/b@db/x", "postgres://me@db/x"),
            (
                "postgres://db/x?user=me&password=secret&a=b",
                "postgres://db/x?user=me&a=b",
            ),
            ("postgres://db/x?sslpassword=secret", "postgres://db/x"),
            ("postgres://db/x", "postgres://db/x"),
            ("host=db password=secret", "the server in DATABASE_URL"),
        ] {
            assert_eq!(redact(url), shown);
        }
    }

    #[test]
    fn what_libpq_understands_passes() {
        for url in [
            "postgres://adflux:adflux@localhost:5432/campaigns",
            "postgresql://me@db/x?sslmode=require&connect_timeout=1",
            "postgres://me:p%40ss%2f@db/x",
            "postgres:///x?host=/var/run/postgresql",
            "postgres://a:1,b:2,c/x",
            "postgres://me@[::1]:5432/x",
            "postgres://[::1]/x",
            "postgres://db:/x",
            "postgres://db",
        ] {
            assert_eq!(check(url), Ok(()), "{url}");
        }
    }

    #[test]
    fn what_libpq_would_quote_is_refused() {
        for url in [
            "",
            "localhost",
            "host=db password=secret",
            "mysql://db/x",
            "postgres://me:%secret@db/x",
            "postgres://me:100%@db/x",
            "postgres://me:p@ss@db/x",
            "postgres://me:se/cret@db/x",
            "postgres://me:secret@db:port/x",
            "postgres://me:secret@db:99999/x",
        ] {
            assert!(check(url).is_err(), "{url}");
        }
    }
}

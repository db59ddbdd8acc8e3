//! Why no connection was made, in one line, and what to set.
//!
//! libpq gives no code for it. Its own words, and those of TLS, are English; the server's are in its language, so what is not
//! recognised is told as it is. Nothing but the advice depends on them.

/// Of what is in the words, what to do; the first that fits.
const ADVICE: [(&str, &str); 16] = [
    (
        "does not match host name",
        "connect by a name that the server's certificate has (host=), or give the server a certificate with this one",
    ),
    (
        "certificate verify failed",
        "set sslrootcert (PGSSLROOTCERT) to the certificate of the CA that signed the server's",
    ),
    (
        "root certificate file",
        "set sslrootcert (PGSSLROOTCERT) to the file with the CA of the server's certificate",
    ),
    (
        "certificate expired",
        "renew the client certificate that sslcert (PGSSLCERT) names",
    ),
    (
        "alert unknown ca",
        "set sslcert (PGSSLCERT) to a certificate of a CA that the server knows (its ssl_ca_file)",
    ),
    (
        "alert certificate required",
        "set sslcert and sslkey (PGSSLCERT, PGSSLKEY) to a client certificate and its key",
    ),
    (
        "valid client certificate",
        "set sslcert and sslkey (PGSSLCERT, PGSSLKEY) to a client certificate and its key",
    ),
    (
        "certificate authentication failed",
        "the name (CN) in the certificate that sslcert names must be the user's",
    ),
    (
        "certificate present, but not private key",
        "set sslkey (PGSSLKEY) to the key of the certificate that sslcert names",
    ),
    (
        "server does not support SSL",
        "switch TLS on there (ssl = on), or set sslmode=disable where none is needed",
    ),
    (
        "no encryption",
        "set sslmode=verify-full and sslrootcert: the server lets nobody in without TLS",
    ),
    (
        "no pg_hba.conf entry",
        "have the server's pg_hba.conf let this user in from this machine",
    ),
    (
        "no password supplied",
        "put the password into DATABASE_URL, or into a file that passfile (PGPASSFILE) names",
    ),
    (
        "password authentication failed",
        "correct user and password in DATABASE_URL, or in the file that passfile (PGPASSFILE) names",
    ),
    (
        "session is read-only",
        "promote a standby, or add the primary to the hosts: target_session_attrs=read-write takes no other",
    ),
    (
        "hot standby mode",
        "promote a standby, or add the primary to the hosts: target_session_attrs takes no other",
    ),
];

/// What libpq says, in one line and with what to do.
pub(super) fn told(said: &str) -> String {
    let lines: Vec<&str> = said.lines().map(str::trim).collect();
    let said = lines.join("; ");
    match ADVICE.iter().find(|(words, _)| said.contains(words)) {
        Some((_, advice)) => format!("{said}: {advice}"),
        None => said,
    }
}

//! What an error of Redis has to do with its settings, and what to do about it.

use redis::{ErrorKind, RedisError};

/// What is behind an error of Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause {
    /// In a word or two, for `/readyz`.
    pub word: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

impl Cause {
    /// Of this error.
    pub fn of(error: &RedisError) -> Cause {
        let (word, remedy) = match (error.kind(), error.code()) {
            (ErrorKind::AuthenticationFailed, _) | (_, Some("NOAUTH" | "WRONGPASS")) => (
                "not authenticated",
                "correct the user and the password in REDIS_URL",
            ),
            (_, Some("NOPERM")) => (
                "not permitted",
                "give the user in REDIS_URL the rights that adflux needs",
            ),
            (_, Some("READONLY" | "MASTERDOWN")) => (
                "read-only",
                "this is a replica: lead REDIS_URL to the primary, or to its Sentinels",
            ),
            (_, Some("OOM")) => (
                "full",
                "give it memory, or let it evict (maxmemory-policy volatile-lru)",
            ),
            (_, Some("MOVED" | "ASK" | "CROSSSLOT")) => {
                ("a cluster", "begin REDIS_URL with redis+cluster://")
            }
            (ErrorKind::MasterNameNotFoundBySentinel, _) => {
                ("unreachable", "correct the service in REDIS_URL")
            }
            (_, Some(_)) => ("refuses", "see its log"),
            _ if error.to_string().contains("certificate") => (
                "not trusted",
                "name the authority of its certificate in REDIS_CA_FILE, the host in REDIS_URL as the certificate does, and in REDIS_CERTIFICATE_FILE ours if it asks for one",
            ),
            // Before it reads what we say, a server with TLS closes the connection of whoever speaks none or is nobody.
            _ if error.is_connection_dropped() && !error.is_connection_refusal() => (
                "unreachable",
                "if it is up, it may want TLS (rediss in REDIS_URL), or a certificate of ours (REDIS_CERTIFICATE_FILE)",
            ),
            _ => (
                "unreachable",
                "start it (docker compose up redis), or correct REDIS_URL",
            ),
        };
        Cause { word, remedy }
    }

    /// Whether another connection may lead to a server that takes what this one did not.
    pub(super) fn is_of_connection(error: &RedisError) -> bool {
        matches!(
            error.code(),
            None | Some("READONLY" | "MASTERDOWN" | "NOAUTH" | "MOVED")
        )
    }
}

/// What is wrong, and what to do.
pub fn explained(error: &RedisError) -> String {
    format!("{error}: {}", Cause::of(error).remedy)
}

//! API keys: what one is, and `adflux keys` that creates, lists, rotates and revokes them.
//!
//! `adflux_{id}_{secret}`: a public id of 48 random bits, by which the key is found and spoken of, and
//! a secret of 256. What is kept is the SHA-256 of the whole. Slow hashes such as argon2 are for
//! passwords, which people choose and others can guess; 256 random bits cannot be guessed at any
//! speed, and a hash that is slow would be paid for with every request.

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use rand::TryRng as _;
use rand::rngs::SysRng;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::store::keep::api_keys::{self, Row};
use crate::store::{self, Limits};
use data_encoding::HEXLOWER;

const PREFIX: &str = "adflux_";
const ID_BYTES: usize = 6;
const SECRET_BYTES: usize = 32;

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Ask: everything but the records that could not be counted.
    Read,
    /// Change something.
    Write,
    /// Send events and reports, and ask what became of them.
    Ingest,
    /// Ask for the records that could not be counted: what is in them, perhaps nobody meant to send.
    DeadLetters,
    /// Everything.
    Admin,
}

impl Scope {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Write => "write",
            Scope::Ingest => "ingest",
            Scope::DeadLetters => "dead-letters",
            Scope::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Scope, String> {
        [
            Scope::Read,
            Scope::Write,
            Scope::Ingest,
            Scope::DeadLetters,
            Scope::Admin,
        ]
        .into_iter()
        .find(|scope| scope.as_str() == text)
        .ok_or_else(|| format!("'{text}' is none of read, write, ingest, dead-letters, admin"))
    }
}

/// A key, with its secret. Not shown by `Debug`.
pub struct Key {
    text: String,
}

impl Key {
    /// A new secret, for a new id or the one given.
    fn generate(id: Option<&str>) -> anyhow::Result<Key> {
        let random = |bytes: usize| {
            let mut buffer = vec![0; bytes];
            SysRng
                .try_fill_bytes(&mut buffer)
                .context("the system gives no random numbers")?;
            Ok::<_, anyhow::Error>(HEXLOWER.encode(&buffer))
        };
        let id = id.map_or_else(|| random(ID_BYTES), |id| Ok(id.to_owned()))?;
        let text = format!("{PREFIX}{id}_{}", random(SECRET_BYTES)?);
        Ok(Key { text })
    }

    /// Reads a key; none if this cannot be one.
    pub fn parse(text: &str) -> Option<Key> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let is_hex = |text: &str, bytes: usize| {
            text.len() == bytes * 2
                && text
                    .bytes()
                    .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        (is_hex(id, ID_BYTES) && is_hex(secret, SECRET_BYTES)).then(|| Key {
            text: text.to_owned(),
        })
    }

    /// Its public part.
    pub fn id(&self) -> &str {
        // Made and parsed with both parts of their full length.
        self.text
            .get(PREFIX.len()..PREFIX.len() + ID_BYTES * 2)
            .unwrap_or_default()
    }

    fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.text.as_bytes()).into()
    }

    /// Whether this is the key that was kept, and is good at `now`. Takes the same time for a key that
    /// is nearly right as for one that is not at all.
    pub fn opens(&self, kept: &Row, now: DateTime<Utc>) -> bool {
        let hash = self.hash();
        let is = |kept: &[u8]| bool::from(hash.as_slice().ct_eq(kept));
        let previous = kept.previous_until.is_some_and(|until| now < until)
            && kept.previous_hash.as_deref().is_some_and(is);
        (is(&kept.key_hash) || previous)
            && kept.revoked_at.is_none()
            && kept.expires_at.is_none_or(|end| now < end)
    }
}

/// Whether a key that was kept may do this.
pub fn allows(kept: &Row, needed: Scope) -> bool {
    let has = |scope: Scope| kept.scopes.iter().any(|s| s == scope.as_str());
    has(needed) || has(Scope::Admin)
}

/// Creates a key and prints it: the only time that it is seen.
///
/// # Errors
/// When the database cannot be reached.
pub fn create(
    out: &mut impl Write,
    database_url: &str,
    name: &str,
    scopes: &[Scope],
    expires_in: Option<Duration>,
) -> anyhow::Result<()> {
    let mut connection = store::open(database_url, Limits::API)?;
    let key = Key::generate(None)?;
    let expires_at = expires_in
        .map(|time| {
            chrono::Duration::from_std(time)
                .ok()
                .and_then(|time| Utc::now().checked_add_signed(time))
                .context("that is too far away")
        })
        .transpose()?;
    let scopes: Vec<&str> = scopes.iter().map(|s| s.as_str()).collect();
    api_keys::insert(
        &mut connection,
        key.id(),
        name,
        &scopes,
        &key.hash(),
        expires_at,
    )?;
    print(out, &key)?;
    Ok(())
}

fn print(out: &mut impl Write, key: &Key) -> io::Result<()> {
    writeln!(out, "{}", key.text)?;
    // Apart from the key, so that a script can take that alone.
    log::info!("keep it now: it is not shown again");
    Ok(())
}

/// Lists the keys: never a secret, which nobody has any more.
///
/// # Errors
/// When the database cannot be reached.
pub fn list(out: &mut impl Write, database_url: &str) -> anyhow::Result<()> {
    let mut connection = store::open(database_url, Limits::API)?;
    let now = Utc::now();
    let minute = |time: DateTime<Utc>| time.format("%Y-%m-%d %H:%M").to_string();
    for row in api_keys::list(&mut connection)? {
        let state = match (row.revoked_at, row.expires_at) {
            (Some(at), _) => format!("revoked {}", minute(at)),
            (None, Some(at)) if at <= now => format!("expired {}", minute(at)),
            (None, Some(at)) => format!("good until {}", minute(at)),
            (None, None) => "good".to_owned(),
        };
        let rotated = row
            .rotated_at
            .map_or_else(String::new, |at| format!(", rotated {}", minute(at)));
        writeln!(
            out,
            "{}  {:16}  {}, created {}{rotated}  {}",
            row.key_id,
            row.scopes.join(","),
            state,
            minute(row.created_at),
            row.name
        )?;
    }
    Ok(())
}

/// Replaces a key's secret and prints the new key. The old one stays good for `grace`.
///
/// # Errors
/// When there is no such key, or the database cannot be reached.
pub fn rotate(
    out: &mut impl Write,
    database_url: &str,
    key_id: &str,
    grace: Duration,
) -> anyhow::Result<()> {
    let mut connection = store::open(database_url, Limits::API)?;
    let key = Key::generate(Some(key_id))?;
    let grace = i64::try_from(grace.as_secs())?;
    if !api_keys::rotate(&mut connection, key_id, &key.hash(), grace)? {
        anyhow::bail!("no key '{key_id}' that is good; `adflux keys list` shows those there are");
    }
    print(out, &key)?;
    Ok(())
}

/// Revokes a key: within seconds no server accepts it.
///
/// # Errors
/// When there is no such key, or the database cannot be reached.
pub fn revoke(database_url: &str, key_id: &str) -> anyhow::Result<()> {
    let mut connection = store::open(database_url, Limits::API)?;
    if !api_keys::revoke(&mut connection, key_id)? {
        anyhow::bail!("no key '{key_id}'; `adflux keys list` shows those there are");
    }
    log::info!("revoked {key_id}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(key: &Key) -> Row {
        Row {
            key_id: key.id().to_owned(),
            name: "test".into(),
            scopes: vec!["read".into()],
            key_hash: key.hash().to_vec(),
            previous_hash: None,
            previous_until: None,
            created_at: Utc::now(),
            rotated_at: None,
            expires_at: None,
            revoked_at: None,
        }
    }

    #[test]
    fn a_key_opens_what_was_made_from_it_and_nothing_else() {
        let (key, other) = (
            Key::generate(None).expect("a key"),
            Key::generate(None).expect("a key"),
        );
        let again = Key::parse(&key.text).expect("reads back");
        assert_eq!(again.id(), key.id());
        let now = Utc::now();
        assert!(again.opens(&kept(&key), now));
        assert!(!other.opens(&kept(&key), now));
        let later = now + chrono::Duration::seconds(1);
        for (row, opens) in [
            (
                Row {
                    revoked_at: Some(now),
                    ..kept(&key)
                },
                false,
            ),
            (
                Row {
                    expires_at: Some(now),
                    ..kept(&key)
                },
                false,
            ),
            (
                Row {
                    expires_at: Some(later),
                    ..kept(&key)
                },
                true,
            ),
        ] {
            assert_eq!(key.opens(&row, now), opens, "{row:?}");
        }
        let rotated = |previous_until| Row {
            previous_hash: Some(key.hash().to_vec()),
            previous_until: Some(previous_until),
            ..kept(&other)
        };
        assert!(key.opens(&rotated(later), now) && other.opens(&rotated(later), now));
        assert!(!key.opens(&rotated(now), now));
    }

    #[test]
    fn scopes() {
        let key = Key::generate(None).expect("a key");
        let mut row = kept(&key);
        assert!(allows(&row, Scope::Read) && !allows(&row, Scope::Write));
        assert!(!allows(&row, Scope::DeadLetters));
        row.scopes = vec!["dead-letters".into()];
        assert!(allows(&row, Scope::DeadLetters) && !allows(&row, Scope::Read));
        row.scopes = vec!["admin".into()];
        for scope in [Scope::Read, Scope::Write, Scope::Ingest, Scope::DeadLetters] {
            assert!(allows(&row, scope));
        }
    }

    #[test]
    fn what_is_no_key_is_none() {
        let key = Key::generate(None).expect("a key").text;
        for bad in [
            "",
            "adflux_",
            "adflux_x_y",
            &key[1..],
            &key[..key.len() - 1],
            &key.to_uppercase(),
        ] {
            assert!(Key::parse(bad).is_none(), "{bad}");
        }
    }
}

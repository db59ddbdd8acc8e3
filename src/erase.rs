//! `adflux erase`: a campaign, an account, or old dead letters, gone from everything that adflux keeps; with a certificate that
//! says what was removed, and what others still hold.
//!
//! ```text
//! plan, shown ─▶ yes? ─▶ tables, in one transaction ─▶ originals ─▶ Redis ─▶ finished ─▶ certificate
//! ```
//!
//! A run that was cut off behind the transaction is finished by the next one with the same arguments.

use std::collections::BTreeSet;
use std::io::{self, BufRead as _, IsTerminal as _, Write};
use std::path::PathBuf;

use anyhow::Context as _;

mod certificate;

use crate::cache::redis::forget;
use crate::cache::servers::Servers;
use crate::codec::{Decoder, KnownIds};
use crate::event::{CampaignId, Platform};
use crate::import::Format;
use crate::import::originals::Originals;
use crate::reports::row::prefix;
use crate::schema_registry::{self, Learner};
use crate::store::keep::erase::{self, Subject};
use crate::store::read::dead_letters::Row;
use crate::store::{self, Limits};
use certificate::Certificate;

/// What is to be erased, and how.
pub struct Settings {
    pub database_url: String,
    pub subject: Subject,
    pub redis: Option<Servers>,
    pub originals: Originals,
    pub schema_ids: KnownIds,
    pub writer_schemas: Vec<(u32, PathBuf)>,
    pub schema_registry: Option<schema_registry::Settings>,
    /// Only say what would be removed.
    pub dry_run: bool,
    /// Do not ask.
    pub yes: bool,
    pub format: Format,
    /// Where the certificate is written, too.
    pub certificate: Option<PathBuf>,
}

/// Checks that a text is a campaign's id.
///
/// # Errors
/// A message for the user.
pub fn campaign(text: &str) -> Result<String, String> {
    let id = CampaignId::parse(text).map_err(|reason| reason.explain().to_owned())?;
    Ok(id.as_str().to_owned())
}

/// Parses `PLATFORM:ACCOUNT`, as the ids of its campaigns begin.
///
/// # Errors
/// A message for the user.
pub fn account(text: &str) -> Result<Subject, String> {
    let parts = text.split_once(':').filter(|(_, account)| {
        !account.is_empty() && CampaignId::parse(account).is_ok() && !account.contains(':')
    });
    let named = parts.and_then(|(platform, account)| {
        let is_it = |known: &Platform| known.name().eq_ignore_ascii_case(platform);
        Some((Platform::ALL.into_iter().find(is_it)?, account))
    });
    let Some((platform, account)) = named else {
        return Err(format!(
            "'{text}' is not of the form PLATFORM:ACCOUNT, such as google:1234567890"
        ));
    };
    Ok(Subject::Account {
        platform,
        account: account.to_owned(),
        prefix: prefix(platform, account),
    })
}

/// Shows what would be removed, and removes it if it may.
///
/// # Errors
/// When database, bucket or Redis do not answer. What is not finished is taken up by the next run.
pub fn run(out: &mut impl Write, settings: &Settings) -> anyhow::Result<()> {
    let subject = &settings.subject;
    let mut learner = Learner::new(
        settings.schema_ids,
        &settings.writer_schemas,
        settings.schema_registry.as_ref(),
    )?;
    let mut judge = |letter: &Row| -> anyhow::Result<bool> {
        let decoder = learner.of(letter.payload.as_deref())?;
        Ok(is_of(subject, letter, decoder))
    };
    let mut connection = store::connect(&settings.database_url, Limits::MAINTENANCE)?;
    erase::check_rights(&mut connection)?;
    let copies = erase::copies(&mut connection)?;
    let (removed, campaigns) = erase::plan(&mut connection, subject, &mut judge)?;
    let plan = Certificate::planned(subject, &removed, &campaigns, &copies);
    let asks = !settings.yes && !settings.dry_run && settings.format == Format::Text;
    if !settings.yes || settings.dry_run {
        plan.write(out, settings.format)?;
    }
    let goes_on = settings.yes || asks && is_wanted(out, subject)?;
    if settings.dry_run || !goes_on {
        if settings.format == Format::Text {
            writeln!(
                out,
                "nothing was removed{}",
                if settings.dry_run {
                    ""
                } else {
                    "; --yes removes it"
                }
            )?;
        }
        return Ok(());
    }
    let erasure = erase::erase(&mut connection, subject, &mut judge)?;
    let left = erase::left(&mut connection, subject)?;
    let originals: BTreeSet<&String> = left.iter().chain(&erasure.removed.originals).collect();
    for sha256 in originals {
        settings
            .originals
            .remove(sha256)
            .context("the tables are without it; run the same again to remove what is left")?;
    }
    if let Some(redis) = &settings.redis {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime
            .block_on(forget(redis, &erasure.identities, &erasure.campaigns))
            .context("Redis; the tables are without it, and nobody asks for what is there any more; run the same again to remove it")?;
    }
    let finished_at = erase::finish(&mut connection, subject, &erasure.campaigns)?;
    let certificate = Certificate::of(subject, &erasure, finished_at, &copies);
    certificate.write(out, settings.format)?;
    if let Some(path) = &settings.certificate {
        let mut file = std::fs::File::create(path).with_context(|| path.display().to_string())?;
        certificate.write(&mut file, settings.format)?;
        file.sync_all()?;
    }
    Ok(())
}

/// Asks the person at the terminal; nobody else is asked.
fn is_wanted(out: &mut impl Write, subject: &Subject) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        return Ok(false);
    }
    write!(
        out,
        "There is no way back. Write {} to remove it: ",
        subject.name()
    )?;
    out.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == subject.name())
}

/// Whether a dead letter in which the name occurs is of it: by its key, else by what can be read of it, else where the name stands
/// in it by itself.
fn is_of(subject: &Subject, letter: &Row, decoder: &mut Decoder) -> bool {
    let name = match subject {
        Subject::Campaign(id) => id,
        Subject::Account { prefix, .. } => prefix,
        Subject::DeadLettersBefore(_) => return true,
    };
    let is_account = matches!(subject, Subject::Account { .. });
    let is_id = |text: &str| text == name || is_account && text.starts_with(name.as_str());
    let key = letter
        .key
        .as_deref()
        .and_then(|key| std::str::from_utf8(key).ok());
    if key.is_some_and(is_id) {
        return true;
    }
    let payload = letter.payload.as_deref().unwrap_or_default();
    let read = decoder.fields(payload);
    let campaign = read.iter().find(|(field, _)| *field == "campaign_id");
    match campaign {
        Some((_, id)) => is_id(id),
        None => stands_alone(payload, name, is_account),
    }
}

/// Whether a name is in these bytes and not only as a part of a longer one. Before it Avro has its length, which may look like a
/// letter; behind the name of an account comes that of a campaign.
fn stands_alone(bytes: &[u8], name: &str, is_prefix: bool) -> bool {
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte);
    let name = name.as_bytes();
    let places = bytes.windows(name.len().max(1)).enumerate();
    let mut places = places
        .filter(|(_, window)| *window == name)
        .map(|(at, _)| at);
    places.any(|at| {
        let before = at.checked_sub(1).and_then(|at| bytes.get(at)).copied();
        let after = bytes.get(at.saturating_add(name.len())).copied();
        let is_length =
            before.is_some_and(|byte| usize::from(byte) == name.len().saturating_mul(2));
        (is_length || !before.is_some_and(is_of_name))
            && (is_prefix || is_length || !after.is_some_and(is_of_name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_named_as_campaigns_begin() {
        let of = |text: &str| account(text).map(|subject| subject.name());
        assert_eq!(of("Google:123"), Ok("google:123".to_owned()));
        let prefix = match account("google:123") {
            Ok(Subject::Account { prefix, .. }) => Some(prefix),
            _ => None,
        };
        assert_eq!(prefix.as_deref(), Some("google:123:"));
        for bad in [
            "",
            "google",
            "google:",
            ":1",
            "other:1",
            "google:1:2",
            "google:a b",
        ] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_is_found_by_itself() {
        for (bytes, found) in [
            (&b"{\"campaign\": \"c-1\"}"[..], true),
            (b"c-1", true),
            (b"c-10", false),
            (b"ac-1", false),
            (b"\x06c-1\x02", true),
            (b"\x08c-10\x02", false),
            (b"", false),
        ] {
            assert_eq!(stands_alone(bytes, "c-1", false), found, "{bytes:?}");
        }
        assert!(stands_alone(b"google:1:7", "google:1:", true));
        // Its length, twice 24, is a digit.
        let long = "a".repeat(24);
        assert!(stands_alone(format!("0{long}0").as_bytes(), &long, false));
        assert!(!stands_alone(format!("1{long}").as_bytes(), &long, false));
    }
}

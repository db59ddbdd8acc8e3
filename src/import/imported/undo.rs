//! `adflux import undo`: a file is taken back, by restating to what was known without it.
//!
//! ```text
//! all that is on the topic is counted ─▶ the account's rows that stand no more (`standing`) ─▶ noted as taken back
//!     ─▶ withdrawals, then what counts again ─▶ the topic
//! ```
//!
//! What it sends are report rows as any others, as of now: nothing is edited, and what was believed before stays history. Killed
//! in the middle, it is run again: what is done is found done.

// Bytes from outside come through here.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context as _, bail};
use chrono::NaiveDate;
use diesel::PgConnection;

use super::standing::{Fate, Key, Origin, Standing, fates};
use super::{find, instant, short};
use crate::codec::{self, SchemaIds};
use crate::event::{CampaignId, Platform};
use crate::import::compare::Change;
use crate::import::send::{self, Topic};
use crate::import::spool::Spool;
use crate::import::{connect, wait};
use crate::kafka::Cluster;
use crate::report_row::revisions::Revision;
use crate::report_row::{self, ReportRow, Values};
use crate::reports::row::prefix;
use crate::reports::shown;
use crate::store::keep;
use crate::store::read::imports::{self, Days, File};
use crate::store::read::reports::{self, Known, Meaning};
use crate::store::{StoreError, clock};
use crate::time::{Length, Timestamp};

/// So many campaigns' days are looked up at a time.
const AT_ONCE: i64 = 2_000;

/// What to take back, and where to send.
pub struct Settings {
    /// How the file's SHA-256 begins.
    pub hash: String,
    pub cluster: Cluster,
    pub topic: String,
    pub schema_ids: SchemaIds,
    pub database_url: String,
    /// Send nothing, and say what would be.
    pub dry_run: bool,
    /// Until what was sent is counted.
    pub wait: bool,
}

/// Takes a file back, and writes what that changes. `stop_on_signal` is called before anything is sent.
///
/// # Errors
/// When there is no such file, or database or Kafka do not answer.
pub fn run(
    out: &mut impl Write,
    settings: &Settings,
    stop_on_signal: impl FnOnce() -> io::Result<Arc<AtomicBool>>,
) -> anyhow::Result<()> {
    let mut connection = connect(&settings.database_url)?;
    let file = find(&mut connection, &settings.hash)?;
    if settings.dry_run {
        let undoing = Undoing::of(&mut connection, &file, settings.schema_ids.report)?;
        undoing.told.write(out, &file)?;
        writeln!(out, "nothing was sent")?;
        return Ok(());
    }
    let topic = Topic::find(&settings.cluster, &settings.topic, settings.schema_ids)?;
    let stop = stop_on_signal()?;
    // Of rows that are on their way it could not say what becomes of them.
    if !wait::counted(&mut connection, &topic, &topic.log()?, &stop)? {
        bail!("stopped while the topic was being counted; nothing was sent");
    }
    let mut undoing = Undoing::of(&mut connection, &file, settings.schema_ids.report)?;
    keep::imports::take_back(&mut connection, file.file_id, undoing.at)?;
    let spools = [&mut undoing.withdrawals, &mut undoing.restored];
    let landed = send::records(&topic, spools, &stop, "run the same again")?;
    undoing.told.write(out, &file)?;
    let sent = undoing
        .withdrawals
        .records
        .saturating_add(undoing.restored.records);
    let at = instant(undoing.at);
    let done = if !settings.wait {
        "sent"
    } else if wait::counted(&mut connection, &topic, &landed, &stop)? {
        "sent and processed"
    } else {
        "sent, and counted when a processor comes to them"
    };
    writeln!(out, "{done}: {sent} rows, as of {at}")?;
    writeln!(
        out,
        "What was asked before {at} is older than this, and superseded where this says something: to import it after all, say a later --observed-at"
    )?;
    Ok(())
}

/// What taking a file back changes, for people.
#[derive(Default)]
struct Told {
    restored: Change,
    withdrawn: Change,
    /// Rows of the file that others say too.
    stay: u64,
    /// Of what is withdrawn, what another kind of report said before.
    mixed: u64,
}

impl Told {
    fn write(&self, out: &mut impl Write, file: &File) -> io::Result<()> {
        writeln!(out, "file {}", short(&file.sha256))?;
        let lines = [
            (
                self.restored.rows,
                "restored",
                "what was known without the file counts again",
            ),
            (
                self.withdrawn.rows,
                "withdrawn",
                "nothing is known of them without the file",
            ),
            (
                self.stay,
                "stay",
                "another file, or another answer, says the same",
            ),
        ];
        for (rows, what, why) in lines {
            writeln!(out, "  {what:<10}  {rows}: {why}")?;
        }
        if self.mixed > 0 {
            writeln!(
                out,
                "  of which    {} were known as numbers of another kind than the day's: they are not added up",
                self.mixed
            )?;
        }
        for (what, change) in [("restored", &self.restored), ("withdrawn", &self.withdrawn)] {
            for (currency, by) in &change.by {
                writeln!(out, "  {what} by, {currency}: {}", signed(by))?;
            }
        }
        Ok(())
    }
}

/// By how much sums change.
fn signed(by: &[i128; 5]) -> String {
    let named = Values::NAMES.iter().zip(by).enumerate();
    let named = named.map(|(index, (name, sum))| {
        let sign = if *sum > 0 { "+" } else { "" };
        format!("{name} {sign}{}", shown(index, *sum))
    });
    named.collect::<Vec<_>>().join(", ")
}

/// What is to be sent to take a file back.
struct Undoing {
    file_id: i32,
    sha256: Option<[u8; 32]>,
    schema_id: u32,
    /// As of when.
    at: Timestamp,
    meanings: HashMap<i32, Meaning>,
    hashes: HashMap<i32, [u8; 32]>,
    told: Told,
    withdrawals: Spool,
    restored: Spool,
}

impl Undoing {
    /// Finds what stands no more without a file.
    fn of(connection: &mut PgConnection, file: &File, schema_id: u32) -> anyhow::Result<Undoing> {
        let now = Timestamp::from(clock(connection)?);
        // Newer than all that the file said, and than what is withdrawn first.
        let newest = imports::newest_of(connection, file.file_id)?;
        let after = newest.map_or(now, |newest| newest + Length::new(2));
        let mut undoing = Undoing {
            file_id: file.file_id,
            sha256: file.sha256.as_slice().try_into().ok(),
            schema_id,
            at: now.max(after),
            meanings: HashMap::new(),
            hashes: HashMap::new(),
            told: Told::default(),
            withdrawals: Spool::default(),
            restored: Spool::default(),
        };
        let imported = imports::of_file(connection, file.file_id)?;
        let mut standing = Standing {
            undone: imports::undone(connection)?.into_iter().collect(),
            ..Standing::default()
        };
        standing.undone.insert(file.file_id, undoing.at);
        let files: Vec<i32> = standing.undone.keys().copied().collect();
        let of = Days {
            prefix: "",
            first_day: imported.iter().filter_map(|one| one.first_day).min(),
            last_day: imported.iter().filter_map(|one| one.last_day).max(),
            files: &files,
        };
        let mut accounts: BTreeSet<(i16, &str)> = BTreeSet::new();
        for one in &imported {
            accounts.extend(
                one.accounts
                    .iter()
                    .map(|account| (one.platform, account.as_str())),
            );
        }
        for &(index, account) in &accounts {
            let Some(platform) = Platform::from_index(index.into()) else {
                bail!(
                    "a later version of adflux has imported it, of a platform that this one does not know"
                );
            };
            standing.asked.clear();
            for asked in imports::asked(connection, index, account)? {
                let files = standing.asked.entry(asked.observed_at).or_default();
                files.push(asked.file_id);
            }
            let prefix = prefix(platform, account);
            let of = Days {
                prefix: &prefix,
                ..of
            };
            undoing.days(connection, of, &standing)?;
        }
        if accounts.is_empty() {
            let files = std::slice::from_ref(&file.file_id);
            undoing.days(connection, Days { files, ..of }, &standing)?;
        }
        Ok(undoing)
    }

    fn days(
        &mut self,
        connection: &mut PgConnection,
        of: Days<'_>,
        standing: &Standing,
    ) -> anyhow::Result<()> {
        let mut last = None;
        loop {
            let days = imports::days(connection, of, last.as_ref(), AT_ONCE)?;
            let asked: Vec<(&str, NaiveDate)> = days
                .iter()
                .map(|(campaign, day)| (campaign.as_str(), *day))
                .collect();
            let known = reports::of_days(connection, &asked)?;
            let keys: Vec<(&str, NaiveDate, &str)> = known
                .iter()
                .map(|known| (known.campaign_id.as_str(), known.day, known.slice.as_str()))
                .collect();
            let mut older: HashMap<usize, Vec<Revision>> = HashMap::new();
            for known in reports::older(connection, &keys)? {
                older.entry(known.nth).or_default().push(known.revision);
            }
            let mut by_day: HashMap<usize, Vec<(&Known, Key)>> = HashMap::new();
            for (nth, known) in known.iter().enumerate() {
                let key = Key {
                    newest: known.revision.clone(),
                    older: older.remove(&nth).unwrap_or_default(),
                };
                by_day.entry(known.nth).or_default().push((known, key));
            }
            self.learn(
                connection,
                by_day.values().flatten().map(|(_, key)| key),
                standing,
            )?;
            for nth in 0..days.len() {
                let (known, day): (Vec<&Known>, Vec<Key>) =
                    by_day.remove(&nth).unwrap_or_default().into_iter().unzip();
                for ((known, key), fate) in known.iter().zip(&day).zip(fates(&day, standing)) {
                    self.settle(known, key, &fate)?;
                }
            }
            match days.into_iter().next_back() {
                Some(day) => last = Some(day),
                None => return Ok(()),
            }
        }
    }

    /// Looks up what definitions mean and which files are meant.
    fn learn<'k>(
        &mut self,
        connection: &mut PgConnection,
        keys: impl Iterator<Item = &'k Key>,
        standing: &Standing,
    ) -> Result<(), StoreError> {
        let (mut definitions, mut files) = (BTreeSet::new(), BTreeSet::new());
        for key in keys {
            for revision in key.older.iter().chain([&key.newest]) {
                definitions.insert(revision.definition);
                files.extend(standing.origin(revision).and_then(|(file, _)| file));
            }
        }
        definitions.retain(|id| !self.meanings.contains_key(id));
        files.retain(|id| !self.hashes.contains_key(id));
        let definitions: Vec<i32> = definitions.into_iter().collect();
        let files: Vec<i32> = files.into_iter().collect();
        if !definitions.is_empty() {
            let meanings = reports::meanings(connection, &definitions)?;
            self.meanings
                .extend(meanings.into_iter().map(|m| (m.definition_id, m)));
        }
        if !files.is_empty() {
            let hashes = reports::files(connection, &files)?.into_iter();
            self.hashes
                .extend(hashes.filter_map(|(id, sha256)| Some((id, sha256.try_into().ok()?))));
        }
        Ok(())
    }

    fn settle(&mut self, known: &Known, key: &Key, fate: &Fate) -> anyhow::Result<()> {
        let newest = &key.newest;
        if *fate != Fate::Stands && newest.last() + Length::new(2) > self.at {
            bail!(
                "{} on {} is known of {}, which has not come yet: undo the file after that; nothing was sent",
                known.campaign_id,
                known.day,
                instant(newest.last())
            );
        }
        match fate {
            Fate::Stands => {
                let is_of_file = newest.origin.0 == Some(self.file_id);
                if is_of_file && newest.values.say_something() {
                    self.told.stay = self.told.stay.saturating_add(1);
                }
            }
            Fate::Withdrawn { mixed } => {
                self.told.mixed = self.told.mixed.saturating_add((*mixed).into());
                self.withdraw(known, newest)?;
            }
            Fate::Restored(nth, origin) => {
                let Some(older) = key.older.get(*nth) else {
                    return Ok(());
                };
                let is_of_one_kind = older.definition == newest.definition;
                if !is_of_one_kind && newest.values.say_something() {
                    self.withdraw(known, newest)?;
                }
                self.restore(known, newest, older, *origin)?;
            }
        }
        Ok(())
    }

    /// Nothing is said of a key any more, before others are restored: of a day, numbers of another kind may be.
    fn withdraw(&mut self, known: &Known, newest: &Revision) -> anyhow::Result<()> {
        let definition = self.definition(newest.definition)?;
        let nothing = Values::default();
        let row = ReportRow {
            campaign_id: campaign_id(known)?,
            campaign_name: "",
            definition,
            day: known.day,
            slice: &known.slice,
            observed_at: self.at - Length::new(1),
            values: nothing,
            origin: report_row::Origin {
                file: self.sha256,
                line: None,
            },
        };
        let mut value = Vec::new();
        codec::report::encode(&row, self.schema_id, &mut value);
        let currency = definition.currency;
        self.withdrawals
            .push(known.campaign_id.as_bytes(), &value)?;
        self.told.withdrawn.add(currency, &nothing, &newest.values);
        Ok(())
    }

    fn restore(
        &mut self,
        known: &Known,
        newest: &Revision,
        older: &Revision,
        (file, line): Origin,
    ) -> anyhow::Result<()> {
        let definition = self.definition(older.definition)?;
        let row = ReportRow {
            campaign_id: campaign_id(known)?,
            campaign_name: "",
            definition,
            day: known.day,
            slice: &known.slice,
            observed_at: self.at,
            values: older.values,
            origin: report_row::Origin {
                file: file.and_then(|file| self.hashes.get(&file).copied()),
                line,
            },
        };
        let mut value = Vec::new();
        codec::report::encode(&row, self.schema_id, &mut value);
        let currency = definition.currency;
        self.restored.push(known.campaign_id.as_bytes(), &value)?;
        let before = if older.definition == newest.definition {
            newest.values
        } else {
            Values::default()
        };
        self.told.restored.add(currency, &older.values, &before);
        Ok(())
    }

    fn definition(&self, id: i32) -> anyhow::Result<report_row::Definition<'_>> {
        let meaning = self.meanings.get(&id);
        let known = meaning.and_then(|meaning| meaning.definition.known());
        known.context("a row has a definition that this version does not know: a later version has counted it; nothing was sent")
    }
}

fn campaign_id(known: &Known) -> anyhow::Result<CampaignId<'_>> {
    CampaignId::parse(&known.campaign_id)
        .map_err(|reason| anyhow::anyhow!("campaign '{}': {}", known.campaign_id, reason.explain()))
}

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

use super::numbers::Numbers;
use super::standing::{Fate, Key, Origin, Standing, fates};
use super::{find, instant, short};
use crate::codec::{self, SchemaIds};
use crate::event::{CampaignId, Platform};
use crate::import::compare::Change;
use crate::import::databases::{Databases, Part, Urls};
use crate::import::send::{self, Topic};
use crate::import::spool::Spool;
use crate::import::wait;
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
    pub databases: Urls,
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
    let mut databases = settings.databases.open()?;
    let file = find(databases.home(), &settings.hash)?;
    if settings.dry_run {
        let undoing = Undoing::of(&mut databases, &file, settings.schema_ids.report)?;
        undoing.told.write(out, &file)?;
        writeln!(out, "nothing was sent")?;
        return Ok(());
    }
    let topic = Topic::find(&settings.cluster, &settings.topic, settings.schema_ids)?;
    databases.check(&topic)?;
    let stop = stop_on_signal()?;
    // Of rows that are on their way it could not say what becomes of them.
    if !wait::counted(&mut databases, &topic, &topic.log()?, &stop)? {
        bail!("stopped while the topic was being counted; nothing was sent");
    }
    let mut undoing = Undoing::of(&mut databases, &file, settings.schema_ids.report)?;
    keep::imports::take_back(databases.home(), file.file_id, undoing.at)?;
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
    } else if wait::counted(&mut databases, &topic, &landed, &stop)? {
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
    fn of(databases: &mut Databases, file: &File, schema_id: u32) -> anyhow::Result<Undoing> {
        let now = Timestamp::from(clock(databases.home())?);
        let mut undoing = Undoing {
            file_id: file.file_id,
            sha256: file.sha256.as_slice().try_into().ok(),
            schema_id,
            at: after(databases, file, now)?,
            meanings: HashMap::new(),
            hashes: HashMap::new(),
            told: Told::default(),
            withdrawals: Spool::default(),
            restored: Spool::default(),
        };
        let imported = imports::of_file(databases.home(), file.file_id)?;
        let mut standing = Standing {
            undone: imports::undone(databases.home())?.into_iter().collect(),
            ..Standing::default()
        };
        standing.undone.insert(file.file_id, undoing.at);
        let mut accounts: BTreeSet<(i16, &str)> = BTreeSet::new();
        for one in &imported {
            accounts.extend(
                one.accounts
                    .iter()
                    .map(|account| (one.platform, account.as_str())),
            );
        }
        // By how ids of an account's campaigns begin.
        let mut asked: Vec<(String, HashMap<Timestamp, Vec<i32>>)> = Vec::new();
        for &(index, account) in &accounts {
            let Some(platform) = Platform::from_index(index.into()) else {
                bail!(
                    "a later version of adflux has imported it, of a platform that this one does not know"
                );
            };
            let mut of_account: HashMap<Timestamp, Vec<i32>> = HashMap::new();
            for asked in imports::asked(databases.home(), index, account)? {
                let files = of_account.entry(asked.observed_at).or_default();
                files.push(asked.file_id);
            }
            asked.push((prefix(platform, account), of_account));
        }
        let mut files: Vec<i32> = standing.undone.keys().copied().collect();
        if accounts.is_empty() {
            asked.push((String::new(), HashMap::new()));
            files = vec![file.file_id];
        }
        let at_home = match databases.are_several() {
            true => Some(imports::numbers(databases.home(), None)?),
            false => None,
        };
        for (sha256, file) in at_home.iter().flatten() {
            let sha256 = sha256.as_slice().try_into().ok();
            undoing.hashes.extend(sha256.map(|sha256| (*file, sha256)));
        }
        for part in databases.parts() {
            let numbers = Numbers::of(&mut part.connection, at_home.as_ref())?;
            undoing.meanings.clear();
            undoing.hashes.retain(|file, _| numbers.is_of_home(*file));
            let files: Vec<i32> = files
                .iter()
                .filter_map(|file| numbers.here(*file))
                .collect();
            for (prefix, asked) in &asked {
                standing.asked.clone_from(asked);
                let of = Days {
                    prefix,
                    first_day: imported.iter().filter_map(|one| one.first_day).min(),
                    last_day: imported.iter().filter_map(|one| one.last_day).max(),
                    files: &files,
                };
                undoing.days(part, of, &standing, &numbers)?;
            }
        }
        Ok(undoing)
    }

    fn days(
        &mut self,
        part: &mut Part,
        of: Days<'_>,
        standing: &Standing,
        numbers: &Numbers,
    ) -> anyhow::Result<()> {
        let mut last = None;
        loop {
            let days = imports::days(&mut part.connection, of, last.as_ref(), AT_ONCE)?;
            let asked: Vec<(&str, NaiveDate)> = days
                .iter()
                // Rows may be left here from when the database had other partitions.
                .filter(|(campaign, _)| part.has_campaign(campaign))
                .map(|(campaign, day)| (campaign.as_str(), *day))
                .collect();
            let connection = &mut part.connection;
            let mut known = reports::of_days(connection, &asked)?;
            known
                .iter_mut()
                .for_each(|known| numbers.bring_home(&mut known.revision));
            let keys: Vec<(&str, NaiveDate, &str)> = known
                .iter()
                .map(|known| (known.campaign_id.as_str(), known.day, known.slice.as_str()))
                .collect();
            let mut older: HashMap<usize, Vec<Revision>> = HashMap::new();
            for mut known in reports::older(connection, &keys)? {
                numbers.bring_home(&mut known.revision);
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
                numbers,
            )?;
            for nth in 0..asked.len() {
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
        numbers: &Numbers,
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
        let files: Vec<i32> = files
            .into_iter()
            .filter_map(|file| numbers.here(file))
            .collect();
        if !definitions.is_empty() {
            let meanings = reports::meanings(connection, &definitions)?;
            self.meanings
                .extend(meanings.into_iter().map(|m| (m.definition_id, m)));
        }
        if !files.is_empty() {
            let hashes = reports::files(connection, &files)?.into_iter();
            self.hashes.extend(
                hashes.filter_map(|(id, sha256)| {
                    Some((numbers.at_home(id), sha256.try_into().ok()?))
                }),
            );
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

/// As of when: newer than all that the file said, and than what is withdrawn first.
fn after(databases: &mut Databases, file: &File, now: Timestamp) -> Result<Timestamp, StoreError> {
    let mut at = now;
    for part in databases.parts() {
        let hash = std::slice::from_ref(&file.sha256);
        let numbers = imports::numbers(&mut part.connection, Some(hash))?;
        if let Some(number) = numbers.get(&file.sha256)
            && let Some(newest) = imports::newest_of(&mut part.connection, *number)?
        {
            at = at.max(newest + Length::new(2));
        }
    }
    Ok(at)
}

fn campaign_id(known: &Known) -> anyhow::Result<CampaignId<'_>> {
    CampaignId::parse(&known.campaign_id)
        .map_err(|reason| anyhow::anyhow!("campaign '{}': {}", known.campaign_id, reason.explain()))
}

//! What rows of a file are to what is known: new, changed by so much, the same, older; or a contradiction.
//!
//! The database is asked for some thousand rows at a time, so what is held in memory does not grow with the file. Nothing is written:
//! what the processor will do is what it would do now, unless somebody else sends of the same days at the same time.

// Bytes from outside come through here.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use chrono::NaiveDate;
use diesel::PgConnection;

use self::complete::IN_FILE;
use self::contradiction::instant;
use super::databases::Part;
use super::remember;
use super::spool::Spool;
use crate::codec;
use crate::currency::Currency;
use crate::event::CampaignId;
use crate::report_row::revisions::{Revision, Revisions, Said};
use crate::report_row::{Definition, Origin, ReportRow, Values};
use crate::reports::check::{Keys, hashed};
use crate::reports::refusal::Refusal;
use crate::reports::row::FileRow;
use crate::reports::{FileReport, Shape};
use crate::shard::Shard;
use crate::store::StoreError;
use crate::store::read::reports::{self, Known, Meaning, NewestMeaning};
use crate::time::{Length, Timestamp};

pub mod comparison;
mod complete;
mod contradiction;

/// So many rows are looked up at a time.
const AT_ONCE: usize = 4_000;

/// How many rows change what is known, and by how much in all: in the order of [`Values::NAMES`], by currency.
#[derive(Clone, Debug, Default)]
pub struct Change {
    pub rows: u64,
    pub by: BTreeMap<Currency, [i128; 5]>,
}

impl Change {
    fn and(&mut self, others: &Change) {
        self.rows = self.rows.saturating_add(others.rows);
        for (currency, by) in &others.by {
            let sums = self.by.entry(*currency).or_default().iter_mut();
            for (sum, more) in sums.zip(by) {
                *sum = sum.saturating_add(*more);
            }
        }
    }

    /// Takes in that values took the place of others.
    pub fn add(&mut self, currency: Currency, values: &Values, before: &Values) {
        self.rows = self.rows.saturating_add(1);
        let sums = self.by.entry(currency).or_default().iter_mut();
        for (sum, more) in sums.zip(values.beyond(before).numbers()) {
            *sum = sum.saturating_add(more.into());
        }
    }
}

/// What the rows of a file are to what is known.
#[derive(Clone, Debug, Default)]
pub struct Compared {
    /// Of keys of which nothing was known.
    pub new: u64,
    pub changed: Change,
    /// Newer than what is known, and the same.
    pub unchanged: u64,
    /// Known already, of this very instant.
    pub known: u64,
    /// Older than what is known.
    pub superseded: u64,
    /// Rows of another definition that `--replace` withdraws.
    pub withdrawn: Change,
    /// Rows that the file lacks and `--complete` sets to zero.
    pub absent: Change,
}

impl Compared {
    /// Takes in what others of the file's rows are.
    fn and(&mut self, others: &Compared) {
        let sums = [
            (&mut self.new, others.new),
            (&mut self.unchanged, others.unchanged),
            (&mut self.known, others.known),
            (&mut self.superseded, others.superseded),
        ];
        for (sum, more) in sums {
            *sum = sum.saturating_add(more);
        }
        self.changed.and(&others.changed);
        self.withdrawn.and(&others.withdrawn);
        self.absent.and(&others.absent);
    }
}

/// What is done with what is known, besides comparing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Orders {
    pub complete: bool,
    pub replace: bool,
}

/// Why it goes on no more.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("no room for it in a temporary file: {0}")]
    NoRoom(#[from] std::io::Error),
}

/// Compares those rows of one file that are of the campaigns of one database.
struct Comparing<'a> {
    /// None: it has all campaigns.
    shard: Option<Shard>,
    /// None: nobody knows what is known.
    connection: Option<&'a mut PgConnection>,
    /// Shared, for it is read while the counters are written.
    shape: Arc<Shape>,
    file: [u8; 32],
    orders: Orders,
    schema_id: u32,
    /// Accounts of the file of which anything is known here.
    known_accounts: HashSet<String>,
    meanings: HashMap<i32, Meaning>,
    waiting: Vec<FileRow>,
    grain: Option<String>,
    /// For `--complete`: the keys of the file, and then those that are known.
    keys: Keys,
    /// Campaign-days whose rows of another definition are withdrawn.
    moved: HashSet<u128>,
    compared: Compared,
    withdrawals: Spool,
    absent: Spool,
}

impl<'a> Comparing<'a> {
    fn new(
        database: Option<&'a mut Part>,
        shape: Arc<Shape>,
        file: [u8; 32],
        orders: Orders,
        schema_id: u32,
    ) -> Comparing<'a> {
        Comparing {
            shard: database.as_ref().and_then(|part| part.shard),
            connection: database.map(|part| &mut part.connection),
            shape,
            file,
            orders,
            schema_id,
            known_accounts: HashSet::new(),
            meanings: HashMap::new(),
            waiting: Vec::new(),
            grain: None,
            keys: Keys::default(),
            moved: HashSet::new(),
            compared: Compared::default(),
            withdrawals: Spool::default(),
            absent: Spool::default(),
        }
    }

    /// Whether it has a campaign.
    fn has(&self, campaign: &str) -> bool {
        self.shard.is_none_or(|shard| shard.has_campaign(campaign))
    }

    /// Takes in a row that is good by itself. What is wrong with it is said to the report.
    ///
    /// # Errors
    /// When the database does not answer, or there is no room.
    fn add(&mut self, row: FileRow, report: &mut FileReport) -> Result<(), Failure> {
        if self.orders.complete {
            let key = (&row.campaign_id, row.day, &row.slice);
            if let Err(refusal) = self.keys.mark(&key, IN_FILE, &()) {
                report.refuse(refusal);
            }
        }
        if self.known_accounts.contains(&row.account) {
            self.waiting.push(row);
            if self.waiting.len() >= AT_ONCE {
                self.settle(report)?;
            }
        } else {
            self.compared.new = self.compared.new.saturating_add(1);
        }
        Ok(())
    }

    /// Looks up an account of which the file has a row, and says what its newest report here means.
    fn meet(&mut self, row: &FileRow) -> Result<Option<NewestMeaning>, Failure> {
        let Some(connection) = &mut self.connection else {
            return Ok(None);
        };
        let all = reports::meanings_of_account(connection, row.platform, &row.account)?;
        if !all.is_empty() {
            self.known_accounts.insert(row.account.clone());
        }
        self.meanings
            .extend(all.into_iter().map(|m| (m.definition_id, m)));
        Ok(remember::meaning(connection, row.platform, &row.account)?)
    }

    /// Compares the rows that wait.
    fn settle(&mut self, report: &mut FileReport) -> Result<(), Failure> {
        let rows = std::mem::take(&mut self.waiting);
        let Some(connection) = &mut self.connection else {
            return Ok(());
        };
        let mut days: Vec<(&str, NaiveDate)> = rows
            .iter()
            .map(|row| (row.campaign_id.as_str(), row.day))
            .collect();
        days.sort_unstable();
        days.dedup();
        let mut of_days: HashMap<(&str, NaiveDate), Vec<Known>> = HashMap::new();
        for known in reports::of_days(connection, &days)? {
            if let Some(day) = days.get(known.nth) {
                of_days.entry(*day).or_default().push(known);
            }
        }
        let observed_at = self
            .shape
            .observed_at
            .map_or(Timestamp::MIN, Timestamp::from);
        let mut keys: Vec<(&str, NaiveDate, &str)> = Vec::new();
        for (&(campaign, day), known) in &of_days {
            let newer = known
                .iter()
                .filter(|known| observed_at < known.revision.observed_at);
            keys.extend(newer.map(|known| (campaign, day, known.slice.as_str())));
        }
        let mut histories: HashMap<(&str, NaiveDate, &str), Vec<Revision>> = HashMap::new();
        if !keys.is_empty() {
            for known in reports::older(connection, &keys)? {
                if let Some(key) = keys.get(known.nth) {
                    histories.entry(*key).or_default().push(known.revision);
                }
            }
        }
        let mut strange: Vec<i32> = of_days
            .values()
            .flatten()
            .map(|known| known.revision.definition)
            .collect();
        strange.retain(|id| !self.meanings.contains_key(id));
        if !strange.is_empty() {
            let meanings = reports::meanings(connection, &strange)?;
            self.meanings
                .extend(meanings.into_iter().map(|m| (m.definition_id, m)));
        }
        for row in &rows {
            let day = of_days.get(&(row.campaign_id.as_str(), row.day));
            let history = histories.get(&(row.campaign_id.as_str(), row.day, row.slice.as_str()));
            let day = day.map_or(&[][..], Vec::as_slice);
            let history = history.map_or(&[][..], Vec::as_slice);
            self.judge(row, day, history, report)?;
        }
        Ok(())
    }

    fn judge(
        &mut self,
        row: &FileRow,
        day: &[Known],
        history: &[Revision],
        report: &mut FileReport,
    ) -> Result<(), Failure> {
        let shape = Arc::clone(&self.shape);
        let Some(said) = shape.report_row(row, self.file) else {
            return Ok(());
        };
        let own = day.iter().find(|known| known.slice == row.slice);
        let grain = said.grain();
        let mixed: Vec<&Known> = day
            .iter()
            .filter(|known| {
                known.revision.values.say_something()
                    && !self.is_of(known, &said.definition, &grain)
            })
            .collect();
        if let Some(first) = mixed.first().filter(|_| row.values.say_something()) {
            if !self.orders.replace {
                let refusal = self.mixed(first)?;
                report.refuse(refusal.at(row.place.clone()));
                return Ok(());
            }
            let before = said.observed_at - Length::new(1);
            if let Some(newer) = mixed.iter().find(|known| known.revision.last() >= before) {
                let what = self.origin(&newer.revision)?;
                report.refuse(
                    Refusal::new(format!(
                        "what is known of the day is newer than the file, and of another kind: {what}, asked at {}",
                        instant(newer.revision.last())
                    ))
                    .at(row.place.clone())
                    .so("replace it by a newer export"),
                );
                return Ok(());
            }
            if self.moved.insert(hashed(&(&row.campaign_id, row.day))) {
                for known in &mixed {
                    self.withdraw(known, before)?;
                }
            }
            if mixed.iter().any(|known| known.slice == row.slice) {
                let nothing = Values::default();
                self.compared
                    .changed
                    .add(row.currency, &row.values, &nothing);
                return Ok(());
            }
        }
        let (revisions, is) = told(&said, own, history);
        let compared = &mut self.compared;
        match is {
            Said::Newest if own.is_none() => add_one(&mut compared.new),
            Said::Newest => {
                let before = own.map_or_else(Values::default, |known| known.revision.values);
                compared.changed.add(row.currency, &row.values, &before);
            }
            Said::Again => add_one(&mut compared.unchanged),
            Said::Before => add_one(&mut compared.known),
            Said::Older => add_one(&mut compared.superseded),
            Said::Otherwise => {
                let refusal = self.contradiction(&revisions, said.observed_at)?;
                report.refuse(refusal.at(row.place.clone()));
            }
        }
        Ok(())
    }

    /// Whether what is known is of a definition and grain.
    fn is_of(&self, known: &Known, definition: &Definition<'_>, grain: &str) -> bool {
        let meaning = self.meanings.get(&known.revision.definition);
        meaning.is_some_and(|meaning| {
            meaning.grain == grain && meaning.definition.known() == Some(*definition)
        })
    }

    /// Takes back what is known of a key.
    fn withdraw(&mut self, known: &Known, observed_at: Timestamp) -> Result<(), Failure> {
        let Some(meaning) = self.meanings.get(&known.revision.definition) else {
            return Ok(());
        };
        let Some(definition) = meaning.definition.known() else {
            return Ok(());
        };
        let nothing = Values::default();
        let values = &known.revision.values;
        self.compared
            .withdrawn
            .add(definition.currency, &nothing, values);
        let Ok(campaign_id) = CampaignId::parse(&known.campaign_id) else {
            return Ok(());
        };
        let row = ReportRow {
            campaign_id,
            campaign_name: "",
            definition,
            day: known.day,
            slice: &known.slice,
            observed_at,
            values: nothing,
            origin: Origin {
                file: Some(self.file),
                line: None,
            },
        };
        push(&mut self.withdrawals, &row, self.schema_id)
    }
}

/// What a row is to what is known of its key.
fn told(row: &ReportRow<'_>, own: Option<&Known>, history: &[Revision]) -> (Revisions, Said) {
    let mut revisions = history.to_vec();
    revisions.sort_by_key(|revision| revision.observed_at);
    revisions.extend(own.map(|known| known.revision.clone()));
    let mut revisions = Revisions(revisions);
    let is = revisions.say(revision(row), |at| at);
    (revisions, is)
}

fn add_one(counter: &mut u64) {
    *counter = counter.saturating_add(1);
}

fn push(spool: &mut Spool, row: &ReportRow<'_>, schema_id: u32) -> Result<(), Failure> {
    let mut value = Vec::new();
    codec::report::encode(row, schema_id, &mut value);
    Ok(spool.push(row.campaign_id.as_str().as_bytes(), &value)?)
}

/// A row as a revision.
fn revision(row: &ReportRow<'_>) -> Revision {
    Revision {
        observed_at: row.observed_at,
        confirmed_at: Vec::new(),
        values: row.values,
        definition: 0,
        event_time: row.event_time(),
        origin: (None, row.origin.line),
        counted_at: None,
    }
}

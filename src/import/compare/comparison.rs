//! A file against all databases: each row is compared with what the database of its campaign knows.

// Bytes from outside come through here.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Compared, Comparing, Failure, Orders};
use crate::currency::Currency;
use crate::import::databases::Databases;
use crate::import::remember;
use crate::import::spool::Spool;
use crate::reports::facts::named;
use crate::reports::refusal::Refusal;
use crate::reports::row::FileRow;
use crate::reports::{FileReport, Shape};
use crate::store::read::reports::NewestMeaning;
use crate::time::Timestamp;

/// More accounts than any file has.
const MOST_ACCOUNTS: usize = 10_000;

/// See the module.
pub struct Comparison<'a> {
    shape: Arc<Shape>,
    file: [u8; 32],
    orders: Orders,
    now: Timestamp,
    accounts: BTreeMap<String, Currency>,
    /// By database. Together they have all campaigns.
    all: Vec<Comparing<'a>>,
}

/// What was found.
pub struct Found {
    pub compared: Compared,
    /// The platform's own ids of the accounts that the file has rows of.
    pub accounts: Vec<String>,
    /// Goes before the file's rows.
    pub withdrawals: Spool,
    /// Goes behind them.
    pub absent: Spool,
}

impl<'a> Comparison<'a> {
    /// Of a file whose facts are known; with no databases, nobody knows what is known.
    pub fn new(
        databases: Option<&'a mut Databases>,
        shape: Shape,
        file: [u8; 32],
        orders: Orders,
        schema_id: u32,
    ) -> Comparison<'a> {
        let shape = Arc::new(shape);
        let comparing = |database| {
            let shape = Arc::clone(&shape);
            Comparing::new(database, shape, file, orders, schema_id)
        };
        let all = match databases {
            Some(databases) => databases
                .parts()
                .map(|part| comparing(Some(part)))
                .collect(),
            None => vec![comparing(None)],
        };
        Comparison {
            file,
            orders,
            now: Timestamp::now(),
            accounts: BTreeMap::new(),
            all,
            shape,
        }
    }

    /// Takes in a row. What is wrong with it is said to the report.
    ///
    /// # Errors
    /// When a database does not answer, or there is no room.
    pub fn add(&mut self, row: FileRow, report: &mut FileReport) -> Result<(), Failure> {
        let Some(said) = self.shape.report_row(&row, self.file) else {
            return Ok(());
        };
        if let Err(reason) = said.validate(self.now) {
            report.refuse(Refusal::new(reason.explain()).at(row.place.clone()));
            return Ok(());
        }
        for comparing in self.all.iter_mut().filter(|one| one.grain.is_none()) {
            comparing.grain = Some(said.grain());
        }
        if !self.accounts.contains_key(&row.account) {
            self.meet(&row, report)?;
        }
        let mut all = self.all.iter_mut();
        match all.find(|one| one.has(&row.campaign_id)) {
            Some(comparing) => comparing.add(row, report),
            None => Ok(()),
        }
    }

    /// The first row of an account, which any database may know.
    fn meet(&mut self, row: &FileRow, report: &mut FileReport) -> Result<(), Failure> {
        let known = self.all.iter_mut().map(|comparing| comparing.meet(row));
        let known: Vec<Option<NewestMeaning>> = known.collect::<Result<_, _>>()?;
        if let Err(refusal) = self.agree(row, known) {
            report.refuse(refusal.at(row.place.clone()));
        }
        if self.accounts.len() >= MOST_ACCOUNTS {
            report.refuse(
                Refusal::new(format!("more than {MOST_ACCOUNTS} accounts")).at(row.place.clone()),
            );
            return Ok(());
        }
        self.accounts.insert(row.account.clone(), row.currency);
        Ok(())
    }

    /// Checks that a row means what its account's newest report did.
    fn agree(&self, row: &FileRow, known: Vec<Option<NewestMeaning>>) -> Result<(), Refusal> {
        let shape = &self.shape;
        let remembered = remember::newest(known, self.orders.replace);
        let (Some(known), Some(zone)) = (remembered, shape.zone) else {
            return Ok(());
        };
        known.agrees(&zone, &known.zone, "the time zone", |z| z.name().to_owned())?;
        known.agrees(
            &row.currency,
            &known.currency,
            "the currency",
            Currency::to_string,
        )?;
        known.agrees(
            &shape.conversions,
            &known.conversions,
            "the conversion",
            named,
        )?;
        known.agrees(&shape.revenue, &known.revenue, "the revenue", named)
    }

    /// Ends: compares what waits, and finds what the file lacks.
    ///
    /// # Errors
    /// As [`Comparison::add`].
    pub fn finish(self, report: &mut FileReport) -> Result<Found, Failure> {
        let mut found = Found {
            compared: Compared::default(),
            accounts: self.accounts.keys().cloned().collect(),
            withdrawals: Spool::default(),
            absent: Spool::default(),
        };
        for mut comparing in self.all {
            comparing.finish(&self.accounts, report)?;
            found.compared.and(&comparing.compared);
            found.withdrawals.append(comparing.withdrawals)?;
            found.absent.append(comparing.absent)?;
        }
        Ok(found)
    }
}

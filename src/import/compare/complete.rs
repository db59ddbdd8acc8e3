//! `--complete`: what is known of a file's accounts and days, and is not in the file, becomes zero.

// Bytes from outside come through here.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Comparing, Failure, push, told};
use crate::currency::Currency;
use crate::event::CampaignId;
use crate::report_row::revisions::Said;
use crate::report_row::{Definition, Origin, ReportRow, Values};
use crate::reports::FileReport;
use crate::reports::check::hashed;
use crate::reports::refusal::Refusal;
use crate::reports::row::prefix;
use crate::store::read::reports::{self, Known, OfAccount};

/// The marks of [`Keys`] for `--complete`.
pub(super) const IN_FILE: u64 = 0;
const IN_DATABASE: u64 = 1;

impl<'a> Comparing<'a> {
    /// Ends: compares what waits, and finds what the file lacks.
    ///
    /// # Errors
    /// As [`Comparing::add`].
    pub(super) fn finish(
        &mut self,
        of_file: &BTreeMap<String, Currency>,
        report: &mut FileReport,
    ) -> Result<(), Failure> {
        self.settle(report)?;
        if !self.orders.complete || !report.is_good() {
            return Ok(());
        }
        let (Some(first), Some(last)) = (report.gathered.first_day, report.gathered.last_day)
        else {
            report.refuse(
                Refusal::new("a file without a row does not say of which days it is complete")
                    .so("leave out --complete"),
            );
            return Ok(());
        };
        let mut accounts = Vec::new();
        for (account, currency) in of_file {
            if let Some(definition_id) = self.definition_id(account, *currency) {
                let prefix = prefix(self.shape.platform, account);
                accounts.push(((account.as_str(), *currency), prefix, definition_id));
            }
        }
        let of = |prefix, definition_id| OfAccount {
            prefix,
            first_day: first,
            last_day: last,
            definition_id,
        };
        for (_, prefix, definition_id) in &accounts {
            let mut keys = std::mem::take(&mut self.keys);
            self.each_known(of(prefix, *definition_id), &mut |_, known| {
                let key = (&known.campaign_id, known.day, &known.slice);
                if let Err(refusal) = keys.mark(&key, IN_DATABASE, &()) {
                    report.refuse(refusal);
                }
                Ok(())
            })?;
            self.keys = keys;
        }
        let absent = match std::mem::take(&mut self.keys).only(IN_DATABASE) {
            Ok(absent) => absent,
            Err(refusal) => {
                report.refuse(refusal);
                return Ok(());
            }
        };
        if absent.is_empty() {
            return Ok(());
        }
        for (account, prefix, definition_id) in &accounts {
            self.each_known(of(prefix, *definition_id), &mut |comparing, known| {
                let key = (&known.campaign_id, known.day, &known.slice);
                if absent.contains(&hashed(&key)) && known.revision.values.say_something() {
                    comparing.lacks(known, *account, report)?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// The number of the definition that the file's rows of an account have.
    fn definition_id(&self, account: &str, currency: Currency) -> Option<i32> {
        let zone = self.shape.zone?;
        let grain = self.grain.as_deref()?;
        let definition = Definition {
            platform: self.shape.platform,
            account,
            time_zone: zone,
            currency,
            conversions: &self.shape.conversions,
            revenue: &self.shape.revenue,
        };
        let mut all = self.meanings.values();
        let same = all.find(|meaning| {
            meaning.grain == grain && meaning.definition.known() == Some(definition)
        })?;
        Some(same.definition_id)
    }

    fn each_known(
        &mut self,
        of: OfAccount<'_>,
        each: &mut dyn FnMut(&mut Comparing<'a>, &Known) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        const PAGE: i64 = 2_000;
        let mut last: Option<Known> = None;
        loop {
            let Some(connection) = &mut self.connection else {
                return Ok(());
            };
            let mut page = reports::of_account(connection, of, last.as_ref(), PAGE)?;
            for known in &page {
                // Rows may be left here from when the database had other partitions.
                if self.has(&known.campaign_id) {
                    each(self, known)?;
                }
            }
            match page.pop() {
                Some(known) => last = Some(known),
                None => return Ok(()),
            }
        }
    }

    /// Sets to zero what is known of a key that the file lacks. What is unknown stays so.
    fn lacks(
        &mut self,
        known: &Known,
        (account, currency): (&str, Currency),
        report: &mut FileReport,
    ) -> Result<(), Failure> {
        let shape = Arc::clone(&self.shape);
        let (Some(time_zone), Some(observed_at)) = (shape.zone, shape.observed_at) else {
            return Ok(());
        };
        let Ok(campaign_id) = CampaignId::parse(&known.campaign_id) else {
            return Ok(());
        };
        let row = ReportRow {
            campaign_id,
            campaign_name: "",
            definition: Definition {
                platform: shape.platform,
                account,
                time_zone,
                currency,
                conversions: &shape.conversions,
                revenue: &shape.revenue,
            },
            day: known.day,
            slice: &known.slice,
            observed_at: observed_at.into(),
            values: Values::of(
                known
                    .revision
                    .values
                    .numbers()
                    .map(|value| value.map(|_| 0)),
            ),
            origin: Origin {
                file: Some(self.file),
                line: None,
            },
        };
        let mut history = Vec::new();
        if row.observed_at < known.revision.observed_at
            && let Some(connection) = &mut self.connection
        {
            let key = (known.campaign_id.as_str(), known.day, known.slice.as_str());
            let older = reports::older(connection, &[key])?;
            history.extend(older.into_iter().map(|known| known.revision));
        }
        let (revisions, is) = told(&row, Some(known), &history);
        match is {
            Said::Newest => self
                .compared
                .absent
                .add(currency, &row.values, &known.revision.values),
            Said::Otherwise => {
                let what = format!(
                    "{} on {}, which the file lacks",
                    known.campaign_id, known.day
                );
                let refusal = self.contradiction(&revisions, row.observed_at)?;
                report.refuse(refusal.about(&what));
                return Ok(());
            }
            Said::Again | Said::Before | Said::Older => {}
        }
        push(&mut self.absent, &row, self.schema_id)
    }
}

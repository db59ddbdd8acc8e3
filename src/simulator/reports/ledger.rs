//! What is in the files, as integers: to hold against what was read from them.
//!
//! One JSON document, a row a line. It is written while the files are, because it is as long as they.

use std::collections::BTreeMap;
use std::io::{self, Write};

use chrono::NaiveDate;
use serde::Serialize;

use super::{About, NotSaid, Row, Settings};
use crate::time::rfc3339_exact;

/// Sums of rows, in the units of [`Counts`](crate::event::Counts).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) rows: u64,
    /// Of these, those whose revenue nobody knows.
    pub(super) rows_without_revenue: u64,
    pub(super) impressions: i128,
    pub(super) clicks: i128,
    pub(super) conversions: i128,
    pub(super) cost: i128,
    pub(super) revenue: i128,
}

impl Sums {
    pub(super) fn add(&mut self, row: &Row) {
        let [impressions, clicks, conversions, cost, revenue] = row.counts.numbers();
        self.rows += 1;
        self.rows_without_revenue += u64::from(!row.has_revenue);
        self.impressions += i128::from(impressions);
        self.clicks += i128::from(clicks);
        self.conversions += i128::from(conversions);
        self.cost += i128::from(cost);
        if row.has_revenue {
            self.revenue += i128::from(revenue);
        }
    }

    fn merge(&mut self, other: &Sums) {
        self.rows += other.rows;
        self.rows_without_revenue += other.rows_without_revenue;
        self.impressions += other.impressions;
        self.clicks += other.clicks;
        self.conversions += other.conversions;
        self.cost += other.cost;
        self.revenue += other.revenue;
    }

    /// The revenue; none if no row has one.
    pub(super) fn known_revenue(&self) -> Option<i128> {
        (self.rows > self.rows_without_revenue).then_some(self.revenue)
    }
}

#[derive(Serialize)]
struct OfSettings<'a> {
    seed: u64,
    forms: Vec<&'a str>,
    accounts: u32,
    campaigns: u32,
    days: u32,
    start: NaiveDate,
    exports: u32,
    every: u32,
}

#[derive(Serialize)]
struct OfFile<'a> {
    file: &'a str,
    form: &'a str,
    platform: &'a str,
    account_id: String,
    account_name: &'a str,
    currency: &'a str,
    time_zone: &'a str,
    observed_at: String,
    first_day: NaiveDate,
    last_day: NaiveDate,
}

#[derive(Serialize)]
struct OfRow<'a> {
    campaign_id: String,
    campaign_name: &'a str,
    day: NaiveDate,
    impressions: i64,
    clicks: i64,
    conversions_millionths: i64,
    cost_micros: i64,
    /// Null if the account doesn't report it.
    revenue_micros: Option<i64>,
    /// The values that the platform knows and this file does not give.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_said: Vec<&'static str>,
}

#[derive(Serialize)]
struct OfSums<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    currency: Option<&'a str>,
    rows: u64,
    rows_without_revenue: u64,
    impressions: i128,
    clicks: i128,
    conversions_millionths: i128,
    cost_micros: i128,
    revenue_micros: Option<i128>,
}

impl<'a> OfSums<'a> {
    fn new(currency: Option<&'a str>, sums: &Sums) -> OfSums<'a> {
        OfSums {
            currency,
            rows: sums.rows,
            rows_without_revenue: sums.rows_without_revenue,
            impressions: sums.impressions,
            clicks: sums.clicks,
            conversions_millionths: sums.conversions,
            cost_micros: sums.cost,
            revenue_micros: sums.known_revenue(),
        }
    }
}

/// Writes the ledger.
pub struct Ledger<W: Write> {
    out: W,
    files: u64,
    rows: u64,
}

impl<W: Write> Ledger<W> {
    pub(super) fn begin(mut out: W, settings: &Settings) -> io::Result<Ledger<W>> {
        out.write_all(b"{\"settings\":")?;
        let of_settings = OfSettings {
            seed: settings.seed,
            forms: settings.forms.iter().map(|form| form.name()).collect(),
            accounts: settings.accounts,
            campaigns: settings.campaigns,
            days: settings.days,
            start: settings.start,
            exports: settings.exports,
            every: settings.every,
        };
        serde_json::to_writer(&mut out, &of_settings)?;
        out.write_all(b",\n\"files\":[")?;
        Ok(Ledger {
            out,
            files: 0,
            rows: 0,
        })
    }

    pub(super) fn begin_file(&mut self, file: &str, form: &str, about: About) -> io::Result<()> {
        let About { account, export } = about;
        let of_file = OfFile {
            file,
            form,
            platform: account.platform.name(),
            account_id: account.id.to_string(),
            account_name: &account.name,
            currency: account.currency.code,
            time_zone: account.zone.name(),
            observed_at: rfc3339_exact(export.observed_at(account)),
            first_day: export.first,
            last_day: export.last(),
        };
        self.separate(self.files)?;
        self.files += 1;
        self.rows = 0;
        let head = serde_json::to_string(&of_file)?;
        // The rows go into the same object.
        let open = head.strip_suffix('}').unwrap_or(&head);
        write!(self.out, "{open},\"rows\":[")
    }

    pub(super) fn row(&mut self, row: &Row, not_said: NotSaid) -> io::Result<()> {
        let [impressions, clicks, conversions, cost, revenue] = row.counts.numbers();
        let missing = [
            (not_said.conversions, "conversions_millionths"),
            (not_said.revenue, "revenue_micros"),
        ];
        let of_row = OfRow {
            campaign_id: row.campaign_id.to_string(),
            campaign_name: &row.campaign_name,
            day: row.day,
            impressions,
            clicks,
            conversions_millionths: conversions,
            cost_micros: cost,
            revenue_micros: row.has_revenue.then_some(revenue),
            not_said: missing
                .into_iter()
                .filter_map(|(is_missing, name)| is_missing.then_some(name))
                .collect(),
        };
        self.separate(self.rows)?;
        self.rows += 1;
        Ok(serde_json::to_writer(&mut self.out, &of_row)?)
    }

    pub(super) fn end_file(&mut self, sums: &Sums) -> io::Result<()> {
        self.out.write_all(b"\n],\"totals\":")?;
        serde_json::to_writer(&mut self.out, &OfSums::new(None, sums))?;
        self.out.write_all(b"}")
    }

    /// Ends it with what is known of each account, added up by currency.
    pub(super) fn finish(
        mut self,
        known: impl Iterator<Item = (&'static str, Sums)>,
    ) -> io::Result<()> {
        let mut by_currency = BTreeMap::<&str, Sums>::new();
        for (currency, sums) in known {
            by_currency.entry(currency).or_default().merge(&sums);
        }
        self.out.write_all(b"\n],\n\"totals\":[")?;
        for (n, (currency, sums)) in (0..).zip(&by_currency) {
            self.separate(n)?;
            serde_json::to_writer(&mut self.out, &OfSums::new(Some(currency), sums))?;
        }
        self.out.write_all(b"\n]}\n")?;
        self.out.flush()
    }

    /// Before the `n`th of a list, which is on a line of its own.
    fn separate(&mut self, n: u64) -> io::Result<()> {
        self.out.write_all(if n == 0 { b"\n" } else { b",\n" })
    }
}

//! LinkedIn Campaign Manager, a report of campaigns by day: UTF-16 with tabs, four lines and an empty one before the
//! header, days and times in UTC. The format of numbers is that of whoever exports, and differs from export to export.

use std::io::{self, Write};

use chrono::{Datelike as _, NaiveDate};

use super::ledger::Sums;
use super::sheet::{Dialect, Numbers, Sheet};
use super::{About, FileWriter, NotSaid, Row};

/// One file.
pub(super) struct File<'a> {
    about: About<'a>,
    sheet: Sheet<'a>,
    numbers: Numbers,
}

impl<'a> File<'a> {
    pub(super) fn new(about: About<'a>, out: &'a mut dyn Write) -> File<'a> {
        let dialect = Dialect {
            separator: '\t',
            utf16: true,
            mark: true,
            line_end: "\r\n",
        };
        let is_german = about.account.german && about.export.number % 2 == 1;
        File {
            about,
            sheet: Sheet::new(out, dialect),
            numbers: if is_german {
                Numbers::GERMAN
            } else {
                Numbers::ENGLISH
            },
        }
    }
}

fn long(day: NaiveDate) -> String {
    day.format("%B %-d, %Y").to_string()
}

impl FileWriter for File<'_> {
    fn begin(&mut self, _: &Sums) -> io::Result<()> {
        let About { account, export } = self.about;
        let generated = export.observed_at(account).format("%B %-d, %Y, %-I:%M %p");
        self.sheet.line(&["Campaign Performance Report (in UTC)"])?;
        for line in [
            format!("Report Start: {}, 12:00 AM", long(export.first)),
            format!("Report End: {}, 11:59 PM", long(export.last())),
            format!("Date Generated: {generated}"),
            String::new(),
        ] {
            self.sheet.line(&[&line])?;
        }
        let mut header = vec![
            "Start Date (in UTC)",
            "Account Name",
            "Currency",
            "Campaign ID",
            "Campaign Name",
            "Campaign Status",
            "Total Spent",
            "Impressions",
            "Clicks",
            "Conversions",
        ];
        if account.reports_revenue {
            header.push("Total Conversion Value");
        }
        self.sheet.line(&header)
    }

    fn row(&mut self, row: &Row) -> io::Result<NotSaid> {
        let n = self.numbers;
        let [impressions, clicks, conversions, cost, revenue] =
            row.counts.numbers().map(i128::from);
        let (month, day, year) = (row.day.month(), row.day.day(), row.day.year());
        let account = self.about.account;
        let cells = [
            format!("{month}/{day}/{year}"),
            account.name.clone(),
            account.currency.code.to_owned(),
            row.campaign_id.to_string(),
            row.campaign_name.clone(),
            "Active".to_owned(),
            n.decimal(cost, 2),
            n.whole(impressions),
            n.whole(clicks),
            n.decimal(conversions, 0),
            n.decimal(revenue, 2),
        ];
        let mut cells: Vec<&str> = cells.iter().map(String::as_str).collect();
        if !account.reports_revenue {
            cells.pop();
        }
        self.sheet.line(&cells)?;
        Ok(NotSaid::default())
    }

    fn end(&mut self, _: &Sums) -> io::Result<()> {
        Ok(())
    }
}

//! TikTok Ads Manager, a report of campaigns by day: ids as `="1234…"`, amounts with three decimals whatever the
//! currency, and small numbers masked as `<5`.

use std::io::{self, Write};

use super::ledger::Sums;
use super::sheet::{Dialect, Numbers, Sheet};
use super::{About, FileWriter, NotSaid, Row};

/// From so many conversions on, in millionths, none are masked.
const MASKED_BELOW: i128 = 5_000_000;

/// One file.
pub(super) struct File<'a> {
    about: About<'a>,
    sheet: Sheet<'a>,
}

impl<'a> File<'a> {
    pub(super) fn new(about: About<'a>, out: &'a mut dyn Write) -> File<'a> {
        let dialect = Dialect {
            separator: ',',
            utf16: false,
            mark: false,
            line_end: "\n",
        };
        File {
            about,
            sheet: Sheet::new(out, dialect),
        }
    }
}

impl FileWriter for File<'_> {
    fn begin(&mut self, _: &Sums) -> io::Result<()> {
        let mut header = vec![
            "Date",
            "Campaign Name",
            "Campaign ID",
            "Currency",
            "Cost",
            "Impression(s)",
            "Clicks (Destination)",
            "Conversions",
            "Total Complete Payment",
        ];
        if self.about.account.reports_revenue {
            header.push("Total Complete Payment Value");
        }
        self.sheet.line(&header)
    }

    fn row(&mut self, row: &Row) -> io::Result<NotSaid> {
        let n = Numbers::PLAIN;
        let account = self.about.account;
        let [impressions, clicks, conversions, cost, revenue] =
            row.counts.numbers().map(i128::from);
        let is_masked = row.is_masked && (1..MASKED_BELOW).contains(&conversions);
        let conversions = if is_masked {
            "<5".to_owned()
        } else {
            n.decimal(conversions, 0)
        };
        let cells = [
            row.day.to_string(),
            row.campaign_name.clone(),
            format!("=\"{}\"", row.campaign_id),
            account.currency.code.to_owned(),
            n.decimal(cost, 3),
            n.whole(impressions),
            n.whole(clicks),
            conversions.clone(),
            conversions,
            n.decimal(revenue, 3),
        ];
        let mut cells: Vec<&str> = cells.iter().map(String::as_str).collect();
        if !account.reports_revenue {
            cells.pop();
        }
        self.sheet.line(&cells)?;
        Ok(NotSaid {
            conversions: is_masked,
            revenue: false,
        })
    }

    fn end(&mut self, _: &Sums) -> io::Result<()> {
        Ok(())
    }
}

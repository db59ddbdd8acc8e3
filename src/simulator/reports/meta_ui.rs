//! Meta Ads Manager, a table of campaigns by day, exported as .csv.
//!
//! The currency stands in a header. The first row is a summary and has no name. Where nothing was bought, the cells of
//! purchases are empty. What `Results` counts differs from campaign to campaign, and so does the attribution setting. An
//! export without rows says so in one.

use std::io::{self, Write};

use super::ledger::Sums;
use super::sheet::{Dialect, Numbers, Sheet};
use super::{About, FileWriter, NotSaid, Row};

/// The share of all clicks that lead out of Meta, in a hundred.
const LINK_PERCENT: i128 = 80;

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
            mark: true,
            line_end: "\n",
        };
        File {
            about,
            sheet: Sheet::new(out, dialect),
        }
    }

    /// Six cells for what a row is of, two for its result, and its measures.
    fn line(
        &mut self,
        first: [&str; 6],
        result: [&str; 2],
        [impressions, clicks, conversions, cost, revenue]: [i128; 5],
    ) -> io::Result<()> {
        let (n, currency) = (Numbers::PLAIN, self.about.account.currency);
        let purchases = n.decimal(conversions, 0);
        let revenue = n.decimal(revenue, currency.needed_decimals());
        let (purchases, revenue) = if conversions == 0 {
            ("", "")
        } else {
            (&*purchases, &*revenue)
        };
        let (shown, all) = (n.whole(impressions), n.whole(clicks));
        let link = n.whole(clicks * LINK_PERCENT / 100);
        let cost = n.decimal(cost, currency.needed_decimals());
        let mut cells = first.to_vec();
        cells.extend(result);
        cells.extend([&*shown, &all, &link, &cost, purchases]);
        if self.about.account.reports_revenue {
            cells.push(revenue);
        }
        self.sheet.line(&cells)
    }
}

impl FileWriter for File<'_> {
    fn begin(&mut self, sums: &Sums) -> io::Result<()> {
        let spent = format!("Amount spent ({})", self.about.account.currency.code);
        let mut header = vec![
            "Reporting starts",
            "Reporting ends",
            "Campaign name",
            "Campaign ID",
            "Campaign delivery",
            "Attribution setting",
            "Results",
            "Result indicator",
            "Impressions",
            "Clicks (all)",
            "Link clicks",
            &spent,
            "Purchases",
        ];
        if self.about.account.reports_revenue {
            header.push("Purchases conversion value");
        }
        self.sheet.line(&header)?;
        if sums.rows == 0 {
            return self.sheet.line(&["No data available."]);
        }
        let export = self.about.export;
        let (first, last) = (export.first.to_string(), export.last().to_string());
        let measures = [
            sums.impressions,
            sums.clicks,
            sums.conversions,
            sums.cost,
            sums.revenue,
        ];
        self.line([&first, &last, "", "", "", ""], ["", ""], measures)
    }

    fn row(&mut self, row: &Row) -> io::Result<NotSaid> {
        let measures = row.counts.numbers().map(i128::from);
        let [_, clicks, conversions, ..] = measures;
        let n = Numbers::PLAIN;
        let (result, indicator) = if row.campaign % 4 == 3 {
            (n.whole(clicks * LINK_PERCENT / 100), "actions:link_click")
        } else if conversions == 0 {
            (String::new(), "")
        } else {
            let purchases = n.decimal(conversions, 0);
            (purchases, "actions:offsite_conversion.fb_pixel_purchase")
        };
        let setting = if row.campaign % 8 == 6 {
            "7-day click"
        } else {
            "7-day click or 1-day view"
        };
        let (day, id) = (row.day.to_string(), row.campaign_id.to_string());
        let first = [&day, &day, &*row.campaign_name, &id, "active", setting];
        self.line(first, [&result, indicator], measures)?;
        Ok(NotSaid {
            conversions: conversions == 0,
            revenue: conversions == 0 && row.has_revenue,
        })
    }

    fn end(&mut self, _: &Sums) -> io::Result<()> {
        Ok(())
    }
}

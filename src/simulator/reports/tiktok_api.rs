//! What TikTok's `report/integrated/get` answers for campaigns by day: all numbers are strings, days are times, and
//! `total_complete_payment_rate` is an amount of money.

use std::io::{self, Write};

use serde_json::json;

use super::ledger::Sums;
use super::sheet::Numbers;
use super::{About, FileWriter, NotSaid, Row};

/// The most rows that are asked for at once, unless there are more: all are on one page here.
const PAGE: u64 = 1_000;

/// One file.
pub(super) struct File<'a> {
    about: About<'a>,
    out: &'a mut dyn Write,
    rows: u64,
}

impl<'a> File<'a> {
    pub(super) fn new(about: About<'a>, out: &'a mut dyn Write) -> File<'a> {
        File {
            about,
            out,
            rows: 0,
        }
    }
}

impl FileWriter for File<'_> {
    fn begin(&mut self, _: &Sums) -> io::Result<()> {
        self.out
            .write_all(b"{\"code\":0,\"message\":\"OK\",\"request_id\":\"20260101000000SIMULATED\",\"data\":{\"list\":[")
    }

    fn row(&mut self, row: &Row) -> io::Result<NotSaid> {
        let n = Numbers::PLAIN;
        let account = self.about.account;
        let decimals = account.currency.needed_decimals();
        let [_, _, conversions, cost, revenue] = row.counts.numbers().map(i128::from);
        let conversions = n.decimal(conversions, 0);
        let mut item = json!({
            "dimensions": {
                "campaign_id": row.campaign_id.to_string(),
                "stat_time_day": format!("{} 00:00:00", row.day),
            },
            "metrics": {
                "campaign_name": row.campaign_name,
                "currency": account.currency.code,
                "spend": n.decimal(cost, decimals),
                "impressions": row.counts.impressions.to_string(),
                "clicks": row.counts.clicks.to_string(),
                "conversion": conversions,
                "complete_payment": conversions,
            },
        });
        if row.has_revenue {
            item["metrics"]["total_complete_payment_rate"] = n.decimal(revenue, decimals).into();
        }
        let separator: &[u8] = if self.rows == 0 { b"\n" } else { b",\n" };
        self.out.write_all(separator)?;
        self.rows += 1;
        serde_json::to_writer(&mut *self.out, &item)?;
        Ok(NotSaid::default())
    }

    fn end(&mut self, sums: &Sums) -> io::Result<()> {
        let (rows, size) = (sums.rows, sums.rows.max(PAGE));
        let page = json!({ "page": 1, "page_size": size, "total_number": rows, "total_page": 1 });
        writeln!(self.out, "\n],\"page_info\":{page}}}}}")
    }
}

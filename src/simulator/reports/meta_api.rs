//! What Meta's insights answer at the level of campaigns with `time_increment=1`: all numbers are strings, and one
//! purchase stands under several types of action, of which one may be counted.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::ledger::Sums;
use super::sheet::Numbers;
use super::{About, FileWriter, NotSaid, Row};

/// The types under which Meta gives the same purchases.
const PURCHASES: [&str; 5] = [
    "omni_purchase",
    "purchase",
    "offsite_conversion.fb_pixel_purchase",
    "web_in_store_purchase",
    "onsite_web_purchase",
];

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

fn action(kind: &str, value: &str) -> Value {
    json!({ "action_type": kind, "value": value })
}

impl FileWriter for File<'_> {
    fn begin(&mut self, _: &Sums) -> io::Result<()> {
        self.out.write_all(b"{\"data\":[")
    }

    fn row(&mut self, row: &Row) -> io::Result<NotSaid> {
        let n = Numbers::PLAIN;
        let account = self.about.account;
        let decimals = account.currency.needed_decimals();
        let [_, clicks, conversions, cost, revenue] = row.counts.numbers().map(i128::from);
        let mut insight = json!({
            "account_id": account.id.to_string(),
            "account_name": account.name,
            "account_currency": account.currency.code,
            "campaign_id": row.campaign_id.to_string(),
            "campaign_name": row.campaign_name,
            "date_start": row.day.to_string(),
            "date_stop": row.day.to_string(),
            "impressions": row.counts.impressions.to_string(),
            "clicks": row.counts.clicks.to_string(),
            "spend": n.decimal(cost, decimals),
        });
        // What did not happen has no entry, and where nothing happened there is no list.
        let mut actions = Vec::new();
        if clicks > 0 {
            actions.push(action("link_click", &n.whole(clicks)));
        }
        if conversions > 0 {
            let purchases = n.decimal(conversions, 0);
            actions.extend(PURCHASES.map(|kind| action(kind, &purchases)));
            if row.has_revenue {
                let value = n.decimal(revenue, decimals);
                insight["action_values"] =
                    PURCHASES.map(|kind| action(kind, &value)).to_vec().into();
            }
        }
        if !actions.is_empty() {
            insight["actions"] = actions.into();
        }
        let separator: &[u8] = if self.rows == 0 { b"\n" } else { b",\n" };
        self.out.write_all(separator)?;
        self.rows += 1;
        serde_json::to_writer(&mut *self.out, &insight)?;
        Ok(NotSaid::default())
    }

    fn end(&mut self, _: &Sums) -> io::Result<()> {
        // One page, however long: there is no `next`.
        let cursors =
            b"\n],\"paging\":{\"cursors\":{\"before\":\"MAZDZD\",\"after\":\"MQZDZD\"}}}\n";
        self.out.write_all(cursors)
    }
}

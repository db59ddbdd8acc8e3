//! What `googleAds:searchStream` answers: a list of batches, in camelCase, with 64-bit integers as strings.

use std::io::{self, Write};

use serde_json::json;

use super::ledger::Sums;
use super::{About, FileWriter, NotSaid, Row};

/// The most rows in a batch.
const BATCH: u64 = 10_000;

/// What was asked for.
const FIELDS: &str = "customer.id,customer.descriptiveName,customer.currencyCode,customer.timeZone,campaign.id,campaign.name,\
                      campaign.status,segments.date,metrics.impressions,metrics.clicks,metrics.costMicros,metrics.conversions";

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

    fn end_batch(&mut self) -> io::Result<()> {
        let value = if self.about.account.reports_revenue {
            ",metrics.conversionsValue"
        } else {
            ""
        };
        let request = (self.rows - 1) / BATCH + 1;
        write!(
            self.out,
            "\n],\"fieldMask\":\"{FIELDS}{value}\",\"requestId\":\"simulated{request:07}\"}}"
        )
    }
}

impl FileWriter for File<'_> {
    fn begin(&mut self, _: &Sums) -> io::Result<()> {
        self.out.write_all(b"[")
    }

    fn row(&mut self, row: &Row) -> io::Result<NotSaid> {
        let in_batch = self.rows % BATCH;
        if in_batch == 0 && self.rows > 0 {
            self.end_batch()?;
            self.out.write_all(b",")?;
        }
        let separator: &[u8] = if in_batch == 0 {
            b"{\"results\":[\n"
        } else {
            b",\n"
        };
        self.out.write_all(separator)?;
        self.rows += 1;
        let account = self.about.account;
        let customer = format!("customers/{}", account.id);
        let campaign = format!("{customer}/campaigns/{}", row.campaign_id);
        let counts = row.counts;
        let mut result = json!({
            "customer": {
                "resourceName": customer,
                "id": account.id.to_string(),
                "descriptiveName": account.name,
                "currencyCode": account.currency.code,
                "timeZone": account.zone.name(),
            },
            "campaign": {
                "resourceName": campaign,
                "status": "ENABLED",
                "name": row.campaign_name,
                "id": row.campaign_id.to_string(),
            },
            "metrics": {
                "clicks": counts.clicks.to_string(),
                "costMicros": counts.cost_micros.to_string(),
                "impressions": counts.impressions.to_string(),
                "conversions": counts.conversions.in_units(),
            },
            "segments": { "date": row.day.to_string() },
        });
        if row.has_revenue {
            result["metrics"]["conversionsValue"] = counts.revenue_micros.in_units().into();
        }
        serde_json::to_writer(&mut *self.out, &result)?;
        Ok(NotSaid::default())
    }

    fn end(&mut self, _: &Sums) -> io::Result<()> {
        if self.rows > 0 {
            self.end_batch()?;
        }
        self.out.write_all(b"]\n")
    }
}

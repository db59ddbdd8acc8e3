//! Report rows: what a platform says of the days of some campaigns, told again and again. More and more days are told, and of
//! each the numbers change, are the same, are withdrawn, come late or twice.

use std::collections::BTreeMap;

use adflux::codec;
use adflux::currency::Currency;
use adflux::event::{CampaignId, MILLION, Platform};
use adflux::report_row::{self, Definition, Origin};
use adflux::time::Timestamp;
use chrono::{Days, NaiveDate};
use rand::RngExt as _;
use rand::seq::IteratorRandom as _;
use rand_chacha::ChaCha8Rng;

use super::Record;
use crate::ledger::reports::{Key, ReportRow, Values};
use crate::ledger::{Fate, Ledger};

/// How the ids of the campaigns begin.
const ACCOUNT: &str = "google:7:";
const CAMPAIGNS: usize = 6;
/// Every other campaign is told by these.
const AD_GROUPS: [&str; 3] = ["ad_group=1", "ad_group=2", "ad_group=3"];
/// So many days are told at first, and one more for so many rows: of none is so much known that some of it is forgotten.
const DAYS: u64 = 10;
const ROWS_A_DAY: u64 = 500;
/// The platform is asked again after this, at the most.
const HOUR: i64 = 3_600_000_000;

/// Whether a campaign's numbers are told by a platform: what is told again may be less.
pub fn is_reported(campaign: &str) -> bool {
    campaign.starts_with(ACCOUNT)
}

/// See the module.
pub struct Reports {
    /// What was said of each key, by when the platform was asked.
    said: BTreeMap<Key, BTreeMap<i64, Values>>,
    rows: u64,
}

/// The last of the days that are told, and the first on which the platform is asked.
fn june_and_july() -> (NaiveDate, i64) {
    let day = |month, day| NaiveDate::from_ymd_opt(2024, month, day).expect("a day");
    let midnight = day(7, 15).and_hms_opt(0, 0, 0).expect("an instant");
    (day(6, 30), midnight.and_utc().timestamp_micros())
}

impl Reports {
    pub fn new() -> Reports {
        Reports {
            said: BTreeMap::new(),
            rows: 0,
        }
    }

    /// The next row.
    pub fn next(&mut self, random: &mut ChaCha8Rng, ledger: &mut Ledger) -> Record {
        self.rows += 1;
        let key = self.key(random, ledger);
        let said = self.said.entry(key).or_default();
        let newer = newer(said, random);
        let newest = said
            .last_key_value()
            .map(|(instant, said)| (*instant, *said));
        let (observed_at, values) = match (random.random_range(0..100), newest) {
            // Twice.
            (0..8, Some(_)) => {
                let before = said.iter().choose(random).expect("something was said");
                (*before.0, *before.1)
            }
            // Late: it was said before, or before all of them.
            (8..20, Some((newest, _))) => {
                let first = said.keys().next().map_or(newest, |first| *first);
                let mut instant = random.random_range(first - HOUR..newest);
                while said.contains_key(&instant) {
                    instant -= 1;
                }
                let before = said.range(..instant).next_back().map(|(_, said)| *said);
                let values = match (random.random_range(0..10), before) {
                    (0..3, Some(same)) => same,
                    (3, _) => None,
                    _ => Some(values(random)),
                };
                (instant, values)
            }
            (20..35, Some((_, same))) => (newer, same),
            // Withdrawn.
            (35..40, _) => (newer, None),
            _ => (newer, Some(values(random))),
        };
        said.insert(observed_at, values);
        let row = ReportRow {
            key,
            observed_at,
            values,
        };
        let fate = Fate::Report(ledger.report(row));
        record(&row, fate, ledger)
    }

    /// A row that must become a dead letter, given what was said before it, of its campaign and so on its partition; none where
    /// nothing was.
    pub fn malformed(&self, random: &mut ChaCha8Rng, ledger: &Ledger) -> Option<Record> {
        let (&key, said) = self.said.iter().choose(random)?;
        let mut row = ReportRow {
            key,
            observed_at: newer(said, random),
            values: Some(values(random)),
        };
        let reason = match random.random_range(0..4) {
            0 => {
                let (instant, said) = said.iter().choose(random)?;
                row.observed_at = *instant;
                row.values = Some(said.map_or([0; 5], |[n, others @ ..]| {
                    let [a, b, c, d] = others;
                    [n + 1, a, b, c, d]
                }));
                "conflicting_report"
            }
            1 => {
                // As long as it says something, the day is of one grain.
                said.last_key_value().and_then(|(_, newest)| *newest)?;
                row.key.slice = match key.slice {
                    "" => AD_GROUPS[0],
                    _ => "",
                };
                "mixed_report"
            }
            2 => {
                row.key.day = NaiveDate::from_ymd_opt(2100, 1, 1).expect("a day");
                "invalid_day"
            }
            _ => "invalid_currency",
        };
        let mut record = record(&row, Fate::Dead(reason), ledger);
        if reason == "invalid_currency" {
            let code = record.payload.windows(3).position(|bytes| bytes == b"ZAR");
            record.payload[code.expect("the currency")] = b'?';
        }
        Some(record)
    }

    fn key(&self, random: &mut ChaCha8Rng, ledger: &mut Ledger) -> Key {
        let campaign = random.random_range(0..CAMPAIGNS);
        let before = random.random_range(0..DAYS + self.rows / ROWS_A_DAY);
        let (last, _) = june_and_july();
        Key {
            campaign: ledger.campaign(&format!("{ACCOUNT}lab-{campaign}")),
            day: last - Days::new(before),
            slice: match campaign % 2 {
                0 => "",
                _ => AD_GROUPS[random.random_range(0..AD_GROUPS.len())],
            },
        }
    }
}

/// An instant at which the platform may be asked again.
fn newer(said: &BTreeMap<i64, Values>, random: &mut ChaCha8Rng) -> i64 {
    let (_, first) = june_and_july();
    let last = said.keys().next_back().map_or(first, |last| *last);
    last + random.random_range(1..HOUR)
}

fn values(random: &mut ChaCha8Rng) -> [i64; 5] {
    let clicks = random.random_range(0..50);
    [
        random.random_range(clicks..5_000),
        clicks,
        // What is attributed by a model has a fraction.
        random.random_range(0..=clicks) * MILLION / 4,
        random.random_range(0..20_000_000),
        random.random_range(0..90_000_000),
    ]
}

fn record(row: &ReportRow, fate: Fate, ledger: &Ledger) -> Record {
    let campaign = &ledger.campaigns()[row.key.campaign as usize];
    let told = report_row::ReportRow {
        campaign_id: CampaignId::parse(campaign).expect("a campaign id"),
        campaign_name: "Laboratory",
        definition: Definition {
            platform: Platform::Google,
            account: "7",
            time_zone: chrono_tz::Africa::Johannesburg,
            currency: Currency::from_code("ZAR").expect("a currency"),
            conversions: "purchase",
            revenue: "",
        },
        day: row.key.day,
        slice: row.key.slice,
        observed_at: Timestamp::new(row.observed_at),
        values: report_row::Values::of(match row.values {
            Some(numbers) => numbers.map(Some),
            None => [None; 5],
        }),
        origin: Origin::default(),
    };
    let mut payload = Vec::new();
    codec::report::encode(&told, codec::SchemaIds::OWN.report, &mut payload);
    Record {
        key: campaign.as_bytes().to_vec(),
        payload,
        fate,
    }
}

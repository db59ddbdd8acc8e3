//! Σ event store = Σ projections = Σ ledger, for each campaign and platform, by the minute, the hour,
//! the day and in all.

use std::collections::HashMap;

use diesel::sql_types::{BigInt, SmallInt, Text};
use diesel::{PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query};
use uuid::Uuid;

use super::Violations;
use crate::ledger::reports::Reported;
use crate::ledger::{CONVERSIONS, Event, Ledger, SUM_NAMES, Sums};

pub const BY_MINUTE: &str = "metrics_by_minute is the sum of what was acknowledged";
pub const BY_HOUR: &str = "metrics_by_hour is the sum of what was acknowledged";
pub const BY_DAY: &str = "metrics_by_day is the sum of what was acknowledged";
pub const TOTAL: &str = "metrics_total is the sum of what was acknowledged";

const MINUTE: i64 = 60_000_000;

/// A table of sums, and the length of its intervals in microseconds; none: all time.
const GRAINS: [(&str, Option<i64>, &str); 4] = [
    ("metrics_by_minute", Some(MINUTE), BY_MINUTE),
    ("metrics_by_hour", Some(60 * MINUTE), BY_HOUR),
    ("metrics_by_day", Some(24 * 60 * MINUTE), BY_DAY),
    ("metrics_total", None, TOTAL),
];

pub const STORE_SUMS: &str = "the event store's sums are those of what was acknowledged";

/// What is summed up together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    campaign: u32,
    platform: u8,
    /// Beginning of the interval, in microseconds since 1970; 0 for all time.
    start: i64,
}

impl Key {
    /// The minute of an event.
    pub fn of(event: &Event) -> Key {
        Key {
            campaign: event.campaign,
            platform: event.platform,
            start: event.time - event.time.rem_euclid(MINUTE),
        }
    }
}

/// Sums by key.
#[derive(Default)]
pub struct ByMinute(HashMap<Key, Sums>);

impl ByMinute {
    /// Adds to a minute.
    pub fn add(&mut self, key: Key, more: Sums) {
        let sums = self.0.entry(key).or_default();
        for (sum, more) in sums.iter_mut().zip(more) {
            *sum += more;
        }
    }

    /// The sums of every event of which a copy was acknowledged, and of the newest that was said of each day.
    fn of(ledger: &Ledger, reported: &Reported) -> ByMinute {
        let mut sums = ByMinute::default();
        for (event, copies) in ledger.events().iter().zip(ledger.copies()) {
            if copies > 0 {
                sums.add(Key::of(event), event.sums());
            }
        }
        for (key, said) in &reported.keys {
            sums.add(Key::of(&key.event(Uuid::nil(), [0; 5])), said.sums());
        }
        sums
    }

    fn rolled_up(&self, length: Option<i64>) -> ByMinute {
        let mut coarser = ByMinute::default();
        for (key, sums) in &self.0 {
            let start = length.map_or(0, |length| key.start - key.start.rem_euclid(length));
            coarser.add(Key { start, ..*key }, *sums);
        }
        coarser
    }
}

/// Compares the three.
pub fn check_sums(
    connection: &mut PgConnection,
    ledger: &Ledger,
    reported: &Reported,
    stored: &ByMinute,
    violations: &mut Violations,
) -> QueryResult<()> {
    let expected = ByMinute::of(ledger, reported);
    compare(STORE_SUMS, ledger, &expected, stored, violations);
    for (table, length, what) in GRAINS {
        let found = load(connection, table, length, ledger, violations)?;
        compare(
            what,
            ledger,
            &expected.rolled_up(length),
            &found,
            violations,
        );
    }
    Ok(())
}

fn compare(
    what: &'static str,
    ledger: &Ledger,
    expected: &ByMinute,
    found: &ByMinute,
    violations: &mut Violations,
) {
    let mut keys: Vec<&Key> = expected.0.keys().chain(found.0.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        let (expected, found) = (expected.0.get(key), found.0.get(key));
        if expected != found {
            let campaign = ledger
                .campaigns()
                .get(key.campaign as usize)
                .map_or("a campaign nobody sent", String::as_str);
            let place = format!(
                "campaign {campaign} on platform {} from {}",
                key.platform, key.start
            );
            violations.add(
                what,
                place,
                difference(expected, found),
                difference(found, expected),
            );
        }
    }
}

/// The values of one side that the other does not have.
fn difference(one: Option<&Sums>, other: Option<&Sums>) -> String {
    let Some(one) = one else {
        return "nothing".to_owned();
    };
    let differing = SUM_NAMES
        .iter()
        .zip(one)
        .enumerate()
        .filter(|(at, (_, value))| other.is_none_or(|other| other[*at] != **value))
        .map(|(_, (name, value))| format!("{name} {value}"));
    differing.collect::<Vec<_>>().join(", ")
}

fn load(
    connection: &mut PgConnection,
    table: &str,
    length: Option<i64>,
    ledger: &Ledger,
    violations: &mut Violations,
) -> QueryResult<ByMinute> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        campaign_id: String,
        #[diesel(sql_type = SmallInt)]
        platform: i16,
        #[diesel(sql_type = BigInt)]
        start: i64,
        #[diesel(sql_type = BigInt)]
        events: i64,
        #[diesel(sql_type = BigInt)]
        impressions: i64,
        #[diesel(sql_type = BigInt)]
        clicks: i64,
        #[diesel(sql_type = BigInt)]
        conversions: i64,
        #[diesel(sql_type = BigInt)]
        cost_micros: i64,
        #[diesel(sql_type = BigInt)]
        revenue_micros: i64,
    }
    let start = match length {
        Some(_) => {
            let column = table.trim_start_matches("metrics_by_");
            format!("(extract(epoch FROM {column}) * 1000000)::bigint")
        }
        None => "0::bigint".to_owned(),
    };
    let rows: Vec<Row> = sql_query(format!(
        "SELECT campaign_id, platform, {start} AS start, events, impressions, clicks, {CONVERSIONS}, cost_micros, \
             revenue_micros FROM {table}"
    ))
    .load(connection)?;
    let mut sums = ByMinute::default();
    for row in rows {
        let Some(campaign) = ledger.campaign_number(&row.campaign_id) else {
            violations.add(
                "only what was sent is counted",
                format!("campaign {} in {table}", row.campaign_id),
                "no row",
                format!("{} events", row.events),
            );
            continue;
        };
        let key = Key {
            campaign,
            platform: u8::try_from(row.platform).unwrap_or(u8::MAX),
            start: row.start,
        };
        let values = [
            row.events,
            row.impressions,
            row.clicks,
            row.conversions,
            row.cost_micros,
            row.revenue_micros,
        ];
        sums.add(key, values.map(i128::from));
    }
    Ok(sums)
}

//! What platforms said of campaigns' days: every report row that was sent, in order, and what must be known once those that
//! Kafka acknowledged were read.
//!
//! The rows of a campaign are read in the order in which they were sent: the producer is idempotent, and they have one key. So
//! of each row it is known what it must have been: news, a copy, the same again, or late.

use std::collections::{BTreeMap, HashMap};

use chrono::NaiveDate;
use uuid::Uuid;

use super::{Event, Fate, Ledger, Sums};

/// What is told again and again: a campaign's day, or a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Index into [`Ledger::campaigns`].
    pub campaign: u32,
    pub day: NaiveDate,
    /// As `ad_group=1`; empty: the whole campaign.
    pub slice: &'static str,
}

/// As [`Event::counts`]; none: all of it is unknown.
pub type Values = Option<[i64; 5]>;

/// What a platform said of a key when it was asked.
#[derive(Clone, Copy, Debug)]
pub struct ReportRow {
    pub key: Key,
    /// Microseconds since 1970.
    pub observed_at: i64,
    pub values: Values,
}

/// A report row of the ledger. They ascend in the order in which the rows were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReportIndex(u32);

/// What a row must have been to whoever read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Newer than what was known and something else: by how much, is counted.
    Restated([i64; 5]),
    /// Of this very instant, known.
    Duplicate,
    /// Newer than what was known, and the same.
    Unchanged,
    /// Older than what was known.
    Superseded,
}

/// What was said of a key.
#[derive(Default)]
pub struct Said {
    by_instant: BTreeMap<i64, Values>,
    /// How many events it took to come to what counts.
    restatements: i128,
}

/// From when on a platform said something, when it was found to say it still, and what that was.
pub struct Revision {
    pub observed_at: i64,
    pub confirmed_at: Vec<i64>,
    pub values: Values,
}

impl Key {
    /// An event in which this much more of it is counted. It is of noon in South Africa, where the accounts are and clocks are
    /// never set.
    pub fn event(&self, id: Uuid, counts: [i64; 5]) -> Event {
        let noon = self.day.and_hms_opt(10, 0, 0).expect("an instant");
        Event {
            id,
            time: noon.and_utc().timestamp_micros(),
            campaign: self.campaign,
            // Google.
            platform: 1,
            counts,
        }
    }
}

impl Said {
    fn hear(&mut self, row: &ReportRow) -> Outcome {
        let newest = self.by_instant.last_key_value();
        let newest = newest.map(|(instant, values)| (*instant, *values));
        let known = self.by_instant.insert(row.observed_at, row.values);
        match newest {
            _ if known.is_some() => Outcome::Duplicate,
            Some((instant, _)) if row.observed_at < instant => Outcome::Superseded,
            Some((_, values)) if row.values == values => Outcome::Unchanged,
            _ => {
                self.restatements += 1;
                let before = newest.and_then(|(_, values)| values).unwrap_or_default();
                let now = row.values.unwrap_or_default();
                Outcome::Restated(std::array::from_fn(|n| now[n] - before[n]))
            }
        }
    }

    /// What counts.
    pub fn newest(&self) -> Values {
        self.by_instant.last_key_value().and_then(|(_, v)| *v)
    }

    /// What it adds to the sums.
    pub fn sums(&self) -> Sums {
        let [impressions, clicks, conversions, cost, revenue] =
            self.newest().unwrap_or_default().map(i128::from);
        let events = self.restatements;
        [events, impressions, clicks, conversions, cost, revenue]
    }

    /// Each change of it, the newest last.
    pub fn revisions(&self) -> Vec<Revision> {
        let mut revisions: Vec<Revision> = Vec::new();
        for (&instant, &values) in &self.by_instant {
            match revisions.last_mut() {
                Some(last) if last.values == values => last.confirmed_at.push(instant),
                _ => revisions.push(Revision {
                    observed_at: instant,
                    confirmed_at: Vec::new(),
                    values,
                }),
            }
        }
        revisions
    }
}

/// What must have become of all that was acknowledged.
pub struct Reported {
    pub keys: BTreeMap<Key, Said>,
    /// By partition and offset.
    pub outcomes: HashMap<(i32, i64), Outcome>,
}

impl Reported {
    /// How many of a partition's rows had an outcome.
    pub fn count(&self, partition: i32, of: impl Fn(&Outcome) -> bool) -> i64 {
        let own = self.outcomes.iter().filter(|((p, _), _)| *p == partition);
        own.filter(|(_, outcome)| of(outcome)).count() as i64
    }
}

impl Ledger {
    /// Notes a report row that is about to be sent, be it for the first time or again.
    pub fn report(&mut self, row: ReportRow) -> ReportIndex {
        let index = u32::try_from(self.reports.len()).expect("fewer rows than 2^32");
        self.reports.push(row);
        ReportIndex(index)
    }

    /// One report row.
    pub fn get_report(&self, index: ReportIndex) -> &ReportRow {
        &self.reports[index.0 as usize]
    }

    /// How many report rows were acknowledged.
    pub fn report_rows(&self) -> usize {
        let fates = self.log.values().flatten().flatten();
        fates.filter(|fate| matches!(fate, Fate::Report(_))).count()
    }

    /// What must be known of reports.
    pub fn reported(&self) -> Reported {
        let mut read: Vec<(ReportIndex, (i32, i64))> = Vec::new();
        for (&partition, log) in &self.log {
            for (offset, fate) in (0..).zip(log) {
                if let Some(Fate::Report(index)) = fate {
                    read.push((*index, (partition, offset)));
                }
            }
        }
        read.sort_unstable();
        let mut keys: BTreeMap<Key, Said> = BTreeMap::new();
        let mut outcomes = HashMap::with_capacity(read.len());
        for (index, place) in read {
            let row = self.get_report(index);
            outcomes.insert(place, keys.entry(row.key).or_default().hear(row));
        }
        Reported { keys, outcomes }
    }
}

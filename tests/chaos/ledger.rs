//! The independent ledger: every record that Kafka acknowledged, and what must become of it.
//!
//! It is filled by the producer's delivery reports alone, and adds its sums up with code of its own:
//! an error in the product's sums must not be repeated here. An event is noted once, when it is first
//! sent; each acknowledged copy of it names it. So what was lost, doubled or swapped can be said by
//! id and offset, and 3,000,000 events take some 300 MB. What platforms say of days has rules of its
//! own ([`reports`]).

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;

use reports::{ReportIndex, ReportRow};
use uuid::Uuid;

pub mod reports;

/// Sums as they stand side by side everywhere here: events, impressions, clicks, conversions in
/// millionths, cost and revenue in micros.
pub type Sums = [i128; 6];

/// Conversions of the views, in millionths.
pub const CONVERSIONS: &str = "(conversions * 1000000)::bigint AS conversions";

/// What each of [`Sums`] is called, in the tables of the database too.
pub const SUM_NAMES: [&str; 6] = [
    "events",
    "impressions",
    "clicks",
    "conversions",
    "cost_micros",
    "revenue_micros",
];

/// What must be counted exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub id: Uuid,
    /// Microseconds since 1970.
    pub time: i64,
    /// Index into [`Ledger::campaigns`].
    pub campaign: u32,
    /// As `event_blocks.platform` numbers them.
    pub platform: u8,
    /// Impressions, clicks, conversions in millionths, cost and revenue in micros.
    pub counts: [i64; 5],
}

impl Event {
    /// What it adds to the sums.
    pub fn sums(&self) -> Sums {
        let [impressions, clicks, conversions, cost, revenue] = self.counts.map(i128::from);
        [1, impressions, clicks, conversions, cost, revenue]
    }
}

/// An event of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventIndex(u32);

/// What must become of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It carries this event: the one copy that is counted, or one of the duplicates.
    Event(EventIndex),
    /// It carries this report row, of which [`Ledger::reported`] says what it must have been.
    Report(ReportIndex),
    /// It becomes a dead letter with this reason.
    Dead(&'static str),
}

/// See the module.
#[derive(Clone, Default)]
pub struct Ledger {
    campaigns: Vec<String>,
    campaign_index: HashMap<String, u32>,
    events: Vec<Event>,
    /// In the order in which they were sent.
    reports: Vec<ReportRow>,
    /// By partition and offset; none where nothing was acknowledged.
    log: BTreeMap<i32, Vec<Option<Fate>>>,
    sent: u64,
    acknowledged: u64,
}

impl Ledger {
    /// What it says of the records on some partitions alone, all of which are acknowledged.
    pub fn within(&self, partitions: &RangeInclusive<i32>) -> Ledger {
        let of = self.log.range(partitions.clone());
        let log: BTreeMap<i32, Vec<Option<Fate>>> = of.map(|(p, log)| (*p, log.clone())).collect();
        let records = log.values().flatten().flatten().count() as u64;
        Ledger {
            sent: records,
            acknowledged: records,
            log,
            ..self.clone()
        }
    }

    /// The number of a campaign in this ledger.
    pub fn campaign(&mut self, id: &str) -> u32 {
        if let Some(&index) = self.campaign_index.get(id) {
            return index;
        }
        let index = u32::try_from(self.campaigns.len()).expect("fewer campaigns than 2^32");
        self.campaigns.push(id.to_owned());
        self.campaign_index.insert(id.to_owned(), index);
        index
    }

    /// Notes an event that is about to be sent for the first time.
    pub fn event(&mut self, event: Event) -> EventIndex {
        let index = u32::try_from(self.events.len()).expect("fewer events than 2^32");
        self.events.push(event);
        EventIndex(index)
    }

    /// Notes that a record is on its way.
    pub fn sent(&mut self) {
        self.sent += 1;
    }

    /// Notes where Kafka says that a record is. One that was sent again after the broker was restarted it may only
    /// say to have, and not where (the offset is negative). The producer is idempotent, so those of a partition are
    /// acknowledged in the order of the log, and it is the next one.
    pub fn acknowledged(&mut self, partition: i32, offset: i64, fate: Fate) {
        self.acknowledged += 1;
        let log = self.log.entry(partition).or_default();
        let at = usize::try_from(offset).unwrap_or(log.len());
        if log.len() <= at {
            log.resize(at + 1, None);
        }
        // Two records at one offset: not every record has a place, which `without_a_place` says.
        log[at] = Some(fate);
    }

    /// Notes that a partition's log ends here: what comes after the last record holds none (the markers of
    /// transactions, records of one that was aborted).
    pub fn ends_at(&mut self, partition: i32, end: i64) {
        let log = self.log.entry(partition).or_default();
        log.resize(log.len().max(end as usize), None);
    }

    /// Notes that a person gave up these offsets of a partition: as if no record had been sent there.
    pub fn gave_up(&mut self, partition: i32, offsets: std::ops::Range<i64>) {
        let log = self.log.entry(partition).or_default();
        for fate in &mut log[offsets.start as usize..offsets.end as usize] {
            if fate.take().is_some() {
                self.sent -= 1;
                self.acknowledged -= 1;
            }
        }
    }

    /// Records that were sent and not acknowledged: what became of them nobody can say.
    pub fn unacknowledged(&self) -> u64 {
        self.sent - self.acknowledged
    }

    /// Acknowledged records that share their offset with another one, which Kafka rules out.
    pub fn without_a_place(&self) -> u64 {
        self.acknowledged - self.log.values().flatten().flatten().count() as u64
    }

    /// How many records were acknowledged.
    pub fn records(&self) -> u64 {
        self.acknowledged
    }

    /// The ids of the campaigns, by number.
    pub fn campaigns(&self) -> &[String] {
        &self.campaigns
    }

    /// The number of a campaign that is in the ledger.
    pub fn campaign_number(&self, id: &str) -> Option<u32> {
        self.campaign_index.get(id).copied()
    }

    /// Every event, acknowledged or not.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// One event.
    pub fn get(&self, index: EventIndex) -> &Event {
        &self.events[index.0 as usize]
    }

    /// The partitions with what must become of their records, by offset.
    pub fn log(&self) -> &BTreeMap<i32, Vec<Option<Fate>>> {
        &self.log
    }

    /// What must become of one record.
    pub fn fate(&self, partition: i32, offset: i64) -> Option<Fate> {
        let log = self.log.get(&partition)?;
        *log.get(usize::try_from(offset).ok()?)?
    }

    /// How many copies of each event were acknowledged, by its index.
    pub fn copies(&self) -> Vec<u32> {
        let mut copies = vec![0; self.events.len()];
        for fate in self.log.values().flatten().flatten() {
            if let Fate::Event(index) = fate {
                copies[index.0 as usize] += 1;
            }
        }
        copies
    }
}

impl EventIndex {
    /// As an index into [`Ledger::events`].
    pub fn at(self) -> usize {
        self.0 as usize
    }
}

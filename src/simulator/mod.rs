//! A believable, seeded stream of ad events, for demos, tests and benchmarks.
//!
//! Pure: no I/O, no clock, no threads. The caller says what time it is and sends what it is
//! handed. The same [`Settings`] and the same times give the same bytes on every machine and with
//! every version of our dependencies, so a run can be repeated elsewhere and its totals compared
//! to the last micro with the [`Ledger`].
//!
//! - `campaign`: what a campaign earns and costs, per platform, hour and weekday.
//! - `faults`: duplicates, late events and records that must end as dead letters.
//! - `ledger`: what was handed out, summed.
//! - `chance`: the random bits all of it is made from.
//! - [`reports`]: the files that platforms give of whole days, and restate.

mod campaign;
mod chance;
mod faults;
mod ledger;
pub mod reports;

use uuid::{Builder, Uuid};

use crate::codec;
use crate::event::{AdEvent, CampaignId, Counts, Platform, Reason};
use crate::time::Timestamp;

pub use faults::Faults;
pub use ledger::Ledger;

use campaign::Campaign;
use chance::Chance;
use faults::{Damage, Fate, Odds};

/// How many of the newest events can come again as a duplicate.
const RECENT: usize = 1_024;

/// What to simulate.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Selects the campaigns' economics and everything that happens to them.
    pub seed: u64,
    /// How many campaigns: `cmp-0` to `cmp-{campaigns - 1}`. Zero counts as one. Memory does not
    /// grow with it.
    pub campaigns: u32,
    /// What goes wrong, and how often.
    pub faults: Faults,
    /// The schema id in the framing of each value.
    pub schema_id: u32,
}

/// An endless stream of records.
#[derive(Clone, Debug)]
pub struct Simulator {
    /// Mixed with a campaign's index, it yields that campaign's economics.
    economics: u64,
    campaigns: u32,
    schema_id: u32,
    odds: Odds,
    chance: Chance,
    recent: Recent,
    next_damage: Damage,
    ledger: Ledger,
    key: String,
    value: Vec<u8>,
}

/// A record for the topic. It borrows the simulator's buffers: send it before asking for the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The campaign id (of another campaign, where that is the fault).
    pub key: &'a [u8],
    /// The framed Avro value.
    pub value: &'a [u8],
    /// What it is, and so what must become of it.
    pub expected: Expected,
    /// The event's time; earlier than the time that was asked for if the event is late or a
    /// duplicate, but never later. It can therefore stand as the record's timestamp even where the
    /// value claims a time far ahead, which brokers refuse.
    pub event_time: Timestamp,
}

/// What the pipeline should make of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// A new event, perhaps a late one: to be counted.
    Event,
    /// A recent event again, byte for byte: to be dropped.
    Duplicate,
    /// To become a dead letter, with this reason.
    Malformed(Reason),
}

impl Simulator {
    /// A stream at its beginning.
    pub fn new(settings: &Settings) -> Simulator {
        let mut chance = Chance::from_seed(settings.seed);
        Simulator {
            economics: chance.bits(),
            campaigns: settings.campaigns.max(1),
            schema_id: settings.schema_id,
            odds: Odds::of(&settings.faults),
            chance,
            recent: Recent::default(),
            next_damage: Damage::FIRST,
            ledger: Ledger::default(),
            key: String::with_capacity(16),
            value: Vec::with_capacity(128),
        }
    }

    /// The next record, as of `event_time` (not before 1970).
    ///
    /// Before there is an event to repeat, a duplicate is an event instead.
    pub fn next_record(&mut self, event_time: Timestamp) -> Record<'_> {
        let bits = self.chance.bits();
        // The high half says which campaign, the low half what becomes of it.
        let campaign = ((bits >> 32) * u64::from(self.campaigns)) >> 32;
        let campaign = campaign as u32;
        match self.odds.fate(bits as u32) {
            Fate::Event => self.event(campaign, event_time, false),
            Fate::Late => {
                let delay = faults::delay(self.chance.bits());
                self.event(campaign, (event_time - delay).max(Timestamp::EPOCH), true)
            }
            Fate::Duplicate => match self.recent.any(&mut self.chance) {
                Some(report) => self.duplicate(report),
                None => self.event(campaign, event_time, false),
            },
            Fate::Malformed => self.malformed(campaign, event_time),
        }
    }

    /// What was handed out so far.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn event(&mut self, campaign: u32, event_time: Timestamp, late: bool) -> Record<'_> {
        let report = self.report(campaign, event_time);
        self.recent.push(report);
        self.ledger.count_event(report.counts, late);
        self.write(&report);
        self.record(Expected::Event, event_time)
    }

    fn duplicate(&mut self, report: Report) -> Record<'_> {
        self.ledger.count_duplicate();
        self.write(&report);
        self.record(Expected::Duplicate, report.event_time)
    }

    fn malformed(&mut self, campaign: u32, event_time: Timestamp) -> Record<'_> {
        let mut damage = self.next_damage;
        let earlier = match damage {
            Damage::Conflict => self.recent.any(&mut self.chance),
            _ => None,
        };
        // With nothing to contradict yet, it is the next fault's turn.
        if damage == Damage::Conflict && earlier.is_none() {
            damage = damage.next();
        }
        self.next_damage = damage.next();

        let original = match earlier {
            Some(report) => report,
            None => self.report(campaign, event_time),
        };
        let mut claimed = original;
        damage.to_report(&mut claimed);
        self.write(&claimed);
        damage.to_bytes(
            claimed.campaign,
            &mut self.key,
            &mut self.value,
            &mut self.chance,
        );
        self.ledger.count_malformed(damage.reason());
        self.record(Expected::Malformed(damage.reason()), original.event_time)
    }

    /// A new report of `campaign`.
    fn report(&mut self, campaign: u32, event_time: Timestamp) -> Report {
        let economics = Campaign::new(self.economics, campaign);
        let (platform, counts) = economics.report(event_time, &mut self.chance);
        Report {
            event_id: event_id(event_time, &mut self.chance),
            campaign,
            platform,
            event_time,
            counts,
        }
    }

    /// Puts `report` into the key and value buffers.
    fn write(&mut self, report: &Report) {
        write_campaign_id(report.campaign, &mut self.key);
        let Ok(campaign_id) = CampaignId::parse(&self.key) else {
            unreachable!("cmp- and up to ten digits are a campaign id");
        };
        let event = AdEvent {
            event_id: report.event_id,
            campaign_id,
            platform: report.platform,
            event_time: report.event_time,
            counts: report.counts,
        };
        self.value.clear();
        codec::encode(&event, self.schema_id, &mut self.value);
    }

    fn record(&self, expected: Expected, event_time: Timestamp) -> Record<'_> {
        Record {
            key: self.key.as_bytes(),
            value: &self.value,
            expected,
            event_time,
        }
    }
}

/// An event before it is written. Its bytes follow from it, so remembering it is enough to repeat
/// them.
#[derive(Clone, Copy, Debug)]
struct Report {
    event_id: Uuid,
    campaign: u32,
    platform: Platform,
    event_time: Timestamp,
    counts: Counts,
}

/// The newest events, overwritten in turn.
#[derive(Clone, Debug, Default)]
struct Recent {
    reports: Vec<Report>,
    oldest: usize,
}

impl Recent {
    fn push(&mut self, report: Report) {
        if self.reports.len() < RECENT {
            self.reports.push(report);
        } else {
            self.reports[self.oldest] = report;
            self.oldest = (self.oldest + 1) % RECENT;
        }
    }

    fn any(&self, chance: &mut Chance) -> Option<Report> {
        let len = self.reports.len() as u64;
        let at = ((chance.bits() >> 32) * len) >> 32;
        self.reports.get(at as usize).copied()
    }
}

/// `cmp-{index}`, by hand: formatting it would take a tenth of the time a record takes.
fn write_campaign_id(index: u32, id: &mut String) {
    let mut digits = ['0'; 10];
    let mut first = digits.len();
    let mut rest = index;
    loop {
        first -= 1;
        digits[first] = char::from(b'0' + (rest % 10) as u8);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    id.clear();
    id.push_str("cmp-");
    id.extend(&digits[first..]);
}

/// A version 7 UUID (RFC 9562, section 5.7): the event's millisecond, then random bits.
fn event_id(event_time: Timestamp, chance: &mut Chance) -> Uuid {
    let mut random = [0; 10];
    random[..8].copy_from_slice(&chance.bits().to_le_bytes());
    random[8..].copy_from_slice(&chance.bits().to_le_bytes()[..2]);
    let millis = u64::try_from(event_time.get()).unwrap_or(0) / 1_000;
    Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

#[cfg(test)]
mod tests;

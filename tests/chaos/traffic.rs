//! What is sent: events of some campaigns, with a share of duplicates, late and malformed ones, and of
//! report rows of some others, all of it chosen from a seed.

use adflux::codec;
use adflux::event::{AdEvent, CampaignId, Counts, MILLION, Platform};
use adflux::time::Timestamp;
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use reports::Reports;
use uuid::Uuid;

use crate::ledger::{Event, EventIndex, Fate, Ledger};

mod reports;

pub use reports::is_reported;

/// Shares of all records.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shares {
    pub duplicates: f64,
    pub late: f64,
    pub malformed: f64,
    pub reports: f64,
}

impl Shares {
    /// Some of each, as in the main flow.
    pub const USUAL: Shares = Shares {
        duplicates: 0.03,
        late: 0.005,
        malformed: 0.01,
        reports: 0.08,
    };
}

/// A record to send.
#[derive(Clone, Debug)]
pub struct Record {
    pub key: Vec<u8>,
    pub payload: Vec<u8>,
    pub fate: Fate,
}

/// Most copies are of one of so many events that were sent last, as when a producer retries.
const RECENT: usize = 2_000;
/// Of so many copies one is of an event of any age, for which an old block has to be read.
const OLD: u32 = 30;

/// See the module.
pub struct Traffic {
    random: ChaCha8Rng,
    campaigns: Vec<String>,
    pub shares: Shares,
    /// All that were sent.
    sent: Vec<EventIndex>,
    damages: usize,
    reports: Reports,
}

impl Traffic {
    /// A stream at its beginning.
    pub fn new(random: ChaCha8Rng, campaigns: usize, shares: Shares) -> Traffic {
        Traffic {
            random,
            campaigns: (0..campaigns).map(|n| format!("lab-{n}")).collect(),
            shares,
            sent: Vec::new(),
            damages: 0,
            reports: Reports::new(),
        }
    }

    /// The next record; `now` in microseconds since 1970.
    pub fn next(&mut self, ledger: &mut Ledger, now: i64) -> Record {
        let chance: f64 = self.random.random();
        let Shares {
            duplicates,
            late,
            malformed,
            reports,
        } = self.shares;
        if chance < duplicates && !self.sent.is_empty() {
            let (index, event) = self.earlier(ledger);
            return self.record(&event, Fate::Event(index), ledger);
        }
        if chance < duplicates + malformed {
            return self.malformed(ledger, now);
        }
        if chance > 1.0 - reports {
            return self.reports.next(&mut self.random, ledger);
        }
        let time = if chance < duplicates + malformed + late {
            now - self.random.random_range(1_000_000..7_200_000_000)
        } else {
            now
        };
        let event = self.event(ledger, time);
        let index = ledger.event(event);
        self.sent.push(index);
        self.record(&event, Fate::Event(index), ledger)
    }

    /// An event that was sent before.
    fn earlier(&mut self, ledger: &Ledger) -> (EventIndex, Event) {
        let len = self.sent.len();
        let from = if self.random.random_range(0..OLD) == 0 {
            0
        } else {
            len.saturating_sub(RECENT)
        };
        let index = self.sent[self.random.random_range(from..len)];
        (index, *ledger.get(index))
    }

    fn event(&mut self, ledger: &mut Ledger, time: i64) -> Event {
        let campaign = self.random.random_range(0..self.campaigns.len());
        let clicks = self.random.random_range(0..50);
        Event {
            id: Uuid::from_u128(self.random.random()),
            time,
            campaign: ledger.campaign(&self.campaigns[campaign]),
            platform: self.random.random_range(0..4),
            counts: [
                self.random.random_range(clicks..5_000),
                clicks,
                self.random.random_range(0..=clicks) * MILLION,
                self.random.random_range(0..20_000_000),
                self.random.random_range(0..90_000_000),
            ],
        }
    }

    fn record(&self, event: &Event, fate: Fate, ledger: &Ledger) -> Record {
        let campaign = &ledger.campaigns()[event.campaign as usize];
        Record {
            key: campaign.as_bytes().to_vec(),
            payload: payload(event, campaign),
            fate,
        }
    }

    /// A record that must become a dead letter, of each kind in turn.
    fn malformed(&mut self, ledger: &mut Ledger, now: i64) -> Record {
        self.damages += 1;
        if self.damages.is_multiple_of(3)
            && let Some(record) = self.reports.malformed(&mut self.random, ledger)
        {
            return record;
        }
        let mut event = self.event(ledger, now);
        let reason = match self.damages % 10 {
            0 if !self.sent.is_empty() => {
                event = self.earlier(ledger).1;
                event.counts[0] += 1;
                "conflicting_duplicate"
            }
            0 | 1 => {
                event.counts[1] = -1;
                "negative_value"
            }
            2 => {
                // A day is allowed.
                event.time += 3 * 86_400_000_000;
                "future_event_time"
            }
            3 => "wrong_magic_byte",
            4 => "unknown_schema",
            5 => "truncated",
            6 => "trailing_bytes",
            7 => "invalid_event_id",
            8 => "key_mismatch",
            _ => "no_payload",
        };
        let mut record = self.record(&event, Fate::Dead(reason), ledger);
        let payload = &mut record.payload;
        match reason {
            "wrong_magic_byte" => payload[0] = 1,
            "unknown_schema" => payload[4] = 99,
            "truncated" => payload.truncate(payload.len() - 1),
            "trailing_bytes" => payload.push(0),
            "invalid_event_id" => payload[6] = b'x',
            "key_mismatch" => record.key = b"another".to_vec(),
            "no_payload" => payload.clear(),
            _ => {}
        }
        record
    }
}

/// An event's value on the topic.
pub fn payload(event: &Event, campaign: &str) -> Vec<u8> {
    let event = AdEvent {
        event_id: event.id,
        campaign_id: CampaignId::parse(campaign).expect("a campaign id"),
        platform: Platform::from_index(event.platform.into()).expect("a platform"),
        event_time: Timestamp::new(event.time),
        counts: Counts::of(event.counts),
    };
    let mut payload = Vec::new();
    codec::encode(&event, codec::SchemaIds::OWN.event, &mut payload);
    payload
}

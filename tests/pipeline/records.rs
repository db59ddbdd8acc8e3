//! Records as the tests send and read them, down to the byte.

use adflux::codec;
use adflux::event::{AdEvent, CampaignId, Counts, Platform};
use adflux::time::Timestamp;
use uuid::Uuid;

/// A record to send, or as it stands on the topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    pub partition: i32,
    pub offset: i64,
    /// Milliseconds since 1970; none when sending: now.
    pub timestamp: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub payload: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// An event to send.
#[derive(Clone, Debug)]
pub struct Event {
    pub id: Uuid,
    pub campaign: String,
    pub platform: Platform,
    /// Microseconds since 1970.
    pub time: i64,
    pub counts: Counts,
}

impl Event {
    /// An event that happened just now, unlike any other.
    pub fn of(campaign: &str) -> Event {
        Event {
            id: Uuid::from_u128(rand::random()),
            campaign: campaign.to_owned(),
            platform: Platform::Google,
            time: now(),
            counts: Counts::of([100, 5, 1_000_000, 2_500_000, 4_000_000]),
        }
    }

    /// Its value on the topic.
    pub fn payload(&self) -> Vec<u8> {
        let mut payload = Vec::new();
        let event = AdEvent {
            event_id: self.id,
            campaign_id: CampaignId::parse(&self.campaign).expect("a campaign id"),
            platform: self.platform,
            event_time: Timestamp::new(self.time),
            counts: self.counts,
        };
        codec::encode(&event, codec::SchemaIds::OWN.event, &mut payload);
        payload
    }

    /// The whole record.
    pub fn record(&self) -> Record {
        Record {
            key: Some(self.campaign.clone().into_bytes()),
            payload: Some(self.payload()),
            ..Record::default()
        }
    }
}

/// Microseconds since 1970.
pub fn now() -> i64 {
    chrono::Utc::now().timestamp_micros()
}

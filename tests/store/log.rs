//! What a processor would hand over, made by hand.

use std::sync::Arc;

use adflux::currency::Currency;
use adflux::event::{AdEvent, CampaignId, Conversions, Count, Counts, MILLION, Platform, Reason};
use adflux::offset::Offset;
use adflux::report_row::{Definition, Origin, ReportRow, Values};
use adflux::store::events::{Columns, Fingerprinter};
use adflux::store::write::batch::{
    DeadLetter, Fence, Filled, Filling, RawRecord, Reading, Undecided,
};
use adflux::store::write::commit::{Committed, Outcome, commit};
use adflux::store::write::positions::{self, Partition};
use adflux::store::{Epoch, StoreError, StreamId};
use adflux::time::{Length, Timestamp};
use chrono::{Days, NaiveDate};
use diesel::PgConnection;
use uuid::Uuid;

/// 2026-01-01T00:00:00Z.
pub const START: Timestamp = Timestamp::new(1_767_225_600_000_000);

/// An event to be.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    pub id: u128,
    pub campaign: &'static str,
    pub platform: Platform,
    /// Seconds after [`START`].
    pub second: i64,
    pub counts: Counts,
}

/// An event of campaign `campaign` at `second`; its numbers follow from its id. One in five has a fraction of a conversion.
pub fn event(id: u128, campaign: &'static str, second: i64) -> Event {
    let n = id as i64;
    let fraction = if n % 5 == 2 {
        n % 1_000 * 7_919 % MILLION
    } else {
        0
    };
    Event {
        id,
        campaign,
        platform: Platform::ALL[n as usize % 4],
        second,
        counts: Counts::of([
            1_000 + n,
            n % 50,
            n % 3 * MILLION + fraction,
            1_000_003 * (n % 11),
            2_500_001 * (n % 7),
        ]),
    }
}

impl Event {
    /// The same with as many conversions as are whole.
    pub fn whole(mut self) -> Event {
        let (whole, _) = self.counts.conversions.parts();
        self.counts.conversions = Conversions::whole(whole).expect("few");
        self
    }
}

/// What a platform, asked so many hours after [`START`], says that a day was, given in days after that of [`START`]. Its numbers
/// follow from the clicks; it reports no revenue.
pub fn report(campaign: &'static str, day: u64, hour: i64, clicks: i64) -> ReportRow<'static> {
    let start = NaiveDate::from_ymd_opt(2026, 1, 1).expect("a day");
    ReportRow {
        campaign_id: CampaignId::parse(campaign).expect("a valid campaign id"),
        campaign_name: campaign,
        definition: Definition {
            platform: Platform::Google,
            account: "1",
            time_zone: chrono_tz::Europe::Berlin,
            currency: Currency::from_code("EUR").expect("a currency"),
            conversions: "",
            revenue: "",
        },
        day: start + Days::new(day),
        slice: "",
        observed_at: START + Length::HOUR.times(hour),
        values: Values::of([
            Some(100 * clicks),
            Some(clicks),
            Some(clicks * MILLION / 4),
            Some(1_000_003 * clicks),
            None,
        ]),
        origin: Origin {
            file: Some([3; 32]),
            line: Some(hour),
        },
    }
}

/// The `n`th event of a made-up history of 40 campaigns; a day or so per 100,000.
pub fn nth(n: u64) -> Event {
    const CAMPAIGNS: [&str; 8] = [
        "cmp-0", "cmp-1", "cmp-2", "cmp-3", "a.b", "A:b", "z_9", "cmp-10",
    ];
    let scrambled = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33;
    event(
        u128::from(n) + 1,
        CAMPAIGNS[scrambled as usize % CAMPAIGNS.len()],
        n as i64 + (scrambled % 60) as i64,
    )
}

/// A partition with a position of its own, and what its processor knows of it.
#[derive(Clone)]
pub struct Log {
    pub stream: StreamId,
    pub fence: Fence,
    number: i32,
    owner: &'static str,
}

impl Log {
    /// Claims partition `number`, as a processor does when it is assigned.
    pub fn claim(connection: &mut PgConnection, number: i32) -> Log {
        let mut log = Log {
            stream: StreamId(0),
            fence: Fence {
                epoch: Epoch::new(0),
                next_offset: Offset::new(0),
                campaigns_moved: Count::new(0),
            },
            number,
            owner: "a test",
        };
        log.claim_again(connection);
        log
    }

    pub fn claim_again(&mut self, connection: &mut PgConnection) {
        let partition = Partition {
            cluster_id: "test-cluster",
            topic: "ad-events",
            partition: self.number,
        };
        let claim =
            positions::claim(connection, partition, Offset::new(0), self.owner).expect("a claim");
        self.stream = claim.stream;
        self.fence = claim.fence;
    }

    /// An empty share that begins at the position.
    pub fn share(&self) -> Draft {
        Draft {
            share: Filling::new(self.stream, self.fence, Reading::Usual, Columns::default()),
        }
    }

    /// Commits a share of this partition alone, which must succeed, and moves on.
    pub fn commit(
        &mut self,
        connection: &mut PgConnection,
        prints: &Fingerprinter,
        draft: Draft,
    ) -> Committed {
        match outcome(connection, prints, &[draft.build()]) {
            Outcome::Committed(committed) => {
                self.fence.next_offset = committed.next_offset;
                committed
            }
            other => panic!("not committed: {other:?}"),
        }
    }

    /// Commits these events as new ones.
    pub fn store(
        &mut self,
        connection: &mut PgConnection,
        prints: &Fingerprinter,
        events: impl IntoIterator<Item = Event>,
    ) -> Committed {
        let draft = events.into_iter().fold(self.share(), Draft::new_event);
        self.commit(connection, prints, draft)
    }
}

/// A share being filled. Every campaign is unknown to the processor and so every row undecided,
/// unless [`Draft::known`] was called.
#[derive(Clone)]
pub struct Draft {
    share: Filling,
}

impl Draft {
    /// A record with an event that memory calls new.
    pub fn new_event(self, event: Event) -> Draft {
        self.event(event, false, true)
    }

    /// A record with an event older than memory.
    pub fn late_event(self, event: Event) -> Draft {
        self.event(event, true, true)
    }

    /// A record with a new event of a campaign that the partition is known to own.
    pub fn known_event(self, event: Event) -> Draft {
        self.event(event, false, false)
    }

    fn event(mut self, event: Event, late: bool, undecided: bool) -> Draft {
        let campaign = self.campaign(event.campaign, undecided);
        if undecided || late {
            let record = RawRecord {
                record_time: Some(START + Length::SECOND.times(event.second)),
                payload: Some(format!("event {}", event.id).into_bytes()),
                headers: vec![("from".to_owned(), Some(b"test".to_vec()))],
                ..self.record(event.campaign)
            };
            self.undecided(late, record);
        }
        let as_reported = AdEvent {
            event_id: Uuid::from_u128(event.id),
            campaign_id: CampaignId::parse(event.campaign).expect("a valid campaign id"),
            platform: event.platform,
            event_time: START + Length::SECOND.times(event.second),
            counts: event.counts,
        };
        let share = &mut self.share;
        share.events.push(share.next_offset, &as_reported, campaign);
        self.read()
    }

    /// A record with a report row.
    pub fn report(mut self, report: &ReportRow<'_>) -> Draft {
        let id = report.campaign_id.as_str();
        let campaign = self.campaign(id, true);
        let record = RawRecord {
            payload: Some(format!("report of {}", report.observed_at).into_bytes()),
            ..self.record(id)
        };
        self.undecided(false, record);
        let restatement = AdEvent {
            event_id: report.key(),
            campaign_id: report.campaign_id,
            platform: report.definition.platform,
            event_time: report.event_time(),
            counts: Counts::default(),
        };
        let share = &mut self.share;
        share.reports.push(share.events.len(), report, campaign);
        let (offset, observed_at) = (share.next_offset, report.observed_at);
        share
            .events
            .push_restatement(offset, &restatement, campaign, observed_at);
        self.read()
    }

    /// The index of a campaign in the share's dictionary.
    fn campaign(&mut self, id: &str, unknown: bool) -> u32 {
        let share = &mut self.share;
        if let Some(known) = share.campaigns.iter().position(|c| &**c == id) {
            return known as u32;
        }
        share.campaigns.push(Arc::from(id));
        let index = share.campaigns.len() as u32 - 1;
        if unknown {
            share.unknown_campaigns.push(index);
        }
        index
    }

    fn record(&self, key: &str) -> RawRecord {
        RawRecord {
            offset: self.share.next_offset,
            key: Some(key.as_bytes().to_vec()),
            ..RawRecord::default()
        }
    }

    fn undecided(&mut self, late: bool, record: RawRecord) {
        let row = self.share.events.len();
        self.share.undecided.push(Undecided { row, late, record });
    }

    fn read(mut self) -> Draft {
        self.share.next_offset = self.share.next_offset.next();
        self.share.records += Count::new(1);
        self
    }

    /// A record that memory knows for a duplicate.
    pub fn duplicate(mut self) -> Draft {
        self.share.duplicates += Count::new(1);
        self.share.records += Count::new(1);
        self.share.next_offset = self.share.next_offset.next();
        self
    }

    /// A record that cannot be counted.
    pub fn dead(mut self, reason: Reason) -> Draft {
        let record = RawRecord {
            offset: self.share.next_offset,
            payload: Some(vec![0, 1, 2]),
            ..RawRecord::default()
        };
        self.share.dead.push(DeadLetter { reason, record });
        self.share.records += Count::new(1);
        self.share.next_offset = self.share.next_offset.next();
        self
    }

    /// Offsets that hold no record.
    pub fn gap(mut self, offsets: i64) -> Draft {
        self.share.next_offset = self.share.next_offset.plus(Count::new(offsets));
        self
    }

    pub fn careful(mut self) -> Draft {
        self.share.reading = Reading::Careful;
        self
    }

    /// The processor does not know whether the partition owns any of its campaigns.
    pub fn of_unknown_campaigns(mut self) -> Draft {
        self.share.unknown_campaigns = (0..self.share.campaigns.len() as u32).collect();
        self
    }

    pub fn build(self) -> Filled {
        Filled::from(self.share)
    }
}

/// Commits a batch of one share.
pub fn outcome(
    connection: &mut PgConnection,
    prints: &Fingerprinter,
    shares: &[Filled; 1],
) -> Outcome {
    let mut results = outcomes(connection, prints, shares).expect("an answer");
    assert_eq!(results.len(), 1);
    results.remove(0).1
}

/// Commits a batch: what became of each share, in the order of the stream ids.
pub fn outcomes(
    connection: &mut PgConnection,
    prints: &Fingerprinter,
    shares: &[Filled],
) -> Result<Vec<(StreamId, Outcome)>, StoreError> {
    let mut results: Vec<_> = commit(connection, prints, shares)?
        .into_iter()
        .map(|result| (result.stream, result.outcome))
        .collect();
    results.sort_by_key(|(stream, _)| *stream);
    Ok(results)
}

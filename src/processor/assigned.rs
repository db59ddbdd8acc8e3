//! One assigned partition: what is known of it, and the share of the next batch it is filling.

use std::hash::BuildHasher as _;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use rdkafka::message::BorrowedMessage;

use crate::codec::{Decoder, Message};
use crate::event::{AdEvent, Count, Counts, Reason};
use crate::guards;
use crate::offset::Offset;
use crate::report_row::ReportRow;
use crate::shard::Shard;
use crate::store::events::{Columns, Fingerprinter};
use crate::store::write::batch::{
    DeadLetter, Fence, Filled, Filling, RawRecord, Reading, Undecided,
};
use crate::store::write::positions::Claim;
use crate::store::{Epoch, StreamId};
use crate::time::Timestamp;

use super::batches::Load;
use super::recent::{Recent, Seen};

/// A record as the consumer lends it.
pub struct Record<'a> {
    pub offset: Offset,
    pub record_time: Option<Timestamp>,
    pub key: Option<&'a [u8]>,
    pub payload: Option<&'a [u8]>,
    /// Copies the headers; called only for a record that must be kept whole.
    pub headers: &'a dyn Fn() -> Vec<(String, Option<Vec<u8>>)>,
}

impl Record<'_> {
    /// Keeps it whole, and adds to `kept` what that takes.
    fn keep(&self, kept: &mut usize) -> RawRecord {
        let record = RawRecord {
            offset: self.offset,
            record_time: self.record_time,
            key: self.key.map(<[u8]>::to_vec),
            payload: self.payload.map(<[u8]>::to_vec),
            headers: bounded((self.headers)()),
        };
        *kept = kept.saturating_add(record.size());
        record
    }
}

/// About how many bytes of headers are kept with a record. There is no such bound in Kafka, but there is one in
/// PostgreSQL: with more than 128 MB of them, a dead letter could never be stored.
const HEADER_BYTES: usize = 256 << 10;
/// What a header takes besides its name and value, about.
const EACH_HEADER_BYTES: usize = 32;
/// The header that says how many of a record's were not kept.
const CUT: &str = "adflux.headers.cut";

/// The first headers, as many as are kept, and whether there were more.
fn bounded(mut headers: Vec<(String, Option<Vec<u8>>)>) -> Vec<(String, Option<Vec<u8>>)> {
    let all = headers.len();
    let mut room = HEADER_BYTES;
    let fitting = headers.iter().take_while(|(name, value)| {
        let bytes = name.len() + value.as_ref().map_or(0, Vec::len) + EACH_HEADER_BYTES;
        let left = room.checked_sub(bytes);
        room = left.unwrap_or(0);
        left.is_some()
    });
    let kept = fitting.count();
    if kept < all {
        headers.truncate(kept);
        let said = format!("{} of {all} headers were too much to keep", all - kept);
        headers.push((CUT.to_owned(), Some(said.into_bytes())));
    }
    headers
}

/// What became of a record that was taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It was delivered again after a fetch was restarted, and is in a share already.
    Before,
    /// It is counted, or known to have been.
    Counted,
    /// It cannot be counted.
    Dead(Reason),
    /// It was not taken in: the schema with this id is not known, and may be learned.
    Lacks(u32),
}

/// What is known of a campaign on this partition.
struct Campaign {
    id: Arc<str>,
    /// Events before this time must be looked up: `i64::MAX` until it is known that the partition
    /// owns the campaign.
    lookup_before: Timestamp,
    /// Its index in the dictionary of the share with number `share`.
    index: u32,
    share: u32,
}

/// See the module.
pub struct Assigned {
    /// Where databases are divided by partitions: of which range it is, and its number.
    place: Option<(Shard, i32)>,
    recent: Recent,
    /// A million of them are a good part of what a process takes, so each has its id once.
    campaigns: HashTable<Campaign>,
    hasher: RandomState,
    /// Campaign ids remembered (and those of one share more); then it starts over.
    most_campaigns: usize,
    /// Numbers the shares, so that a campaign's index is known to be of the present one.
    share_number: u32,
    /// What waits to be handed over, if anything has come since the last share.
    share: Filling,
    /// Empty columns for the next share.
    spare: Option<Columns>,
    /// The offset of the last record before the claimed position, and the timestamp that it had.
    counted_last: Option<(Offset, Timestamp)>,
}

impl Assigned {
    /// A partition as claimed, with its refilled memory.
    pub fn new(claim: &Claim, recent: Recent, reading: Reading, most_campaigns: usize) -> Assigned {
        let Claim {
            stream,
            fence,
            last_record,
        } = *claim;
        Assigned {
            place: None,
            recent,
            campaigns: HashTable::new(),
            hasher: RandomState::default(),
            most_campaigns,
            share_number: 1,
            share: Filling::new(stream, fence, reading, Columns::default()),
            spare: None,
            counted_last: last_record,
        }
    }

    /// The same where databases are divided by partitions: a record must be where its key leads to, so that a campaign is in one
    /// database only.
    pub fn divided(self, place: Option<(Shard, i32)>) -> Assigned {
        Assigned { place, ..self }
    }

    /// Where to begin to read a log whose oldest offset is `start`: at the last record that was
    /// counted, if it is there and can be told from another one.
    pub fn read_from(&self, start: Offset) -> Offset {
        match self.counted_last {
            Some((offset, _)) if offset >= start => offset,
            _ => self.next_offset(),
        }
    }

    /// When this record and the one that was counted at its place are two: their timestamps.
    pub fn contradiction(&self, record: &Record<'_>) -> Option<(Option<Timestamp>, Timestamp)> {
        let (offset, counted) = self.counted_last?;
        let differs = record.offset == offset && record.record_time != Some(counted);
        differs.then_some((record.record_time, counted))
    }

    /// The stream that the partition is to the store.
    pub fn stream(&self) -> StreamId {
        self.share.stream
    }

    /// The epoch in which it was claimed.
    pub fn epoch(&self) -> Epoch {
        self.share.fence.epoch
    }

    /// The next offset to read.
    pub fn next_offset(&self) -> Offset {
        self.share.next_offset
    }

    /// What waits to be written.
    pub fn load(&self) -> Load {
        Load {
            shares: usize::from(self.share.moves()),
            records: self.share.records.get() as usize,
            campaigns: self.share.campaigns.len(),
            kept: self.share.kept,
        }
    }

    /// Takes a record in.
    pub fn push(
        &mut self,
        record: &Record<'_>,
        decoder: &mut Decoder,
        fingerprinter: &Fingerprinter,
        now: Timestamp,
    ) -> Taken {
        if record.offset < self.share.next_offset {
            return Taken::Before;
        }
        let message = match decoder.accept(record.key, record.payload, now) {
            Err(Reason::UnknownSchema) => {
                if let Some(id) = record.payload.and_then(|payload| decoder.lacks(payload)) {
                    return Taken::Lacks(id);
                }
                Err(Reason::UnknownSchema)
            }
            accepted => accepted.and_then(|message| self.in_place(message)),
        };
        let share = &mut self.share;
        share.next_offset = record.offset.next();
        share.last_record = Some((record.offset, record.record_time));
        share.records += Count::new(1);
        let message = match message {
            Ok(message) => message,
            Err(reason) => {
                share.dead.push(DeadLetter {
                    reason,
                    record: record.keep(&mut share.kept),
                });
                return Taken::Dead(reason);
            }
        };
        match message {
            Message::Event(event) => self.push_event(record, &event, fingerprinter),
            Message::Report(row) => {
                self.push_report(record, &row);
                Taken::Counted
            }
        }
    }

    /// Refuses what is not on the partition that its campaign leads to.
    #[inline]
    fn in_place<'a>(&self, message: Message<'a>) -> Result<Message<'a>, Reason> {
        let Some((shard, partition)) = self.place else {
            return Ok(message);
        };
        let campaign = match &message {
            Message::Event(event) => event.campaign_id,
            Message::Report(row) => row.campaign_id,
        };
        match shard.partition(campaign.as_str()) == partition {
            true => Ok(message),
            false => Err(Reason::WrongPartition),
        }
    }

    #[inline]
    fn push_event(
        &mut self,
        record: &Record<'_>,
        event: &AdEvent<'_>,
        fingerprinter: &Fingerprinter,
    ) -> Taken {
        let id = event.campaign_id.as_str();
        let seen = if guards::up() {
            let print =
                fingerprinter.of(id, event.platform.index(), event.event_time, &event.counts);
            self.recent.see(event.event_id, event.event_time, print)
        } else {
            Seen::New
        };
        match seen {
            Seen::Duplicate => {
                self.share.duplicates += Count::new(1);
                return Taken::Counted;
            }
            Seen::Conflict => {
                let reason = Reason::ConflictingDuplicate;
                let share = &mut self.share;
                share.dead.push(DeadLetter {
                    reason,
                    record: record.keep(&mut share.kept),
                });
                return Taken::Dead(reason);
            }
            Seen::New | Seen::Late => {}
        }
        let (campaign, lookup_before) = self.campaign(id);
        let share = &mut self.share;
        let late = seen == Seen::Late;
        if late || event.event_time < lookup_before || share.reading == Reading::Careful {
            share.undecided.push(Undecided {
                row: share.events.len(),
                late,
                record: record.keep(&mut share.kept),
            });
        }
        share.events.push(record.offset, event, campaign);
        Taken::Counted
    }

    /// A report row: what it changes, only the store knows.
    fn push_report(&mut self, record: &Record<'_>, report: &ReportRow<'_>) {
        let (campaign, _) = self.campaign(report.campaign_id.as_str());
        let share = &mut self.share;
        let row = share.events.len();
        share.undecided.push(Undecided {
            row,
            late: false,
            record: record.keep(&mut share.kept),
        });
        share.reports.push(row, report, campaign);
        let restatement = AdEvent {
            event_id: report.key(),
            campaign_id: report.campaign_id,
            platform: report.definition.platform,
            event_time: report.event_time(),
            counts: Counts::default(),
        };
        share
            .events
            .push_restatement(record.offset, &restatement, campaign, report.observed_at);
    }

    /// A campaign's index in the present share's dictionary, and the time before which its events must be looked up.
    #[inline]
    fn campaign(&mut self, id: &str) -> (u32, Timestamp) {
        let share = &mut self.share;
        let hasher = &self.hasher;
        let known = self.campaigns.entry(
            hasher.hash_one(id),
            |campaign| *campaign.id == *id,
            |campaign| hasher.hash_one(&*campaign.id),
        );
        let new = || Campaign {
            id: Arc::from(id),
            lookup_before: Timestamp::MAX,
            index: 0,
            share: 0,
        };
        let campaign = known.or_insert_with(new).into_mut();
        if campaign.share != self.share_number {
            campaign.share = self.share_number;
            campaign.index = share.campaigns.len() as u32;
            share.campaigns.push(Arc::clone(&campaign.id));
            if campaign.lookup_before == Timestamp::MAX {
                share.unknown_campaigns.push(campaign.index);
            }
        }
        (campaign.index, campaign.lookup_before)
    }

    /// Has the record that was just taken in be traced, if it is to be.
    #[inline]
    pub fn trace(&mut self, message: &BorrowedMessage<'_>) {
        let epoch = self.epoch();
        self.share.traces.begin(message, epoch);
    }

    /// Moves the position past offsets that hold no record (transaction markers, what retention deleted).
    pub fn skip_to(&mut self, next_offset: Offset) {
        self.share.next_offset = next_offset.max(self.share.next_offset);
    }

    /// Hands over what is to be written, if there is anything. What comes after it expects its position.
    pub fn take_share(&mut self) -> Option<Filled> {
        let share = &mut self.share;
        if !share.moves() {
            return None;
        }
        // Between shares, since a share must not list a campaign twice; and before a number comes again.
        if self.campaigns.len() >= self.most_campaigns || self.share_number == u32::MAX {
            self.campaigns.clear();
            self.share_number = 0;
        }
        self.share_number += 1;
        let fence = Fence {
            next_offset: share.next_offset,
            ..share.fence
        };
        let columns = self.spare.take().unwrap_or_default();
        let next = Filling::new(share.stream, fence, share.reading, columns);
        Some(Filled::from(std::mem::replace(share, next)))
    }

    /// Takes the columns of a share that was written, emptied, for the next one.
    pub fn fill_again(&mut self, columns: Columns) {
        self.spare = Some(columns);
    }

    /// Notes campaigns that the partition is now known to own.
    pub fn own(&mut self, owned: Vec<(Arc<str>, Timestamp)>) {
        for (campaign, lookup_before) in owned {
            let hash = self.hasher.hash_one(&*campaign);
            if let Some(known) = self.campaigns.find_mut(hash, |known| known.id == campaign) {
                known.lookup_before = lookup_before;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{SchemaIds, encode};
    use crate::event::{AdEvent, CampaignId, Counts, Platform};
    use crate::processor::recent::Recent;
    use crate::time::Length;
    use proptest::prelude::*;
    use uuid::Uuid;

    const NOW: Timestamp = Timestamp::new(1_769_860_800_000_000);

    /// Bytes as anybody may send them: noise, noise in our framing, an event, or one that was cut or
    /// changed in one place.
    fn value() -> impl Strategy<Value = Option<Vec<u8>>> {
        let noise = prop::collection::vec(any::<u8>(), 0..100);
        let framed = noise
            .clone()
            .prop_map(|n| [&[0, 0, 0, 0, 1], &n[..]].concat());
        let whole = (0u128..20, 0i64..50, any::<i64>()).prop_map(|(id, second, clicks)| {
            let event = AdEvent {
                event_id: Uuid::from_u128(id),
                campaign_id: CampaignId::parse("cmp-1").expect("valid"),
                platform: Platform::Meta,
                event_time: NOW - Length::SECOND.times(second),
                counts: Counts::of([0, clicks >> (second + 10), 0, 0, 0]),
            };
            let mut out = Vec::new();
            encode(&event, SchemaIds::OWN.event, &mut out);
            out
        });
        let cut = (whole.clone(), any::<prop::sample::Index>())
            .prop_map(|(value, at)| value[..at.index(value.len())].to_vec());
        let changed = (whole.clone(), any::<prop::sample::Index>(), any::<u8>()).prop_map(
            |(mut value, at, byte)| {
                let at = at.index(value.len());
                value[at] = byte;
                value
            },
        );
        prop::option::weighted(
            0.95,
            prop_oneof![1 => noise, 1 => framed, 4 => whole, 1 => cut, 1 => changed],
        )
    }

    #[test]
    fn headers_are_kept_up_to_a_bound() {
        let header = |bytes| ("h".to_owned(), Some(vec![1; bytes]));
        let few = vec![header(0), ("n".to_owned(), None), header(HEADER_BYTES / 2)];
        assert_eq!(bounded(few.clone()), few);
        for (headers, kept, said) in [
            (vec![header(1), header(HEADER_BYTES)], 1, "1 of 2 headers"),
            (vec![header(HEADER_BYTES), header(1)], 0, "2 of 2 headers"),
            (
                vec![header(0); 100_000],
                HEADER_BYTES / (EACH_HEADER_BYTES + 1),
                "of 100000",
            ),
        ] {
            let bounded = bounded(headers.clone());
            assert_eq!(bounded[..kept], headers[..kept]);
            let (name, value) = bounded.last().cloned().expect("what was cut is said");
            assert_eq!((bounded.len(), name.as_str()), (kept + 1, CUT));
            let value = value.expect("text");
            assert!(String::from_utf8_lossy(&value).contains(said));
        }
    }

    proptest! {
        /// Whatever is on the topic: no panic, every record is accounted for, and nothing is kept that
        /// was not sent.
        #[test]
        fn any_record_is_accounted_for(
            records in prop::collection::vec(
                (value(), prop_oneof![4 => Just(Some(b"cmp-1".to_vec())), 1 => any::<Option<Vec<u8>>>()], 1i64..3),
                0..60,
            ),
            careful: bool,
        ) {
            let reading = if careful { Reading::Careful } else { Reading::Usual };
            let claim = Claim {
                stream: StreamId(1),
                fence: Fence { epoch: Epoch::new(1), next_offset: Offset::default(), campaigns_moved: Count::ZERO },
                last_record: None,
            };
            let mut assigned = Assigned::new(&claim, Recent::new(5), reading, 10);
            let mut decoder = Decoder::new(SchemaIds::OWN).expect("the schema is the layout");
            let prints = Fingerprinter::default();
            let (mut offset, mut dead, mut bytes) = (Offset::default(), 0, 0);
            for (value, key, step) in &records {
                let record = Record {
                    offset,
                    record_time: None,
                    key: key.as_deref(),
                    payload: value.as_deref(),
                    headers: &|| vec![("h".to_owned(), value.clone())],
                };
                let taken = assigned.push(&record, &mut decoder, &prints, NOW);
                dead += usize::from(matches!(taken, Taken::Dead(_)));
                prop_assert_eq!(assigned.push(&record, &mut decoder, &prints, NOW), Taken::Before);
                bytes += value.as_ref().map_or(0, Vec::len);
                offset = offset.plus(Count::new(*step));
            }
            let Some(share) = assigned.take_share() else {
                prop_assert!(records.is_empty());
                return Ok(());
            };
            prop_assert_eq!(share.records, Count::of(records.len()));
            prop_assert_eq!(share.dead.len(), dead);
            prop_assert_eq!(share.records, share.duplicates.saturating_add(Count::of(share.events.len() + dead)));
            let whole = share.dead.iter().map(|d| &d.record);
            let kept: usize = whole
                .chain(share.undecided.iter().map(|u| &u.record))
                .map(|r| r.payload.as_ref().map_or(0, Vec::len))
                .sum();
            prop_assert!(kept <= bytes);
        }
    }
}

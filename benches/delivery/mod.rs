//! Records as Kafka would deliver them, what a processor makes of them, and a database for that.

// Each benchmark uses its part of it.
#![allow(dead_code)]

use adflux::codec::{self, Decoder};
use adflux::event::Count;
use adflux::offset::Offset;
use adflux::processor::assigned::{Assigned, Record, Taken};
use adflux::processor::recent::Recent;
use adflux::simulator::{self, Faults, Simulator};
use adflux::store::events::Fingerprinter;
use adflux::store::write::batch::{Fence, Filled, Reading};
use adflux::store::write::positions::{self, Claim, Commit, Partition};
use adflux::store::{CommitId, Epoch, StreamId};
use adflux::time::{Length, Timestamp};
use diesel::PgConnection;

use crate::database::Database;

/// 2026-01-31T12:00:00Z: the same events in every run.
pub const START: Timestamp = Timestamp::new(1_769_860_800_000_000);

/// Recent events that a partition remembers by default, with four of them.
pub const RECENT: usize = 250_000;

/// More campaigns than there are here.
const CAMPAIGNS_KNOWN: usize = 1_000_000;

pub const COMMIT: Commit = Commit {
    id: CommitId::new(1),
    at: Timestamp::EPOCH,
};

pub const FENCE: Fence = Fence {
    epoch: Epoch::new(1),
    next_offset: Offset::new(0),
    campaigns_moved: Count::new(0),
};

/// A partition's log, a millisecond of event time between records.
pub struct Log {
    simulator: Simulator,
    pub next_offset: Offset,
}

pub struct Delivered {
    pub offset: Offset,
    pub key: Vec<u8>,
    pub payload: Vec<u8>,
}

impl Log {
    pub fn new(campaigns: u32) -> Log {
        Log {
            simulator: Simulator::new(&simulator::Settings {
                seed: 7,
                campaigns,
                faults: Faults::default(),
                schema_id: codec::SchemaIds::OWN.event,
            }),
            next_offset: Offset::default(),
        }
    }

    pub fn next(&mut self, count: usize) -> Vec<Delivered> {
        let mut next = || {
            let offset = self.next_offset;
            self.next_offset = offset.next();
            let record = self
                .simulator
                .next_record(START + Length::MILLISECOND.times(offset.get()));
            Delivered {
                offset,
                key: record.key.to_vec(),
                payload: record.value.to_vec(),
            }
        };
        (0..count).map(|_| next()).collect()
    }
}

/// A partition that was assigned and has no events yet.
pub fn assigned(stream: StreamId, fence: Fence) -> Assigned {
    let claim = Claim {
        stream,
        fence,
        last_record: None,
    };
    Assigned::new(&claim, Recent::new(RECENT), Reading::Usual, CAMPAIGNS_KNOWN)
}

pub fn fill(
    assigned: &mut Assigned,
    records: &[Delivered],
    decoder: &mut Decoder,
    prints: &Fingerprinter,
) {
    for record in records {
        let record = Record {
            offset: record.offset,
            record_time: None,
            key: Some(&record.key),
            payload: Some(&record.payload),
            headers: &Vec::new,
        };
        let taken = assigned.push(&record, decoder, prints, START);
        assert_eq!(taken, Taken::Counted);
    }
}

/// What a processor hands over after reading `events` records.
pub fn share(stream: StreamId, fence: Fence, events: usize, campaigns: u32) -> Filled {
    let mut assigned = assigned(stream, fence);
    let records = Log::new(campaigns).next(events);
    fill(
        &mut assigned,
        &records,
        &mut decoder(),
        &Fingerprinter::default(),
    );
    assigned.take_share().expect("a share")
}

pub fn decoder() -> Decoder {
    Decoder::new(codec::SchemaIds::OWN).expect("the schema is the layout")
}

/// A database with one partition in it.
pub struct Store {
    pub connection: PgConnection,
    pub stream: StreamId,
    // Last, so that it is dropped when nobody is connected any more.
    _database: Database,
}

impl Store {
    pub fn create(name: &str) -> Store {
        let database = Database::create(name);
        let mut connection = database.connect();
        let partition = Partition {
            cluster_id: "bench",
            topic: "bench",
            partition: 0,
        };
        let claim = positions::claim(&mut connection, partition, Offset::default(), "bench")
            .expect("claims");
        Store {
            connection,
            stream: claim.stream,
            _database: database,
        }
    }
}

//! What a processor hands to the store: some partitions' next records, decided as far as memory
//! could decide them.

use std::sync::Arc;

use crate::event::Reason;
use crate::store::StreamId;
use crate::store::events::Columns;

/// A record as it came, kept while it may yet become a dead letter.
#[derive(Debug, Clone, Default)]
pub struct RawRecord {
    pub offset: i64,
    /// The record's timestamp in microseconds since 1970, if it had one.
    pub record_time: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub payload: Option<Vec<u8>>,
    /// Name and value of each header.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// A record that could not be counted.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    pub reason: Reason,
    pub record: RawRecord,
}

/// A row that memory could not decide.
#[derive(Debug, Clone)]
pub struct Undecided {
    pub row: usize,
    /// Older than the memory of recent ids.
    pub late: bool,
    pub record: RawRecord,
}

/// The consecutive records of one partition that a batch holds.
#[derive(Debug, Clone)]
pub struct Share {
    pub stream: StreamId,
    pub fence: Fence,
    /// The next offset to read, once this is written.
    pub next_offset: i64,
    /// The timestamp of the record before it, in microseconds since 1970; none if it has none, or no
    /// record is there.
    pub last_record_time: Option<i64>,
    /// Records read, whatever became of them.
    pub records: i64,
    /// Of these, known to have been counted before.
    pub duplicates: i64,
    pub events: Columns,
    /// The campaign ids that `events.campaign` indexes.
    pub campaigns: Vec<Arc<str>>,
    /// Indexes into `campaigns` of which it is not known that this partition owns them.
    pub unknown_campaigns: Vec<u32>,
    /// Rows of `events`, ascending, that must be looked up in the event store.
    pub undecided: Vec<Undecided>,
    pub dead: Vec<DeadLetter>,
    /// A sum was found to pass its limit: every row is undecided, and is added up one by one.
    pub careful: bool,
}

/// What the stored position must still be for a write to be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The epoch that the assignment got.
    pub epoch: i64,
    /// The position last written.
    pub next_offset: i64,
    /// How many campaigns other partitions had taken over when what we know of them was read.
    pub campaigns_moved: i64,
}

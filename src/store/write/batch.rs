//! What a processor hands to the store: some partitions' next records, decided as far as memory
//! could decide them.
//!
//! A share fills ([`Filling`]), is handed over and does not change any more ([`Filled`]), is settled against the
//! store (`settled`), and committed ([`super::commit::Committed`]). An attempt that fails begins with the
//! same filled share again.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;

use chrono::NaiveDate;
use chrono_tz::Tz;

use crate::currency::Currency;
use crate::event::{Count, Platform, Reason};
use crate::offset::Offset;
use crate::report_row::{Definition, ReportRow, Values};
use crate::store::events::Columns;
use crate::store::{Epoch, StreamId};
use crate::time::Timestamp;
use crate::traces;

/// A record as it came, kept while it may yet become a dead letter.
#[derive(Debug, Clone, Default)]
pub struct RawRecord {
    pub offset: Offset,
    /// The record's timestamp, if it had one.
    pub record_time: Option<Timestamp>,
    pub key: Option<Vec<u8>>,
    pub payload: Option<Vec<u8>>,
    /// Name and value of each header.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl RawRecord {
    /// The bytes that came.
    pub fn size(&self) -> usize {
        let of = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        let headers = self
            .headers
            .iter()
            .map(|(name, value)| name.len() + of(value));
        of(&self.key) + of(&self.payload) + headers.sum::<usize>()
    }
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

/// A report row of a share, without what its row of columns says. There it has its key as `event_id`, and no numbers: by how much it
/// changes sums only the store knows.
#[derive(Debug, Clone)]
pub struct Reported {
    pub row: usize,
    pub day: NaiveDate,
    pub slice: Box<str>,
    /// Index into [`Reports::definitions`].
    pub definition: usize,
    pub observed_at: Timestamp,
    pub values: Values,
    /// Index into [`Reports::files`].
    pub file: Option<usize>,
    pub line: Option<i64>,
}

/// What numbers mean, as [`Definition`] says, and of which grain they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meaning {
    pub platform: Platform,
    pub account: String,
    pub time_zone: Tz,
    pub currency: Currency,
    pub conversions: String,
    pub revenue: String,
    pub grain: String,
}

impl Meaning {
    fn is_of(&self, definition: &Definition<'_>, grain: &str) -> bool {
        self.platform == definition.platform
            && self.account == definition.account
            && self.time_zone == definition.time_zone
            && self.currency == definition.currency
            && self.conversions == definition.conversions
            && self.revenue == definition.revenue
            && self.grain == grain
    }

    fn of(definition: &Definition<'_>, grain: String) -> Meaning {
        Meaning {
            platform: definition.platform,
            account: definition.account.to_owned(),
            time_zone: definition.time_zone,
            currency: definition.currency,
            conversions: definition.conversions.to_owned(),
            revenue: definition.revenue.to_owned(),
            grain,
        }
    }
}

/// The report rows of a share, ascending, and what many of them have in common.
#[derive(Debug, Clone, Default)]
pub struct Reports {
    pub rows: Vec<Reported>,
    pub definitions: Vec<Meaning>,
    pub files: Vec<[u8; 32]>,
    /// Which names campaigns (by index) have in them, and when platforms were asked that first and last said so.
    pub names: HashMap<(u32, Box<str>), (Timestamp, Timestamp), foldhash::fast::RandomState>,
}

impl Reports {
    /// Whether there are none, as nearly always.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether this row of the share's columns is one of them.
    pub fn has(&self, row: usize) -> bool {
        self.rows
            .binary_search_by_key(&row, |known| known.row)
            .is_ok()
    }

    /// Appends one that stands in this row of the share's columns.
    pub fn push(&mut self, row: usize, report: &ReportRow<'_>, campaign: u32) {
        let grain = report.grain();
        // Newest first: they come file by file.
        let known = self
            .definitions
            .iter()
            .rposition(|known| known.is_of(&report.definition, &grain));
        let definition = known.unwrap_or_else(|| {
            self.definitions
                .push(Meaning::of(&report.definition, grain));
            self.definitions.len() - 1
        });
        let file = report.origin.file.map(|file| {
            let known = self.files.iter().rposition(|known| *known == file);
            known.unwrap_or_else(|| {
                self.files.push(file);
                self.files.len() - 1
            })
        });
        let asked = report.observed_at;
        if !report.campaign_name.is_empty() {
            let name = (campaign, Box::from(report.campaign_name));
            let (first, last) = self.names.entry(name).or_insert((asked, asked));
            (*first, *last) = ((*first).min(asked), (*last).max(asked));
        }
        self.rows.push(Reported {
            row,
            day: report.day,
            slice: Box::from(report.slice),
            definition,
            observed_at: asked,
            values: report.values,
            file,
            line: report.origin.line,
        });
    }
}

/// How the records of a partition are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    Usual,
    /// A sum was found to pass its limit: every row is undecided, and is added up one by one.
    Careful,
}

/// The consecutive records of one partition that a batch is to hold, while they come in.
#[derive(Debug, Clone)]
pub struct Filling {
    pub stream: StreamId,
    pub fence: Fence,
    /// The next offset to read, once this is written.
    pub next_offset: Offset,
    /// Bytes of the records that are kept whole.
    pub kept: usize,
    /// The offset of its last record, and the timestamp of that, if it had one.
    pub last_record: Option<(Offset, Option<Timestamp>)>,
    /// Records read, whatever became of them.
    pub records: Count,
    /// Of these, known to have been counted before.
    pub duplicates: Count,
    pub events: Columns,
    /// The campaign ids that `events.campaign` indexes.
    pub campaigns: Vec<Arc<str>>,
    /// Indexes into `campaigns` of which it is not known that this partition owns them.
    pub unknown_campaigns: Vec<u32>,
    /// Rows of `events`, ascending, that must be looked up in the event store.
    pub undecided: Vec<Undecided>,
    /// What report rows say; the rows themselves are undecided.
    pub reports: Reports,
    pub dead: Vec<DeadLetter>,
    pub reading: Reading,
    /// The spans of those that are traced.
    pub traces: traces::Records,
}

impl Filling {
    /// A share without records, to be filled into these columns, which are empty.
    pub fn new(stream: StreamId, fence: Fence, reading: Reading, events: Columns) -> Filling {
        Filling {
            stream,
            fence,
            next_offset: fence.next_offset,
            kept: 0,
            last_record: None,
            records: Count::ZERO,
            duplicates: Count::ZERO,
            events,
            campaigns: Vec::new(),
            unknown_campaigns: Vec::new(),
            undecided: Vec::new(),
            reports: Reports::default(),
            dead: Vec::new(),
            reading,
            traces: traces::Records::default(),
        }
    }

    /// Whether it moves the position: then there is something to write, be it not one record.
    pub fn moves(&self) -> bool {
        self.next_offset != self.fence.next_offset
    }
}

/// A share that was handed over: it is read from, as often as it takes to write it, and never changed.
#[derive(Debug)]
pub struct Filled(Filling);

impl From<Filling> for Filled {
    fn from(share: Filling) -> Filled {
        Filled(share)
    }
}

impl Deref for Filled {
    type Target = Filling;

    fn deref(&self) -> &Filling {
        &self.0
    }
}

impl Filled {
    /// Its columns, emptied, for another share.
    pub fn emptied(self) -> Columns {
        self.0.events.emptied()
    }
}

/// What the stored position must still be for a write to be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The epoch that the assignment got.
    pub epoch: Epoch,
    /// The position last written.
    pub next_offset: Offset,
    /// How many campaigns other partitions had taken over when what we know of them was read.
    pub campaigns_moved: Count,
}

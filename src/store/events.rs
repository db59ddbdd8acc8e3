//! Events as columns, and the fingerprints that tell two contents apart.

use std::hash::{BuildHasher, Hash, Hasher};

use uuid::Uuid;

use crate::event::{AdEvent, Conversions, Count, Counts, Money};
use crate::offset::Offset;
use crate::time::Timestamp;

/// Events as columns: row `i` is element `i` of each.
#[derive(Debug, Default, Clone)]
pub struct Columns {
    pub offset: Vec<Offset>,
    pub event_id: Vec<Uuid>,
    /// Index into the dictionary of campaign ids that goes with these columns.
    pub campaign: Vec<u32>,
    /// [`crate::event::Platform::index`].
    pub platform: Vec<u8>,
    pub event_time: Vec<Timestamp>,
    pub impressions: Vec<Count>,
    pub clicks: Vec<Count>,
    pub conversions: Vec<Conversions>,
    pub cost_micros: Vec<Money>,
    pub revenue_micros: Vec<Money>,
    /// Of restatements, when the platform was asked. Empty where all are increments.
    pub observed_at: Vec<Option<Timestamp>>,
}

impl Columns {
    /// How many events.
    pub fn len(&self) -> usize {
        self.offset.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.offset.is_empty()
    }

    /// Appends an event; `campaign` is the index of its campaign id.
    pub fn push(&mut self, offset: Offset, event: &AdEvent<'_>, campaign: u32) {
        self.offset.push(offset);
        self.event_id.push(event.event_id);
        self.campaign.push(campaign);
        self.platform.push(event.platform.index());
        self.event_time.push(event.event_time);
        let c = &event.counts;
        self.impressions.push(c.impressions);
        self.clicks.push(c.clicks);
        self.conversions.push(c.conversions);
        self.cost_micros.push(c.cost_micros);
        self.revenue_micros.push(c.revenue_micros);
        if !self.observed_at.is_empty() {
            self.observed_at.push(None);
        }
    }

    /// Appends a restatement, of what a platform was asked for at `observed_at`.
    pub fn push_restatement(
        &mut self,
        offset: Offset,
        event: &AdEvent<'_>,
        campaign: u32,
        observed_at: Timestamp,
    ) {
        self.observed_at.resize(self.len(), None);
        self.push(offset, event, campaign);
        self.observed_at.truncate(self.len() - 1);
        self.observed_at.push(Some(observed_at));
    }

    /// Of a restatement, when the platform was asked.
    pub fn restated(&self, row: usize) -> Option<Timestamp> {
        self.observed_at.get(row).copied().flatten()
    }

    /// Puts other numbers in the place of a row's.
    pub fn restate(&mut self, row: usize, counts: Counts) {
        self.impressions[row] = counts.impressions;
        self.clicks[row] = counts.clicks;
        self.conversions[row] = counts.conversions;
        self.cost_micros[row] = counts.cost_micros;
        self.revenue_micros[row] = counts.revenue_micros;
    }

    /// The numbers of a row.
    pub fn counts(&self, row: usize) -> Counts {
        Counts {
            impressions: self.impressions[row],
            clicks: self.clicks[row],
            conversions: self.conversions[row],
            cost_micros: self.cost_micros[row],
            revenue_micros: self.revenue_micros[row],
        }
    }

    /// The same columns without rows, with room for about as many again: new pages cost more than what is
    /// written to them.
    pub fn emptied(mut self) -> Columns {
        fn column<T>(values: &mut Vec<T>) {
            let len = values.len();
            values.clear();
            values.shrink_to(2 * len);
        }
        column(&mut self.offset);
        column(&mut self.event_id);
        column(&mut self.campaign);
        column(&mut self.platform);
        column(&mut self.event_time);
        column(&mut self.impressions);
        column(&mut self.clicks);
        column(&mut self.conversions);
        column(&mut self.cost_micros);
        column(&mut self.revenue_micros);
        column(&mut self.observed_at);
        self
    }

    /// A copy without these rows, which ascend.
    pub fn without(&self, rows: &[usize]) -> Columns {
        fn column<T: Copy>(values: &[T], rows: &[usize]) -> Vec<T> {
            let mut kept = Vec::with_capacity(values.len() - rows.len());
            let mut next = 0;
            for &row in rows {
                kept.extend_from_slice(&values[next..row]);
                next = row + 1;
            }
            kept.extend_from_slice(&values[next..]);
            kept
        }
        Columns {
            offset: column(&self.offset, rows),
            event_id: column(&self.event_id, rows),
            campaign: column(&self.campaign, rows),
            platform: column(&self.platform, rows),
            event_time: column(&self.event_time, rows),
            impressions: column(&self.impressions, rows),
            clicks: column(&self.clicks, rows),
            conversions: column(&self.conversions, rows),
            cost_micros: column(&self.cost_micros, rows),
            revenue_micros: column(&self.revenue_micros, rows),
            observed_at: if self.observed_at.is_empty() {
                Vec::new()
            } else {
                column(&self.observed_at, rows)
            },
        }
    }
}

/// Everything of an event but its id, in 64 bits: two events with one id are the same event when
/// these agree. Keyed at random per process, so that no collision can be prepared; the hash is no MAC, and is never shown
/// to anybody who could learn from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(u64);

/// Makes [`Fingerprint`]s; all that are to be compared come from one.
#[derive(Clone, Default)]
pub struct Fingerprinter(foldhash::quality::RandomState);

impl Fingerprinter {
    /// The fingerprint of an event with these contents.
    pub fn of(
        &self,
        campaign: &str,
        platform: u8,
        event_time: Timestamp,
        counts: &Counts,
    ) -> Fingerprint {
        let mut hasher = self.0.build_hasher();
        hasher.write(campaign.as_bytes());
        hasher.write_u8(platform);
        hasher.write_i64(event_time.get());
        counts.hash(&mut hasher);
        Fingerprint(hasher.finish())
    }
}

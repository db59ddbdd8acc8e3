//! What the processor says of itself: its metrics, and at most one log line a second.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::event::{Count, Reason};
use crate::metrics;
use crate::store::write::commit::Committed;
use crate::totals::Totals;

const INTERVAL: Duration = Duration::from_secs(1);

/// What a run has done, in all.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub records: Count,
    pub events: Count,
    pub duplicates: Count,
    /// Report rows that said what was known, and those that were older than it.
    pub unchanged: Count,
    pub superseded: Count,
    pub dead_letters: BTreeMap<Reason, Count>,
    /// Transactions.
    pub batches: u64,
    /// When the first record came.
    pub first_record: Option<Instant>,
    /// From the first record to the last commit.
    pub reading: Duration,
}

impl Report {
    fn add(&mut self, committed: &Committed) {
        self.records += committed.records;
        self.events += committed.totals.events;
        self.duplicates += committed.duplicates;
        self.unchanged += committed.unchanged;
        self.superseded += committed.superseded;
        for reason in &committed.dead {
            *self.dead_letters.entry(*reason).or_default() += Count::new(1);
        }
    }

    /// Dead letters of every reason.
    pub fn dead(&self) -> Count {
        self.dead_letters.values().copied().sum()
    }

    /// What became of records, in words.
    pub fn outcomes(&self) -> String {
        let mut words = format!(
            "{} events, {} duplicates, {} dead letters",
            self.events,
            self.duplicates,
            self.dead()
        );
        // Only reports have these.
        for (count, what) in [
            (self.unchanged, "unchanged"),
            (self.superseded, "superseded"),
        ] {
            if count > Count::ZERO {
                words.push_str(&format!(", {count} {what}"));
            }
        }
        words
    }
}

/// Collects what was committed, counts it and says it once a second.
pub struct Reporter {
    total: Report,
    recent: Report,
    totals: Totals,
    slowest: Duration,
    since: Instant,
}

impl Reporter {
    pub fn new() -> Reporter {
        Reporter {
            total: Report::default(),
            recent: Report::default(),
            totals: Totals::default(),
            slowest: Duration::ZERO,
            since: Instant::now(),
        }
    }

    /// Notes that records come in.
    pub fn record_came(&mut self) {
        self.total.first_record.get_or_insert_with(Instant::now);
    }

    /// Notes a transaction.
    pub fn batch(&mut self, took: Duration) {
        let first = self.total.first_record;
        self.total.reading = first.map_or(Duration::ZERO, |at| at.elapsed());
        self.total.batches += 1;
        self.recent.batches += 1;
        self.slowest = self.slowest.max(took);
    }

    /// Notes a share of it.
    pub fn committed(&mut self, committed: &Committed) {
        self.total.add(committed);
        self.recent.add(committed);
        metrics::EVENTS.inc_by(committed.totals.events.as_u64());
        metrics::DUPLICATES.inc_by(committed.duplicates.as_u64());
        metrics::UNCHANGED.inc_by(committed.unchanged.as_u64());
        metrics::SUPERSEDED.inc_by(committed.superseded.as_u64());
        for reason in &committed.dead {
            let of_reason = metrics::DEAD_LETTERS.with_label_values(&[reason.as_str()]);
            of_reason.inc();
        }
        self.totals = self.totals.saturating_add(committed.totals);
    }

    /// Says what was done since the last line, if that was long enough ago and there is anything.
    pub fn line(&mut self, lag: impl FnOnce() -> Option<Count>) {
        let elapsed = self.since.elapsed();
        if elapsed < INTERVAL || self.recent.batches == 0 {
            return;
        }
        let show = |ratio: Option<f64>, scale: f64, unit: &str| {
            ratio.map_or_else(|| "–".to_owned(), |r| format!("{:.2}{unit}", r * scale))
        };
        log::info!(
            "{} · {:.0} records/s · CTR {} ROAS {} · {} batches, slowest {:.1} ms · lag {}",
            self.recent.outcomes(),
            self.recent.records.as_f64() / elapsed.as_secs_f64(),
            show(self.totals.ctr(), 100.0, " %"),
            show(self.totals.roas(), 1.0, ""),
            self.recent.batches,
            self.slowest.as_secs_f64() * 1e3,
            lag().map_or_else(|| "unknown".to_owned(), |lag| lag.to_string()),
        );
        self.recent = Report::default();
        self.totals = Totals::default();
        self.slowest = Duration::ZERO;
        self.since = Instant::now();
    }

    /// What was done in all.
    pub fn total(&self) -> &Report {
        &self.total
    }
}

//! What the simulator handed out, to hold against what the pipeline counted.

use std::fmt;

use crate::event::{Counts, Reason};
use crate::totals::{Overflow, Totals};

/// Records by kind, and the sums over the unique events.
///
/// It counts what [`next_record`](super::Simulator::next_record) returned. Whether it reached the
/// topic is for the producer to say.
///
/// As text, one value a line: a name, spaces, a plain integer. Names stay what they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ledger {
    events: u64,
    duplicates: u64,
    late: u64,
    /// By position in [`Reason::ALL`], which is the order of its discriminants.
    malformed: [u64; Reason::ALL.len()],
    totals: Result<Totals, Overflow>,
}

impl Default for Ledger {
    fn default() -> Ledger {
        Ledger {
            events: 0,
            duplicates: 0,
            late: 0,
            malformed: [0; Reason::ALL.len()],
            totals: Ok(Totals::default()),
        }
    }
}

impl Ledger {
    #[inline]
    pub(super) fn count_event(&mut self, counts: Counts, late: bool) {
        self.events += 1;
        self.late += u64::from(late);
        self.totals = self.totals.and_then(|t| t.checked_add(Totals::of(counts)));
    }

    pub(super) fn count_duplicate(&mut self) {
        self.duplicates += 1;
    }

    pub(super) fn count_malformed(&mut self, reason: Reason) {
        self.malformed[reason as usize] += 1;
    }

    /// Records of all kinds: events, duplicates and malformed ones.
    pub fn records(&self) -> u64 {
        self.events + self.duplicates + self.malformed()
    }

    /// Unique events, late ones included: what the pipeline must count.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Events that were sent once more.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Of the events, those that were late.
    pub fn late(&self) -> u64 {
        self.late
    }

    /// Records that must become dead letters.
    pub fn malformed(&self) -> u64 {
        self.malformed.iter().sum()
    }

    /// Records that must become dead letters for `reason`.
    pub fn malformed_by(&self, reason: Reason) -> u64 {
        self.malformed[reason as usize]
    }

    /// The sums over the unique events.
    ///
    /// # Errors
    /// [`Overflow`] once a sum has passed `i64::MAX`, which takes some 10^11 events. The sums are
    /// lost then, the other numbers are not.
    pub fn totals(&self) -> Result<Totals, Overflow> {
        self.totals
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |name: &str, value: &dyn fmt::Display| writeln!(f, "{name:<32}{value:>20}");
        line("records", &self.records())?;
        line("events", &self.events)?;
        line("duplicates", &self.duplicates)?;
        line("late", &self.late)?;
        line("malformed", &self.malformed())?;
        for &reason in Reason::ALL {
            if self.malformed_by(reason) > 0 {
                line(
                    &format!("malformed.{}", reason.as_str()),
                    &self.malformed_by(reason),
                )?;
            }
        }
        let sum = |field: fn(&Counts) -> String| match &self.totals {
            Ok(totals) => field(&totals.counts),
            Err(Overflow) => "overflow".to_owned(),
        };
        line("impressions", &sum(|c| c.impressions.to_string()))?;
        line("clicks", &sum(|c| c.clicks.to_string()))?;
        line("conversions", &sum(|c| c.conversions.to_string()))?;
        line("cost_micros", &sum(|c| c.cost_micros.to_string()))?;
        line("revenue_micros", &sum(|c| c.revenue_micros.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_well_and_parses_well() {
        let mut ledger = Ledger::default();
        let counts = Counts::of([1_000, 20, 1_000_000, 5_000_000, 9_000_000]);
        ledger.count_event(counts, false);
        ledger.count_event(counts, true);
        ledger.count_duplicate();
        ledger.count_malformed(Reason::Truncated);
        assert_eq!(
            ledger.to_string(),
            "\
records                                            4
events                                             2
duplicates                                         1
late                                               1
malformed                                          1
malformed.truncated                                1
impressions                                     2000
clicks                                            40
conversions                                        2
cost_micros                                 10000000
revenue_micros                              18000000
"
        );
        for line in ledger.to_string().lines() {
            let mut words = line.split_whitespace();
            let value = words.nth(1).and_then(|v| v.parse::<i64>().ok());
            assert!(value.is_some() && words.next().is_none(), "{line}");
        }
    }

    #[test]
    fn each_reason_has_a_count_of_its_own() {
        for (at, &reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(reason as usize, at);
        }
    }

    #[test]
    fn an_overflow_is_said_and_stays() {
        let mut ledger = Ledger::default();
        for impressions in [i64::MAX, 1, 1] {
            ledger.count_event(Counts::of([impressions, 0, 0, 0, 0]), false);
        }
        assert_eq!(ledger.totals(), Err(Overflow));
        assert_eq!(ledger.events(), 3);
        assert!(ledger.to_string().contains("overflow"));
    }
}

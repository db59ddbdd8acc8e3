//! What was sent, to hold against what was counted.

use std::collections::BTreeMap;

use adflux::event::{Count, Counts, MILLION};
use adflux::totals::Totals;

/// What must become of the records of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    pub records: i64,
    pub duplicates: i64,
    /// Dead letters by reason.
    pub dead: BTreeMap<String, i64>,
    /// The sums over the unique events, and how many there are.
    pub totals: Totals,
}

impl Ledger {
    /// Reads what `adflux simulate` prints at the end.
    pub fn parse(text: &str) -> Ledger {
        let mut values: BTreeMap<&str, i64> = BTreeMap::new();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let (name, value) = (words.next(), words.next());
            let value = value.and_then(|v| v.parse().ok());
            let (Some(name), Some(value), None) = (name, value, words.next()) else {
                panic!("not a line of a ledger: '{line}'");
            };
            values.insert(name, value);
        }
        let of = |name: &str| {
            *values
                .get(name)
                .unwrap_or_else(|| panic!("no {name}: {text}"))
        };
        let dead: BTreeMap<String, i64> = values
            .iter()
            .filter_map(|(name, n)| Some((name.strip_prefix("malformed.")?.to_owned(), *n)))
            .collect();
        assert_eq!(dead.values().sum::<i64>(), of("malformed"));
        Ledger {
            records: of("records"),
            duplicates: of("duplicates"),
            dead,
            totals: Totals {
                events: Count::new(of("events")),
                counts: Counts::of([
                    of("impressions"),
                    of("clicks"),
                    of("conversions") * MILLION,
                    of("cost_micros"),
                    of("revenue_micros"),
                ]),
            },
        }
    }

    /// Adds an event to what must be counted.
    pub fn event(&mut self, counts: Counts) {
        self.records += 1;
        self.add_totals(Totals::of(counts));
    }

    /// Adds records that were counted before.
    pub fn repeat(&mut self, records: i64) {
        self.records += records;
        self.duplicates += records;
    }

    /// Adds a record that must become a dead letter.
    pub fn dead(&mut self, reason: &str) {
        self.records += 1;
        *self.dead.entry(reason.to_owned()).or_default() += 1;
    }

    /// Adds what another run sent.
    pub fn add(&mut self, other: &Ledger) {
        self.records += other.records;
        self.duplicates += other.duplicates;
        for (reason, n) in &other.dead {
            *self.dead.entry(reason.clone()).or_default() += n;
        }
        self.add_totals(other.totals);
    }

    fn add_totals(&mut self, totals: Totals) {
        self.totals = self.totals.checked_add(totals).expect("small sums");
    }
}

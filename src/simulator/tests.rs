//! The stream as a whole, read back the way the processor reads it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proptest::prelude::*;
use uuid::{Variant, Version};

use super::faults::NOT_OURS;
use super::*;
use crate::codec::{Decoder, SchemaIds};
use crate::event::{Conversions, Count, Money};
use crate::time::Length;
use crate::totals::Totals;

/// 2025-06-01T00:00:00Z.
const START: Timestamp = Timestamp::new(1_748_736_000_000_000);
/// Between records; not a round number, so that times differ in all their digits.
const STEP: Length = Length::new(1_234_567);

fn settings(seed: u64, faults: Faults) -> Settings {
    Settings {
        seed,
        campaigns: 100,
        faults,
        schema_id: SchemaIds::OWN.event,
    }
}

fn some_faults() -> Faults {
    Faults {
        duplicates: 0.1,
        late: 0.1,
        malformed: 0.1,
    }
}

/// A record that owns its bytes, and the time it was asked for.
#[derive(Clone, Debug, PartialEq)]
struct Owned {
    key: Vec<u8>,
    value: Vec<u8>,
    expected: Expected,
    event_time: Timestamp,
    now: Timestamp,
}

fn take(simulator: &mut Simulator, records: i64) -> Vec<Owned> {
    (0..records)
        .map(|i| {
            let now = START + STEP.times(i);
            let r = simulator.next_record(now);
            Owned {
                key: r.key.to_vec(),
                value: r.value.to_vec(),
                expected: r.expected,
                event_time: r.event_time,
                now,
            }
        })
        .collect()
}

/// As the processor judges a record before it looks for duplicates.
fn read<'a>(decoder: &'a mut Decoder, record: &'a Owned) -> Result<AdEvent<'a>, Reason> {
    let message = decoder.decode(&record.value)?;
    let event = message.event().expect("an event");
    if event.campaign_id.as_str().as_bytes() != record.key {
        return Err(Reason::KeyMismatch);
    }
    event.validate(record.now)?;
    Ok(event)
}

fn decoder() -> Decoder {
    Decoder::new(SchemaIds::OWN).expect("the compiled-in schema")
}

#[test]
fn the_stream_is_the_same_everywhere() {
    let mut simulator = Simulator::new(&settings(7, some_faults()));
    let records = take(&mut simulator, 1_000);
    // FNV-1a over keys and values. A change here changes every seed's data: say so in the
    // changelog, and never for a dependency's sake.
    let hash = records
        .iter()
        .flat_map(|r| r.key.iter().chain(&r.value))
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    assert_eq!(hash, 0xd6d9_fff0_6d7b_bb6d, "{hash:#018x}");
}

#[test]
fn campaign_ids_are_the_index_in_decimal() {
    let mut id = String::new();
    for index in [0, 7, 10, 42, 99, 100, 9_999_999, u32::MAX] {
        write_campaign_id(index, &mut id);
        assert_eq!(id, format!("cmp-{index}"));
    }
}

#[test]
fn the_seed_decides_and_nothing_else() {
    let stream = |seed| take(&mut Simulator::new(&settings(seed, some_faults())), 500);
    assert_eq!(stream(1), stream(1));
    assert_ne!(stream(1), stream(2));
}

#[test]
fn shares_are_what_was_asked_for() {
    let faults = Faults {
        duplicates: 0.01,
        late: 0.05,
        malformed: 0.001,
    };
    let mut simulator = Simulator::new(&settings(3, faults));
    let records = 400_000;
    for i in 0..records {
        simulator.next_record(START + STEP.times(i));
    }
    let ledger = simulator.ledger();
    assert_eq!(ledger.records(), records as u64);
    for (share, count) in [
        (faults.duplicates, ledger.duplicates()),
        (faults.late, ledger.late()),
        (faults.malformed, ledger.malformed()),
    ] {
        let expected = share * records as f64;
        // Six standard deviations of a binomial distribution.
        let tolerance = 6.0 * (expected * (1.0 - share)).sqrt();
        let off = (count as f64 - expected).abs();
        assert!(off < tolerance, "{count} for a share of {share}");
    }
}

#[test]
fn without_faults_there_are_only_valid_events() {
    let mut simulator = Simulator::new(&settings(5, Faults::default()));
    let mut ids = BTreeSet::new();
    let mut campaigns = BTreeSet::new();
    let mut decoder = decoder();
    for record in take(&mut simulator, 20_000) {
        assert_eq!(record.expected, Expected::Event);
        let event = read(&mut decoder, &record).expect("valid");
        assert_eq!(event.event_time, record.now);
        assert_eq!(record.event_time, record.now);
        let c = event.counts;
        assert!(
            c.clicks <= c.impressions && c.conversions.parts().0 <= c.clicks.get(),
            "{c:?}"
        );
        assert!(
            (c.cost_micros > Money::ZERO) == (c.clicks > Count::ZERO),
            "{c:?}"
        );
        assert!(
            (c.revenue_micros > Money::ZERO) == (c.conversions > Conversions::ZERO),
            "{c:?}"
        );
        assert!((10..12_000).contains(&c.impressions.get()), "{c:?}");

        assert_eq!(event.event_id.get_version(), Some(Version::SortRand));
        assert_eq!(event.event_id.get_variant(), Variant::RFC4122);
        let millis = event.event_id.as_u128() >> 80;
        assert_eq!(millis, event.event_time.get() as u128 / 1_000);
        assert!(ids.insert(event.event_id), "an id twice");
        campaigns.insert(event.campaign_id.to_string());
    }
    let all: BTreeSet<String> = (0..100).map(|i| format!("cmp-{i}")).collect();
    assert_eq!(campaigns, all);
}

#[test]
fn every_malformed_record_is_refused_for_its_reason() {
    let mut simulator = Simulator::new(&settings(9, some_faults()));
    let mut decoder = decoder();
    let mut sent = HashMap::new();
    let mut seen = BTreeMap::<Reason, u64>::new();
    for record in take(&mut simulator, 20_000) {
        let read = read(&mut decoder, &record);
        match record.expected {
            Expected::Event => {
                let id = read.expect("valid").event_id;
                assert_eq!(sent.insert(id, record.clone()), None);
            }
            Expected::Duplicate => {}
            Expected::Malformed(Reason::ConflictingDuplicate) => {
                let event = read.expect("its bytes are in order");
                let first = sent.get(&event.event_id).expect("sent before");
                assert_eq!(first.key, record.key);
                assert_eq!(first.event_time, event.event_time);
                assert_ne!(first.value, record.value);
            }
            Expected::Malformed(reason) => {
                assert_eq!(read.err(), Some(reason));
                assert_eq!(record.event_time, record.now);
            }
        }
        if let Expected::Malformed(reason) = record.expected {
            *seen.entry(reason).or_default() += 1;
        }
    }
    // All of them, in turn: no reason is seen more than once oftener than another.
    assert_eq!(seen.len(), Reason::ALL.len() - NOT_OURS.len());
    let (least, most) = (seen.values().min(), seen.values().max());
    assert!(most.zip(least).is_some_and(|(m, l)| m - l <= 1), "{seen:?}");
    for (&reason, &count) in &seen {
        assert_eq!(simulator.ledger().malformed_by(reason), count);
    }
}

#[test]
fn duplicates_are_recent_events_byte_for_byte() {
    let mut simulator = Simulator::new(&settings(13, some_faults()));
    let records = take(&mut simulator, 20_000);
    let mut events: Vec<&Owned> = vec![];
    for record in &records {
        match record.expected {
            Expected::Event => events.push(record),
            Expected::Duplicate => {
                let recent = &events[events.len().saturating_sub(RECENT)..];
                assert!(recent.iter().any(|e| e.key == record.key
                    && e.value == record.value
                    && e.event_time == record.event_time));
            }
            Expected::Malformed(_) => {}
        }
    }
}

#[test]
fn late_events_say_so_and_count() {
    let late = Faults {
        late: 1.0,
        ..Faults::default()
    };
    let mut simulator = Simulator::new(&settings(17, late));
    let mut decoder = decoder();
    let records = take(&mut simulator, 5_000);
    for record in &records {
        assert_eq!(record.expected, Expected::Event);
        let event = read(&mut decoder, record).expect("valid");
        assert_eq!(event.event_time, record.event_time);
        let delay = record.now - event.event_time;
        assert!((Length::SECOND..Length::HOUR.times(2)).contains(&delay));
    }
    assert_eq!(simulator.ledger().events(), 5_000);
    assert_eq!(simulator.ledger().late(), 5_000);
}

#[test]
fn the_extremes_work() {
    for campaigns in [0, 1, 10_000_000, u32::MAX] {
        for faults in [
            Faults {
                duplicates: 1.0,
                ..Faults::default()
            },
            Faults {
                malformed: 1.0,
                ..Faults::default()
            },
            some_faults(),
        ] {
            let mut simulator = Simulator::new(&Settings {
                campaigns,
                ..settings(u64::MAX, faults)
            });
            for now in [i64::MIN, -1, 0, 1, START.get(), i64::MAX].map(Timestamp::new) {
                for _ in 0..40 {
                    simulator.next_record(now);
                }
            }
            assert_eq!(simulator.ledger().records(), 240);
        }
    }
}

#[test]
fn a_history_has_a_daily_rhythm() {
    let mut simulator = Simulator::new(&settings(19, Faults::default()));
    let mut decoder = decoder();
    let mut impressions = [0i64; 24];
    for i in 0..50_000 {
        let now = START + Length::new(i * (7 * 86_400_000_000 / 50_000));
        let record = simulator.next_record(now);
        let hour = ((now - now.floor(Length::DAY)) / Length::HOUR) as usize;
        let message = decoder.decode(record.value).expect("decodes");
        let event = message.event().expect("an event");
        impressions[hour] += event.counts.impressions.get();
    }
    assert!(impressions[20] > 3 * impressions[3], "{impressions:?}");
}

fn faults() -> impl Strategy<Value = Faults> {
    (0.0..0.4f64, 0.0..0.4f64, 0.0..0.4f64).prop_map(|(duplicates, late, malformed)| Faults {
        duplicates,
        late,
        malformed,
    })
}

proptest! {
    /// Reading the stream back, dropping what comes again and what cannot be read, gives the ledger.
    #[test]
    fn the_ledger_is_the_stream_folded(seed: u64, campaigns in 1u32..5_000, faults in faults()) {
        let mut simulator = Simulator::new(&Settings { campaigns, ..settings(seed, faults) });
        let records = take(&mut simulator, 300);
        let mut decoder = decoder();
        let mut counted: HashMap<Uuid, Vec<u8>> = HashMap::new();
        let mut totals = Totals::default();
        let (mut duplicates, mut dead) = (0, 0);
        for record in &records {
            let Ok(event) = read(&mut decoder, record) else {
                dead += 1;
                continue;
            };
            match counted.get(&event.event_id) {
                Some(first) if *first == record.value => duplicates += 1,
                Some(_) => dead += 1,
                None => {
                    totals = totals.checked_add(Totals::of(event.counts)).expect("small");
                    counted.insert(event.event_id, record.value.clone());
                }
            }
        }
        let ledger = simulator.ledger();
        prop_assert_eq!(ledger.totals(), Ok(totals));
        prop_assert_eq!(ledger.events(), counted.len() as u64);
        prop_assert_eq!(ledger.duplicates(), duplicates);
        prop_assert_eq!(ledger.malformed(), dead);
        prop_assert_eq!(ledger.records(), records.len() as u64);
    }
}

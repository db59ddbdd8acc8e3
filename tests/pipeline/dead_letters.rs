//! Bad input never stops the pipeline and never disappears; a flood of it does stop it, loudly.

use data_encoding::HEXLOWER;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

use adflux::event::{Count, Counts, MAX_AHEAD, MAX_SUM, MILLION, Money, Reason};
use adflux::report_row::Values;
use adflux::store::read::dead_letters::Filter;
use adflux::time::{Length, Timestamp};
use rand::{Rng, SeedableRng};
use tempfile::NamedTempFile;
use uuid::Uuid;

use crate::ledger::Ledger;
use crate::process::Process;
use crate::records::{Event, Record, now};
use crate::reports::{Row, at};
use crate::world::World;

/// The bytes of a good event of campaign `abc`, changed by hand.
fn damaged(damage: impl FnOnce(&mut Vec<u8>)) -> Record {
    let mut record = Event::of("abc").record();
    damage(record.payload.as_mut().expect("an event"));
    record
}

/// Where the campaign id starts: after 5 bytes of framing, the length of the UUID, the UUID, and
/// the length of the id.
const CAMPAIGN: usize = 5 + 1 + 36 + 1;

/// An event whose campaign id no [`Event`] can have, with the key to match.
fn with_campaign(campaign: &[u8]) -> Record {
    let mut record = damaged(|payload| {
        let length = u8::try_from(2 * campaign.len()).expect("a short zig-zag length");
        payload.splice(CAMPAIGN - 1..CAMPAIGN + 3, [&[length], campaign].concat());
    });
    record.key = Some(campaign.to_vec());
    record
}

fn with_event(change: impl FnOnce(&mut Event)) -> Record {
    let mut event = Event::of("abc");
    change(&mut event);
    event.record()
}

/// A report of a campaign that has none but this.
fn report() -> Row {
    Row::of("google:1:10", "2024-06-03", "2024-06-04T07:00:00Z", 5)
}

fn with_report(change: impl FnOnce(&mut Row)) -> Record {
    let mut row = report();
    change(&mut row);
    row.record()
}

/// A report in which other words of the same length stand for these.
fn miswritten(words: &str, others: &str) -> Record {
    let mut record = report().record();
    let payload = record.payload.as_mut().expect("a report");
    let mut places = payload.windows(words.len());
    let at = places
        .position(|place| place == words.as_bytes())
        .expect("it has these words");
    payload[at..at + words.len()].copy_from_slice(others.as_bytes());
    record
}

/// What is wrong with reports, given that [`report`] was counted.
fn bad_reports() -> Vec<(Reason, Record)> {
    vec![
        (Reason::InvalidAccount, with_report(|r| r.account = "1 2")),
        (Reason::InvalidAccount, with_report(|r| r.account = "")),
        (
            Reason::InvalidTimeZone,
            miswritten("Europe/Berlin", "Europe/Barlin"),
        ),
        (Reason::InvalidCurrency, miswritten("EUR", "eur")),
        (
            Reason::InvalidDay,
            with_report(|r| r.day = "2024-06-06".parse().expect("a date")),
        ),
        (
            Reason::TextTooLong,
            with_report(|r| r.name = "n".repeat(1_025)),
        ),
        (
            Reason::ConflictingReport,
            with_report(|r| r.values[1] = None),
        ),
        (
            Reason::MixedReport,
            with_report(|r| (r.account, r.observed_at) = ("2", at("2024-06-05T07:00:00Z"))),
        ),
        (
            Reason::MixedReport,
            with_report(|r| (r.slice, r.observed_at) = ("ad=1", at("2024-06-05T08:00:00Z"))),
        ),
        (Reason::NulByte, with_report(|r| r.name = "a\0".to_owned())),
        (
            Reason::NegativeValue,
            with_report(|r| r.values[0] = Some(-1)),
        ),
        (
            Reason::SumOverflow,
            with_report(|r| r.values[4] = Some(MAX_SUM + 1)),
        ),
        (
            Reason::InvalidEventTime,
            with_report(|r| r.observed_at = Timestamp::new(-1)),
        ),
        (
            Reason::KeyMismatch,
            Record {
                key: Some(b"google:1:11".to_vec()),
                ..report().record()
            },
        ),
    ]
}

/// Everything that issue and codec call bad, with the reason it must get.
fn bad_records(counted: &Event) -> Vec<(Reason, Record)> {
    let mut noise = [0; 200];
    rand_chacha::ChaCha8Rng::seed_from_u64(3).fill_bytes(&mut noise);
    let framed_noise = [&[0, 0, 0, 0, 1][..], &[0xff; 40], &noise].concat();
    noise[0] |= 1;
    let repeated = |change: fn(&mut Event)| {
        let mut event = counted.clone();
        change(&mut event);
        event.record()
    };
    let keyed = |key: Option<&[u8]>| Record {
        key: key.map(<[u8]>::to_vec),
        ..Event::of("abc").record()
    };
    vec![
        (Reason::WrongMagicByte, damaged(|p| p[0] = 1)),
        (Reason::WrongMagicByte, damaged(|p| *p = noise.to_vec())),
        (
            Reason::WrongMagicByte,
            damaged(|p| *p = b"{\"event_id\":1}".to_vec()),
        ),
        (Reason::UnknownSchema, damaged(|p| p[4] = 99)),
        (Reason::Truncated, damaged(|p| p.truncate(p.len() - 1))),
        (Reason::Truncated, damaged(|p| p.truncate(3))),
        (Reason::TrailingBytes, damaged(|p| p.push(0))),
        (Reason::MalformedAvro, damaged(|p| *p = framed_noise)),
        (Reason::MalformedAvro, with_campaign(b"\xff\xfe")),
        (Reason::InvalidEventId, damaged(|p| p[6] = b'x')),
        (Reason::InvalidCampaignId, with_campaign(b"a/b")),
        (Reason::InvalidCampaignId, with_campaign(b"")),
        (
            Reason::InvalidCampaignId,
            with_campaign(&[b'x'; 63].map(|_| b' ')),
        ),
        (Reason::NulByte, with_campaign(b"a\0b")),
        (Reason::UnknownPlatform, damaged(|p| p[CAMPAIGN + 3] = 8)),
        (Reason::KeyMismatch, keyed(Some(b"abd"))),
        (Reason::KeyMismatch, keyed(Some(b""))),
        (Reason::KeyMismatch, keyed(None)),
        (
            Reason::NegativeValue,
            with_event(|e| e.counts.clicks = Count::new(-1)),
        ),
        (
            Reason::NegativeValue,
            with_event(|e| e.counts.cost_micros = Money::new(i64::MIN)),
        ),
        (
            Reason::SumOverflow,
            with_event(|e| e.counts.impressions = Count::new(MAX_SUM + 1)),
        ),
        (
            Reason::SumOverflow,
            with_event(|e| e.counts.revenue_micros = Money::new(i64::MAX)),
        ),
        (Reason::InvalidEventTime, with_event(|e| e.time = -1)),
        (
            Reason::FutureEventTime,
            with_event(|e| e.time += MAX_AHEAD.get() + Length::HOUR.get()),
        ),
        (Reason::FutureEventTime, with_event(|e| e.time = i64::MAX)),
        (
            Reason::ConflictingDuplicate,
            repeated(|e| e.counts.clicks += Count::new(1)),
        ),
        (Reason::ConflictingDuplicate, repeated(|e| e.time += 1)),
        (
            Reason::NoPayload,
            Record {
                payload: None,
                ..keyed(Some(b"abc"))
            },
        ),
        (Reason::NoPayload, damaged(Vec::clear)),
        (Reason::NullValue, of_other_writer(0, &[0, 1, 1, 1, 1, 1])),
        (
            Reason::UnknownPlatform,
            of_other_writer(1, &[1, 2, 1, 1, 1, 1, 1]),
        ),
        (Reason::Truncated, of_other_writer(0, &[1, 2, 1])),
        (
            Reason::FutureEventTime,
            of_other_writer(0, &[1, i64::MAX, 1, 1, 1, 1, 1]),
        ),
    ]
}

/// Another writer's schema: a platform more, and milliseconds, which may be null.
const OTHER: &str = r#"{"type":"record","name":"AdEvent","namespace":"adflux","fields":[
    {"name":"event_id","type":"string"},{"name":"campaign_id","type":"string"},
    {"name":"platform","type":{"type":"enum","name":"Platform","symbols":["Meta","Snapchat"]}},
    {"name":"event_time","type":["null",{"type":"long","logicalType":"timestamp-millis"}]},
    {"name":"impressions","type":"long"},{"name":"clicks","type":"long"},{"name":"conversions","type":"long"},
    {"name":"cost_micros","type":"long"},{"name":"revenue_micros","type":"long"}]}"#;

/// A value in that schema, under id 8, of campaign `abc`: the index of its platform, and what follows as numbers.
fn of_other_writer(platform: i64, rest: &[i64]) -> Record {
    let mut payload = Event::of("abc").record().payload.expect("an event");
    // Up to the platform, both are the same.
    payload.truncate(CAMPAIGN + "abc".len());
    payload[4] = 8;
    let zigzag = |n: i64| ((n << 1) ^ (n >> 63)) as u64;
    let numbers = std::iter::once(zigzag(platform));
    for mut number in numbers.chain(rest.iter().map(|&number| zigzag(number))) {
        while number >= 0x80 {
            payload.push(number as u8 | 0x80);
            number >>= 7;
        }
        payload.push(number as u8);
    }
    Record {
        payload: Some(payload),
        ..Event::of("abc").record()
    }
}

#[test]
fn every_kind_of_bad_input_is_kept_whole_with_its_reason() {
    let world = World::new("bad_input");
    world.create_topic(4, &[]);
    let mut ledger = Ledger::default();
    let mut records = Vec::new();
    let good = |records: &mut Vec<Record>, ledger: &mut Ledger| {
        let event = Event::of("abc");
        records.push(event.record());
        ledger.event(event.counts);
        event
    };
    let counted = good(&mut records, &mut ledger);
    records.push(report().record());
    ledger.event(Values::of(report().values).beyond(&Values::default()));
    let mut bad = bad_records(&counted);
    bad.extend(bad_reports());
    let reasons: BTreeSet<_> = bad.iter().map(|(reason, _)| *reason).collect();
    // What only a registry makes one is with the registry, what only dropped events do with retention, and what only several
    // databases do with these.
    let others = [
        Reason::IncompatibleSchema,
        Reason::TooOld,
        Reason::WrongPartition,
    ];
    assert_eq!(
        reasons.len() + others.len(),
        Reason::ALL.len(),
        "a reason has no record here"
    );
    let mut expected = BTreeMap::new();
    for (n, (reason, mut record)) in bad.into_iter().enumerate() {
        record.headers = vec![
            ("trace".into(), Some(vec![n as u8, 0, 0xff])),
            ("trace".into(), Some(vec![])),
            ("empty \u{e9}".into(), None),
        ];
        ledger.dead(reason.as_str());
        expected.insert((record.key.clone(), record.payload.clone()), reason);
        records.push(record);
        good(&mut records, &mut ledger);
    }
    world.send(&records);
    let mut schema = NamedTempFile::new().expect("a file");
    schema.write_all(OTHER.as_bytes()).expect("writes");
    let known = format!("8={}", schema.path().display());
    world
        .process_until_end(&["--writer-schema", &known])
        .success();
    world.assert_counted(&ledger);

    let letters = world.letters(&Filter::default());
    assert_eq!(letters.len(), expected.len());
    let on_topic = world.read_topic();
    for letter in letters {
        let record = on_topic
            .iter()
            .find(|r| (r.partition, r.offset) == (letter.partition, letter.offset.get()))
            .expect("it was on the topic");
        assert_eq!(letter.topic, world.topic);
        assert_eq!(
            (&letter.key, &letter.payload),
            (&record.key, &record.payload)
        );
        let reason = expected[&(letter.key.clone(), letter.payload.clone())];
        assert_eq!(letter.reason, reason.as_str());
        let time = letter.record_time.map(|t| t.timestamp_millis());
        assert_eq!(time, record.timestamp);
        let headers: Vec<_> = record
            .headers
            .iter()
            .map(|(key, value)| serde_json::json!({"key": key, "value": value.as_deref().map(|value| HEXLOWER.encode(value))}))
            .collect();
        assert_eq!(headers.len(), 3);
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&letter.headers).expect("JSON"),
            serde_json::Value::Array(headers)
        );
    }
}

#[test]
fn a_report_that_cannot_be_counted_is_shown_as_far_as_it_can_be_read() {
    let world = World::new("shown_reports");
    world.create_topic(1, &[]);
    let mut cut = report().record();
    cut.payload.as_mut().expect("a report").truncate(90);
    world.send(&[
        report().record(),
        cut,
        miswritten("EUR", "eur"),
        with_report(|r| r.values[1] = None),
        with_report(|r| (r.account, r.observed_at) = ("2", at("2024-06-05T07:00:00Z"))),
    ]);
    world.process_until_end(&[]).success();
    let shown = |offset: i64, lines: &[&str]| {
        let place = format!("{}:0:{offset}", world.topic);
        let show = Process::start(&mut world.command("dlq", &["show", &place]));
        let shown = show.end().success().stdout;
        for line in lines {
            assert!(shown.contains(line), "no '{line}': {shown}");
        }
        shown
    };
    let cut = shown(
        1,
        &[
            "campaign_name   google:1:10, by name\n",
            "time_zone       Europe/Berlin\n",
            "then            cannot be read: the value ends in the middle of a field\n",
        ],
    );
    assert!(!cut.contains("\nline "), "{cut}");
    shown(
        2,
        &[
            "currency        eur\n",
            "day             2024-06-03\n",
            "clicks          5\n",
            "line            3\n",
            "then            cannot be read: currency is not",
        ],
    );
    shown(
        3,
        &["clicks          unknown\n", "it would be refused again"],
    );
    shown(4, &["account         2\n", "then --again sends this one"]);
}

/// What PostgreSQL or the client library could choke on would be read again and again.
#[test]
fn records_with_impossible_times_and_headers_do_not_stop_it() {
    let world = World::new("impossible");
    // Kafka itself refuses far-off times by default; other brokers do not.
    let anything = [
        ("message.timestamp.after.max.ms", "9223372036854775807"),
        ("message.timestamp.before.max.ms", "9223372036854775807"),
    ];
    world.create_topic(1, &anything);
    let mut ledger = Ledger::default();
    let mut records = Vec::new();
    for timestamp in [1, i64::MAX / 1_000, i64::MAX, -300_000_000_000_000] {
        let mut record = damaged(|p| p[0] = 1);
        record.timestamp = Some(timestamp);
        records.push(record);
        ledger.dead("wrong_magic_byte");
        let good = Event::of("abc");
        records.push(Record {
            timestamp: Some(timestamp),
            ..good.record()
        });
        ledger.event(good.counts);
    }
    world.send(&records);
    let times: Vec<_> = world.read_topic().iter().map(|r| r.timestamp).collect();
    assert!(times.contains(&Some(i64::MAX)) && times.contains(&Some(-300_000_000_000_000)));
    // Names of headers are text by convention only.
    let kcat = Command::new("kcat")
        .args(["-P", "-b", &world.brokers, "-t", &world.topic, "-k", "abc"])
        .arg("-H")
        .arg(OsStr::from_bytes(b"\xff\xfename=value"))
        .stdin(Stdio::piped())
        .spawn();
    let mut kcat = kcat.expect("kcat is installed");
    let mut pipe = kcat.stdin.take().expect("piped");
    pipe.write_all(b"not an event").expect("kcat reads");
    drop(pipe);
    assert!(kcat.wait().expect("kcat ends").success());
    ledger.dead("wrong_magic_byte");
    let last = Event::of("abc");
    world.send(&[last.record()]);
    ledger.event(last.counts);

    world.process_until_end(&[]).success();
    world.assert_counted(&ledger);
    let letters = world.letters(&Filter::default());
    let named = letters
        .iter()
        .find(|l| l.headers != "[]")
        .expect("one has headers");
    assert!(
        named.headers.contains(&HEXLOWER.encode(b"value")),
        "{}",
        named.headers
    );
}

#[test]
fn the_event_that_would_pass_a_sums_limit_is_the_dead_letter() {
    let world = World::new("overflow");
    world.create_topic(2, &[]);
    let mut ledger = Ledger::default();
    let mut records = Vec::new();
    for n in 0..5 {
        let campaign = format!("cmp-{n}");
        // A record has whole conversions, of which sums are in millionths.
        let unit = if n == 2 { MILLION } else { 1 };
        for (value, fits) in [
            (MAX_SUM / unit - 10, true),
            (11, false),
            (10, true),
            (1, false),
            (0, true),
        ] {
            let mut event = Event::of(&campaign);
            let mut numbers = [0; 5];
            numbers[n] = value * unit;
            event.counts = Counts::of(numbers);
            records.push(event.record());
            if fits {
                ledger.event(event.counts);
            } else {
                ledger.dead("sum_overflow");
            }
        }
        // Others on the partition are counted as ever.
        let other = Event::of(&format!("other-{n}"));
        records.push(other.record());
        ledger.event(other.counts);
    }
    world.send(&records);
    world.process_until_end(&[]).success();
    world.assert_counted(&ledger);

    // Another run knows no more than the database does.
    let mut late = Event::of("cmp-0");
    late.counts = Counts {
        impressions: Count::new(1),
        ..Counts::default()
    };
    world.send(&[late.record()]);
    ledger.dead("sum_overflow");
    world.process_until_end(&["--recent-events", "1"]).success();
    world.assert_counted(&ledger);
}

/// What says too much says nothing: later answers are compared with what was known before it.
#[test]
fn the_report_that_would_pass_a_sums_limit_is_the_dead_letter() {
    let world = World::new("overflowing_reports");
    world.create_topic(1, &[]);
    let row = |day: u32, hour: u32, revenue: i64| Row {
        values: [Some(1), None, None, None, Some(revenue)],
        ..Row::of(
            "google:1:10",
            &format!("2024-06-{day:02}"),
            &format!("2024-07-01T{hour:02}:00:00Z"),
            0,
        )
    };
    let event = |revenue: i64| {
        let mut event = Event::of("google:1:10");
        event.counts = Counts::of([0, 0, 0, 0, revenue]);
        event
    };
    let mut ledger = Ledger::default();
    let mut records = Vec::new();
    // Of each day, by how much what is said changes the sum, if it does.
    for (row, difference) in [
        (row(1, 1, MAX_SUM - 10), Some([1, MAX_SUM - 10])),
        (row(2, 1, 11), None),
        (row(2, 2, 8), Some([1, 8])),
        (row(2, 3, 11), None),
        (row(2, 4, 9), Some([0, 1])),
        (row(1, 2, MAX_SUM - 20), Some([0, -10])),
        (row(2, 5, 11), Some([0, 2])),
    ] {
        records.push(row.record());
        match difference {
            Some([impressions, revenue]) => {
                ledger.event(Counts::of([impressions, 0, 0, 0, revenue]))
            }
            None => ledger.dead("sum_overflow"),
        }
    }
    for (revenue, fits) in [(10, false), (9, true), (1, false)] {
        let event = event(revenue);
        records.push(event.record());
        if fits {
            ledger.event(event.counts);
        } else {
            ledger.dead("sum_overflow");
        }
    }
    world.send(&records);
    world.process_until_end(&[]).success();
    world.assert_counted(&ledger);
    // What was refused then can be said again, and a later answer is what counts.
    world.send(&[
        row(2, 6, 12).record(),
        row(1, 3, 0).record(),
        row(2, 7, 12).record(),
    ]);
    ledger.dead("sum_overflow");
    ledger.event(Counts::of([0, 0, 0, 0, 20 - MAX_SUM]));
    ledger.event(Counts::of([0, 0, 0, 0, 1]));
    world.process_until_end(&["--recent-events", "1"]).success();
    world.assert_counted(&ledger);
}

/// Each campaign is within its limit; all of them together do not fit 64 bits.
#[test]
fn a_batch_of_many_campaigns_at_their_limit_is_counted() {
    let world = World::new("limits");
    world.create_topic(1, &[]);
    let records: Vec<Record> = (0..1_500)
        .map(|n| {
            let mut event = Event::of(&format!("cmp-{n}"));
            event.counts = Counts {
                clicks: Count::new(MAX_SUM),
                ..Counts::default()
            };
            event.record()
        })
        .collect();
    world.send(&records);
    world.process_until_end(&["--linger", "1s"]).success();
    assert_eq!(world.number("SELECT count(*) FROM ad_events"), 1_500);
    let at_limit = format!("SELECT count(*) FROM metrics_total WHERE clicks = {MAX_SUM}");
    assert_eq!(world.number(&at_limit), 1_500);
    assert_eq!(world.dead_letters(), BTreeMap::new());
    world.assert_every_record_once();
}

/// One identity on two campaigns, so on two partitions, so in one transaction.
#[test]
fn one_identity_on_two_partitions_in_one_batch_does_not_stop_it() {
    let world = World::new("twins");
    world.create_topic(4, &[]);
    let mut ledger = Ledger::default();
    // With a memory of one event a partition, everything old is late.
    let mut records: Vec<Record> = (0..40)
        .map(|n| {
            let event = Event::of(&format!("cmp-{n}"));
            ledger.event(event.counts);
            event.record()
        })
        .collect();
    world.send(&records);
    let args = ["--recent-events", "4", "--linger", "1s"];
    world.process_until_end(&args).success();
    records.clear();
    let id = Uuid::from_u128(77);
    let time = now() - Length::HOUR.get();
    for n in 0..40 {
        let event = Event {
            id,
            time,
            ..Event::of(&format!("cmp-{n}"))
        };
        records.push(event.record());
        if n == 0 {
            ledger.event(event.counts);
        } else {
            ledger.dead("conflicting_duplicate");
        }
    }
    world.send(&records);
    world.process_until_end(&args).success();
    world.assert_counted(&ledger);
}

#[test]
fn a_flood_of_bad_records_stops_it_until_told_otherwise() {
    let world = World::new("flood");
    let ledger = world.simulate(&["--count", "30000", "--rate", "max", "--malformed", "60%"]);
    let ended = world.process_until_end(&[]).code(1);
    let says = |text: &str| assert!(ended.log.contains(text), "no '{text}' in {}", ended.log);
    says("of the last 10000 records could not be counted");
    says("raise --max-bad-share");
    let (before, _) = ended.log.split_once(" % of the last").expect("a share");
    let share: f64 = before
        .rsplit(' ')
        .next()
        .and_then(|number| number.parse().ok())
        .expect("a number");
    assert!((55.0..=65.0).contains(&share), "{share} %");
    let dead: i64 = world.dead_letters().values().sum();
    assert!(dead < 12_000, "{dead} dead letters before it stopped");

    world.process_until_end(&[]).code(1).says("--max-bad-share");
    world.process_until_end(&["--max-bad-share", "1"]).success();
    world.assert_counted(&ledger);
}

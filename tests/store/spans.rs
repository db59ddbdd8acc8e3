//! Spans: whatever becomes of them, lists are the fold of the events.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use adflux::event::Platform;
use adflux::store::events::Fingerprinter;
use adflux::store::keep::rebuild::rebuild;
use adflux::store::keep::spans::make_one;
use adflux::store::keep::verify::verify;
use adflux::store::read::insights::{Window, sheet};
use adflux::time::{Length, Timestamp};
use adflux::totals::Totals;
use diesel::PgConnection;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::database::{TestDatabase, execute, number, rows};
use crate::log::{Event, Log, START, event};
use crate::verify::verified;

/// The longest span.
const SPAN: Length = Length::DAY.times(64);
/// The second, after [`log::START`], at which a span of 2025 begins.
const FIRST: i64 = {
    let days_before = Length::DAY.times(300).get();
    let start = Timestamp::new(START.get() - days_before).floor(SPAN);
    (start.get() - START.get()) / Length::SECOND.get()
};
const DAY: i64 = 86_400;

fn window(since: i64, until: i64) -> Window {
    let micros = |second: i64| START + Length::SECOND.times(second);
    Window::covering(micros(since), micros(until)).expect("not empty")
}

fn make_all(db: &mut PgConnection) -> u32 {
    let mut made = 0;
    while make_one(db, Duration::ZERO).expect("a step") {
        made += 1;
    }
    made
}

/// The list of a window as it must be, of these events.
fn fold<'a>(
    events: impl Iterator<Item = &'a Event>,
    window: Window,
    platforms: &[Platform],
) -> Vec<(Box<str>, Totals)> {
    let mut sums: BTreeMap<&str, Totals> = BTreeMap::new();
    for event in events {
        let time = START + Length::SECOND.times(event.second);
        let inside = (window.since()..window.until()).contains(&time);
        if inside && (platforms.is_empty() || platforms.contains(&event.platform)) {
            let sum = sums.entry(event.campaign).or_default();
            *sum = sum.checked_add(Totals::of(event.counts)).expect("fits");
        }
    }
    sums.into_iter().map(|(id, sum)| (id.into(), sum)).collect()
}

fn list(db: &mut PgConnection, window: Window, platforms: &[Platform]) -> Vec<(Box<str>, Totals)> {
    let sheet = sheet::read(db, Some(window), platforms);
    sheet.expect("a list").rows
}

/// Events all over three spans and a half.
fn events(random: &mut StdRng, campaigns: &[&'static str], first_id: u128, n: u32) -> Vec<Event> {
    let mut one = |id| {
        let campaign = campaigns.choose(random).expect("some");
        event(id, campaign, FIRST + random.random_range(0..224 * DAY))
    };
    (0..u128::from(n)).map(|n| one(first_id + n)).collect()
}

#[test]
fn a_late_event_makes_spans_out_of_date_until_they_are_made_again() {
    let mut db = TestDatabase::create();
    let prints = Fingerprinter::default();
    let mut log = Log::claim(&mut db, 0);
    let mut random = StdRng::seed_from_u64(3);
    let mut all = events(&mut random, &["a", "b"], 1, 500);
    log.store(&mut db, &prints, all.iter().copied());
    // 28 of eight days, three of 64, and the one that the last half is in.
    assert_eq!(make_all(&mut db), 32);
    assert!(!make_one(&mut db, Duration::ZERO).expect("a step"));

    let span = |n: i64| window(FIRST + n * 64 * DAY, FIRST + (n + 1) * 64 * DAY);
    let right = |all: &[Event], n| fold(all.iter(), span(n), &[]);
    for n in 0..4 {
        assert_eq!(list(&mut db, span(n), &[]), right(&all, n));
    }
    // Whether a span was read shows when it is wrong.
    let spoil = "UPDATE metrics_by_span SET clicks = clicks + 1000000";
    execute(&mut db, spoil);
    let difference = verify(&mut db, &|_| ())
        .expect("an answer")
        .expect_err("a difference");
    assert_eq!(
        difference.check,
        "spans of 64 days are the sums of metrics_by_day"
    );
    for n in 0..4 {
        assert_ne!(list(&mut db, span(n), &[]), right(&all, n));
    }
    let late = event(1_000, "a", FIRST + 70 * DAY);
    all.push(late);
    let draft = log.share().late_event(late);
    log.commit(&mut db, &prints, draft);
    let of_day = window(FIRST + 64 * DAY, FIRST + 72 * DAY);
    let expected = fold(all.iter(), of_day, &[]);
    assert_eq!(list(&mut db, of_day, &[]), expected, "it is not read");
    let rest = window(FIRST + 72 * DAY, FIRST + 128 * DAY);
    let expected = fold(all.iter(), rest, &[]);
    assert_ne!(list(&mut db, rest, &[]), expected, "the others are");

    execute(
        &mut db,
        "UPDATE metrics_by_span SET clicks = clicks - 1000000",
    );

    // Not while its days may change again; then both, of eight days and of 64.
    assert!(!make_one(&mut db, Duration::from_secs(3_600)).expect("a step"));
    assert_eq!(make_all(&mut db), 2);
    assert_eq!(list(&mut db, span(1), &[]), right(&all, 1));
    let made_of = "SELECT count(*) FROM spans AS s WHERE (SELECT sum(version) FROM day_versions AS v \
         WHERE v.day >= s.start AND v.day < s.start + s.days * interval '24 hours') = s.version";
    assert_eq!(number(&mut db, made_of), 32);

    // A rebuild puts right what no version tells.
    execute(&mut db, spoil);
    rebuild(&db.url, &mut |_, _| ()).expect("a rebuild");
    for n in 0..4 {
        assert_eq!(list(&mut db, span(n), &[]), right(&all, n));
    }
    assert_eq!(make_all(&mut db), 32);
    assert_eq!(list(&mut db, span(1), &[Platform::Meta]), {
        fold(all.iter(), span(1), &[Platform::Meta])
    });
    verified(&mut db);
}

#[test]
fn spans_that_are_not_over_are_not_made() {
    let mut db = TestDatabase::create();
    let prints = Fingerprinter::default();
    let mut log = Log::claim(&mut db, 0);
    let now = number(
        &mut db,
        "SELECT floor(extract(epoch FROM clock_timestamp()))",
    );
    let second = now - START.get() / Length::SECOND.get();
    log.store(&mut db, &prints, [event(1, "a", second)]);
    assert_eq!(make_all(&mut db), 0);
    assert_eq!(
        rows(&mut db, "SELECT version::text FROM day_versions"),
        ["1"]
    );
}

/// Each answer says up to which offsets it counts, so it can be checked while others go on.
#[test]
fn any_list_is_the_fold_of_its_events_while_spans_are_made_and_events_come() {
    let db = TestDatabase::create();
    let mut random = StdRng::seed_from_u64(5);
    let logs: [Vec<Event>; 2] = [
        events(&mut random, &["a", "b", "c"], 1, 400),
        events(&mut random, &["d", "e"], 1_000, 400),
    ];
    let counting = AtomicU32::new(2);
    let mut check = |db: &mut PgConnection| {
        let since = FIRST + random.random_range(-9 * DAY..200 * DAY);
        let minutes = random.random_range(1..230 * 1_440);
        // Ends of zones with half hours, of days, of any minute.
        let unit = *[60, 1_800, DAY].choose(&mut random).expect("some");
        let (since, length) = (since - since.rem_euclid(unit), (minutes * 60).max(unit));
        let window = window(since, since + length - length % unit);
        let platforms: &[&[Platform]] = &[&[], &[Platform::Meta], &Platform::ALL[1..3]];
        let platforms = platforms.choose(&mut random).expect("some");
        let sheet = sheet::read(db, Some(window), platforms).expect("a list");
        let counted = sheet.positions.iter().flat_map(|position| {
            let log = &logs[usize::try_from(position.partition).expect("one of ours")];
            &log[..usize::try_from(position.next_offset.get()).expect("in the log")]
        });
        assert_eq!(
            sheet.rows,
            fold(counted, window, platforms),
            "{window:?} {platforms:?} {:?}",
            sheet.positions
        );
    };
    std::thread::scope(|scope| {
        for (number, events) in (0..).zip(&logs) {
            let (mut connection, counting) = (db.connect(), &counting);
            scope.spawn(move || {
                let prints = Fingerprinter::default();
                let mut log = Log::claim(&mut connection, number);
                for some in events.chunks(7) {
                    log.store(&mut connection, &prints, some.iter().copied());
                }
                counting.fetch_sub(1, Ordering::SeqCst);
            });
        }
        let (mut connection, counting) = (db.connect(), &counting);
        scope.spawn(move || {
            while counting.load(Ordering::SeqCst) > 0 {
                make_one(&mut connection, Duration::ZERO).expect("a step");
            }
            make_all(&mut connection);
        });
        let mut connection = db.connect();
        while counting.load(Ordering::SeqCst) > 0 {
            check(&mut connection);
        }
    });
    let mut connection = db.connect();
    assert_eq!(number(&mut connection, "SELECT count(*) FROM spans"), 32);
    for _ in 0..100 {
        check(&mut connection);
    }
}

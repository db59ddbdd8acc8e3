//! Parts of sums: wherever they have been carried to, answers are the fold of the events.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use adflux::event::{Counts, Platform};
use adflux::store::events::Fingerprinter;
use adflux::store::keep::carry::{Due, carry_some, merge_some};
use adflux::store::keep::rebuild::rebuild;
use adflux::store::read::insights::{Window, sheet};
use adflux::time::{Length, Timestamp};
use adflux::totals::Totals;
use adflux::totals::metric::Sums;
use adflux::totals::mixed::Claims;
use diesel::PgConnection;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::database::{TestDatabase, execute, number, projections, rows};
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

/// The list of a window as it must be, of these events.
fn fold<'a>(
    events: impl Iterator<Item = &'a Event>,
    window: Window,
    platforms: &[Platform],
) -> Vec<sheet::Row> {
    let mut sums: BTreeMap<&str, BTreeMap<Platform, Totals>> = BTreeMap::new();
    for event in events {
        let time = START + Length::SECOND.times(event.second);
        let inside = (window.since()..window.until()).contains(&time);
        if inside && (platforms.is_empty() || platforms.contains(&event.platform)) {
            let sums = sums.entry(event.campaign).or_default();
            let sum = sums.entry(event.platform).or_default();
            *sum = sum.checked_add(Totals::of(event.counts)).expect("fits");
        }
    }
    let sums = sums.into_iter();
    let rows = sums.map(|(id, sums)| {
        let mut row = sheet::Row {
            campaign_id: id.into(),
            totals: Totals::default(),
            claims: Claims::default(),
            unsaid: Sums::default(),
        };
        for (platform, sum) in sums {
            row.totals = row.totals.checked_add(sum).expect("fits");
            let of_platform =
                Claims::of(platform, sum.counts.conversions, sum.counts.revenue_micros);
            row.claims = row.claims.and(of_platform);
        }
        row
    });
    rows.collect()
}

fn list(db: &mut PgConnection, window: Window, platforms: &[Platform]) -> Vec<sheet::Row> {
    let sheet = sheet::read(db, Some(window), platforms, None);
    sheet.expect("a list").rows
}

/// Events all over three spans and a half, some of which take back what others brought.
fn events(random: &mut StdRng, campaigns: &[&'static str], first_id: u128, n: u32) -> Vec<Event> {
    let mut one = |id| {
        let campaign = campaigns.choose(random).expect("some");
        let event = event(id, campaign, FIRST + random.random_range(0..224 * DAY));
        if id % 10 < 3 {
            let counts = Counts::of(event.counts.numbers().map(|number| -number));
            return Event { counts, ..event };
        }
        event
    };
    (0..u128::from(n)).map(|n| one(first_id + n)).collect()
}

/// What a step takes away and puts in place, until nothing is due.
fn carry_all(db: &mut PgConnection, due: Due) -> u64 {
    let mut parts = 0;
    loop {
        let carried = carry_some(db, due).expect("a step");
        let done = match carried {
            None => merge_some(db).expect("a step"),
            carried => carried,
        };
        match done {
            Some(done) => parts += done.parts,
            None => return parts,
        }
    }
}

/// Whatever was carried and merged, each view says the same, to the last commit.
#[test]
fn carrying_and_merging_change_no_sum() {
    let mut db = TestDatabase::create();
    let prints = Fingerprinter::default();
    let (mut one, mut other) = (Log::claim(&mut db, 0), Log::claim(&mut db, 1));
    let mut random = StdRng::seed_from_u64(3);
    let all = events(
        &mut random,
        &["a", "b", "long-name.of:a_campaign-0123456789"],
        1,
        3_000,
    );
    let more = events(&mut random, &["c"], 10_000, 3_000);
    let mut parts = 0;
    for (some, others) in all.chunks(10).zip(more.chunks(10)) {
        one.store(&mut db, &prints, some.iter().copied());
        other.store(&mut db, &prints, others.iter().copied());
        // Commits of others, whose numbers parts of these partitions do not have.
        execute(
            &mut db,
            "SELECT nextval('commit_ids') FROM generate_series(1, 100)",
        );
        if random.random_bool(0.1) {
            let before = projections(&mut db);
            let due = *[Due::USUAL, Due::AT_ONCE].choose(&mut random).expect("one");
            parts += carry_all(&mut db, due);
            assert_eq!(projections(&mut db), before);
        }
    }
    parts += carry_all(&mut db, Due::USUAL);
    assert!(parts >= 600, "each commit's part was carried: {parts}");
    let last = number(&mut db, "SELECT last_value FROM commit_ids");
    for grain in [0, 1] {
        let from = format!(
            "SELECT min(part_id) FROM sum_fresh_from WHERE grain = {grain} HAVING count(*) = 2"
        );
        let from = number(&mut db, &from);
        assert!(last - from < 10_000, "grain {grain}: {from} of {last}");
    }
    let left = number(&mut db, "SELECT count(*) FROM sum_parts");
    let which = "SELECT concat_ws(' ', stream_id, grain, reach, count(*), sum(cells), count(DISTINCT window_start))
        FROM sum_parts GROUP BY stream_id, grain, reach ORDER BY 1";
    assert!(
        left < 200,
        "{left} parts are left: {:?}",
        rows(&mut db, which)
    );
    let whole = window(FIRST - DAY, FIRST + 300 * DAY);
    assert_eq!(
        list(&mut db, whole, &[]),
        fold(all.iter().chain(&more), whole, &[])
    );
    verified(&mut db);
    let before = projections(&mut db);
    let rebuilt = rebuild(&db.url, &mut |_, _| ()).expect("a rebuild");
    assert_eq!((rebuilt.events, rebuilt.corrected_campaigns), (6_000, 0));
    assert_eq!(projections(&mut db), before);
    verified(&mut db);
}

/// A reader reads every fresh part, so they do not stay where nothing more comes.
#[test]
fn what_nothing_is_counted_into_any_more_is_carried_to_the_end() {
    let mut db = TestDatabase::create();
    let prints = Fingerprinter::default();
    let mut log = Log::claim(&mut db, 0);
    for id in 0..3 {
        log.store(&mut db, &prints, [event(id, "a", FIRST)]);
    }
    let before = projections(&mut db);
    assert_eq!(carry_all(&mut db, Due::USUAL), 0, "too few");
    let fresh = "SELECT count(*) FROM sum_parts WHERE reach = 0";
    assert_eq!(number(&mut db, fresh), 3);
    execute(
        &mut db,
        "UPDATE sum_parts SET committed_at = committed_at - interval '61 seconds'",
    );
    assert_eq!(carry_some(&mut db, Due::OTHERS).expect("a step"), None);
    carry_all(&mut db, Due::USUAL);
    assert_eq!(
        number(&mut db, fresh),
        1,
        "one of hours, whose commits are of now"
    );
    execute(
        &mut db,
        "UPDATE sum_parts SET committed_at = committed_at - interval '61 seconds'",
    );
    assert_eq!(carry_some(&mut db, Due::MINUTES).expect("a step"), None);
    while number(&mut db, fresh) > 0 {
        carry_all(&mut db, Due::OTHERS);
        execute(
            &mut db,
            "UPDATE sum_parts SET committed_at = committed_at - interval '61 seconds'",
        );
    }
    assert_eq!(projections(&mut db), before);
}

/// Each answer says up to which offsets it counts, so it can be checked while others go on.
#[test]
fn any_list_is_the_fold_of_its_events_while_parts_are_carried_and_events_come() {
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
        let sheet = sheet::read(db, Some(window), platforms, None).expect("a list");
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
                carry_all(&mut connection, Due::USUAL);
            }
            carry_all(&mut connection, Due::USUAL);
        });
        let mut connection = db.connect();
        while counting.load(Ordering::SeqCst) > 0 {
            check(&mut connection);
        }
    });
    let mut connection = db.connect();
    verified(&mut connection);
    for _ in 0..100 {
        check(&mut connection);
    }
}

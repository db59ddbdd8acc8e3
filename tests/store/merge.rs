//! Merging small blocks changes no answer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use adflux::event::Count;
use adflux::offset::Offset;
use adflux::store::blocks;
use adflux::store::events::Fingerprinter;
use adflux::store::keep::merge::{Merged, merge_some};
use adflux::store::keep::rebuild::rebuild;
use adflux::time::Timestamp;
use diesel::PgConnection;

use crate::database::{TestDatabase, events, execute, number, projections, rows};
use crate::ending::SetAtEnd;
use crate::log::{Event, Log, event, nth};
use crate::verify::verified;

const AT_ONCE: Duration = Duration::ZERO;

/// Merges until there is nothing more to do: how many blocks went into how many.
pub fn merge_all(connection: &mut PgConnection) -> (u64, u64) {
    let (mut blocks, mut into) = (0, 0);
    loop {
        let step = merge_some(connection, AT_ONCE).expect("a step");
        blocks += step.blocks;
        into += step.into;
        if !step.more {
            return (blocks, into);
        }
    }
}

fn blocks(db: &mut PgConnection) -> i64 {
    number(db, "SELECT count(*) FROM event_blocks")
}

/// As if what is stored had been committed in this hour.
pub fn age(db: &mut PgConnection, hour: &str) {
    execute(
        db,
        &format!("UPDATE event_blocks SET committed_at = timestamptz '{hour}' + (commit_id % 3000) * interval '1 second'
                  WHERE committed_at > now() - interval '1 hour'"),
    );
}

/// Two partitions with many small blocks over two hours, one large block in between, gaps, late
/// events and dead letters.
fn trickle(db: &mut PgConnection) -> [Log; 2] {
    let prints = Fingerprinter::default();
    let mut logs = [Log::claim(db, 0), Log::claim(db, 1)];
    let mine = |n: u64, log: usize| Event {
        campaign: ["zero", "one"][log],
        ..nth(n)
    };
    for (hour, base) in [("2026-02-01 10:00Z", 0), ("2026-02-01 11:00Z", 100_000)] {
        for batch in 0..30u64 {
            for (i, log) in logs.iter_mut().enumerate() {
                let n = base + 1_000_000 * i as u64 + batch * 10;
                let draft = (n..n + 7).fold(log.share(), |draft, n| draft.known_event(mine(n, i)));
                let draft = match batch % 5 {
                    1 => draft.gap(2).known_event(mine(n + 8, i)),
                    2 => draft.late_event(Event {
                        second: -90_000 - n as i64,
                        ..mine(n + 8, i)
                    }),
                    3 => draft
                        .dead(adflux::event::Reason::NegativeValue)
                        .known_event(mine(n + 8, i)),
                    _ => draft.duplicate(),
                }
                .of_unknown_campaigns()
                .build();
                let shares = [draft];
                match crate::log::outcome(db, &prints, &shares) {
                    adflux::store::write::commit::Outcome::Committed(told) => {
                        log.fence.next_offset = told.next_offset
                    }
                    other => panic!("{other:?}"),
                }
            }
            if batch == 15 && base == 0 {
                let large = (2_000_000..2_009_000).map(|n| mine(n, 0));
                logs[0].store(db, &prints, large);
            }
        }
        age(db, hour);
    }
    logs
}

#[test]
fn merging_changes_no_answer() {
    let mut db = TestDatabase::create();
    let [mut log, _] = trickle(&mut db);
    let answers = |db: &mut PgConnection| (events(db), projections(db), verified(db));
    let commits = "SELECT concat_ws(' ', c.last_offset, c.commit_id, c.committed_at)
         FROM event_blocks AS b CROSS JOIN LATERAL unnest(COALESCE(b.merged_last_offset, ARRAY[b.last_offset]),
             COALESCE(b.merged_commit_id, ARRAY[b.commit_id]), COALESCE(b.merged_committed_at, ARRAY[b.committed_at]))
             AS c (last_offset, commit_id, committed_at)
         ORDER BY b.stream_id, c.last_offset";
    let before = answers(&mut db);
    let commits_before = rows(&mut db, commits);
    assert_eq!(blocks(&mut db), 121);
    // Partition 0: before the large block, after it, the second hour. Partition 1: two hours.
    assert_eq!(merge_all(&mut db), (120, 5));
    assert_eq!(blocks(&mut db), 6);
    assert!(answers(&mut db) == before);
    assert_eq!(rows(&mut db, commits), commits_before);
    assert_eq!(merge_all(&mut db), (0, 0));

    // Everything that was stored is still known: by its time, and the late ones by their place.
    let prints = Fingerprinter::default();
    let draft = events_of(&mut db, 0)
        .into_iter()
        .fold(log.share(), |draft, event| draft.late_event(event));
    let told = log.commit(&mut db, &prints, draft);
    assert_eq!((told.totals.events.get(), told.dead.len()), (0, 0));
    assert_eq!(told.duplicates.get(), 9_000 + 2 * (30 * 7 + 18));

    // Times of commits come from the blocks, which were said to be older.
    let sums = |lines: &[String]| -> Vec<String> {
        let is_of_an_interval = |line: &&String| !line.starts_with("metrics_total");
        lines.iter().filter(is_of_an_interval).cloned().collect()
    };
    rebuild(&db.url, &mut |_, _| ()).expect("a rebuild");
    assert!(sums(&projections(&mut db)) == sums(&before.1));
    verified(&mut db);
}

/// The events of a partition as they were reported.
fn events_of(db: &mut PgConnection, partition: i32) -> Vec<Event> {
    use adflux::event::{Counts, Platform};
    let lines = rows(
        db,
        &format!(
            "SELECT concat_ws(' ', ('x' || right(event_id::text, 12))::bit(48)::bigint, campaign_id, platform,
                 extract(epoch FROM event_time - '2026-01-01Z')::bigint, impressions, clicks, (conversions * 1000000)::bigint, cost_micros,
                 revenue_micros)
             FROM ad_events WHERE partition = {partition} ORDER BY \"offset\""
        ),
    );
    lines
        .iter()
        .map(|line| {
            let mut words = line.split(' ');
            let mut word = || words.next().expect("a word");
            let id = word().parse().expect("a number");
            let campaign: &'static str = if word() == "zero" { "zero" } else { "one" };
            let name = word();
            let platform = Platform::ALL.into_iter().find(|p| p.name() == name);
            let mut number = || word().parse::<i64>().expect("a number");
            Event {
                id,
                campaign,
                platform: platform.expect("a platform"),
                second: number(),
                counts: Counts::of([number(), number(), number(), number(), number()]),
            }
        })
        .collect()
}

#[test]
fn what_is_young_is_left_alone() {
    let mut db = TestDatabase::create();
    let prints = Fingerprinter::default();
    let mut log = Log::claim(&mut db, 0);
    for n in 0..10 {
        log.store(&mut db, &prints, [nth(n)]);
    }
    // However close to the end of an hour.
    let an_hour = Duration::from_secs(3_600);
    assert_eq!(
        merge_some(&mut db, an_hour).expect("a step"),
        Merged::default()
    );
    age(&mut db, "2026-02-01 10:00Z");
    let long_ago = Duration::from_secs(86_400 * 365 * 1_000);
    assert_eq!(
        merge_some(&mut db, long_ago).expect("a step"),
        Merged::default()
    );
    assert_eq!(merge_all(&mut db), (10, 1));
}

#[test]
fn blocks_are_filled_and_not_overfilled() {
    let mut db = TestDatabase::create();
    let prints = Fingerprinter::default();
    let mut log = Log::claim(&mut db, 0);
    for batch in 0..12u64 {
        log.store(
            &mut db,
            &prints,
            (batch * 6_000..(batch + 1) * 6_000).map(nth),
        );
    }
    age(&mut db, "2026-02-01 10:00Z");
    let before = events(&mut db);
    assert_eq!(merge_all(&mut db), (12, 3));
    let counts = rows(
        &mut db,
        "SELECT event_count::text FROM event_blocks ORDER BY first_offset",
    );
    assert_eq!(counts, ["30000", "30000", "12000"]);
    assert!(events(&mut db) == before);
    verified(&mut db);
}

#[test]
fn a_block_far_away_in_time_is_not_merged_with() {
    let mut db = TestDatabase::create();
    let prints = Fingerprinter::default();
    let mut log = Log::claim(&mut db, 0);
    const DAY: i64 = 86_400;
    for (id, second) in [0, 10, DAY + 20, DAY + 30, 5 * DAY, 9 * DAY]
        .into_iter()
        .enumerate()
    {
        log.store(&mut db, &prints, [event(id as u128, "a", second)]);
    }
    age(&mut db, "2026-02-01 10:00Z");
    assert_eq!(merge_all(&mut db), (4, 2));
    // Late events alone stretch no span.
    let draft = log.share().late_event(event(100, "a", -50 * DAY));
    log.commit(&mut db, &prints, draft);
    age(&mut db, "2026-02-01 10:00Z");
    assert_eq!(merge_all(&mut db), (2, 1));
    verified(&mut db);
}

#[test]
fn merging_waits_for_a_rebuild() {
    let mut db = TestDatabase::create();
    trickle(&mut db);
    let mut rebuilding = db.connect();
    execute(&mut rebuilding, "SELECT pg_advisory_lock(7236002115)");
    assert_eq!(
        merge_some(&mut db, AT_ONCE).expect("a step"),
        Merged::default()
    );
    execute(&mut rebuilding, "SELECT pg_advisory_unlock(7236002115)");
    assert_eq!(merge_all(&mut db), (120, 5));
}

#[test]
fn keys_from_before_a_merge_find_their_events_after_it() {
    let mut db = TestDatabase::create();
    let [log, _] = trickle(&mut db);
    let mut seen = Vec::new();
    let mut merging = db.connect();
    let mut merged = false;
    // The merge happens between reading the keys and reading the blocks: the callback for the
    // first chunk (more than 200,000 events would be needed for a second) is too late, so the keys
    // are taken apart by hand.
    let keys: Vec<blocks::BlockKey> = rows(
        &mut db,
        &format!("SELECT concat_ws(' ', first_offset, event_count) FROM event_blocks WHERE stream_id = {} ORDER BY first_offset", log.stream),
    )
    .iter()
    .map(|line| {
        let (first, count) = line.split_once(' ').expect("two numbers");
        blocks::BlockKey {
            stream: log.stream,
            first_offset: Offset::new(first.parse().expect("a number")),
            event_count: Count::new(count.parse().expect("a number")),
        }
    })
    .collect();
    for key in keys.iter().step_by(7) {
        if !merged {
            assert_eq!(merge_all(&mut merging), (120, 5));
            merged = true;
        }
        blocks::for_each(&mut db, &[*key], |block| {
            seen.extend(block.events.offset.iter().copied());
            Ok(())
        })
        .expect("blocks");
        assert!(seen.contains(&key.first_offset));
    }
    seen.clear();
    blocks::for_each(&mut db, &keys, |block| {
        seen.extend(block.events.offset.iter().copied());
        Ok(())
    })
    .expect("blocks");
    let stored = number(
        &mut db,
        &format!(
            "SELECT sum(event_count) FROM event_blocks WHERE stream_id = {}",
            log.stream
        ),
    );
    seen.sort_unstable();
    assert_eq!(seen.len() as i64, stored);
    seen.dedup();
    assert_eq!(seen.len() as i64, stored);
}

/// Replays are looked up and partitions claimed again while blocks are merged under them.
#[test]
fn merging_under_look_ups_lets_nothing_be_counted_twice() {
    let mut db = TestDatabase::create();
    let [mut log, _] = trickle(&mut db);
    let history = events_of(&mut db, 0);
    let before = projections(&mut db);
    let done = AtomicBool::new(false);
    let mut merging = db.connect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // One pair at a time, to have many merges.
            while !done.load(Ordering::Relaxed) {
                execute(&mut merging, "UPDATE event_blocks SET committed_at = committed_at + (first_offset % 5) * interval '1 day'
                    WHERE merged_last_offset IS NULL AND stream_id = 1 AND event_count < 10");
                let step = merge_some(&mut merging, AT_ONCE).expect("a step");
                if step.blocks == 0 {
                    std::thread::yield_now();
                }
            }
        });
        let ending = SetAtEnd(&done);
        let mut connection = db.connect();
        let prints = Fingerprinter::default();
        for round in 0..12 {
            let draft = history
                .iter()
                .skip(round)
                .fold(log.share(), |draft, event| draft.late_event(*event));
            let told = log.commit(&mut connection, &prints, draft);
            assert_eq!((told.totals.events.get(), told.dead.len()), (0, 0));
            let mut ids = std::collections::HashSet::new();
            let horizon = blocks::recent(&mut connection, log.stream, 1_000_000, |block| {
                ids.extend(block.events.event_id.iter().copied());
                Ok(())
            });
            assert_eq!(horizon.expect("a horizon"), Timestamp::MIN);
            assert_eq!(ids.len(), history.len());
        }
        drop(ending);
    });
    assert_eq!(projections(&mut db), before);
    verified(&mut db);
}

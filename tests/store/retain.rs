//! `adflux retain`: events go, by the period, and what was counted of them stays.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use adflux::event::{Count, Reason};
use adflux::retain::{Report, Settings, run};
use adflux::store::events::Fingerprinter;
use adflux::store::keep::rebuild::{Rebuilt, rebuild};
use adflux::store::keep::rebuild_as_of::{AsOfError, rebuild_as_of};
use adflux::store::keep::verify::Verified;
use adflux::store::read::as_of::{self, Known};
use adflux::store::read::insights::{self, CampaignSums, Window};
use adflux::store::{blocks, clock};
use adflux::time::{Length, Timestamp};
use chrono::{DateTime, Utc};
use diesel::PgConnection;

use crate::database::{TestDatabase, events, execute, number, projections, rows};
use crate::ending::SetAtEnd;
use crate::log::{Log, START, event, report};
use crate::reports::restated;
use crate::verify::{history, verified};
use crate::wait::wait_until;

/// What is closed and dropped at once.
fn at_once(db: &TestDatabase) -> Settings {
    Settings {
        database_url: db.url.clone(),
        events: Some(Duration::ZERO),
        period: Some(Duration::ZERO),
        originals: None,
        dry_run: false,
    }
}

/// Drops all events, and returns how many these were.
pub fn retained(db: &TestDatabase) -> i64 {
    dropped(&run(&at_once(db)).expect("drops"))
}

fn dropped(report: &Report) -> i64 {
    let plan = report.events.as_ref().expect("of events");
    plan.dropped.iter().map(|period| period.events.get()).sum()
}

fn rebuilt(db: &TestDatabase) -> Rebuilt {
    rebuild(&db.url, &mut |_, _| ()).expect("a rebuild")
}

#[test]
fn sums_stay_and_what_they_are_of_is_still_proven() {
    let mut db = TestDatabase::create();
    history(&mut db);
    let [mut zero, mut one] = restated(&mut db);
    let before = projections(&mut db);
    let counted = verified(&mut db);
    let all = counted.events as i64;
    let dry = Settings {
        dry_run: true,
        ..at_once(&db)
    };
    let plan = run(&dry).expect("a plan");
    assert_eq!(dropped(&plan), all);
    let mut text = Vec::new();
    plan.write(&mut text).expect("memory");
    let text = String::from_utf8(text).expect("text");
    assert!(text.starts_with("would be dropped  period 1: stored from "));
    assert!(text.contains("nothing was changed (--dry-run)"), "{text}");
    assert_eq!(verified(&mut db), counted);

    assert_eq!(retained(&db), all);
    assert_eq!(events(&mut db), Vec::<String>::new());
    assert_eq!(number(&mut db, "SELECT count(*) FROM late_events"), 0);
    let only_sums = |verified: Verified, before: i64| Verified {
        dropped: Count::new(before),
        ..verified
    };
    assert_eq!(verified(&mut db), only_sums(counted, all));
    assert_eq!(projections(&mut db), before);
    let again = rebuilt(&db);
    assert_eq!((again.events, again.corrected_campaigns), (all as u64, 0));
    assert_eq!(projections(&mut db), before);
    verified(&mut db);

    // It goes on: events, a day that was dropped is restated, and the next period is dropped on top.
    let prints = Fingerprinter::default();
    zero.claim_again(&mut db);
    one.claim_again(&mut db);
    zero.store(&mut db, &prints, [event(8_001, "cmp-0", 300_000)]);
    let share = one.share().report(&report("a", 0, 100, 40));
    let told = one.commit(&mut db, &prints, share.report(&report("a", 0, 110, 40)));
    assert_eq!((told.dead.len(), told.unchanged), (0, Count::new(1)));
    let (before, counted) = (projections(&mut db), verified(&mut db));
    assert_eq!(
        (counted.events as i64, counted.dropped.get()),
        (all + 2, all)
    );
    assert_eq!(retained(&db), 2);
    assert_eq!(verified(&mut db), only_sums(counted, all + 2));
    assert_eq!(rebuilt(&db).corrected_campaigns, 0);
    assert_eq!(projections(&mut db), before);
    // Nothing is left, and a period without events goes, too.
    assert_eq!(retained(&db), 0);
    assert_eq!(verified(&mut db).events as i64, all + 2);
}

#[test]
fn what_stayed_is_not_to_be_changed() {
    let mut db = TestDatabase::create();
    history(&mut db);
    retained(&db);
    let wrong = |db: &mut PgConnection| {
        let found = adflux::store::keep::verify::verify(db, &|_| ()).expect("an answer");
        found.expect_err("a difference").check.into_owned()
    };
    execute(
        &mut db,
        "UPDATE retired_streams SET events = events + 1 WHERE stream_id = 1",
    );
    assert_eq!(wrong(&mut db), "positions count what is stored");
    execute(
        &mut db,
        "UPDATE retired_streams SET events = events - 1 WHERE stream_id = 1",
    );
    verified(&mut db);
    execute(
        &mut db,
        "UPDATE sum_chunks SET clicks = set_byte(clicks, 8, get_byte(clicks, 8) + 1)
         WHERE (stream_id, part_id) = (SELECT stream_id, part_id FROM retired_parts ORDER BY 1, 2 LIMIT 1)",
    );
    assert_eq!(wrong(&mut db), "metrics_by_minute is the sum of the events");
    execute(&mut db, "DELETE FROM retired_parts WHERE stream_id = 1");
    assert_eq!(
        wrong(&mut db),
        "of as many events as were dropped the sums are kept"
    );
}

#[test]
fn what_may_have_been_dropped_is_never_counted_twice() {
    let mut db = TestDatabase::create();
    let prints = Fingerprinter::default();
    let mut zero = Log::claim(&mut db, 0);
    let mut one = Log::claim(&mut db, 1);
    let of = |id: u128| event(id, "a", id as i64);
    zero.store(&mut db, &prints, (1..=10).map(of));
    assert_eq!(retained(&db), 10);

    // A memory that is filled anew begins behind what was dropped.
    let horizon = blocks::recent(&mut db, zero.stream, 1_000, |_| Ok(())).expect("an answer");
    let latest = START + Length::SECOND.times(10);
    assert_eq!(horizon, latest + Length::MICROSECOND);

    // A copy, one that was never counted, which nobody can tell from it, and one that memory knows to be new.
    let share = zero
        .share()
        .late_event(of(3))
        .late_event(event(99, "a", 5))
        .late_event(of(3))
        .known_event(event(98, "a", 6))
        .late_event(event(11, "a", 11));
    let told = zero.commit(&mut db, &prints, share);
    assert_eq!(told.dead, [Reason::TooOld; 3]);
    assert_eq!(told.totals.events, Count::new(2));
    // What is stored is found, whatever was dropped.
    let share = zero
        .share()
        .late_event(event(98, "a", 6))
        .late_event(event(11, "a", 11));
    let told = zero.commit(&mut db, &prints, share);
    assert_eq!((told.dead.len(), told.duplicates), (0, Count::new(2)));

    // Another partition asks for each event of a campaign that is not its own, and after it has taken the campaign over.
    let told = one.store(&mut db, &prints, [of(4)]);
    assert_eq!(told.dead, [Reason::TooOld]);
    let told = one.store(&mut db, &prints, [event(50, "a", 50)]);
    assert_eq!(told.totals.events, Count::new(1));
    let told = one.store(&mut db, &prints, [of(5), of(10)]);
    assert_eq!(told.dead, [Reason::TooOld; 2]);

    let end = verified(&mut db);
    assert_eq!((end.events, end.dead_letters, end.duplicates), (13, 6, 2));
    assert_eq!(
        number(
            &mut db,
            "SELECT count(*) FROM dead_letters WHERE reason = 'too_old'"
        ),
        6
    );
    // A campaign whose former owner has no event left: what it had is looked for all the same.
    retained(&db);
    zero.claim_again(&mut db);
    let told = zero.store(&mut db, &prints, [event(60, "a", 60)]);
    assert_eq!(told.totals.events, Count::new(1));
    let told = zero.store(&mut db, &prints, [event(50, "a", 50)]);
    assert_eq!(told.dead, [Reason::TooOld]);
    verified(&mut db);
}

fn ask(db: &mut PgConnection, campaign: &str, window: Option<Window>, at: Timestamp) -> Known {
    let until = Instant::now() + Duration::from_secs(600);
    as_of::campaign(db, campaign, window, None, at, until).expect("an answer")
}

fn known(
    db: &mut PgConnection,
    campaign: &str,
    window: Option<Window>,
    at: Timestamp,
) -> CampaignSums {
    match ask(db, campaign, window, at) {
        Known::Sums(sums, _) => sums,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_past_is_told_from_the_end_of_what_was_dropped_on() {
    const CAMPAIGNS: [&str; 5] = ["a", "b", "cmp-0", "cmp-3", "only-on-1"];
    let mut db = TestDatabase::create();
    history(&mut db);
    restated(&mut db);
    let since = START + Length::SECOND.times(60);
    // The last begins between the two times of a day's restatements: while it lasted, and after.
    let windows = [
        None,
        Window::covering(since, since + Length::SECOND.times(600)),
        Window::covering(START, START + Length::DAY),
        Window::covering(
            START + Length::HOUR.times(36),
            START + Length::HOUR.times(48),
        ),
    ];
    // Of reports, what was known at an instant is what their platform said by then: all of it by the end of these days.
    let told = |db: &mut PgConnection, at| {
        let asked = CAMPAIGNS.iter().flat_map(|c| windows.map(|w| (*c, w)));
        asked
            .map(|(campaign, window)| known(db, campaign, window, at))
            .collect::<Vec<CampaignSums>>()
    };
    let instant = |db: &mut PgConnection| -> DateTime<Utc> { clock(db).expect("a clock") };
    let tables = |db: &mut PgConnection, schema: &str| -> Vec<String> {
        let of = [
            "metrics_by_minute",
            "metrics_by_hour",
            "metrics_by_day",
            "metrics_total",
        ];
        // Of what was dropped, the commits of restatements are among those of its sums.
        let of = of.iter().flat_map(|t| {
            rows(
                db,
                &format!("SELECT '{t} ' || (to_jsonb(t) - 'commit_id' - 'committed_at')::text FROM {schema}.{t} AS t ORDER BY 1"),
            )
        });
        of.collect()
    };
    let early = instant(&mut db);
    let before = told(&mut db, early.into());
    rebuild_as_of(&db.url, early, "earlier").expect("made");
    retained(&db);
    let closed_at =
        "SELECT (extract(epoch FROM max(closed_at)) * 1000000)::bigint FROM event_periods";
    let closed_at = Timestamp::new(number(&mut db, closed_at));

    match ask(&mut db, "a", None, early.into()) {
        Known::Dropped { stored_until } => assert_eq!(Timestamp::from(stored_until), closed_at),
        other => panic!("{other:?}"),
    }
    let refused = rebuild_as_of(&db.url, early, "not_made").expect_err("gone");
    assert!(matches!(refused, AsOfError::Dropped(_)), "{refused}");
    assert_eq!(told(&mut db, closed_at), before);
    let later = closed_at.datetime().expect("a time");
    rebuild_as_of(&db.url, later, "later").expect("made");
    assert_eq!(tables(&mut db, "later"), tables(&mut db, "earlier"));

    // What comes after it is added, and does not change it.
    let prints = Fingerprinter::default();
    let mut zero = Log::claim(&mut db, 0);
    zero.store(&mut db, &prints, [event(8_001, "cmp-0", 100)]);
    assert_eq!(told(&mut db, closed_at), before);
    let now = instant(&mut db).into();
    let live = insights::campaign(&mut db, "cmp-0", None).expect("an answer");
    let live = live.expect("events");
    let past = known(&mut db, "cmp-0", None, now);
    assert_eq!(
        (past.platforms, past.freshness),
        (live.platforms, live.freshness)
    );
}

#[test]
fn a_run_that_was_killed_is_gone_on_with() {
    let mut db = TestDatabase::create();
    history(&mut db);
    let before = projections(&mut db);
    // Whoever reads keeps the period from being dropped.
    let mut reader = db.connect();
    execute(&mut reader, "BEGIN; SELECT FROM event_blocks");
    let settings = at_once(&db);
    std::thread::scope(|scope| {
        let killed = scope.spawn(|| run(&settings).expect_err("killed"));
        let mut looking = db.connect();
        let waits = "SELECT count(pg_terminate_backend(pid)) FROM pg_locks
             WHERE relation = 'event_blocks'::regclass AND mode = 'AccessExclusiveLock' AND NOT granted
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        wait_until("it waits for the reader", || {
            number(&mut looking, waits) > 0
        });
        killed.join().expect("an end");
    });
    // Closed, its sums made, and not dropped.
    assert_eq!(
        number(
            &mut db,
            "SELECT count(*) FROM event_periods WHERE dropped_at IS NULL"
        ),
        2
    );
    assert!(number(&mut db, "SELECT count(*) FROM sum_parts_made") > 0);
    verified(&mut db);
    execute(&mut reader, "COMMIT");
    assert!(retained(&db) > 1_000);
    assert_eq!(projections(&mut db), before);
    verified(&mut db);
    let left = "SELECT count(*) FROM sum_chunks AS c WHERE NOT EXISTS (
         SELECT FROM (SELECT stream_id, part_id FROM sum_parts UNION ALL SELECT stream_id, part_id FROM retired_parts) AS p
         WHERE p.stream_id = c.stream_id AND p.part_id = c.part_id)";
    assert_eq!(number(&mut db, left), 0);
}

#[test]
fn processors_and_readers_go_on_meanwhile() {
    let mut db = TestDatabase::create();
    let stop = AtomicBool::new(false);
    let written = AtomicU64::new(0);
    let processor = |number: i32, mut connection: PgConnection| {
        let prints = Fingerprinter::default();
        let mut log = Log::claim(&mut connection, number);
        let campaign = ["of-zero", "of-one"][number as usize];
        let mut id = 1_000_000 * number as u128;
        while !stop.load(Ordering::Relaxed) {
            let batch = (0..100).map(|i| event(id + i, campaign, (id + i) as i64 / 10));
            log.store(&mut connection, &prints, batch);
            id += 100;
            written.fetch_add(100, Ordering::Relaxed);
        }
    };
    let (first, second) = (db.connect(), db.connect());
    let mut gone = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| processor(0, first));
        scope.spawn(|| processor(1, second));
        let ending = SetAtEnd(&stop);
        let mut looking = db.connect();
        while gone < 2_000 {
            gone += retained(&db);
            verified(&mut looking);
            assert_eq!(rebuilt(&db).corrected_campaigns, 0);
        }
        drop(ending);
    });
    let all = verified(&mut db);
    assert_eq!(all.events, i128::from(written.into_inner()));
    assert_eq!((all.dropped.get(), all.dead_letters), (gone, 0));
}

#[test]
fn contents_of_files_go_and_what_they_were_stays() {
    let mut db = TestDatabase::create();
    execute(
        &mut db,
        "INSERT INTO report_files (sha256) SELECT sha256(n::text::bytea) FROM generate_series(1, 3) AS n;
         INSERT INTO report_file_chunks (file_id, n, bytes) SELECT file_id, n, 'some' FROM report_files, generate_series(0, 1) AS n;
         INSERT INTO report_imports (file_id, observed_at, imported_at, name, shape, platform, accounts, rows, options)
         SELECT file_id, now(), now() - interval '1 day' * i.days, 'name', 'shape', 1, '{1}', 1, '{}'
         FROM (VALUES (1, 500), (2, 10)) AS i (file_id, days)",
    );
    let url = db.url.clone();
    let settings = |dry_run| Settings {
        database_url: url.clone(),
        events: None,
        period: None,
        originals: Some(Duration::from_secs(400 * 86_400)),
        dry_run,
    };
    for dry_run in [true, false] {
        let contents = run(&settings(dry_run)).expect("drops").originals;
        let contents = contents.expect("of files");
        assert_eq!((contents.files.get(), contents.bytes.get()), (1, 8));
    }
    assert_eq!(
        rows(
            &mut db,
            "SELECT concat_ws(' ', f.file_id, count(c.n), f.content_dropped_at IS NOT NULL)
             FROM report_files AS f LEFT JOIN report_file_chunks AS c USING (file_id) GROUP BY f.file_id ORDER BY 1"
        ),
        ["1 0 t", "2 2 f", "3 2 f"]
    );
    let none = run(&settings(false)).expect("drops").originals;
    assert_eq!(none.expect("of files").files, Count::ZERO);
}

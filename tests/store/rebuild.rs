//! `adflux rebuild` while everything goes on.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use adflux::store::StoreError;
use adflux::store::events::Fingerprinter;
use adflux::store::keep::rebuild::{Rebuilt, rebuild};
use adflux::store::read::insights::{self, Window};
use adflux::time::Length;
use diesel::PgConnection;

use crate::database::{TestDatabase, execute, number, projections, rows};
use crate::ending::SetAtEnd;
use crate::log::{Log, START, event, nth};
use crate::verify::{history, verified};
use crate::wait::wait_until;

fn rebuilt(db: &TestDatabase) -> Rebuilt {
    rebuild(&db.url, &mut |_, _| ()).expect("a rebuild")
}

/// Everything the catalogue says of the projections, but for the numbers PostgreSQL gave them.
fn schema(db: &mut PgConnection) -> Vec<String> {
    const LIVE: &str = "c.relname LIKE 'metrics\\_%' OR c.relname = 'campaign_metrics'";
    let mut all = rows(
        db,
        &format!(
            "SELECT concat_ws(' | ', c.relname, c.relkind, c.reloptions, c.relacl, pg_get_userbyid(c.relowner),
                 obj_description(c.oid, 'pg_class'))
             FROM pg_class AS c WHERE {LIVE} ORDER BY c.relname"
        ),
    );
    all.extend(rows(
        db,
        &format!(
            "SELECT concat_ws(' | ', c.relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
                 a.attcollation::regcollation, col_description(c.oid, a.attnum))
             FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
             WHERE {LIVE} ORDER BY c.relname, a.attnum"
        ),
    ));
    all.extend(rows(
        db,
        &format!(
            "SELECT concat_ws(' | ', c.relname, k.conname, pg_get_constraintdef(k.oid))
             FROM pg_class AS c JOIN pg_constraint AS k ON k.conrelid = c.oid WHERE {LIVE} ORDER BY 1"
        ),
    ));
    all.extend(rows(
        db,
        "SELECT indexdef FROM pg_indexes WHERE tablename LIKE 'metrics\\_%' ORDER BY 1",
    ));
    all.extend(rows(
        db,
        "SELECT concat_ws(' | ', viewname, definition) FROM pg_views WHERE schemaname = 'public' ORDER BY 1",
    ));
    all
}

#[test]
fn right_projections_come_out_row_by_row_as_they_were() {
    let mut db = TestDatabase::create();
    history(&mut db);
    // What people may have added.
    execute(
        &mut db,
        "CREATE INDEX metrics_by_day_for_us ON metrics_by_day (day) WHERE cost_micros > 0;
         CREATE VIEW our_view WITH (security_barrier = true) AS SELECT campaign_id, sum(clicks) AS clicks FROM metrics_total GROUP BY 1;
         CREATE VIEW our_second AS SELECT o.clicks, m.ctr FROM our_view AS o JOIN campaign_metrics AS m USING (campaign_id);
         GRANT SELECT ON metrics_total, metrics_by_minute, campaign_metrics, our_view TO PUBLIC",
    );
    let (before, schema_before) = (projections(&mut db), schema(&mut db));
    let seen = std::cell::RefCell::new(Vec::new());
    let told = rebuild(&db.url, &mut |done, all| {
        seen.borrow_mut().push((done, all))
    });
    let told = told.expect("a rebuild");
    assert_eq!((told.events, told.corrected_campaigns), (1_006, 0));
    assert_eq!(seen.borrow().last(), Some(&(1_006, 1_006)));
    assert_eq!(projections(&mut db), before);
    assert_eq!(schema(&mut db), schema_before);
    let leftovers = "SELECT count(*) FROM pg_class WHERE relname LIKE '%\\_rebuild%' OR relname LIKE '%\\_replaced%'";
    assert_eq!(number(&mut db, leftovers), 0);
    verified(&mut db);
    // Twice, since the first one renamed things.
    rebuilt(&db);
    assert_eq!(projections(&mut db), before);
    assert_eq!(schema(&mut db), schema_before);
}

#[test]
fn wrong_projections_come_out_right_and_with_a_new_version() {
    let mut db = TestDatabase::create();
    history(&mut db);
    let before = projections(&mut db);
    let version = |db: &mut PgConnection, campaign: &str| {
        number(
            db,
            &format!("SELECT max(commit_id) FROM metrics_total WHERE campaign_id = '{campaign}'"),
        )
    };
    let unharmed = version(&mut db, "cmp-0");
    let newest = number(&mut db, "SELECT max(commit_id) FROM metrics_total");
    execute(
        &mut db,
        "UPDATE metrics_total SET clicks = clicks + 1 WHERE campaign_id = 'cmp-1' AND platform = 0;
         DELETE FROM metrics_by_day WHERE campaign_id = 'cmp-2';
         INSERT INTO metrics_by_hour VALUES ('nobody', now(), 0, 1, 1, 1, 1, 1, 1);
         DELETE FROM metrics_by_minute WHERE campaign_id = 'cmp-0'",
    );
    assert_eq!(rebuilt(&db).corrected_campaigns, 2);
    verified(&mut db);
    assert_eq!(version(&mut db, "cmp-0"), unharmed);
    assert!(version(&mut db, "cmp-1") > newest && version(&mut db, "cmp-2") > newest);
    let sums = |lines: Vec<String>| -> Vec<String> {
        let kept = lines
            .into_iter()
            .filter(|l| !l.starts_with("metrics_total"));
        kept.collect()
    };
    assert_eq!(sums(projections(&mut db)), sums(before));
    // From nothing at all.
    execute(
        &mut db,
        "TRUNCATE metrics_by_minute, metrics_by_hour, metrics_by_day, metrics_total",
    );
    assert_eq!(rebuilt(&db).corrected_campaigns, 9);
    verified(&mut db);
}

#[test]
fn an_empty_store_rebuilds_to_nothing() {
    let db = TestDatabase::create();
    assert_eq!(rebuilt(&db).events, 0);
}

#[test]
fn processors_and_readers_go_on_meanwhile() {
    let mut db = TestDatabase::create();
    let stop = AtomicBool::new(false);
    let written = AtomicU64::new(0);
    let read = AtomicU64::new(0);
    let processor = |number: i32, mut connection: PgConnection| {
        let prints = Fingerprinter::default();
        let mut log = Log::claim(&mut connection, number);
        let campaign = ["of-zero", "of-one"][number as usize];
        let mut id = 1_000_000 * number as u128;
        while !stop.load(Ordering::Relaxed) {
            let batch = (0..200).map(|i| event(id + i, campaign, (id + i) as i64 / 10));
            log.store(&mut connection, &prints, batch);
            id += 200;
            written.fetch_add(200, Ordering::Relaxed);
        }
    };
    // What was seen once is never less later, in a window as in all.
    let reader = |mut connection: PgConnection| {
        let whole = Window::covering(START, START + Length::DAY.times(365)).expect("a window");
        let mut last = [0, 0];
        while !stop.load(Ordering::Relaxed) {
            for (i, window) in [None, Some(whole)].into_iter().enumerate() {
                let sums =
                    insights::campaign(&mut connection, "of-zero", window).expect("an answer");
                let events: i64 = sums.map_or(0, |sums| {
                    sums.platforms.iter().map(|(_, t)| t.events.get()).sum()
                });
                assert!(events >= last[i], "{events} after {}", last[i]);
                last[i] = events;
            }
            number(&mut connection, "SELECT count(*) FROM campaign_metrics");
            read.fetch_add(1, Ordering::Relaxed);
        }
    };
    let asking = db.connect();
    let (first, second) = (db.connect(), db.connect());
    std::thread::scope(|scope| {
        scope.spawn(|| processor(0, first));
        scope.spawn(|| processor(1, second));
        scope.spawn(|| reader(asking));
        let ending = SetAtEnd(&stop);
        let mut rebuilds = 0;
        while rebuilds < 4 || read.load(Ordering::Relaxed) < 20 {
            let told = rebuilt(&db);
            assert_eq!(told.corrected_campaigns, 0);
            rebuilds += 1;
            verified(&mut db.connect());
        }
        drop(ending);
    });
    let before = projections(&mut db);
    assert_eq!(verified(&mut db).events, i128::from(written.into_inner()));
    rebuilt(&db);
    assert_eq!(projections(&mut db), before);
}

#[test]
fn a_killed_rebuild_is_in_nobodys_way() {
    let mut db = TestDatabase::create();
    let [mut log, _] = history(&mut db);
    execute(
        &mut db,
        "CREATE TABLE metrics_total_rebuild (LIKE metrics_total INCLUDING ALL);
         INSERT INTO metrics_total_rebuild SELECT * FROM metrics_total;
         CREATE TABLE metrics_by_hour_rebuild (half_done boolean)",
    );
    let before = projections(&mut db);
    rebuilt(&db);
    assert_eq!(projections(&mut db), before);
    // Killed for real, where it hurts most: with the positions held and the swap begun.
    execute(
        &mut db,
        "CREATE FUNCTION kill_me() RETURNS event_trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF current_query() LIKE '%metrics_by_minute_replaced%' THEN
                 PERFORM pg_terminate_backend(pg_backend_pid());
             END IF;
         END $$;
         CREATE EVENT TRIGGER kill_me ON ddl_command_end EXECUTE FUNCTION kill_me()",
    );
    let killed = rebuild(&db.url, &mut |_, _| ());
    assert!(killed.is_err());
    assert_eq!(projections(&mut db), before);
    assert!(
        number(
            &mut db,
            "SELECT count(*) FROM pg_class WHERE relname LIKE '%\\_rebuild'"
        ) > 0
    );
    log.store(&mut db, &Fingerprinter::default(), [nth(100_000)]);
    execute(&mut db, "DROP EVENT TRIGGER kill_me");
    let before = projections(&mut db);
    rebuilt(&db);
    assert_eq!(projections(&mut db), before);
    verified(&mut db);
}

#[test]
fn a_long_read_delays_the_swap_and_nobody_else() {
    let mut db = TestDatabase::create();
    let [mut log, _] = history(&mut db);
    let mut reading = db.connect();
    execute(
        &mut reading,
        "SET idle_in_transaction_session_timeout = 0; BEGIN; SELECT count(*) FROM metrics_by_minute",
    );
    std::thread::scope(|scope| {
        let url = db.url.clone();
        let rebuilding = scope.spawn(move || rebuild(&url, &mut |_, _| ()).expect("a rebuild"));
        let mut others = db.connect();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // If they waited for the swap as it does for the reader, they would fail after their limit on locks.
            scope.spawn(|| {
                for n in 200_000.. {
                    log.store(&mut others, &Fingerprinter::default(), [nth(n)]);
                    number(&mut others, "SELECT count(*) FROM metrics_by_minute");
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
            let _ending = SetAtEnd(&done);
            let mut looking = db.connect();
            let mut swap_waits = || {
                let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'
                    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
                number(&mut looking, waiting) > 0
            };
            for _ in 0..3 {
                wait_until("the swap waits for the reader", &mut swap_waits);
                wait_until("the swap lets the others through", || !swap_waits());
            }
        });
        assert!(!rebuilding.is_finished());
        execute(&mut reading, "COMMIT");
        rebuilding.join().expect("no panic");
    });
    verified(&mut db);
}

#[test]
fn one_rebuild_at_a_time() {
    let mut db = TestDatabase::create();
    execute(&mut db, "SELECT pg_advisory_lock(7236002114)");
    let second = rebuild(&db.url, &mut |_, _| ());
    assert!(matches!(second, Err(StoreError::Busy(_))), "{second:?}");
}

/// Lists over a window read what the summaries of times do not rule out.
#[test]
fn summaries_of_times_are_brought_up_to_date() {
    let mut db = TestDatabase::create();
    // Which would do it, too, or be at work on it.
    execute(
        &mut db,
        "ALTER TABLE metrics_by_minute SET (autovacuum_enabled = off);
         ALTER TABLE metrics_by_hour SET (autovacuum_enabled = off)",
    );
    for (table, column) in [("metrics_by_minute", "minute"), ("metrics_by_hour", "hour")] {
        // More pages than one summary is of.
        execute(
            &mut db,
            &format!(
                "INSERT INTO {table} (campaign_id, {column}, platform, events, impressions, clicks, conversions, cost_micros, revenue_micros)
                 SELECT 'c', timestamptz '2026-01-01 00:00Z' + n * interval '1 hour', 0, 1, 0, 0, 0, 0, 0 FROM generate_series(1, 10000) AS n"
            ),
        );
    }
    let missing = |db: &mut PgConnection, index: &str| {
        number(db, &format!("brin_summarize_new_values('{index}')"))
    };
    assert!(missing(&mut db, "metrics_by_hour_hour_idx") > 0);
    adflux::store::keep::summaries::summarize(&mut db).expect("no vacuum is at work");
    assert_eq!(missing(&mut db, "metrics_by_minute_minute_idx"), 0);
}

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
use crate::log::{Log, START, event};
use crate::verify::{history, verified};

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
        "CREATE VIEW our_view WITH (security_barrier = true) AS SELECT campaign_id, sum(clicks) AS clicks FROM metrics_total GROUP BY 1;
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
    // Numbers of a chunk that are all one too large; and sums that are gone.
    execute(
        &mut db,
        "UPDATE sum_chunks SET clicks = set_byte(clicks, 8, get_byte(clicks, 8) + 1)
         WHERE (stream_id, part_id) = (SELECT stream_id, part_id FROM sum_parts ORDER BY 1, 2 LIMIT 1)",
    );
    let generation = number(&mut db, "SELECT generation FROM store_identity");
    assert!(rebuilt(&db).corrected_campaigns > 0);
    assert_eq!(
        number(&mut db, "SELECT generation FROM store_identity"),
        generation + 1
    );
    verified(&mut db);
    assert_eq!(projections(&mut db), before);
    // From nothing at all.
    execute(&mut db, "TRUNCATE sum_parts, sum_chunks");
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
    history(&mut db);
    let before = projections(&mut db);
    // What one leaves that had made a part, and one that had not come to list it.
    execute(
        &mut db,
        "CREATE TEMP TABLE left_over AS SELECT * FROM sum_parts LIMIT 1; UPDATE left_over SET part_id = -1;
         INSERT INTO sum_parts_made SELECT * FROM left_over;
         CREATE TEMP TABLE left_chunks AS SELECT c.* FROM sum_chunks AS c LIMIT 2; UPDATE left_chunks SET part_id = -1, chunk = chunk + 100;
         INSERT INTO sum_chunks SELECT * FROM left_chunks",
    );
    rebuilt(&db);
    assert_eq!(projections(&mut db), before);
    assert_eq!(
        number(
            &mut db,
            "SELECT count(*) FROM sum_chunks WHERE part_id = -1"
        ),
        0
    );
    assert_eq!(number(&mut db, "SELECT count(*) FROM sum_parts_made"), 0);
    verified(&mut db);
}

#[test]
fn one_rebuild_at_a_time() {
    let mut db = TestDatabase::create();
    execute(&mut db, "SELECT pg_advisory_lock(7236002114)");
    let second = rebuild(&db.url, &mut |_, _| ());
    assert!(matches!(second, Err(StoreError::Busy(_))), "{second:?}");
}

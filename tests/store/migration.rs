//! What an earlier version stored becomes what this one reads: sums in tables become parts, conversions millionths, and reports come.

use adflux::store;
use adflux::store::events::Fingerprinter;
use adflux::store::keep::carry::{Due, carry_some};
use adflux::store::keep::retain::Retaining;
use diesel::PgConnection;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness as _, embed_migrations};

use crate::database::{TestDatabase, events, execute, number, projections, rows};
use crate::log::{Log, event, report};
use crate::verify::verified;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");
/// What the earlier version does not have.
const SINCE: [&str; 12] = [
    "00000000000018",
    "00000000000019",
    "00000000000020",
    "00000000000021",
    "00000000000022",
    "00000000000023",
    "00000000000024",
    "00000000000025",
    "00000000000026",
    "00000000000027",
    "00000000000028",
    "00000000000029",
];

/// Two partitions' sums, some carried and some not. An earlier version has no fractions of conversions.
fn counted() -> TestDatabase {
    let mut db = TestDatabase::create();
    let prints = Fingerprinter::default();
    for partition in 0..2 {
        let mut log = Log::claim(&mut db, partition);
        let first = 1_000 * i64::from(partition);
        for n in (first..first + 200).step_by(10) {
            let campaigns = [["a", "b"], ["c", "d"]][partition as usize];
            let events =
                (n..n + 10).map(|n| event(n as u128, campaigns[n as usize % 2], n * 7_001).whole());
            log.store(&mut db, &prints, events);
            if n == first + 100 {
                while carry_some(&mut db, Due::AT_ONCE)
                    .expect("carries")
                    .is_some()
                {}
            }
        }
    }
    db
}

/// The database as it was before these migrations, the newest.
fn revert(db: &mut PgConnection, migrations: &[&str]) {
    for version in migrations.iter().rev() {
        let reverted = db.revert_last_migration(MIGRATIONS).expect("goes back");
        assert_eq!(reverted.to_string(), *version);
    }
}

/// What the sums of days are, whichever tables they are in.
fn days(db: &mut PgConnection) -> Vec<String> {
    rows(
        db,
        "SELECT concat_ws(' ', campaign_id, day, platform, events, impressions, clicks, conversions, cost_micros, revenue_micros)
         FROM metrics_by_day ORDER BY 1",
    )
}

#[test]
fn tables_of_an_earlier_version_become_parts_and_back_until_they_are_dropped() {
    let mut db = counted();
    let (before, of_days) = (projections(&mut db), days(&mut db));
    for _ in 0..2 {
        revert(&mut db, &SINCE);
        assert_eq!(days(&mut db), of_days, "the tables have what the parts had");
        assert_eq!(store::migrate(&db.url).expect("the schema"), SINCE);
        assert_eq!(projections(&mut db), before);
        verified(&mut db);
    }
    assert!(number(&mut db, "SELECT min(sum_bound) FROM stream_positions") > 0);
    assert!(store::drop_replaced(&db.url).expect("drops"));
    assert!(!store::drop_replaced(&db.url).expect("there are none"));
    assert_eq!(projections(&mut db), before);
    revert(&mut db, &SINCE[2..]);
    let refused = db
        .revert_last_migration(MIGRATIONS)
        .expect_err("no way back");
    assert!(refused.to_string().contains("--drop-replaced"), "{refused}");
}

#[test]
fn sums_that_are_parts_already_are_not_made_again() {
    let mut db = counted();
    let (before, parts) = (
        projections(&mut db),
        "SELECT sum(part_id)::bigint FROM sum_parts",
    );
    let made = number(&mut db, parts);
    revert(&mut db, &SINCE[2..]);
    assert_eq!(store::migrate(&db.url).expect("the schema"), SINCE[2..]);
    assert_eq!(number(&mut db, parts), made);
    assert_eq!(projections(&mut db), before);
    verified(&mut db);
}

#[test]
fn what_was_cut_off_goes_on_where_it_was() {
    let mut db = counted();
    let (before, of_days) = (projections(&mut db), days(&mut db));
    revert(&mut db, &SINCE);
    // The tables of the parts, in which those of one partition cannot be made.
    db.run_next_migration(MIGRATIONS).expect("the tables");
    execute(
        &mut db,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$;
         CREATE TRIGGER refuse BEFORE INSERT ON sum_parts_made FOR EACH ROW
             WHEN (new.stream_id = 2) EXECUTE FUNCTION refuse()",
    );
    let made = "SELECT part_id FROM sum_parts_made WHERE stream_id = 1";
    let cut_off = |db: &mut TestDatabase| {
        let refused = store::migrate(&db.url).expect_err("cut off");
        assert!(refused.to_string().contains("not now"), "{refused}");
        assert_eq!(days(db), of_days, "the tables answer meanwhile");
        number(db, made)
    };
    let first = cut_off(&mut db);
    assert_eq!(cut_off(&mut db), first, "what was made stays");
    // As if blocks had been merged across the place where it was.
    execute(&mut db, "UPDATE sum_parts_made_until SET next_offset = 50");
    let anew = cut_off(&mut db);
    assert_ne!(anew, first);
    execute(
        &mut db,
        "DROP TRIGGER refuse ON sum_parts_made; DROP FUNCTION refuse()",
    );
    assert_eq!(store::migrate(&db.url).expect("the schema"), SINCE[1..]);
    assert_eq!(projections(&mut db), before);
    assert_eq!(
        number(&mut db, "SELECT part_id FROM sum_parts WHERE stream_id = 1"),
        anew
    );
    let left = "SELECT (SELECT count(*) FROM sum_parts_made) + (SELECT count(*) FROM sum_parts_made_until)";
    assert_eq!(number(&mut db, left), 0);
    verified(&mut db);
}

#[test]
fn one_session_makes_them_and_the_others_wait() {
    let mut db = counted();
    let before = projections(&mut db);
    revert(&mut db, &SINCE);
    let url = db.url.clone();
    let run: usize = std::thread::scope(|scope| {
        let all: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| store::migrate(&url).expect("the schema").len()))
            .collect();
        all.into_iter()
            .map(|one| one.join().expect("no panic"))
            .sum()
    });
    assert_eq!(run, SINCE.len(), "each migration was run once");
    assert_eq!(projections(&mut db), before);
    verified(&mut db);
}

/// What is stored of events and of their sums, and which transaction wrote it.
fn stored(db: &mut PgConnection) -> [Vec<String>; 2] {
    let blocks = "SELECT concat_ws(' ', stream_id, first_offset, conversions, xmin) FROM event_blocks ORDER BY 1";
    let chunks = "SELECT concat_ws(' ', stream_id, part_id, chunk, conversions, xmin) FROM sum_chunks ORDER BY 1";
    [rows(db, blocks), rows(db, chunks)]
}

/// What others may do with views that are made anew.
const GRANTS: &str = "SELECT relname || relacl::text FROM pg_class
    WHERE relname IN ('metrics_total', 'ad_events') AND relacl IS NOT NULL ORDER BY 1";

#[test]
fn conversions_become_millionths_and_whole_ones_go_back() {
    let mut db = counted();
    let (before, of_days) = (projections(&mut db), days(&mut db));
    execute(&mut db, "GRANT SELECT ON metrics_total TO PUBLIC");
    let granted = rows(&mut db, GRANTS);
    assert_eq!(granted.len(), 1);
    let bytes = stored(&mut db);
    for _ in 0..2 {
        revert(&mut db, &SINCE[3..]);
        assert_eq!(days(&mut db), of_days);
        assert_eq!(rows(&mut db, GRANTS), granted);
        // As a processor of that version leaves it.
        execute(
            &mut db,
            "UPDATE stream_positions SET sum_bound = CASE stream_id WHEN 1 THEN 1152921504606 ELSE 1152921504607 END",
        );
        assert_eq!(store::migrate(&db.url).expect("the schema"), SINCE[3..]);
        let bounds = "SELECT sum_bound::text FROM stream_positions ORDER BY stream_id";
        let expected = ["1152921504606000000", "1152921504606846975"];
        assert_eq!(rows(&mut db, bounds), expected);
        assert_eq!(projections(&mut db), before);
        assert_eq!(rows(&mut db, GRANTS), granted);
        assert_eq!(stored(&mut db), bytes, "nothing was written anew");
        verified(&mut db);
    }
    // The bound that is too large is looked up, and counting goes on.
    let prints = Fingerprinter::default();
    let mut log = Log::claim(&mut db, 1);
    log.store(&mut db, &prints, [event(7_002, "c", 0)]);
    assert!(
        number(
            &mut db,
            "SELECT max(sum_bound) FROM stream_positions WHERE stream_id = 2"
        ) < 1 << 40
    );
    assert_eq!(
        number(
            &mut db,
            "SELECT count(conversion_millionths) FROM event_blocks"
        ),
        1
    );
    verified(&mut db);
    let now = projections(&mut db);
    revert(&mut db, &SINCE[4..]);
    let refused = db
        .revert_last_migration(MIGRATIONS)
        .expect_err("no way back");
    assert!(
        refused.to_string().contains("fractions of conversions"),
        "{refused}"
    );
    assert_eq!(projections(&mut db), now);
    assert_eq!(store::migrate(&db.url).expect("the schema"), SINCE[4..]);
    verified(&mut db);
}

#[test]
fn reports_come_to_a_store_of_events_and_stay() {
    let mut db = counted();
    let (before, bytes, of_events) = (projections(&mut db), stored(&mut db), events(&mut db));
    execute(&mut db, "GRANT SELECT ON ad_events TO PUBLIC");
    let granted = rows(&mut db, GRANTS);
    assert_eq!(granted.len(), 1);
    for _ in 0..2 {
        revert(&mut db, &SINCE[4..]);
        assert_eq!(rows(&mut db, GRANTS), granted);
        assert_eq!(projections(&mut db), before);
        assert_eq!(store::migrate(&db.url).expect("the schema"), SINCE[4..]);
        assert_eq!(rows(&mut db, GRANTS), granted);
        assert_eq!(projections(&mut db), before);
        assert_eq!(events(&mut db), of_events);
        assert_eq!(stored(&mut db), bytes, "nothing was written anew");
        verified(&mut db);
    }
    let prints = Fingerprinter::default();
    let mut log = Log::claim(&mut db, 0);
    let share = log.share().report(&report("a", 0, 30, 7));
    log.commit(&mut db, &prints, share);
    verified(&mut db);
    let now = projections(&mut db);
    revert(&mut db, &SINCE[5..]);
    let refused = db
        .revert_last_migration(MIGRATIONS)
        .expect_err("no way back");
    assert!(
        refused.to_string().contains("reports are stored"),
        "{refused}"
    );
    assert_eq!(store::migrate(&db.url).expect("the schema"), SINCE[5..]);
    assert_eq!(projections(&mut db), now);
    verified(&mut db);
}

#[test]
fn the_event_store_gets_periods_and_loses_them_until_one_is_dropped() {
    let mut db = counted();
    let stored_before = stored(&mut db);
    let rights = "SELECT relacl::text FROM pg_class WHERE oid = 'event_blocks'::regclass";
    execute(&mut db, "GRANT INSERT, DELETE ON event_blocks TO PUBLIC");
    let rights_before = rows(&mut db, rights);
    for _ in 0..2 {
        revert(&mut db, &SINCE[9..]);
        assert_eq!(number(&mut db, "SELECT count(*) FROM ad_events"), 400);
        execute(
            &mut db,
            "CREATE VIEW theirs AS SELECT event_count FROM event_blocks",
        );
        let refused = store::migrate(&db.url).expect_err("theirs");
        assert!(refused.to_string().contains("theirs"), "{refused}");
        execute(&mut db, "DROP VIEW theirs");
        assert_eq!(store::migrate(&db.url).expect("the schema"), SINCE[9..]);
        assert_eq!(stored(&mut db), stored_before);
        assert_eq!(rows(&mut db, rights), rights_before);
        verified(&mut db);
        // The way back puts more than one of them together.
        let mut retaining = Retaining::begin(&db.url).expect("nobody else");
        retaining.close().expect("closed");
    }
    let mut log = Log::claim(&mut db, 0);
    log.store(
        &mut db,
        &Fingerprinter::default(),
        [event(9_999, "a", 9_999)],
    );
    let in_periods = "SELECT count(DISTINCT period) FROM event_blocks";
    assert_eq!(number(&mut db, in_periods), 2);
    verified(&mut db);
    revert(&mut db, &SINCE[9..]);
    assert_eq!(number(&mut db, "SELECT count(*) FROM ad_events"), 401);
    assert_eq!(store::migrate(&db.url).expect("the schema"), SINCE[9..]);
    assert_eq!(number(&mut db, in_periods), 1);
    verified(&mut db);
    let mut retaining = Retaining::begin(&db.url).expect("nobody else");
    retaining.close().expect("closed");
    let (_, periods) = retaining.periods().expect("periods");
    retaining.drop(&periods[0]).expect("dropped");
    drop(retaining);
    revert(&mut db, &SINCE[10..]);
    let refused = db
        .revert_last_migration(MIGRATIONS)
        .expect_err("no way back");
    assert!(
        refused.to_string().contains("events were dropped"),
        "{refused}"
    );
}

#[test]
fn more_conversions_than_there_can_be_are_named() {
    let mut db = counted();
    revert(&mut db, &SINCE[3..]);
    let set = |db: &mut PgConnection, conversions: i64| {
        let sql = format!(
            "UPDATE sum_chunks SET conversions = '\\x00'::bytea || int8send({conversions})
             WHERE first_campaign = 'c' AND (stream_id, part_id) IN (SELECT stream_id, part_id FROM sum_parts WHERE grain = 5)"
        );
        execute(db, &sql);
    };
    set(&mut db, 1_152_921_504_607);
    let refused = store::migrate(&db.url).expect_err("too many");
    assert!(
        refused.to_string().contains("conversions on a platform"),
        "{refused}"
    );
    // Large, and not too large.
    set(&mut db, 1_152_921_504_000);
    assert_eq!(store::migrate(&db.url).expect("the schema"), SINCE[3..]);
}

#[test]
fn views_of_others_that_are_in_the_way_are_named() {
    let mut db = counted();
    revert(&mut db, &SINCE[3..]);
    execute(
        &mut db,
        "CREATE SCHEMA ours; CREATE VIEW ours.second AS SELECT campaign_id, conversions FROM metrics_total",
    );
    let refused = store::migrate(&db.url).expect_err("theirs");
    assert!(refused.to_string().contains("ours.second"), "{refused}");
    execute(&mut db, "DROP VIEW ours.second");
    assert_eq!(store::migrate(&db.url).expect("the schema"), SINCE[3..]);
    verified(&mut db);
}

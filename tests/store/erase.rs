//! What is erased is gone from every table, and nothing else is touched.

use adflux::event::Platform;
use adflux::store::events::Fingerprinter;
use adflux::store::keep::carry::{Due, carry_some};
use adflux::store::keep::erase::{Erasure, Subject, erase, finish, left, plan};
use adflux::store::keep::merge::merge_some;
use adflux::store::keep::rebuild::rebuild;
use adflux::store::read::dead_letters::Row;
use adflux::store::{self, Limits};
use adflux::time::{Length, Timestamp};
use diesel::PgConnection;

use crate::database::{TestDatabase, events, execute, number, projections, rows};
use crate::log::{Log, START, event, report};
use crate::merge::{age, merge_all};
use crate::reports::restated;
use crate::retain::retained;
use crate::verify::{history, verified};

/// Several campaigns on two partitions: taken over, late, restated, merged and carried, and some of it fresh.
fn world() -> (TestDatabase, [Log; 2]) {
    let mut db = TestDatabase::create();
    history(&mut db);
    restated(&mut db);
    age(&mut db, "2026-02-01 10:00Z");
    merge_all(&mut db);
    while carry_some(&mut db, Due::AT_ONCE)
        .expect("carries")
        .is_some()
    {}
    let prints = Fingerprinter::default();
    let mut logs = [Log::claim(&mut db, 0), Log::claim(&mut db, 1)];
    for (nth, log) in logs.iter_mut().enumerate() {
        let fresh = (0..6).map(|n| {
            let id = 70_000 + 10 * nth as i64 + n;
            let campaigns = [["cmp-0", "cmp-1", "a.b"], ["only-on-1", "cmp-3", "cmp-3"]];
            event(id as u128, campaigns[nth][n as usize % 3], id)
        });
        log.store(&mut db, &prints, fresh);
    }
    verified(&mut db);
    (db, logs)
}

fn names(db: &mut PgConnection) -> Vec<String> {
    rows(db, "SELECT campaign_id FROM campaigns ORDER BY 1")
}

/// On a connection of its own, which the locks end with.
fn erased(db: &TestDatabase, subject: &Subject) -> Erasure {
    let mut connection = store::connect(&db.url, Limits::MAINTENANCE).expect("a connection");
    let planned = plan(&mut connection, subject, &mut all).expect("a plan").0;
    let erasure = erase(&mut connection, subject, &mut all).expect("erased");
    let removed = &erasure.removed;
    assert_eq!(
        (
            planned.events,
            planned.report_rows,
            planned.report_history,
            &planned.records
        ),
        (
            removed.events,
            removed.report_rows,
            removed.report_history,
            &removed.records
        )
    );
    finish(&mut connection, subject, &erasure.campaigns).expect("finished");
    erasure
}

fn all(_: &Row) -> anyhow::Result<bool> {
    Ok(true)
}

/// What is said of campaigns, but for those of one; a word that is the id begins a campaign's line, or stands after a table's name.
fn others(db: &mut PgConnection, gone: &[String]) -> Vec<String> {
    let mut lines = [events(db), projections(db)].concat();
    for table in [
        "report_rows",
        "report_history",
        "campaign_names",
        "campaigns",
    ] {
        lines.extend(rows(
            db,
            &format!("SELECT '{table} ' || t::text FROM {table} AS t ORDER BY t::text"),
        ));
    }
    let is_of = |line: &String| {
        let words = line.split(['(', ',', ' ', '"', ')']);
        words
            .clone()
            .any(|word| gone.iter().any(|gone| gone == word))
    };
    lines.retain(|line| !is_of(line));
    lines
}

/// Where a text stands in the database: as such, in bytes, and in what the planner remembers.
fn places(db: &mut PgConnection, text: &str) -> Vec<String> {
    let tables = rows(
        db,
        "SELECT format('%I', c.relname) FROM pg_class AS c
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') ORDER BY 1",
    );
    let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut found = Vec::new();
    for table in tables.iter().map(String::as_str).chain(["pg_stats"]) {
        let of = if table == "pg_stats" {
            "WHERE t.schemaname = 'public'"
        } else {
            ""
        };
        found.extend(rows(
            db,
            &format!(
                "SELECT '{table} ' || t::text FROM (SELECT t.* FROM {table} AS t {of}) AS t
                 WHERE strpos(t::text, '{text}') > 0 OR strpos(t::text, '{hex}') > 0"
            ),
        ));
    }
    found
}

#[test]
fn each_campaign_goes_whole_and_all_others_stay_as_they_were() {
    erase_one_by_one(world().0);
}

#[test]
fn what_stays_of_dropped_events_goes_too() {
    let (mut db, mut logs) = world();
    assert!(retained(&db) > 0);
    let prints = Fingerprinter::default();
    logs[0].store(&mut db, &prints, [event(90_000, "cmp-0", 90_000)]);
    logs[1].store(&mut db, &prints, [event(90_001, "cmp-3", 90_001)]);
    erase_one_by_one(db);
}

fn erase_one_by_one(mut db: TestDatabase) {
    let read = number(&mut db, "SELECT sum(records) FROM stream_positions");
    for campaign in names(&mut db) {
        let gone = [campaign.clone()];
        let before = others(&mut db, &gone);
        let counted = number(
            &mut db,
            &format!(
                "SELECT COALESCE(sum(events), 0) FROM metrics_total WHERE campaign_id = '{campaign}'"
            ),
        );
        let erasure = erased(&db, &Subject::Campaign(campaign.clone()));
        assert_eq!(erasure.removed.events.get(), counted, "{campaign}");
        assert_eq!(erasure.removed.campaigns.get(), 1);
        let after = others(&mut db, &[]);
        assert!(before == after, "{campaign}: others are as they were");
        let verified = verified(&mut db);
        assert_eq!(verified.records, i128::from(read));
        // Others are called a, and cmp-10; and of an empty table the planner keeps what it remembers.
        let blocks = number(&mut db, "SELECT count(*) FROM event_blocks");
        if campaign.len() > 1 && campaign != "cmp-1" && blocks > 0 {
            let places = places(&mut db, &campaign);
            assert!(
                places.is_empty(),
                "{campaign} is in {:.1000}",
                places.join("\n")
            );
        }
    }
    assert_eq!(number(&mut db, "SELECT count(*) FROM event_blocks"), 0);
    assert_eq!(number(&mut db, "SELECT count(*) FROM sum_chunks"), 0);
    assert_eq!(number(&mut db, "SELECT count(*) FROM late_events"), 0);
    assert_eq!(
        number(
            &mut db,
            "SELECT count(*) FROM erasures WHERE finished_at IS NULL"
        ),
        0
    );
}

#[test]
fn sums_without_a_campaign_are_those_that_a_rebuild_makes_and_counting_goes_on() {
    let (mut db, mut logs) = world();
    let stale = logs[0].share().new_event(event(80_000, "cmp-1", 80_000));
    erased(&db, &Subject::Campaign("cmp-0".to_owned()));
    erased(&db, &Subject::Campaign("cmp-3".to_owned()));
    let rebuilt = rebuild(&db.url, &mut |_, _| ()).expect("rebuilt");
    assert_eq!(rebuilt.corrected_campaigns, 0);
    verified(&mut db);
    // Who has not heard of it writes nothing.
    let prints = Fingerprinter::default();
    let outcome = crate::log::outcome(&mut db, &prints, &[stale.build()]);
    assert!(
        matches!(outcome, store::write::commit::Outcome::Reset(_)),
        "{outcome:?}"
    );
    for log in &mut logs {
        log.claim_again(&mut db);
    }
    // An event of before counts once more, and once.
    let again = event(70_000, "cmp-0", 70_000);
    for duplicates in [0, 1] {
        let share = logs[0].share().late_event(again);
        let committed = logs[0].commit(&mut db, &prints, share);
        assert_eq!(committed.duplicates.get(), duplicates);
    }
    let of_campaign = "SELECT sum(events) FROM metrics_total WHERE campaign_id = 'cmp-0'";
    assert_eq!(number(&mut db, of_campaign), 1);
    logs[1].store(&mut db, &prints, [event(80_001, "cmp-0", 80_001)]);
    assert_eq!(number(&mut db, of_campaign), 2);
    verified(&mut db);
    // Blocks without some of their events are merged as others are.
    age(&mut db, "2026-02-02 10:00Z");
    merge_all(&mut db);
    while carry_some(&mut db, Due::AT_ONCE)
        .expect("carries")
        .is_some()
    {}
    verified(&mut db);
}

#[test]
fn an_account_goes_with_its_campaigns_and_what_is_known_of_it() {
    let (mut db, mut logs) = world();
    let prints = Fingerprinter::default();
    let mut other = report("google:2:mine", 0, 30, 5);
    other.definition.account = "2";
    let share = logs[0]
        .share()
        .report(&other)
        .new_event(event(90_000, "google:1:unreported", 5));
    logs[0].commit(&mut db, &prints, share);
    let reported = rows(
        &mut db,
        "SELECT DISTINCT campaign_id FROM report_rows WHERE campaign_id <> 'google:2:mine'",
    );
    assert!(!reported.is_empty());
    let gone = [reported, vec!["google:1:unreported".to_owned()]].concat();
    let before = others(&mut db, &gone);
    let account = Subject::Account {
        platform: Platform::Google,
        account: "1".to_owned(),
        prefix: "google:1:".to_owned(),
    };
    let erasure = erased(&db, &account);
    assert_eq!(
        erasure.campaigns.len(),
        gone.len(),
        "{:?}",
        erasure.campaigns
    );
    assert!(before == others(&mut db, &[]));
    assert_eq!(
        rows(&mut db, "SELECT DISTINCT account FROM report_definitions"),
        ["2"]
    );
    verified(&mut db);
}

#[test]
fn dead_letters_from_before_an_instant_go_and_are_accounted_for() {
    let (mut db, _) = world();
    let letters = number(&mut db, "SELECT count(*) FROM dead_letters");
    assert!(letters > 1);
    execute(
        &mut db,
        "UPDATE dead_letters SET created_at = '2026-01-01Z';
         UPDATE dead_letters SET created_at = '2026-03-01Z' WHERE (stream_id, \"offset\") = (
             SELECT stream_id, \"offset\" FROM dead_letters ORDER BY 1 DESC, 2 DESC LIMIT 1);
         INSERT INTO dead_letter_publications (stream_id, next_offset, letters)
         SELECT stream_id, max(\"offset\") + 1, count(*) FROM dead_letters GROUP BY 1",
    );
    let before = [events(&mut db), projections(&mut db)];
    let instant: Timestamp = START + Length::DAY.times(31);
    let erasure = erased(&db, &Subject::DeadLettersBefore(instant));
    assert_eq!(erasure.removed.dead_letters.get(), letters - 1);
    assert_eq!(number(&mut db, "SELECT count(*) FROM dead_letters"), 1);
    assert_eq!(
        number(&mut db, "SELECT sum(erased) FROM stream_positions"),
        letters - 1
    );
    assert!(before == [events(&mut db), projections(&mut db)]);
    verified(&mut db);
}

#[test]
fn one_that_was_killed_is_finished_by_the_next() {
    let (mut db, _) = world();
    execute(
        &mut db,
        "INSERT INTO report_imports (file_id, observed_at, imported_at, name, shape, platform, accounts, rows, first_day, last_day, options)
         SELECT file_id, '2026-01-03Z', now(), 'a.csv', 'x', 1, ARRAY['1'], 1, '2026-01-01', '2026-01-02', '{}' FROM report_files;
         INSERT INTO report_file_chunks (file_id, n, bytes) SELECT file_id, 0, '' FROM report_files",
    );
    let campaign = rows(&mut db, "SELECT campaign_id FROM report_rows LIMIT 1").remove(0);
    let subject = Subject::Campaign(campaign);
    let mut connection = store::connect(&db.url, Limits::MAINTENANCE).expect("a connection");
    let erasure = erase(&mut connection, &subject, &mut all).expect("erased");
    drop(connection);
    assert_eq!(erasure.removed.originals.len(), 1);
    assert_eq!(
        number(&mut db, "SELECT count(*) FROM report_file_chunks"),
        0
    );
    assert_eq!(
        left(&mut db, &subject).expect("an answer"),
        erasure.removed.originals
    );
    // While it was not finished, nobody merges or rebuilds less than before.
    merge_some(&mut db, std::time::Duration::ZERO).expect("merges");
    let again = erased(&db, &subject);
    assert_eq!(again.removed.events.get(), 0);
    assert!(left(&mut db, &subject).expect("an answer").is_empty());
    verified(&mut db);
}

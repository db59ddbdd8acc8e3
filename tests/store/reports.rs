//! Restatements beside events: in blocks, in what keeps them, and where a reply is lost or a sum is near its limit.

use adflux::event::{MAX_SUM, Reason};
use adflux::report_row::{Definition, ReportRow, Values};
use adflux::store::events::Fingerprinter;
use adflux::store::keep::rebuild::rebuild;
use adflux::store::write::batch::Reading;
use adflux::store::write::commit::{Committed, Outcome};
use diesel::PgConnection;

use crate::database::{TestDatabase, events, number, projections, rows};
use crate::log::{Draft, Log, event, outcome, report};
use crate::merge::{age, merge_all};
use crate::verify::verified;

/// A row that says other numbers.
fn saying(values: [Option<i64>; 5], row: ReportRow<'static>) -> ReportRow<'static> {
    ReportRow {
        values: Values::of(values),
        ..row
    }
}

/// A part of a campaign's day.
fn part(slice: &'static str, row: ReportRow<'static>) -> ReportRow<'static> {
    ReportRow { slice, ..row }
}

/// Two partitions with small shares of events, of reports, and of both; a day that was withdrawn and one that is in parts, answers
/// that came late or again, and a campaign with reports that moved.
pub fn restated(db: &mut PgConnection) -> [Log; 2] {
    let prints = Fingerprinter::default();
    let mut zero = Log::claim(db, 0);
    let mut one = Log::claim(db, 1);
    let shares: [fn(Draft) -> Draft; 7] = [
        |share| {
            share
                .new_event(event(1, "a", 100))
                .report(&report("a", 0, 30, 7))
                .new_event(event(2, "a", 101))
        },
        |share| share.new_event(event(3, "a", 80_000)),
        |share| {
            // Newest; again; before all; between the two; known.
            share
                .report(&report("a", 0, 54, 9))
                .report(&report("a", 0, 60, 9))
                .report(&report("a", 0, 26, 6))
                .gap(2)
                .report(&report("a", 0, 40, 8))
                .report(&report("a", 0, 54, 9))
        },
        |share| {
            share
                .report(&part("ad=1", report("b", 0, 30, 3)))
                .report(&part("ad=2", report("b", 0, 30, 4)))
                .report(&report("b", 1, 40, 5))
                .late_event(event(4, "b", -90_000))
        },
        |share| share.new_event(event(5, "b", 200)),
        |share| {
            // Less than before; nothing any more.
            share
                .report(&part("ad=1", report("b", 0, 80, 1)))
                .report(&saying([None; 5], report("b", 1, 80, 0)))
        },
        |share| share.new_event(event(6, "a", 80_001)).duplicate(),
    ];
    for share in shares {
        let draft = share(zero.share());
        zero.commit(db, &prints, draft);
    }
    one.store(db, &prints, [event(7, "c", 50)]);
    let share = one.share().report(&report("a", 0, 90, 11));
    one.commit(db, &prints, share);
    zero.claim_again(db);
    [zero, one]
}

#[test]
fn merged_and_rebuilt_they_are_what_they_were() {
    let mut db = TestDatabase::create();
    let [mut log, _] = restated(&mut db);
    age(&mut db, "2026-02-01 10:00Z");
    let answers = |db: &mut PgConnection| (events(db), projections(db), verified(db));
    let before = answers(&mut db);
    let with = "SELECT count(*) FROM event_blocks WHERE observed_at IS NOT NULL";
    let observed = "SELECT count(observed_at) FROM ad_events";
    assert_eq!((number(&mut db, with), number(&mut db, observed)), (5, 8));
    assert_eq!(merge_all(&mut db), (9, 2));
    assert!(answers(&mut db) == before);
    assert_eq!((number(&mut db, with), number(&mut db, observed)), (2, 8));
    // What is known is known: of events by the event store, of reports by what they say.
    let prints = Fingerprinter::default();
    let again = log
        .share()
        .late_event(event(1, "a", 100))
        .late_event(event(4, "b", -90_000))
        .report(&report("a", 0, 54, 9))
        .report(&part("ad=2", report("b", 0, 30, 4)));
    let told = log.commit(&mut db, &prints, again);
    assert_eq!((told.duplicates.get(), told.totals.events.get()), (4, 0));

    // Times of commits come from the blocks, which were said to be older.
    let sums = |lines: &[String]| -> Vec<String> {
        let is_of_an_interval = |line: &&String| !line.starts_with("metrics_total");
        lines.iter().filter(is_of_an_interval).cloned().collect()
    };
    rebuild(&db.url, &mut |_, _| ()).expect("a rebuild");
    assert!(sums(&projections(&mut db)) == sums(&before.1));
    verified(&mut db);
}

#[test]
fn they_do_not_make_looking_up_events_dearer() {
    let mut db = TestDatabase::create();
    restated(&mut db);
    let spans = rows(
        &mut db,
        "SELECT concat_ws(' ', stream_id, first_offset, COALESCE(extract(epoch FROM lower(lookup_span) - timestamptz '2026-01-01Z')::text
             || ' to ' || extract(epoch FROM upper(lookup_span) - timestamptz '2026-01-01Z'), 'none'))
         FROM event_blocks ORDER BY stream_id, first_offset",
    );
    let seconds = |from: i64, to: i64| format!("{from}.000000 to {to}.000000");
    let expected = [
        format!("1 0 {}", seconds(100, 101)),
        format!("1 3 {}", seconds(80_000, 80_000)),
        "1 4 none".to_owned(),
        // Its event came late.
        "1 11 none".to_owned(),
        format!("1 15 {}", seconds(200, 200)),
        "1 16 none".to_owned(),
        format!("1 18 {}", seconds(80_001, 80_001)),
        format!("2 0 {}", seconds(50, 50)),
        "2 1 none".to_owned(),
    ];
    assert_eq!(spans, expected);
}

fn committed(outcome: Outcome) -> Committed {
    match outcome {
        Outcome::Committed(committed) => committed,
        other => panic!("not committed: {other:?}"),
    }
}

/// All that a share of reports changes.
fn contents(db: &mut PgConnection) -> Vec<String> {
    let mut all = [events(db), projections(db)].concat();
    for table in [
        "report_rows",
        "report_history",
        "report_definitions",
        "report_files",
        "campaign_names",
        "campaigns",
        "dead_letters",
        "stream_positions",
    ] {
        let lines = format!("SELECT '{table} ' || t::text FROM {table} AS t ORDER BY t::text");
        all.extend(rows(db, &lines));
    }
    all
}

#[test]
fn a_commit_whose_reply_was_lost_is_recognised() {
    let mut db = TestDatabase::create();
    let prints = Fingerprinter::default();
    let mut log = Log::claim(&mut db, 0);
    let share = log.share().report(&report("a", 0, 30, 7));
    log.commit(&mut db, &prints, share);
    for (hour, careful) in [(100, false), (200, true)] {
        let draft = log
            .share()
            // Newest, twice; again; before; in between; otherwise; in parts.
            .report(&report("a", 0, hour, hour))
            .report(&report("a", 0, hour + 10, 3))
            .report(&report("a", 0, hour + 20, 3))
            .report(&report("a", 0, hour, hour))
            .report(&report("a", 0, hour - 5, 8))
            .report(&report("a", 0, hour, 99))
            .report(&part("ad=1", report("a", 0, hour, 1)))
            .report(&report("b", 0, hour, hour))
            .new_event(event(hour as u128, "c", hour))
            .dead(Reason::NegativeValue);
        let draft = if careful { draft.careful() } else { draft };
        let shares = [draft.build()];
        let first = committed(outcome(&mut db, &prints, &shares));
        let before = contents(&mut db);
        let again = committed(outcome(&mut db, &prints, &shares));
        assert_eq!(contents(&mut db), before);
        assert_eq!(again.commit_id, first.commit_id);
        assert_eq!(again.next_offset, first.next_offset);
        assert_eq!(
            (&again.dead, again.totals, &again.campaigns),
            (&first.dead, first.totals, &first.campaigns)
        );
        assert_eq!(
            first.dead,
            [
                Reason::NegativeValue,
                Reason::ConflictingReport,
                Reason::MixedReport
            ]
        );
        assert_eq!(
            [first.duplicates, first.unchanged, first.superseded].map(|count| count.get()),
            [1, 1, 1]
        );
        // Which of the three it was of a row that changed nothing is not stored.
        assert_eq!(
            [again.duplicates, again.unchanged, again.superseded].map(|count| count.get()),
            [3, 0, 0]
        );
        assert_eq!(again.max_event_time, first.max_event_time);
        log.fence.next_offset = first.next_offset;
    }
    assert_eq!(verified(&mut db).superseded, 2);
}

#[test]
fn the_report_that_would_overflow_a_sum_becomes_a_dead_letter() {
    let mut db = TestDatabase::create();
    let prints = Fingerprinter::default();
    let mut log = Log::claim(&mut db, 0);
    let clicks = |day: u64, hour: i64, clicks: i64| {
        saying(
            [Some(1), Some(clicks), None, None, None],
            report("a", day, hour, 0),
        )
    };
    let share = log.share().report(&clicks(0, 30, MAX_SUM - 10));
    log.commit(&mut db, &prints, share);
    let other_account = ReportRow {
        definition: Definition {
            account: "2",
            ..report("a", 1, 0, 0).definition
        },
        ..clicks(1, 48, 3)
    };
    let filling = |log: &Log| {
        log.share()
            .report(&clicks(1, 40, 11))
            // What said too much said nothing: the day is free, and the next answers are compared with nothing.
            .report(&other_account)
            .report(&ReportRow {
                observed_at: clicks(1, 50, 0).observed_at,
                ..other_account
            })
            .report(&ReportRow {
                observed_at: clicks(1, 51, 0).observed_at,
                ..saying([None, Some(11), None, None, None], other_account)
            })
            .report(&ReportRow {
                observed_at: clicks(1, 52, 0).observed_at,
                ..saying([None, Some(10), None, None, None], other_account)
            })
            .report(&clicks(2, 60, 1))
            .report(&clicks(0, 60, MAX_SUM - 11))
            .report(&clicks(2, 60, 1))
    };
    let before = contents(&mut db);
    let usual = outcome(&mut db, &prints, &[filling(&log).build()]);
    assert!(
        matches!(usual, Outcome::Reset(Reading::Careful)),
        "{usual:?}"
    );
    // The bound of the sums was looked up, and nothing else happened but that names were given.
    let sums = |lines: &[String]| -> Vec<String> {
        let is_other = |line: &&String| {
            !["stream_positions", "report_definitions"]
                .iter()
                .any(|table| line.starts_with(table))
        };
        lines.iter().filter(is_other).cloned().collect()
    };
    assert_eq!(sums(&contents(&mut db)), sums(&before));
    log.claim_again(&mut db);
    let draft = filling(&log).careful();
    let told = log.commit(&mut db, &prints, draft);
    assert_eq!(told.dead, [Reason::SumOverflow; 3]);
    assert_eq!((told.unchanged.get(), told.totals.events.get()), (1, 4));
    let said = rows(
        &mut db,
        "SELECT concat_ws(' ', day - date '2026-01-01', d.account, clicks) FROM report_rows JOIN report_definitions AS d
         USING (definition_id) ORDER BY day",
    );
    let near = MAX_SUM - 11;
    assert_eq!(
        said,
        [
            format!("0 1 {near}"),
            "1 2 10".to_owned(),
            "2 1 1".to_owned()
        ]
    );
    assert_eq!(number(&mut db, "SELECT count(*) FROM report_history"), 2);
    assert_eq!(verified(&mut db).dead_letters, 3);
}

/// However many answers say too much of one key, each is compared with what was known, and none is looked at twice.
#[test]
fn many_reports_that_say_too_much_are_refused_in_one_reading() {
    let mut db = TestDatabase::create();
    let prints = Fingerprinter::default();
    let mut log = Log::claim(&mut db, 0);
    let most = |day: u64, hour: i64| {
        saying(
            [Some(MAX_SUM), None, None, None, None],
            report("a", day, hour, 0),
        )
    };
    let share = log.share().report(&most(0, 30));
    log.commit(&mut db, &prints, share);
    let share = (0..5_000).fold(log.share().careful(), |share, n| {
        share.report(&most(1, 40 + n))
    });
    let told = log.commit(&mut db, &prints, share);
    assert_eq!(told.dead, vec![Reason::SumOverflow; 5_000]);
    assert_eq!(verified(&mut db).events, 1);
}

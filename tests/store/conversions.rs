//! Conversions are kept in millionths: whole ones in one column, and what is beyond in another, where anything is.

use adflux::event::{Conversions, Counts, MAX_SUM, MILLION, Reason};
use adflux::store::events::Fingerprinter;
use adflux::store::keep::carry::{Due, carry_some};
use adflux::store::keep::rebuild::rebuild;
use adflux::store::read::insights;
use adflux::store::write::batch::Reading;
use adflux::store::write::commit::Outcome;
use adflux::totals::Totals;
use diesel::PgConnection;

use crate::database::{TestDatabase, execute, number, projections, rows};
use crate::log::{Event, Log, event, outcome};
use crate::merge::{age, merge_all};
use crate::verify::verified;

fn with(millionths: i64, of: Event) -> Event {
    Event {
        counts: Counts {
            conversions: Conversions::new(millionths),
            ..of.counts
        },
        ..of
    }
}

fn carry_all(db: &mut PgConnection) {
    while carry_some(db, Due::AT_ONCE).expect("a step").is_some() {}
}

/// How many blocks, and chunks that are listed, have the column of fractions.
fn with_fractions(db: &mut PgConnection) -> (i64, i64) {
    let blocks = "SELECT count(conversion_millionths) FROM event_blocks";
    let chunks = "SELECT count(conversion_millionths) FROM sum_chunks JOIN sum_parts USING (stream_id, part_id)";
    (number(db, blocks), number(db, chunks))
}

fn total(db: &mut PgConnection, campaign: &str) -> i64 {
    let sums = insights::campaign(db, campaign, None).expect("an answer");
    let sums = sums.expect("it is known").platforms.into_iter();
    let all = sums.fold(Totals::default(), |all, (_, sum)| {
        all.checked_add(sum).expect("fits")
    });
    all.counts.conversions.get()
}

/// What the views and the function say of a campaign's conversions.
fn shown(db: &mut PgConnection, campaign: &str) -> [Vec<String>; 4] {
    [
        "SELECT conversions::text FROM ad_events WHERE campaign_id = '{}' ORDER BY \"offset\"",
        "SELECT conversions::text FROM campaign_metrics WHERE campaign_id = '{}' ORDER BY timestamp, platform",
        "SELECT conversions::text FROM campaign_sums('{}', '2026-01-01Z', '2027-01-01Z') ORDER BY minute, platform",
        "SELECT conversions::text FROM metrics_total WHERE campaign_id = '{}' ORDER BY platform",
    ]
    .map(|sql| rows(db, &sql.replace("{}", campaign)))
}

#[test]
fn what_is_whole_has_no_fractions_anywhere() {
    let mut db = TestDatabase::create();
    let prints = Fingerprinter::default();
    let mut log = Log::claim(&mut db, 0);
    // Of one platform and campaign.
    let one = |n: u128, millionths| with(millionths, event(4 * n, "a", 3_600 * n as i64));
    let counted = log.store(&mut db, &prints, (0..10).map(|n| one(n, 2 * MILLION)));
    assert_eq!(counted.totals.counts.conversions.get(), 20 * MILLION);
    carry_all(&mut db);
    assert_eq!(with_fractions(&mut db), (0, 0));
    // Halves that make wholes: the minutes have fractions, and all time has none.
    for n in [10, 11] {
        log.store(&mut db, &prints, [one(n, MILLION / 2)]);
    }
    assert_eq!(with_fractions(&mut db), (2, 2));
    carry_all(&mut db);
    let of_all_time = "SELECT count(conversion_millionths) FROM sum_chunks
        JOIN sum_parts USING (stream_id, part_id) WHERE grain = 5";
    assert_eq!(number(&mut db, of_all_time), 0);
    assert!(with_fractions(&mut db).1 > 0);
    assert_eq!(total(&mut db, "a"), 21 * MILLION);
    let [events, metrics, sums, all] = shown(&mut db, "a");
    let expected: Vec<&str> = std::iter::repeat_n("2", 10).chain(["0.5"; 2]).collect();
    assert_eq!(events, expected);
    assert_eq!((&metrics, &sums), (&events, &events));
    assert_eq!(all, ["21"]);
    verified(&mut db);
    // One block of both has the column.
    age(&mut db, "2026-02-01 10:00Z");
    assert_eq!(merge_all(&mut db), (3, 1));
    assert_eq!(with_fractions(&mut db).0, 1);
    assert_eq!(shown(&mut db, "a")[0], expected);
    verified(&mut db);
    let before = projections(&mut db);
    let rebuilt = rebuild(&db.url, &mut |_, _| ()).expect("a rebuild");
    assert_eq!(rebuilt.corrected_campaigns, 0);
    let (before, after) = (
        without_totals(&before),
        without_totals(&projections(&mut db)),
    );
    assert_eq!(after, before);
}

/// Times of commits come from the blocks, which were said to be older.
fn without_totals(lines: &[String]) -> Vec<String> {
    let kept = lines.iter().filter(|l| !l.starts_with("metrics_total"));
    kept.cloned().collect()
}

/// No record brings a number below zero yet. What is stored of one is the same number again.
#[test]
fn numbers_below_zero_are_kept_as_well() {
    let mut db = TestDatabase::create();
    let prints = Fingerprinter::default();
    let mut log = Log::claim(&mut db, 0);
    let millionths = [1_500_000, -2_250_000, -1, -3_000_000, 4_000_000, 250_001];
    let events = (0..)
        .zip(millionths)
        .map(|(n, millionths)| with(millionths, event(4 * n, "a", 60 * n as i64)));
    log.store(&mut db, &prints, events);
    assert_eq!(
        shown(&mut db, "a")[..3],
        [(); 3].map(|()| ["1.5", "-2.25", "-0.000001", "-3", "4", "0.250001"]
            .map(str::to_owned)
            .to_vec())
    );
    assert_eq!(shown(&mut db, "a")[3], ["0.5"]);
    carry_all(&mut db);
    assert_eq!(total(&mut db, "a"), 500_000);
    assert_eq!(verified(&mut db).conversions, 500_000);
    assert_eq!(shown(&mut db, "a")[3], ["0.5"]);
}

/// As any sum is, in its unit, which is a millionth.
#[test]
fn the_sum_of_conversions_has_its_limit_in_millionths() {
    let mut db = TestDatabase::create();
    let prints = Fingerprinter::default();
    let mut log = Log::claim(&mut db, 0);
    let one = |n: u128, campaign, millionths| with(millionths, event(4 * n, campaign, 0));
    log.store(&mut db, &prints, [one(1, "a", MAX_SUM - 10)]);
    // The bound of sums passes the limit, and the sums themselves do not.
    let other = log.share().new_event(one(2, "b", 1_500_000));
    let usual = outcome(&mut db, &prints, &[other.clone().build()]);
    assert!(
        matches!(usual, Outcome::Reset(Reading::Careful)),
        "{usual:?}"
    );
    let told = log.commit(&mut db, &prints, other.careful());
    assert_eq!(told.totals.counts.conversions.get(), 1_500_000);
    let more = log
        .share()
        .new_event(one(3, "a", 11))
        .new_event(one(4, "a", 10));
    let told = log.commit(&mut db, &prints, more.careful());
    assert_eq!(told.dead, [Reason::SumOverflow]);
    let bound = "SELECT sum_bound FROM stream_positions";
    assert_eq!(number(&mut db, bound), MAX_SUM);
    assert_eq!(total(&mut db, "a"), MAX_SUM);
    assert_eq!(shown(&mut db, "a")[3], ["1152921504606.846975"]);
    verified(&mut db);
}

#[test]
fn no_block_has_a_fraction_that_is_none() {
    let mut db = TestDatabase::create();
    let prints = Fingerprinter::default();
    let mut log = Log::claim(&mut db, 0);
    log.store(&mut db, &prints, [with(1_500_000, event(4, "a", 0))]);
    for fraction in ["-1", "1000000", "NULL"] {
        let refused = format!(
            "DO $$ BEGIN
                 UPDATE event_blocks SET conversion_millionths = ARRAY[{fraction}]::integer[];
                 RAISE 'it was stored';
             EXCEPTION WHEN check_violation THEN NULL; END $$"
        );
        execute(&mut db, &refused);
    }
    assert_eq!(shown(&mut db, "a")[0], ["1.5"]);
}

//! What was known at an instant, and that it stays so.

use std::collections::BTreeMap;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use adflux::event::{Counts, Platform};
use adflux::offset::Offset;
use adflux::store::events::Fingerprinter;
use adflux::store::keep::rebuild_as_of::{AsOfError, rebuild_as_of};
use adflux::store::positions::Position;
use adflux::store::read::as_of::{self, Known, NotYet};
use adflux::store::read::insights::{self, CampaignSums, Window};
use adflux::store::{CommitId, Limits, StoreError, connect};
use adflux::time::{Length, Timestamp};
use adflux::totals::Totals;
use chrono::Utc;
use diesel::{Connection, PgConnection};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::database::{TestDatabase, execute, number, projections};
use crate::log::{Event, Log, START, event, nth};
use crate::merge::merge_all;
use crate::verify::verified;

/// When the first commit was, to the test: long enough ago for blocks to be merged.
const BASE: Timestamp = Timestamp::new(START.get() + Length::DAY.times(40).get());

const CAMPAIGNS: [&str; 4] = ["a", "b", "c", "d"];

fn known(answer: Known) -> CampaignSums {
    match answer {
        Known::Sums(sums, _) => sums,
        other => panic!("{other:?}"),
    }
}

fn ask(db: &mut PgConnection, campaign: &str, window: Option<Window>, instant: Timestamp) -> Known {
    let until = Instant::now() + Duration::from_secs(600);
    as_of::campaign(db, campaign, window, None, instant, until).expect("an answer")
}

/// The newest commit was at `instant`, as far as the tables say.
pub fn committed_at(db: &mut PgConnection, commit_id: CommitId, instant: Timestamp) {
    let time = format!(
        "timestamptz 'epoch' + {} * interval '1 microsecond'",
        instant.get()
    );
    for table in ["event_blocks", "sum_parts"] {
        execute(
            db,
            &format!("UPDATE {table} SET committed_at = {time} WHERE commit_id = {commit_id}"),
        );
    }
    // A column of one number.
    execute(
        db,
        &format!(
            "UPDATE sum_chunks SET committed_at = '\\x00'::bytea || int8send({}) WHERE part_id = {commit_id}",
            instant.get()
        ),
    );
}

/// Records of a partition in one commit: (campaign, second) of each event, and a gap after them.
type Batch = (usize, Vec<(usize, i64)>, i64);

/// What a model that keeps everything says.
#[derive(Default)]
struct Model {
    /// Instant, partition, offset, event.
    events: Vec<(Timestamp, usize, i64, Event)>,
}

impl Model {
    fn sums(
        &self,
        campaign: &str,
        window: Option<Window>,
        instant: Timestamp,
    ) -> Option<Vec<(Platform, Totals)>> {
        let mut sums: BTreeMap<Platform, Totals> = BTreeMap::new();
        let mut any = false;
        for (at, _, _, event) in &self.events {
            if *at > instant || event.campaign != campaign {
                continue;
            }
            any = true;
            let time = START + Length::SECOND.times(event.second);
            if window.is_none_or(|w| (w.since()..w.until()).contains(&time)) {
                let sum = sums.entry(event.platform).or_default();
                *sum = sum.checked_add(Totals::of(event.counts)).expect("fits");
            }
        }
        any.then(|| sums.into_iter().collect())
    }

    /// The offset after the last event of each partition that is counted on for the campaign.
    fn positions(&self, campaign: &str, instant: Timestamp) -> Vec<Position> {
        let of = |partition: usize| self.events.iter().filter(move |e| e.1 == partition);
        let moved = {
            let mut on = self.events.iter().filter(|e| e.3.campaign == campaign);
            let first = on.next().map(|e| e.1);
            on.any(|e| Some(e.1) != first)
        };
        let position = |partition: usize| {
            let holds = of(partition).any(|e| e.3.campaign == campaign);
            let last = of(partition)
                .filter(|e| e.0 <= instant)
                .map(|e| e.2)
                .max()?;
            (moved || holds).then(|| Position {
                topic: "ad-events".to_owned(),
                partition: partition as i32,
                next_offset: Offset::new(last + 1),
            })
        };
        (0..2).filter_map(position).collect()
    }
}

#[test]
fn as_of_is_the_sum_of_the_events_till_then_before_and_after_merging() {
    let batch = (
        0usize..2,
        prop::collection::vec((0usize..CAMPAIGNS.len(), 0i64..200_000), 1..8),
        0i64..3,
    );
    let asked = (
        0usize..CAMPAIGNS.len(),
        -5i64..260,
        prop::option::of((0i64..200_000, 1i64..100_000)),
    );
    let case = (
        prop::collection::vec(batch, 1..25),
        prop::collection::vec(asked, 1..12),
    );
    let mut runner = TestRunner::new(Config {
        cases: 8,
        max_shrink_iters: 20,
        failure_persistence: None,
        ..Config::default()
    });
    runner
        .run(&case, |(batches, asked)| {
            let mut db = TestDatabase::create();
            let model = stored(&mut db, &batches);
            for merged in [false, true] {
                if merged {
                    merge_all(&mut db);
                    verified(&mut db);
                }
                for &(campaign, second, window) in &asked {
                    let instant = BASE + Length::SECOND.times(second);
                    let window = window.and_then(|(since, length)| {
                        let since = START + Length::SECOND.times(since);
                        Window::covering(since, since + Length::SECOND.times(length))
                    });
                    let campaign = CAMPAIGNS[campaign];
                    match ask(&mut db, campaign, window, instant) {
                        Known::NothingYet => {
                            prop_assert_eq!(model.sums(campaign, window, instant), None)
                        }
                        answer => {
                            let sums = known(answer);
                            prop_assert_eq!(
                                Some(sums.platforms),
                                model.sums(campaign, window, instant)
                            );
                            prop_assert_eq!(sums.positions, model.positions(campaign, instant));
                        }
                    }
                }
            }
            Ok(())
        })
        .unwrap_or_else(|e| panic!("{e}"));
}

/// Commits the batches, ten seconds apart. A campaign may come on either partition, and then moves.
fn stored(db: &mut PgConnection, batches: &[Batch]) -> Model {
    let prints = Fingerprinter::default();
    let mut logs = [Log::claim(db, 0), Log::claim(db, 1)];
    let mut model = Model::default();
    let mut id = 0;
    for (n, (partition, events, gap)) in batches.iter().enumerate() {
        let log = &mut logs[*partition];
        // The other one may have taken campaigns over.
        log.claim_again(db);
        let at = BASE + Length::SECOND.times(n as i64 * 10);
        let mut draft = log.share();
        for (offset, &(campaign, second)) in (log.fence.next_offset.get()..).zip(events) {
            id += 1;
            let event = event(id, CAMPAIGNS[campaign], second);
            model.events.push((at, *partition, offset, event));
            draft = draft.new_event(event);
        }
        let committed = log.commit(db, &prints, draft.gap(*gap));
        committed_at(db, committed.commit_id, at);
    }
    model
}

#[test]
fn what_was_answered_then_is_answered_still() {
    let mut db = TestDatabase::create();
    let prints = Fingerprinter::default();
    let mut logs = [Log::claim(&mut db, 0), Log::claim(&mut db, 1)];
    let window = Window::covering(
        START + Length::SECOND.times(60),
        START + Length::SECOND.times(7_200),
    );
    let mut remembered = Vec::new();
    for n in 0..12u64 {
        let partition = (n % 2) as usize;
        let campaign = ["zero", "one"][partition];
        let mine = |n| Event { campaign, ..nth(n) };
        let log = &mut logs[partition];
        let told = log.store(&mut db, &prints, (n * 500..n * 500 + 300).map(mine));
        committed_at(
            &mut db,
            told.commit_id,
            BASE + Length::SECOND.times(n as i64),
        );
        for window in [None, window] {
            let sums = insights::campaign(&mut db, campaign, window).expect("an answer");
            remembered.push((n as i64, campaign, window, sums.expect("it is known")));
        }
    }
    let check = |db: &mut PgConnection| {
        for (n, campaign, window, sums) in &remembered {
            // Up to the instant before the partition's next commit.
            for later in [Length::new(0), Length::new(1_999_999)] {
                let instant = BASE + Length::SECOND.times(*n) + later;
                assert_eq!(known(ask(db, campaign, *window, instant)), *sums, "{n}");
            }
        }
        assert_eq!(
            ask(db, "zero", None, BASE - Length::MICROSECOND),
            Known::NothingYet
        );
        assert_eq!(ask(db, "one", None, BASE), Known::NothingYet);
        assert_eq!(ask(db, "nobody", None, BASE), Known::NothingYet);
    };
    check(&mut db);
    assert_eq!(merge_all(&mut db).1, 2);
    check(&mut db);
}

#[test]
fn a_question_that_reads_for_too_long_says_so() {
    let mut db = TestDatabase::create();
    let mut other = connect(&db.url, Limits::PROCESSOR).expect("connects");
    execute(&mut other, "BEGIN");
    execute(&mut other, "LOCK TABLE event_blocks");
    let answer = as_of::campaign(&mut db, "one", None, None, BASE, Instant::now());
    assert_eq!(answer.expect("an answer"), Known::TooLong);
}

/// What the four tables in a schema say, as [`projections`] says it of the live ones.
fn projections_in(db: &mut PgConnection, schema: &str) -> Vec<String> {
    execute(db, &format!("SET search_path = \"{schema}\""));
    let all = projections(db);
    execute(db, "SET search_path = public");
    all
}

#[test]
fn the_projections_of_an_instant_are_those_of_then_row_by_row() {
    let mut db = TestDatabase::create();
    let prints = Fingerprinter::default();
    let mut logs = [Log::claim(&mut db, 0), Log::claim(&mut db, 1)];
    let instant = |n: i64| (BASE + Length::SECOND.times(n)).datetime().expect("a time");
    let mut remembered = vec![(-1, Vec::new(), 0)];
    let mut all = 0;
    for n in 0..10u64 {
        let partition = (n % 2) as usize;
        logs[partition].claim_again(&mut db);
        // The campaigns move to and fro.
        let events = (n * 70..n * 70 + 40).map(nth);
        let told = logs[partition].store(&mut db, &prints, events);
        committed_at(
            &mut db,
            told.commit_id,
            BASE + Length::SECOND.times(n as i64),
        );
        all += 40;
        remembered.push((n as i64, projections(&mut db), all));
    }
    let url = db.url.clone();
    let check = |db: &mut PgConnection| {
        for (n, then, events) in &remembered {
            let made = rebuild_as_of(&url, instant(*n), "then").expect("a rebuild");
            assert_eq!(made.events.get(), *events);
            assert!(projections_in(db, "then") == *then, "as of commit {n}");
            let places: i64 = made.positions.iter().map(|p| p.next_offset.get()).sum();
            assert_eq!(places, *events, "positions of {made:?}");
        }
    };
    check(&mut db);
    assert!(merge_all(&mut db).1 > 0);
    check(&mut db);
    // Now, with nothing flowing: the live ones, which nobody has touched.
    let live = projections(&mut db);
    rebuild_as_of(&url, Utc::now() - chrono::Duration::seconds(1), "now").expect("a rebuild");
    assert!(projections_in(&mut db, "now") == live);
    assert!(live == remembered[10].1);
    verified(&mut db);
    // What is not ours is left alone, and what is ours goes with its schema.
    execute(&mut db, "CREATE SCHEMA theirs");
    for name in ["theirs", "public"] {
        let refused = rebuild_as_of(&url, instant(3), name);
        assert!(matches!(refused, Err(AsOfError::NotOurs(_))), "{refused:?}");
    }
    let future = rebuild_as_of(&url, Utc::now() + chrono::Duration::hours(1), "future");
    assert!(
        matches!(future, Err(AsOfError::InTheFuture(_))),
        "{future:?}"
    );
    execute(
        &mut db,
        "DROP SCHEMA now CASCADE; DROP SCHEMA \"then\" CASCADE",
    );
    let left = "SELECT count(*) FROM pg_namespace WHERE nspname IN ('now', 'then', 'future')";
    assert_eq!(number(&mut db, left), 0);
}

#[test]
fn a_commit_is_known_whole_or_not_at_all() {
    let mut db = TestDatabase::create();
    let prints = Fingerprinter::default();
    let (zero, one) = (Log::claim(&mut db, 0), Log::claim(&mut db, 1));
    // Two blocks on one partition and one on another, in one transaction.
    let fill = |log: &Log, campaign, first: u64, count: u64| {
        let events = (first..first + count).map(|n| Event { campaign, ..nth(n) });
        events
            .fold(log.share(), crate::log::Draft::new_event)
            .build()
    };
    let shares = [
        fill(&zero, "zero", 0, 33_000),
        fill(&one, "one", 50_000, 10),
    ];
    crate::log::outcomes(&mut db, &prints, &shares).expect("an answer");
    assert_eq!(number(&mut db, "SELECT count(*) FROM event_blocks"), 3);
    for table in ["event_blocks", "stream_positions", "metrics_total"] {
        let instants = format!("SELECT count(DISTINCT committed_at) FROM {table}");
        assert_eq!(number(&mut db, &instants), 1, "{table}");
    }
    let at = Timestamp::new(number(
        &mut db,
        "SELECT extract(epoch FROM max(committed_at)) * 1000000 FROM event_blocks",
    ));
    for (campaign, events) in [("zero", 33_000), ("one", 10)] {
        let sums = known(ask(&mut db, campaign, None, at));
        assert_eq!(
            sums.platforms.iter().map(|p| p.1.events.get()).sum::<i64>(),
            events
        );
        assert_eq!(
            ask(&mut db, campaign, None, at - Length::MICROSECOND),
            Known::NothingYet
        );
    }
}

#[test]
fn commits_of_a_partition_ascend_though_the_clock_is_set_back() {
    let mut db = TestDatabase::create();
    let prints = Fingerprinter::default();
    let mut log = Log::claim(&mut db, 0);
    log.store(&mut db, &prints, [nth(1)]);
    execute(
        &mut db,
        "UPDATE stream_positions SET committed_at = committed_at + interval '1 hour';
         UPDATE event_blocks SET committed_at = committed_at + interval '1 hour'",
    );
    log.store(&mut db, &prints, [nth(2)]);
    let ascend = "SELECT count(*) FROM event_blocks AS a JOIN event_blocks AS b ON a.first_offset < b.first_offset
        WHERE a.committed_at > b.committed_at";
    assert_eq!(number(&mut db, ascend), 0);
}

#[test]
fn a_commit_that_had_begun_is_waited_for() {
    let mut db = TestDatabase::create();
    let prints = Fingerprinter::default();
    let mut log = Log::claim(&mut db, 0);
    log.store(&mut db, &prints, [event(1, "a", 1)]);
    let mut other = db.connect();
    let url = db.url.clone();
    let (answered, answer) = channel();
    other
        .transaction(|other| {
            log.store(other, &prints, [event(2, "a", 2)]);
            let now = Timestamp::new(number(
                other,
                "SELECT extract(epoch FROM clock_timestamp()) * 1000000",
            ));
            std::thread::spawn(move || {
                let mut connection = connect(&url, Limits::API).expect("a connection");
                answered
                    .send(ask(&mut connection, "a", None, now))
                    .expect("it is awaited");
            });
            assert!(
                answer.recv_timeout(Duration::from_millis(500)).is_err(),
                "answered before the commit that had begun by then"
            );
            Ok::<_, StoreError>(())
        })
        .expect("commits");
    let sums = known(answer.recv().expect("an answer"));
    let counts: Vec<Counts> = sums.platforms.iter().map(|p| p.1.counts).collect();
    assert_eq!(counts, [event(1, "a", 1).counts, event(2, "a", 2).counts]);

    // One that does not end is not waited for without a bound; a future that has not come is named.
    other
        .transaction(|other| {
            execute(other, "UPDATE stream_positions SET owner = 'frozen'");
            let now = Timestamp::new(number(
                other,
                "SELECT extract(epoch FROM clock_timestamp()) * 1000000",
            ));
            execute(other, "SET LOCAL idle_in_transaction_session_timeout = 0");
            assert_eq!(
                ask(&mut db, "a", None, now),
                Known::NotYet(NotYet::InFlight)
            );
            let later = ask(&mut db, "a", None, now + Length::SECOND.times(3_600));
            assert!(
                matches!(later, Known::NotYet(NotYet::InTheFuture { .. })),
                "{later:?}"
            );
            Ok::<_, StoreError>(())
        })
        .expect("commits");
}

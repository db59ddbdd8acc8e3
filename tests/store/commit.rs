//! The transaction that makes a batch true, fed by hand.

use std::sync::Arc;

use adflux::event::{Count, Counts, MAX_SUM, Reason};
use adflux::offset::Offset;
use adflux::store::events::Fingerprinter;
use adflux::store::write::batch::Reading;
use adflux::store::write::commit::{Committed, Outcome};
use adflux::store::{CommitId, StreamId};
use adflux::time::{Length, Timestamp};
use diesel::PgConnection;
use diesel::connection::SimpleConnection as _;

use crate::database::{TestDatabase, events, number, projections, rows};
use crate::log::{Event, Log, event, outcome, outcomes};
use crate::verify::verified;
use crate::wait::wait_until;

fn committed(outcome: Outcome) -> Committed {
    match outcome {
        Outcome::Committed(committed) => committed,
        other => panic!("not committed: {other:?}"),
    }
}

/// Everything a transaction could have changed.
fn contents(db: &mut PgConnection) -> Vec<String> {
    let mut all = projections(db);
    all.extend(events(db));
    for table in ["campaigns", "late_events", "dead_letters"] {
        all.extend(rows(
            db,
            &format!("SELECT t::text FROM {table} AS t ORDER BY t"),
        ));
    }
    // Not the epoch, nor who owns it.
    all.extend(rows(
        db,
        "SELECT concat_ws(' ', stream_id, next_offset, records, events, duplicates, dead_letters, campaigns_moved, commit_id)
         FROM stream_positions ORDER BY stream_id",
    ));
    all
}

fn with(impressions: i64, of: Event) -> Event {
    Event {
        counts: Counts {
            impressions: Count::new(impressions),
            ..of.counts
        },
        ..of
    }
}

#[test]
fn a_share_becomes_true_as_a_whole() {
    let mut db = TestDatabase::create();
    let prints = Fingerprinter::default();
    let mut log = Log::claim(&mut db, 0);
    let draft = log
        .share()
        .new_event(event(1, "a", 0))
        .duplicate()
        .dead(Reason::NegativeValue)
        .gap(7)
        .new_event(event(2, "b", 61));
    let told = log.commit(&mut db, &prints, draft);
    assert_eq!((told.records.get(), told.duplicates.get()), (4, 1));
    assert_eq!(told.dead, [Reason::NegativeValue]);
    assert_eq!((told.totals.events.get(), told.next_offset.get()), (2, 11));
    assert_eq!(told.campaigns, [Arc::from("a"), Arc::from("b")]);
    let mut owned = told.owned.clone();
    owned.sort();
    assert_eq!(
        owned,
        [
            (Arc::from("a"), Timestamp::MIN),
            (Arc::from("b"), Timestamp::MIN)
        ]
    );
    let offsets = rows(
        &mut db,
        "SELECT \"offset\"::text FROM ad_events ORDER BY \"offset\"",
    );
    assert_eq!(offsets, ["0", "10"]);
    let letter = rows(
        &mut db,
        "SELECT concat_ws(' ', \"offset\", reason, payload) FROM dead_letters",
    );
    assert_eq!(letter, ["2 negative_value \\x000102"]);
    assert_eq!(verified(&mut db).records, 4);
}

#[test]
fn shares_without_events_move_the_position() {
    let mut db = TestDatabase::create();
    let prints = Fingerprinter::default();
    let mut log = Log::claim(&mut db, 0);
    let only_duplicates = log.share().duplicate().duplicate();
    log.commit(&mut db, &prints, only_duplicates);
    let nothing_at_all = log.share().gap(3);
    let told = log.commit(&mut db, &prints, nothing_at_all);
    assert_eq!((told.next_offset.get(), told.max_event_time), (5, None));
    assert_eq!(verified(&mut db).duplicates, 2);
}

#[test]
fn the_fence_keeps_out_whoever_lost_the_partition() {
    let mut db = TestDatabase::create();
    let prints = Fingerprinter::default();
    let stale = Log::claim(&mut db, 0);
    let mut owner = stale.clone();
    owner.claim_again(&mut db);
    let before = contents(&mut db);
    let shares = [stale.share().new_event(event(1, "a", 0)).build()];
    assert!(matches!(outcome(&mut db, &prints, &shares), Outcome::Lost));
    assert_eq!(contents(&mut db), before);
    owner.store(&mut db, &prints, [event(1, "a", 0)]);
    // The same offsets and events as the owner wrote, but not the owner.
    assert!(matches!(outcome(&mut db, &prints, &shares), Outcome::Lost));
    assert_eq!(verified(&mut db).events, 1);
}

#[test]
fn the_fence_keeps_out_whoever_is_at_another_offset() {
    let mut db = TestDatabase::create();
    let prints = Fingerprinter::default();
    let mut log = Log::claim(&mut db, 0);
    log.store(&mut db, &prints, [event(1, "a", 0), event(2, "a", 1)]);
    let before = contents(&mut db);
    for wrong in [0, 1, 3, 100] {
        let mut elsewhere = log.clone();
        elsewhere.fence.next_offset = Offset::new(wrong);
        // A share that ends where the position is would be the one that put it there.
        let draft = elsewhere
            .share()
            .new_event(event(3, "a", 2))
            .new_event(event(4, "a", 2))
            .new_event(event(5, "a", 2));
        let shares = [draft.build()];
        assert!(
            matches!(
                outcome(&mut db, &prints, &shares),
                Outcome::Reset(Reading::Usual)
            ),
            "at {wrong}"
        );
    }
    assert_eq!(contents(&mut db), before);
}

#[test]
fn a_commit_whose_reply_was_lost_is_recognised() {
    let mut db = TestDatabase::create();
    let prints = Fingerprinter::default();
    let mut log = Log::claim(&mut db, 0);
    log.store(&mut db, &prints, [event(1, "a", 100), event(2, "b", 100)]);
    let conflict = Event {
        campaign: "b",
        ..event(1, "a", 100)
    };
    for (new, late, careful) in [(3, 4, false), (5, 6, true)] {
        let draft = log
            .share()
            .new_event(event(new, "a", 101))
            .late_event(event(late, "a", -5_000))
            .late_event(event(1, "a", 100))
            .late_event(conflict)
            .dead(Reason::NegativeValue)
            .duplicate();
        let draft = if careful { draft.careful() } else { draft };
        let shares = [draft.build()];
        let first = committed(outcome(&mut db, &prints, &shares));
        let before = contents(&mut db);
        let again = committed(outcome(&mut db, &prints, &shares));
        assert_eq!(contents(&mut db), before);
        assert_eq!(again.commit_id, first.commit_id);
        assert_eq!(again.next_offset, first.next_offset);
        assert_eq!((first.records.get(), first.duplicates.get()), (6, 2));
        assert_eq!(
            (again.records, again.duplicates, &again.dead),
            (first.records, first.duplicates, &first.dead)
        );
        assert_eq!(again.totals, first.totals);
        assert_eq!(again.campaigns, first.campaigns);
        assert_eq!(again.max_event_time, first.max_event_time);
        log.fence.next_offset = first.next_offset;
    }
    assert_eq!(verified(&mut db).events, 6);
}

#[test]
fn a_retried_batch_of_two_partitions_keeps_its_number() {
    let mut db = TestDatabase::create();
    let prints = Fingerprinter::default();
    let one = Log::claim(&mut db, 0);
    let two = Log::claim(&mut db, 1);
    let shares = [
        one.share().new_event(event(1, "a", 0)).build(),
        two.share().new_event(event(2, "b", 0)).build(),
    ];
    let numbers = |results: Vec<(StreamId, Outcome)>| -> Vec<CommitId> {
        let numbers = results.into_iter().map(|(_, o)| committed(o).commit_id);
        numbers.collect()
    };
    let first = numbers(outcomes(&mut db, &prints, &shares).expect("an answer"));
    let again = numbers(outcomes(&mut db, &prints, &shares).expect("an answer"));
    assert_eq!(first, again);
    assert_eq!(first[0], first[1]);
    let stored = rows(
        &mut db,
        "SELECT DISTINCT commit_id::text FROM (SELECT commit_id FROM event_blocks UNION ALL SELECT commit_id FROM metrics_total) AS c",
    );
    assert_eq!(stored, [first[0].to_string()]);
}

#[test]
fn one_lost_partition_does_not_hold_up_the_other() {
    let mut db = TestDatabase::create();
    let prints = Fingerprinter::default();
    let mine = Log::claim(&mut db, 0);
    let lost = Log::claim(&mut db, 1);
    lost.clone().claim_again(&mut db);
    let shares = [
        mine.share().new_event(event(1, "a", 0)).build(),
        lost.share().new_event(event(2, "b", 0)).build(),
    ];
    let results = outcomes(&mut db, &prints, &shares).expect("an answer");
    assert!(matches!(results[0].1, Outcome::Committed(_)));
    assert!(matches!(results[1].1, Outcome::Lost));
    let verified = verified(&mut db);
    assert_eq!((verified.events, verified.campaigns.get()), (1, 1));
    assert_eq!(number(&mut db, "SELECT count(*) FROM campaigns"), 1);
}

#[test]
fn a_new_campaign_on_two_partitions_of_one_batch_is_counted_once() {
    let mut db = TestDatabase::create();
    let prints = Fingerprinter::default();
    let one = Log::claim(&mut db, 0);
    let two = Log::claim(&mut db, 1);
    let shares = [
        one.share()
            .new_event(event(1, "a", 0))
            .new_event(event(2, "a", 1))
            .build(),
        two.share()
            .new_event(event(2, "a", 1))
            .new_event(event(1, "a", 0))
            .build(),
    ];
    let results = outcomes(&mut db, &prints, &shares).expect("an answer");
    let told: Vec<_> = results.into_iter().map(|(_, o)| committed(o)).collect();
    assert_eq!((told[0].duplicates.get(), told[1].duplicates.get()), (0, 2));
    assert_eq!(verified(&mut db).events, 2);
}

/// Between looking for a campaign's owner and making oneself the owner, somebody else may do the same.
#[test]
fn a_new_campaign_that_somebody_else_takes_at_that_moment_is_taken_over() {
    let mut db = TestDatabase::create();
    let prints = Fingerprinter::default();
    let here = Log::claim(&mut db, 0);
    let there = Log::claim(&mut db, 1);
    let mut other = db.connect();
    // Whoever looks sees no owner, and whoever inserts waits.
    let take = format!(
        "BEGIN; INSERT INTO campaigns (campaign_id, stream_id) VALUES ('a', {})",
        there.stream.0
    );
    other.batch_execute(&take).expect("inserts");
    let share = here.share().new_event(event(1, "a", 0)).build();
    let mut connection = db.connect();
    let told = std::thread::scope(|scope| {
        let committing = scope.spawn(|| committed(outcome(&mut connection, &prints, &[share])));
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
             AND wait_event = 'transactionid' AND query LIKE 'INSERT INTO campaigns%'";
        wait_until("the insert waits", || number(&mut db, waiting) == 1);
        other.batch_execute("COMMIT").expect("commits");
        committing.join().expect("an outcome")
    });
    assert_eq!(told.totals.events.get(), 1);
    let owner = format!(
        "SELECT count(*) FROM campaigns WHERE campaign_id = 'a' AND stream_id = {}",
        here.stream.0
    );
    assert_eq!(number(&mut db, &owner), 1);
    assert_eq!(verified(&mut db).events, 1);
}

#[test]
fn a_replay_on_another_partition_changes_nothing() {
    let mut db = TestDatabase::create();
    let prints = Fingerprinter::default();
    let mut owner = Log::claim(&mut db, 0);
    let mut other = Log::claim(&mut db, 1);
    let history: Vec<Event> = (1..200).map(|i| event(i, "a", i as i64 * 30)).collect();
    owner.store(&mut db, &prints, history[..120].iter().copied());
    owner.store(&mut db, &prints, history[120..].iter().copied());
    let before = projections(&mut db);
    let told = other.store(&mut db, &prints, history);
    assert_eq!((told.duplicates.get(), told.totals.events.get()), (199, 0));
    assert!(told.owned.is_empty());
    assert_eq!(projections(&mut db), before);
    // Nothing was taken over, so the owner goes on.
    owner.store(&mut db, &prints, [event(1_000, "a", 9_000)]);
    assert_eq!(verified(&mut db).events, 200);
}

#[test]
fn a_new_event_elsewhere_takes_the_campaign_over() {
    let mut db = TestDatabase::create();
    let prints = Fingerprinter::default();
    let mut former = Log::claim(&mut db, 0);
    let mut latter = Log::claim(&mut db, 1);
    former.store(
        &mut db,
        &prints,
        [event(1, "a", 100), event(2, "stays", 100)],
    );
    latter.store(&mut db, &prints, [event(3, "b", 500)]);
    let told = latter.store(
        &mut db,
        &prints,
        [event(4, "a", 90), event(1, "a", 100), event(5, "b", 501)],
    );
    assert_eq!((told.totals.events.get(), told.duplicates.get()), (2, 1));

    // The former owner does not know yet. Nothing of its share is written.
    let before = contents(&mut db);
    let shares = [former.share().known_event(event(6, "a", 101)).build()];
    assert!(matches!(
        outcome(&mut db, &prints, &shares),
        Outcome::Reset(Reading::Usual)
    ));
    assert_eq!(contents(&mut db), before);
    former.claim_again(&mut db);
    former.store(&mut db, &prints, [event(7, "stays", 102)]);

    // What the former owner stored is looked up, although memory has never seen it; what is later
    // than all of that need not be.
    let told = latter.store(&mut db, &prints, [event(1, "a", 100), event(8, "a", 7_000)]);
    assert_eq!((told.totals.events.get(), told.duplicates.get()), (1, 1));
    let lookup_before = told.owned.iter().find(|(name, _)| &**name == "a");
    assert_eq!(
        lookup_before.map(|(_, before)| *before),
        Some(crate::log::START + Length::new(100_000_001))
    );

    // And back again: by now both have stored some of it.
    let told = former.store(
        &mut db,
        &prints,
        [event(4, "a", 90), event(8, "a", 7_000), event(9, "a", 103)],
    );
    assert_eq!((told.totals.events.get(), told.duplicates.get()), (1, 2));
    latter.claim_again(&mut db);
    let told = former.store(&mut db, &prints, [event(8, "a", 7_000)]);
    assert_eq!((told.totals.events.get(), told.duplicates.get()), (0, 1));
    assert_eq!(verified(&mut db).events, 8);
}

#[test]
fn taking_over_in_a_batch_with_the_former_owner_resets_it() {
    let mut db = TestDatabase::create();
    let prints = Fingerprinter::default();
    let mut one = Log::claim(&mut db, 0);
    let mut two = Log::claim(&mut db, 1);
    one.store(&mut db, &prints, [event(1, "a", 0)]);
    two.store(&mut db, &prints, [event(2, "b", 0)]);
    // Each has an event of the other's campaign: they would exchange them for ever if both went
    // on with what they knew.
    let shares = [
        one.share().new_event(event(3, "b", 1)).build(),
        two.share().new_event(event(4, "a", 1)).build(),
    ];
    let results = outcomes(&mut db, &prints, &shares).expect("an answer");
    assert!(matches!(results[0].1, Outcome::Committed(_)));
    assert!(matches!(results[1].1, Outcome::Reset(Reading::Usual)));
    two.claim_again(&mut db);
    two.store(&mut db, &prints, [event(4, "a", 1)]);
    assert_eq!(verified(&mut db).events, 4);
}

#[test]
fn late_duplicates_are_found_in_the_store_and_in_the_share() {
    let mut db = TestDatabase::create();
    let prints = Fingerprinter::default();
    let mut log = Log::claim(&mut db, 0);
    log.store(&mut db, &prints, (1..50).map(|i| event(i, "a", i as i64)));
    let draft = log
        .share()
        .late_event(event(7, "a", 7))
        .late_event(event(100, "a", 8))
        .late_event(event(100, "a", 8))
        .late_event(event(101, "new", -1_000));
    let told = log.commit(&mut db, &prints, draft);
    assert_eq!((told.totals.events.get(), told.duplicates.get()), (2, 2));
    // Late ones are not in the span of their block, yet they are found.
    let draft = log
        .share()
        .late_event(event(101, "new", -1_000))
        .late_event(event(100, "a", 8));
    let told = log.commit(&mut db, &prints, draft);
    assert_eq!((told.totals.events.get(), told.duplicates.get()), (0, 2));
    assert_eq!(number(&mut db, "SELECT count(*) FROM late_events"), 2);
    assert_eq!(verified(&mut db).events, 51);
}

#[test]
fn a_copy_of_an_event_that_memory_has_let_go_within_the_share_is_a_duplicate() {
    let mut db = TestDatabase::create();
    let prints = Fingerprinter::default();
    let log = Log::claim(&mut db, 0);
    // New when it came; then others made it leave the memory; then it came again.
    let draft = log
        .share()
        .known_event(event(2, "b", 100))
        .new_event(event(1, "a", 0))
        .known_event(event(3, "b", 101))
        .late_event(event(1, "a", 0))
        .late_event(with(5, event(1, "a", 0)));
    let share = draft.of_unknown_campaigns().build();
    let told = committed(outcome(&mut db, &prints, &[share]));
    assert_eq!((told.totals.events.get(), told.duplicates.get()), (3, 1));
    assert_eq!(told.dead, [Reason::ConflictingDuplicate]);
    assert_eq!(verified(&mut db).events, 3);
}

#[test]
fn another_payload_under_the_same_identity_is_a_dead_letter() {
    let mut db = TestDatabase::create();
    let prints = Fingerprinter::default();
    let mut log = Log::claim(&mut db, 0);
    log.store(&mut db, &prints, [event(1, "a", 0), event(2, "a", 1)]);
    let before = projections(&mut db);
    let draft = log
        .share()
        .late_event(with(1, event(1, "a", 0)))
        .late_event(Event {
            campaign: "b",
            ..event(2, "a", 1)
        })
        .late_event(event(1, "a", 0));
    let told = log.commit(&mut db, &prints, draft);
    assert_eq!(told.dead, [Reason::ConflictingDuplicate; 2]);
    assert_eq!((told.totals.events.get(), told.duplicates.get()), (0, 1));
    assert_eq!(projections(&mut db), before);
    let kept = rows(
        &mut db,
        "SELECT concat_ws(' ', \"offset\", reason, convert_from(key, 'UTF8'), convert_from(payload, 'UTF8'), headers)
         FROM dead_letters ORDER BY \"offset\"",
    );
    assert_eq!(
        kept,
        [
            "2 conflicting_duplicate a event 1 [{\"key\": \"from\", \"value\": \"74657374\"}]",
            "3 conflicting_duplicate b event 2 [{\"key\": \"from\", \"value\": \"74657374\"}]",
        ]
    );
    // The campaign whose only event was refused has none, and so no owner.
    assert_eq!(verified(&mut db).campaigns.get(), 1);
    assert_eq!(number(&mut db, "SELECT count(*) FROM campaigns"), 1);
}

#[test]
fn an_identity_is_id_and_time() {
    let mut db = TestDatabase::create();
    let prints = Fingerprinter::default();
    let mut log = Log::claim(&mut db, 0);
    // Far apart in time, so that memory could not see both: two events.
    log.store(&mut db, &prints, [event(1, "a", 0)]);
    log.store(
        &mut db,
        &prints,
        [event(1, "a", 500_000), event(2, "a", 500_000)],
    );
    // A replay of both finds each under its own time, whatever else its block holds.
    for _ in 0..2 {
        let draft = log
            .share()
            .late_event(event(1, "a", 0))
            .late_event(event(1, "a", 500_000))
            .late_event(event(2, "a", 500_000));
        let told = log.commit(&mut db, &prints, draft);
        assert_eq!((told.duplicates.get(), told.dead.len()), (3, 0));
    }
    assert_eq!(verified(&mut db).events, 3);
}

#[test]
fn the_event_that_would_overflow_a_sum_becomes_a_dead_letter() {
    let mut db = TestDatabase::create();
    let prints = Fingerprinter::default();
    let mut log = Log::claim(&mut db, 0);
    let near = with(MAX_SUM - 10, event(4, "a", 0));
    log.store(&mut db, &prints, [near]);
    let before = contents(&mut db);
    // All on one platform, ids 4 apart.
    let filling = |log: &Log| {
        [(8, 6), (12, 5), (16, 4), (20, 1)]
            .into_iter()
            .fold(log.share(), |draft, (id, impressions)| {
                draft.new_event(with(impressions, event(id, "a", id as i64)))
            })
            .new_event(event(24, "b", 0))
    };
    let shares = [filling(&log).build()];
    assert!(matches!(
        outcome(&mut db, &prints, &shares),
        Outcome::Reset(Reading::Careful)
    ));
    assert_eq!(contents(&mut db), before);
    log.claim_again(&mut db);
    let shares = [filling(&log).careful().build()];
    let told = committed(outcome(&mut db, &prints, &shares));
    // The first that does not fit is out; what still fits after it is in.
    assert_eq!(told.dead, [Reason::SumOverflow, Reason::SumOverflow]);
    assert_eq!(told.totals.events.get(), 3);
    let kept = rows(
        &mut db,
        "SELECT convert_from(payload, 'UTF8') FROM dead_letters ORDER BY \"offset\"",
    );
    assert_eq!(kept, ["event 12", "event 20"]);
    assert_eq!(verified(&mut db).dead_letters, 2);
}

#[test]
fn one_event_at_the_limit_is_fine_and_two_are_careful() {
    let mut db = TestDatabase::create();
    let prints = Fingerprinter::default();
    let log = Log::claim(&mut db, 0);
    let most = |id| with(MAX_SUM, event(id, "a", 0));
    let shares = [log.share().new_event(most(4)).new_event(most(8)).build()];
    assert!(matches!(
        outcome(&mut db, &prints, &shares),
        Outcome::Reset(Reading::Careful)
    ));
    let draft = log.share().new_event(most(4)).new_event(most(8)).careful();
    let told = committed(outcome(&mut db, &prints, &[draft.build()]));
    assert_eq!(told.dead, [Reason::SumOverflow]);
    assert_eq!(verified(&mut db).impressions, i128::from(MAX_SUM));
}

/// What a platform took back brings a number below zero. Sums have the same limit on both sides of it.
#[test]
fn what_takes_away_has_its_limit_too() {
    let mut db = TestDatabase::create();
    let prints = Fingerprinter::default();
    let mut log = Log::claim(&mut db, 0);
    let one = |id: u128, number| with(number, event(4 * id, "a", 0));
    log.store(&mut db, &prints, [one(1, -MAX_SUM)]);
    // The bound would pass the limit, and it is looked up: the sum does not.
    let back = log.share().new_event(one(2, 10));
    let usual = outcome(&mut db, &prints, &[back.clone().build()]);
    assert!(
        matches!(usual, Outcome::Reset(Reading::Careful)),
        "{usual:?}"
    );
    let told = log.commit(&mut db, &prints, back.careful());
    assert_eq!(told.dead, []);
    let draft = [(3, -11), (4, -10)]
        .into_iter()
        .fold(log.share(), |draft, (id, number)| {
            draft.new_event(one(id, number))
        });
    let told = log.commit(&mut db, &prints, draft.careful());
    assert_eq!(told.dead, [Reason::SumOverflow]);
    assert_eq!(verified(&mut db).impressions, i128::from(-MAX_SUM));
}

#[test]
fn a_sum_that_would_not_even_fit_a_bigint_is_no_endless_error() {
    let mut db = TestDatabase::create();
    let prints = Fingerprinter::default();
    let mut log = Log::claim(&mut db, 0);
    let most = |id: u128| with(MAX_SUM, event(4 * id, "a", 0));
    log.store(&mut db, &prints, [most(1)]);
    // With what is stored: eight times 2^60 - 1, which fits 64 bits, and more.
    for count in [7, 8, 100] {
        let draft = (2..2 + count).fold(log.share(), |draft, id| draft.new_event(most(id)));
        let shares = [draft.build()];
        assert!(
            matches!(
                outcome(&mut db, &prints, &shares),
                Outcome::Reset(Reading::Careful)
            ),
            "{count}"
        );
    }
    let draft = (2..1_100).fold(log.share().careful(), |draft, id| draft.new_event(most(id)));
    let told = log.commit(&mut db, &prints, draft);
    assert_eq!(told.dead.len(), 1_098);
    assert_eq!(verified(&mut db).events, 1);
}

#[test]
fn many_campaigns_at_their_limit_are_nobodys_fault() {
    let mut db = TestDatabase::create();
    let prints = Fingerprinter::default();
    let mut log = Log::claim(&mut db, 0);
    // Their sum does not fit 64 bits, but nobody stores that.
    let names: Vec<&'static str> = (1..=1_100).map(|id| &*format!("cmp-{id}").leak()).collect();
    let draft = || {
        (1u128..)
            .zip(&names)
            .fold(log.share(), |draft, (id, name)| {
                draft.new_event(with(MAX_SUM, event(id, name, 0)))
            })
    };
    // Together they may pass the limit of one sum, so it is looked whether they do.
    let usual = outcome(&mut db, &prints, &[draft().build()]);
    assert!(
        matches!(usual, Outcome::Reset(Reading::Careful)),
        "{usual:?}"
    );
    let draft = draft().careful();
    let told = log.commit(&mut db, &prints, draft);
    assert_eq!(told.totals.events.get(), 1_100);
    assert_eq!(told.totals.counts.impressions.get(), i64::MAX);
    assert_eq!(verified(&mut db).impressions, 1_100 * i128::from(MAX_SUM));
}

#[test]
fn large_shares_and_wide_gaps_are_cut_into_blocks() {
    let mut db = TestDatabase::create();
    let prints = Fingerprinter::default();
    let mut log = Log::claim(&mut db, 0);
    let draft = (0..40_000u64).fold(log.share(), |draft, n| draft.new_event(crate::log::nth(n)));
    let draft = draft
        .gap(i64::from(i32::MAX))
        .new_event(crate::log::nth(40_001));
    log.commit(&mut db, &prints, draft);
    let blocks = rows(
        &mut db,
        "SELECT concat_ws(' ', first_offset, event_count, offset_delta IS NULL) FROM event_blocks ORDER BY first_offset",
    );
    assert_eq!(blocks, ["0 32768 t", "32768 7232 t", "2147523647 1 t"]);
    assert_eq!(verified(&mut db).events, 40_001);
}

/// Three processors, whose partitions all carry the same few campaigns and the same few events in
/// different orders, as if three replays went through three partitioners at once.
#[test]
fn whoever_is_quicker_each_event_counts_once() {
    const BATCHES: u64 = 25;
    const PER_BATCH: u64 = 12;
    let mut db = TestDatabase::create();
    let processor = |number: i32, mut connection: PgConnection| {
        let prints = Fingerprinter::default();
        let mut log = Log::claim(&mut connection, number);
        let mut batch = 0;
        while batch < BATCHES {
            let mut draft = log.share();
            for i in 0..PER_BATCH {
                let step = [7, 11, 13][number as usize];
                let n = (batch * PER_BATCH + i) * step % (BATCHES * PER_BATCH);
                // No memory here: everything is looked up.
                draft = draft.late_event(crate::log::nth(n));
            }
            let shares = [draft.build()];
            match outcomes(&mut connection, &prints, &shares) {
                Ok(mut results) => match results.remove(0).1 {
                    Outcome::Committed(told) => {
                        log.fence.next_offset = told.next_offset;
                        batch += 1;
                    }
                    Outcome::Reset(Reading::Usual) => log.claim_again(&mut connection),
                    other => panic!("{other:?}"),
                },
                // A deadlock, say: the whole batch again, as the writer does.
                Err(error) => eprintln!("partition {number}: {error}"),
            }
        }
    };
    std::thread::scope(|scope| {
        for number in 0..3 {
            let connection = db.connect();
            scope.spawn(move || processor(number, connection));
        }
    });
    let verified = verified(&mut db);
    assert_eq!(verified.events, i128::from(BATCHES * PER_BATCH));
    assert_eq!(verified.records, 3 * verified.events);
    assert_eq!(verified.duplicates, 2 * verified.events);
}

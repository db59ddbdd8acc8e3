//! `adflux verify` says yes to what the processors wrote, and no to everything else.

use adflux::event::{Millionths, Reason};
use adflux::store::events::Fingerprinter;
use adflux::store::keep::carry::{Due, carry_some};
use adflux::store::keep::rebuild::rebuild;
use adflux::store::keep::verify::{Difference, Verified, verify};
use diesel::PgConnection;

use crate::database::{TestDatabase, execute, projections};
use crate::log::{Log, event, nth};
use crate::reports::restated;

pub fn verified(connection: &mut PgConnection) -> Verified {
    match verify(connection, &|_| ()).expect("an answer") {
        Ok(verified) => verified,
        Err(difference) => panic!("{difference}"),
    }
}

fn difference(connection: &mut PgConnection) -> Option<Difference> {
    verify(connection, &|_| ()).expect("an answer").err()
}

/// Two partitions with something of everything: several blocks, gaps, duplicates, late events,
/// dead letters, and a campaign that moved. Partition 0 holds 1,003 events, partition 1 holds 3.
pub fn history(connection: &mut PgConnection) -> [Log; 2] {
    let prints = Fingerprinter::default();
    let mut zero = Log::claim(connection, 0);
    let mut one = Log::claim(connection, 1);
    zero.store(connection, &prints, (0..600).map(nth));
    let with_gaps =
        (600..1_000)
            .map(nth)
            .enumerate()
            .fold(zero.share().gap(2), |draft, (i, event)| match i % 100 {
                7 => draft.duplicate().new_event(event),
                8 => draft.dead(Reason::NegativeValue).new_event(event),
                9 => draft.gap(3).new_event(event),
                _ => draft.new_event(event),
            });
    zero.commit(connection, &prints, with_gaps);
    let late = zero
        .share()
        .late_event(event(5_001, "cmp-0", -90_000))
        .new_event(event(5_002, "cmp-1", 1_500))
        .late_event(event(5_003, "cmp-0", -200_000));
    zero.commit(connection, &prints, late);
    one.store(
        connection,
        &prints,
        [
            event(6_001, "only-on-1", 10),
            event(6_002, "only-on-1", 3_700),
        ],
    );
    // cmp-3 moves to partition 1.
    one.store(connection, &prints, [event(6_003, "cmp-3", 5_000)]);
    zero.claim_again(connection);
    [zero, one]
}

#[test]
fn an_empty_store_is_clean() {
    let mut db = TestDatabase::create();
    let verified = verified(&mut db);
    assert_eq!((verified.records, verified.partitions.get()), (0, 0));
}

#[test]
fn what_processors_wrote_is_clean() {
    let mut db = TestDatabase::create();
    history(&mut db);
    let verified = verified(&mut db);
    assert_eq!(verified.partitions.get(), 2);
    assert_eq!(verified.events, 1_006);
    assert_eq!(verified.duplicates, 4);
    assert_eq!(verified.dead_letters, 4);
    assert_eq!(verified.records, 1_014);
    assert_eq!(verified.campaigns.get(), 9);
    let ids = (1..=1_000_i64).chain(5_001..=5_003).chain(6_001..=6_003);
    let sum = |of: fn(i64) -> i64| -> i128 { ids.clone().map(of).map(i128::from).sum() };
    assert_eq!(verified.impressions, sum(|id| 1_000 + id));
    let conversions = sum(|id| event(id as u128, "any", 0).counts.conversions.get());
    assert_eq!(verified.conversions, conversions);
    assert!(conversions % 1_000_000 > 0, "{conversions}");
    let said = format!(", conversions {}, ", Millionths(conversions));
    assert!(verified.to_string().contains(&said), "{verified}");
}

/// What somebody did to the tables, and what `verify` says to it.
struct Tampering {
    what: &'static str,
    sql: &'static str,
    check: &'static str,
    place: &'static str,
}

const TAMPERINGS: &[Tampering] = &[
    Tampering {
        what: "a block is doubled, with its counters",
        sql: "INSERT INTO event_blocks (stream_id, first_offset, last_offset, event_count, min_event_time, max_event_time,
                  lookup_span, commit_id, event_id, campaign_id, platform, event_time, impressions, clicks, conversions,
                  cost_micros, revenue_micros)
              SELECT stream_id, first_offset + 1, first_offset + 1, 1, event_time[1], event_time[1],
                  tstzrange(event_time[1], event_time[1], '[]'), commit_id, event_id[1:1], campaign_id[1:1], platform[1:1],
                  event_time[1:1], impressions[1:1], clicks[1:1], conversions[1:1], cost_micros[1:1], revenue_micros[1:1]
              FROM event_blocks WHERE stream_id = 2 AND campaign_id[1] = 'cmp-3';
              UPDATE stream_positions SET events = events + 1, records = records + 1, next_offset = next_offset + 1
              WHERE stream_id = 2",
        check: "no event is stored twice",
        place: "event 00000000-0000-0000-0000-000000001773 of",
    },
    Tampering {
        what: "an event is doubled",
        sql: "UPDATE event_blocks SET event_id[2] = event_id[1], event_time[2] = event_time[1]
              WHERE stream_id = 1 AND first_offset = 0",
        check: "no event is stored twice",
        place: "event 00000000-0000-0000-0000-000000000001 of",
    },
    Tampering {
        what: "a block is lost",
        sql: "DELETE FROM event_blocks WHERE stream_id = 2 AND first_offset = 0",
        check: "positions count what is stored",
        place: "partition 1 of topic ad-events (stream_id 2), events in event_blocks",
    },
    Tampering {
        what: "the last event is lost from a block",
        sql: "UPDATE event_blocks SET event_count = 1, event_id = event_id[1:1], campaign_id = campaign_id[1:1],
                  platform = platform[1:1], event_time = event_time[1:1], impressions = impressions[1:1],
                  clicks = clicks[1:1], conversions = conversions[1:1], cost_micros = cost_micros[1:1],
                  revenue_micros = revenue_micros[1:1], conversion_millionths = conversion_millionths[1:1]
              WHERE stream_id = 2 AND first_offset = 0;
              UPDATE stream_positions SET events = events - 1, duplicates = duplicates + 1 WHERE stream_id = 2",
        check: "a block says of itself what its arrays hold",
        place: "stream_id 2), block at offset 0, max_event_time",
    },
    Tampering {
        what: "sums of a minute are off by one micro",
        sql: "UPDATE sum_chunks SET revenue_micros = set_byte(revenue_micros, 8, get_byte(revenue_micros, 8) # 1)
              WHERE (stream_id, part_id) IN (SELECT stream_id, part_id FROM sum_parts WHERE grain = 0 AND reach > 0)",
        check: "metrics_by_minute is the sum of the events",
        place: "revenue_micros",
    },
    Tampering {
        what: "an event has a millionth of a conversion more",
        sql: "UPDATE event_blocks SET conversion_millionths[1] = conversion_millionths[1] + 1
              WHERE stream_id = 1 AND first_offset = 0",
        check: "metrics_by_minute is the sum of the events",
        place: "conversions",
    },
    Tampering {
        what: "the fractions of a block are lost",
        sql: "UPDATE event_blocks SET conversion_millionths = NULL WHERE stream_id = 1 AND first_offset = 0",
        check: "metrics_by_minute is the sum of the events",
        place: "conversions",
    },
    Tampering {
        what: "conversions of minutes are off by a millionth",
        sql: "UPDATE sum_chunks SET conversion_millionths = set_byte(conversion_millionths, 8, get_byte(conversion_millionths, 8) # 1)
              WHERE (stream_id, part_id) IN (SELECT stream_id, part_id FROM sum_parts WHERE grain = 0 AND reach > 0)",
        check: "metrics_by_minute is the sum of the events",
        place: "conversions",
    },
    Tampering {
        what: "the fractions of hours are lost",
        sql: "UPDATE sum_chunks SET conversion_millionths = NULL
              WHERE (stream_id, part_id) IN (SELECT stream_id, part_id FROM sum_parts WHERE grain = 1 AND reach > 0)",
        check: "metrics_by_hour is the sum of metrics_by_minute",
        place: "conversions",
    },
    Tampering {
        what: "conversions of all time are off by a millionth",
        sql: "UPDATE sum_chunks SET conversion_millionths = set_byte(conversion_millionths, 8, get_byte(conversion_millionths, 8) # 1)
              WHERE (stream_id, part_id) IN (SELECT stream_id, part_id FROM sum_parts WHERE grain = 5)",
        check: "metrics_total is the sum of the events",
        place: "conversions",
    },
    Tampering {
        what: "minutes that nobody reported",
        sql: "INSERT INTO sum_parts SELECT stream_id, 1000000, grain, reach, window_start, since, until, first_campaign,
                  last_campaign, cells, first_event_time, last_event_time, commit_id, committed_at
              FROM sum_parts WHERE grain = 0 AND reach > 0 LIMIT 1;
              INSERT INTO sum_chunks SELECT stream_id, 1000000, first_campaign, chunk, last_campaign, newest_commit_id, names,
                  cells, name, name_end, cell_end, minute, platform, events, impressions, clicks, conversions, cost_micros,
                  revenue_micros, first_event_time, last_event_time, commit_id, committed_at
              FROM sum_chunks WHERE (stream_id, part_id) IN (SELECT stream_id, part_id FROM sum_parts
                  WHERE grain = 0 AND reach > 0 LIMIT 1)",
        check: "metrics_by_minute is the sum of the events",
        place: "events",
    },
    Tampering {
        what: "lost minutes",
        sql: "DELETE FROM sum_parts WHERE grain = 0 AND reach > 0",
        check: "metrics_by_minute is the sum of the events",
        place: "events",
    },
    Tampering {
        what: "wrong hours",
        sql: "UPDATE sum_chunks SET clicks = set_byte(clicks, 8, get_byte(clicks, 8) # 1)
              WHERE (stream_id, part_id) IN (SELECT stream_id, part_id FROM sum_parts WHERE grain = 1 AND reach > 0)",
        check: "metrics_by_hour is the sum of metrics_by_minute",
        place: "clicks",
    },
    Tampering {
        what: "wrong days",
        sql: "UPDATE sum_chunks SET events = set_byte(events, 8, get_byte(events, 8) # 1)
              WHERE (stream_id, part_id) IN (SELECT stream_id, part_id FROM sum_parts WHERE grain = 2 AND reach > 0)",
        check: "metrics_by_day is the sum of metrics_by_minute",
        place: "events",
    },
    Tampering {
        what: "wrong totals",
        sql: "UPDATE sum_chunks SET impressions = set_byte(impressions, 8, get_byte(impressions, 8) # 1)
              WHERE (stream_id, part_id) IN (SELECT stream_id, part_id FROM sum_parts WHERE grain = 5)",
        check: "metrics_total is the sum of the events",
        place: "impressions",
    },
    Tampering {
        what: "a wrong time in the totals",
        sql: "UPDATE sum_chunks SET last_event_time = set_byte(last_event_time, 8, get_byte(last_event_time, 8) # 1)
              WHERE (stream_id, part_id) IN (SELECT stream_id, part_id FROM sum_parts WHERE grain = 5)",
        check: "metrics_total is the sum of the events",
        place: "max_event_time",
    },
    Tampering {
        what: "sums of 64 days that are gone",
        sql: "DELETE FROM sum_parts WHERE grain = 4",
        check: "sums of 64 days are the sums of metrics_by_day",
        place: "events",
    },
    Tampering {
        what: "a chunk that is gone of a part that says it has it",
        sql: "UPDATE sum_parts SET cells = cells + 1 WHERE grain = 3",
        check: "the directory says of a part what its chunks hold",
        place: "cells",
    },
    Tampering {
        what: "a swapped campaign",
        sql: "UPDATE event_blocks SET campaign_id[1] = 'cmp-0' WHERE stream_id = 2 AND first_offset = 0",
        check: "metrics_by_minute is the sum of the events",
        place: "campaign cmp-0 on Google at 2026-01-01 00:00:00+00",
    },
    Tampering {
        what: "a position ahead of its blocks",
        sql: "UPDATE stream_positions SET next_offset = next_offset + 5, events = events + 5, records = records + 5
              WHERE stream_id = 1",
        check: "positions count what is stored",
        place: "partition 0 of topic ad-events (stream_id 1), events in event_blocks",
    },
    Tampering {
        what: "a position behind its blocks",
        sql: "UPDATE stream_positions SET next_offset = 1015 WHERE stream_id = 1",
        check: "nothing is stored outside of what was read",
        place: "stream_id 1), a block",
    },
    Tampering {
        what: "a dead letter beyond the position",
        sql: "UPDATE dead_letters SET \"offset\" = 99999 WHERE \"offset\" = (SELECT max(\"offset\") FROM dead_letters)",
        check: "nothing is stored outside of what was read",
        place: "stream_id 1), a dead letter",
    },
    Tampering {
        what: "an event that is also a dead letter, with its counters",
        sql: "INSERT INTO dead_letters (stream_id, \"offset\", reason, commit_id) VALUES (1, 3, 'tampered', 1);
              UPDATE stream_positions SET dead_letters = dead_letters + 1, records = records + 1 WHERE stream_id = 1",
        check: "a record is an event or a dead letter, not both",
        place: "stream_id 1), offset 3",
    },
    Tampering {
        what: "a dead letter that the position does not know of",
        sql: "INSERT INTO dead_letters (stream_id, \"offset\", reason, commit_id) VALUES (1, 3, 'tampered', 1)",
        check: "positions count what is stored",
        place: "stream_id 1), rows of dead_letters",
    },
    Tampering {
        what: "a dead letter that was passed over when they were published",
        sql: "INSERT INTO dead_letter_publications (stream_id, next_offset, letters)
              SELECT 1, max(\"offset\") + 1, count(*) - 1 FROM dead_letters WHERE stream_id = 1",
        check: "what was published are the dead letters up to an offset",
        place: "partition 0 of topic ad-events (stream_id 1), up to offset",
    },
    Tampering {
        what: "a block that reaches into the next one",
        sql: "UPDATE event_blocks SET last_offset = 700 WHERE stream_id = 1 AND first_offset = 0",
        check: "no two blocks of a partition overlap",
        place: "stream_id 1)",
    },
    Tampering {
        what: "offsets out of order",
        sql: "UPDATE event_blocks SET offset_delta[2] = offset_delta[3], offset_delta[3] = offset_delta[2]
              WHERE stream_id = 1 AND first_offset = 602",
        check: "a block says of itself what its arrays hold",
        place: "stream_id 1), block at offset 602, offsets ascend",
    },
    Tampering {
        what: "a look-up span that is too short",
        sql: "UPDATE event_blocks SET lookup_span = tstzrange(lower(lookup_span), upper(lookup_span) - interval '1 second', '[]')
              WHERE stream_id = 1 AND first_offset = 0",
        check: "every event can be looked up by its time",
        place: "stream_id 1), offset",
    },
    Tampering {
        what: "a late event that cannot be found",
        sql: "DELETE FROM late_events WHERE event_id = '00000000-0000-0000-0000-000000001389'",
        check: "every event can be looked up by its time",
        place: "event 00000000-0000-0000-0000-000000001389",
    },
    Tampering {
        what: "a late event that is somewhere else",
        sql: "INSERT INTO late_events SELECT event_id, event_time + interval '1 second', stream_id, \"offset\" FROM late_events LIMIT 1",
        check: "late_events says where the late events are",
        place: "stream_id 1), offset",
    },
    Tampering {
        what: "a campaign without an owner",
        sql: "DELETE FROM campaigns WHERE campaign_id = 'cmp-2'",
        check: "every campaign with an event has an owner",
        place: "campaign cmp-2",
    },
    Tampering {
        what: "a campaign that forgot its former owner",
        sql: "UPDATE campaigns SET lookup_before = '-infinity' WHERE campaign_id = 'cmp-3'",
        check: "what a campaign's former owners stored is looked up",
        place: "campaign cmp-3 in partition 0",
    },
];

const ADD_UP: &str = "restatements add up to what platforms say";
const ADD_UP_THEN: &str = "restatements up to an instant add up to what was said then";
const FOLLOW: &str = "what platforms said follows in time, and says something else each time";
const NAMED: &str = "a report row is of the key and the definition that it names";

/// Of the store that [`restated`] makes, in which campaign a's day has five revisions, and b's second was withdrawn.
const TAMPERINGS_WITH_REPORTS: &[Tampering] = &[
    Tampering {
        what: "what is known is off by one",
        sql: "UPDATE report_rows SET clicks = clicks + 1 WHERE campaign_id = 'a'",
        check: ADD_UP,
        place: "campaign a, day 2026-01-01 (event_id",
    },
    Tampering {
        what: "what is known is off by a millionth of a conversion",
        sql: "UPDATE report_rows SET conversion_micros = conversion_micros + 1 WHERE slice = 'ad=2'",
        check: ADD_UP,
        place: "campaign b, day 2026-01-01, ad=2 (event_id",
    },
    Tampering {
        what: "what was withdrawn says something",
        sql: "UPDATE report_rows SET revenue_micros = 5 WHERE campaign_id = 'b' AND day = '2026-01-02'",
        check: ADD_UP,
        place: "revenue_micros",
    },
    Tampering {
        what: "a key is forgotten",
        sql: "DELETE FROM report_rows WHERE slice = 'ad=2'",
        check: ADD_UP,
        place: "campaign b (event_id",
    },
    Tampering {
        what: "a key is forgotten whose history is there",
        sql: "DELETE FROM report_rows WHERE campaign_id = 'a'",
        check: FOLLOW,
        place: "campaign a, day 2026-01-01",
    },
    Tampering {
        what: "restatements of several keys become events",
        sql: "UPDATE event_blocks SET observed_at = NULL WHERE stream_id = 1 AND first_offset = 11",
        check: "every event can be looked up by its time",
        place: "(stream_id 1), offset 11",
    },
    Tampering {
        what: "a restatement is off by one, and so are the sums",
        sql: "UPDATE event_blocks SET clicks[2] = clicks[2] + 1 WHERE stream_id = 1 AND first_offset = 0",
        check: ADD_UP,
        place: "campaign a, day 2026-01-01 (event_id",
    },
    Tampering {
        what: "two restatements of a key make up for each other",
        sql: "UPDATE event_blocks SET clicks[2] = clicks[2] + 1 WHERE stream_id = 1 AND first_offset = 0;
              UPDATE event_blocks SET clicks[1] = clicks[1] - 1 WHERE stream_id = 1 AND first_offset = 4",
        check: ADD_UP_THEN,
        place: "as of 2026-01-02 06:00:00+00, clicks",
    },
    Tampering {
        what: "an event becomes a restatement",
        sql: "UPDATE event_blocks SET observed_at[1] = event_time[1] WHERE stream_id = 1 AND first_offset = 0",
        check: ADD_UP,
        place: "campaign a (event_id 00000000-0000-0000-0000-000000000001), clicks",
    },
    Tampering {
        what: "a restatement becomes an event",
        sql: "UPDATE event_blocks SET observed_at[2] = NULL WHERE stream_id = 1 AND first_offset = 0",
        check: "every event can be looked up by its time",
        place: "(stream_id 1), offset 1",
    },
    Tampering {
        what: "restatements of a block become events",
        sql: "UPDATE event_blocks SET observed_at = NULL WHERE stream_id = 2 AND first_offset = 1",
        check: "every event can be looked up by its time",
        place: "(stream_id 2), offset 1",
    },
    Tampering {
        what: "a restatement is of another instant",
        sql: "UPDATE event_blocks SET observed_at[2] = observed_at[2] + interval '1 minute' WHERE stream_id = 1 AND first_offset = 0",
        check: ADD_UP_THEN,
        place: "as of 2026-01-02 06:01:00+00",
    },
    Tampering {
        what: "a restatement is newer than what is known",
        sql: "UPDATE event_blocks SET observed_at[1] = observed_at[1] + interval '1 year' WHERE stream_id = 2 AND first_offset = 1",
        check: ADD_UP,
        place: "campaign a, day 2026-01-01 (event_id",
    },
    Tampering {
        what: "two restatements of a key are in the place of each other",
        sql: "UPDATE event_blocks SET observed_at[2] = '2026-01-03 06:00Z' WHERE stream_id = 1 AND first_offset = 0;
              UPDATE event_blocks SET observed_at[1] = '2026-01-02 06:00Z' WHERE stream_id = 1 AND first_offset = 4",
        check: ADD_UP_THEN,
        place: "as of 2026-01-02 06:00:00+00, clicks",
    },
    Tampering {
        what: "history says another number",
        sql: "UPDATE report_history SET clicks = clicks + 1 WHERE campaign_id = 'a' AND observed_at = '2026-01-02 06:00Z'",
        check: ADD_UP_THEN,
        place: "as of 2026-01-02 06:00:00+00, clicks",
    },
    Tampering {
        what: "a revision that was counted is forgotten",
        sql: "DELETE FROM report_history WHERE campaign_id = 'a' AND observed_at = '2026-01-02 06:00Z'",
        check: ADD_UP_THEN,
        place: "as of 2026-01-02 06:00:00+00, clicks",
    },
    Tampering {
        what: "a revision that says what the one before it said",
        sql: "UPDATE report_history AS h SET (impressions, clicks, conversion_micros, cost_micros) =
                  (SELECT b.impressions, b.clicks, b.conversion_micros, b.cost_micros FROM report_history AS b
                   WHERE b.campaign_id = 'a' AND b.observed_at = '2026-01-02 06:00Z')
              WHERE h.campaign_id = 'a' AND h.observed_at = '2026-01-02 16:00Z'",
        check: FOLLOW,
        place: "campaign a, day 2026-01-01",
    },
    Tampering {
        what: "history that is newer than what is known",
        sql: "UPDATE report_history SET observed_at = '2027-01-01Z' WHERE campaign_id = 'a' AND observed_at = '2026-01-02 06:00Z'",
        check: FOLLOW,
        place: "campaign a, day 2026-01-01",
    },
    Tampering {
        what: "what was confirmed after something else was said",
        sql: "UPDATE report_history SET confirmed_at = ARRAY[timestamptz '2026-01-03 06:00Z']
              WHERE campaign_id = 'a' AND observed_at = '2026-01-02 06:00Z'",
        check: FOLLOW,
        place: "campaign a, day 2026-01-01",
    },
    Tampering {
        what: "confirmations out of order",
        sql: "UPDATE report_rows SET confirmed_at = ARRAY[timestamptz '2026-03-02Z', '2026-03-01Z'] WHERE campaign_id = 'a'",
        check: FOLLOW,
        place: "campaign a, day 2026-01-01",
    },
    Tampering {
        what: "what is known is of another day",
        sql: "UPDATE report_rows SET day = day + 1 WHERE slice = 'ad=2'",
        check: NAMED,
        place: "campaign b, day 2026-01-02, ad=2, event_id",
    },
    Tampering {
        what: "what is known is of another campaign",
        sql: "UPDATE report_rows SET campaign_id = 'c' WHERE slice = 'ad=2'",
        check: NAMED,
        place: "campaign c, day 2026-01-01, ad=2, event_id",
    },
    Tampering {
        what: "a definition is forgotten",
        sql: "DELETE FROM report_definitions WHERE grain = 'ad'",
        check: NAMED,
        place: "campaign b, day 2026-01-01, ad=1, definition_id",
    },
    Tampering {
        what: "a definition is of another account",
        sql: "UPDATE report_definitions SET account = '2' WHERE grain = 'ad'",
        check: NAMED,
        place: "campaign b, day 2026-01-01, ad=1, event_id",
    },
    Tampering {
        what: "a file is forgotten",
        sql: "DELETE FROM report_files",
        check: NAMED,
        place: "file_id",
    },
];

#[test]
fn tampering_is_caught() {
    let mut db = TestDatabase::create();
    history(&mut db);
    // Into parts of every grain.
    while carry_some(&mut db, Due::AT_ONCE).expect("a step").is_some() {}
    catch(&mut db, TAMPERINGS);
}

#[test]
fn tampering_with_reports_is_caught() {
    let mut db = TestDatabase::create();
    restated(&mut db);
    catch(&mut db, TAMPERINGS_WITH_REPORTS);
}

fn catch(db: &mut PgConnection, tamperings: &[Tampering]) {
    verified(db);
    save(db);
    let mut wrong = Vec::new();
    for tampering in tamperings {
        execute(db, tampering.sql);
        match difference(db) {
            Some(found)
                if found.check == tampering.check && found.place.contains(tampering.place) => {}
            Some(found) => wrong.push(format!("{}: found {found}", tampering.what)),
            None => wrong.push(format!("{}: not found", tampering.what)),
        }
        restore(db);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    verified(db);
}

#[test]
fn fresh_parts_that_are_not_looked_for_are_missed_and_a_rebuild_finds_them() {
    let mut db = TestDatabase::create();
    history(&mut db);
    let before = projections(&mut db);
    execute(
        &mut db,
        "INSERT INTO sum_fresh_from SELECT stream_id, 0, 1000000 FROM stream_positions",
    );
    let found = difference(&mut db).expect("a difference");
    assert_eq!(
        found.check,
        "no fresh part is older than where they are looked for"
    );
    assert!(
        found.place.contains("(stream_id 1), grain 0"),
        "{}",
        found.place
    );
    rebuild(&db.url, &mut |_, _| ()).expect("a rebuild");
    assert_eq!(projections(&mut db), before);
    verified(&mut db);
}

const TABLES: [&str; 14] = [
    "stream_positions",
    "skipped_offsets",
    "dead_letter_publications",
    "campaigns",
    "event_blocks",
    "late_events",
    "dead_letters",
    "sum_parts",
    "sum_chunks",
    "sum_fresh_from",
    "report_rows",
    "report_history",
    "report_definitions",
    "report_files",
];

fn save(connection: &mut PgConnection) {
    execute(connection, "CREATE SCHEMA untouched");
    for table in TABLES {
        execute(
            connection,
            &format!("CREATE TABLE untouched.{table} AS TABLE public.{table}"),
        );
    }
}

fn restore(connection: &mut PgConnection) {
    execute(connection, &format!("TRUNCATE {}", TABLES.join(", ")));
    for table in TABLES {
        execute(
            connection,
            &format!("INSERT INTO {table} OVERRIDING SYSTEM VALUE TABLE untouched.{table}"),
        );
    }
}

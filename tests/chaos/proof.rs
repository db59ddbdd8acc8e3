//! The checker and the readers are themselves proven: on tampered data each of them says so.
//!
//! A small run is counted for real. Its database is clean to the checker, or nothing here means
//! anything; then copies of it are tampered with, one way each, and the checker must say which promise
//! is broken. Where the event store itself is tampered with, the projections of the copy are rebuilt
//! from it, so that the database agrees with itself and only the ledger can know better.

use std::process::Command;
use std::time::Instant;

use adflux::store::keep::carry::{Due, carry_some};
use anyhow::{Context as _, Error, bail, ensure};
use diesel::connection::SimpleConnection;
use diesel::sql_types::{BigInt, Integer};
use diesel::{Connection, PgConnection, QueryableByName, RunQueryDsl, sql_query};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::api::Shared;
use crate::check::{self, answers, positions, reports, store, sums};
use crate::lab::Lab;
use crate::ledger::{Fate, Ledger};
use crate::reader::{Reader, database, servers};
use crate::stage::{PATIENCE, Stage};
use crate::table::Row;
use crate::traffic::{Shares, Traffic, is_reported};
use crate::wait::{wait_for, wait_until};

/// One way to tamper.
struct Tampering {
    what: &'static str,
    sql: String,
    /// Whether the projections are made anew afterwards.
    rebuilt: bool,
    /// The promise that is broken, among others perhaps.
    breaks: &'static str,
}

/// The arrays of a block.
const COLUMNS: [&str; 9] = [
    "event_id",
    "campaign_id",
    "platform",
    "event_time",
    "impressions",
    "clicks",
    "conversions",
    "cost_micros",
    "revenue_micros",
];

/// A block of several events of which none came late or is a restatement, and which holds several campaigns.
const A_BLOCK: &str = "(SELECT b.stream_id, b.first_offset FROM event_blocks AS b \
     WHERE b.event_count > 2 AND b.observed_at IS NULL AND b.campaign_id[1] <> b.campaign_id[2] \
         AND NOT EXISTS (SELECT FROM late_events AS l WHERE l.stream_id = b.stream_id \
             AND l.\"offset\" BETWEEN b.first_offset AND b.last_offset) \
     ORDER BY b.stream_id, b.first_offset LIMIT 1)";

/// A report row of which something else was said before.
const A_CHANGED_ROW: &str = "(SELECT r.ctid FROM report_rows AS r JOIN report_history AS h USING (campaign_id, day, slice) \
     WHERE h.clicks IS DISTINCT FROM r.clicks LIMIT 1)";

/// Where a block `b` that is updated holds a restatement: at `at.n`.
const A_RESTATEMENT: &str = "FROM (SELECT stream_id, first_offset, n FROM event_blocks AS b \
         CROSS JOIN LATERAL unnest(b.observed_at) WITH ORDINALITY AS o (at, n) WHERE o.at IS NOT NULL LIMIT 1) AS at \
     WHERE b.stream_id = at.stream_id AND b.first_offset = at.first_offset";

fn tamperings(duplicate: (i32, i64), original: (i32, i64)) -> Vec<Tampering> {
    // The smallest of a chunk's numbers, from which the others are told.
    let off_by_one_micro = |parts: &str| {
        format!(
            "UPDATE sum_chunks SET cost_micros = set_byte(cost_micros, 8, get_byte(cost_micros, 8) # 1) WHERE ctid = ( \
                 SELECT c.ctid FROM sum_chunks AS c JOIN sum_parts USING (stream_id, part_id) WHERE {parts} \
                 ORDER BY random() LIMIT 1)"
        )
    };
    let shortened: Vec<String> = COLUMNS
        .iter()
        .map(|c| format!("{c} = {c}[1:event_count - 1]"))
        .collect();
    let one_event: Vec<String> = COLUMNS
        .iter()
        .map(|c| format!("{c}[at.index:at.index]"))
        .collect();
    let from_original = format!(
        "FROM event_blocks AS b JOIN stream_positions AS s USING (stream_id) \
         CROSS JOIN LATERAL (SELECT n::integer AS index FROM generate_series(1, b.event_count) AS n \
             WHERE b.first_offset + COALESCE(b.offset_delta[n], n - 1) = {}) AS at \
         WHERE s.partition = {} AND b.first_offset <= {} AND b.last_offset >= {}",
        original.1, original.0, original.1, original.1
    );
    let (partition, offset) = duplicate;
    let case = |what, sql: String, rebuilt, breaks| Tampering {
        what,
        sql,
        rebuilt,
        breaks,
    };
    vec![
        case(
            "a lost event",
            format!(
                "UPDATE stream_positions AS s SET events = events - 1, duplicates = duplicates + 1 \
                 FROM {A_BLOCK} AS at WHERE s.stream_id = at.stream_id; \
                 UPDATE event_blocks AS b SET {}, offset_delta = offset_delta[1:event_count - 1], \
                     last_offset = b.first_offset + COALESCE(offset_delta[event_count - 1], event_count - 2), \
                     event_count = event_count - 1 \
                 FROM {A_BLOCK} AS at WHERE b.stream_id = at.stream_id AND b.first_offset = at.first_offset; \
                 UPDATE event_blocks AS b SET \
                     min_event_time = (SELECT min(t) FROM unnest(b.event_time) AS t), \
                     max_event_time = (SELECT max(t) FROM unnest(b.event_time) AS t)",
                shortened.join(", ")
            ),
            true,
            store::NONE_LOST,
        ),
        case(
            "a doubled event",
            format!(
                "INSERT INTO event_blocks (stream_id, first_offset, last_offset, event_count, min_event_time, \
                     max_event_time, lookup_span, commit_id, {}) \
                 SELECT (SELECT stream_id FROM stream_positions WHERE partition = {partition}), {offset}, {offset}, 1, \
                     b.event_time[at.index], b.event_time[at.index], tstzrange(b.event_time[at.index], \
                     b.event_time[at.index], '[]'), b.commit_id, {} {from_original}; \
                 UPDATE stream_positions SET events = events + 1, duplicates = duplicates - 1 WHERE partition = {partition}",
                COLUMNS.join(", "),
                one_event.join(", "),
            ),
            true,
            store::ONCE,
        ),
        case(
            "a projection by the minute off by one micro",
            off_by_one_micro("grain = 0 AND reach > 0"),
            false,
            sums::BY_MINUTE,
        ),
        case(
            "a projection by the hour off by one micro",
            off_by_one_micro("grain = 1 AND reach > 0"),
            false,
            sums::BY_HOUR,
        ),
        case(
            "a projection by the day off by one micro",
            off_by_one_micro("grain = 2 AND reach > 0"),
            false,
            sums::BY_DAY,
        ),
        case(
            "a total off by one micro",
            off_by_one_micro("grain = 5"),
            false,
            sums::TOTAL,
        ),
        case(
            "an event off by one micro",
            format!(
                "UPDATE event_blocks AS b SET cost_micros[2] = cost_micros[2] + 1 \
                 FROM {A_BLOCK} AS at WHERE b.stream_id = at.stream_id AND b.first_offset = at.first_offset"
            ),
            true,
            store::STORED_EVENT,
        ),
        case(
            "a position ahead of its blocks",
            "UPDATE stream_positions SET next_offset = next_offset + 1 WHERE partition = 0".to_owned(),
            false,
            positions::POSITION,
        ),
        case(
            "a position that claims a duplicate that never was",
            "UPDATE stream_positions SET next_offset = next_offset + 1, records = records + 1, \
                 duplicates = duplicates + 1 WHERE partition = 0"
                .to_owned(),
            false,
            positions::POSITION,
        ),
        case(
            "a swapped campaign",
            format!(
                "UPDATE event_blocks AS b SET campaign_id[1] = b.campaign_id[2], campaign_id[2] = b.campaign_id[1] \
                 FROM {A_BLOCK} AS at WHERE b.stream_id = at.stream_id AND b.first_offset = at.first_offset"
            ),
            true,
            store::STORED_EVENT,
        ),
        case(
            "an event in both store and dead letters",
            format!(
                "INSERT INTO dead_letters (stream_id, \"offset\", reason, commit_id) \
                 SELECT stream_id, first_offset, 'truncated', 1 FROM {A_BLOCK} AS at; \
                 UPDATE stream_positions AS s SET dead_letters = dead_letters + 1, duplicates = duplicates - 1 \
                 FROM {A_BLOCK} AS at WHERE s.stream_id = at.stream_id"
            ),
            false,
            store::DISJOINT,
        ),
        case(
            "a lost dead letter",
            "WITH lost AS (DELETE FROM dead_letters WHERE ctid = (SELECT ctid FROM dead_letters LIMIT 1) RETURNING stream_id) \
             UPDATE stream_positions AS s SET dead_letters = dead_letters - 1, duplicates = duplicates + 1 \
             FROM lost WHERE s.stream_id = lost.stream_id"
                .to_owned(),
            false,
            store::NO_LETTER_LOST,
        ),
        case(
            "a dead letter with another reason",
            "UPDATE dead_letters SET reason = reason || '?' WHERE ctid = (SELECT ctid FROM dead_letters LIMIT 1)"
                .to_owned(),
            false,
            store::DEAD_LETTER,
        ),
        case(
            "a report row that was not superseded",
            "UPDATE stream_positions SET superseded = superseded - 1, unchanged = unchanged + 1 \
             WHERE ctid = (SELECT ctid FROM stream_positions WHERE superseded > 0 LIMIT 1)"
                .to_owned(),
            false,
            positions::POSITION,
        ),
        case(
            "a lost report row",
            format!("DELETE FROM report_rows WHERE ctid = {A_CHANGED_ROW}"),
            false,
            reports::NEWEST,
        ),
        case(
            "a report row of which an older revision counts",
            format!(
                "UPDATE report_rows AS r SET clicks = h.clicks FROM report_history AS h WHERE r.ctid = {A_CHANGED_ROW} \
                     AND h.campaign_id = r.campaign_id AND h.day = r.day AND h.slice = r.slice \
                     AND h.clicks IS DISTINCT FROM r.clicks"
            ),
            false,
            reports::NEWEST,
        ),
        case(
            "a report row that was never confirmed",
            "UPDATE report_rows SET confirmed_at = NULL WHERE ctid = ( \
                 SELECT ctid FROM report_rows WHERE confirmed_at IS NOT NULL LIMIT 1)"
                .to_owned(),
            false,
            reports::NEWEST,
        ),
        case(
            "a revision that is forgotten",
            "DELETE FROM report_history WHERE ctid = (SELECT ctid FROM report_history LIMIT 1)".to_owned(),
            false,
            reports::HISTORY,
        ),
        case(
            "a revision that nobody said",
            "INSERT INTO report_history SELECT (jsonb_populate_record(h, jsonb_build_object( \
                 'observed_at', h.observed_at + interval '1 microsecond'))).* \
             FROM report_history AS h LIMIT 1"
                .to_owned(),
            false,
            reports::HISTORY,
        ),
        case(
            "a restatement off by one micro",
            format!("UPDATE event_blocks AS b SET cost_micros[at.n] = cost_micros[at.n] + 1 {A_RESTATEMENT}"),
            true,
            reports::ADD_UP,
        ),
        case(
            "a restatement of another instant",
            format!(
                "UPDATE event_blocks AS b SET observed_at[at.n] = observed_at[at.n] + interval '1 second' {A_RESTATEMENT}"
            ),
            true,
            store::STORED_EVENT,
        ),
    ]
}

/// Records of the small run, first without report rows, then with them.
const RECORDS: usize = 2_000;

/// Tampers with copies of a small run, one after the other.
pub fn tampered(lab: &mut Lab, _: usize, row: &mut Row) -> anyhow::Result<()> {
    let stage = Stage::new(&lab.services, &lab.folder.join("logs"), "proof")?;
    stage.create_topic(3)?;
    let shares = Shares {
        duplicates: 0.1,
        late: 0.05,
        malformed: 0.05,
        reports: 0.0,
    };
    let mut traffic = Traffic::new(ChaCha8Rng::seed_from_u64(lab.chance.random()), 20, shares);
    for reports in [0.0, 0.4] {
        traffic.shares.reports = reports;
        stage.send(&mut traffic, RECORDS)?;
        let (ended_well, log) = stage.run("process", &["--until-end"])?;
        ensure!(ended_well, "the processor failed: {log}");
    }

    let untampered = stage.check();
    ensure!(
        untampered.count() == 0,
        "the run to tamper with is not clean: {untampered}"
    );
    carry_all(&stage)?;
    let ledger = stage.ledger.lock();
    let (duplicate, original) = a_duplicate(&stage, &ledger)?;
    for tampering in tamperings(duplicate, original) {
        let started = Instant::now();
        let what = tampering.what;
        let copy = Copy::of(&stage.target.database_url)?;
        let mut connection = PgConnection::establish(&copy.url)?;
        let done = connection.batch_execute(&tampering.sql);
        done.with_context(|| what.to_owned())?;
        drop(connection);
        if tampering.rebuilt {
            let mut rebuild = Command::new(env!("CARGO_BIN_EXE_adflux"));
            rebuild.arg("rebuild").env("DATABASE_URL", &copy.url);
            let output = rebuild.output()?;
            ensure!(
                output.status.success(),
                "{what}: rebuild failed: {output:?}"
            );
        }
        let found = check::check_database(&copy.url, &stage.target.topic, &ledger);
        if !found.breaks(tampering.breaks) {
            row.violation(format!(
                "the checker was shown {what} and did not say that '{}' is broken, but {:?}",
                tampering.breaks,
                found.broken()
            ));
        }
        row.recovered(started.elapsed());
    }
    drop(ledger);
    watched(stage, lab.services.setting("REDIS_URL")?, row)
}

/// Tampers with the run itself while readers read.
fn watched(mut stage: Stage, redis_url: &str, row: &mut Row) -> anyhow::Result<()> {
    stage.share(redis_url);
    let _server = stage.serve()?;
    let reader = Reader::start(&stage.target);
    let campaigns = stage.ledger.lock().campaigns().to_vec();
    wait_until(PATIENCE, "every campaign is read", || {
        Ok(reader.looks().answers > 2 * campaigns.len() as u64)
    })?;
    let untampered = reader.violations();
    ensure!(
        untampered.count() == 0,
        "what readers see is not clean: {untampered}"
    );

    let mut shared = Shared::connect(redis_url, &mut stage.connect()?).map_err(Error::msg)?;
    let committed = reader.committed();
    let mut tamper = |reported: bool, sum: &str| -> anyhow::Result<()> {
        let mut campaigns = committed.keys();
        let campaign = campaigns.find(|campaign| is_reported(campaign) == reported);
        let campaign = campaign.context("a campaign")?;
        // A Redis that was slow for a moment is left alone for a second.
        wait_until(PATIENCE, "Redis holds it", || {
            Ok(shared.get(campaign).is_ok_and(|value| value.is_some()))
        })?;
        shared.tamper(campaign, sum)
    };
    tamper(false, "events")?;
    let what = "a value in Redis that nobody counted";
    sees(&reader, what, servers::COMMITTED, row)?;
    tamper(true, "cost_micros")?;
    let what = "a day that costs something else without having been told again";
    sees(&reader, what, servers::NEVER_DOWN, row)?;
    let answered = answers::look(&stage.target, &stage.ledger.lock());
    if !answered.breaks(answers::REPORTED) {
        row.violation(format!("the checker was shown {what} and did not see it"));
    }
    carry_all(&stage)?;
    stage.connect()?.batch_execute(
        "UPDATE sum_chunks SET events = set_byte(events, 8, get_byte(events, 8) # 1) WHERE ctid = ( \
             SELECT c.ctid FROM sum_chunks AS c JOIN sum_parts AS p USING (stream_id, part_id) \
             WHERE p.grain = 1 AND p.reach > 0 LIMIT 1)",
    )?;
    sees(&reader, "half a batch", database::WHOLE_BATCHES, row)?;
    stage.connect()?.batch_execute(
        "UPDATE sum_chunks SET impressions = overlay(impressions PLACING '\\x0000000000000000' FROM 2 FOR 8) \
         WHERE (stream_id, part_id) IN (SELECT stream_id, part_id FROM sum_parts WHERE grain = 5)",
    )?;
    sees(&reader, "a total that goes down", database::NEVER_DOWN, row)
}

/// Has parts of every grain.
fn carry_all(stage: &Stage) -> anyhow::Result<()> {
    let mut connection = stage.connect()?;
    while carry_some(&mut connection, Due::AT_ONCE)?.is_some() {}
    Ok(())
}

/// Waits until the readers have seen that a promise is broken.
fn sees(reader: &Reader, what: &str, breaks: &str, row: &mut Row) -> anyhow::Result<()> {
    let began = Instant::now();
    let seen = wait_for(PATIENCE, || {
        Ok(reader.violations().breaks(breaks).then_some(()))
    })?;
    match seen {
        Some(()) => row.recovered(began.elapsed()),
        None => row.violation(format!("the readers were shown {what} and did not see it")),
    }
    Ok(())
}

/// The place of a duplicate that was not stored, and that of its event.
fn a_duplicate(stage: &Stage, ledger: &Ledger) -> anyhow::Result<((i32, i64), (i32, i64))> {
    #[derive(QueryableByName)]
    struct Stored {
        #[diesel(sql_type = Integer)]
        partition: i32,
        #[diesel(sql_type = BigInt)]
        offset: i64,
    }
    let stored: Vec<Stored> =
        sql_query("SELECT partition, \"offset\" FROM ad_events").load(&mut stage.connect()?)?;
    let mut place = vec![None; ledger.events().len()];
    for at in stored {
        if let Some(Fate::Event(index)) = ledger.fate(at.partition, at.offset) {
            place[index.at()] = Some((at.partition, at.offset));
        }
    }
    for (&partition, log) in ledger.log() {
        for (offset, fate) in (0..).zip(log) {
            if let Some(Fate::Event(index)) = fate
                && let Some(original) = place[index.at()]
                && original != (partition, offset)
            {
                return Ok(((partition, offset), original));
            }
        }
    }
    bail!("nothing was sent twice, so there is nothing to count twice")
}

/// A copy of a database, gone when dropped.
struct Copy {
    url: String,
    name: String,
    server: String,
}

impl Copy {
    /// Nobody may be connected to the original.
    fn of(url: &str) -> anyhow::Result<Copy> {
        let (base, original) = url.rsplit_once('/').context("a database URL")?;
        let copy = Copy {
            url: format!("{base}/{original}_tampered"),
            name: format!("{original}_tampered"),
            server: format!("{base}/postgres"),
        };
        let create = format!("CREATE DATABASE {} TEMPLATE {original}", copy.name);
        PgConnection::establish(&copy.server)?.batch_execute(&create)?;
        Ok(copy)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        if let Ok(mut server) = PgConnection::establish(&self.server) {
            // A leftover is a nuisance and no failure.
            let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
            let _ = server.batch_execute(&drop);
        }
    }
}

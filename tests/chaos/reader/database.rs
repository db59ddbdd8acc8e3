//! PostgreSQL, looked at in one statement and so in one snapshot: at every instant the counters of the
//! positions, the rows that are stored and each projection say the same, and no total goes down.

use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::sql_types::{BigInt, Integer, Text};
use diesel::{Connection, PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query};

use super::Shared;
use crate::api::{self, Insight};
use crate::check::{Target, Violations};
use crate::ledger::SUM_NAMES;

pub const WHOLE_BATCHES: &str = "a snapshot holds whole batches";
pub const NEVER_DOWN: &str = "a total in PostgreSQL never goes down";

/// Often enough to meet many commits half-way.
const INTERVAL: Duration = Duration::from_millis(200);
/// A look is followed by a pause so many times as long, or there would be no machine left to break.
const PAUSE: u32 = 5;
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// The sums as texts, since those over all campaigns may not fit a bigint.
#[derive(QueryableByName)]
struct Place {
    #[diesel(sql_type = Text)]
    place: String,
    #[diesel(sql_type = BigInt)]
    events: i64,
    #[diesel(sql_type = Text)]
    sums: String,
}

#[derive(QueryableByName)]
struct Position {
    #[diesel(sql_type = Integer)]
    stream_id: i32,
    #[diesel(sql_type = BigInt)]
    next_offset: i64,
    #[diesel(sql_type = BigInt)]
    records: i64,
}

/// Polls until it is told to stop.
pub(super) fn read(target: &Target, shared: &Shared) {
    let mut connection = None;
    let mut before = Before::default();
    while !shared.stopped() {
        let began = Instant::now();
        if connection.is_none() {
            connection = connect(&target.database_url);
        }
        if let Some(answering) = &mut connection {
            match look(answering, &mut before, shared) {
                Ok(()) => shared.state().looks.snapshots += 1,
                // It is away, or has no schema yet.
                Err(_) => connection = None,
            }
        }
        std::thread::sleep((began.elapsed() * PAUSE).clamp(INTERVAL, LONGEST_PAUSE));
    }
}

pub fn connect(url: &str) -> Option<PgConnection> {
    let separator = if url.contains('?') { '&' } else { '?' };
    let url = format!("{url}{separator}connect_timeout=2&tcp_user_timeout=5000");
    let mut connection = PgConnection::establish(&url).ok()?;
    connection
        .batch_execute("SET statement_timeout = '10s'")
        .ok()?;
    Some(connection)
}

/// What was seen last.
#[derive(Default)]
struct Before {
    positions: Vec<Position>,
    insights: std::collections::HashMap<String, Insight>,
}

fn look(connection: &mut PgConnection, before: &mut Before, shared: &Shared) -> QueryResult<()> {
    let mut violations = Violations::default();
    // One statement: nothing can be committed between its parts.
    let places: Vec<Place> = sql_query(whole_batches()).load(connection)?;
    if let Some((first, others)) = places.split_first() {
        for other in others {
            violations.compare(WHOLE_BATCHES, &other.place, first.events, other.events);
        }
    }
    let sums: Vec<&Place> = places.iter().filter(|p| !p.sums.is_empty()).collect();
    for pair in sums.windows(2) {
        violations.compare(WHOLE_BATCHES, &pair[1].place, &pair[0].sums, &pair[1].sums);
    }
    let positions: Vec<Position> = sql_query(
        "SELECT stream_id, next_offset, records FROM stream_positions ORDER BY stream_id",
    )
    .load(connection)?;
    for was in &before.positions {
        let is = positions.iter().find(|p| p.stream_id == was.stream_id);
        let (next_offset, records) = is.map_or((-1, -1), |p| (p.next_offset, p.records));
        if next_offset < was.next_offset || records < was.records {
            violations.add(
                NEVER_DOWN,
                format!("position of stream {}", was.stream_id),
                format!("at least {} after {} records", was.next_offset, was.records),
                format!("{next_offset} after {records}"),
            );
        }
    }
    let insights = api::from_database(connection)?;
    for (campaign, was) in &before.insights {
        let none = Insight::default();
        let is = insights.get(campaign).unwrap_or(&none);
        if let Some(what) = was.exceeds(is, campaign) {
            violations.add(NEVER_DOWN, campaign, format!("still {what}"), "less");
        }
    }
    let mut state = shared.state();
    state.violations.append(violations);
    state.committed.clone_from(&insights);
    drop(state);
    *before = Before {
        positions,
        insights,
    };
    Ok(())
}

/// One row for each place that says how many events there are, and with which sums.
fn whole_batches() -> String {
    let sums: Vec<String> = SUM_NAMES[1..]
        .iter()
        .map(|name| format!("trim_scale(COALESCE(sum({name}), 0))"))
        .collect();
    let sums = sums.join(", ");
    let tables = [
        "metrics_by_minute",
        "metrics_by_hour",
        "metrics_by_day",
        "metrics_total",
    ]
    .map(|table| {
        format!(
            "SELECT '{table}' AS place, COALESCE(sum(events), 0)::bigint AS events, \
                 concat_ws(' ', {sums}) AS sums FROM {table}"
        )
    });
    // The dead letters are counted apart from the events, so each side gets the other's number.
    format!(
        "SELECT 'stream_positions' AS place, COALESCE(sum(events), 0)::bigint AS events, '' AS sums FROM stream_positions \
         UNION ALL \
         SELECT 'event_blocks', COALESCE(sum(event_count), 0)::bigint, '' FROM event_blocks \
         UNION ALL \
         SELECT 'dead_letters', (SELECT COALESCE(sum(records - duplicates - unchanged - superseded), 0) FROM stream_positions)::bigint - count(*), \
             '' FROM dead_letters \
         UNION ALL {}",
        tables.join(" UNION ALL ")
    )
}

//! Do the event store, the positions, the dead letters and the projections agree?
//!
//! Everything is asked of one snapshot, so that the answer is right while processors write, and in
//! SQL: it shares no code with what added the sums up. Each check is one statement that returns
//! the first place where two sides differ, or nothing.
//!
//! What cannot be seen from here: a position that is ahead without claiming any record (offsets may
//! have gaps), and what was never in the log.

use std::borrow::Cow;
use std::fmt;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::result::Error as DieselError;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Text};

use crate::event::{Count, Millionths};
use crate::store::StoreError;

mod event_store;
mod minutes;
mod ownership;
mod reports;
mod retired;
mod sums;

/// What was found to agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    pub partitions: Count,
    /// Records read: events + duplicates + dead letters + unchanged + superseded + erased.
    pub records: i128,
    pub events: i128,
    /// Those of them that were dropped, whose sums stay.
    pub dropped: Count,
    pub duplicates: i128,
    pub dead_letters: i128,
    /// Report rows that said what was known.
    pub unchanged: i128,
    /// Report rows that were older than what was known.
    pub superseded: i128,
    /// What `adflux erase` removed.
    pub erased: i128,
    /// Campaigns with an event.
    pub campaigns: Count,
    pub impressions: i128,
    pub clicks: i128,
    /// In millionths.
    pub conversions: i128,
    /// Spend, in millionths of the currency unit.
    pub cost_micros: i128,
    /// Revenue, in millionths of the currency unit.
    pub revenue_micros: i128,
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} records of {} partitions = {} events + {} duplicates + {} dead letters + {} unchanged + {} superseded + {} erased",
            self.records,
            self.partitions,
            self.events,
            self.duplicates,
            self.dead_letters,
            self.unchanged,
            self.superseded,
            self.erased
        )?;
        if self.dropped > Count::ZERO {
            writeln!(
                f,
                "{} of the events were dropped (adflux retain): of them, their sums by minute are what the others are held against",
                self.dropped
            )?;
        }
        write!(
            f,
            "{} campaigns: impressions {}, clicks {}, conversions {}, cost_micros {}, revenue_micros {}",
            self.campaigns,
            self.impressions,
            self.clicks,
            Millionths(self.conversions),
            self.cost_micros,
            self.revenue_micros
        )
    }
}

/// The first place where two sides differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Which check found it.
    pub check: Cow<'static, str>,
    /// Partition and offset, or campaign, platform and time; and which value.
    pub place: String,
    /// What is said in one place, and where that is.
    pub one: (&'static str, String),
    /// What is said in the other.
    pub other: (&'static str, String),
    /// What it means, and what can be done.
    pub meaning: &'static str,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: not so at {}", self.check, self.place)?;
        let width = self.one.0.len().max(self.other.0.len());
        for (who, says) in [&self.one, &self.other] {
            writeln!(f, "  {who:width$}  {says}")?;
        }
        write!(f, "{}", self.meaning)
    }
}

/// One question: SQL that returns the first difference as `place`, `one` and `other`.
struct Check {
    name: Cow<'static, str>,
    /// Who says `one`, and who `other`.
    sides: (&'static str, &'static str),
    meaning: &'static str,
    sql: Cow<'static, str>,
}

fn check(
    name: impl Into<Cow<'static, str>>,
    sides: (&'static str, &'static str),
    meaning: &'static str,
    sql: impl Into<Cow<'static, str>>,
) -> Check {
    Check {
        name: name.into(),
        sides,
        meaning,
        sql: sql.into(),
    }
}

/// The planner takes an unnested array for ten events, so it would loop where it must hash. The memory is per step and worker, of
/// which a check has several, and the server may have less than 1 GB: what is more goes through temporary files.
const SETTINGS: &str = "SET LOCAL work_mem = '32MB'; SET LOCAL hash_mem_multiplier = 1; SET LOCAL jit = off; \
     SET LOCAL enable_nestloop = off; SET LOCAL statement_timeout = 0";

/// Every check, cheapest first; later ones rely on what earlier ones established.
fn checks() -> impl Iterator<Item = Check> {
    event_store::checks()
        .into_iter()
        .chain(retired::checks())
        .chain(reports::checks())
        .chain(sums::checks())
        .chain(ownership::checks())
}

/// Checks that every record is accounted for (invariant 4) and that the projections equal the event
/// store (invariant 5), as of one instant. Calls `progress` with the name of each check before it
/// runs. Returns what agreed, or the first difference.
///
/// # Errors
/// When the database does not answer.
pub fn verify(
    connection: &mut PgConnection,
    progress: &dyn Fn(&str),
) -> Result<Result<Verified, Difference>, StoreError> {
    connection
        .build_transaction()
        .read_only()
        .repeatable_read()
        .run(|connection| {
            connection.batch_execute(SETTINGS)?;
            for check in checks() {
                progress(&check.name);
                if let Some(difference) = first_difference(connection, check)? {
                    return Ok(Err(difference));
                }
            }
            Ok(Ok(what_was_verified(connection)?))
        })
}

/// Whether the sums that are to stay of a period are those of its events, which are still there.
///
/// # Errors
/// When the database does not answer.
pub(super) fn retired(
    connection: &mut PgConnection,
    period: i32,
) -> Result<Result<(), Difference>, StoreError> {
    connection.batch_execute(SETTINGS)?;
    let difference = first_difference(connection, retired::of_period(period))?;
    Ok(difference.map_or(Ok(()), Err))
}

fn first_difference(
    connection: &mut PgConnection,
    check: Check,
) -> Result<Option<Difference>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        place: String,
        #[diesel(sql_type = Text)]
        one: String,
        #[diesel(sql_type = Text)]
        other: String,
    }
    let row: Option<Row> = sql_query(check.sql).get_result(connection).optional()?;
    Ok(row.map(|row| Difference {
        check: check.name,
        place: row.place,
        one: (check.sides.0, row.one),
        other: (check.sides.1, row.other),
        meaning: check.meaning,
    }))
}

fn what_was_verified(connection: &mut PgConnection) -> Result<Verified, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        partitions: Count,
        #[diesel(sql_type = BigInt)]
        campaigns: Count,
        #[diesel(sql_type = BigInt)]
        dropped: Count,
        // Sums over all campaigns may not fit a bigint.
        #[diesel(sql_type = Text)]
        sums: String,
    }
    let row: Row = sql_query(
        "SELECT p.partitions, m.campaigns, COALESCE((SELECT sum(events) FROM retired_streams), 0)::bigint AS dropped, concat_ws(' ', p.records, p.events, p.duplicates, p.dead_letters, p.unchanged, p.superseded, p.erased,
             m.impressions, m.clicks, m.conversions, m.cost_micros, m.revenue_micros) AS sums
         FROM (SELECT count(*) AS partitions, COALESCE(sum(records), 0) AS records, COALESCE(sum(events), 0) AS events,
                   COALESCE(sum(duplicates), 0) AS duplicates, COALESCE(sum(dead_letters), 0) AS dead_letters,
                   COALESCE(sum(unchanged), 0) AS unchanged, COALESCE(sum(superseded), 0) AS superseded,
                   COALESCE(sum(erased), 0) AS erased
               FROM stream_positions) AS p
         CROSS JOIN (SELECT count(DISTINCT campaign_id) AS campaigns, COALESCE(sum(impressions), 0) AS impressions,
                         COALESCE(sum(clicks), 0) AS clicks,
                         trunc(COALESCE(sum(conversions), 0) * 1000000) AS conversions,
                         COALESCE(sum(cost_micros), 0) AS cost_micros, COALESCE(sum(revenue_micros), 0) AS revenue_micros
                     FROM metrics_total) AS m",
    )
    .get_result(connection)?;
    let sums: Vec<i128> = row
        .sums
        .split(' ')
        .map(str::parse)
        .collect::<Result<_, std::num::ParseIntError>>()
        .map_err(|e| DieselError::DeserializationError(Box::new(e)))?;
    let [
        records,
        events,
        duplicates,
        dead_letters,
        unchanged,
        superseded,
        erased,
        impressions,
        clicks,
        conversions,
        cost_micros,
        revenue_micros,
    ] = sums[..]
    else {
        return Err(DieselError::NotFound.into());
    };
    Ok(Verified {
        partitions: row.partitions,
        records,
        events,
        dropped: row.dropped,
        duplicates,
        dead_letters,
        unchanged,
        superseded,
        erased,
        campaigns: row.campaigns,
        impressions,
        clicks,
        conversions,
        cost_micros,
        revenue_micros,
    })
}

//! Spans: stretches of whole days whose sums were added up ahead, so that a year of all campaigns is read from
//! a few rows each.
//!
//! ```text
//! commit ─▶ day_versions + 1, with the sums       make ─▶ metrics_by_span, and in spans the version it was made at
//!                                                 a question ─▶ is that still the version of its days?
//! ```
//!
//! - **A version only grows**, and who sees a span sees all that its maker saw. So while the versions of its days
//!   add up to the same number, no commit has touched any of them.
//! - **Nothing depends on a span.** One that is missing or out of date is passed over: the answer is the same,
//!   only slower. Maintenance may be late, or never run.
//! - **Nobody waits.** A processor writes a version under the lock of a position that it holds until its
//!   commit, so nobody else wants that row. Making a span reads what processors write and writes what they
//!   do not touch, with one lock that only another maker wants. The swap of a rebuild may find the projections
//!   being read by a maker, and tries again, as with any other reader.

use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Double, Integer, Timestamptz};

use crate::store::StoreError;
use crate::store::read::spans::{SHORT, Span, versions};
use crate::store::sums::BEFORE_SNAPSHOT;

/// Makes one span that is over and not current, if there is one: the shortest, and of these the newest.
/// Returns whether there was, so that one looks for more.
///
/// `quiet` is how long no commit must have touched its days: what late events keep touching is not made again
/// each time.
///
/// One span a transaction: as long as one runs, PostgreSQL cannot clear away what was replaced meanwhile, also
/// in the tables that processors write.
///
/// # Errors
/// When the database does not answer. Nothing is changed then.
pub fn make_one(connection: &mut PgConnection, quiet: Duration) -> Result<bool, StoreError> {
    let mut transaction = connection.build_transaction().repeatable_read();
    transaction.run(|connection| {
        // One maker at a time. Neither statement takes the snapshot, so it is from after both locks, and
        // has what the maker before made.
        connection.batch_execute("LOCK TABLE spans IN SHARE UPDATE EXCLUSIVE MODE")?;
        connection.batch_execute(BEFORE_SNAPSHOT)?;
        let missing: Option<Span> = sql_query(format!(
            "SELECT days, start, v.version FROM ({}) AS v LEFT JOIN spans AS s USING (days, start)
             WHERE s.version IS DISTINCT FROM v.version AND start + days * interval '24 hours' <= now()
                 AND v.committed_at <= now() - make_interval(secs => $1)
             ORDER BY days, start DESC LIMIT 1",
            versions("true")
        ))
        .bind::<Double, _>(quiet.as_secs_f64())
        .get_result(connection)
        .optional()?;
        if let Some(span) = &missing {
            make(connection, span)?;
        }
        Ok(missing.is_some())
    })
}

fn make(connection: &mut PgConnection, span: &Span) -> Result<(), StoreError> {
    // Room for the sums of tens of thousands of campaigns; with less they go through files.
    connection.batch_execute("SET LOCAL work_mem = '64MB'")?;
    sql_query("DELETE FROM metrics_by_span WHERE days = $1 AND start = $2")
        .bind::<Integer, _>(span.days)
        .bind::<Timestamptz, _>(span.start)
        .execute(connection)?;
    // In an order that puts what is read together side by side.
    if span.days == SHORT {
        sql_query(
            "INSERT INTO metrics_by_span (days, start, platform, campaign_id, events, impressions, clicks, conversions,
                 cost_micros, revenue_micros)
             SELECT $1, $2, platform, campaign_id,
                 bigint_sum(events) AS events, bigint_sum(impressions) AS impressions,
                 bigint_sum(clicks) AS clicks, bigint_sum(conversions) AS conversions, bigint_sum(cost_micros) AS cost_micros,
                 bigint_sum(revenue_micros) AS revenue_micros
             FROM metrics_by_day WHERE day >= $2 AND day < $2 + $1 * interval '24 hours'
             GROUP BY GROUPING SETS ((platform, campaign_id), (campaign_id)) ORDER BY platform, campaign_id",
        )
        .bind::<Integer, _>(span.days)
        .bind::<Timestamptz, _>(span.start)
        .execute(connection)?;
    } else {
        // A long one is made of short ones, eight times fewer rows. Those that have events are current: it was their
        // turn before, since what is over and quiet for the long one is so for them, in one statement with one now().
        sql_query(
            "INSERT INTO metrics_by_span (days, start, platform, campaign_id, events, impressions, clicks, conversions,
                 cost_micros, revenue_micros)
             SELECT $1, $2, platform, campaign_id,
                 bigint_sum(events) AS events, bigint_sum(impressions) AS impressions,
                 bigint_sum(clicks) AS clicks, bigint_sum(conversions) AS conversions, bigint_sum(cost_micros) AS cost_micros,
                 bigint_sum(revenue_micros) AS revenue_micros
             FROM metrics_by_span WHERE days = $3 AND start >= $2 AND start < $2 + $1 * interval '24 hours'
             GROUP BY platform, campaign_id ORDER BY platform, campaign_id",
        )
        .bind::<Integer, _>(span.days)
        .bind::<Timestamptz, _>(span.start)
        .bind::<Integer, _>(SHORT)
        .execute(connection)?;
    }
    sql_query(
        "INSERT INTO spans (days, start, version) VALUES ($1, $2, $3)
         ON CONFLICT (days, start) DO UPDATE SET version = EXCLUDED.version",
    )
    .bind::<Integer, _>(span.days)
    .bind::<Timestamptz, _>(span.start)
    .bind::<BigInt, _>(span.version)
    .execute(connection)?;
    Ok(())
}

//! What is known after a share is written: its revisions, and what campaigns are called and whose they are.

use chrono::NaiveDate;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{
    Array, BigInt, Date, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid,
};
use uuid::Uuid;

use super::{Key, Writes};
use crate::report_row::revisions::Revision;
use crate::store::StoreError;
use crate::store::columns::{Bigints, Instants, Integers, Texts, Timestamps, Uuids};
use crate::store::write::batch::Filled;
use crate::store::write::positions::Commit;
use crate::store::write::settled::Settled;
use crate::time::Timestamp;

/// Writes what a share's report rows change.
pub(in crate::store::write) fn write(
    connection: &mut PgConnection,
    settled: &Settled<'_>,
    commit: Commit,
) -> Result<(), StoreError> {
    let Settled {
        share, reported, ..
    } = settled;
    if share.reports.is_empty() {
        return Ok(());
    }
    let Writes {
        newest,
        confirmed,
        older,
        gone,
        described,
    } = reported;
    forget(connection, share, gone)?;
    enter(connection, share, older, commit, "report_history", "")?;
    enter(
        connection,
        share,
        newest,
        commit,
        "report_rows",
        "ON CONFLICT (campaign_id, day, slice) DO UPDATE SET definition_id = EXCLUDED.definition_id,
             observed_at = EXCLUDED.observed_at, confirmed_at = EXCLUDED.confirmed_at, event_time = EXCLUDED.event_time,
             impressions = EXCLUDED.impressions, clicks = EXCLUDED.clicks, conversion_micros = EXCLUDED.conversion_micros,
             cost_micros = EXCLUDED.cost_micros, revenue_micros = EXCLUDED.revenue_micros, file_id = EXCLUDED.file_id,
             line = EXCLUDED.line, counted_at = EXCLUDED.counted_at",
    )?;
    confirm(connection, share, confirmed)?;
    describe(connection, share, described)
}

/// Keys as arrays: campaigns, days, slices.
struct Keys<'a> {
    campaigns: Vec<u32>,
    days: Vec<NaiveDate>,
    slices: Vec<&'a str>,
}

impl<'a> Keys<'a> {
    fn of(keys: impl Iterator<Item = &'a Key>) -> Keys<'a> {
        let mut arrays = Keys {
            campaigns: Vec::new(),
            days: Vec::new(),
            slices: Vec::new(),
        };
        for key in keys {
            arrays.campaigns.push(key.campaign);
            arrays.days.push(key.day);
            arrays.slices.push(&key.slice);
        }
        arrays
    }
}

fn forget(
    connection: &mut PgConnection,
    share: &Filled,
    gone: &[(Key, Timestamp)],
) -> Result<(), StoreError> {
    if gone.is_empty() {
        return Ok(());
    }
    let keys = Keys::of(gone.iter().map(|(key, _)| key));
    let times: Vec<Timestamp> = gone.iter().map(|(_, at)| *at).collect();
    sql_query(
        "DELETE FROM report_history AS h USING unnest($1, $2, $3, $4) AS g (campaign_id, day, slice, observed_at)
         WHERE h.campaign_id = g.campaign_id AND h.day = g.day AND h.slice = g.slice AND h.observed_at = g.observed_at",
    )
    .bind::<Array<Text>, _>(Texts { dictionary: &share.campaigns, index: &keys.campaigns })
    .bind::<Array<Date>, _>(&keys.days)
    .bind::<Array<Text>, _>(&keys.slices)
    .bind::<Array<Timestamptz>, _>(Timestamps(&times))
    .execute(connection)?;
    Ok(())
}

/// Inserts revisions into one of the tables.
fn enter(
    connection: &mut PgConnection,
    share: &Filled,
    rows: &[(Key, Uuid, Revision)],
    commit: Commit,
    table: &str,
    conflict: &str,
) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let keys = Keys::of(rows.iter().map(|(key, ..)| key));
    let event_ids: Vec<Uuid> = rows.iter().map(|(_, event_id, _)| *event_id).collect();
    let revisions = || rows.iter().map(|(.., revision)| revision);
    let definitions: Vec<i32> = revisions().map(|r| r.definition).collect();
    let observed: Vec<Timestamp> = revisions().map(|r| r.observed_at).collect();
    // An array of arrays has no ragged edge, so each is written as text; nearly all are null.
    let confirmed: Vec<Option<String>> = revisions().map(|r| array(&r.confirmed_at)).collect();
    let times: Vec<Timestamp> = revisions().map(|r| r.event_time).collect();
    let numbers = |which: usize| -> Vec<Option<i64>> {
        revisions()
            .map(|r| r.values.numbers().get(which).copied().flatten())
            .collect()
    };
    let files: Vec<Option<i32>> = revisions().map(|r| r.origin.0).collect();
    let lines: Vec<Option<i64>> = revisions().map(|r| r.origin.1).collect();
    let counted: Vec<Option<Timestamp>> = revisions()
        .map(|r| Some(r.counted_at.unwrap_or(commit.at)))
        .collect();
    sql_query(format!(
        "INSERT INTO {table} (campaign_id, day, slice, definition_id, event_id, observed_at, confirmed_at, event_time, impressions,
             clicks, conversion_micros, cost_micros, revenue_micros, file_id, line, counted_at)
         SELECT n.campaign_id, n.day, n.slice, n.definition_id, n.event_id, n.observed_at, n.confirmed_at::timestamptz[],
             n.event_time, n.impressions, n.clicks, n.conversion_micros, n.cost_micros, n.revenue_micros, n.file_id, n.line,
             n.counted_at
         FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
             AS n (campaign_id, day, slice, definition_id, event_id, observed_at, confirmed_at, event_time, impressions, clicks,
                 conversion_micros, cost_micros, revenue_micros, file_id, line, counted_at)
         {conflict}"
    ))
    .bind::<Array<Text>, _>(Texts { dictionary: &share.campaigns, index: &keys.campaigns })
    .bind::<Array<Date>, _>(&keys.days)
    .bind::<Array<Text>, _>(&keys.slices)
    .bind::<Array<Integer>, _>(Integers(&definitions))
    .bind::<Array<SqlUuid>, _>(Uuids(&event_ids))
    .bind::<Array<Timestamptz>, _>(Timestamps(&observed))
    .bind::<Array<Nullable<Text>>, _>(&confirmed)
    .bind::<Array<Timestamptz>, _>(Timestamps(&times))
    .bind::<Array<Nullable<BigInt>>, _>(numbers(0))
    .bind::<Array<Nullable<BigInt>>, _>(numbers(1))
    .bind::<Array<Nullable<BigInt>>, _>(numbers(2))
    .bind::<Array<Nullable<BigInt>>, _>(numbers(3))
    .bind::<Array<Nullable<BigInt>>, _>(numbers(4))
    .bind::<Array<Nullable<Integer>>, _>(&files)
    .bind::<Array<Nullable<BigInt>>, _>(&lines)
    .bind::<Array<Timestamptz>, _>(Instants(&counted))
    .execute(connection)?;
    Ok(())
}

/// Instants as PostgreSQL writes an array of them; none if there are none.
fn array(times: &[Timestamp]) -> Option<String> {
    let written: Vec<String> = times.iter().map(ToString::to_string).collect();
    (!written.is_empty()).then(|| format!("{{{}}}", written.join(",")))
}

/// Notes that what is known was said once more: most of what an account's next export says.
fn confirm(
    connection: &mut PgConnection,
    share: &Filled,
    confirmed: &[(Key, Timestamp)],
) -> Result<(), StoreError> {
    if confirmed.is_empty() {
        return Ok(());
    }
    let keys = Keys::of(confirmed.iter().map(|(key, _)| key));
    let times: Vec<Timestamp> = confirmed.iter().map(|(_, at)| *at).collect();
    sql_query(
        "UPDATE report_rows AS r SET confirmed_at = r.confirmed_at || c.at
         FROM unnest($1, $2, $3, $4) AS c (campaign_id, day, slice, at)
         WHERE r.campaign_id = c.campaign_id AND r.day = c.day AND r.slice = c.slice",
    )
    .bind::<Array<Text>, _>(Texts {
        dictionary: &share.campaigns,
        index: &keys.campaigns,
    })
    .bind::<Array<Date>, _>(&keys.days)
    .bind::<Array<Text>, _>(&keys.slices)
    .bind::<Array<Timestamptz>, _>(Timestamps(&times))
    .execute(connection)?;
    Ok(())
}

/// What campaigns are called and whose they are.
fn describe(
    connection: &mut PgConnection,
    share: &Filled,
    described: &[(u32, Timestamp, i32)],
) -> Result<(), StoreError> {
    let names = &share.reports.names;
    let campaigns: Vec<u32> = names.keys().map(|(campaign, _)| *campaign).collect();
    let called: Vec<&str> = names.keys().map(|(_, name)| &**name).collect();
    let first: Vec<Timestamp> = names.values().map(|(first, _)| *first).collect();
    let last: Vec<Timestamp> = names.values().map(|(_, last)| *last).collect();
    if !campaigns.is_empty() {
        // Nearly all are known, and of them nothing is written.
        sql_query(
            "INSERT INTO campaign_names AS k (campaign_id, name, first_observed_at, last_observed_at)
             SELECT n.campaign_id, n.name, n.first, n.last FROM unnest($1, $2, $3, $4) AS n (campaign_id, name, first, last)
             LEFT JOIN campaign_names AS c ON c.campaign_id = n.campaign_id AND c.name = n.name
             WHERE c.name IS NULL OR n.first < c.first_observed_at OR n.last > c.last_observed_at
             ON CONFLICT (campaign_id, name) DO UPDATE SET
                 first_observed_at = LEAST(k.first_observed_at, EXCLUDED.first_observed_at),
                 last_observed_at = GREATEST(k.last_observed_at, EXCLUDED.last_observed_at)",
        )
        .bind::<Array<Text>, _>(Texts { dictionary: &share.campaigns, index: &campaigns })
        .bind::<Array<Text>, _>(&called)
        .bind::<Array<Timestamptz>, _>(Timestamps(&first))
        .bind::<Array<Timestamptz>, _>(Timestamps(&last))
        .execute(connection)?;
    }
    if described.is_empty() {
        return Ok(());
    }
    let campaigns: Vec<u32> = described.iter().map(|(campaign, ..)| *campaign).collect();
    let times: Vec<Timestamp> = described.iter().map(|(_, at, _)| *at).collect();
    let definitions: Vec<i64> = described.iter().map(|(.., id)| i64::from(*id)).collect();
    sql_query(
        "UPDATE campaigns AS c SET definition_id = d.definition_id, described_at = d.at,
             name = COALESCE((SELECT n.name FROM campaign_names AS n WHERE n.campaign_id = c.campaign_id
                 ORDER BY n.last_observed_at DESC, n.first_observed_at DESC, n.name LIMIT 1), c.name)
         FROM unnest($1, $2, $3) AS d (campaign_id, at, definition_id)
         WHERE c.campaign_id = d.campaign_id AND (c.described_at IS NULL OR c.described_at < d.at)",
    )
    .bind::<Array<Text>, _>(Texts { dictionary: &share.campaigns, index: &campaigns })
    .bind::<Array<Timestamptz>, _>(Timestamps(&times))
    .bind::<Array<BigInt>, _>(Bigints(&definitions))
    .execute(connection)?;
    Ok(())
}

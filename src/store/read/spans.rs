//! Which spans are current, so that a question may be answered from them.

use std::collections::HashSet;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Integer, Timestamptz};

use crate::store::StoreError;
use crate::time::Timestamp;

/// The lengths of spans, in days, longest first. They begin at multiples of their length since 1970.
pub(in crate::store) const LENGTHS: [i32; 2] = [64, SHORT];
pub(in crate::store) const SHORT: i32 = 8;

/// The spans that have events on days that `condition` chooses, with the version of these days.
pub(in crate::store) fn versions(condition: &str) -> String {
    let lengths = LENGTHS.map(|days| days.to_string()).join(", ");
    format!(
        "SELECT l.days, date_bin(l.days * interval '24 hours', v.day, timestamptz 'epoch') AS start,
             sum(v.version)::bigint AS version, max(v.committed_at) AS committed_at
         FROM (SELECT day, sum(version) AS version, max(committed_at) AS committed_at
               FROM day_versions WHERE {condition} GROUP BY day) AS v
         CROSS JOIN unnest(ARRAY[{lengths}]) AS l (days) GROUP BY 1, 2"
    )
}

/// The spans on the days that `condition` chooses that are current.
pub(in crate::store) fn current_sql(condition: &str) -> String {
    format!(
        "SELECT days, start, version FROM spans JOIN ({}) AS v USING (days, start, version)",
        versions(condition)
    )
}

#[derive(QueryableByName)]
pub(in crate::store) struct Span {
    #[diesel(sql_type = Integer)]
    pub days: i32,
    #[diesel(sql_type = Timestamptz)]
    pub start: Timestamp,
    #[diesel(sql_type = BigInt)]
    pub version: i64,
}

/// The spans between two instants that are current, by length and start. The instants are multiples of the
/// longest length. To be asked in the snapshot in which they are read.
pub(in crate::store) fn current(
    connection: &mut PgConnection,
    from: Timestamp,
    until: Timestamp,
) -> Result<HashSet<(i32, Timestamp)>, StoreError> {
    let spans: Vec<Span> = sql_query(current_sql("day >= $1 AND day < $2"))
        .bind::<Timestamptz, _>(from)
        .bind::<Timestamptz, _>(until)
        .load(connection)?;
    let spans = spans.into_iter();
    Ok(spans.map(|span| (span.days, span.start)).collect())
}

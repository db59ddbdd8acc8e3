//! What platforms said of days, as it is stored: the newest revision of a key is a row of `report_rows`, older ones are of
//! `report_history`.

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Integer, Nullable, Timestamptz};

use super::columns::TimestampColumn;
use crate::report_row::Values;
use crate::report_row::revisions::Revision;
use crate::time::Timestamp;

/// The columns of a [`RevisionRow`], which both tables have, of the one that is called `r`.
pub(super) const COLUMNS: &str = "r.definition_id, r.observed_at, r.confirmed_at, r.event_time, r.impressions, r.clicks, \
     r.conversion_micros, r.cost_micros, r.revenue_micros, r.file_id, r.line, r.counted_at";

/// A revision, without its key.
#[derive(QueryableByName)]
pub(super) struct RevisionRow {
    #[diesel(sql_type = Integer)]
    definition_id: i32,
    #[diesel(sql_type = Timestamptz)]
    observed_at: Timestamp,
    #[diesel(sql_type = Nullable<Array<Timestamptz>>)]
    confirmed_at: Option<TimestampColumn>,
    #[diesel(sql_type = Timestamptz)]
    event_time: Timestamp,
    #[diesel(embed)]
    values: ValuesRow,
    #[diesel(sql_type = Nullable<Integer>)]
    file_id: Option<i32>,
    #[diesel(sql_type = Nullable<BigInt>)]
    line: Option<i64>,
    #[diesel(sql_type = Timestamptz)]
    counted_at: Timestamp,
}

impl From<RevisionRow> for Revision {
    fn from(row: RevisionRow) -> Revision {
        Revision {
            observed_at: row.observed_at,
            confirmed_at: row.confirmed_at.map(|column| column.0).unwrap_or_default(),
            values: row.values.into(),
            definition: row.definition_id,
            event_time: row.event_time,
            origin: (row.file_id, row.line),
            counted_at: Some(row.counted_at),
        }
    }
}

/// The numbers of a revision.
#[derive(Clone, Copy, Debug, QueryableByName)]
pub(super) struct ValuesRow {
    #[diesel(sql_type = Nullable<BigInt>)]
    impressions: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    clicks: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    conversion_micros: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    cost_micros: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    revenue_micros: Option<i64>,
}

impl From<ValuesRow> for Values {
    fn from(row: ValuesRow) -> Values {
        Values::of([
            row.impressions,
            row.clicks,
            row.conversion_micros,
            row.cost_micros,
            row.revenue_micros,
        ])
    }
}

//! The short names by which report rows name their definitions and files.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Binary, Integer, SmallInt, Text};

use crate::store::StoreError;
use crate::store::columns::Shorts;
use crate::store::write::batch::Meaning;

#[derive(QueryableByName)]
struct Numbered {
    #[diesel(sql_type = BigInt)]
    nth: i64,
    #[diesel(sql_type = Integer)]
    id: i32,
}

/// The numbers in their order; none if some are missing.
fn in_order(numbered: Vec<Numbered>, len: usize) -> Option<Vec<i32>> {
    let mut ids: Vec<(i64, i32)> = numbered.into_iter().map(|row| (row.nth, row.id)).collect();
    ids.sort_unstable();
    (ids.len() == len).then(|| ids.into_iter().map(|(_, id)| id).collect())
}

/// Those of definitions, which they get if they have none.
pub(super) fn of_definitions(
    connection: &mut PgConnection,
    definitions: &[Meaning],
) -> Result<Vec<i32>, StoreError> {
    let platforms: Vec<i16> = definitions
        .iter()
        .map(|d| d.platform.index().into())
        .collect();
    let texts: [Vec<&str>; 6] = [
        definitions.iter().map(|d| d.account.as_str()).collect(),
        definitions.iter().map(|d| d.time_zone.name()).collect(),
        definitions.iter().map(|d| d.currency.code()).collect(),
        definitions.iter().map(|d| d.conversions.as_str()).collect(),
        definitions.iter().map(|d| d.revenue.as_str()).collect(),
        definitions.iter().map(|d| d.grain.as_str()).collect(),
    ];
    let [accounts, zones, currencies, conversions, revenues, grains] = &texts;
    let mut ids = |sql: &str| -> Result<Vec<Numbered>, StoreError> {
        Ok(sql_query(sql)
            .bind::<Array<SmallInt>, _>(Shorts(&platforms))
            .bind::<Array<Text>, _>(accounts)
            .bind::<Array<Text>, _>(zones)
            .bind::<Array<Text>, _>(currencies)
            .bind::<Array<Text>, _>(conversions)
            .bind::<Array<Text>, _>(revenues)
            .bind::<Array<Text>, _>(grains)
            .load(connection)?)
    };
    const KNOWN: &str = "SELECT d.nth, k.definition_id AS id
         FROM unnest($1, $2, $3, $4, $5, $6, $7) WITH ORDINALITY
             AS d (platform, account, time_zone, currency, conversions, revenue, grain, nth)
         JOIN report_definitions AS k USING (platform, account, time_zone, currency, conversions, revenue, grain)";
    if let Some(ids) = in_order(ids(KNOWN)?, definitions.len()) {
        return Ok(ids);
    }
    // Not of the batch: a name that nobody uses hurts nobody.
    ids(
        "WITH new AS (
             INSERT INTO report_definitions (platform, account, time_zone, currency, conversions, revenue, grain)
             SELECT DISTINCT * FROM unnest($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING RETURNING definition_id)
         SELECT 0::bigint AS nth, definition_id AS id FROM new",
    )?;
    in_order(ids(KNOWN)?, definitions.len()).ok_or(StoreError::Busy(
        "a definition of reports was made at the same moment",
    ))
}

/// Those of files, which they get if they have none.
pub(super) fn of_files(
    connection: &mut PgConnection,
    files: &[[u8; 32]],
) -> Result<Vec<i32>, StoreError> {
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let hashes: Vec<&[u8]> = files.iter().map(<[u8; 32]>::as_slice).collect();
    let mut ids = |sql: &str| -> Result<Vec<Numbered>, StoreError> {
        Ok(sql_query(sql)
            .bind::<Array<Binary>, _>(&hashes)
            .load(connection)?)
    };
    const KNOWN: &str =
        "SELECT f.nth, k.file_id AS id FROM unnest($1) WITH ORDINALITY AS f (sha256, nth)
         JOIN report_files AS k USING (sha256)";
    if let Some(ids) = in_order(ids(KNOWN)?, files.len()) {
        return Ok(ids);
    }
    ids(
        "WITH new AS (INSERT INTO report_files (sha256) SELECT DISTINCT * FROM unnest($1) ON CONFLICT DO NOTHING RETURNING file_id)
         SELECT 0::bigint AS nth, file_id AS id FROM new",
    )?;
    in_order(ids(KNOWN)?, files.len()).ok_or(StoreError::Busy(
        "a file of reports was named at the same moment",
    ))
}

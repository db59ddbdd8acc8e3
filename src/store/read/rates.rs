//! Exchange rates, all of a source at once: 40 currencies of 30 years are 200,000.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, Bool, Date, Integer, Nullable, Text};

use super::descriptions::currency;
use super::insights::in_one_snapshot;
use crate::currency::Currency;
use crate::rates::{Published, Rate, Rates, ecb};
use crate::store::StoreError;

/// Whether the database has tables of rates.
///
/// # Errors
/// When the database does not answer.
pub fn are_kept(connection: &mut PgConnection) -> Result<bool, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Bool)]
        are_kept: bool,
    }
    let row: Row = sql_query("SELECT to_regclass('exchange_rates') IS NOT NULL AS are_kept")
        .get_result(connection)?;
    Ok(row.are_kept)
}

/// The newest import that changed any; 0 where there was none.
///
/// # Errors
/// When the database does not answer.
pub fn version(connection: &mut PgConnection) -> Result<i32, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Nullable<Integer>)]
        version: Option<i32>,
    }
    let row: Row =
        sql_query("SELECT max(file_id) AS version FROM rate_files").get_result(connection)?;
    Ok(row.version.unwrap_or_default())
}

/// All rates of the European Central Bank that were imported.
///
/// # Errors
/// When the database does not answer.
pub fn all(connection: &mut PgConnection) -> Result<Rates, StoreError> {
    in_one_snapshot(connection, |connection| {
        let version = version(connection)?;
        Ok(Rates::new(
            ecb::SOURCE,
            ecb::base(),
            version,
            of_source(connection, ecb::SOURCE)?,
        ))
    })
}

#[derive(QueryableByName)]
struct OfCurrency {
    #[diesel(sql_type = Text)]
    currency: String,
    #[diesel(sql_type = Array<Date>)]
    days: Vec<NaiveDate>,
    #[diesel(sql_type = Array<Text>)]
    rates: Vec<String>,
}

/// Those of a source: of each currency, by day.
///
/// # Errors
/// When the database does not answer.
pub fn of_source(
    connection: &mut PgConnection,
    source: &str,
) -> Result<BTreeMap<Currency, Vec<Published>>, StoreError> {
    let rows: Vec<OfCurrency> = sql_query(
        "SELECT currency, array_agg(day ORDER BY day) AS days, array_agg(rate::text ORDER BY day) AS rates
         FROM exchange_rates WHERE source = $1 GROUP BY currency",
    )
    .bind::<Text, _>(source)
    .load(connection)?;
    let all = rows.into_iter().map(|row| {
        let of = row.days.into_iter().zip(&row.rates);
        let of = of.map(|(day, text)| {
            let rate = Rate::parse(text).map_err(|why| {
                let said = format!("the rate of {} on {day}, {text}: {why}", row.currency);
                diesel::result::Error::DeserializationError(said.into())
            });
            Ok(Published { day, rate: rate? })
        });
        Ok((
            currency(&row.currency)?,
            of.collect::<Result<_, StoreError>>()?,
        ))
    });
    all.collect()
}

/// The currencies of the accounts that reports are of, by code.
///
/// # Errors
/// When the database does not answer.
pub fn currencies_of_accounts(connection: &mut PgConnection) -> Result<Vec<Currency>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        currency: String,
    }
    let rows: Vec<Row> =
        sql_query("SELECT DISTINCT currency FROM report_definitions ORDER BY currency")
            .load(connection)?;
    rows.iter().map(|row| currency(&row.currency)).collect()
}

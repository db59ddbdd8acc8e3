//! Exchange rates, as a file has them: all of it becomes known in one transaction, or nothing.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, Binary, Date, Integer, Text};

use crate::currency::Currency;
use crate::rates::Rate;
use crate::rates::ecb::{self, RateFile};
use crate::store::StoreError;
use crate::store::read::rates;

/// A rate that a file says is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    pub day: NaiveDate,
    pub currency: Currency,
    pub known: Rate,
    pub said: Rate,
}

/// What a file changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    pub new: usize,
    pub unchanged: usize,
    /// By day and currency.
    pub different: Vec<Difference>,
}

/// Compares a file with what is known, and takes it in. With differences only if `replace`: without, nothing changes.
///
/// # Errors
/// When the database does not answer.
pub fn import(
    connection: &mut PgConnection,
    file: &RateFile,
    replace: bool,
) -> Result<Compared, StoreError> {
    connection.transaction(|connection| {
        // Who imports at the same moment waits, and finds what this file said.
        sql_query("LOCK TABLE exchange_rates IN SHARE ROW EXCLUSIVE MODE").execute(connection)?;
        let (compared, changed) = compare(connection, file)?;
        if !changed.is_empty() && (replace || compared.different.is_empty()) {
            write(connection, file, &changed)?;
        }
        Ok(compared)
    })
}

type Changed = Vec<(NaiveDate, Currency, Rate)>;

fn compare(
    connection: &mut PgConnection,
    file: &RateFile,
) -> Result<(Compared, Changed), StoreError> {
    let known = rates::of_source(connection, ecb::SOURCE)?;
    let known = known.into_iter().flat_map(|(currency, of)| {
        let of = of.into_iter();
        of.map(move |one| ((one.day, currency), one.rate))
    });
    let known: BTreeMap<(NaiveDate, Currency), Rate> = known.collect();
    let mut compared = Compared::default();
    let mut changed = Vec::new();
    for ((day, currency), said) in &file.rates {
        match known.get(&(*day, *currency)) {
            Some(known) if known == said => {
                compared.unchanged += 1;
                continue;
            }
            Some(known) => compared.different.push(Difference {
                day: *day,
                currency: *currency,
                known: *known,
                said: *said,
            }),
            None => compared.new += 1,
        }
        changed.push((*day, *currency, *said));
    }
    Ok((compared, changed))
}

fn write(
    connection: &mut PgConnection,
    file: &RateFile,
    changed: &Changed,
) -> Result<(), StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Integer)]
        file_id: i32,
    }
    let Row { file_id } = sql_query(
        "INSERT INTO rate_files (source, base, sha256, name, imported_at) VALUES ($1, $2, $3, $4, clock_timestamp())
         RETURNING file_id",
    )
    .bind::<Text, _>(ecb::SOURCE)
    .bind::<Text, _>(ecb::base().code())
    .bind::<Binary, _>(file.sha256.as_slice())
    .bind::<Text, _>(&file.name)
    .get_result(connection)?;
    let days: Vec<NaiveDate> = changed.iter().map(|(day, ..)| *day).collect();
    let currencies: Vec<&str> = changed.iter().map(|(_, of, _)| of.code()).collect();
    let rates: Vec<String> = changed.iter().map(|(.., rate)| rate.to_string()).collect();
    sql_query(
        "INSERT INTO exchange_rates (source, currency, day, rate, file_id)
         SELECT $1, u.currency, u.day, u.rate::numeric, $2 FROM unnest($3, $4, $5) AS u (currency, day, rate)
         ORDER BY u.currency, u.day
         ON CONFLICT (source, currency, day) DO UPDATE SET rate = excluded.rate, file_id = excluded.file_id",
    )
    .bind::<Text, _>(ecb::SOURCE)
    .bind::<Integer, _>(file_id)
    .bind::<Array<Text>, _>(currencies)
    .bind::<Array<Date>, _>(days)
    .bind::<Array<Text>, _>(rates)
    .execute(connection)?;
    Ok(())
}

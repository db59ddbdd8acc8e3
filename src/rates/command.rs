//! `adflux rates`: rates imported from the European Central Bank's file, and shown.

use std::io::{self, Write};
use std::path::Path;

use anyhow::bail;
use chrono::{NaiveDate, Utc};
use data_encoding::HEXLOWER;
use diesel::PgConnection;
use serde_json::{Value, json};

use super::ecb::{self, RateFile};
use super::{Published, Rates};
use crate::currency::Currency;
use crate::import::{Format, Refused};
use crate::reports::refusal::Refusal;
use crate::store::keep::rates::{self as kept, Compared};
use crate::store::read::rates;
use crate::store::{self, Limits};
use crate::terminal;

/// Imports a file, and writes what it changed; `-` is standard input.
///
/// # Errors
/// [`Refused`] when the file is not good, or says something else than is known and `replace` is not given: then nothing has changed.
pub fn import(
    database_url: &str,
    path: &Path,
    replace: bool,
    format: Format,
) -> anyhow::Result<()> {
    let read = ecb::open(path, io::stdin().lock(), Utc::now().date_naive());
    let file = match read {
        Ok(file) => file,
        Err(refusal) => return refused(path, &refusal, format),
    };
    let mut connection = connect(database_url)?;
    let compared = kept::import(&mut connection, &file, replace)?;
    match compared.different.first() {
        Some(first) if !replace => {
            let others = match compared.different.len() {
                1 => "a rate is known otherwise".to_owned(),
                number => format!("{number} rates are known otherwise, the first of them"),
            };
            let reason = format!(
                "{others}: {} on {} was {} and is {} here",
                first.currency, first.day, first.known, first.said
            );
            let refusal = Refusal::new(reason).so("--replace takes what this file says");
            refused(path, &refusal, format)
        }
        _ => {
            match format {
                Format::Text => text(&mut terminal::out(), &file, &compared)?,
                Format::Json => writeln!(io::stdout(), "{:#}", document(&file, &compared))?,
            }
            Ok(())
        }
    }
}

fn refused(path: &Path, refusal: &Refusal, format: Format) -> anyhow::Result<()> {
    match format {
        Format::Text => writeln!(terminal::out(), "{}: refused: {refusal}", path.display())?,
        Format::Json => {
            let document = json!({
                "file": path.display().to_string(),
                "refused": {
                    "place": refusal.place.as_ref().map(ToString::to_string),
                    "column": refusal.column,
                    "value": refusal.value,
                    "reason": refusal.reason,
                    "what_to_do": refusal.remedy,
                },
            });
            writeln!(io::stdout(), "{document:#}")?;
        }
    }
    Err(Refused.into())
}

fn text(out: &mut impl Write, file: &RateFile, compared: &Compared) -> io::Result<()> {
    let RateFile {
        name,
        first_day,
        last_day,
        ignored,
        ..
    } = file;
    writeln!(
        out,
        "{name}: rates of {}, for one {}",
        ecb::SOURCE,
        ecb::base()
    )?;
    writeln!(out, "  days       {first_day} to {last_day}")?;
    writeln!(out, "  new        {}", compared.new)?;
    writeln!(out, "  unchanged  {}", compared.unchanged)?;
    writeln!(out, "  replaced   {}", compared.different.len())?;
    if !ignored.is_empty() {
        let ignored = ignored.join(" ");
        writeln!(
            out,
            "  ignored    {ignored}: no currency of today's ISO 4217"
        )?;
    }
    Ok(())
}

fn document(file: &RateFile, compared: &Compared) -> Value {
    json!({
        "file": file.name,
        "sha256": HEXLOWER.encode(&file.sha256),
        "source": ecb::SOURCE,
        "base": ecb::base(),
        "first_day": file.first_day,
        "last_day": file.last_day,
        "new": compared.new,
        "unchanged": compared.unchanged,
        "replaced": compared.different.len(),
        "ignored_columns": file.ignored,
        "refused": null,
    })
}

/// Writes which rates are known, of one currency or all; or those that a day is converted by.
///
/// # Errors
/// When nothing is known of what is asked for, or the database does not answer.
pub fn show(
    database_url: &str,
    currency: Option<Currency>,
    on: Option<NaiveDate>,
    format: Format,
) -> anyhow::Result<()> {
    let rates = rates::all(&mut connect(database_url)?)?;
    let known: Vec<(Currency, &[Published])> = rates
        .all()
        .filter(|(of, _)| currency.is_none_or(|wanted| wanted == *of))
        .collect();
    if known.is_empty() {
        match currency {
            Some(wanted) if wanted == rates.base => {
                bail!("rates are for one {wanted}, which has none itself")
            }
            Some(wanted) => bail!("no rate of {wanted} was imported"),
            None => bail!(
                "no rates were imported: adflux rates import reads the file of the European Central Bank"
            ),
        }
    }
    let lines: Vec<Line> = known
        .iter()
        .filter_map(|(currency, of)| Line::of(&rates, *currency, of, on))
        .collect();
    match format {
        Format::Text => table(&mut terminal::out(), &lines, on)?,
        Format::Json => {
            let document = json!({
                "source": rates.source,
                "base": rates.base,
                "on": on,
                "currencies": lines.iter().map(Line::document).collect::<Vec<Value>>(),
            });
            writeln!(io::stdout(), "{document:#}")?;
        }
    }
    Ok(())
}

/// What is known of a currency.
struct Line {
    currency: Currency,
    first_day: NaiveDate,
    last_day: NaiveDate,
    /// The newest one, or that of the day that is asked for; none where none may be used for it.
    used: Option<Published>,
}

impl Line {
    fn of(
        rates: &Rates,
        currency: Currency,
        known: &[Published],
        on: Option<NaiveDate>,
    ) -> Option<Line> {
        let (first, last) = (known.first()?, known.last()?);
        Some(Line {
            currency,
            first_day: first.day,
            last_day: last.day,
            used: match on {
                None => Some(*last),
                Some(day) => rates.on(currency, day).ok().flatten(),
            },
        })
    }

    fn document(&self) -> Value {
        json!({
            "currency": self.currency,
            "first_day": self.first_day,
            "last_day": self.last_day,
            "rate": self.used.map(|used| used.rate.to_string()),
            "rate_day": self.used.map(|used| used.day),
        })
    }
}

fn table(out: &mut impl Write, lines: &[Line], on: Option<NaiveDate>) -> io::Result<()> {
    let title = on.map_or_else(|| "NEWEST RATE".to_owned(), |day| format!("RATE ON {day}"));
    writeln!(out, "CURRENCY  FIRST DAY   LAST DAY    {title}")?;
    for line in lines {
        let used = match (line.used, on) {
            (Some(used), Some(day)) if used.day != day => format!("{}, of {}", used.rate, used.day),
            (Some(used), _) => used.rate.to_string(),
            (None, _) => "none".to_owned(),
        };
        let (currency, first, last) = (line.currency.code(), line.first_day, line.last_day);
        writeln!(out, "{currency:<8}  {first}  {last}  {used}")?;
    }
    Ok(())
}

fn connect(url: &str) -> anyhow::Result<PgConnection> {
    let mut connection = store::open(url, Limits::PROCESSOR)?;
    if !rates::are_kept(&mut connection)? {
        bail!(
            "the database has no table of rates: run `adflux migrate`, or start `adflux process`"
        );
    }
    Ok(connection)
}

//! `adflux expect`: what days that are still restated will come to, and how good that would have been in the past.

use std::io::{self, Write};

use anyhow::bail;
use chrono::{Days, NaiveDate};
use serde_json::{Value, json};

use super::account::{CAMPAIGNS, History};
use super::backtest::{Judged, backtest};
use super::curve::Curve;
use super::development::{Development, LOOK_BACK};
use super::{Expected, PROVISIONAL_DAYS, units};
use crate::import::Format;
use crate::store::read::growth::{self, Account, Whose};
use crate::store::{self, Limits};
use crate::terminal;

const PROVISIONAL: usize = PROVISIONAL_DAYS as usize;

/// What is asked.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// Only the accounts that their platform calls so.
    pub account: Option<String>,
    /// How good it would have been.
    pub backtest: bool,
    /// Of the backtest, only this age.
    pub hide: Option<u32>,
}

/// Prints what is expected of each account's provisional days, or the backtest.
///
/// # Errors
/// When the account is unknown, or the database does not answer.
pub fn run(database_url: &str, question: &Question, format: Format) -> anyhow::Result<()> {
    let mut connection = store::open(database_url, Limits::MAINTENANCE)?;
    let accounts = growth::accounts(&mut connection, question.account.as_deref())?;
    if let Some(wanted) = question.account.as_deref().filter(|_| accounts.is_empty()) {
        let known = growth::accounts(&mut connection, None)?;
        let known: Vec<&str> = known.iter().map(|account| account.id.as_str()).collect();
        bail!(
            "no platform has reported an account '{wanted}'; those that are known: {}",
            if known.is_empty() {
                "none".to_owned()
            } else {
                known.join(", ")
            }
        );
    }
    let mut out = terminal::out();
    let mut documents = Vec::new();
    for account in &accounts {
        let Some(last_day) = growth::last_day(&mut connection, account)? else {
            continue;
        };
        let campaigns = growth::campaigns(&mut connection, account, CAMPAIGNS)?;
        let mut history = |whose: Whose<'_>, since| {
            let changes = growth::changes(&mut connection, account, &whose, since)?;
            Ok::<_, anyhow::Error>(History::new(&changes, account.time_zone, PROVISIONAL))
        };
        if question.backtest {
            let of_account = history(Whose::Account, None)?;
            let of_campaigns = history(Whose::Campaigns(&campaigns), None)?;
            let tables = judge(of_account.as_ref(), of_campaigns.as_ref(), question.hide);
            match format {
                Format::Text => judged_text(&mut out, account, &tables)?,
                Format::Json => documents.push(judged_document(account, &tables)),
            }
        } else {
            let since = last_day.checked_sub_days(Days::new(LOOK_BACK.into()));
            let Some(history) = history(Whose::Account, since)? else {
                continue;
            };
            match format {
                Format::Text => expected_text(&mut out, account, &history)?,
                Format::Json => documents.push(expected_document(account, &history)),
            }
        }
    }
    match format {
        Format::Text if accounts.is_empty() => {
            writeln!(
                out,
                "no platform has reported anything: adflux import reads what they export"
            )?;
        }
        Format::Text => {}
        Format::Json => {
            let document = json!({ "provisional_days": PROVISIONAL_DAYS, "accounts": documents });
            writeln!(io::stdout(), "{document:#}")?;
        }
    }
    Ok(())
}

/// The measures, by name.
fn measures(history: &History) -> [(&'static str, &[Curve]); 2] {
    [
        ("conversions", &history.conversions),
        ("revenue", &history.revenue),
    ]
}

fn name(account: &Account) -> String {
    let Account {
        platform,
        id,
        time_zone,
        currency,
        ..
    } = account;
    format!(
        "{} {id} ({}, {time_zone})",
        platform.name(),
        currency.code()
    )
}

fn document(account: &Account) -> Value {
    json!({
        "platform": account.platform.name(),
        "account_id": account.id,
        "time_zone": account.time_zone.name(),
        "currency": account.currency.code(),
        "conversions_are": account.conversions,
        "revenue_is": account.revenue,
    })
}

/// A day that is not final.
struct Provisional {
    day: NaiveDate,
    age: usize,
    known: f64,
    expected: Option<Expected>,
}

/// The days of an account that are not final, the oldest first.
fn provisional(history: &History, curves: &[Curve]) -> Vec<Provisional> {
    let today = history.asked.date();
    let development = Development::learn(curves, today, PROVISIONAL);
    let is_provisional = |curve: &&Curve| curve.old(today).is_some_and(|old| old < PROVISIONAL);
    let days = curves.iter().filter(is_provisional);
    let days = days.filter_map(|curve| {
        let (age, known) = curve.last(PROVISIONAL)?;
        Some(Provisional {
            day: curve.day,
            age,
            known,
            expected: development.expect(known, age),
        })
    });
    days.collect()
}

fn expected_text(out: &mut impl Write, account: &Account, history: &History) -> io::Result<()> {
    let asked = history.asked.format("%Y-%m-%d %H:%M");
    writeln!(out, "{}, asked last at {asked}", name(account))?;
    for (measure, curves) in measures(history) {
        let (age, known, expected) = ("age", "known", "expected");
        writeln!(
            out,
            "\n  {measure:<12} {age:>3} {known:>16} {expected:>16} {:>16} {:>16}  past days",
            "from", "to"
        )?;
        for day in provisional(history, curves) {
            let (of, age, known) = (day.day, day.age, units(day.known));
            write!(out, "  {of:<12} {age:>3} {known:>16.2}")?;
            match day.expected {
                Some(e) => {
                    let [expected, low, high] = [e.expected, e.low, e.high].map(units);
                    let days = e.days;
                    writeln!(out, " {expected:>16.2} {low:>16.2} {high:>16.2} {days:>10}")?;
                }
                None => writeln!(out, " {:>16}", "-")?,
            }
        }
    }
    writeln!(out)
}

fn expected_document(account: &Account, history: &History) -> Value {
    let mut document = document(account);
    document["asked_at"] = json!(history.asked.format("%Y-%m-%dT%H:%M:%S").to_string());
    for (measure, curves) in measures(history) {
        let days = provisional(history, curves);
        let days = days.iter().map(|day| {
            let known = units(day.known);
            json!({ "day": day.day, "age": day.age, "known": known, "expected": day.expected })
        });
        document[measure] = days.collect();
    }
    document
}

/// How good it would have been, of one measure.
struct Table {
    of: &'static str,
    measure: &'static str,
    judged: Vec<Judged>,
}

fn judge(account: Option<&History>, campaigns: Option<&History>, hide: Option<u32>) -> Vec<Table> {
    let ages: Vec<usize> = match hide {
        Some(age) => vec![age as usize],
        None => (0..PROVISIONAL).collect(),
    };
    let mut tables = Vec::new();
    for (of, history) in [("account", account), ("campaign", campaigns)] {
        let Some(history) = history else {
            continue;
        };
        for (measure, curves) in measures(history) {
            let judged = backtest(curves, history.asked.date(), PROVISIONAL, &ages);
            tables.push(Table {
                of,
                measure,
                judged,
            });
        }
    }
    tables
}

fn judged_text(out: &mut impl Write, account: &Account, tables: &[Table]) -> io::Result<()> {
    writeln!(out, "{}", name(account))?;
    for Table {
        of,
        measure,
        judged,
    } in tables
    {
        writeln!(
            out,
            "\n  {measure} of {of} days, at most half of which were off by more"
        )?;
        if judged.is_empty() {
            writeln!(out, "  too few days that are final")?;
            continue;
        }
        let (age, days) = ("age", "days");
        writeln!(
            out,
            "  {age:>3} {days:>7} {:>10} {:>10} {:>10}",
            "expected", "known", "held"
        )?;
        for j in judged {
            let [expected, known, held] =
                [j.expected_error, j.known_error, j.held].map(|share| share * 100.0);
            let (age, days) = (j.age, j.days);
            writeln!(
                out,
                "  {age:>3} {days:>7} {expected:>8.1} % {known:>8.1} % {held:>8.1} %"
            )?;
        }
    }
    writeln!(out)
}

fn judged_document(account: &Account, tables: &[Table]) -> Value {
    let mut document = document(account);
    let tables = tables
        .iter()
        .map(|table| json!({ "of": table.of, "measure": table.measure, "ages": table.judged }));
    document["backtest"] = tables.collect();
    document
}

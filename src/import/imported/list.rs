//! `adflux import list`: what was imported, newest first, and how much of it counts.

use std::io::{self, Write};

use data_encoding::HEXLOWER;
use serde_json::{Value, json};

use super::{instant, short};
use crate::event::Platform;
use crate::import::Format;
use crate::import::databases::Urls;
use crate::reports::row::own_id;
use crate::store::read::imports::{self, Imported, Rows};
use crate::terminal;

/// Prints the newest imports, of one account or of all.
///
/// # Errors
/// When the database does not answer.
pub fn list(
    databases: &Urls,
    account: Option<&str>,
    limit: u32,
    format: Format,
) -> anyhow::Result<()> {
    let mut databases = databases.open()?;
    // However each platform writes it: 123-456-7890, act_123.
    let accounts = account.map(|id| Platform::ALL.map(|of| own_id(of, id)));
    let accounts = accounts.as_ref().map(<[String; 4]>::as_slice);
    let all = imports::list(databases.home(), accounts, limit.into())?;
    let files: Vec<Vec<u8>> = all.iter().map(|one| one.sha256.clone()).collect();
    let rows = databases.rows_of(&files)?;
    match format {
        Format::Json => {
            let all: Vec<Value> = all.iter().zip(&rows).map(document).collect();
            writeln!(io::stdout(), "{:#}", Value::from(all))?;
        }
        Format::Text if all.is_empty() => writeln!(terminal::out(), "nothing was imported")?,
        Format::Text => text(&mut terminal::out(), &all, &rows)?,
    }
    Ok(())
}

fn text(out: &mut impl Write, all: &[Imported], rows: &[Rows]) -> io::Result<()> {
    let head = [
        "IMPORTED", "FILE", "ROWS", "COUNT", "HISTORY", "DAYS", "ACCOUNT", "NAME",
    ];
    let lines: Vec<[String; 8]> = all.iter().zip(rows).map(line).collect();
    let mut widths = head.map(str::len);
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    for line in [head.map(str::to_owned)].iter().chain(&lines) {
        let mut text = String::new();
        for (nth, (cell, width)) in line.iter().zip(widths).enumerate() {
            // Numbers to the right.
            let cell = match nth {
                2..=4 => format!("{cell:>width$}  "),
                _ => format!("{cell:<width$}  "),
            };
            text.push_str(&cell);
        }
        writeln!(out, "{}", text.trim_end())?;
    }
    Ok(())
}

fn line((one, rows): (&Imported, &Rows)) -> [String; 8] {
    let days = match (one.first_day, one.last_day) {
        (Some(first), Some(last)) => format!("{first} to {last}"),
        _ => "none".to_owned(),
    };
    let counting = match one.undone_at {
        Some(at) if at >= one.observed_at => format!("{} (taken back)", rows.counting),
        _ => rows.counting.to_string(),
    };
    let imported = one.imported_at.datetime().unwrap_or_default();
    [
        imported.format("%Y-%m-%d %H:%M:%S").to_string(),
        short(&one.sha256),
        one.rows.to_string(),
        counting,
        rows.history.to_string(),
        days,
        account(one),
        one.name.replace(['\r', '\n'], " "),
    ]
}

/// Whose it is: a file may be of many accounts.
pub(super) fn account(one: &Imported) -> String {
    let platform = one.platform().map_or("?", |platform| platform.name());
    match one.accounts.as_slice() {
        [first, _, ..] => {
            let more = one.accounts.len().saturating_sub(1);
            format!("{platform} {first} and {more} more")
        }
        accounts => format!("{platform} {}", accounts.concat()),
    }
}

fn document((one, rows): (&Imported, &Rows)) -> Value {
    let options: Option<Value> = serde_json::from_str(&one.options).ok();
    json!({
        "sha256": HEXLOWER.encode(&one.sha256),
        "name": one.name,
        "shape": one.shape,
        "platform": one.platform().map(|platform| platform.name()),
        "accounts": one.accounts,
        "observed_at": instant(one.observed_at),
        "imported_at": instant(one.imported_at),
        "undone_at": one.undone_at.map(instant),
        "rows": one.rows.get(),
        "rows_counting": rows.counting.get(),
        "rows_in_history": rows.history.get(),
        "first_day": one.first_day,
        "last_day": one.last_day,
        "options": options,
    })
}

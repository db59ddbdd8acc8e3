//! `adflux import show`: what is known of a file, the file itself, or what came of a line of it.

use std::io::{self, Seek as _, Write};

use anyhow::Context as _;
use data_encoding::HEXLOWER;

use super::list::account;
use super::{find, instant};
use crate::event::Count;
use crate::import::databases::{Databases, Urls};
use crate::import::originals::Originals;
use crate::report_row::Values;
use crate::reports::source::{self, Limits};
use crate::reports::{at_line, shown};
use crate::store::read::imports::{self, File, SaidRow};
use crate::terminal;

/// So many rows are shown.
const TOLD: usize = 100;

/// What is to be seen.
pub struct Viewed {
    /// How the file's SHA-256 begins.
    pub hash: String,
    /// The file itself.
    pub original: bool,
    /// One line of it.
    pub line: Option<u64>,
    pub originals: Originals,
    pub databases: Urls,
}

/// Prints what is known of a file, or the file.
///
/// # Errors
/// When there is no such file, its content is not kept, or the database does not answer.
pub fn show(viewed: &Viewed) -> anyhow::Result<()> {
    let mut databases = viewed.databases.open()?;
    let file = find(databases.home(), &viewed.hash)?;
    if viewed.original {
        // As it is: whoever asks for it wants its bytes.
        let out = &mut io::stdout().lock();
        return viewed.originals.copy(databases.home(), &file, out);
    }
    let out = &mut terminal::out();
    match viewed.line {
        None => whole(out, &mut databases, &file),
        Some(number) => line(out, &mut databases, viewed, &file, number),
    }
}

fn whole(out: &mut impl Write, databases: &mut Databases, file: &File) -> anyhow::Result<()> {
    writeln!(out, "file        {}", HEXLOWER.encode(&file.sha256))?;
    let size = file
        .size
        .map_or("unknown: no import of it is noted".to_owned(), |size| {
            format!("{size} bytes")
        });
    let kept = match file.content_dropped_at {
        _ if file.is_kept => "kept in the database".to_owned(),
        Some(at) => format!("its content was dropped at {} (adflux retain)", instant(at)),
        None => "not in the database".to_owned(),
    };
    writeln!(out, "size        {size}; {kept}")?;
    for one in imports::of_file(databases.home(), file.file_id)? {
        writeln!(
            out,
            "imported    {}, as {}",
            instant(one.imported_at),
            one.name.replace(['\r', '\n'], " ")
        )?;
        writeln!(out, "  platform asked at {}", instant(one.observed_at))?;
        writeln!(out, "  recognised as {}, of {}", one.shape, account(&one))?;
        if let (Some(first), Some(last)) = (one.first_day, one.last_day) {
            writeln!(out, "  {} rows, {first} to {last}", one.rows)?;
        }
        writeln!(out, "  options {}", one.options)?;
    }
    if let Some(at) = file.undone_at {
        writeln!(
            out,
            "taken back  at {}: what it said up to then does not count",
            instant(at)
        )?;
    }
    let rows = databases.rows_of(std::slice::from_ref(&file.sha256))?;
    let rows = rows.first().copied().unwrap_or_default();
    writeln!(
        out,
        "rows        {} count; {} are history",
        rows.counting, rows.history
    )?;
    for row in databases.said(&file.sha256, None, TOLD)? {
        writeln!(out, "  {}", told_row(&row))?;
    }
    let more = rows.counting.get().saturating_sub(i64::try_from(TOLD)?);
    if more > 0 {
        writeln!(out, "  and {} more", Count::new(more))?;
    }
    Ok(())
}

fn line(
    out: &mut impl Write,
    databases: &mut Databases,
    viewed: &Viewed,
    file: &File,
    number: u64,
) -> anyhow::Result<()> {
    let rows = databases.said(&file.sha256, Some(i64::try_from(number)?), TOLD)?;
    let mut content = tempfile::tempfile()?;
    match viewed.originals.copy(databases.home(), file, &mut content) {
        Ok(()) => {
            content.rewind()?;
            for source in source::from_reader("the file", content, Limits::USUAL)? {
                match at_line::text(&source, number)? {
                    Some(text) => writeln!(out, "{}", text.trim_end())?,
                    None => writeln!(out, "the file ends before line {number}")?,
                }
            }
        }
        // What came of it is known all the same.
        Err(error) if !rows.is_empty() => writeln!(out, "{error:#}")?,
        Err(error) => return Err(error).context("the line cannot be shown"),
    }
    for row in &rows {
        let is = if row.counts { "counts" } else { "history" };
        writeln!(out, "{is:<8} {}", told_row(row))?;
    }
    if rows.is_empty() {
        writeln!(
            out,
            "no row that is known came of it: it said nothing new, or it is no row"
        )?;
    }
    Ok(())
}

fn told_row(row: &SaidRow) -> String {
    let mut text = match row.line {
        Some(line) => format!("line {line}: "),
        None => String::new(),
    };
    text.push_str(&format!("{} on {}", row.campaign_id, row.day));
    if !row.slice.is_empty() {
        text.push_str(&format!(", {}", row.slice));
    }
    text.push_str(&format!(", asked at {}:", instant(row.observed_at)));
    let numbers = Values::NAMES.iter().zip(row.values().numbers());
    for (index, (name, value)) in numbers.enumerate() {
        if let Some(value) = value {
            text.push_str(&format!(" {name} {}", shown(index, value.into())));
        }
    }
    if !row.values().say_something() {
        text.push_str(" withdrawn");
    }
    text
}

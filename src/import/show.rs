//! What was found in files and became of them, for people.

use std::fmt;
use std::io::{self, Write};

use super::Outcome;
use super::compare::{Change, Compared};
use super::files::Opened;
use crate::event::Count;
use crate::report_row::Values;
use crate::reports::check::{Gathered, Sums};
use crate::reports::shown;
use crate::time::rfc3339_exact;

/// Writes all of a call.
///
/// # Errors
/// When it cannot be written.
pub fn write(out: &mut impl Write, files: &[Opened], outcome: &Outcome) -> io::Result<()> {
    for one in files {
        file(out, one)?;
    }
    if let Outcome::Dry(Some(why)) = outcome {
        // libpq says it in several lines.
        let why = why.split_whitespace().collect::<Vec<_>>().join(" ");
        writeln!(
            out,
            "the database was not asked what is known already: {why}"
        )?;
    }
    writeln!(out, "{}", conclusion(files, outcome))
}

fn conclusion(files: &[Opened], outcome: &Outcome) -> String {
    let of = files.len();
    let sent: u64 = files.iter().map(|one| one.sent).sum();
    match outcome {
        Outcome::Refused => {
            let refused = files.iter().filter(|one| !one.report.is_good()).count();
            format!("refused: {refused} of {of}; all files of a call are sent, or none")
        }
        Outcome::Dry(_) => format!("all good: {of} of {of}; nothing was sent"),
        Outcome::Sent => format!("sent: {sent} rows"),
        Outcome::Counted => format!("sent and processed: {sent} rows"),
        Outcome::GivenUp => {
            format!("sent: {sent} rows; they are counted when a processor comes to them")
        }
    }
}

/// One line, whatever line ends a cell has.
fn line(text: impl fmt::Display) -> String {
    text.to_string().replace('\r', "\\r").replace('\n', "\\n")
}

fn file(out: &mut impl Write, one: &Opened) -> io::Result<()> {
    let report = &one.report;
    writeln!(out, "{}", line(&report.name))?;
    if let Some(shape) = &report.shape {
        writeln!(out, "  recognised  {}; {}", shape.name, shape.encoding)?;
        let zone = shape.zone.map_or("unknown", |zone| zone.name());
        let asked = shape
            .observed_at
            .map_or("unknown".to_owned(), rfc3339_exact);
        writeln!(out, "  time zone   {zone}; platform asked at {asked}")?;
        let gathered = &report.gathered;
        let repeated = Count::of(report.repeated.len());
        writeln!(
            out,
            "  rows        {}; equal duplicates {repeated}",
            gathered.rows
        )?;
        if let (Some(first), Some(last)) = (gathered.first_day, gathered.last_day) {
            writeln!(out, "  days        {first} to {last}")?;
        }
        writeln!(out, "  campaigns   {}", campaigns(gathered))?;
        writeln!(
            out,
            "  counts      conversions: {}; revenue: {}",
            line(&shape.conversions),
            line(&shape.revenue)
        )?;
        sums(out, one)?;
    }
    if let Some(name) = &one.same_as {
        writeln!(out, "  the same as {}: imported once", line(name))?;
    }
    if let Some(compared) = &one.compared {
        against_known(out, compared)?;
    }
    for warning in &report.warnings {
        writeln!(out, "  warning     {}", line(warning))?;
    }
    if report.refused > 0 {
        writeln!(out, "  refused     {}", report.refused)?;
        for refusal in &report.refusals {
            writeln!(out, "    {}", line(refusal))?;
        }
        let told = Count::of(report.refusals.len()).as_u64();
        let more = report.refused.saturating_sub(told);
        if more > 0 {
            writeln!(out, "    and {more} more")?;
        }
    }
    if one.sent > 0 {
        writeln!(out, "  sent        {}", one.sent)?;
    }
    if let Some(dead) = &one.dead {
        let refused: u64 = dead.iter().map(|dead| dead.rows).sum();
        writeln!(out, "  processed   {}", one.sent.saturating_sub(refused))?;
        for dead in dead {
            writeln!(
                out,
                "  dead        {} {}: {}",
                dead.rows, dead.reason, dead.explain
            )?;
            let lines: Vec<String> = dead.lines.iter().map(i64::to_string).collect();
            if !lines.is_empty() {
                writeln!(out, "    lines {}", lines.join(", "))?;
            }
        }
    }
    writeln!(out)
}

/// What the rows are to what is known.
fn against_known(out: &mut impl Write, compared: &Compared) -> io::Result<()> {
    writeln!(
        out,
        "  known       {} new; {} changed; {} unchanged; {} known already; {} superseded",
        compared.new,
        compared.changed.rows,
        compared.unchanged,
        compared.known,
        compared.superseded
    )?;
    for (what, change) in others(compared) {
        if change.rows > 0 {
            writeln!(out, "  {what:<10}  {}", change.rows)?;
        }
    }
    Ok(())
}

/// Changes that are not of the file's rows.
fn others(compared: &Compared) -> [(&'static str, &Change); 2] {
    [
        ("withdrawn", &compared.withdrawn),
        ("absent", &compared.absent),
    ]
}

fn campaigns(gathered: &Gathered) -> String {
    match gathered.campaigns() {
        Gathered::MOST_CAMPAIGNS => format!("{} or more", Gathered::MOST_CAMPAIGNS),
        number => number.to_string(),
    }
}

/// The table of sums: of the rows by currency, and what the file itself says.
fn sums(out: &mut impl Write, one: &Opened) -> io::Result<()> {
    let report = &one.report;
    let known = |sums: &Sums| -> Vec<String> {
        let told = sums.told().into_iter().zip(sums.unknown).enumerate();
        told.map(|(index, (sum, unknown))| match sum {
            None => "unknown".to_owned(),
            // Some rows did not say.
            Some(sum) if unknown > 0 => format!("{}?", shown(index, sum)),
            Some(sum) => shown(index, sum),
        })
        .collect()
    };
    let mut lines = Vec::new();
    for (currency, sums) in &report.gathered.sums {
        lines.push((format!("rows, {currency}"), known(sums)));
    }
    for total in &report.file_totals {
        let numbers = total.values.numbers().into_iter().enumerate();
        let numbers = numbers
            .map(|(index, value)| value.map_or("unknown".to_owned(), |v| shown(index, v.into())));
        let label = format!("{}, {}", total.place, line(&total.label));
        lines.push((label, numbers.collect()));
    }
    if let Some(compared) = &one.compared {
        let [withdrawn, absent] = others(compared);
        for (what, change) in [("changed", &compared.changed), withdrawn, absent] {
            for (currency, by) in &change.by {
                let cells = by.iter().enumerate();
                let cells = cells.map(|(index, sum)| match sum {
                    1.. => format!("+{}", shown(index, *sum)),
                    _ => shown(index, *sum),
                });
                lines.push((format!("{what} by, {currency}"), cells.collect()));
            }
        }
    }
    if lines.is_empty() {
        return Ok(());
    }
    let label_width = lines.iter().map(|(label, _)| label.chars().count()).max();
    let label_width = label_width.unwrap_or(0);
    let widths: Vec<usize> = Values::NAMES
        .iter()
        .enumerate()
        .map(|(index, name)| {
            let cells = lines.iter().filter_map(|(_, cells)| cells.get(index));
            cells.map(String::len).max().unwrap_or(0).max(name.len())
        })
        .collect();
    write!(out, "  {:label_width$}", "sums")?;
    for (name, width) in Values::NAMES.iter().zip(&widths) {
        write!(out, "  {name:>width$}")?;
    }
    writeln!(out)?;
    for (label, cells) in &lines {
        write!(out, "  {label:label_width$}")?;
        for (cell, width) in cells.iter().zip(&widths) {
            write!(out, "  {cell:>width$}")?;
        }
        writeln!(out)?;
    }
    let some_unknown = report.gathered.sums.values().any(|sums| {
        let mut unknown = sums.unknown.iter();
        unknown.any(|unknown| *unknown > 0 && *unknown < sums.rows)
    });
    if some_unknown {
        writeln!(out, "  ? some rows do not say it, which is not zero")?;
    }
    Ok(())
}

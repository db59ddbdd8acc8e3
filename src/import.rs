//! `adflux import`: what is in files of advertising platforms, read and checked.
//!
//! All files of one call are good, or none is taken. Nothing is sent yet.

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::event::Count;
use crate::report_row::Values;
use crate::reports::check::{Gathered, Sums};
use crate::reports::facts::Options;
use crate::reports::refusal::Refusal;
use crate::reports::source::{self, Limits};
use crate::reports::{self, FileReport, shown};
use crate::terminal;
use crate::time::rfc3339_exact;

/// How what was found is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Text,
    /// One document
    Json,
}

/// Some file was refused; what and why was written.
#[derive(Debug)]
pub struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a file was refused")
    }
}

impl std::error::Error for Refused {}

/// Reads and checks files, and writes what is in each. `-` is standard input.
///
/// # Errors
/// [`Refused`] when one is not good; others when what was found cannot be written.
pub fn check(files: &[PathBuf], options: &Options, format: Format) -> anyhow::Result<()> {
    let mut reports = Vec::new();
    for file in files {
        reports.extend(of_file(file, options)?);
    }
    match format {
        Format::Text => {
            let mut out = terminal::out();
            for report in &reports {
                text(&mut out, report)?;
            }
            writeln!(out, "{}", conclusion(&reports))?;
        }
        Format::Json => writeln!(io::stdout(), "{:#}", document(&reports))?,
    }
    if reports.iter().all(FileReport::is_good) {
        Ok(())
    } else {
        Err(Refused.into())
    }
}

/// What is in one file, which may be packed of several.
fn of_file(file: &Path, options: &Options) -> anyhow::Result<Vec<FileReport>> {
    let sources = if file == Path::new("-") {
        source::from_reader("standard input", io::stdin().lock(), Limits::USUAL)
    } else {
        source::open(file, Limits::USUAL)
    };
    let sources = match sources {
        Ok(sources) => sources,
        Err(refusal) => {
            let name = if file == Path::new("-") {
                "standard input".to_owned()
            } else {
                file.display().to_string()
            };
            return Ok(vec![FileReport::refused(&name, refusal)]);
        }
    };
    let mut reports = Vec::new();
    for source in sources {
        let bar = ProgressBar::new(source.length);
        bar.set_style(ProgressStyle::with_template(
            "{bar:40} {bytes}/{total_bytes} ({bytes_per_sec}, {eta} left)",
        )?);
        reports.push(reports::check(&source, options, &mut |read| {
            bar.set_position(read);
        }));
        bar.finish_and_clear();
    }
    Ok(reports)
}

/// One line, whatever line ends a cell has.
fn line(text: impl fmt::Display) -> String {
    text.to_string().replace('\r', "\\r").replace('\n', "\\n")
}

fn text(out: &mut impl Write, report: &FileReport) -> io::Result<()> {
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
        sums(out, report)?;
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
    writeln!(out)
}

fn campaigns(gathered: &Gathered) -> String {
    match gathered.campaigns() {
        Gathered::MOST_CAMPAIGNS => format!("{} or more", Gathered::MOST_CAMPAIGNS),
        number => number.to_string(),
    }
}

/// The table of sums: of the rows by currency, and what the file itself says.
fn sums(out: &mut impl Write, report: &FileReport) -> io::Result<()> {
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

fn conclusion(reports: &[FileReport]) -> String {
    let refused = reports.iter().filter(|report| !report.is_good()).count();
    let of = reports.len();
    if refused == 0 {
        format!("all good: {of} of {of}; nothing was sent")
    } else {
        format!("refused: {refused} of {of}; all files of a call are taken, or none")
    }
}

fn document(reports: &[FileReport]) -> Value {
    let files: Vec<_> = reports.iter().map(of_report).collect();
    json!({ "good": reports.iter().all(FileReport::is_good), "sent": 0, "files": files })
}

/// Sums as they are in the text: counts are whole, and what has a fraction is exact, as text.
fn numbers(values: impl Iterator<Item = Option<i128>>) -> Value {
    let named = Values::NAMES.iter().zip(values).enumerate();
    named
        .map(|(index, (name, value))| {
            let text: Option<String> = value.map(|value| shown(index, value));
            ((*name).to_owned(), Value::from(text))
        })
        .collect()
}

fn of_report(report: &FileReport) -> Value {
    let shape = report.shape.as_ref();
    let gathered = &report.gathered;
    let sums: Vec<_> = gathered
        .sums
        .iter()
        .map(|(currency, sums)| {
            let unknown: serde_json::Map<String, Value> = Values::NAMES
                .iter()
                .zip(sums.unknown)
                .map(|(name, rows)| ((*name).to_owned(), rows.into()))
                .collect();
            json!({
                "currency": currency.code(),
                "sums": numbers(sums.told().into_iter()),
                "rows_unknown": unknown,
            })
        })
        .collect();
    let totals: Vec<_> = report
        .file_totals
        .iter()
        .map(|total| {
            let values = total.values.numbers().into_iter();
            json!({
                "label": total.label,
                "place": total.place.to_string(),
                "sums": numbers(values.map(|value| value.map(i128::from))),
            })
        })
        .collect();
    json!({
        "name": report.name,
        "good": report.is_good(),
        "platform": shape.map(|shape| shape.platform),
        "shape": shape.map(|shape| &shape.name),
        "encoding": shape.map(|shape| &shape.encoding),
        "time_zone": shape.and_then(|shape| shape.zone).map(|zone| zone.name()),
        "observed_at": shape.and_then(|shape| shape.observed_at).map(rfc3339_exact),
        "rows": gathered.rows,
        "equal_duplicates": report.repeated.len(),
        "first_day": gathered.first_day,
        "last_day": gathered.last_day,
        "campaigns": gathered.campaigns(),
        "rows_by_currency": sums,
        "file_totals": totals,
        "warnings": report.warnings,
        "refused": report.refused,
        "refusals": report.refusals.iter().map(of_refusal).collect::<Vec<_>>(),
    })
}

fn of_refusal(refusal: &Refusal) -> Value {
    json!({
        "place": refusal.place.as_ref().map(ToString::to_string),
        "column": refusal.column,
        "value": refusal.value,
        "reason": refusal.reason,
        "what_to_do": refusal.remedy,
    })
}

//! What advertising platforms report: files of many shapes become report rows, or are refused with the reason.
//!
//! ```text
//! path or stdin ─▶ source: unpacked within limits ─▶ text: UTF-8 ─▶ grid: records ─▶ table ─┐
//!                                                            └────▶ json: reports ────────┤
//!                                     facts: account, zone, currency complete each row ◀──┘
//!                                     check: one row a key; sums against the file's own ─▶ FileRow
//! ```
//!
//! A file is read twice at least: first for how its numbers and days are written, which all of them say together, and
//! for what else holds over the whole file; then row by row. What is held in memory does not grow with a table. Nothing here
//! knows of Kafka or PostgreSQL.

// Bytes from outside come through here.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use crate::event::{CampaignId, Platform};
use crate::report_row::{Definition, Origin, ReportRow, Values};

pub mod answers;
pub mod at_line;
pub mod check;
pub mod day;
pub mod facts;
pub mod found;
pub mod grid;
pub mod header;
pub mod json;
pub mod map;
pub mod number;
pub mod refusal;
pub mod row;
pub mod source;
pub mod table;
pub mod text;

use check::{Gathered, Keys};
use facts::{Facts, Options};
use found::{FileTotal, Found};
use refusal::Refusal;
use row::{FileRow, Place};
use source::Source;

/// So many refused rows are told; the rest are counted.
pub const TOLD: usize = 20;

/// What was found in one file.
#[derive(Debug)]
pub struct FileReport {
    pub name: String,
    /// None where the file was refused before it was recognised.
    pub shape: Option<Shape>,
    /// Without repeated rows.
    pub gathered: Gathered,
    /// Rows that say again what an earlier one said.
    pub repeated: Vec<u64>,
    pub file_totals: Vec<FileTotal>,
    pub warnings: Vec<String>,
    /// The first [`TOLD`], in the order of the file.
    pub refusals: Vec<Refusal>,
    pub refused: u64,
}

/// What a file was recognised as.
#[derive(Clone, Debug)]
pub struct Shape {
    pub platform: Platform,
    pub name: String,
    pub encoding: String,
    pub zone: Option<Tz>,
    pub observed_at: Option<DateTime<Utc>>,
    /// What is counted as a conversion and as revenue, as the platform's API calls them where that is known.
    pub conversions: String,
    pub revenue: String,
}

impl Shape {
    /// A row of the file as it is said to the pipeline; none while zone or time are not known. `file`: its SHA-256.
    pub fn report_row<'a>(&'a self, row: &'a FileRow, file: [u8; 32]) -> Option<ReportRow<'a>> {
        Some(ReportRow {
            campaign_id: CampaignId::parse(&row.campaign_id).ok()?,
            campaign_name: &row.campaign_name,
            definition: Definition {
                platform: row.platform,
                account: &row.account,
                time_zone: self.zone?,
                currency: row.currency,
                conversions: &self.conversions,
                revenue: &self.revenue,
            },
            day: row.day,
            slice: &row.slice,
            observed_at: self.observed_at?.into(),
            values: row.values,
            origin: Origin {
                file: Some(file),
                line: i64::try_from(row.place.number()).ok(),
            },
        })
    }
}

impl FileReport {
    /// Of a file of which nothing was read yet.
    pub fn of(name: &str) -> FileReport {
        FileReport {
            name: name.to_owned(),
            shape: None,
            gathered: Gathered::default(),
            repeated: Vec::new(),
            file_totals: Vec::new(),
            warnings: Vec::new(),
            refusals: Vec::new(),
            refused: 0,
        }
    }

    /// Of a file of which nothing can be read.
    pub fn refused(name: &str, refusal: Refusal) -> FileReport {
        let mut report = FileReport::of(name);
        report.refuse(refusal);
        report
    }

    /// Whether all of it can be taken.
    pub fn is_good(&self) -> bool {
        self.refused == 0
    }

    /// Adds why it cannot be taken.
    pub fn refuse(&mut self, refusal: Refusal) {
        self.refused = self.refused.saturating_add(1);
        if self.refusals.len() < TOLD {
            self.refusals.push(refusal);
        }
    }
}

/// How a file is read.
enum Plan {
    Table(Box<table::Plan>),
    Answers(Box<answers::Plan>),
}

impl Plan {
    fn of(source: &Source, options: &Options) -> Result<Plan, Refusal> {
        if json::is_json(source)? {
            answers::plan(source, options).map(|plan| Plan::Answers(Box::new(plan)))
        } else {
            table::plan(source, options).map(|plan| Plan::Table(Box::new(plan)))
        }
    }

    fn facts(&self) -> &Facts {
        match self {
            Plan::Table(plan) => &plan.facts,
            Plan::Answers(plan) => &plan.facts,
        }
    }

    fn counted(&self) -> [&str; 2] {
        match self {
            Plan::Table(plan) => plan.counted(),
            Plan::Answers(plan) => plan.counted(),
        }
    }

    fn shape(&self) -> String {
        match self {
            Plan::Table(plan) => plan.shape(),
            Plan::Answers(plan) => plan.shape(),
        }
    }

    fn place(&self, number: u64) -> Place {
        match self {
            Plan::Table(plan) => plan.grid.place(number),
            Plan::Answers(_) => Place::Item(number),
        }
    }

    fn notes(&self) -> &[String] {
        match self {
            Plan::Table(plan) => &plan.notes,
            Plan::Answers(plan) => &plan.notes,
        }
    }

    fn for_each(
        &self,
        source: &Source,
        each: &mut dyn FnMut(Found, u64) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        match self {
            Plan::Table(plan) => plan.for_each(source, each),
            Plan::Answers(plan) => plan.for_each(source, each),
        }
    }
}

/// Reads and checks a file. `progress` is told how many of its bytes are behind.
pub fn check(source: &Source, options: &Options, progress: &mut dyn FnMut(u64)) -> FileReport {
    let plan = match Plan::of(source, options) {
        Ok(plan) => plan,
        Err(refusal) => return FileReport::refused(&source.name, refusal),
    };
    let [conversions, revenue] = plan.counted().map(str::to_owned);
    let mut report = FileReport {
        shape: Some(Shape {
            platform: plan.facts().platform,
            name: plan.shape(),
            encoding: match source.kind {
                source::Kind::Text(encoding) => encoding.to_string(),
                source::Kind::Workbook => "XLSX".to_owned(),
            },
            zone: plan.facts().zone,
            observed_at: plan.facts().observed_at,
            conversions,
            revenue,
        }),
        warnings: plan.notes().to_vec(),
        ..FileReport::of(&source.name)
    };
    if let Err(refusal) = gather(&plan, source, &mut report, progress) {
        report.refuse(refusal);
    }
    for flag in plan.facts().missing() {
        report.refuse(asked_for(flag));
    }
    report
}

/// Whose a file is, by its first good row; none where it does not say.
///
/// # Errors
/// Why it cannot be read at all.
pub fn account_of(
    source: &Source,
    options: &Options,
) -> Result<Option<(Platform, String)>, Refusal> {
    let plan = Plan::of(source, options)?;
    let mut account = None;
    let enough = plan.for_each(source, &mut |found, _| match found {
        Found::Row(row) => {
            account = Some((row.platform, row.account));
            Err(Refusal::new("that is enough"))
        }
        _ => Ok(()),
    });
    if account.is_none() {
        enough?;
    }
    let is_asked_for = plan.facts().missing().contains(&"--account");
    Ok(account.filter(|_| !is_asked_for))
}

/// What a flag would say.
fn asked_for(flag: &str) -> Refusal {
    let (reason, remedy) = match flag {
        "--account" => (
            "the file does not say of which account it is",
            "--account ID",
        ),
        "--time-zone" => (
            "the file does not say in which time zone its days are",
            "--time-zone ZONE, the account's, such as Europe/Berlin",
        ),
        "--currency" => (
            "the file does not say its currency",
            "--currency CODE, such as EUR",
        ),
        "--observed-at" => (
            "the file does not say when the platform was asked",
            "--observed-at TIME, such as 2024-06-04T09:00:00Z",
        ),
        _ => (
            "rows have no campaign id",
            "export with the column of the campaign's id, or --id-from-name: another name is another campaign then",
        ),
    };
    Refusal::new(reason).so(format!("say {remedy}"))
}

fn gather(
    plan: &Plan,
    source: &Source,
    report: &mut FileReport,
    progress: &mut dyn FnMut(u64),
) -> Result<(), Refusal> {
    let mut keys = Keys::default();
    let mut gathered = Gathered::default();
    let mut since = 0_u32;
    plan.for_each(source, &mut |found, read| {
        match found {
            Found::Row(row) => {
                keys.add(&row)?;
                gathered.add(&row);
            }
            Found::Total(total) => {
                if report.file_totals.len() < TOLD {
                    report.file_totals.push(total);
                }
            }
            Found::Refused(refusal) => report.refuse(refusal),
            Found::Conversions(name) => {
                if let Some(shape) = &mut report.shape {
                    shape.conversions = name;
                }
            }
            Found::Note(note) => report.warnings.push(note),
        }
        since = since.wrapping_add(1);
        if since.is_multiple_of(4096) {
            progress(read);
        }
        Ok(())
    })?;
    let shared = keys.finish()?;
    for (first, second) in &shared.contradicting {
        report.refuse(
            Refusal::new(format!(
                "says something else of the same campaign and day than {}",
                plan.place(*first)
            ))
            .at(plan.place(*second))
            .so("is there a breakdown in the report that no column shows? Export without it, or with its column"),
        );
    }
    let told = u64::try_from(shared.contradicting.len()).unwrap_or(u64::MAX);
    report.refused = report
        .refused
        .saturating_add(shared.contradictions.saturating_sub(told));
    if shared.repeated.is_empty() {
        report.gathered = gathered;
    } else {
        let mut once = Gathered::default();
        each_once(plan, source, &shared.repeated, &mut |row| {
            once.add(&row);
            Ok(())
        })?;
        report.gathered = once;
        report.repeated = shared.repeated;
    }
    compare(report);
    Ok(())
}

fn each_once(
    plan: &Plan,
    source: &Source,
    repeated: &[u64],
    each: &mut dyn FnMut(FileRow) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    plan.for_each(source, &mut |found, _| match found {
        Found::Row(row) if repeated.binary_search(&row.place.number()).is_err() => each(row),
        _ => Ok(()),
    })
}

/// Hands over the rows of a file that [`check()`] found good, each key once.
///
/// # Errors
/// When the file is not what it was.
pub fn rows(
    source: &Source,
    options: &Options,
    checked: &FileReport,
    each: &mut dyn FnMut(FileRow) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let plan = Plan::of(source, options)?;
    each_once(&plan, source, &checked.repeated, each)
}

/// Warns where a file's own sums are others than those of its rows.
fn compare(report: &mut FileReport) {
    // Over several currencies no file has a sum.
    let Some((_, sums)) = report.gathered.sums.first_key_value() else {
        return;
    };
    if report.gathered.sums.len() > 1 {
        return;
    }
    for total in &report.file_totals {
        for ((name, value), (index, sum)) in Values::NAMES
            .iter()
            .zip(total.values.numbers())
            .zip(sums.known.iter().enumerate())
        {
            let Some(value) = value else {
                continue;
            };
            if *sum != i128::from(value) {
                report.warnings.push(format!(
                    "{}, '{}': {name} {}, and the rows add up to {}",
                    total.place,
                    total.label,
                    shown(index, value.into()),
                    shown(index, *sum)
                ));
            }
        }
    }
}

/// A sum as a person reads it; the first two are counts, the others in millionths.
pub fn shown(index: usize, sum: i128) -> String {
    if index < 2 {
        sum.to_string()
    } else {
        crate::event::Millionths(sum).to_string()
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests;

//! The rows of a table, read as is planned.

use std::ops::ControlFlow;

use chrono::NaiveDate;

use super::Plan;
use super::counted::{Results, action};
use crate::event::{Conversions, Count, Money, Platform};
use crate::report_row::Values;
use crate::reports::day;
use crate::reports::facts::{Draft, add_slice};
use crate::reports::found::{FileTotal, Found};
use crate::reports::grid::{self, Grid, Record};
use crate::reports::header::{Column, Field, Layout};
use crate::reports::number::{self, Fault};
use crate::reports::refusal::Refusal;
use crate::reports::row::{FileRow, Place};
use crate::reports::source::Source;

/// The columns that a row is read from.
struct Columns<'a> {
    day: Option<&'a Column>,
    day_end: Option<&'a Column>,
    campaign_id: Option<&'a Column>,
    campaign_name: Option<&'a Column>,
    account: Option<&'a Column>,
    currency: Option<&'a Column>,
    impressions: Option<&'a Column>,
    clicks: Option<&'a Column>,
    cost: Option<&'a Column>,
    conversions: Option<&'a Column>,
    revenue: Option<&'a Column>,
    kind: Option<&'a Column>,
    attribution: Option<&'a Column>,
}

impl<'a> Columns<'a> {
    fn of(layout: &'a Layout) -> Columns<'a> {
        Columns {
            day: layout.column(Field::Day),
            day_end: layout.column(Field::DayEnd),
            campaign_id: layout.column(Field::CampaignId),
            campaign_name: layout.column(Field::CampaignName),
            account: layout.column(Field::AccountId),
            currency: layout.column(Field::Currency),
            impressions: layout.column(Field::Impressions),
            clicks: layout.column(Field::Clicks),
            cost: layout.column(Field::Cost),
            conversions: layout.column(Field::Conversions),
            revenue: layout.column(Field::Revenue),
            kind: layout.column(Field::ResultKind),
            attribution: layout.column(Field::Attribution),
        }
    }
}

fn text<'r>(record: &'r Record, column: Option<&Column>) -> &'r str {
    column.map_or("", |column| number::bare(record.cell(column.index)))
}

/// What differs from row to row and should not, or is worth a word.
#[derive(Default)]
struct Mixed {
    kind: Option<(u64, String)>,
    /// Of the only kind that counts: whether it was there, and what else was.
    has_wanted: bool,
    unwanted: Option<String>,
    attributions: Vec<String>,
}

impl Plan {
    /// What is counted as a conversion and as revenue.
    pub fn counted(&self) -> [&str; 2] {
        [&self.counted.conversions, &self.counted.revenue]
    }

    /// What the file was recognised as.
    pub fn shape(&self) -> String {
        let platform = match self.layout.platform {
            Platform::Google => "Google Ads",
            Platform::Meta => "Meta Ads Manager",
            Platform::LinkedIn => "LinkedIn Campaign Manager",
            Platform::TikTok => "TikTok Ads Manager",
        };
        let form = match &self.grid {
            Grid::Csv { separator: b'\t' } => "tab-separated",
            Grid::Csv { separator: b';' } => "CSV with semicolons",
            Grid::Csv { .. } => "CSV",
            Grid::Sheet { .. } => "XLSX",
        };
        format!("{platform}, {form}")
    }

    /// Hands over every row, refusal and sum of the file.
    ///
    /// # Errors
    /// What is wrong with the file as a whole.
    pub fn for_each(
        &self,
        source: &Source,
        each: &mut dyn FnMut(Found, u64) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let columns = Columns::of(&self.layout);
        let mut mixed = Mixed::default();
        let (mut first, mut last): (Option<NaiveDate>, Option<NaiveDate>) = (None, None);
        grid::for_each(source, &self.grid, &mut |record, read| {
            if record.number <= self.header || record.is_blank() {
                return Ok(ControlFlow::Continue(()));
            }
            let found = self.row(record, &columns, &mut mixed);
            if let Some(Found::Row(row)) = &found {
                first = Some(first.map_or(row.day, |day| day.min(row.day)));
                last = last.max(Some(row.day));
            }
            if let Some(found) = found {
                each(found, read)?;
            }
            Ok(ControlFlow::Continue(()))
        })?;
        if let Some((_, kind)) = mixed.kind {
            each(Found::Conversions(action(&kind).to_owned()), 0)?;
        }
        if let (Results::Only(wanted), false, Some(kind)) =
            (&self.counted.results, mixed.has_wanted, mixed.unwanted)
        {
            let note = format!(
                "no result is of the kind '{wanted}', but some are '{kind}': conversions are unknown"
            );
            each(Found::Note(note), 0)?;
        }
        if mixed.attributions.len() > 1 {
            let note = format!(
                "attribution settings differ from row to row: {}",
                mixed.attributions.join(", ")
            );
            each(Found::Note(note), 0)?;
        }
        let (start, end) = (self.titles.start, self.titles.end);
        if start.is_some() && end > start && first == start && last == start {
            return Err(Refusal::new(
                "the report is of several days, and all its rows are of the first: each sums up all days",
            )
            .so("export by day: choose 'daily' as the time breakdown"));
        }
        Ok(())
    }

    /// What a record is; none: nothing that says anything.
    fn row(&self, record: &Record, columns: &Columns<'_>, mixed: &mut Mixed) -> Option<Found> {
        let place = self.grid.place(record.number);
        let only = || {
            let mut cells = record.cells.iter().filter(|cell| !cell.trim().is_empty());
            let first = cells.next();
            first.filter(|_| cells.next().is_none())
        };
        if only().is_some_and(|text| text.trim().eq_ignore_ascii_case("No data available.")) {
            return None;
        }
        if let Some(label) = self.is_total(record, columns) {
            return Some(
                match self.values(record, columns, &place, mixed, [false; 2]) {
                    Ok(values) => Found::Total(FileTotal {
                        label,
                        place,
                        values,
                    }),
                    Err(refusal) => Found::Refused(refusal),
                },
            );
        }
        Some(match self.report(record, columns, place, mixed) {
            Ok(row) => Found::Row(row),
            Err(refusal) => Found::Refused(refusal),
        })
    }

    /// How a row is called that sums up others.
    fn is_total(&self, record: &Record, columns: &Columns<'_>) -> Option<String> {
        let has_campaign = !text(record, columns.campaign_id).is_empty()
            || !text(record, columns.campaign_name).is_empty();
        if self.layout.platform == Platform::Meta {
            let has_values = [columns.cost, columns.impressions]
                .into_iter()
                .any(|column| !text(record, column).is_empty());
            return (!has_campaign && has_values).then(|| "the row without a campaign".to_owned());
        }
        let first = record
            .cells
            .iter()
            .map(str::trim)
            .find(|cell| !cell.is_empty())?;
        let lower = first.to_lowercase();
        let begins = self
            .layout
            .totals
            .iter()
            .any(|name| lower.starts_with(name.as_str()));
        // A campaign may be called so too.
        (begins && day::read(text(record, columns.day)).is_none()).then(|| first.to_owned())
    }

    fn report(
        &self,
        record: &Record,
        columns: &Columns<'_>,
        place: Place,
        mixed: &mut Mixed,
    ) -> Result<FileRow, Refusal> {
        let day = self.day(record, columns, &place)?;
        let values = self.values(record, columns, &place, mixed, self.empty_is_zero)?;
        if let Some(column) = columns.campaign_id {
            exact_id(record, column, &place)?;
        }
        if let Some(column) = columns.account {
            exact_id(record, column, &place)?;
        }
        let mut slice = String::new();
        let (mut has, mut bit) = (0_u64, 1_u64);
        for (name, column) in &self.layout.slices {
            let value = text(record, Some(column));
            if !value.is_empty() {
                has |= bit;
                add_slice(&mut slice, name, value);
            }
            bit = bit.wrapping_shl(1);
        }
        self.facts.same_grain(&place, has)?;
        if let Some(column) = columns.attribution {
            let setting = text(record, Some(column));
            let known = mixed.attributions.iter().any(|there| there == setting);
            if !setting.is_empty() && !known && mixed.attributions.len() < 10 {
                mixed.attributions.push(setting.to_owned());
            }
        }
        let currency = text(record, columns.currency);
        self.facts.complete(Draft {
            place,
            account: text(record, columns.account),
            campaign_id: text(record, columns.campaign_id),
            campaign_name: text(record, columns.campaign_name),
            currency: if number::is_unknown(currency) {
                ""
            } else {
                currency
            },
            day,
            slice,
            values,
        })
    }

    fn day(
        &self,
        record: &Record,
        columns: &Columns<'_>,
        place: &Place,
    ) -> Result<NaiveDate, Refusal> {
        let read = |column: &Column| {
            let cell = record.cell(column.index);
            day::in_order(cell, self.order).ok_or_else(|| {
                let refusal = Refusal::new("not a day, or not written as the file's other days");
                refusal
                    .at(place.clone())
                    .of(&column.name, cell)
                    .so("days are written as 2024-06-03")
            })
        };
        let Some(column) = columns.day else {
            return Err(Refusal::new("no column for the day; this is a bug"));
        };
        let day = read(column)?;
        let Some(end_column) = columns.day_end else {
            return Ok(day);
        };
        // With a breakdown by day the range is the report's, and the day is the row's.
        if self.has_breakdown_by_day(column) {
            return Ok(day);
        }
        let end = read(end_column)?;
        if end != day {
            return Err(Refusal::new(format!("the row sums up {day} to {end}"))
                .at(place.clone())
                .of(&end_column.name, record.cell(end_column.index))
                .so("export by day: choose the breakdown 'Day'"));
        }
        Ok(day)
    }

    /// Whether the column of the day is another one than that of the range's start.
    fn has_breakdown_by_day(&self, day: &Column) -> bool {
        ["day", "tag", "jour", "día", "dia"].contains(&day.name.to_lowercase().as_str())
    }

    fn values(
        &self,
        record: &Record,
        columns: &Columns<'_>,
        place: &Place,
        mixed: &mut Mixed,
        [no_conversions, no_revenue]: [bool; 2],
    ) -> Result<Values, Refusal> {
        let amount = |column: Option<&Column>| self.number(record, column, place, false);
        let count = |column: Option<&Column>| self.number(record, column, place, true);
        let measured = |column: Option<&Column>, is_zero: bool| {
            let is_empty = text(record, column).is_empty();
            if is_zero && is_empty {
                Ok(Some(0))
            } else {
                amount(column)
            }
        };
        let mut conversions = measured(columns.conversions, no_conversions)?;
        let kind = text(record, columns.kind);
        match &self.counted.results {
            Results::Not => {}
            Results::Only(wanted) => {
                if action(kind) == action(wanted) {
                    mixed.has_wanted = true;
                } else {
                    conversions = None;
                    if mixed.unwanted.is_none() && !kind.is_empty() {
                        mixed.unwanted = Some(kind.to_owned());
                    }
                }
            }
            Results::OneKind if kind.is_empty() => {}
            Results::OneKind => match &mixed.kind {
                None => mixed.kind = Some((record.number, kind.to_owned())),
                Some((_, first)) if first == kind => {}
                Some((number, first)) => {
                    let name = columns.kind.map_or("", |column| &column.name);
                    return Err(Refusal::new(format!(
                        "its results are of another kind than those of {}, '{first}': they cannot be added",
                        self.grid.place(*number)
                    ))
                    .at(place.clone())
                    .of(name, kind)
                    .so("say with --conversions NAME which kind or which column counts"));
                }
            },
        }
        Ok(Values {
            impressions: count(columns.impressions)?.map(Count::new),
            clicks: count(columns.clicks)?.map(Count::new),
            conversions: conversions.map(Conversions::new),
            cost: amount(columns.cost)?.map(Money::new),
            revenue: measured(columns.revenue, no_revenue)?.map(Money::new),
        })
    }

    /// A number: of a count the count, of an amount the millionths; none if it is not known.
    fn number(
        &self,
        record: &Record,
        column: Option<&Column>,
        place: &Place,
        is_count: bool,
    ) -> Result<Option<i64>, Refusal> {
        let Some(column) = column else {
            return Ok(None);
        };
        let cell = record.cell(column.index);
        if number::is_unknown(cell) {
            return Ok(None);
        }
        let value = match (record.is_number(column.index), is_count) {
            (true, true) => number::double_whole(cell),
            (true, false) => number::double_millionths(cell),
            (false, true) => number::whole(cell, self.decimal),
            (false, false) => number::millionths(cell, self.decimal),
        };
        value.map(Some).map_err(|fault| {
            let mark = self.decimal.character();
            let remedy = match fault {
                Fault::NotANumber => format!(
                    "fractions of this file stand behind '{mark}'; --decimal says otherwise"
                ),
                _ => "look at the cell in the platform".to_owned(),
            };
            Refusal::new(fault.reason())
                .at(place.clone())
                .of(&column.name, cell)
                .so(remedy)
        })
    }
}

/// Refuses an id that a spreadsheet has kept as a number and may have rounded.
fn exact_id(record: &Record, column: &Column, place: &Place) -> Result<(), Refusal> {
    let cell = number::bare(record.cell(column.index));
    let digits = cell.len();
    let is_double = record.is_number(column.index) && digits > 15;
    if is_double || is_shortened(cell) {
        return Err(Refusal::new(
            "an id that a spreadsheet has kept as a number, which loses digits",
        )
        .at(place.clone())
        .of(&column.name, cell)
        .so("import the file as the platform made it, not as a spreadsheet saved it"));
    }
    Ok(())
}

/// `1.20212E+17`.
fn is_shortened(cell: &str) -> bool {
    cell.contains(['E', 'e'])
        && cell
            .chars()
            .all(|c| c.is_ascii_digit() || matches!(c, 'E' | 'e' | '+' | '.' | ','))
}

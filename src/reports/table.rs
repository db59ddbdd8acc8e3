//! Tables: title lines, a header, rows, and rows that sum up others.

use std::ops::ControlFlow;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};

use crate::event::{Conversions, Count, Money, Platform};
use crate::report_row::Values;

use super::day::{self, Order, Orders};
use super::facts::{Draft, Facts, OfFile, Options, add_slice, named};
use super::found::{FileTotal, Found};
use super::grid::{self, Grid, Record};
use super::header::{self, Column, Field, Layout};
use super::number::{self, Decimal, Fault, Hints};
use super::refusal::Refusal;
use super::row::{FileRow, Place};
use super::source::{Kind, Source};

/// The header stands among so many records from the start.
const HEADER_WITHIN: u64 = 60;

/// How a table is read.
#[derive(Debug)]
pub struct Plan {
    pub grid: Grid,
    pub layout: Layout,
    pub facts: Facts,
    header: u64,
    titles: Titles,
    decimal: Decimal,
    order: Option<Order>,
    counted: Counted,
    /// Whether an empty cell of conversions, and of revenue, is zero.
    empty_is_zero: [bool; 2],
    /// What a person should know, though nothing is wrong.
    pub notes: Vec<String>,
}

/// What the lines before the header say.
#[derive(Clone, Debug, Default)]
struct Titles {
    generated: Option<DateTime<Utc>>,
    start: Option<NaiveDate>,
    end: Option<NaiveDate>,
}

impl Titles {
    /// LinkedIn writes `Date Generated: …`, `Report Start: …`, `Report End: …`.
    fn add(&mut self, line: &str) {
        let Some((name, text)) = line.split_once(':') else {
            return;
        };
        let (name, text) = (name.trim().to_lowercase(), text.trim());
        match name.as_str() {
            "date generated" | "generated" => self.generated = instant(text),
            "report start" => self.start = first_day(text),
            "report end" => self.end = first_day(text),
            _ => {}
        }
    }
}

/// `July 3, 2024, 9:05 AM`, and days before a time of day in general; in UTC.
fn instant(text: &str) -> Option<DateTime<Utc>> {
    if let Ok(time) = crate::time::parse_rfc3339(text) {
        return Some(time);
    }
    let text = text.trim_end_matches(" UTC").trim_end_matches(" (UTC)");
    let upper = text.to_uppercase();
    let (clock, half) = match (upper.strip_suffix("AM"), upper.strip_suffix("PM")) {
        (Some(rest), _) => (rest.trim_end(), Some(0)),
        (_, Some(rest)) => (rest.trim_end(), Some(12)),
        _ => (upper.as_str(), None),
    };
    let (day, clock) = clock.rsplit_once([' ', '\u{202f}', 'T'])?;
    let day = day::in_order(day.trim_end_matches([',', ' ']), None)?;
    let mut parts = clock.split(':').map(str::parse::<u32>);
    let hour = parts.next()?.ok()?;
    let minute = parts.next()?.ok()?;
    let second = parts.next().and_then(Result::ok).unwrap_or(0);
    let hour = match half {
        Some(half) if (1..=12).contains(&hour) => hour.checked_rem(12)?.checked_add(half)?,
        Some(_) => return None,
        None => hour,
    };
    let time = NaiveTime::from_hms_opt(hour, minute, second)?;
    Some(day.and_time(time).and_utc())
}

/// The day that a text begins with, before a time of day.
fn first_day(text: &str) -> Option<NaiveDate> {
    day::in_order(text, None).or_else(|| instant(text).map(|time| time.date_naive()))
}

/// What Meta's column `Results` counts, which differs from row to row.
#[derive(Clone, Debug)]
enum Results {
    /// It is not read, or it is another column.
    Not,
    /// All rows must be of one kind.
    OneKind,
    /// Rows of other kinds have no conversions that are known.
    Only(String),
}

/// What is counted as a conversion and as revenue.
#[derive(Clone, Debug)]
pub struct Counted {
    pub conversions: String,
    pub revenue: String,
    results: Results,
}

/// A kind of results, as the API calls the action.
fn action(kind: &str) -> &str {
    kind.strip_prefix("actions:").unwrap_or(kind)
}

/// Whether a column is Meta's `Results`.
fn is_results(column: &Column) -> bool {
    let name = column.name.to_lowercase();
    ["results", "ergebnisse", "résultats", "resultados"].contains(&name.as_str())
}

/// Finds out how a table is read.
///
/// # Errors
/// Why it cannot be.
pub fn plan(source: &Source, options: &Options) -> Result<Plan, Refusal> {
    let (grid, header, mut layout, titles) = find_header(source, options)?;
    if layout.column(Field::Day).is_none() {
        return Err(Refusal::new("no column says the day of a row")
            .at(grid.place(header))
            .so("export by day: add the day to the report's columns or breakdowns"));
    }
    let mut notes = Vec::new();
    let counted = counted(&mut layout, options, &mut notes)?;
    let styles = styles(source, &grid, header, &layout, options)?;
    let map = options.map.as_ref();
    let is_utc = layout.is_utc || layout.platform == Platform::LinkedIn && map.is_none();
    let of_file = OfFile {
        zone: map
            .and_then(|m| m.zone)
            .or(is_utc.then_some(chrono_tz::UTC)),
        currency: map.and_then(|m| m.currency).or(layout.currency),
        observed_at: titles.generated,
    };
    let with_account = Options {
        account: options
            .account
            .clone()
            .or_else(|| map.and_then(|m| m.account.clone())),
        ..options.clone()
    };
    let facts = Facts::new(layout.platform, &with_account, of_file)?;
    Ok(Plan {
        grid,
        layout,
        facts,
        header,
        titles,
        decimal: styles.decimal,
        order: styles.order,
        counted,
        empty_is_zero: styles.empty_is_zero,
        notes,
    })
}

/// Which columns are conversions and revenue, and what they count. What no column says is called as what it would be.
fn counted(
    layout: &mut Layout,
    options: &Options,
    notes: &mut Vec<String>,
) -> Result<Counted, Refusal> {
    let remembered = options.remembered.as_ref();
    let [conversions, revenue] = header::usual(layout.platform);
    if let Some(name) = &options.revenue {
        layout.choose(Field::Revenue, name, "--revenue")?;
    } else if let Some(known) = remembered {
        layout.choose_called(Field::Revenue, &known.revenue);
    }
    let revenue = match (layout.called(Field::Revenue), remembered) {
        (Some(column), Some(known)) => {
            known.agrees(&column, &known.revenue, "the revenue", named)?;
            column
        }
        (Some(column), None) => column,
        (None, Some(known)) => known.revenue.clone(),
        (None, None) => revenue.to_owned(),
    };
    let results = results(layout, options, notes)?;
    let column = match &results {
        Results::Only(kind) => Some(action(kind).to_owned()),
        // What they are, the rows say.
        Results::OneKind => None,
        Results::Not => layout.called(Field::Conversions),
    };
    let conversions = match (column, remembered) {
        (Some(column), Some(known)) => {
            known.agrees(&column, &known.conversions, "the conversion", named)?;
            column
        }
        (Some(column), None) => column,
        (None, Some(known)) => known.conversions.clone(),
        (None, None) => conversions.to_owned(),
    };
    Ok(Counted {
        conversions,
        revenue,
        results,
    })
}

/// Which column is conversions, and of which rows.
fn results(
    layout: &mut Layout,
    options: &Options,
    notes: &mut Vec<String>,
) -> Result<Results, Refusal> {
    let has_kinds = layout.column(Field::ResultKind).is_some();
    if let Some(name) = &options.conversions {
        let chosen = layout.choose(Field::Conversions, name, "--conversions");
        let results = || {
            layout.names.iter().find(|name| {
                let name = (*name).clone();
                is_results(&Column { index: 0, name })
            })
        };
        return match (chosen, results().cloned()) {
            (Ok(()), _) => Ok(Results::Not),
            (Err(_), Some(results)) if has_kinds => {
                layout.choose(Field::Conversions, &results, "--conversions")?;
                Ok(Results::Only(name.clone()))
            }
            (Err(refusal), _) => Err(refusal),
        };
    }
    let remembered = options.remembered.as_ref();
    if remembered.is_some_and(|k| layout.choose_called(Field::Conversions, &k.conversions)) {
        return Ok(Results::Not);
    }
    match layout.column(Field::Conversions) {
        Some(column) if is_results(column) && has_kinds => Ok(match remembered {
            Some(known) if !known.may_differ => Results::Only(known.conversions.clone()),
            _ => Results::OneKind,
        }),
        Some(column) if is_results(column) => {
            notes.push(format!(
                "column '{}' may count a different thing in each row: conversions stay unknown; --conversions names a column",
                column.name
            ));
            layout.forget(Field::Conversions);
            Ok(Results::Not)
        }
        _ => Ok(Results::Not),
    }
}

/// The header, and what stands before it.
fn find_header(source: &Source, options: &Options) -> Result<(Grid, u64, Layout, Titles), Refusal> {
    let grids: Vec<Grid> = match source.kind {
        Kind::Text(_) => [b',', b';', b'\t']
            .map(|separator| Grid::Csv { separator })
            .to_vec(),
        Kind::Workbook => grid::sheets(source)?
            .into_iter()
            .map(|name| Grid::Sheet { name })
            .collect(),
    };
    let mut broken: Option<Refusal> = None;
    for grid in grids {
        let mut titles = Titles::default();
        let mut found: Option<(u64, Layout)> = None;
        let mut seen = 0_u64;
        let end = grid::for_each(source, &grid, &mut |record, _| {
            let cells: Vec<&str> = record.cells.iter().collect();
            let layout = match &options.map {
                Some(map) => map.layout(&cells),
                None => header::recognised(&cells)?,
            };
            if let Some(layout) = layout {
                found = Some((record.number, layout));
                return Ok(ControlFlow::Break(()));
            }
            titles.add(&cells.join(","));
            seen = seen.saturating_add(1);
            Ok(if seen < HEADER_WITHIN {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            })
        });
        if let Err(refusal) = end {
            // Read with another separator it may be well: with this one, what is in quotes is not.
            broken.get_or_insert(refusal);
        } else if let Some((header, layout)) = found {
            return Ok((grid, header, layout, titles));
        }
    }
    Err(broken.unwrap_or_else(|| match &options.map {
        Some(map) => Refusal::new("no line has all the columns that --map names").so(format!(
            "they are: {}",
            map.names()
        )),
        None => Refusal::new(
            "no line is the header of a report that is known: of Google Ads, Meta, TikTok or LinkedIn",
        )
        .so("export with campaign, day and cost or clicks among the columns, or say with --map FILE what each column is"),
    }))
}

/// How a file is written.
struct Styles {
    decimal: Decimal,
    order: Option<Order>,
    /// See [`Plan`].
    empty_is_zero: [bool; 2],
}

/// How the file writes numbers and days. Reads as far as it takes.
fn styles(
    source: &Source,
    grid: &Grid,
    header: u64,
    layout: &Layout,
    options: &Options,
) -> Result<Styles, Refusal> {
    let mut hints = Hints::default();
    let mut orders = Orders::default();
    let day = layout.column(Field::Day).map(|column| column.index);
    let end = layout.column(Field::DayEnd).map(|column| column.index);
    let amounts = [Field::Cost, Field::Conversions, Field::Revenue]
        .map(|field| layout.column(field).map(|column| column.index));
    // Where Meta attributes nothing it writes nothing. That the account measures it at all, a number in the column shows.
    let may_be_zero = [Field::Conversions, Field::Revenue].map(|field| {
        let column = layout.column(field).map(|column| column.index);
        column.filter(|_| layout.platform == Platform::Meta)
    });
    let mut empty_is_zero = [false; 2];
    let counts = [Field::Impressions, Field::Clicks]
        .map(|field| layout.column(field).map(|column| column.index));
    let is_text: Vec<usize> = [Field::CampaignId, Field::CampaignName, Field::AccountId]
        .iter()
        .filter_map(|field| layout.column(*field))
        .chain(layout.slices.iter().map(|(_, column)| column))
        .map(|column| column.index)
        .chain(day)
        .chain(end)
        .collect();
    grid::for_each(source, grid, &mut |record, _| {
        if record.number <= header {
            return Ok(ControlFlow::Continue(()));
        }
        for (index, cell) in record.cells.iter().enumerate() {
            let kind = if amounts.contains(&Some(index)) {
                number::Column::Amount
            } else if counts.contains(&Some(index)) {
                number::Column::Count
            } else if Some(index) == day || Some(index) == end {
                orders.add(cell, record.number);
                continue;
            } else if is_text.contains(&index) {
                continue;
            } else {
                number::Column::Other
            };
            if !record.is_number(index) {
                hints.add(cell, kind, record.number);
            }
        }
        for (is_zero, column) in empty_is_zero.iter_mut().zip(may_be_zero) {
            let cell = column.map_or("", |column| record.cell(column));
            *is_zero |= !number::is_unknown(cell);
        }
        let decided = options.decimal.is_some() || hints.is_certain();
        let pairs = empty_is_zero.iter().zip(may_be_zero);
        let measured = pairs.fold(true, |all, (zero, column)| {
            all && (*zero || column.is_none())
        });
        Ok(if decided && measured && orders.is_certain() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        })
    })?;
    let decimal = match options.decimal {
        Some(decimal) => decimal,
        None => hints.decide().map_err(|(number, text)| {
            Refusal::new(format!(
                "'{text}' can be read in two ways, and no other number of the file says which"
            ))
            .at(grid.place(number))
            .so("say with --decimal . or --decimal , what stands before the fraction")
        })?,
    };
    let order = orders.decide().map_err(|(number, text)| {
        Refusal::new(format!(
            "'{text}' can be read as two days, and no other day of the file says which"
        ))
        .at(grid.place(number))
        .so("export with days such as 2024-06-03, or more of the month")
    })?;
    Ok(Styles {
        decimal,
        order,
        empty_is_zero,
    })
}

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

//! Tables: title lines, a header, rows, and rows that sum up others.

use std::ops::ControlFlow;

use crate::event::Platform;

use super::day::Order;
use super::facts::{Facts, OfFile, Options};
use super::grid::{self, Grid};
use super::header::{self, Field, Layout};
use super::number::Decimal;
use super::refusal::Refusal;
use super::source::{Kind, Source};

mod counted;
mod rows;
mod styles;
mod titles;

use counted::{Counted, counted};
use styles::styles;
use titles::Titles;

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

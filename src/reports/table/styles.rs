//! How a table writes numbers and days, which all of its cells tell together.

use std::ops::ControlFlow;

use crate::event::Platform;
use crate::reports::day::{Order, Orders};
use crate::reports::facts::Options;
use crate::reports::grid::{self, Grid};
use crate::reports::header::{Field, Layout};
use crate::reports::number::{self, Decimal, Hints};
use crate::reports::refusal::Refusal;
use crate::reports::source::Source;

/// How a file is written.
pub(super) struct Styles {
    pub decimal: Decimal,
    pub order: Option<Order>,
    /// See [`Plan`](super::Plan).
    pub empty_is_zero: [bool; 2],
}

/// How the file writes numbers and days. Reads as far as it takes.
pub(super) fn styles(
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

//! What of a table counts as a conversion and as revenue.

use crate::reports::facts::{Options, named};
use crate::reports::header::{self, Column, Field, Layout};
use crate::reports::refusal::Refusal;

/// What Meta's column `Results` counts, which differs from row to row.
#[derive(Clone, Debug)]
pub(super) enum Results {
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
    pub(super) results: Results,
}

/// A kind of results, as the API calls the action.
pub(super) fn action(kind: &str) -> &str {
    kind.strip_prefix("actions:").unwrap_or(kind)
}

/// Whether a column is Meta's `Results`.
fn is_results(column: &Column) -> bool {
    let name = column.name.to_lowercase();
    ["results", "ergebnisse", "résultats", "resultados"].contains(&name.as_str())
}

/// Which columns are conversions and revenue, and what they count. What no column says is called as what it would be.
pub(super) fn counted(
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

//! What was found in files and became of them, as one JSON document.

use data_encoding::HEXLOWER;
use serde_json::{Value, json};

use super::Outcome;
use super::compare::{Change, Compared};
use super::files::Opened;
use super::wait::Dead;
use crate::report_row::Values;
use crate::reports::refusal::Refusal;
use crate::reports::shown;
use crate::time::rfc3339_exact;

/// The document of a call.
pub fn of(files: &[Opened], outcome: &Outcome) -> Value {
    let away = match outcome {
        Outcome::Dry(why) => why.as_deref(),
        _ => None,
    };
    json!({
        "good": *outcome != Outcome::Refused,
        "sent": files.iter().map(|one| one.sent).sum::<u64>(),
        "counted": *outcome == Outcome::Counted,
        "database_away": away,
        "files": files.iter().map(of_file).collect::<Vec<_>>(),
    })
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

fn of_file(one: &Opened) -> Value {
    let report = &one.report;
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
        "sha256": report.shape.is_some().then(|| HEXLOWER.encode(&one.file)),
        "same_as": one.same_as,
        "good": report.is_good(),
        "platform": shape.map(|shape| shape.platform),
        "shape": shape.map(|shape| &shape.name),
        "encoding": shape.map(|shape| &shape.encoding),
        "time_zone": shape.and_then(|shape| shape.zone).map(|zone| zone.name()),
        "conversions": shape.map(|shape| &shape.conversions),
        "revenue": shape.map(|shape| &shape.revenue),
        "observed_at": shape.and_then(|shape| shape.observed_at).map(rfc3339_exact),
        "rows": gathered.rows,
        "equal_duplicates": report.repeated.len(),
        "first_day": gathered.first_day,
        "last_day": gathered.last_day,
        "campaigns": gathered.campaigns(),
        "rows_by_currency": sums,
        "file_totals": totals,
        "compared": one.compared.as_ref().map(of_compared),
        "sent": one.sent,
        "dead_letters": one.dead.as_ref().map(|dead| dead.iter().map(of_dead).collect::<Vec<_>>()),
        "warnings": report.warnings,
        "refused": report.refused,
        "refusals": report.refusals.iter().map(of_refusal).collect::<Vec<_>>(),
    })
}

fn of_compared(compared: &Compared) -> Value {
    let by = |change: &Change| -> Vec<Value> {
        let by = change.by.iter();
        by.map(|(currency, by)| {
            let sums = numbers(by.iter().map(|sum| Some(*sum)));
            json!({ "currency": currency.code(), "sums": sums })
        })
        .collect()
    };
    json!({
        "new": compared.new,
        "changed": compared.changed.rows,
        "changed_by": by(&compared.changed),
        "unchanged": compared.unchanged,
        "known": compared.known,
        "superseded": compared.superseded,
        "withdrawn": compared.withdrawn.rows,
        "withdrawn_by": by(&compared.withdrawn),
        "absent": compared.absent.rows,
        "absent_by": by(&compared.absent),
    })
}

fn of_dead(dead: &Dead) -> Value {
    json!({
        "reason": dead.reason,
        "explanation": dead.explain,
        "rows": dead.rows,
        "lines": dead.lines,
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

//! What the laboratory found, a row a fault.

use std::fmt::Write as _;
use std::time::Duration;

use crate::check::Violations;

/// One row.
#[derive(Debug, Default)]
pub struct Row {
    pub number: u8,
    pub name: &'static str,
    pub injected: usize,
    /// How long it took each time until all was well again.
    pub recoveries: Vec<Duration>,
    /// What must never be so.
    pub violations: Vec<String>,
    /// Something is wrong that stays wrong: it makes no sense to go on.
    pub wrong: bool,
}

impl Row {
    /// Notes that the fault was injected and what it touched moved again after `recovery`.
    pub fn recovered(&mut self, recovery: Duration) {
        self.injected += 1;
        self.recoveries.push(recovery);
    }

    /// Notes a violation, and says so at once.
    pub fn violation(&mut self, what: impl Into<String>) {
        let what = what.into();
        eprintln!("VIOLATION in row {} ({}): {what}", self.number, self.name);
        self.violations.push(what);
    }

    /// Notes what a check has found, if that is anything.
    pub fn violations(&mut self, found: &Violations) {
        if found.count() > 0 {
            self.violation(found.to_string());
        }
    }

    fn median(&self) -> Option<Duration> {
        let mut sorted = self.recoveries.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }
}

/// The table as Markdown.
pub fn render(rows: &[Row]) -> String {
    let seconds = |time: Option<Duration>| match time {
        Some(time) => format!("{:.2} s", time.as_secs_f64()),
        None => "–".to_owned(),
    };
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let mut text = format!(
        "|  # | {:<width$} | times | median  | worst   | violations |\n\
         |---:|-{:-<width$}-|------:|--------:|--------:|-----------:|\n",
        "fault", ""
    );
    for row in rows {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {:>2} | {:<width$} | {:>5} | {:>7} | {:>7} | {:>10} |",
            row.number,
            row.name,
            row.injected,
            seconds(row.median()),
            seconds(row.recoveries.iter().max().copied()),
            row.violations.len(),
        );
    }
    text
}

//! What was measured, a line each, beside what is wanted.

use std::fmt;

/// What is wanted of a value.
#[derive(Clone, Copy)]
pub enum Wanted {
    AtLeast(f64),
    AtMost(f64),
    /// Only shown.
    Nothing,
}

struct Line {
    what: String,
    value: f64,
    unit: &'static str,
    wanted: Wanted,
    how: String,
}

/// See the module.
pub struct Table {
    lines: Vec<Line>,
    /// Whether it is said what was met and missed: few events, once, show nothing.
    judges: bool,
}

impl Table {
    /// Without lines.
    pub fn new(judges: bool) -> Table {
        Table {
            lines: Vec::new(),
            judges,
        }
    }

    /// Adds a line; `how` says what was held against what.
    pub fn line(
        &mut self,
        what: impl Into<String>,
        value: f64,
        unit: &'static str,
        wanted: Wanted,
        how: impl Into<String>,
    ) {
        let line = Line {
            what: what.into(),
            value,
            unit,
            wanted,
            how: how.into(),
        };
        eprintln!("{} = {}{unit}: {}", line.what, short(value), line.how);
        self.lines.push(line);
    }
}

fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| what | measured | wanted | | how |")?;
        writeln!(f, "|---|---:|---:|---|---|")?;
        for line in &self.lines {
            let (wanted, met) = match line.wanted {
                Wanted::AtLeast(bound) => (format!("≥ {bound}{}", line.unit), line.value >= bound),
                Wanted::AtMost(bound) => (format!("≤ {bound}{}", line.unit), line.value <= bound),
                Wanted::Nothing => (String::new(), true),
            };
            let mark = match (line.wanted, met) {
                (Wanted::Nothing, _) => "",
                _ if !self.judges => "",
                (_, true) => "met",
                (_, false) => "**missed**",
            };
            let (what, unit, how) = (&line.what, line.unit, &line.how);
            writeln!(
                f,
                "| {what} | {}{unit} | {wanted} | {mark} | {how} |",
                short(line.value)
            )?;
        }
        Ok(())
    }
}

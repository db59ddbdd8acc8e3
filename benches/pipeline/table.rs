//! What was measured, a line each, beside its goal.

use std::fmt;

/// What a value should be.
#[derive(Clone, Copy)]
pub enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// The value is only shown.
    None,
}

struct Line {
    what: String,
    value: f64,
    unit: &'static str,
    goal: Goal,
    how: String,
}

/// See the module.
#[derive(Default)]
pub struct Table {
    lines: Vec<Line>,
}

impl Goal {
    /// How much better than the goal a value is: from 1 on it is met.
    fn ratio(self, value: f64) -> Option<f64> {
        match self {
            Goal::AtLeast(goal) => Some(value / goal),
            Goal::AtMost(goal) => Some(goal / value),
            Goal::None => None,
        }
    }

    fn is_met(self, value: f64) -> bool {
        match self {
            Goal::AtLeast(goal) => value >= goal,
            Goal::AtMost(goal) => value <= goal,
            Goal::None => true,
        }
    }
}

impl Table {
    /// Adds a line; `how` says what was compared with what.
    pub fn line(
        &mut self,
        what: impl Into<String>,
        value: f64,
        unit: &'static str,
        goal: Goal,
        how: impl Into<String>,
    ) {
        let line = Line {
            what: what.into(),
            value,
            unit,
            goal,
            how: how.into(),
        };
        eprintln!("{} = {}{unit}: {}", line.what, short(value), line.how);
        self.lines.push(line);
    }

    /// What missed its goal.
    pub fn missed(&self) -> Vec<&str> {
        let missed = self
            .lines
            .iter()
            .filter(|line| !line.goal.is_met(line.value));
        missed.map(|line| line.what.as_str()).collect()
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
        writeln!(f, "| what | goal | measured | ratio | how |")?;
        writeln!(f, "|---|---:|---:|---:|---|")?;
        for line in &self.lines {
            let (what, unit, how) = (&line.what, line.unit, &line.how);
            let goal = match line.goal {
                Goal::AtLeast(goal) => format!("≥ {goal}{unit}"),
                Goal::AtMost(goal) => format!("≤ {goal}{unit}"),
                Goal::None => String::new(),
            };
            let ratio = line.goal.ratio(line.value).map(short).unwrap_or_default();
            let measured = short(line.value);
            writeln!(
                f,
                "| {what} | {goal} | {measured}{unit} | {ratio} | {how} |"
            )?;
        }
        Ok(())
    }
}

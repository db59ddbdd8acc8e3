//! The language of rules, and where a text leaves it.
//!
//! ```text
//! when      = condition { "and" condition }
//! condition = measure operator number [ window ]
//!           | measure [ window ] operator percent "of" "mean" "over" duration
//!           | "cost" "pace" operator percent "of" "budget" number "per" period
//!           | "no" "data" "for" duration
//! measure   = [ "expected" ] metric
//! window    = "over" duration [ "settled" ]
//! percent   = number "%"
//! duration  = { digits ( "m" | "h" | "d" | "w" ) }
//! ```
//!
//! A window may stand before the operator or after the number. A condition that says none has
//! that of the condition before it that does, or else of the first after it. Where days matter, as they do
//! for what is settled or expected, all its lengths are whole days.

// Bytes from outside come through here.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::ops::Range;

use super::rule::{Basis, Condition, Decimal, Minutes, Operator, Over, Period, When};
use crate::totals::metric::{Metric, Sums};

/// The longest condition, in bytes.
pub const MAX_BYTES: usize = 1_000;
/// The most conditions of a rule.
pub const MAX_CONDITIONS: usize = 8;

/// Why a text is not a condition, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The bytes of the text at fault; at its end where something is missing.
    pub at: Range<usize>,
    /// What was expected, and what is there.
    pub message: String,
}

impl Fault {
    fn new(at: Range<usize>, message: &str) -> Fault {
        let message = message.to_owned();
        Fault { at, message }
    }
}

/// Parses the condition of a rule.
///
/// # Errors
/// The first [`Fault`].
pub fn when(text: &str) -> Result<When, Fault> {
    if text.len() > MAX_BYTES {
        let message = format!("a condition has at most {MAX_BYTES} bytes");
        return Err(Fault { at: 0..0, message });
    }
    let mut parser = Parser::new(text)?;
    let mut conditions = Vec::new();
    loop {
        conditions.push(parser.condition()?);
        if parser.peek() == End {
            break;
        }
        parser.word("and")?;
        if conditions.len() == MAX_CONDITIONS {
            let message = format!("a rule has at most {MAX_CONDITIONS} conditions");
            return Err(parser.fault_here(message));
        }
    }
    with_windows(conditions).map(When)
}

/// Parses a length of time such as `1h30m`.
///
/// # Errors
/// A [`Fault`].
pub fn duration(text: &str) -> Result<Minutes, Fault> {
    let mut parser = Parser::new(text)?;
    let minutes = parser.duration()?;
    match parser.peek() {
        End => Ok(minutes),
        _ => Err(parser.expected("nothing more")),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    /// Letters, digits, underscores and points.
    Atom(&'a str),
    /// An operator or another sign.
    Sign(&'a str),
    End,
}

use Token::{Atom, End, Sign};

/// A condition that may still lack its window.
struct Loose {
    condition: Condition,
    /// The window was not said; its place would be here.
    lacks_window: Option<usize>,
    /// Where its lengths stand.
    lengths: Vec<(Minutes, Range<usize>)>,
}

impl Loose {
    /// One that needs none.
    fn without_window(condition: Condition) -> Loose {
        Loose {
            condition,
            lacks_window: None,
            lengths: Vec::new(),
        }
    }
}

/// A window as it is said, and where its length stands.
type Said = (Over, Range<usize>);

struct Parser<'a> {
    tokens: Vec<(Token<'a>, Range<usize>)>,
    next: usize,
    end: usize,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Result<Parser<'a>, Fault> {
        let mut tokens = Vec::new();
        let mut rest = text;
        let mut at = 0usize;
        while let Some(first) = rest.chars().next() {
            let is_atom = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
            let length = if is_atom(first) {
                rest.find(|c| !is_atom(c)).unwrap_or(rest.len())
            } else if ["<=", ">=", "!=", "=="].iter().any(|s| rest.starts_with(s)) {
                2
            } else {
                first.len_utf8()
            };
            let (token, after) = rest.split_at_checked(length).unwrap_or((rest, ""));
            let range = at..at.saturating_add(token.len());
            if is_atom(first) {
                tokens.push((Atom(token), range.clone()));
            } else if !first.is_whitespace() {
                if !matches!(
                    token,
                    "<" | "<=" | ">" | ">=" | "=" | "==" | "!=" | "%" | "-"
                ) {
                    let message = format!("'{}' means nothing here", first.escape_debug());
                    return Err(Fault { at: range, message });
                }
                tokens.push((Sign(token), range.clone()));
            }
            at = range.end;
            rest = after;
        }
        let end = text.trim_end().len();
        Ok(Parser {
            tokens,
            next: 0,
            end,
        })
    }

    fn peek(&self) -> Token<'a> {
        self.tokens.get(self.next).map_or(End, |(token, _)| *token)
    }

    fn here(&self) -> Range<usize> {
        let at_end = self.end..self.end;
        self.tokens
            .get(self.next)
            .map_or(at_end, |(_, range)| range.clone())
    }

    fn take(&mut self) -> Token<'a> {
        let token = self.peek();
        self.next = self.next.saturating_add(1);
        token
    }

    fn fault_here(&self, message: String) -> Fault {
        let at = self.here();
        Fault { at, message }
    }

    fn expected(&self, what: &str) -> Fault {
        let found = match self.peek() {
            Atom(token) | Sign(token) => format!("found '{token}'"),
            End => "found the end".to_owned(),
        };
        self.fault_here(format!("expected {what}, {found}"))
    }

    /// Takes a word if it is the next one.
    fn has_word(&mut self, word: &str) -> bool {
        let is_next = self.peek() == Atom(word);
        if is_next {
            self.take();
        }
        is_next
    }

    fn word(&mut self, word: &str) -> Result<(), Fault> {
        if self.has_word(word) {
            Ok(())
        } else {
            Err(self.expected(&format!("'{word}'")))
        }
    }

    fn condition(&mut self) -> Result<Loose, Fault> {
        if self.has_word("no") {
            self.word("data")?;
            self.word("for")?;
            let minutes = self.duration()?;
            self.refuse_settled("silence is of the time up to now")?;
            return Ok(Loose::without_window(Condition::NoData { minutes }));
        }
        let expected = self.here();
        let is_expected = self.has_word("expected");
        let metric = self.metric()?;
        if self.peek() == Atom("pace") {
            if metric != Metric::Cost {
                return Err(self.fault_here("only cost has a pace".to_owned()));
            }
            if is_expected {
                let message = "a pace is of what was spent, of which nothing more is expected";
                return Err(Fault::new(expected, message));
            }
            self.take();
            return self.pace();
        }
        if is_expected && !metric.rests_on().meet(Sums::CLAIMS) {
            let name = metric.name();
            let message = format!(
                "nothing more is expected of {name}: only of conversions, revenue, and what is derived from them"
            );
            return Err(Fault::new(expected, &message));
        }
        let basis = if is_expected {
            Basis::Expected
        } else {
            Basis::Known
        };
        let mut said = self.window(basis)?;
        let operator = self.operator()?;
        let at = self.here();
        let mut number = self.number()?;
        if self.peek() == Sign("%") {
            self.take();
            if self.peek() == Atom("of") {
                return self.mean(metric, said, basis, operator, number);
            }
            if !matches!(metric, Metric::Ctr | Metric::Cvr | Metric::Roas) {
                let name = metric.name();
                return Err(self.expected(&format!("'of mean over': {name} is no percentage")));
            }
            number = hundredth(number, at)?;
        }
        let place = self.end_of_last();
        if said.is_none() {
            said = self.window(basis)?;
        }
        self.refuse_settled("it stands behind a window of days, as in over 7d settled")?;
        let (over, lengths) = windows(said, basis);
        Ok(Loose {
            condition: Condition::Number {
                metric,
                over,
                operator,
                number,
            },
            lacks_window: lengths.is_empty().then_some(place),
            lengths,
        })
    }

    fn mean(
        &mut self,
        metric: Metric,
        said: Option<Said>,
        basis: Basis,
        operator: Operator,
        percent: Decimal,
    ) -> Result<Loose, Fault> {
        self.word("of")?;
        self.word("mean")?;
        self.word("over")?;
        let at = self.here();
        let mean_over = self.duration()?;
        self.refuse_settled("it stands behind the window, as in roas over 7d settled < 80% of mean over 28d; the mean is of the days before")?;
        let (over, mut lengths) = windows(said, basis);
        let lacks_window = lengths.is_empty().then(|| self.end_of_last());
        lengths.push((mean_over, at));
        Ok(Loose {
            condition: Condition::Mean {
                metric,
                over,
                operator,
                percent,
                mean_over,
            },
            lacks_window,
            lengths,
        })
    }

    fn pace(&mut self) -> Result<Loose, Fault> {
        let operator = self.operator()?;
        let percent = self.number()?;
        if self.peek() != Sign("%") {
            return Err(self.expected("'%' of the budget"));
        }
        self.take();
        self.word("of")?;
        self.word("budget")?;
        let at = self.here();
        let budget = self.number()?;
        if budget.0 <= 0 {
            let message = "a budget is more than nothing".to_owned();
            return Err(Fault { at, message });
        }
        self.word("per")?;
        let period = Period::ALL
            .into_iter()
            .find(|p| self.peek() == Atom(p.as_str()))
            .ok_or_else(|| self.expected("'hour', 'day', 'week' or 'month'"))?;
        self.take();
        self.refuse_settled("a pace is of the time up to now")?;
        Ok(Loose::without_window(Condition::Pace {
            operator,
            percent,
            budget,
            period,
        }))
    }

    fn metric(&mut self) -> Result<Metric, Fault> {
        let metric = match self.peek() {
            Atom(name) => Metric::parse(name),
            _ => None,
        };
        let Some(metric) = metric else {
            let names = Metric::NAMES.join(", ");
            return Err(self.expected(&format!("a metric ({names}) or 'no data'")));
        };
        self.take();
        Ok(metric)
    }

    fn operator(&mut self) -> Result<Operator, Fault> {
        let operator = match self.peek() {
            Sign("==") => Some(Operator::Equal),
            Sign(sign) => Operator::ALL.into_iter().find(|o| o.as_str() == sign),
            _ => None,
        };
        let Some(operator) = operator else {
            return Err(self.expected("one of < <= > >= = !="));
        };
        self.take();
        Ok(operator)
    }

    fn number(&mut self) -> Result<Decimal, Fault> {
        let is_negative = self.peek() == Sign("-");
        if is_negative {
            self.take();
        }
        let Atom(text) = self.peek() else {
            return Err(self.expected("a number"));
        };
        if !text.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(self.expected("a number"));
        }
        let Some(number) = decimal(text) else {
            let what = "a number below 1000000000000 with at most six decimals";
            return Err(self.expected(what));
        };
        self.take();
        Ok(if is_negative {
            Decimal(number.0.saturating_neg())
        } else {
            number
        })
    }

    /// A window of what is known or expected, if one is said.
    fn window(&mut self, basis: Basis) -> Result<Option<Said>, Fault> {
        if !self.has_word("over") {
            return Ok(None);
        }
        let at = self.here();
        let length = self.duration()?;
        if basis == Basis::Expected {
            self.refuse_settled("of days that are settled, nothing more is expected")?;
        }
        let basis = match self.has_word("settled") {
            true => Basis::Settled,
            false => basis,
        };
        Ok(Some((Over { length, basis }, at)))
    }

    /// Refuses the word where it means nothing.
    fn refuse_settled(&self, why: &str) -> Result<(), Fault> {
        match self.peek() {
            Atom("settled") => Err(self.fault_here(format!("no 'settled' here: {why}"))),
            _ => Ok(()),
        }
    }

    fn duration(&mut self) -> Result<Minutes, Fault> {
        let minutes = match self.peek() {
            Atom(text) => minutes(text),
            _ => None,
        };
        let Some(minutes) = minutes else {
            return Err(self.expected("a duration such as 1h"));
        };
        if minutes.0 == 0 || minutes > Minutes::MOST {
            let most = Minutes::MOST;
            return Err(self.expected(&format!("a duration from 1m to {most}")));
        }
        self.take();
        Ok(minutes)
    }

    fn end_of_last(&self) -> usize {
        let last = self.next.checked_sub(1);
        last.and_then(|last| self.tokens.get(last))
            .map_or(0, |(_, range)| range.end)
    }
}

/// The window of a condition, and where its length stands. One that is not said is empty, until it is taken from others.
fn windows(said: Option<Said>, basis: Basis) -> (Over, Vec<(Minutes, Range<usize>)>) {
    let length = Minutes::default();
    said.map_or((Over { length, basis }, Vec::new()), |(over, at)| {
        (over, vec![(over.length, at)])
    })
}

/// Gives each condition without a window the one it takes from the others, and holds those of days to whole ones.
fn with_windows(loose: Vec<Loose>) -> Result<Vec<Condition>, Fault> {
    let said = |l: &Loose| match &l.condition {
        Condition::Number { over, .. } | Condition::Mean { over, .. }
            if l.lacks_window.is_none() =>
        {
            Some(*over)
        }
        _ => None,
    };
    let mut window = loose.iter().find_map(said);
    let mut conditions = Vec::with_capacity(loose.len());
    for mut one in loose {
        window = said(&one).or(window);
        if let Condition::Number { over, .. } | Condition::Mean { over, .. } = &mut one.condition {
            match (one.lacks_window, window) {
                (None, _) => {}
                (Some(place), Some(window)) => {
                    // Days of which something is expected are other days than settled ones.
                    if over.basis == Basis::Expected {
                        over.length = window.length;
                    } else {
                        *over = known(window);
                    }
                    one.lengths.push((window.length, place..place));
                }
                (Some(place), None) => {
                    let message = "expected 'over' and a duration such as 1h: no condition of this rule says its window";
                    return Err(Fault {
                        at: place..place,
                        message: message.to_owned(),
                    });
                }
            }
            if over.basis.has_days() {
                whole_days(over.basis, &one.lengths)?;
            }
        }
        conditions.push(one.condition);
    }
    Ok(conditions)
}

/// The same window of what is known, where it is one of what is expected.
fn known(over: Over) -> Over {
    match over.basis {
        Basis::Expected => Over {
            basis: Basis::Known,
            ..over
        },
        Basis::Known | Basis::Settled => over,
    }
}

fn whole_days(basis: Basis, lengths: &[(Minutes, Range<usize>)]) -> Result<(), Fault> {
    let broken = lengths.iter().find(|(length, _)| length.days().is_none());
    broken.map_or(Ok(()), |(length, at)| {
        let what = match basis {
            Basis::Expected => "expected",
            Basis::Known | Basis::Settled => "settled",
        };
        let message = format!("what is {what} is of whole days such as 7d, not of {length}");
        Err(Fault::new(at.clone(), &message))
    })
}

/// A percentage as the number it is.
fn hundredth(percent: Decimal, at: Range<usize>) -> Result<Decimal, Fault> {
    match (percent.0.checked_div(100), percent.0.checked_rem(100)) {
        (Some(number), Some(0)) => Ok(Decimal(number)),
        _ => {
            let message = "a percentage has at most four decimals".to_owned();
            Err(Fault { at, message })
        }
    }
}

/// Digits, perhaps with underscores between them, and up to six decimals.
fn decimal(text: &str) -> Option<Decimal> {
    let digits = text.replace('_', "");
    let (whole, fraction) = digits.split_once('.').unwrap_or((&digits, "0"));
    let all_digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !all_digits(whole) || !all_digits(fraction) || whole.len() > 12 || fraction.len() > 6 {
        return None;
    }
    let fraction: i64 = format!("{fraction:0<6}").parse().ok()?;
    let whole: i64 = whole.parse().ok()?;
    whole
        .checked_mul(1_000_000)?
        .checked_add(fraction)
        .map(Decimal)
}

/// `1h30m` in minutes; none if it is not of that form.
fn minutes(text: &str) -> Option<Minutes> {
    let mut rest = text;
    let mut sum = 0u32;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit())?;
        let (digits, from_unit) = rest.split_at_checked(unit_at)?;
        let (unit, after) = from_unit.split_at_checked(1)?;
        let length = match unit {
            "m" => 1,
            "h" => 60,
            "d" => 1_440,
            "w" => 10_080,
            _ => return None,
        };
        let number: u32 = digits.parse().ok()?;
        sum = sum.saturating_add(number.saturating_mul(length));
        rest = after;
    }
    (!text.is_empty()).then_some(Minutes(sum))
}

#[cfg(test)]
mod tests;

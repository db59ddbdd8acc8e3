//! The language of rules, and where a text leaves it.
//!
//! ```text
//! when      = condition { "and" condition }
//! condition = metric operator number [ "over" duration ]
//!           | metric [ "over" duration ] operator percent "of" "mean" "over" duration
//!           | "cost" "pace" operator percent "of" "budget" number "per" period
//!           | "no" "data" "for" duration
//! percent   = number "%"
//! duration  = { digits ( "m" | "h" | "d" | "w" ) }
//! ```
//!
//! A window may stand before the operator or after the number. A condition that says none has
//! that of the condition before it that does, or else of the first after it.

// Bytes from outside come through here.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::ops::Range;

use super::rule::{Condition, Decimal, Minutes, Operator, Period, When};
use crate::totals::metric::Metric;

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
}

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
            return Ok(Loose {
                condition: Condition::NoData { minutes },
                lacks_window: None,
            });
        }
        let metric = self.metric()?;
        if self.peek() == Atom("pace") {
            if metric != Metric::Cost {
                return Err(self.fault_here("only cost has a pace".to_owned()));
            }
            self.take();
            return self.pace();
        }
        let mut over = self.window()?;
        let operator = self.operator()?;
        let at = self.here();
        let mut number = self.number()?;
        if self.peek() == Sign("%") {
            self.take();
            if self.peek() == Atom("of") {
                return self.mean(metric, over, operator, number);
            }
            if !matches!(metric, Metric::Ctr | Metric::Cvr | Metric::Roas) {
                let name = metric.name();
                return Err(self.expected(&format!("'of mean over': {name} is no percentage")));
            }
            number = hundredth(number, at)?;
        }
        let place = self.end_of_last();
        if over.is_none() {
            over = self.window()?;
        }
        Ok(Loose {
            condition: Condition::Number {
                metric,
                // Without one it is refused, by `lacks_window`.
                over: over.unwrap_or_default(),
                operator,
                number,
            },
            lacks_window: over.is_none().then_some(place),
        })
    }

    fn mean(
        &mut self,
        metric: Metric,
        over: Option<Minutes>,
        operator: Operator,
        percent: Decimal,
    ) -> Result<Loose, Fault> {
        self.word("of")?;
        self.word("mean")?;
        self.word("over")?;
        let mean_over = self.duration()?;
        Ok(Loose {
            condition: Condition::Mean {
                metric,
                // As above.
                over: over.unwrap_or_default(),
                operator,
                percent,
                mean_over,
            },
            lacks_window: over.is_none().then(|| self.end_of_last()),
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
        Ok(Loose {
            condition: Condition::Pace {
                operator,
                percent,
                budget,
                period,
            },
            lacks_window: None,
        })
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

    /// A window, if one is said.
    fn window(&mut self) -> Result<Option<Minutes>, Fault> {
        if self.has_word("over") {
            self.duration().map(Some)
        } else {
            Ok(None)
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

/// Gives each condition without a window the one it takes from the others.
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
                (Some(_), Some(window)) => *over = window,
                (Some(place), None) => {
                    let message = "expected 'over' and a duration such as 1h: no condition of this rule says its window";
                    return Err(Fault {
                        at: place..place,
                        message: message.to_owned(),
                    });
                }
            }
        }
        conditions.push(one.condition);
    }
    Ok(conditions)
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn printed(text: &str) -> String {
        when(text).map_or_else(|f| format!("{:?} {}", f.at, f.message), |w| w.to_string())
    }

    #[test]
    fn a_window_is_said_once_for_all() {
        assert_eq!(
            printed("roas < 1 over 1h and cost > 50"),
            "roas < 1 over 1h and cost > 50 over 1h"
        );
        assert_eq!(
            printed("cost > 50 and roas over 2h < 100%"),
            "cost > 50 over 2h and roas < 1 over 2h"
        );
        assert_eq!(
            printed("cost > 100 over 1d and conversions == 0 over 60m and clicks>1_000"),
            "cost > 100 over 1d and conversions = 0 over 1h and clicks > 1000 over 1h"
        );
        assert_eq!(
            printed("ctr < 80% of mean over 7d and impressions > 10000 over 1d"),
            "ctr over 1d < 80% of mean over 7d and impressions > 10000 over 1d"
        );
    }

    #[test]
    fn the_others() {
        for text in [
            "cost pace > 110% of budget 500 per day",
            "no data for 30m",
            "no data for 1d2h30m",
            "profit < -100.5 over 1h",
            "ctr over 1h <= 79.5% of mean over 14d",
        ] {
            assert_eq!(printed(text), text);
        }
        assert_eq!(printed("ctr < 1.5% over 2w"), "ctr < 0.015 over 14d");
    }

    #[test]
    fn a_fault_is_where_it_is() {
        for (text, at, message) in [
            (
                "roas < 1 over xyz",
                14..17,
                "expected a duration such as 1h, found 'xyz'",
            ),
            (
                "roas < 1 over 1h30",
                14..18,
                "expected a duration such as 1h, found '1h30'",
            ),
            (
                "roas < 1 over 0m",
                14..16,
                "expected a duration from 1m to 400d, found '0m'",
            ),
            (
                "roas < 1 over",
                13..13,
                "expected a duration such as 1h, found the end",
            ),
            (
                "roas < 1  ",
                8..8,
                "expected 'over' and a duration such as 1h: no condition of this rule says its window",
            ),
            (
                "roas 1 over 1h",
                5..6,
                "expected one of < <= > >= = !=, found '1'",
            ),
            (
                "roas < one over 1h",
                7..10,
                "expected a number, found 'one'",
            ),
            (
                "roas < 1.1234567 over 1h",
                7..16,
                "expected a number below 1000000000000 with at most six decimals, found '1.1234567'",
            ),
            (
                "roas < 1 over 1h or cost > 5",
                17..19,
                "expected 'and', found 'or'",
            ),
            (
                "revenue pace > 110% of budget 5 per day",
                8..12,
                "only cost has a pace",
            ),
            (
                "cost pace > 110 of budget 5 per day",
                16..18,
                "expected '%' of the budget, found 'of'",
            ),
            (
                "cost pace > 110% of budget 0 per day",
                27..28,
                "a budget is more than nothing",
            ),
            (
                "cost pace > 110% of budget 5 per year",
                33..37,
                "expected 'hour', 'day', 'week' or 'month', found 'year'",
            ),
            (
                "cost > 5% over 1h",
                10..14,
                "expected 'of mean over': cost is no percentage, found 'over'",
            ),
            (
                "ctr < 0.00001% over 1h",
                6..13,
                "a percentage has at most four decimals",
            ),
            ("no date", 3..7, "expected 'data', found 'date'"),
            ("roas < 1 & cost > 5", 9..10, "'&' means nothing here"),
        ] {
            let fault = when(text).expect_err(text);
            assert_eq!((fault.at, fault.message.as_str()), (at, message), "{text}");
        }
        let unknown = when("rosa < 1 over 1h").expect_err("no metric");
        assert_eq!(unknown.at, 0..4);
        assert!(
            unknown
                .message
                .starts_with("expected a metric (events, impressions,"),
            "{unknown:?}"
        );
        let many = ["no data for 1m"; MAX_CONDITIONS + 1].join(" and ");
        assert_eq!(
            when(&many).expect_err("too many").message,
            "a rule has at most 8 conditions"
        );
    }

    fn any_of<T: Copy + std::fmt::Debug + 'static>(all: &'static [T]) -> impl Strategy<Value = T> {
        prop::sample::select(all)
    }

    fn minutes() -> impl Strategy<Value = Minutes> {
        (1..=Minutes::MOST.0).prop_map(Minutes)
    }

    fn number() -> impl Strategy<Value = Decimal> {
        (-999_999_999_999_999_999i64..=999_999_999_999_999_999).prop_map(Decimal)
    }

    fn condition() -> impl Strategy<Value = Condition> {
        let operator = || any_of(&Operator::ALL);
        let metric = || any_of(Metric::ALL);
        prop_oneof![
            (metric(), minutes(), operator(), number()).prop_map(
                |(metric, over, operator, number)| Condition::Number {
                    metric,
                    over,
                    operator,
                    number
                }
            ),
            (metric(), minutes(), operator(), number(), minutes()).prop_map(
                |(metric, over, operator, percent, mean_over)| Condition::Mean {
                    metric,
                    over,
                    operator,
                    percent,
                    mean_over
                }
            ),
            (
                operator(),
                number(),
                1..=999_999_999_999i64,
                any_of(&Period::ALL)
            )
                .prop_map(|(operator, percent, budget, period)| Condition::Pace {
                    operator,
                    percent,
                    budget: Decimal(budget),
                    period
                }),
            minutes().prop_map(|minutes| Condition::NoData { minutes }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(conditions in prop::collection::vec(condition(), 1..=MAX_CONDITIONS)) {
            let rule = When(conditions);
            prop_assert_eq!(when(&rule.to_string()), Ok(rule));
        }

        #[test]
        fn nothing_panics(text in "\\PC{0,120}") {
            let _ = when(&text);
        }

        /// Words of the language in any order: deeper into the parser than any text gets.
        #[test]
        fn faults_are_within_the_text(words in prop::collection::vec(prop::sample::select(vec![
            "roas", "cost", "<", "=", "1", "80", "%", "of", "mean", "over", "1h", "7d", "and", "no", "data", "for",
            "pace", "budget", "per", "day", "-", "0.0001", "🦀",
        ]), 0..14)) {
            let text = words.join(" ");
            if let Err(fault) = when(&text) {
                prop_assert!(text.get(fault.at.clone()).is_some(), "{fault:?} in {text:?}");
            }
        }
    }
}

//! Numbers as people's files write them, read exactly: digits go into an integer of millionths, never through a float.
//!
//! `1,234` is a thousand in one country and little more than one in another. So the style of a file is decided by all its
//! numbers together ([`Hints`]), and only then is any of them read ([`millionths`]).

use std::borrow::Cow;

use crate::event::MILLION;

/// What stands before the fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decimal {
    Point,
    Comma,
}

impl Decimal {
    /// Reads the value of `--decimal`.
    ///
    /// # Errors
    /// A message for the user.
    pub fn from_flag(text: &str) -> Result<Decimal, String> {
        match text {
            "." => Ok(Decimal::Point),
            "," => Ok(Decimal::Comma),
            _ => Err(format!("'{text}' is neither , nor .")),
        }
    }

    /// The character itself.
    pub const fn character(self) -> char {
        match self {
            Decimal::Point => '.',
            Decimal::Comma => ',',
        }
    }

    /// The other one, which may group digits then.
    pub const fn other(self) -> Decimal {
        match self {
            Decimal::Point => Decimal::Comma,
            Decimal::Comma => Decimal::Point,
        }
    }
}

/// Why a cell is no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It holds what no number has, or its digits are grouped as nobody groups them.
    NotANumber,
    /// More digits behind the decimal than millionths have.
    TooFine,
    /// It does not fit 64 bits of millionths (or of ones, if it is a count).
    TooLarge,
    /// A count with a fraction.
    NotWhole,
}

impl Fault {
    /// For the person who reads the refusal.
    pub const fn reason(self) -> &'static str {
        match self {
            Fault::NotANumber => "not a number in the style of this file",
            Fault::TooFine => "more than six decimals",
            Fault::TooLarge => "larger than can be counted",
            Fault::NotWhole => "a count that is not whole",
        }
    }
}

/// A space of some kind. Spreadsheets group digits with several.
fn is_space(c: char) -> bool {
    matches!(
        c,
        ' ' | '\t' | '\u{a0}' | '\u{202f}' | '\u{2009}' | '\u{2007}'
    )
}

/// What groups digits in every style.
fn groups_always(c: char) -> bool {
    is_space(c) || matches!(c, '\'' | '\u{2019}')
}

fn is_currency_sign(c: char) -> bool {
    matches!(
        c,
        '$' | '€' | '£' | '¥' | '₹' | '₩' | '₽' | '₺' | '₫' | '฿' | '₱'
    )
}

/// A cell without the spaces around it, and without the `="…"` that keeps a spreadsheet from making a float of an id.
pub fn bare(text: &str) -> &str {
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    text.strip_prefix("=\"")
        .and_then(|rest| rest.strip_suffix('"'))
        .map_or(text, str::trim)
}

/// Whether a cell says that the number is not known: nothing, dashes, or a bound such as `<5` or `< 10 %`.
pub fn is_unknown(text: &str) -> bool {
    let text = bare(text);
    text.is_empty()
        || text.starts_with(['<', '>'])
        || text.chars().all(|c| matches!(c, '-' | '–' | '—'))
        || ["n/a", "na", "null"]
            .iter()
            .any(|word| text.eq_ignore_ascii_case(word))
}

/// Its sign, and what is behind the sign and signs of currencies.
fn unsigned(text: &str) -> (bool, &str) {
    let is_around = |c: char| is_currency_sign(c) || is_space(c);
    let text = text.trim_matches(is_around);
    match text.strip_prefix(['-', '\u{2212}']) {
        Some(rest) => (true, rest.trim_start_matches(is_around)),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    }
}

/// The parts of a number: digits before the decimal, with what groups them, and behind it.
fn is_grouped_well(whole: &str, grouping: char) -> bool {
    let mut lengths = whole.split(grouping).map(str::len);
    let first = lengths.next().unwrap_or(0);
    let mut last = first;
    let mut groups = 0_u32;
    for length in lengths {
        // Two, as in 12,34,567; but the last has three.
        if !(2..=3).contains(&length) {
            return false;
        }
        last = length;
        groups = groups.saturating_add(1);
    }
    groups == 0 || ((1..=3).contains(&first) && last == 3)
}

/// Reads a number into millionths.
///
/// # Errors
/// What is wrong with it.
pub fn millionths(text: &str, decimal: Decimal) -> Result<i64, Fault> {
    let (negative, digits) = unsigned(bare(text));
    let (whole, fraction) = digits
        .split_once(decimal.character())
        .unwrap_or((digits, ""));
    let whole = ungrouped(whole, decimal)?;
    if whole.is_empty() && fraction.is_empty() {
        return Err(Fault::NotANumber);
    }
    let fraction_digits = fraction.trim_end_matches('0');
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Fault::NotANumber);
    }
    if fraction_digits.len() > 6 {
        return Err(Fault::TooFine);
    }
    let mut value: i64 = 0;
    let padding = std::iter::repeat_n(b'0', 6_usize.saturating_sub(fraction_digits.len()));
    for digit in whole.bytes().chain(fraction_digits.bytes()).chain(padding) {
        value = shifted(value, digit, negative)?;
    }
    Ok(value)
}

/// A further digit. Grows away from zero, for the smallest number has no positive counterpart.
fn shifted(value: i64, digit: u8, negative: bool) -> Result<i64, Fault> {
    let digit = i64::from(digit.saturating_sub(b'0'));
    let tens = value.checked_mul(10).ok_or(Fault::TooLarge)?;
    let sum = if negative {
        tens.checked_sub(digit)
    } else {
        tens.checked_add(digit)
    };
    sum.ok_or(Fault::TooLarge)
}

/// The digits before the decimal, without what groups them.
fn ungrouped(whole: &str, decimal: Decimal) -> Result<Cow<'_, str>, Fault> {
    let Some(grouping) = whole.chars().find(|c| !c.is_ascii_digit()) else {
        return Ok(Cow::Borrowed(whole));
    };
    let groups = groups_always(grouping) || grouping == decimal.other().character();
    if !groups || !is_grouped_well(whole, grouping) {
        return Err(Fault::NotANumber);
    }
    let digits: String = whole.chars().filter(|c| *c != grouping).collect();
    if digits.bytes().all(|b| b.is_ascii_digit()) {
        Ok(Cow::Owned(digits))
    } else {
        Err(Fault::NotANumber)
    }
}

/// Reads a whole number. A fraction of zeros is none.
///
/// # Errors
/// What is wrong with it.
pub fn whole(text: &str, decimal: Decimal) -> Result<i64, Fault> {
    let plain = bare(text);
    // Nearly every count is written so.
    if plain.len() <= 18 && !plain.is_empty() && plain.bytes().all(|b| b.is_ascii_digit()) {
        return plain.parse().map_err(|_| Fault::NotANumber);
    }
    let (negative, digits) = unsigned(plain);
    let (whole, fraction) = digits
        .split_once(decimal.character())
        .unwrap_or((digits, ""));
    let whole = ungrouped(whole, decimal)?;
    if whole.is_empty() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Fault::NotANumber);
    }
    if !fraction.bytes().all(|b| b == b'0') {
        return Err(Fault::NotWhole);
    }
    whole
        .bytes()
        .try_fold(0, |value, digit| shifted(value, digit, negative))
}

/// Reads a count as a program writes a double.
///
/// # Errors
/// What is wrong with it.
pub fn double_whole(text: &str) -> Result<i64, Fault> {
    let value = double_millionths(text)?;
    match value.checked_rem(MILLION) {
        Some(0) => value.checked_div(MILLION).ok_or(Fault::NotWhole),
        _ => Err(Fault::NotWhole),
    }
}

/// Reads a number as a program writes a double: a point, perhaps an exponent, perhaps more digits than mean anything.
/// What is finer than millionths is rounded, half away from zero: `-2e-18` is 0.
///
/// # Errors
/// What is wrong with it.
pub fn double_millionths(text: &str) -> Result<i64, Fault> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => {
            let exponent = exponent.strip_prefix('+').unwrap_or(exponent);
            (
                mantissa,
                exponent.parse::<i32>().map_err(|_| Fault::NotANumber)?,
            )
        }
        None => (digits, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = || whole.bytes().chain(fraction.bytes());
    if all().next().is_none() || !all().all(|b| b.is_ascii_digit()) {
        return Err(Fault::NotANumber);
    }
    // So many digits stand before the last millionth.
    let kept = i64::try_from(whole.len())
        .unwrap_or(i64::MAX)
        .saturating_add(exponent.into())
        .saturating_add(6);
    let (mut value, mut position) = (0_i64, 0_i64);
    for digit in all() {
        if position >= kept {
            if position == kept && digit >= b'5' {
                let away = if negative { -1 } else { 1 };
                value = value.checked_add(away).ok_or(Fault::TooLarge)?;
            }
            return Ok(value);
        }
        value = shifted(value, digit, negative)?;
        position = position.saturating_add(1);
    }
    while position < kept && value != 0 {
        value = shifted(value, b'0', negative)?;
        position = position.saturating_add(1);
    }
    Ok(value)
}

/// What one cell says of the file's decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Not a number, or one that is the same in every style.
    Nothing,
    /// It can be read one way only.
    Is(Decimal),
    /// One separator and three digits behind it: it groups them, or it is this decimal.
    Either(Decimal),
}

/// What a cell says of the file's decimal.
pub fn hint(text: &str) -> Hint {
    let plain = bare(text);
    if plain.bytes().all(|b| b.is_ascii_digit()) || is_unknown(plain) {
        return Hint::Nothing;
    }
    let (_, digits) = unsigned(plain.trim_end_matches('%'));
    let of = |c: char| match c {
        '.' => Some(Decimal::Point),
        ',' => Some(Decimal::Comma),
        _ => None,
    };
    let mut separators = digits.chars().filter(|c| of(*c).is_some());
    let Some(last) = separators.next_back() else {
        return Hint::Nothing;
    };
    let Some(decimal) = of(last) else {
        return Hint::Nothing;
    };
    let (before, behind) = digits.rsplit_once(last).unwrap_or((digits, ""));
    let as_decimal = millionths(digits, decimal).is_ok();
    let as_grouping = millionths(digits, decimal.other()).is_ok();
    match (as_decimal, as_grouping) {
        (true, false) => Hint::Is(decimal),
        (false, true) => Hint::Is(decimal.other()),
        // Nobody writes 0,123 for 123.
        (true, true) if before.starts_with('0') => Hint::Is(decimal),
        (true, true) if behind.len() == 3 => Hint::Either(decimal),
        _ => Hint::Nothing,
    }
}

/// What the cells of a file say of its decimal, together.
#[derive(Clone, Debug, Default)]
pub struct Hints {
    /// How many can be read one way only: with a point, and with a comma.
    certain: (u32, u32),
    /// From counts, which have no fraction: their separator groups.
    from_counts: Option<Decimal>,
    /// From columns that are not read, such as rates.
    from_others: Option<Decimal>,
    /// Some number depends on it: its line, and the text.
    open: Option<(u64, String)>,
}

/// What kind of column a cell is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    Count,
    Amount,
    Other,
}

impl Hints {
    /// Takes in a cell.
    pub fn add(&mut self, text: &str, column: Column, line: u64) {
        match (hint(text), column) {
            (Hint::Nothing, _) => {}
            (Hint::Is(decimal), Column::Other) => {
                self.from_others.get_or_insert(decimal);
            }
            (Hint::Is(Decimal::Point), _) => self.certain.0 = self.certain.0.saturating_add(1),
            (Hint::Is(Decimal::Comma), _) => self.certain.1 = self.certain.1.saturating_add(1),
            (Hint::Either(decimal), Column::Count) => {
                self.from_counts.get_or_insert(decimal.other());
                self.open.get_or_insert_with(|| (line, text.to_owned()));
            }
            (Hint::Either(_), Column::Amount) => {
                self.open.get_or_insert_with(|| (line, text.to_owned()));
            }
            (Hint::Either(_), Column::Other) => {}
        }
    }

    /// Whether so many cells have said it that the rest need not be asked. One that says otherwise is refused when it is read.
    pub fn is_certain(&self) -> bool {
        const ENOUGH: u32 = 64;
        self.certain.0.max(self.certain.1) >= ENOUGH
    }

    /// The file's decimal.
    ///
    /// # Errors
    /// The line and the text of a number that could be read both ways.
    pub fn decide(self) -> Result<Decimal, (u64, String)> {
        let certain = match self.certain {
            (0, 0) => None,
            (point, comma) if point >= comma => Some(Decimal::Point),
            _ => Some(Decimal::Comma),
        };
        let decided = certain.or(self.from_counts).or(self.from_others);
        match (decided, self.open) {
            (Some(decimal), _) => Ok(decimal),
            (None, None) => Ok(Decimal::Point),
            (None, Some(open)) => Err(open),
        }
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn styles_of_the_world() {
        for (text, decimal, value) in [
            ("1,234.56", Decimal::Point, 1_234_560_000),
            ("1.234,56", Decimal::Comma, 1_234_560_000),
            ("1 234,56", Decimal::Comma, 1_234_560_000),
            ("1\u{a0}234,56", Decimal::Comma, 1_234_560_000),
            ("1\u{202f}234,56", Decimal::Comma, 1_234_560_000),
            ("1'234.56", Decimal::Point, 1_234_560_000),
            ("1’234’567.5", Decimal::Point, 1_234_567_500_000),
            ("12,34,567.00", Decimal::Point, 1_234_567_000_000),
            ("-0,5", Decimal::Comma, -500_000),
            ("\u{2212}3", Decimal::Comma, -3_000_000),
            ("€1.234,5", Decimal::Comma, 1_234_500_000),
            ("-$1.50", Decimal::Point, -1_500_000),
            ("12,30 €", Decimal::Comma, 12_300_000),
            (".5", Decimal::Point, 500_000),
            ("161074.000", Decimal::Point, 161_074_000_000),
            ("=\"42\"", Decimal::Point, 42_000_000),
            ("1.23000000", Decimal::Point, 1_230_000),
            (
                "9223372036854.775807",
                Decimal::Point,
                9_223_372_036_854_775_807,
            ),
            (
                "-9223372036854.775808",
                Decimal::Point,
                -9_223_372_036_854_775_808,
            ),
        ] {
            assert_eq!(millionths(text, decimal), Ok(value), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in [
            "",
            "abc",
            "1,2,3",
            "12,34",
            "1.2.3",
            "1 23",
            "0x1",
            "1e5",
            "--1",
            "1 234'567",
        ] {
            assert_eq!(
                millionths(text, Decimal::Point),
                Err(Fault::NotANumber),
                "{text}"
            );
        }
        assert_eq!(millionths("0.1234567", Decimal::Point), Err(Fault::TooFine));
        assert_eq!(
            millionths("9223372036854.775808", Decimal::Point),
            Err(Fault::TooLarge)
        );
        assert_eq!(whole("1.5", Decimal::Point), Err(Fault::NotWhole));
        assert_eq!(whole("161.000", Decimal::Point), Ok(161));
        assert_eq!(whole("161.000", Decimal::Comma), Ok(161_000));
    }

    #[test]
    fn doubles_of_programs() {
        for (text, value) in [
            ("-2e-18", 0),
            ("0.0000005", 1),
            ("-0.0000005", -1),
            ("0.0000004999", 0),
            ("1.5", 1_500_000),
            ("12.340000000000002", 12_340_000),
            ("1E3", 1_000_000_000),
            ("1.5e+2", 150_000_000),
            ("5e-7", 1),
            ("0", 0),
            ("0e999999999", 0),
        ] {
            assert_eq!(double_millionths(text), Ok(value), "{text}");
        }
        assert_eq!(double_millionths("1e300"), Err(Fault::TooLarge));
        for text in ["", ".", "NaN", "1e", "--1", "1,5"] {
            assert_eq!(double_millionths(text), Err(Fault::NotANumber), "{text}");
        }
    }

    #[test]
    fn a_number_says_what_it_can_of_the_style() {
        for (text, said) in [
            ("1234", Hint::Nothing),
            ("--", Hint::Nothing),
            ("2024-06-03", Hint::Nothing),
            ("03.06.2024", Hint::Nothing),
            ("1,234", Hint::Either(Decimal::Comma)),
            ("1.234", Hint::Either(Decimal::Point)),
            ("0.123", Hint::Is(Decimal::Point)),
            ("1,23 %", Hint::Is(Decimal::Comma)),
            ("1,234,567", Hint::Is(Decimal::Point)),
            ("1,234.5", Hint::Is(Decimal::Point)),
            ("161074.000", Hint::Is(Decimal::Point)),
            ("1 234,567", Hint::Is(Decimal::Comma)),
        ] {
            assert_eq!(hint(text), said, "{text}");
        }
    }

    #[test]
    fn the_numbers_of_a_file_decide_together() {
        let decide = |cells: &[(&str, Column)]| {
            let mut hints = Hints::default();
            for (line, (text, column)) in (1..).zip(cells) {
                hints.add(text, *column, line);
            }
            hints.decide()
        };
        assert_eq!(
            decide(&[("1,234", Column::Amount), ("0,5", Column::Amount)]),
            Ok(Decimal::Comma)
        );
        assert_eq!(
            decide(&[("1,234", Column::Amount), ("5,678", Column::Count)]),
            Ok(Decimal::Point)
        );
        assert_eq!(
            decide(&[("1,234", Column::Amount), ("0,52 %", Column::Other)]),
            Ok(Decimal::Comma)
        );
        assert_eq!(
            decide(&[("12", Column::Count), ("1.234", Column::Amount)]),
            Err((2, "1.234".to_owned()))
        );
        assert_eq!(decide(&[("12", Column::Count)]), Ok(Decimal::Point));
    }

    /// A number in a style.
    fn written(value: i64, decimal: Decimal, grouping: &str) -> String {
        let (units, rest) = (
            value.unsigned_abs() / 1_000_000,
            value.unsigned_abs() % 1_000_000,
        );
        let digits = units.to_string();
        let mut out = String::new();
        for (i, c) in digits.chars().enumerate() {
            if i > 0 && (digits.len() - i).is_multiple_of(3) {
                out.push_str(grouping);
            }
            out.push(c);
        }
        let sign = if value < 0 { "-" } else { "" };
        format!("{sign}{out}{}{rest:06}", decimal.character())
    }

    proptest! {
        #[test]
        fn a_number_in_any_style_is_the_same_number(value in any::<i64>(), comma in any::<bool>(), grouping in 0..6_usize) {
            let decimal = if comma { Decimal::Comma } else { Decimal::Point };
            let other = decimal.other().character().to_string();
            let grouping = ["", other.as_str(), " ", "\u{a0}", "\u{202f}", "’"][grouping];
            let text = written(value, decimal, grouping);
            prop_assert_eq!(millionths(&text, decimal), Ok(value));
            prop_assert_eq!(double_millionths(&written(value, Decimal::Point, "")), Ok(value));
        }

        #[test]
        fn any_text_is_a_number_or_refused(text in any::<String>()) {
            let _ = (millionths(&text, Decimal::Point), whole(&text, Decimal::Comma), double_millionths(&text), hint(&text));
        }

        #[test]
        fn any_text_of_number_characters_is_a_number_or_refused(text in "[-+0-9., '%e]{0,24}") {
            let _ = (millionths(&text, Decimal::Point), whole(&text, Decimal::Comma), double_millionths(&text), hint(&text));
        }
    }
}

//! Days as files write them. A form that could mean two days is decided by the file's other days, or refused.

use chrono::{Datelike as _, NaiveDate};

/// In which order a file writes days of numbers alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    DayMonth,
    MonthDay,
}

/// What a cell says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// One day, in whatever order.
    Day(NaiveDate),
    /// It could be either: as day and month, and as month and day.
    Either(NaiveDate, NaiveDate),
}

/// What the months begin with in English, German, French, Spanish and Portuguese.
const MONTHS: [(&str, u32); 32] = [
    ("jan", 1),
    ("jän", 1),
    ("ene", 1),
    ("feb", 2),
    ("fév", 2),
    ("fev", 2),
    ("mar", 3),
    ("mär", 3),
    ("mrz", 3),
    ("apr", 4),
    ("avr", 4),
    ("abr", 4),
    ("may", 5),
    ("mai", 5),
    ("jun", 6),
    ("juin", 6),
    ("jul", 7),
    ("juil", 7),
    ("aug", 8),
    ("aoû", 8),
    ("aou", 8),
    ("ago", 8),
    ("sep", 9),
    ("set", 9),
    ("oct", 10),
    ("okt", 10),
    ("out", 10),
    ("nov", 11),
    ("dec", 12),
    ("dez", 12),
    ("déc", 12),
    ("dic", 12),
];

fn month(word: &str) -> Option<u32> {
    let word = word.to_lowercase();
    let mut matches = MONTHS.iter().filter(|(name, _)| word.starts_with(name));
    matches.next().map(|(_, month)| *month)
}

fn number(part: &str) -> Option<u32> {
    let is_short = (1..=4).contains(&part.len());
    (is_short && part.bytes().all(|b| b.is_ascii_digit()))
        .then(|| part.parse().ok())
        .flatten()
}

fn day(year: u32, month: u32, day: u32) -> Option<NaiveDate> {
    let year = i32::try_from(year).ok()?;
    // No platform has reports of other times, and SQL and RFC 3339 can write these.
    (1990..=9998)
        .contains(&year)
        .then(|| NaiveDate::from_ymd_opt(year, month, day))
        .flatten()
}

/// Reads a day: `2024-06-03`, `2024/6/3`, `03.06.2024`, `6/3/2024`, `3 juin 2024`, `Jun 3, 2024`; with midnight behind it or not.
pub fn read(text: &str) -> Option<Written> {
    let text = super::number::bare(text);
    // Nearly every day is written so.
    if text.len() == 10
        && let Some(day) = iso(text)
    {
        return Some(Written::Day(day));
    }
    if text.len() > 40 {
        return None;
    }
    let text = without_midnight(text);
    if text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit()) {
        let (year, rest) = text.split_at_checked(4)?;
        let (m, d) = rest.split_at_checked(2)?;
        return day(number(year)?, number(m)?, number(d)?).map(Written::Day);
    }
    if text.chars().any(char::is_alphabetic) {
        return worded(text).map(Written::Day);
    }
    let separator = text.chars().find(|c| !c.is_ascii_digit())?;
    if !matches!(separator, '-' | '/' | '.') {
        return None;
    }
    let mut parts = text.split(separator);
    let (first, second, third) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let (a, b, c) = (number(first)?, number(second)?, number(third)?);
    if first.len() == 4 {
        return day(a, b, c).map(Written::Day);
    }
    if third.len() != 4 || first.len() > 2 || second.len() > 2 {
        return None;
    }
    let (by_day, by_month) = (day(c, b, a), day(c, a, b));
    match (by_day, by_month) {
        // With points, every country that uses them begins with the day.
        (Some(found), _) if separator == '.' => Some(Written::Day(found)),
        (Some(one), Some(other)) if one != other => Some(Written::Either(one, other)),
        (Some(found), _) => Some(Written::Day(found)),
        (None, Some(found)) if separator != '.' => Some(Written::Day(found)),
        _ => None,
    }
}

/// `2024-06-03`.
fn iso(text: &str) -> Option<NaiveDate> {
    let mut parts = text.split('-');
    let (year, month, date) = (parts.next()?, parts.next()?, parts.next()?);
    let is_iso = year.len() == 4 && month.len() == 2 && date.len() == 2 && parts.next().is_none();
    is_iso
        .then(|| day(number(year)?, number(month)?, number(date)?))
        .flatten()
}

/// A day that is written as an instant is its midnight.
fn without_midnight(text: &str) -> &str {
    for end in [
        "T00:00:00Z",
        "T00:00:00.000Z",
        "T00:00:00",
        " 00:00:00 UTC",
        " 00:00:00",
        " 00:00",
    ] {
        if let Some(day) = text.strip_suffix(end) {
            return day;
        }
    }
    text
}

/// A day whose month is a word.
fn worded(text: &str) -> Option<NaiveDate> {
    let (mut year, mut date, mut named) = (None, None, None);
    let parts = text.split(|c: char| c.is_whitespace() || matches!(c, ',' | '-' | '.' | '/'));
    for part in parts.filter(|part| !part.is_empty() && *part != "de") {
        let slot = if part.len() == 4 && number(part).is_some() {
            &mut year
        } else if number(part).is_some() {
            &mut date
        } else {
            &mut named
        };
        if slot.replace(part).is_some() {
            return None;
        }
    }
    day(number(year?)?, month(named?)?, number(date?)?)
}

/// What the days of a file say of their order, together.
#[derive(Clone, Debug, Default)]
pub struct Orders {
    /// Days whose order was shown by a number beyond twelve.
    shown: Option<Order>,
    open: Option<(u64, String)>,
}

impl Orders {
    /// Takes in a cell.
    pub fn add(&mut self, text: &str, line: u64) {
        match read(text) {
            Some(Written::Either(..)) => {
                self.open.get_or_insert_with(|| (line, text.to_owned()));
            }
            Some(Written::Day(day)) => {
                let text = super::number::bare(text);
                let mut parts = text.split(['/', '-']);
                let (first, second) = (parts.next(), parts.next());
                let as_number = |part: Option<&str>| part.and_then(number);
                if first.is_some_and(|part| part.len() > 2) {
                    return;
                }
                if let (Some(first), Some(second)) = (as_number(first), as_number(second))
                    && first != second
                {
                    let shown = if first == day.day() {
                        Order::DayMonth
                    } else {
                        Order::MonthDay
                    };
                    self.shown.get_or_insert(shown);
                }
            }
            None => {}
        }
    }

    /// Whether what came so far can be read.
    pub fn is_certain(&self) -> bool {
        self.shown.is_some() || self.open.is_none()
    }

    /// The file's order; none if no day needs one.
    ///
    /// # Errors
    /// The line and the text of a day that could be read both ways.
    pub fn decide(self) -> Result<Option<Order>, (u64, String)> {
        match (self.shown, self.open) {
            (None, Some(open)) => Err(open),
            (shown, _) => Ok(shown),
        }
    }
}

/// The day that a cell says in a file of this order.
pub fn in_order(text: &str, order: Option<Order>) -> Option<NaiveDate> {
    match (read(text)?, order) {
        (Written::Day(day), _) => Some(day),
        (Written::Either(day, _), Some(Order::DayMonth)) => Some(day),
        (Written::Either(_, day), Some(Order::MonthDay)) => Some(day),
        (Written::Either(..), None) => None,
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn june(day: u32) -> NaiveDate {
        NaiveDate::from_ymd_opt(2024, 6, day).expect("a day")
    }

    #[test]
    fn days_of_the_world() {
        for text in [
            "2024-06-03",
            "2024/6/3",
            "20240603",
            "03.06.2024",
            "3.6.2024",
            "Jun 3, 2024",
            "June 3, 2024",
            "3 juin 2024",
            "3. Juni 2024",
            "3 de junho de 2024",
            "3 jun. 2024",
            "3-Jun-2024",
            "2024-06-03 00:00:00",
            "2024-06-03T00:00:00Z",
            " 2024-06-03 ",
        ] {
            assert_eq!(read(text), Some(Written::Day(june(3))), "{text}");
        }
        assert_eq!(read("25/6/2024"), Some(Written::Day(june(25))));
        assert_eq!(read("6/25/2024"), Some(Written::Day(june(25))));
        let march = NaiveDate::from_ymd_opt(2024, 3, 6);
        assert_eq!(
            Some(Written::Either(june(3), march.expect("a day"))),
            read("3/6/2024")
        );
        let july = NaiveDate::from_ymd_opt(2024, 7, 3);
        assert_eq!(read("3 juil. 2024"), july.map(Written::Day));
        for text in [
            "",
            "2024-06-31",
            "2024-13-01",
            "99999999",
            "3/6/24",
            "Total",
            "1-2-3-4",
            "2024-06-03 12:00:00",
            "-",
            "262143-01-01",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn the_days_of_a_file_decide_together() {
        let decide = |cells: &[&str]| {
            let mut orders = Orders::default();
            for (line, text) in (1..).zip(cells) {
                orders.add(text, line);
            }
            orders.decide()
        };
        assert_eq!(
            decide(&["3/6/2024", "25/6/2024"]),
            Ok(Some(Order::DayMonth))
        );
        assert_eq!(
            decide(&["3/6/2024", "6/25/2024"]),
            Ok(Some(Order::MonthDay))
        );
        assert_eq!(decide(&["2024-06-03"]), Ok(None));
        assert_eq!(decide(&["6/6/2024"]), Ok(None));
        assert_eq!(decide(&["3/6/2024"]), Err((1, "3/6/2024".to_owned())));
        assert_eq!(in_order("3/6/2024", Some(Order::DayMonth)), Some(june(3)));
        assert_eq!(in_order("6/3/2024", Some(Order::MonthDay)), Some(june(3)));
        assert_eq!(in_order("6/3/2024", None), None);
    }

    proptest! {
        #[test]
        fn a_day_in_any_form_is_the_same_day(offset in 0..12_000_i64) {
            let start = NaiveDate::from_ymd_opt(1995, 1, 1).expect("a day");
            let day = start + chrono::TimeDelta::days(offset);
            for form in ["%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%b %-d, %Y", "%-d %B %Y", "%Y%m%d"] {
                let text = format_of(day, form);
                prop_assert_eq!(read(&text), Some(Written::Day(day)), "{}", text);
            }
            let text = format_of(day, "%-m/%-d/%Y");
            prop_assert_eq!(in_order(&text, Some(Order::MonthDay)), Some(day));
        }

        #[test]
        fn any_text_is_a_day_or_none(text in any::<String>(), dates in "[0-9/.-]{0,14}") {
            let _ = (read(&text), read(&dates));
        }
    }

    /// As chrono writes it. Its own formatter needs a feature that nothing else here does.
    fn format_of(day: NaiveDate, form: &str) -> String {
        const NAMES: [&str; 12] = [
            "January",
            "February",
            "March",
            "April",
            "May",
            "June",
            "July",
            "August",
            "September",
            "October",
            "November",
            "December",
        ];
        let name = NAMES[day.month0() as usize];
        let (y, m, d) = (day.year(), day.month(), day.day());
        match form {
            "%Y-%m-%d" => format!("{y}-{m:02}-{d:02}"),
            "%Y/%m/%d" => format!("{y}/{m:02}/{d:02}"),
            "%d.%m.%Y" => format!("{d:02}.{m:02}.{y}"),
            "%b %-d, %Y" => format!("{} {d}, {y}", &name[..3]),
            "%-d %B %Y" => format!("{d} {name} {y}"),
            "%Y%m%d" => format!("{y}{m:02}{d:02}"),
            _ => format!("{m}/{d}/{y}"),
        }
    }
}

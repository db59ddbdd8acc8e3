//! The European Central Bank's file of euro reference rates, as it is published: `eurofxref-hist.csv` with every day since 1999, or
//! `eurofxref.csv` with the last one, plain or in a .zip.
//!
//! A line is a day, newest first, and a column a currency; a currency that has no rate that day has `N/A`. All of a file is taken or
//! nothing: whatever is not as it must be is refused with its place.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

use chrono::NaiveDate;
use csv::StringRecord;

use super::Rate;
use crate::currency::Currency;
use crate::reports::refusal::Refusal;
use crate::reports::row::Place;
use crate::reports::source::{self, Kind, Limits, Source};
use crate::reports::text::{Text, refusal_of};

/// What the rates of the European Central Bank are called here.
pub const SOURCE: &str = "ecb";

/// Its rates are for one euro.
pub fn base() -> Currency {
    Currency::from_code("EUR").unwrap_or(Currency::UNKNOWN)
}

/// All days since 1999 are 2 MiB.
const LIMITS: Limits = Limits {
    unpacked: 64 << 20,
    workbook: 0,
    entries: 1,
    ..Limits::USUAL
};

const REMEDY: &str =
    "download eurofxref-hist.csv or eurofxref-hist.zip of the European Central Bank again";

/// What a file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateFile {
    pub name: String,
    pub sha256: [u8; 32],
    pub first_day: NaiveDate,
    pub last_day: NaiveDate,
    /// By day and currency; a day may have none.
    pub rates: BTreeMap<(NaiveDate, Currency), Rate>,
    /// Columns of what is no currency any more, such as CYP.
    pub ignored: Vec<String>,
}

/// Reads a file; `-` is standard input. `today` is the last day that may be in it.
///
/// # Errors
/// Why it is refused.
pub fn open(path: &Path, stdin: impl Read, today: NaiveDate) -> Result<RateFile, Refusal> {
    let sources = if path.as_os_str() == "-" {
        source::from_reader("standard input", stdin, LIMITS)
    } else {
        source::open(path, LIMITS)
    };
    let words = |text: &str| text.replace("a report", "a file of rates");
    let sources = sources.map_err(|refusal| refusal.in_words(words).so(REMEDY))?;
    match sources.as_slice() {
        [one] => read(one, today),
        _ => Err(Refusal::new("more than one file").so(REMEDY)),
    }
}

/// Reads what a source holds.
///
/// # Errors
/// Why it is refused.
pub fn read(source: &Source, today: NaiveDate) -> Result<RateFile, Refusal> {
    let Kind::Text(encoding) = source.kind else {
        return Err(Refusal::new("an Excel file").so(REMEDY));
    };
    let text = Text::new(source.bytes()?, encoding);
    let budget = text.budget();
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(text);
    let mut record = StringRecord::new();
    let mut next = |record: &mut StringRecord| {
        budget.begin_record();
        match reader.read_record(record) {
            Ok(false) => Ok(None),
            Ok(true) => Ok(Some(line_of(record))),
            Err(error) => match error.into_kind() {
                csv::ErrorKind::Io(error) => Err(refusal_of(&error)),
                kind => Err(Refusal::new(format!("cannot be read: {kind:?}"))),
            },
        }
    };
    let head = match next(&mut record)? {
        Some(line) => Head::of(&record).map_err(|refusal| refusal.at(line))?,
        None => return Err(Refusal::new("an empty file").so(REMEDY)),
    };
    let mut days = BTreeSet::new();
    let mut rates = BTreeMap::new();
    while let Some(line) = next(&mut record)? {
        let day = head.day(&record, today, &mut rates);
        let day = day.map_err(|refusal| refusal.at(line.clone()))?;
        if !days.insert(day) {
            let refusal = Refusal::new("a day that stands there twice").so(REMEDY);
            return Err(refusal.of(DATE, &day.to_string()).at(line));
        }
    }
    let (Some(first_day), Some(last_day)) = (days.first(), days.last()) else {
        return Err(Refusal::new("a file of rates without a day").so(REMEDY));
    };
    Ok(RateFile {
        name: source.name.clone(),
        sha256: source.sha256()?,
        first_day: *first_day,
        last_day: *last_day,
        rates,
        ignored: head.ignored,
    })
}

fn line_of(record: &StringRecord) -> Place {
    Place::Line(record.position().map_or(1, csv::Position::line))
}

/// The name of the first column.
const DATE: &str = "Date";
/// What stands where there is no rate.
const NONE: [&str; 2] = ["N/A", ""];

/// The columns of a file.
struct Head {
    /// None: a currency that is ignored, or the nothing behind the last comma.
    columns: Vec<Option<Currency>>,
    ignored: Vec<String>,
}

impl Head {
    fn of(record: &StringRecord) -> Result<Head, Refusal> {
        let not_rates = || {
            Refusal::new("not a file of rates: its first line is not 'Date' and currencies")
                .so(REMEDY)
        };
        let mut cells = record.iter();
        if cells.next() != Some(DATE) {
            return Err(not_rates());
        }
        let mut head = Head {
            columns: Vec::new(),
            ignored: Vec::new(),
        };
        let mut seen = BTreeSet::new();
        let last = record.len().saturating_sub(1);
        for (nth, name) in (1..).zip(cells) {
            let is_code = name.len() == 3 && name.bytes().all(|b| b.is_ascii_uppercase());
            let is_end = name.is_empty() && nth == last;
            if !is_code && !is_end {
                return Err(not_rates());
            }
            if is_code && !seen.insert(name) {
                let twice = Refusal::new("a column that stands there twice");
                return Err(twice.of(name, name).so(REMEDY));
            }
            let currency = Currency::from_code(name).filter(|currency| *currency != base());
            if is_code && currency.is_none() {
                head.ignored.push(name.to_owned());
            }
            head.columns.push(currency);
        }
        if head.columns.iter().all(Option::is_none) {
            return Err(not_rates());
        }
        Ok(head)
    }

    /// Reads a line: its day, and its rates into `rates`.
    fn day(
        &self,
        record: &StringRecord,
        today: NaiveDate,
        rates: &mut BTreeMap<(NaiveDate, Currency), Rate>,
    ) -> Result<NaiveDate, Refusal> {
        let mut cells = record.iter();
        let text = cells.next().unwrap_or_default();
        let refused = |reason: &str| Refusal::new(reason).of(DATE, text);
        let day = parse_day(text).ok_or_else(|| {
            refused("not a day such as 2026-11-30 or 30 November 2026").so(REMEDY)
        })?;
        if day > today {
            let reason = format!("a day that has not come: by this machine's clock it is {today}");
            return Err(refused(&reason).so("set the clock, or download the file again"));
        }
        if cells.clone().count() != self.columns.len() {
            let reason = format!(
                "{} values where the first line has {}",
                cells.count(),
                self.columns.len()
            );
            return Err(Refusal::new(reason).so(REMEDY));
        }
        for (currency, cell) in self.columns.iter().zip(cells) {
            let Some(currency) = currency else { continue };
            if NONE.contains(&cell) {
                continue;
            }
            let rate = Rate::parse(cell).map_err(|why| {
                Refusal::new(why.to_string())
                    .of(currency.code(), cell)
                    .so(REMEDY)
            })?;
            rates.insert((day, *currency), rate);
        }
        Ok(day)
    }
}

/// As the history writes it, or the file of the last day.
fn parse_day(text: &str) -> Option<NaiveDate> {
    if text.len() == 10 && text.bytes().all(|b| b.is_ascii_digit() || b == b'-') {
        return text.parse().ok();
    }
    NaiveDate::parse_from_str(text, "%d %B %Y").ok()
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use std::io::{Cursor, Write as _};

    use proptest::prelude::*;
    use zip::write::SimpleFileOptions;

    use super::*;

    const HISTORY: &str = "Date,USD,JPY,CYP,BGN,\n2026-06-05,1.1425,163.25,N/A,1.9558,\n2026-06-04,1.14,163,0.585,N/A,\n";

    fn date(text: &str) -> NaiveDate {
        text.parse().expect("a date")
    }

    fn read_of(bytes: &[u8]) -> Result<RateFile, Refusal> {
        open(Path::new("-"), bytes, date("2026-06-08"))
    }

    fn refused(text: &str) -> String {
        read_of(text.as_bytes()).expect_err(text).to_string()
    }

    fn shown(file: &RateFile) -> Vec<String> {
        let all = file.rates.iter();
        all.map(|((day, currency), rate)| format!("{day} {currency} {rate}"))
            .collect()
    }

    #[test]
    fn the_history_plain_and_packed() {
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        zip.start_file("eurofxref-hist.csv", SimpleFileOptions::default())
            .expect("memory");
        zip.write_all(HISTORY.as_bytes()).expect("memory");
        let zip = zip.finish().expect("memory").into_inner();
        for bytes in [HISTORY.as_bytes(), &zip] {
            let file = read_of(bytes).expect("a history");
            assert_eq!(
                shown(&file),
                [
                    "2026-06-04 JPY 163",
                    "2026-06-04 USD 1.14",
                    "2026-06-05 BGN 1.9558",
                    "2026-06-05 JPY 163.25",
                    "2026-06-05 USD 1.1425",
                ]
            );
            assert_eq!(file.ignored, ["CYP"]);
            let days = [file.first_day, file.last_day];
            assert_eq!(days, [date("2026-06-04"), date("2026-06-05")]);
        }
    }

    #[test]
    fn all_columns_there_have_been() {
        let text = "Date,USD,JPY,BGN,CYP,CZK,DKK,EEK,GBP,HUF,LTL,LVL,MTL,PLN,ROL,RON,SEK,SIT,SKK,CHF,ISK,NOK,HRK,RUB,TRL,TRY,AUD,BRL,CAD,\
            CNY,HKD,IDR,ILS,INR,KRW,MXN,MYR,NZD,PHP,SGD,THB,ZAR,\n2026-06-05,";
        let columns = text
            .lines()
            .next()
            .map_or(0, |head| head.split(',').count() - 2);
        let file = read_of(format!("{text}{}\n", "1.5,".repeat(columns)).as_bytes());
        let file = file.expect("a history");
        assert_eq!(file.rates.len() + file.ignored.len(), columns);
        assert_eq!(
            file.ignored.join(" "),
            "CYP EEK LTL LVL MTL ROL SIT SKK HRK TRL"
        );
    }

    #[test]
    fn the_last_day() {
        let file = read_of(b"Date, USD, JPY, \n05 June 2026, 1.1425, 163.25, \n").expect("a day");
        assert_eq!(
            shown(&file),
            ["2026-06-05 JPY 163.25", "2026-06-05 USD 1.1425"]
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (text, said) in [
            ("", "an empty file"),
            ("%PDF-1.7", "not a file of rates but a PDF"),
            ("Day,Cost\n2026-06-05,1\n", "line 1, not a file of rates"),
            ("Date,Cost\n2026-06-05,1\n", "line 1, not a file of rates"),
            ("Date,CYP,\n2026-06-05,1,\n", "line 1, not a file of rates"),
            (
                "Date,USD,USD,\n2026-06-05,1,1,\n",
                "line 1, column 'USD', 'USD': a column that stands there twice",
            ),
            ("Date,USD,\n", "without a day"),
            (
                "Date,USD,\n2026-06-05,1.1,\n2026-06-05,1.1,\n",
                "line 3, column 'Date', '2026-06-05': a day that stands there twice",
            ),
            (
                "Date,USD,\n2026-06-09,1.1,\n",
                "line 2, column 'Date', '2026-06-09': a day that has not come",
            ),
            (
                "Date,USD,\n2026-02-30,1.1,\n",
                "line 2, column 'Date', '2026-02-30': not a day",
            ),
            (
                "Date,USD,\n05.06.2026,1.1,\n",
                "line 2, column 'Date', '05.06.2026': not a day",
            ),
            (
                "Date,USD,\n2026-06-05,0,\n",
                "line 2, column 'USD', '0': a rate that is not above zero",
            ),
            (
                "Date,USD,\n2026-06-05,-1.1,\n",
                "'-1.1': a rate that is not above zero",
            ),
            ("Date,USD,\n2026-06-05,\"1,1\",\n", "'1,1': not a number"),
            (
                "Date,USD,JPY,\n2026-06-05,1.1,\n",
                "line 2, 2 values where the first line has 3",
            ),
        ] {
            let refusal = refused(text);
            assert!(refusal.contains(said), "{text:?}: {refusal}");
            assert!(refusal.contains("; "), "says what to do: {refusal}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "(Date|[0-9]{1,4}|[A-Z]{3}|N/A|[-,. \"\n]|\\PC){0,60}") {
            let _ = read_of(text.as_bytes());
            let _ = read_of(format!("Date,USD,JPY,\n{text}").as_bytes());
        }

        #[test]
        fn what_was_written_is_read(
            rates in prop::collection::btree_map((0u64..9_000, 0usize..3), (1i64..1_000_000, 0u32..5), 1..40),
        ) {
            let codes = ["USD", "JPY", "CHF"];
            let first = date("1999-01-04");
            let days: BTreeSet<u64> = rates.keys().map(|(day, _)| *day).collect();
            let mut text = format!("Date,{},\n", codes.join(","));
            let mut expected = BTreeMap::new();
            for day in days.iter().rev() {
                let on = first + chrono::Days::new(*day);
                text.push_str(&on.to_string());
                for (nth, code) in codes.iter().enumerate() {
                    let cell = rates.get(&(*day, nth)).map(|(digits, behind)| {
                        let scale = 10_i64.pow(*behind);
                        let width = *behind as usize;
                        let cell = format!("{}.{:0width$}", digits / scale, digits % scale);
                        cell.trim_end_matches('.').trim_end_matches(".0").to_owned()
                    });
                    if let Some(cell) = &cell {
                        let currency = Currency::from_code(code).expect("known");
                        expected.insert((on, currency), Rate::parse(cell).expect("a rate"));
                    }
                    text.push(',');
                    text.push_str(cell.as_deref().unwrap_or("N/A"));
                }
                text.push_str(",\n");
            }
            let file = open(Path::new("-"), text.as_bytes(), date("2026-06-08")).expect("a history");
            prop_assert_eq!(file.rates, expected);
        }
    }
}

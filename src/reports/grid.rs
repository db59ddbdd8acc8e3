//! Records of cells, one at a time: lines of a CSV, or rows of a sheet.

use std::io::BufReader;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use calamine::{DataRef, Reader as _, Xlsx};
use csv::StringRecord;

use super::refusal::Refusal;
use super::row::Place;
use super::source::{Kind, Source};
use super::text::{Text, refusal_of};

/// One record.
#[derive(Debug, Default)]
pub struct Record {
    pub cells: StringRecord,
    /// Which cells are numbers to the spreadsheet, and so in nobody's style.
    numbers: Vec<usize>,
    /// The line, or the sheet's row.
    pub number: u64,
}

impl Record {
    /// The text of a cell; empty if the record is shorter.
    pub fn cell(&self, index: usize) -> &str {
        self.cells.get(index).unwrap_or("")
    }

    /// Whether a cell is a number to the spreadsheet.
    pub fn is_number(&self, index: usize) -> bool {
        self.numbers.contains(&index)
    }

    /// Whether nothing is in it.
    pub fn is_blank(&self) -> bool {
        self.cells.iter().all(|cell| cell.trim().is_empty())
    }
}

/// How the records of a file are found.
#[derive(Clone, Debug)]
pub enum Grid {
    Csv { separator: u8 },
    Sheet { name: Arc<str> },
}

impl Grid {
    /// Where the record of a number is.
    pub fn place(&self, number: u64) -> Place {
        match self {
            Grid::Csv { .. } => Place::Line(number),
            Grid::Sheet { name } => Place::Sheet {
                name: Arc::clone(name),
                row: number,
            },
        }
    }
}

/// What is done with a record: whether to go on, or a refusal of the file.
pub type Step = Result<ControlFlow<()>, Refusal>;

/// Hands over each record, until told to stop. `read`: how many bytes of the file are behind.
///
/// # Errors
/// What is wrong with the file, and whatever `each` refuses.
pub fn for_each(
    source: &Source,
    grid: &Grid,
    each: &mut dyn FnMut(&Record, u64) -> Step,
) -> Result<(), Refusal> {
    match grid {
        Grid::Csv { separator } => lines(source, *separator, each),
        Grid::Sheet { name } => sheet(source, name, each),
    }
}

fn lines(
    source: &Source,
    separator: u8,
    each: &mut dyn FnMut(&Record, u64) -> Step,
) -> Result<(), Refusal> {
    let Kind::Text(encoding) = source.kind else {
        return Err(Refusal::new("not text; this is a bug"));
    };
    let text = Text::new(source.bytes()?, encoding);
    let budget = text.budget();
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(separator)
        .buffer_capacity(1 << 16)
        .from_reader(text);
    let mut record = Record::default();
    loop {
        budget.begin_record();
        let found = reader.read_record(&mut record.cells);
        match found {
            Ok(false) => return Ok(()),
            Ok(true) => {}
            Err(error) => return Err(of_csv(error)),
        }
        let position = record.cells.position();
        record.number = line_of(&reader, &record.cells, position);
        let read = position.map_or(0, csv::Position::byte);
        if each(&record, read)?.is_break() {
            return Ok(());
        }
    }
}

/// The line that a record begins on. Its own position is that of blank lines before it, if there are any: the line is told by
/// where the record ends.
fn line_of(
    reader: &csv::Reader<Text>,
    cells: &StringRecord,
    position: Option<&csv::Position>,
) -> u64 {
    let behind = reader.position();
    let within = cells.as_slice().bytes().filter(|b| *b == b'\n').count();
    let within = u64::try_from(within).unwrap_or(u64::MAX);
    let own_end = u64::from(reader.get_ref().counts_its_end(behind.byte()));
    let line = behind.line().saturating_sub(within).saturating_sub(own_end);
    // Where lines end as on old Macs, none is counted.
    line.max(position.map_or(1, csv::Position::line))
}

fn of_csv(error: csv::Error) -> Refusal {
    let line = error.position().map(csv::Position::line);
    match error.into_kind() {
        csv::ErrorKind::Io(error) => refusal_of(&error),
        kind => {
            let refusal = Refusal::new(format!("cannot be read: {kind:?}"));
            match line {
                Some(line) => refusal.at(Place::Line(line)),
                None => refusal,
            }
        }
    }
}

/// The names of a workbook's sheets.
///
/// # Errors
/// When it is none.
pub fn sheets(source: &Source) -> Result<Vec<Arc<str>>, Refusal> {
    guarded(|| {
        let workbook = workbook(source)?;
        Ok(workbook.sheet_names().into_iter().map(Arc::from).collect())
    })
}

type Workbook = Xlsx<BufReader<std::fs::File>>;

fn broken(error: &calamine::XlsxError) -> Refusal {
    Refusal::new(format!("cannot be read as an Excel file: {error}"))
        .so("export it again, or as CSV")
}

fn workbook(source: &Source) -> Result<Workbook, Refusal> {
    Xlsx::new(BufReader::new(source.bytes()?)).map_err(|error| broken(&error))
}

/// A reader of such a format meets what its writers did not think of: that must not end the process.
fn guarded<T>(read: impl FnOnce() -> Result<T, Refusal>) -> Result<T, Refusal> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| {
        Err(Refusal::new("cannot be read as an Excel file").so("export it again, or as CSV"))
    })
}

/// Wider than any export; wide rows of nothing would fill memory.
const WIDEST: u32 = 2_000;

fn sheet(
    source: &Source,
    name: &str,
    each: &mut dyn FnMut(&Record, u64) -> Step,
) -> Result<(), Refusal> {
    guarded(|| {
        let mut workbook = workbook(source)?;
        let cells = workbook.worksheet_cells_reader(name);
        let mut cells = cells.map_err(|error| broken(&error))?;
        let mut record = Record::default();
        loop {
            let cell = cells.next_cell().map_err(|error| broken(&error))?;
            let row = cell
                .as_ref()
                .map(|cell| u64::from(cell.get_position().0).saturating_add(1));
            if row != Some(record.number) && record.number > 0 {
                if each(&record, 0)?.is_break() {
                    return Ok(());
                }
                record.cells.clear();
                record.numbers.clear();
            }
            let (Some(cell), Some(row)) = (cell, row) else {
                return Ok(());
            };
            record.number = row;
            let column = cell.get_position().1;
            if column >= WIDEST {
                return Err(Refusal::new(format!(
                    "a sheet of more than {WIDEST} columns"
                )));
            }
            let column = usize::try_from(column).unwrap_or(usize::MAX);
            while record.cells.len() < column {
                record.cells.push_field("");
            }
            let (text, is_number) = written(cell.get_value());
            if is_number {
                record.numbers.push(record.cells.len());
            }
            record.cells.push_field(&text);
        }
    })
}

/// A cell as text, and whether it is a number to the spreadsheet.
fn written<'a>(value: &'a DataRef<'_>) -> (std::borrow::Cow<'a, str>, bool) {
    use std::borrow::Cow;
    match value {
        DataRef::Int(number) => (Cow::Owned(number.to_string()), true),
        // The shortest text that is the same double, and never with an exponent.
        DataRef::Float(number) => (Cow::Owned(number.to_string()), true),
        DataRef::String(text) => (Cow::Borrowed(text), false),
        DataRef::SharedString(text) => (Cow::Borrowed(text), false),
        DataRef::Bool(value) => (Cow::Owned(value.to_string()), false),
        DataRef::DateTime(time) => {
            let (year, month, day, hour, minute, second, _) = time.to_ymd_hms_milli();
            let day = format!("{year:04}-{month:02}-{day:02}");
            if (hour, minute, second) == (0, 0, 0) {
                (Cow::Owned(day), false)
            } else {
                let time = format!("{day} {hour:02}:{minute:02}:{second:02}");
                (Cow::Owned(time), false)
            }
        }
        DataRef::DateTimeIso(text) | DataRef::DurationIso(text) => (Cow::Borrowed(text), false),
        DataRef::Error(error) => (Cow::Owned(error.to_string()), false),
        DataRef::Empty => (Cow::Borrowed(""), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reports::source::{Limits, from_reader};

    fn records(text: &str) -> Result<Vec<(u64, Vec<String>)>, Refusal> {
        let sources = from_reader("it", text.as_bytes(), Limits::USUAL)?;
        let mut records = Vec::new();
        for_each(
            &sources[0],
            &Grid::Csv { separator: b',' },
            &mut |record, _| {
                let cells = record.cells.iter().map(str::to_owned).collect();
                records.push((record.number, cells));
                Ok(ControlFlow::Continue(()))
            },
        )?;
        Ok(records)
    }

    #[test]
    fn records_know_their_lines() {
        let found = records("title\n\n\r\na,b\n\"c\nd\",e\nf\n").expect("readable");
        let lines: Vec<_> = found
            .iter()
            .map(|(line, cells)| (*line, cells.len()))
            .collect();
        assert_eq!(lines, [(1, 1), (4, 2), (5, 2), (7, 1)]);
        for text in [
            "title\r\n\r\na,b\r\n\"c\r\nd\",e\r\n\r\nf",
            "title\n\na,b\n\"c\nd\",e\n\nf",
        ] {
            let found = records(text).expect("readable");
            let lines: Vec<_> = found.iter().map(|(line, _)| *line).collect();
            assert_eq!(lines, [1, 3, 4, 7], "{text:?}");
        }
    }

    #[test]
    fn cells_of_a_sheet_are_text_that_means_the_same() {
        let time = |days| {
            let kind = calamine::ExcelDateTimeType::DateTime;
            DataRef::DateTime(calamine::ExcelDateTime::new(days, kind, false))
        };
        for (cell, text, is_number) in [
            (time(45446.0), "2024-06-03", false),
            (time(45446.5), "2024-06-03 12:00:00", false),
            (DataRef::Float(12.34), "12.34", true),
            (DataRef::Float(1e21), "1000000000000000000000", true),
            (DataRef::Int(-5), "-5", true),
            (DataRef::SharedString("a"), "a", false),
            (DataRef::Empty, "", false),
        ] {
            assert_eq!(written(&cell), (text.into(), is_number));
        }
    }

    #[test]
    fn quotes_without_an_end_are_refused() {
        let text = format!("a,b\n\"c,{}", "d,e\n".repeat(1 << 20));
        let refusal = records(&text).expect_err("no end").to_string();
        assert!(refusal.contains("quotes without an end"), "{refusal}");
    }
}

//! What stands in one place of a file, for a person who follows a number back to it.

use std::io::{BufRead as _, BufReader};
use std::ops::ControlFlow;

use super::grid::{self, Grid};
use super::json::{self, Item};
use super::refusal::Refusal;
use super::source::{Kind, Source};
use super::text::{Text, refusal_of};

/// The text of a line; of a workbook the cells of a row, of an API's answer a report. None behind the end.
///
/// # Errors
/// When the file cannot be read.
pub fn text(source: &Source, number: u64) -> Result<Option<String>, Refusal> {
    let mut found = None;
    match source.kind {
        Kind::Workbook => {
            for name in grid::sheets(source)? {
                let sheet = Grid::Sheet { name };
                grid::for_each(source, &sheet, &mut |record, _| {
                    if record.number < number {
                        return Ok(ControlFlow::Continue(()));
                    }
                    if record.number == number && found.is_none() {
                        let cells: Vec<&str> = record.cells.iter().collect();
                        found = Some(cells.join("\t"));
                    }
                    Ok(ControlFlow::Break(()))
                })?;
            }
        }
        Kind::Text(_) if json::is_json(source)? => {
            json::for_each(source, &mut |item, nth| match item {
                Item::Report(report) if nth == number => {
                    found = Some(report.to_owned());
                    Ok(ControlFlow::Break(()))
                }
                _ => Ok(ControlFlow::Continue(())),
            })?;
        }
        Kind::Text(encoding) => {
            let text = Text::new(source.bytes()?, encoding);
            let budget = text.budget();
            let mut lines = BufReader::new(text).lines();
            for _ in 0..number {
                budget.begin_record();
                match lines.next() {
                    Some(line) => found = Some(line.map_err(|error| refusal_of(&error))?),
                    None => return Ok(None),
                }
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reports::source::{Limits, from_reader};

    #[test]
    fn a_line_is_what_stands_there() {
        let of = |bytes: &[u8], number| {
            let sources = from_reader("it", bytes, Limits::USUAL).expect("a report");
            text(&sources[0], number).expect("it is read")
        };
        let csv = b"Day,Cost\n2024-06-03,1\n2024-06-04,2\n";
        assert_eq!(of(csv, 2).as_deref(), Some("2024-06-03,1"));
        assert_eq!(of(csv, 3).as_deref(), Some("2024-06-04,2"));
        assert_eq!(of(csv, 4), None);
        let utf16: Vec<u8> = "\u{feff}Tag\tKosten\n3.6.2024\tÄ\n"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        assert_eq!(of(&utf16, 2).as_deref(), Some("3.6.2024\tÄ"));
        let answers = br#"{"data": [{"spend": "1"}, {"spend": "2"}]}"#;
        assert_eq!(of(answers, 2).as_deref(), Some(r#"{"spend": "2"}"#));
    }
}

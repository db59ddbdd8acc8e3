//! Lines of cells, and numbers as people read them.

use std::io::{self, Write};

/// How a sheet is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dialect {
    pub(super) separator: char,
    /// UTF-16LE instead of UTF-8.
    pub(super) utf16: bool,
    /// Whether it begins with a byte-order mark.
    pub(super) mark: bool,
    pub(super) line_end: &'static str,
}

/// Writes lines of cells.
pub(super) struct Sheet<'a> {
    out: &'a mut dyn Write,
    dialect: Dialect,
    begun: bool,
    line: String,
    bytes: Vec<u8>,
}

impl<'a> Sheet<'a> {
    pub(super) fn new(out: &'a mut dyn Write, dialect: Dialect) -> Sheet<'a> {
        Sheet {
            out,
            dialect,
            begun: false,
            line: String::new(),
            bytes: Vec::new(),
        }
    }

    /// A line of these cells, quoted where RFC 4180 asks for it.
    pub(super) fn line(&mut self, cells: &[&str]) -> io::Result<()> {
        self.line.clear();
        if self.dialect.mark && !self.begun {
            self.line.push('\u{feff}');
        }
        self.begun = true;
        for (n, cell) in cells.iter().enumerate() {
            if n > 0 {
                self.line.push(self.dialect.separator);
            }
            if cell.contains([self.dialect.separator, '"', '\n', '\r']) {
                self.line.push('"');
                self.line.push_str(&cell.replace('"', "\"\""));
                self.line.push('"');
            } else {
                self.line.push_str(cell);
            }
        }
        self.line.push_str(self.dialect.line_end);
        if !self.dialect.utf16 {
            return self.out.write_all(self.line.as_bytes());
        }
        self.bytes.clear();
        let units = self.line.encode_utf16();
        self.bytes.extend(units.flat_map(u16::to_le_bytes));
        self.out.write_all(&self.bytes)
    }
}

/// How numbers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) decimal: char,
    /// Between each three digits.
    pub(super) group: Option<char>,
}

impl Numbers {
    pub(super) const PLAIN: Numbers = Numbers {
        decimal: '.',
        group: None,
    };
    pub(super) const ENGLISH: Numbers = Numbers {
        decimal: '.',
        group: Some(','),
    };
    pub(super) const GERMAN: Numbers = Numbers {
        decimal: ',',
        group: Some('.'),
    };

    /// A whole number that is not negative.
    pub(super) fn whole(self, number: i128) -> String {
        let digits = number.unsigned_abs().to_string();
        let Some(group) = self.group else {
            return digits;
        };
        let mut grouped = String::with_capacity(digits.len() * 4 / 3);
        for (n, digit) in digits.chars().enumerate() {
            if n > 0 && (digits.len() - n).is_multiple_of(3) {
                grouped.push(group);
            }
            grouped.push(digit);
        }
        grouped
    }

    /// A number of millionths that is not negative, rounded to so many decimals, six at most.
    pub(super) fn decimal(self, millionths: i128, decimals: usize) -> String {
        let unit = (decimals..6).fold(1, |unit, _| unit * 10);
        let number = (millionths + unit / 2) / unit;
        let one = 1_000_000 / unit;
        let whole = self.whole(number / one);
        if decimals == 0 {
            return whole;
        }
        let (decimal, beyond) = (self.decimal, number % one);
        format!("{whole}{decimal}{beyond:0decimals$}")
    }

    /// `part ÷ of`, to two decimals, with a sign for percent; none of nothing.
    pub(super) fn percent(self, part: i128, of: i128) -> Option<String> {
        let percent = (part * 100_000_000).checked_div(of)?;
        Some(self.decimal(percent, 2) + "%")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_rounded() {
        assert_eq!(Numbers::ENGLISH.whole(0), "0");
        assert_eq!(Numbers::ENGLISH.whole(999), "999");
        assert_eq!(Numbers::ENGLISH.whole(1_234_567), "1,234,567");
        assert_eq!(Numbers::GERMAN.decimal(1_234_560_000, 2), "1.234,56");
        assert_eq!(Numbers::PLAIN.decimal(161_074_000_000, 3), "161074.000");
        assert_eq!(Numbers::PLAIN.decimal(50_000, 2), "0.05");
        assert_eq!(Numbers::PLAIN.decimal(1_995_000, 2), "2.00");
        assert_eq!(Numbers::PLAIN.decimal(7_000_000, 0), "7");
        assert_eq!(Numbers::ENGLISH.percent(1, 3).as_deref(), Some("33.33%"));
        assert_eq!(Numbers::ENGLISH.percent(1, 0), None);
    }

    #[test]
    fn cells_are_quoted_and_encoded() {
        let dialect = Dialect {
            separator: '\t',
            utf16: true,
            mark: true,
            line_end: "\n",
        };
        let mut bytes = Vec::new();
        let mut sheet = Sheet::new(&mut bytes, dialect);
        sheet.line(&["a,b", "c\td"]).expect("a vector");
        sheet.line(&[]).expect("a vector");
        let units: Vec<u16> = bytes
            .chunks_exact(2)
            .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
            .collect();
        assert_eq!(
            String::from_utf16(&units).expect("UTF-16"),
            "\u{feff}a,b\t\"c\td\"\n\n"
        );
    }
}

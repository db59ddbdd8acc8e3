//! A cell of CSV, as a spreadsheet is to show it.
//!
//! What begins with `=`, `+`, `-`, `@`, a tab or a carriage return, a spreadsheet takes for a formula, which may send what
//! stands beside it elsewhere or start a program (OWASP, "CSV Injection"). A `'` before it makes it text.

use std::borrow::Cow;

/// The cell, with a `'` before it if it could be a formula. Numbers stay numbers.
pub fn cell(text: &str) -> Cow<'_, str> {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) && text.parse::<f64>().is_err() {
        Cow::Owned(format!("'{text}"))
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_are_text_and_numbers_are_numbers() {
        for text in [
            "=1+1",
            "+cmd|' /C calc'!A0",
            "-2+3",
            "@SUM(A1)",
            "\t=1",
            "\r=1",
            "-",
        ] {
            assert_eq!(cell(text), format!("'{text}"));
        }
        for text in ["", "cmp-1", "-1.5", "+2", "-1e-7", "a=b", "'=1", "é"] {
            assert_eq!(cell(text), text);
        }
    }
}

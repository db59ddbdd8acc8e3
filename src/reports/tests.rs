//! Whole files: what each shape has that is peculiar. Header names are the platforms'; the rest is invented.

use super::*;
use crate::reports::facts::Options;
use crate::reports::source::{Limits, from_reader};
use crate::time::parse_rfc3339;

mod any;
mod api;
mod google;
mod linkedin;
mod meta;
mod tiktok;
#[path = "../../tests/support/workbook.rs"]
mod workbook;

use workbook::{Cell, workbook};

/// All that a file may not say.
fn said() -> Options {
    Options {
        account: Some("123-456-7890".to_owned()),
        zone: Some(chrono_tz::Europe::Berlin),
        currency: None,
        observed_at: parse_rfc3339("2024-07-01T08:00:00Z").ok(),
        ..Options::default()
    }
}

fn read(bytes: impl AsRef<[u8]>, options: &Options) -> FileReport {
    let sources = match from_reader("it", bytes.as_ref(), Limits::USUAL) {
        Ok(sources) => sources,
        Err(refusal) => return FileReport::refused("it", refusal),
    };
    assert_eq!(sources.len(), 1);
    check(&sources[0], options, &mut |_| {})
}

/// The rows of a file that must be good.
fn rows_of(bytes: impl AsRef<[u8]>, options: &Options) -> Vec<FileRow> {
    let report = read(bytes.as_ref(), options);
    assert!(report.is_good(), "{:?}", report.refusals);
    let sources = from_reader("it", bytes.as_ref(), Limits::USUAL).expect("a report");
    let mut rows = Vec::new();
    super::rows(&sources[0], options, &report, &mut |row| {
        rows.push(row);
        Ok(())
    })
    .expect("good");
    rows
}

/// Why a file is refused.
fn refusals(bytes: impl AsRef<[u8]>, options: &Options) -> String {
    let report = read(bytes, options);
    assert!(!report.is_good(), "it is good");
    let lines: Vec<_> = report.refusals.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// A row in short: day, campaign, slice, values.
fn short(row: &FileRow) -> String {
    let numbers: Vec<_> = row
        .values
        .numbers()
        .into_iter()
        .enumerate()
        .map(|(index, value)| value.map_or("?".to_owned(), |v| shown(index, v.into())))
        .collect();
    format!(
        "{} {} {} [{}] {}",
        row.day,
        row.campaign_id,
        row.currency,
        row.slice,
        numbers.join(" ")
    )
}

fn shorts(rows: &[FileRow]) -> Vec<String> {
    rows.iter().map(short).collect()
}

/// Text as Excel writes its "Unicode" text: UTF-16 with a mark.
fn utf16(text: &str) -> Vec<u8> {
    "\u{feff}"
        .encode_utf16()
        .chain(text.encode_utf16())
        .flat_map(u16::to_le_bytes)
        .collect()
}

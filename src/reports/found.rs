//! What the readers hand over, one after the other.

use super::refusal::Refusal;
use super::row::{FileRow, Place};
use crate::report_row::Values;

/// A row in which a file sums up others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileTotal {
    pub label: String,
    pub place: Place,
    pub values: Values,
}

/// What a reader finds.
#[derive(Debug)]
pub enum Found {
    Row(FileRow),
    Total(FileTotal),
    Refused(Refusal),
    /// What the conversions of the file are, where only its rows say so.
    Conversions(String),
    /// What a person should know, though nothing is wrong.
    Note(String),
}

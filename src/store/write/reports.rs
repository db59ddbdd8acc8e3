//! Report rows: what of a share changes what is known, and by how much.
//!
//! A row says what a campaign's day is. What is known of it stands in `report_rows`, and what was known before in
//! `report_history`; the difference to the newest is the event that is counted. Reading them is safe for the reason that look-ups
//! are: only who owns the campaign writes them, and the fence holds only while that is so.
//!
//! First what is [`known`] is looked up, then the rows of the share [`restate`] it, which needs no database, and last that is
//! [written](mod@write).

use chrono::NaiveDate;

mod known;
mod names;
mod restate;
mod write;

pub(super) use known::look;
pub(super) use restate::{Restated, Writes, restate};
pub(super) use write::write;

/// A campaign (by index), day and slice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    campaign: u32,
    day: NaiveDate,
    slice: Box<str>,
}

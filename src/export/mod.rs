//! `adflux export`: events or metrics of a range, as CSV or Parquet.
//!
//! Everything is read from one snapshot, so what is written is as of one instant, and some at a
//! time, so memory does not grow with the range. A file appears under its name when it is complete.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::str::FromStr;

use anyhow::Context as _;
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use indicatif::{ProgressBar, ProgressStyle};
use tempfile::NamedTempFile;

use crate::event::{Count, Platform};
use crate::store::blocks;
use crate::store::periods::{self, Dropped};
use crate::store::read::export::{self as stored, Range};
use crate::store::sums::Grain;
use crate::store::{self, Limits};
use crate::time::rfc3339_seconds;

mod parquet;
mod table;

use table::{Column, ColumnType, Csv, Sink, Table};

/// What is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Events,
    /// Sums by campaign, platform and time.
    Metrics(Grain),
}

/// How it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Csv,
    Parquet,
}

/// Where to, and how.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    pub format: Format,
    /// Whether text goes into CSV as it is, also if a spreadsheet would take it for a formula.
    pub raw: bool,
    /// The file; none: standard output.
    pub output: Option<&'a Path>,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Format, String> {
        match text {
            "csv" => Ok(Format::Csv),
            "parquet" => Ok(Format::Parquet),
            _ => Err(format!("'{text}' is neither csv nor parquet")),
        }
    }
}

/// Reads the name of a grain.
///
/// # Errors
/// A message for the user.
pub fn grain(text: &str) -> Result<Grain, String> {
    match text {
        "minute" => Ok(Grain::Minute),
        "hour" => Ok(Grain::Hour),
        "day" => Ok(Grain::Day),
        _ => Err(format!("'{text}' is none of minute, hour, day")),
    }
}

/// Writes a range to a file, or to standard output. Returns the number of rows.
///
/// # Errors
/// When the database does not answer, or the file cannot be written.
pub fn run(
    database_url: &str,
    what: What,
    range: Range,
    target: Target<'_>,
) -> anyhow::Result<u64> {
    let mut connection = store::connect(database_url, Limits::MAINTENANCE)?;
    // Who reads what is written may be slow, and the snapshot must last.
    connection.batch_execute("SET idle_in_transaction_session_timeout = 0")?;
    let Some(path) = target.output else {
        return write(&mut connection, what, range, target, io::stdout());
    };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let unfinished = NamedTempFile::new_in(folder)
        .with_context(|| format!("cannot write into {}", folder.display()))?;
    let file: File = unfinished.as_file().try_clone()?;
    let rows = write(&mut connection, what, range, target, file)?;
    unfinished.as_file().sync_all()?;
    unfinished
        .persist(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(rows)
}

fn write(
    connection: &mut PgConnection,
    what: What,
    range: Range,
    target: Target<'_>,
    out: impl Write + Send + 'static,
) -> anyhow::Result<u64> {
    let columns = match what {
        What::Events => EVENT_COLUMNS,
        What::Metrics(_) => METRIC_COLUMNS,
    };
    let out = BufWriter::new(out);
    let mut sink: Box<dyn Sink> = match target.format {
        Format::Csv => Box::new(Csv::new(out, columns, target.raw)?),
        Format::Parquet => Box::new(parquet::Parquet::new(out, columns)?),
    };
    let bar = ProgressBar::no_length();
    bar.set_style(ProgressStyle::with_template(
        "{bar:40} {pos}/{len} rows ({per_sec}, {eta} left)",
    )?);
    let rows = stored::in_snapshot(connection, |connection| match what {
        What::Events => events(connection, range, sink.as_mut(), &bar),
        What::Metrics(grain) => metrics(connection, grain, range, sink.as_mut(), &bar),
    })?;
    sink.finish()?;
    bar.finish_and_clear();
    Ok(rows)
}

const EVENT_COLUMNS: &[(&str, ColumnType)] = &[
    ("event_id", ColumnType::Uuid),
    ("campaign_id", ColumnType::Text),
    ("platform", ColumnType::Text),
    ("event_time", ColumnType::Time),
    ("impressions", ColumnType::Integer),
    ("clicks", ColumnType::Integer),
    ("conversions", ColumnType::Conversions),
    ("cost_micros", ColumnType::Integer),
    ("revenue_micros", ColumnType::Integer),
    ("topic", ColumnType::Text),
    ("partition", ColumnType::Integer),
    ("offset", ColumnType::Integer),
    ("observed_at", ColumnType::OptionalTime),
];

const METRIC_COLUMNS: &[(&str, ColumnType)] = &[
    ("campaign_id", ColumnType::Text),
    ("platform", ColumnType::Text),
    ("since", ColumnType::Time),
    ("events", ColumnType::Integer),
    ("impressions", ColumnType::Integer),
    ("clicks", ColumnType::Integer),
    ("conversions", ColumnType::Conversions),
    ("cost_micros", ColumnType::Integer),
    ("revenue_micros", ColumnType::Integer),
];

fn platform(index: i64) -> &'static str {
    Platform::from_index(index).map_or("unknown", Platform::name)
}

/// Whoever asks for events that were dropped is told so, or they would take the rest for all there were.
fn say_what_is_gone(dropped: Dropped, range: Range, in_blocks: Count) -> anyhow::Result<()> {
    let Some(latest) = dropped.latest.filter(|latest| *latest >= range.since) else {
        return Ok(());
    };
    let latest = latest
        .datetime()
        .map_or(latest.to_string(), rfc3339_seconds);
    let gone = format!(
        "{} events that were counted up to {}, the latest of which happened at {latest}, were dropped (adflux retain); \
         adflux export metrics has their sums",
        dropped.events,
        rfc3339_seconds(dropped.stored_until)
    );
    if in_blocks == Count::ZERO {
        anyhow::bail!("no event of this range is kept: {gone}");
    }
    log::warn!("events of this range may be missing: {gone}");
    Ok(())
}

/// The events whose time is in the range, in the order of their partitions.
fn events(
    connection: &mut PgConnection,
    range: Range,
    sink: &mut dyn Sink,
    bar: &ProgressBar,
) -> anyhow::Result<u64> {
    let streams: HashMap<_, _> = stored::streams(connection)?;
    let in_blocks = stored::events_in_blocks(connection, range)?;
    if let Some(dropped) = periods::dropped(connection)? {
        say_what_is_gone(dropped, range, in_blocks)?;
    }
    bar.set_length(in_blocks.as_u64());
    let (mut after, mut written) = (None, 0);
    loop {
        let keys = stored::block_keys(connection, range, after)?;
        let Some(last) = keys.last() else {
            return Ok(written);
        };
        after = Some((last.stream, last.first_offset));
        let mut failed = None;
        blocks::for_each(connection, &keys, |block| {
            let mut table = Table::of(EVENT_COLUMNS);
            let (topic, partition) = streams
                .get(&block.stream)
                .map_or(("", 0), |(topic, partition)| (topic.as_str(), *partition));
            let e = &block.events;
            for (row, &time) in e.event_time.iter().enumerate() {
                if !range.holds(time) {
                    continue;
                }
                let campaign = block.campaigns.get(e.campaign[row] as usize);
                table.push(&[
                    Column::Uuid(e.event_id[row]),
                    Column::Text(campaign.map_or("", String::as_str)),
                    Column::Text(platform(e.platform[row].into())),
                    Column::Time(time),
                    Column::Integer(e.impressions[row].get()),
                    Column::Integer(e.clicks[row].get()),
                    Column::Conversions(e.conversions[row]),
                    Column::Integer(e.cost_micros[row].get()),
                    Column::Integer(e.revenue_micros[row].get()),
                    Column::Text(topic),
                    Column::Integer(partition.into()),
                    Column::Integer(e.offset[row].get()),
                    Column::OptionalTime(e.restated(row)),
                ]);
            }
            bar.inc(e.event_time.len() as u64);
            written += table.rows() as u64;
            if failed.is_none() {
                failed = sink.write(table).err();
            }
            Ok(())
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
    }
}

/// The sums that begin in the range, by campaign.
fn metrics(
    connection: &mut PgConnection,
    grain: Grain,
    range: Range,
    sink: &mut dyn Sink,
    bar: &ProgressBar,
) -> anyhow::Result<u64> {
    bar.set_length(stored::count_sums(connection, grain, range)?.as_u64());
    let (mut after, mut written) = (String::new(), 0);
    loop {
        let (sums, last) = stored::sums(connection, grain, range, &after)?;
        let Some(last) = last else {
            return Ok(written);
        };
        after = last;
        let mut table = Table::of(METRIC_COLUMNS);
        for row in &sums {
            let counts = &row.totals.counts;
            table.push(&[
                Column::Text(&row.campaign_id),
                Column::Text(platform(row.platform.into())),
                Column::Time(row.since),
                Column::Integer(row.totals.events.get()),
                Column::Integer(counts.impressions.get()),
                Column::Integer(counts.clicks.get()),
                Column::Conversions(counts.conversions),
                Column::Integer(counts.cost_micros.get()),
                Column::Integer(counts.revenue_micros.get()),
            ]);
        }
        bar.inc(sums.len() as u64);
        written += sums.len() as u64;
        sink.write(table)?;
    }
}

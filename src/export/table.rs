//! Rows by column, on their way to a file.

use std::io::Write;

use anyhow::Context;
use uuid::Uuid;

use crate::event::Conversions;
use crate::spreadsheet::cell;
use crate::time::{Timestamp, rfc3339};

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    Text,
    Integer,
    Conversions,
    Time,
    /// A time, or none.
    OptionalTime,
    Uuid,
}

/// A value on its way into a table.
#[derive(Clone, Copy, Debug)]
pub enum Column<'a> {
    Text(&'a str),
    Integer(i64),
    Conversions(Conversions),
    Time(Timestamp),
    OptionalTime(Option<Timestamp>),
    Uuid(Uuid),
}

/// The values of a column.
#[derive(Clone, Debug)]
pub enum Values {
    Text(Vec<String>),
    Integer(Vec<i64>),
    Conversions(Vec<Conversions>),
    /// In microseconds since 1970, as Parquet has them.
    Time(Vec<i64>),
    OptionalTime(Vec<Option<i64>>),
    Uuid(Vec<Uuid>),
}

/// Some rows.
#[derive(Clone, Debug)]
pub struct Table {
    pub columns: Vec<Values>,
    rows: usize,
}

impl Table {
    /// No rows yet.
    pub fn of(columns: &[(&str, ColumnType)]) -> Table {
        let columns = columns.iter().map(|(_, kind)| match kind {
            ColumnType::Text => Values::Text(Vec::new()),
            ColumnType::Integer => Values::Integer(Vec::new()),
            ColumnType::Conversions => Values::Conversions(Vec::new()),
            ColumnType::Time => Values::Time(Vec::new()),
            ColumnType::OptionalTime => Values::OptionalTime(Vec::new()),
            ColumnType::Uuid => Values::Uuid(Vec::new()),
        });
        Table {
            columns: columns.collect(),
            rows: 0,
        }
    }

    /// How many there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Adds a row, whose values are of the columns' kinds.
    pub fn push(&mut self, row: &[Column<'_>]) {
        debug_assert_eq!(row.len(), self.columns.len());
        for (values, value) in self.columns.iter_mut().zip(row) {
            match (values, value) {
                (Values::Text(values), Column::Text(value)) => values.push((*value).to_owned()),
                (Values::Integer(values), Column::Integer(value)) => values.push(*value),
                (Values::Conversions(values), Column::Conversions(value)) => values.push(*value),
                (Values::Time(values), Column::Time(value)) => values.push(value.get()),
                (Values::OptionalTime(values), Column::OptionalTime(value)) => {
                    values.push(value.map(Timestamp::get));
                }
                (Values::Uuid(values), Column::Uuid(value)) => values.push(*value),
                (values, value) => debug_assert!(false, "{value:?} into {values:?}"),
            }
        }
        self.rows += 1;
    }

    /// Adds the rows of another one of the same columns.
    pub fn append(&mut self, mut other: Table) {
        for (values, more) in self.columns.iter_mut().zip(&mut other.columns) {
            match (values, more) {
                (Values::Text(values), Values::Text(more)) => values.append(more),
                (Values::Integer(values), Values::Integer(more))
                | (Values::Time(values), Values::Time(more)) => values.append(more),
                (Values::OptionalTime(values), Values::OptionalTime(more)) => values.append(more),
                (Values::Conversions(values), Values::Conversions(more)) => values.append(more),
                (Values::Uuid(values), Values::Uuid(more)) => values.append(more),
                (values, more) => debug_assert!(false, "{more:?} to {values:?}"),
            }
        }
        self.rows += other.rows;
    }
}

/// Where tables are written to.
pub trait Sink {
    /// Writes some rows.
    ///
    /// # Errors
    /// As the file does.
    fn write(&mut self, table: Table) -> anyhow::Result<()>;

    /// Writes what is left.
    ///
    /// # Errors
    /// As the file does.
    fn finish(self: Box<Self>) -> anyhow::Result<()>;
}

/// CSV, RFC 4180 with a header; times are RFC 3339.
pub struct Csv<W: Write> {
    writer: csv::Writer<W>,
    /// Whether text is written as it is, also if a spreadsheet would take it for a formula.
    raw: bool,
}

impl<W: Write> Csv<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// As the file does.
    pub fn new(out: W, columns: &[(&str, ColumnType)], raw: bool) -> anyhow::Result<Csv<W>> {
        let mut writer = csv::Writer::from_writer(out);
        writer.write_record(columns.iter().map(|(name, _)| name))?;
        Ok(Csv { writer, raw })
    }
}

fn time(micros: i64) -> anyhow::Result<String> {
    let time = Timestamp::new(micros).datetime();
    let time =
        time.with_context(|| format!("a stored time, {micros} us since 1970, is in no calendar"))?;
    Ok(rfc3339(time))
}

impl<W: Write> Sink for Csv<W> {
    fn write(&mut self, table: Table) -> anyhow::Result<()> {
        for row in 0..table.rows {
            for values in &table.columns {
                match values {
                    Values::Text(values) if self.raw => self.writer.write_field(&values[row])?,
                    Values::Text(values) => {
                        self.writer.write_field(cell(&values[row]).as_bytes())?;
                    }
                    Values::Integer(values) => self.writer.write_field(values[row].to_string())?,
                    Values::Conversions(values) => {
                        self.writer.write_field(values[row].to_string())?;
                    }
                    Values::Time(values) => self.writer.write_field(time(values[row])?)?,
                    Values::OptionalTime(values) => {
                        let time = values[row].map(time).transpose()?;
                        self.writer.write_field(time.unwrap_or_default())?;
                    }
                    Values::Uuid(values) => self.writer.write_field(values[row].to_string())?,
                }
            }
            self.writer.write_record(None::<&[u8]>)?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> anyhow::Result<()> {
        Ok(self.writer.flush()?)
    }
}

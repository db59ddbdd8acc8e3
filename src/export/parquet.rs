//! Apache Parquet, version 2 pages, compressed with Snappy: the common ground of readers.
//!
//! Format: [parquet-format](https://parquet.apache.org/docs/file-format/).

use std::io::Write;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::column::writer::ColumnWriter;
use parquet::data_type::{ByteArray, FixedLenByteArray};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use crate::event::Conversions;

use super::table::{ColumnType, Sink, Table, Values};

/// Rows of a row group: what is held in memory, about 20 MB.
const GROUP: usize = 100_000;

/// See the module.
pub struct Parquet<W: Write + Send> {
    writer: SerializedFileWriter<W>,
    waiting: Table,
    empty: Table,
}

impl<W: Write + Send> Parquet<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// As the file does.
    pub fn new(out: W, columns: &[(&str, ColumnType)]) -> anyhow::Result<Parquet<W>> {
        let fields: Vec<String> = columns
            .iter()
            .map(|(name, kind)| match kind {
                ColumnType::Text => format!("REQUIRED BYTE_ARRAY {name} (STRING);"),
                ColumnType::Integer => format!("REQUIRED INT64 {name};"),
                // The nearest number, which is exact where it is whole, and to the millionth below eight billion. A DECIMAL would
                // be objects to pandas, which no number can be divided by.
                ColumnType::Conversions => format!("REQUIRED DOUBLE {name};"),
                ColumnType::Time => format!("REQUIRED INT64 {name} (TIMESTAMP(MICROS,true));"),
                ColumnType::OptionalTime => {
                    format!("OPTIONAL INT64 {name} (TIMESTAMP(MICROS,true));")
                }
                ColumnType::Uuid => format!("REQUIRED FIXED_LEN_BYTE_ARRAY(16) {name} (UUID);"),
            })
            .collect();
        let schema = parse_message_type(&format!("message adflux {{ {} }}", fields.join(" ")))?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .build();
        Ok(Parquet {
            writer: SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties))?,
            waiting: Table::of(columns),
            empty: Table::of(columns),
        })
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        let table = std::mem::replace(&mut self.waiting, self.empty.clone());
        if table.rows() == 0 {
            return Ok(());
        }
        let mut group = self.writer.next_row_group()?;
        let mut columns = table.columns.into_iter();
        while let (Some(mut column), Some(values)) = (group.next_column()?, columns.next()) {
            match (column.untyped(), values) {
                (ColumnWriter::Int64ColumnWriter(out), Values::Integer(v) | Values::Time(v)) => {
                    out.write_batch(&v, None, None)?;
                }
                (ColumnWriter::Int64ColumnWriter(out), Values::OptionalTime(values)) => {
                    let levels: Vec<i16> = values.iter().map(|v| v.is_some().into()).collect();
                    let there: Vec<i64> = values.into_iter().flatten().collect();
                    out.write_batch(&there, Some(&levels), None)?;
                }
                (ColumnWriter::DoubleColumnWriter(out), Values::Conversions(values)) => {
                    let values: Vec<f64> = values.into_iter().map(Conversions::in_units).collect();
                    out.write_batch(&values, None, None)?;
                }
                (ColumnWriter::ByteArrayColumnWriter(out), Values::Text(values)) => {
                    let values: Vec<ByteArray> = values
                        .into_iter()
                        .map(|text| ByteArray::from(text.into_bytes()))
                        .collect();
                    out.write_batch(&values, None, None)?;
                }
                (ColumnWriter::FixedLenByteArrayColumnWriter(out), Values::Uuid(values)) => {
                    let values: Vec<FixedLenByteArray> = values
                        .into_iter()
                        .map(|id| FixedLenByteArray::from(id.as_bytes().to_vec()))
                        .collect();
                    out.write_batch(&values, None, None)?;
                }
                _ => anyhow::bail!("a column is not of its kind; this is a bug"),
            }
            column.close()?;
        }
        group.close()?;
        Ok(())
    }
}

impl<W: Write + Send> Sink for Parquet<W> {
    fn write(&mut self, table: Table) -> anyhow::Result<()> {
        self.waiting.append(table);
        if self.waiting.rows() >= GROUP {
            self.flush()?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> anyhow::Result<()> {
        self.flush()?;
        let mut out = self.writer.into_inner()?;
        Ok(out.flush()?)
    }
}

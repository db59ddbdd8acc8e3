//! Values of another writer's schema: read as that says, then resolved to an event or a report row of ours by our own hand, so
//! that the reason why one cannot be is the true one.

use std::fmt;
use std::io::{self, Read};

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema::{RecordSchema, UuidSchema};
use apache_avro::types::Value;

use super::{Message, SchemaError};
use crate::event::{Platform, Reason};
use crate::time::Timestamp;

mod bounds;
mod event;
mod report;

/// A schema as it was written, and what its values say.
pub(super) struct WriterSchema {
    reader: GenericDatumReader<'static>,
    record: Record,
}

/// Which of our records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Record {
    Event,
    Report,
}

/// The texts of the last value that was resolved. What it says borrows them.
#[derive(Debug, Default)]
pub(super) struct Texts {
    campaign_id: String,
    campaign_name: String,
    account: String,
    conversions_of: String,
    revenue_of: String,
    slice: String,
}

/// Reads a schema in JSON.
///
/// # Errors
/// If it is not Avro, or too large.
pub(super) fn parse(id: u32, text: &str) -> Result<Schema, SchemaError> {
    let refused = |reason: &dyn fmt::Display| unread(id, reason);
    let json = serde_json::from_str(text).map_err(|e| refused(&e))?;
    if !bounds::is_shallow(&json) {
        return Err(refused(&bounds::TOO_DEEP));
    }
    let schema = Schema::parse(&json).map_err(|e| refused(&e))?;
    bounds::check_size(&schema).map_err(|e| refused(&e))?;
    Ok(schema)
}

fn refused(id: u32, record: &'static str, reason: &dyn fmt::Display) -> SchemaError {
    SchemaError::Incompatible {
        id,
        record,
        reason: reason.to_string(),
    }
}

fn unread(id: u32, reason: &dyn fmt::Display) -> SchemaError {
    refused(id, "AdEvent or ReportRow", reason)
}

impl WriterSchema {
    /// What reads values of a schema.
    ///
    /// # Errors
    /// If no value of it could be read as an event or a report row.
    pub fn of(id: u32, mut schema: Schema) -> Result<WriterSchema, SchemaError> {
        let unread = |reason: &dyn fmt::Display| unread(id, reason);
        let Schema::Record(fields) = &mut schema else {
            return Err(unread(&"it is not a record"));
        };
        // Whoever copies a schema gives it a namespace of their own.
        let record = match fields.name.name() {
            "AdEvent" => {
                event::check(fields).map_err(|e| refused(id, "AdEvent", &e))?;
                Record::Event
            }
            "ReportRow" => {
                report::check(fields).map_err(|e| refused(id, "ReportRow", &e))?;
                Record::Report
            }
            other => return Err(unread(&format!("it is a record named {other}"))),
        };
        for field in &mut fields.fields {
            // Read as text, an id that is no UUID is an event with a wrong id, and not a value that is no Avro.
            if matches!(field.schema, Schema::Uuid(UuidSchema::String)) {
                field.schema = Schema::String;
            }
        }
        // Schemas live as long as the process: there are a handful, and the processor learns so many and no more.
        let writer: &'static Schema = Box::leak(Box::new(schema));
        let reader = GenericDatumReader::builder(writer)
            .build()
            .map_err(|e| unread(&e))?;
        Ok(WriterSchema { reader, record })
    }

    /// Reads a datum. What it says borrows `texts`.
    ///
    /// # Errors
    /// The [`Reason`] why it is neither an event nor a report row.
    pub fn read<'a>(&self, datum: &[u8], texts: &'a mut Texts) -> Result<Message<'a>, Reason> {
        let mut datum = Datum {
            rest: datum,
            ended_early: false,
        };
        let value = self.reader.read_value(&mut datum);
        // Asked first: the library makes a null of what is missing at the end, or one of many errors.
        if datum.ended_early {
            return Err(Reason::Truncated);
        }
        let Ok(Value::Record(fields)) = value else {
            return Err(Reason::MalformedAvro);
        };
        if !datum.rest.is_empty() {
            return Err(Reason::TrailingBytes);
        }
        let fields = fields.into_iter().map(|(name, value)| match value {
            Value::Union(_, value) => (name, *value),
            value => (name, value),
        });
        match self.record {
            Record::Event => event::resolve(fields, texts).map(Message::Event),
            Record::Report => {
                let row = report::resolve(fields, texts)?;
                Ok(Message::Report(Box::new(row)))
            }
        }
    }
}

/// Bytes that remember whether more of them were wanted than there are.
struct Datum<'a> {
    rest: &'a [u8],
    ended_early: bool,
}

impl Read for Datum<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.ended_early |= self.rest.len() < into.len();
        self.rest.read(into)
    }
}

/// Whether every value of a field is of a type that means what it must, or null. Avro resolves more, whatever it counts.
fn is_always(record: &RecordSchema, name: &str, is_right: fn(&Schema) -> bool) -> bool {
    let field = record.fields.iter().find(|field| field.name == name);
    match field.map(|field| &field.schema) {
        Some(Schema::Union(union)) => {
            let mut variants = union.variants().iter();
            variants.all(|variant| *variant == Schema::Null || is_right(variant))
        }
        Some(schema) => is_right(schema),
        None => false,
    }
}

fn is_instant(schema: &Schema) -> bool {
    matches!(
        schema,
        Schema::Long | Schema::TimestampMillis | Schema::TimestampMicros | Schema::TimestampNanos
    )
}

fn text(value: Value) -> Result<String, Reason> {
    match value {
        Value::String(text) => Ok(text),
        // Avro reads bytes as text.
        Value::Bytes(bytes) => String::from_utf8(bytes).map_err(|_| Reason::MalformedAvro),
        Value::Null => Err(Reason::NullValue),
        _ => Err(Reason::MalformedAvro),
    }
}

fn number(value: Value) -> Result<i64, Reason> {
    match value {
        Value::Int(number) => Ok(number.into()),
        Value::Long(number) => Ok(number),
        Value::Null => Err(Reason::NullValue),
        _ => Err(Reason::MalformedAvro),
    }
}

fn platform(value: Value) -> Result<Platform, Reason> {
    match value {
        Value::Enum(_, name) => Platform::from_name(&name).ok_or(Reason::UnknownPlatform),
        Value::Null => Err(Reason::NullValue),
        _ => Err(Reason::MalformedAvro),
    }
}

fn instant(value: Value) -> Result<Timestamp, Reason> {
    match value {
        Value::TimestampMicros(micros) | Value::Long(micros) => Ok(Timestamp::new(micros)),
        Value::TimestampMillis(millis) => match millis.checked_mul(1_000) {
            Some(micros) => Ok(Timestamp::new(micros)),
            None if millis < 0 => Err(Reason::InvalidEventTime),
            None => Err(Reason::FutureEventTime),
        },
        Value::TimestampNanos(nanos) => Ok(Timestamp::new(nanos.div_euclid(1_000))),
        Value::Null => Err(Reason::NullValue),
        _ => Err(Reason::MalformedAvro),
    }
}

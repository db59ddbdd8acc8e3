//! Events of another writer's schema: read as that says, then resolved to version 1 by our own hand, so that the reason why
//! one cannot be is the true one.

use std::io::{self, Read};

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema::{Name, NamespaceRef, RecordSchema, ResolvedSchema, UuidSchema};
use apache_avro::schema_compatibility::SchemaCompatibility;
use apache_avro::types::Value;

use super::{SchemaError, parse_event_id, schema, whole_conversions};
use crate::event::{AdEvent, CampaignId, Count, Counts, Money, Platform, Reason};
use crate::time::Timestamp;

/// How deep a schema may be nested. Each level is read by a call within a call.
const MOST_NESTED: usize = 64;

/// How many parts a value may have, arrays and maps counted as one: each is read however few bytes it takes.
const MOST_PARTS: usize = 10_000;

/// See the module.
pub(super) struct WriterSchema(GenericDatumReader<'static>);

impl WriterSchema {
    /// Reads a schema in JSON.
    ///
    /// # Errors
    /// If it is not Avro, is too large, or no value of it could be read as an event.
    pub fn parse(id: u32, text: &str) -> Result<WriterSchema, SchemaError> {
        let incompatible = |e: &dyn std::fmt::Display| SchemaError::Incompatible {
            id,
            reason: e.to_string(),
        };
        let json = serde_json::from_str(text).map_err(|e| incompatible(&e))?;
        if !is_shallow(&json, MOST_NESTED) {
            return Err(incompatible(&TOO_DEEP));
        }
        let mut parsed = Schema::parse(&json).map_err(|e| incompatible(&e))?;
        check_size(&parsed).map_err(|e| incompatible(&e))?;
        SchemaCompatibility::can_read(&parsed, schema()?).map_err(|e| incompatible(&e))?;
        let Schema::Record(record) = &mut parsed else {
            return Err(incompatible(&"it is not a record"));
        };
        check_time(record).map_err(|e| incompatible(&e))?;
        for field in &mut record.fields {
            // Read as text, an id that is no UUID is an event with a wrong id, and not a value that is no Avro.
            if matches!(field.schema, Schema::Uuid(UuidSchema::String)) {
                field.schema = Schema::String;
            }
        }
        // Schemas live as long as the process: there are a handful, read once at start.
        let writer: &'static Schema = Box::leak(Box::new(parsed));
        let reader = GenericDatumReader::builder(writer)
            .build()
            .map_err(|e| incompatible(&e))?;
        Ok(WriterSchema(reader))
    }

    /// Reads a datum. The event borrows its campaign id from `campaign`.
    ///
    /// # Errors
    /// The [`Reason`] why it is not an event.
    pub fn read<'a>(&self, datum: &[u8], campaign: &'a mut String) -> Result<AdEvent<'a>, Reason> {
        let mut datum = Datum {
            rest: datum,
            ended_early: false,
        };
        let value = self.0.read_value(&mut datum);
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
        resolve(fields, campaign)
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

const TOO_DEEP: &str = "it is nested more than 64 deep, or contains itself";

/// Whether JSON is nested no deeper than this; looked at before what would follow it all the way.
fn is_shallow(json: &serde_json::Value, left: usize) -> bool {
    let Some(left) = left.checked_sub(1) else {
        return false;
    };
    match json {
        serde_json::Value::Array(items) => items.iter().all(|item| is_shallow(item, left)),
        serde_json::Value::Object(fields) => fields.values().all(|field| is_shallow(field, left)),
        _ => true,
    }
}

/// Whether values can be read within bounds: a name may stand for something nested deeper than it is written.
fn check_size(schema: &Schema) -> Result<(), String> {
    let names = ResolvedSchema::try_from(schema).map_err(|e| e.to_string())?;
    let mut parts = MOST_PARTS;
    walk(schema, None, &names, MOST_NESTED, &mut parts)
}

fn walk(
    schema: &Schema,
    namespace: NamespaceRef<'_>,
    names: &ResolvedSchema<'_>,
    levels: usize,
    parts: &mut usize,
) -> Result<(), String> {
    let Some(levels) = levels.checked_sub(1) else {
        return Err(TOO_DEEP.to_owned());
    };
    *parts = parts
        .checked_sub(1)
        .ok_or_else(|| format!("its values have more than {MOST_PARTS} parts"))?;
    let within = |name: &Name| name.fully_qualified_name(namespace).into_owned();
    match schema {
        Schema::Array(array) => walk(&array.items, namespace, names, levels, parts),
        Schema::Map(map) => walk(&map.types, namespace, names, levels, parts),
        Schema::Union(union) => union
            .variants()
            .iter()
            .try_for_each(|variant| walk(variant, namespace, names, levels, parts)),
        Schema::Record(record) => {
            let name = within(&record.name);
            let mut fields = record.fields.iter();
            fields.try_for_each(|field| walk(&field.schema, name.namespace(), names, levels, parts))
        }
        Schema::Ref { name } => {
            let name = within(name);
            match names.get_names().get(&name) {
                Some(schema) => walk(schema, name.namespace(), names, levels, parts),
                None => Err(format!("it does not say what '{name}' is")),
            }
        }
        _ => Ok(()),
    }
}

/// `event_time` must be an instant. Avro would read any number as one, whatever it counts.
fn check_time(record: &RecordSchema) -> Result<(), &'static str> {
    let is_instant = |schema: &Schema| {
        matches!(
            schema,
            Schema::Long
                | Schema::TimestampMillis
                | Schema::TimestampMicros
                | Schema::TimestampNanos
        )
    };
    let field = record.fields.iter().find(|f| f.name == "event_time");
    let is_right = match field.map(|field| &field.schema) {
        Some(Schema::Union(union)) => union
            .variants()
            .iter()
            .all(|variant| *variant == Schema::Null || is_instant(variant)),
        Some(schema) => is_instant(schema),
        None => false,
    };
    if is_right {
        Ok(())
    } else {
        Err(
            "event_time must be a timestamp-micros, timestamp-millis or timestamp-nanos, or a long of microseconds",
        )
    }
}

/// An event from the fields as they were written.
fn resolve(fields: Vec<(String, Value)>, campaign: &mut String) -> Result<AdEvent<'_>, Reason> {
    let mut event_id = None;
    let mut has_campaign = false;
    let mut platform = None;
    let mut event_time = None;
    let mut counts = Counts::default();
    let mut conversions = 0;
    for (name, value) in fields {
        let value = match value {
            Value::Union(_, value) => *value,
            value => value,
        };
        match name.as_str() {
            "event_id" => {
                event_id = Some(match value {
                    Value::Uuid(id) => id,
                    value => parse_event_id(text(value)?.as_bytes())?,
                });
            }
            "campaign_id" => {
                *campaign = text(value)?;
                has_campaign = true;
            }
            "platform" => {
                platform = Some(match value {
                    Value::Enum(_, name) => {
                        Platform::from_name(&name).ok_or(Reason::UnknownPlatform)?
                    }
                    Value::Null => return Err(Reason::NullValue),
                    _ => return Err(Reason::MalformedAvro),
                });
            }
            "event_time" => event_time = Some(instant(value)?),
            "impressions" => counts.impressions = Count::new(number(value)?),
            "clicks" => counts.clicks = Count::new(number(value)?),
            "conversions" => conversions = number(value)?,
            "cost_micros" => counts.cost_micros = Money::new(number(value)?),
            "revenue_micros" => counts.revenue_micros = Money::new(number(value)?),
            // The writer's own.
            _ => {}
        }
    }
    if !has_campaign {
        return Err(Reason::MalformedAvro);
    }
    let event = AdEvent {
        event_id: event_id.ok_or(Reason::InvalidEventId)?,
        campaign_id: CampaignId::parse(campaign.as_str())?,
        platform: platform.ok_or(Reason::UnknownPlatform)?,
        event_time: event_time.ok_or(Reason::MalformedAvro)?,
        counts,
    };
    let conversions = whole_conversions(conversions)?;
    Ok(AdEvent {
        counts: Counts {
            conversions,
            ..counts
        },
        ..event
    })
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

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::super::{Decoder, SchemaIds, write_long, write_text};
    use super::*;
    use uuid::Uuid;

    /// Version 1, but for the types of these fields.
    fn written(types: &[(&str, &str)]) -> String {
        let mut fields = String::new();
        for (name, usual) in [
            ("event_id", r#"{"type":"string","logicalType":"uuid"}"#),
            ("campaign_id", r#""string""#),
            (
                "platform",
                r#"{"type":"enum","name":"Platform","symbols":["Snapchat","TikTok","Meta"]}"#,
            ),
            (
                "event_time",
                r#"{"type":"long","logicalType":"timestamp-micros"}"#,
            ),
            ("impressions", r#""long""#),
            ("clicks", r#""long""#),
            ("conversions", r#""long""#),
            ("cost_micros", r#""long""#),
            ("revenue_micros", r#""long""#),
        ] {
            let given = types.iter().find(|(n, _)| *n == name);
            let kind = given.map_or(usual, |(_, kind)| kind);
            write!(fields, r#"{{"name":"{name}","type":{kind}}},"#).expect("writes");
        }
        for (name, kind) in types.iter().filter(|(n, _)| n.starts_with("own")) {
            write!(fields, r#"{{"name":"{name}","type":{kind}}},"#).expect("writes");
        }
        let fields = fields.trim_end_matches(',');
        format!(r#"{{"type":"record","name":"AdEvent","namespace":"adflux","fields":[{fields}]}}"#)
    }

    fn decoder(types: &[(&str, &str)]) -> Result<Decoder, SchemaError> {
        let mut decoder = Decoder::new(SchemaIds::OWN)?;
        decoder.add_writer_schema(7, &written(types))?;
        Ok(decoder)
    }

    /// A value: its id, campaign, the index of its platform, and what follows.
    fn value(id: &str, platform: i64, rest: &[i64]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 0, 0, 7];
        write_text(id, &mut bytes);
        write_text("cmp-1", &mut bytes);
        write_long(platform, &mut bytes);
        for &number in rest {
            write_long(number, &mut bytes);
        }
        bytes
    }

    const ID: &str = "00000000-0000-0000-0000-000000000005";

    #[test]
    fn what_is_wrong_is_named() {
        let nullable = [("clicks", r#"["null","long"]"#)];
        let mut decoder = decoder(&nullable).expect("compatible");
        let good = [1_000, 1, 1, 2, 3, 4, 5];
        let read = |decoder: &mut Decoder, bytes: &[u8]| {
            decoder
                .decode(bytes)
                .map(|m| m.event().expect("an event").counts)
        };
        assert_eq!(
            read(&mut decoder, &value(ID, 2, &good)),
            Ok(Counts::of([1, 2, 3_000_000, 4, 5]))
        );
        // The index 0 of the union is null.
        let null = value(ID, 2, &[1_000, 1, 0, 3, 4, 5]);
        assert_eq!(read(&mut decoder, &null), Err(Reason::NullValue));
        let platform = value(ID, 0, &good);
        assert_eq!(read(&mut decoder, &platform), Err(Reason::UnknownPlatform));
        let id = value("no-uuid", 2, &good);
        assert_eq!(read(&mut decoder, &id), Err(Reason::InvalidEventId));
        for whole in [value(ID, 2, &good), null, platform, id] {
            for length in 6..whole.len() {
                let cut = read(&mut decoder, &whole[..length]);
                assert_eq!(cut, Err(Reason::Truncated), "{length} bytes");
            }
            let longer = [&whole[..], &[0]].concat();
            assert_eq!(read(&mut decoder, &longer), Err(Reason::TrailingBytes));
        }
        assert_eq!(
            read(&mut decoder, &value(ID, 9, &good)),
            Err(Reason::MalformedAvro)
        );
    }

    #[test]
    fn instants_are_resolved_to_microseconds() {
        for (kind, written, read) in [
            ("timestamp-millis", 1_700, Ok(1_700_000)),
            ("timestamp-millis", -1, Ok(-1_000)),
            ("timestamp-millis", i64::MAX, Err(Reason::FutureEventTime)),
            ("timestamp-millis", i64::MIN, Err(Reason::InvalidEventTime)),
            ("timestamp-micros", 1_700, Ok(1_700)),
            ("timestamp-nanos", 1_700_999, Ok(1_700)),
            ("timestamp-nanos", -1, Ok(-1)),
        ] {
            let kind = format!(r#"{{"type":"long","logicalType":"{kind}"}}"#);
            let mut decoder = decoder(&[("event_time", &kind)]).expect("compatible");
            let bytes = value(ID, 2, &[written, 1, 2, 3, 4, 5]);
            let time = decoder
                .decode(&bytes)
                .map(|m| m.event().expect("an event").event_time.get());
            assert_eq!(time, read, "{written} of {kind}");
        }
        for kind in [
            r#""int""#,
            r#"{"type":"int","logicalType":"date"}"#,
            r#"{"type":"long","logicalType":"local-timestamp-micros"}"#,
        ] {
            let refused = decoder(&[("event_time", kind)]).err().expect(kind);
            assert!(refused.to_string().contains("event_time"), "{refused}");
        }
    }

    #[test]
    fn a_schema_that_is_nested_too_deep_is_refused() {
        let refused = |kind: &str, why: &str| {
            let refused = decoder(&[("own", kind)]).err().expect(why).to_string();
            assert!(refused.contains(why), "{refused}");
        };
        let arrays = |many: usize| {
            let open = r#"{"type":"array","items":"#.repeat(many);
            format!(r#"{open}"long"{}"#, "}".repeat(many))
        };
        refused(&arrays(100), "more than 64 deep");
        refused(&arrays(100_000), "recursion limit");
        // Deeper than it is written, by names: in itself, one within the other, and two of each within the next.
        refused(
            r#"{"type":"record","name":"Node","fields":[{"name":"next","type":["null","Node"]}]}"#,
            "contains itself",
        );
        let chain = |many: usize, times: usize| {
            let mut fields =
                r#"{"name":"f0","type":{"type":"record","name":"R0","fields":[]}}"#.to_owned();
            for n in 1..many {
                let inner: Vec<String> = (0..times)
                    .map(|time| format!(r#"{{"name":"r{time}","type":"R{}"}}"#, n - 1))
                    .collect();
                write!(
                    fields,
                    r#",{{"name":"f{n}","type":{{"type":"record","name":"R{n}","fields":[{}]}}}}"#,
                    inner.join(",")
                )
                .expect("writes");
            }
            format!(r#"{{"type":"record","name":"All","fields":[{fields}]}}"#)
        };
        refused(&chain(1_000, 1), "more than 64 deep");
        refused(&chain(40, 2), "more than 10000 parts");
        assert!(decoder(&[("own", &arrays(40))]).is_ok());
        assert!(decoder(&[("own", &chain(20, 1))]).is_ok());
    }

    #[test]
    fn other_shapes_of_the_same_are_read() {
        let mut decoder = decoder(&[
            ("event_id", r#"["string","null"]"#),
            ("campaign_id", r#""bytes""#),
            ("impressions", r#""int""#),
            ("own", r#""string""#),
        ])
        .expect("compatible");
        let mut bytes = vec![0, 0, 0, 0, 7];
        write_long(0, &mut bytes);
        write_text(ID, &mut bytes);
        write_text("cmp-1", &mut bytes);
        for number in [1, 1_000, 1, 2, 3, 4, 5] {
            write_long(number, &mut bytes);
        }
        write_text("blue banner", &mut bytes);
        let message = decoder.decode(&bytes).expect("decodes");
        let event = message.event().expect("an event");
        assert_eq!(event.event_id, Uuid::from_u128(5));
        assert_eq!(event.campaign_id.as_str(), "cmp-1");
        assert_eq!(event.platform, Platform::TikTok);
        assert_eq!(event.counts, Counts::of([1, 2, 3_000_000, 4, 5]));
    }
}

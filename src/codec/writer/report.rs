//! A report row of another writer.

use apache_avro::Schema;
use apache_avro::schema::RecordSchema;
use apache_avro::schema_compatibility::SchemaCompatibility;
use apache_avro::types::Value;
use chrono::NaiveDate;

use super::{Texts, instant, is_always, is_instant, number, platform, text};
use crate::codec::report::{self, NUMBERS, currency_of, day_of, zone};
use crate::event::{CampaignId, Reason};
use crate::report_row::{Definition, Origin, ReportRow, Values};

/// Whether a value of this schema can be read as a report row.
///
/// # Errors
/// Why not.
pub(super) fn check(record: &RecordSchema) -> Result<(), String> {
    let mut with_date = record.clone();
    for field in &mut with_date.fields {
        // Avro resolves no text to a date, and we do.
        if field.name == "day" && is_always(record, "day", is_day) {
            field.schema = Schema::Date;
        }
    }
    let ours = report::schema().map_err(|e| e.to_string())?;
    SchemaCompatibility::can_read(&Schema::Record(with_date), ours).map_err(|e| e.to_string())?;
    if !is_always(record, "day", is_day) {
        return Err("day must be a date, or a string such as 2024-06-03".to_owned());
    }
    if !is_always(record, "observed_at", is_instant) {
        return Err(
            "observed_at must be a timestamp-micros, timestamp-millis or timestamp-nanos, or a long of microseconds"
                .to_owned(),
        );
    }
    let mut fields = record.fields.iter();
    if !fields.any(|field| NUMBERS.contains(&field.name.as_str())) {
        return Err(format!(
            "it has none of {}: every row would say that nothing is known",
            NUMBERS.join(", ")
        ));
    }
    Ok(())
}

fn is_day(schema: &Schema) -> bool {
    matches!(schema, Schema::Date | Schema::String)
}

/// A report row from the fields as they were written.
pub(super) fn resolve(
    fields: impl Iterator<Item = (String, Value)>,
    texts: &mut Texts,
) -> Result<ReportRow<'_>, Reason> {
    // What has a default need not be written.
    *texts = Texts::default();
    let (mut of_platform, mut time_zone, mut currency) = (None, None, None);
    let (mut on_day, mut observed_at) = (None, None);
    let mut numbers = [None; 5];
    let mut origin = Origin::default();
    for (name, value) in fields {
        match name.as_str() {
            "campaign_id" => texts.campaign_id = text(value)?,
            "campaign_name" => texts.campaign_name = text(value)?,
            "platform" => of_platform = Some(platform(value)?),
            "account" => texts.account = text(value)?,
            "time_zone" => time_zone = Some(zone(&text(value)?)?),
            "currency" => currency = Some(currency_of(&text(value)?)?),
            "conversions_of" => texts.conversions_of = text(value)?,
            "revenue_of" => texts.revenue_of = text(value)?,
            "day" => on_day = Some(day(value)?),
            "slice" => texts.slice = text(value)?,
            "observed_at" => observed_at = Some(instant(value)?),
            "file" => origin.file = hash(value)?,
            "line" => origin.line = optional(value)?,
            name => {
                let places = NUMBERS.iter().zip(&mut numbers);
                if let Some((_, number)) = places.into_iter().find(|(known, _)| **known == name) {
                    *number = optional(value)?;
                }
                // Else the writer's own.
            }
        }
    }
    Ok(ReportRow {
        campaign_id: CampaignId::parse(&texts.campaign_id)?,
        campaign_name: &texts.campaign_name,
        definition: Definition {
            platform: of_platform.ok_or(Reason::UnknownPlatform)?,
            account: &texts.account,
            time_zone: time_zone.ok_or(Reason::InvalidTimeZone)?,
            currency: currency.ok_or(Reason::InvalidCurrency)?,
            conversions: &texts.conversions_of,
            revenue: &texts.revenue_of,
        },
        day: on_day.ok_or(Reason::InvalidDay)?,
        slice: &texts.slice,
        observed_at: observed_at.ok_or(Reason::MalformedAvro)?,
        values: Values::of(numbers),
        origin,
    })
}

fn day(value: Value) -> Result<NaiveDate, Reason> {
    match value {
        Value::Date(days) => day_of(days.into()),
        Value::String(text) => {
            let day: Option<NaiveDate> = text.parse().ok();
            // As it is written everywhere, and not what could be meant by it.
            day.filter(|day| day.to_string() == text)
                .ok_or(Reason::InvalidDay)
        }
        Value::Null => Err(Reason::NullValue),
        _ => Err(Reason::MalformedAvro),
    }
}

/// Null is unknown.
fn optional(value: Value) -> Result<Option<i64>, Reason> {
    match value {
        Value::Null => Ok(None),
        value => number(value).map(Some),
    }
}

fn hash(value: Value) -> Result<Option<[u8; 32]>, Reason> {
    match value {
        Value::Null => Ok(None),
        Value::Fixed(_, bytes) | Value::Bytes(bytes) => match bytes.try_into() {
            Ok(hash) => Ok(Some(hash)),
            Err(_) => Err(Reason::MalformedAvro),
        },
        _ => Err(Reason::MalformedAvro),
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use apache_avro::writer::datum::GenericDatumWriter;
    use chrono::NaiveDate;
    use proptest::prelude::*;
    use serde_json::json;

    use crate::codec::report::tests::{fields, row, rows};
    use crate::codec::{Decoder, SchemaError, SchemaIds};
    use crate::event::Platform;
    use crate::time::Timestamp;

    use super::*;

    /// A field of another writer: its name, type and value.
    #[derive(Clone)]
    struct Field(String, serde_json::Value, Value);

    /// Another writer's record, in the order in which it writes.
    #[derive(Clone)]
    struct Other(Vec<Field>);

    impl Other {
        /// As ours, but for the defaults.
        fn of(row: &ReportRow<'_>) -> Other {
            let ours: serde_json::Value = serde_json::from_str(report::SCHEMA_JSON).expect("JSON");
            let types = ours["fields"].as_array().expect("an array").iter();
            let fields = fields(row).into_iter().zip(types);
            let fields = fields.map(|((name, value), field)| {
                assert_eq!(field["name"], name);
                Field(name, field["type"].clone(), value)
            });
            Other(fields.collect())
        }

        fn with(mut self, name: &str, kind: serde_json::Value, value: Value) -> Other {
            match self.0.iter_mut().find(|field| field.0 == name) {
                Some(field) => (field.1, field.2) = (kind, value),
                None => self.0.push(Field(name.to_owned(), kind, value)),
            }
            self
        }

        fn without(mut self, names: &[&str]) -> Other {
            self.0.retain(|field| !names.contains(&field.0.as_str()));
            self
        }

        fn schema(&self) -> String {
            let fields = self.0.iter();
            let fields: Vec<_> = fields
                .map(|Field(name, kind, _)| json!({ "name": name, "type": kind }))
                .collect();
            json!({ "type": "record", "name": "ReportRow", "namespace": "com.example", "fields": fields })
                .to_string()
        }

        /// A decoder that knows it as 7, and a value.
        fn written(&self) -> Result<(Decoder, Vec<u8>), SchemaError> {
            let text = self.schema();
            let mut decoder = Decoder::new(SchemaIds::OWN)?;
            decoder.add_writer_schema(7, &text)?;
            let schema = Schema::parse_str(&text).expect("valid");
            let writer = GenericDatumWriter::builder(&schema).build();
            let fields = self.0.iter().cloned();
            let record = Value::Record(fields.map(|Field(name, _, value)| (name, value)).collect());
            let datum = writer.expect("a writer").write_value_to_vec(record);
            let value = [&[0, 0, 0, 0, 7], &datum.expect("encodes")[..]].concat();
            Ok((decoder, value))
        }

        fn refused(&self) -> String {
            let refused = self.written().err().expect("refused").to_string();
            assert!(
                refused.starts_with("writer schema 7 cannot be read as ReportRow: "),
                "{refused}"
            );
            refused
        }

        /// The reason why its value is no report row.
        fn reason(&self) -> Reason {
            let (mut decoder, value) = self.written().expect("a schema that can be read");
            decoder.decode(&value).expect_err("not a report row")
        }
    }

    fn read<'a>(decoder: &'a mut Decoder, value: &'a [u8]) -> ReportRow<'a> {
        let message = decoder.decode(value).expect("a value");
        message.report().expect("a report row")
    }

    fn text(text: &str) -> Value {
        Value::String(text.to_owned())
    }

    proptest! {
        /// In whatever order, and without what is the default.
        #[test]
        fn the_same_fields_are_the_same_row(owned in rows(), order in any::<[u64; 18]>(), own in any::<i64>()) {
            let row = owned.row();
            let mut other = Other::of(&row);
            let mut order = order.iter();
            other.0.sort_by_cached_key(|_| order.next());
            other.0.retain(|Field(name, _, value)| match value {
                Value::String(text) => {
                    !(text.is_empty() && ["conversions_of", "revenue_of", "slice"].contains(&name.as_str()))
                }
                Value::Union(0, _) => name == "clicks",
                _ => true,
            });
            let (mut decoder, value) = other.with("own", json!("long"), Value::Long(own)).written().expect("readable");
            prop_assert_eq!(read(&mut decoder, &value), row);
        }

        #[test]
        fn mutated_values_never_panic(
            owned in rows(),
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        ) {
            let (mut decoder, mut value) = Other::of(&owned.row()).written().expect("readable");
            for (at, byte) in edits {
                let at = 5 + at.index(value.len() - 5);
                value[at] = byte;
            }
            let _ = decoder.decode(&value);
            decoder.fields(&value);
        }
    }

    #[test]
    fn other_shapes_of_the_same_are_read() {
        let symbols = ["Snapchat", "TikTok", "Google"];
        let (mut decoder, value) = Other::of(&row())
            .without(&["conversions_of", "revenue_of", "slice", "file", "line"])
            .with("account", json!("bytes"), Value::Bytes(b"1".to_vec()))
            .with(
                "platform",
                json!({ "type": "enum", "name": "Platform", "symbols": symbols }),
                Value::Enum(2, "Google".to_owned()),
            )
            .with("day", json!("string"), text("2024-06-03"))
            .with(
                "observed_at",
                json!({ "type": "long", "logicalType": "timestamp-millis" }),
                Value::TimestampMillis(1_717_491_600_000),
            )
            .with("clicks", json!("int"), Value::Int(5))
            .with("impressions", json!("long"), Value::Long(100))
            .written()
            .expect("readable");
        let known = row();
        let expected = ReportRow {
            definition: Definition {
                conversions: "",
                revenue: "",
                ..known.definition
            },
            slice: "",
            origin: Origin::default(),
            ..known
        };
        assert_eq!(read(&mut decoder, &value), expected);
        assert_eq!(decoder.fields(&value).len(), 18, "as ours are shown");
        for length in 6..value.len() {
            let cut = decoder.decode(&value[..length]);
            assert_eq!(cut, Err(Reason::Truncated), "{length} bytes");
        }
        let longer = [&value[..], &[0]].concat();
        assert_eq!(decoder.decode(&longer), Err(Reason::TrailingBytes));
    }

    #[test]
    fn instants_are_resolved_to_microseconds() {
        for (kind, value, read_as) in [
            (
                "timestamp-millis",
                Value::TimestampMillis(1_700),
                Ok(1_700_000),
            ),
            (
                "timestamp-millis",
                Value::TimestampMillis(i64::MAX),
                Err(Reason::FutureEventTime),
            ),
            (
                "timestamp-nanos",
                Value::TimestampNanos(1_700_999),
                Ok(1_700),
            ),
            ("none", Value::Long(1_700), Ok(1_700)),
        ] {
            let kind = json!({ "type": "long", "logicalType": kind });
            let other = Other::of(&row()).with("observed_at", kind, value);
            let (mut decoder, value) = other.written().expect("readable");
            let message = decoder.decode(&value);
            let asked = message.map(|said| said.report().expect("a report row").observed_at);
            assert_eq!(asked, read_as.map(Timestamp::new));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good = Other::of(&row());
        for Field(name, kind, _) in &good.0 {
            let optional = NUMBERS.contains(&name.as_str()) || name == "file" || name == "line";
            if !optional {
                let null = Value::Union(0, Box::new(Value::Null));
                let nulled = good.clone().with(name, json!(["null", kind]), null);
                assert_eq!(nulled.reason(), Reason::NullValue, "{name}");
            }
        }
        let symbols =
            json!({ "type": "enum", "name": "Platform", "symbols": ["Snapchat", "Meta"] });
        let string = json!("string");
        for (name, kind, value, reason) in [
            (
                "platform",
                symbols,
                Value::Enum(0, "Snapchat".to_owned()),
                Reason::UnknownPlatform,
            ),
            (
                "campaign_id",
                string.clone(),
                text("a/b"),
                Reason::InvalidCampaignId,
            ),
            (
                "time_zone",
                string.clone(),
                text("Europe/Nowhere"),
                Reason::InvalidTimeZone,
            ),
            (
                "currency",
                string.clone(),
                text("Euro"),
                Reason::InvalidCurrency,
            ),
            ("day", string.clone(), text("2024-6-3"), Reason::InvalidDay),
            (
                "day",
                string.clone(),
                text("2024-02-30"),
                Reason::InvalidDay,
            ),
            ("day", string, text("03.06.2024"), Reason::InvalidDay),
            (
                "file",
                json!(["null", "bytes"]),
                Value::Union(1, Box::new(Value::Bytes(vec![7; 31]))),
                Reason::MalformedAvro,
            ),
            (
                "clicks",
                json!(["null", "string"]),
                Value::Union(1, Box::new(text("5"))),
                Reason::MalformedAvro,
            ),
        ] {
            let other = good.clone().with(name, kind, value);
            assert_eq!(other.reason(), reason, "{name}");
        }
    }

    #[test]
    fn schemas_that_cannot_be_reports_are_refused_at_start() {
        let good = Other::of(&row());
        let date = NaiveDate::from_ymd_opt(2024, 6, 3).expect("a day");
        assert_eq!(row().day, date);
        assert_eq!(row().definition.platform, Platform::Google);
        for name in [
            "account",
            "campaign_name",
            "time_zone",
            "day",
            "observed_at",
        ] {
            let refused = good.clone().without(&[name]).refused();
            assert!(refused.contains(name), "{refused}");
        }
        let day = |kind: &str| {
            good.clone()
                .with("day", json!(kind), Value::Int(0))
                .refused()
        };
        assert!(day("int").contains("day must be a date"));
        assert!(day("long").contains("'day'"));
        let asked = good
            .clone()
            .with("observed_at", json!("int"), Value::Int(0))
            .refused();
        assert!(asked.contains("observed_at must be a timestamp"), "{asked}");
        let clicks = good
            .clone()
            .with("clicks", json!("string"), text("5"))
            .refused();
        assert!(clicks.contains("clicks"), "{clicks}");
        let empty = good.without(&NUMBERS).refused();
        assert!(empty.contains("none of impressions, clicks"), "{empty}");
    }
}

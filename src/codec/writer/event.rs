//! An event of another writer.

use apache_avro::Schema;
use apache_avro::schema::RecordSchema;
use apache_avro::schema_compatibility::SchemaCompatibility;
use apache_avro::types::Value;

use super::{Texts, instant, is_always, is_instant, number, platform, text};
use crate::codec::event::{parse_event_id, schema, whole_conversions};
use crate::event::{AdEvent, CampaignId, Count, Counts, Money, Reason};

/// Whether a value of this schema can be read as an event.
///
/// # Errors
/// Why not.
pub(super) fn check(record: &RecordSchema) -> Result<(), String> {
    let version_1 = schema().map_err(|e| e.to_string())?;
    SchemaCompatibility::can_read(&Schema::Record(record.clone()), version_1)
        .map_err(|e| e.to_string())?;
    if !is_always(record, "event_time", is_instant) {
        return Err(
            "event_time must be a timestamp-micros, timestamp-millis or timestamp-nanos, or a long of microseconds"
                .to_owned(),
        );
    }
    Ok(())
}

/// An event from the fields as they were written.
pub(super) fn resolve(
    fields: impl Iterator<Item = (String, Value)>,
    texts: &mut Texts,
) -> Result<AdEvent<'_>, Reason> {
    let mut event_id = None;
    let mut has_campaign = false;
    let mut of_platform = None;
    let mut event_time = None;
    let mut counts = Counts::default();
    let mut conversions = 0;
    for (name, value) in fields {
        match name.as_str() {
            "event_id" => {
                event_id = Some(match value {
                    Value::Uuid(id) => id,
                    value => parse_event_id(text(value)?.as_bytes())?,
                });
            }
            "campaign_id" => {
                texts.campaign_id = text(value)?;
                has_campaign = true;
            }
            "platform" => of_platform = Some(platform(value)?),
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
        campaign_id: CampaignId::parse(&texts.campaign_id)?,
        platform: of_platform.ok_or(Reason::UnknownPlatform)?,
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

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use uuid::Uuid;

    use super::*;
    use crate::codec::binary::{write_long, write_text};
    use crate::codec::{Decoder, SchemaError, SchemaIds};
    use crate::event::Platform;

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

//! The wire format: Confluent framing around one Avro datum ⇄ [`AdEvent`] or [`ReportRow`].
//!
//! A value on the topic is the byte 0, the writer's schema id as a big-endian `u32`, and the Avro
//! binary encoding of the record ([Avro 1.12, "Binary Encoding"][avro]; framing as in Confluent's
//! ["Wire format"][framing]).
//!
//! [avro]: https://avro.apache.org/docs/1.12.0/specification/#binary-encoding
//! [framing]: https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/index.html#wire-format
//!
//! Version 1 of the schema is by far what flows, so its layout is read straight out of the payload
//! without a copy ([`Decoder::decode`] returns an event that borrows the payload). The schema file
//! remains the authority: [`Decoder::new`] refuses to start if the file and this layout disagree.
//! Values of any other writer schema that is known, from a file or a registry, are read by `apache_avro` and resolved in `writer`.
//!
//! Nothing here can panic on any input, and a value counts only if every byte of it was understood.

// Bytes from outside come through here.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::HashMap;
use std::path::PathBuf;

use apache_avro::Schema;
use foldhash::fast::RandomState;

use crate::event::{AdEvent, Reason};
use crate::report_row::ReportRow;
use crate::time::Timestamp;

mod binary;
mod event;
mod learn;
mod partial;
pub mod report;
mod writer;

pub use event::{SCHEMA_JSON, encode, schema};
use writer::{Texts, WriterSchema};

/// The schema ids that values are framed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchemaIds {
    /// Of events, version 1.
    pub event: u32,
    /// Of report rows.
    pub report: u32,
}

impl SchemaIds {
    /// Where no registry hands out ids. Our API answers for them at `GET /schemas/ids/1` and `2`.
    pub const OWN: SchemaIds = SchemaIds {
        event: 1,
        report: 2,
    };
}

/// The ids that our own schemas are known to have, before any was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KnownIds {
    /// Of events, version 1.
    pub event: Option<u32>,
    /// Of report rows.
    pub report: Option<u32>,
}

impl From<SchemaIds> for KnownIds {
    fn from(ids: SchemaIds) -> KnownIds {
        KnownIds {
            event: Some(ids.event),
            report: Some(ids.report),
        }
    }
}

/// What a value says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// So many more.
    Event(AdEvent<'a>),
    /// So many. Apart, since it is large, and most values are events.
    Report(Box<ReportRow<'a>>),
}

impl<'a> Message<'a> {
    /// The event, if it is one.
    pub fn event(self) -> Option<AdEvent<'a>> {
        match self {
            Message::Event(event) => Some(event),
            Message::Report(_) => None,
        }
    }

    /// The report row, if it is one.
    pub fn report(self) -> Option<ReportRow<'a>> {
        match self {
            Message::Report(row) => Some(*row),
            Message::Event(_) => None,
        }
    }
}

/// Magic byte and schema id.
const HEADER_LEN: usize = 5;

/// The largest allocation `apache_avro` may make for one value; records are a few dozen bytes.
const MAX_AVRO_ALLOCATION: usize = 1 << 20;

/// A problem with a schema, found at start.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    #[error("schema is not valid Avro: {0}")]
    Invalid(String),
    #[error("schemas/{0} no longer has the layout that the decoder reads: {1}")]
    Layout(&'static str, String),
    #[error("writer schema {id} cannot be read as {record}: {reason}")]
    Incompatible {
        id: u32,
        record: &'static str,
        reason: String,
    },
    #[error(
        "schema id {0} is taken by our own schemas (change theirs with --schema-id and --report-schema-id)"
    )]
    IdTaken(u32),
    #[error("cannot read the writer schema {file}: {error}")]
    Unreadable { file: String, error: std::io::Error },
}

/// Other writers' schemas, in JSON, from files; each is one that [`Decoder::with_writers`] takes.
///
/// # Errors
/// As there.
pub fn writer_schemas(
    ids: impl Into<KnownIds>,
    writers: &[(u32, PathBuf)],
) -> Result<Vec<(u32, String)>, SchemaError> {
    Decoder::with_writers(ids, writers)?;
    read_schemas(writers)
}

fn read_schemas(files: &[(u32, PathBuf)]) -> Result<Vec<(u32, String)>, SchemaError> {
    let read = |(id, file): &(u32, PathBuf)| match std::fs::read_to_string(file) {
        Ok(text) => Ok((*id, text)),
        Err(error) => Err(SchemaError::Unreadable {
            file: file.display().to_string(),
            error,
        }),
    };
    files.iter().map(read).collect()
}

/// What is known of a schema besides those of [`KnownIds`].
enum Writer {
    /// It is ours, under one more id.
    Event,
    Report,
    /// Another's.
    Other(WriterSchema),
    /// None that can be read, as far as is known.
    Refused(Reason),
}

/// Reads values off the topic. Holds the writer schemas it knows.
pub struct Decoder {
    ids: KnownIds,
    others: HashMap<u32, Writer, RandomState>,
    /// Whether a schema that is not known here may be learned yet.
    learns: bool,
    /// Those of the last value that went through schema resolution, whose fields are owned.
    texts: Texts,
}

impl Decoder {
    /// A decoder that knows our own schemas under these ids.
    ///
    /// # Errors
    /// [`SchemaError::Layout`] if a compiled-in schema is not what [`Decoder::decode`] reads;
    /// [`SchemaError::IdTaken`] if both have one id.
    pub fn new(ids: impl Into<KnownIds>) -> Result<Decoder, SchemaError> {
        let ids = ids.into();
        check_layout("ad_event.avsc", schema()?, event::LAYOUT)?;
        check_layout("report_row.avsc", report::schema()?, report::LAYOUT)?;
        if let Some(id) = ids.report
            && ids.event == ids.report
        {
            return Err(SchemaError::IdTaken(id));
        }
        apache_avro::util::max_allocation_bytes(MAX_AVRO_ALLOCATION);
        Ok(Decoder {
            ids,
            others: HashMap::default(),
            learns: false,
            texts: Texts::default(),
        })
    }

    /// A decoder that knows our own schemas under these ids, and other writers' from files.
    ///
    /// # Errors
    /// If one of them cannot be read, or no value of it could be read as an event or a report row.
    pub fn with_writers(
        ids: impl Into<KnownIds>,
        writers: &[(u32, PathBuf)],
    ) -> Result<Decoder, SchemaError> {
        let mut decoder = Decoder::new(ids)?;
        for (id, text) in read_schemas(writers)? {
            decoder.add_writer_schema(id, &text)?;
        }
        Ok(decoder)
    }

    /// Makes values written with another schema readable: those framed with `id` are resolved from `writer` to what is
    /// ours, an event or, where its record is a `ReportRow`, a report row.
    ///
    /// # Errors
    /// If `writer` is not Avro, is nested too deep, or no value of it could be read as either.
    pub fn add_writer_schema(&mut self, id: u32, writer: &str) -> Result<(), SchemaError> {
        if Some(id) == self.ids.event || Some(id) == self.ids.report {
            return Err(SchemaError::IdTaken(id));
        }
        let writer = WriterSchema::of(id, writer::parse(id, writer)?)?;
        self.others.insert(id, Writer::Other(writer));
        Ok(())
    }

    /// Reads one framed value. What it says borrows `payload` (or, for another writer schema, `self`).
    /// Its numbers are not judged here (see [`AdEvent::validate`]), but for conversions that do not fit in millionths.
    ///
    /// # Errors
    /// The [`Reason`] why these bytes are neither an event nor a report row.
    #[inline]
    pub fn decode<'a>(&'a mut self, payload: &'a [u8]) -> Result<Message<'a>, Reason> {
        let (header, datum) =
            payload
                .split_at_checked(HEADER_LEN)
                .ok_or(match payload.first() {
                    None => Reason::NoPayload,
                    Some(0) => Reason::Truncated,
                    Some(_) => Reason::WrongMagicByte,
                })?;
        let [0, id @ ..] = header else {
            return Err(Reason::WrongMagicByte);
        };
        let id = id.iter().fold(0u32, |id, &b| (id << 8) | u32::from(b));
        if Some(id) == self.ids.event {
            return event::decode(datum).map(Message::Event);
        }
        let writer = if Some(id) == self.ids.report {
            &Writer::Report
        } else {
            self.others.get(&id).ok_or(Reason::UnknownSchema)?
        };
        match writer {
            Writer::Event => event::decode(datum).map(Message::Event),
            Writer::Report => report::decode(datum).map(|row| Message::Report(Box::new(row))),
            Writer::Other(writer) => writer.read(datum, &mut self.texts),
            Writer::Refused(reason) => Err(*reason),
        }
    }

    /// All that can be said of a record without knowing any other: it is an event or a report row under its own
    /// campaign's key, and its numbers are acceptable at `now`.
    ///
    /// # Errors
    /// The [`Reason`] why it cannot be counted.
    #[inline]
    pub fn accept<'a>(
        &'a mut self,
        key: Option<&[u8]>,
        payload: Option<&'a [u8]>,
        now: Timestamp,
    ) -> Result<Message<'a>, Reason> {
        let message = self.decode(payload.ok_or(Reason::NoPayload)?)?;
        let campaign_id = match &message {
            Message::Event(event) => event.campaign_id,
            Message::Report(row) => row.campaign_id,
        };
        if key != Some(campaign_id.as_str().as_bytes()) {
            return Err(Reason::KeyMismatch);
        }
        match &message {
            Message::Event(event) => event.validate(now)?,
            Message::Report(row) => row.validate(now)?,
        }
        Ok(message)
    }

    /// The fields of a value in the order of its schema, as text, as far as they can be read; for a
    /// person who looks at one that [`Decoder::decode`] refuses.
    pub fn fields(&mut self, payload: &[u8]) -> Vec<(&'static str, String)> {
        let Some(id) = schema_id(payload) else {
            return Vec::new();
        };
        // It has a header, or it would have no id.
        let datum = payload.get(HEADER_LEN..).unwrap_or_default();
        let known = self.others.get(&id);
        if Some(id) == self.ids.event || matches!(known, Some(Writer::Event)) {
            return partial::event(datum);
        }
        if Some(id) == self.ids.report || matches!(known, Some(Writer::Report)) {
            return partial::report(datum);
        }
        self.resolved_fields(payload)
    }

    /// The same, of a value of another writer: all of them, or none.
    fn resolved_fields(&mut self, payload: &[u8]) -> Vec<(&'static str, String)> {
        let mut ours = Vec::new();
        let of: fn(&[u8]) -> _ = match self.decode(payload) {
            Ok(Message::Event(resolved)) => {
                encode(&resolved, SchemaIds::OWN.event, &mut ours);
                partial::event
            }
            Ok(Message::Report(resolved)) => {
                report::encode(&resolved, SchemaIds::OWN.report, &mut ours);
                partial::report
            }
            Err(_) => return Vec::new(),
        };
        of(ours.get(HEADER_LEN..).unwrap_or_default())
    }
}

/// The schema id that a value is framed with; `None` if it is not framed.
pub fn schema_id(payload: &[u8]) -> Option<u32> {
    match payload.first_chunk::<HEADER_LEN>()? {
        [0, id @ ..] => Some(u32::from_be_bytes(*id)),
        _ => None,
    }
}

fn check_layout(file: &'static str, schema: &Schema, layout: &str) -> Result<(), SchemaError> {
    let found = schema.canonical_form();
    if found == layout {
        Ok(())
    } else {
        Err(SchemaError::Layout(file, found))
    }
}

#[cfg(test)]
mod tests {
    use super::binary::{write_long, write_text};
    use super::*;
    use crate::event::{CampaignId, Counts, MAX_SUM, MILLION, Platform};
    use apache_avro::reader::datum::GenericDatumReader;
    use apache_avro::types::Value;
    use apache_avro::writer::datum::GenericDatumWriter;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn event_strategy() -> impl Strategy<Value = (u128, String, u8, i64, [i64; 5])> {
        (
            any::<u128>(),
            "[A-Za-z0-9_.:-]{1,64}",
            0u8..4,
            any::<i64>(),
            (
                any::<[i64; 2]>(),
                -1_000_000_000_000..=1_000_000_000_000_i64,
                any::<[i64; 2]>(),
            )
                .prop_map(|([impressions, clicks], conversions, [cost, revenue])| {
                    [impressions, clicks, conversions, cost, revenue]
                }),
        )
    }

    /// Of the numbers as they are written.
    fn counts([impressions, clicks, conversions, cost, revenue]: [i64; 5]) -> Counts {
        Counts::of([
            impressions,
            clicks,
            conversions.saturating_mul(MILLION),
            cost,
            revenue,
        ])
    }

    fn event(
        (id, campaign, platform, event_time, n): &(u128, String, u8, i64, [i64; 5]),
    ) -> AdEvent<'_> {
        AdEvent {
            event_id: Uuid::from_u128(*id),
            campaign_id: CampaignId::parse(campaign).expect("valid id"),
            platform: Platform::from_index(i64::from(*platform)).expect("valid index"),
            event_time: Timestamp::new(*event_time),
            counts: counts(*n),
        }
    }

    /// The same event as `apache_avro` writes it from a generic value.
    fn encode_with_library(e: &AdEvent<'_>) -> Vec<u8> {
        let c = &e.counts;
        let value = Value::Record(vec![
            ("event_id".into(), Value::Uuid(e.event_id)),
            (
                "campaign_id".into(),
                Value::String(e.campaign_id.as_str().into()),
            ),
            (
                "platform".into(),
                Value::Enum(e.platform.index().into(), e.platform.name().into()),
            ),
            (
                "event_time".into(),
                Value::TimestampMicros(e.event_time.get()),
            ),
            ("impressions".into(), Value::Long(c.impressions.get())),
            ("clicks".into(), Value::Long(c.clicks.get())),
            ("conversions".into(), Value::Long(c.conversions.parts().0)),
            ("cost_micros".into(), Value::Long(c.cost_micros.get())),
            ("revenue_micros".into(), Value::Long(c.revenue_micros.get())),
        ]);
        let writer = GenericDatumWriter::builder(schema().expect("schema"))
            .build()
            .expect("writer");
        let mut out = vec![0, 0, 0, 0, 1];
        out.extend(writer.write_value_to_vec(value).expect("encodes"));
        out
    }

    fn decoder() -> Decoder {
        Decoder::new(SchemaIds::OWN).expect("the compiled-in schema is the layout")
    }

    fn encoded(e: &AdEvent<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        encode(e, SchemaIds::OWN.event, &mut out);
        out
    }

    fn sample() -> (u128, String, u8, i64, [i64; 5]) {
        (
            7 << 100,
            "cmp-42".into(),
            2,
            1_700_000_000_000_000,
            [1_000, 20, 1, 5_000_000, 9_000_000],
        )
    }

    proptest! {
        #[test]
        fn round_trip_and_the_same_bytes_as_apache_avro(parts in event_strategy()) {
            let e = event(&parts);
            let bytes = encoded(&e);
            prop_assert_eq!(&bytes, &encode_with_library(&e));
            let mut decoder = decoder();
            prop_assert_eq!(decoder.decode(&bytes), Ok(Message::Event(e)));
        }

        #[test]
        fn every_truncation_is_truncated(parts in event_strategy()) {
            let bytes = encoded(&event(&parts));
            let mut decoder = decoder();
            for len in 1..bytes.len() {
                prop_assert_eq!(decoder.decode(&bytes[..len]), Err(Reason::Truncated), "{} bytes", len);
            }
            prop_assert_eq!(decoder.decode(&[]), Err(Reason::NoPayload));
        }

        #[test]
        fn trailing_bytes_are_refused(parts in event_strategy(), tail in prop::collection::vec(any::<u8>(), 1..9)) {
            let mut bytes = encoded(&event(&parts));
            bytes.extend(tail);
            let mut decoder = decoder();
            prop_assert_eq!(decoder.decode(&bytes), Err(Reason::TrailingBytes));
        }

        /// Whatever decodes means the same to the library; what it refuses, we refuse.
        #[test]
        fn mutated_payloads_never_panic_and_agree_with_the_library(
            parts in event_strategy(),
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        ) {
            let mut bytes = encoded(&event(&parts));
            for (at, byte) in edits {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let mut first = decoder();
            if let Ok(Message::Event(e)) = first.decode(&bytes) {
                let reader = GenericDatumReader::builder(schema().expect("schema")).build().expect("reader");
                let mut rest = &bytes[HEADER_LEN..];
                let value = reader.read_value(&mut rest);
                prop_assert!(value.is_ok(), "{:?} accepted, but the library says {:?}", e, value);
                prop_assert!(rest.is_empty());
                let (again, mut decoder) = (encoded(&e), decoder());
                prop_assert_eq!(decoder.decode(&again), Ok(Message::Event(e)));
            }
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decoder().decode(&bytes);
            let mut framed = vec![0, 0, 0, 0, 1];
            framed.extend(&bytes);
            let _ = decoder().decode(&framed);
        }
    }

    #[test]
    fn each_fault_has_its_reason() {
        let good = sample();
        let mut bytes = encoded(&event(&good));
        bytes[0] = 1;
        assert_eq!(decoder().decode(&bytes), Err(Reason::WrongMagicByte));
        assert_eq!(decoder().decode(&[9]), Err(Reason::WrongMagicByte));
        bytes[0] = 0;
        bytes[4] = 99;
        assert_eq!(decoder().decode(&bytes), Err(Reason::UnknownSchema));
        bytes[4] = 1;
        bytes[6] = b'x';
        assert_eq!(decoder().decode(&bytes), Err(Reason::InvalidEventId));
        // Eleven continuation bytes are more than a long has.
        let mut over_long = vec![0, 0, 0, 0, 1];
        over_long.extend([0xff; 11]);
        assert_eq!(decoder().decode(&over_long), Err(Reason::MalformedAvro));
        let mut platform = encoded(&event(&good));
        let at = HEADER_LEN + 1 + 36 + 1 + "cmp-42".len();
        platform[at] = 8;
        assert_eq!(decoder().decode(&platform), Err(Reason::UnknownPlatform));
        let mut nul = encoded(&event(&good));
        nul[HEADER_LEN + 1 + 36 + 2] = 0;
        assert_eq!(decoder().decode(&nul), Err(Reason::NulByte));
        nul[HEADER_LEN + 1 + 36 + 2] = 0xff;
        assert_eq!(decoder().decode(&nul), Err(Reason::MalformedAvro));
    }

    #[test]
    fn conversions_are_millionths_and_refused_where_they_do_not_fit() {
        let read = |conversions: i64| {
            let mut bytes = vec![0, 0, 0, 0, 1];
            write_text(&Uuid::from_u128(5).to_string(), &mut bytes);
            write_text("cmp-1", &mut bytes);
            for number in [0, 1_000, 1, 2, conversions, 4, 5] {
                write_long(number, &mut bytes);
            }
            let now = Timestamp::new(2_000);
            let mut decoder = decoder();
            let accepted = decoder.accept(Some(b"cmp-1"), Some(&bytes), now);
            accepted.map(|message| message.event().expect("an event").counts.conversions.get())
        };
        assert_eq!(read(12), Ok(12_000_000));
        let most = MAX_SUM / MILLION;
        assert_eq!(read(most), Ok(most * MILLION));
        for more in [
            most + 1,
            i64::MAX / MILLION,
            i64::MAX / MILLION + 1,
            i64::MAX,
        ] {
            assert_eq!(read(more), Err(Reason::SumOverflow), "{more}");
        }
        for less in [-1, i64::MIN / MILLION - 1, i64::MIN] {
            assert_eq!(read(less), Err(Reason::NegativeValue), "{less}");
        }
    }

    /// A producer that dropped a field's default, reordered the fields and added one of its own.
    const NEWER: &str = r#"{"type":"record","name":"AdEvent","namespace":"adflux","fields":[
        {"name":"campaign_id","type":"string"},
        {"name":"event_id","type":{"type":"string","logicalType":"uuid"}},
        {"name":"event_time","type":{"type":"long","logicalType":"timestamp-micros"}},
        {"name":"platform","type":{"type":"enum","name":"Platform","symbols":["TikTok","Meta"]}},
        {"name":"creative","type":"string"},
        {"name":"impressions","type":"int"},{"name":"clicks","type":"long"},
        {"name":"conversions","type":"long"},{"name":"cost_micros","type":"long"},
        {"name":"revenue_micros","type":"long"}]}"#;

    #[test]
    fn another_writer_schema_is_resolved() {
        let mut decoder = decoder();
        decoder.add_writer_schema(7, NEWER).expect("compatible");
        let mut bytes = vec![0, 0, 0, 0, 7];
        let id = Uuid::from_u128(5);
        write_text("cmp-1", &mut bytes);
        write_text(&id.to_string(), &mut bytes);
        for n in [1_000, 0] {
            write_long(n, &mut bytes);
        }
        write_text("blue banner", &mut bytes);
        for n in [10, 2, 1, 3, 4] {
            write_long(n, &mut bytes);
        }
        let e = decoder
            .decode(&bytes)
            .expect("decodes")
            .event()
            .expect("an event");
        assert_eq!(e.event_id, id);
        assert_eq!(e.campaign_id.as_str(), "cmp-1");
        assert_eq!(e.platform, Platform::TikTok);
        assert_eq!(e.counts.impressions.get(), 10);
        assert_eq!(e.counts.revenue_micros.get(), 4);
        for len in 6..bytes.len() {
            let got = decoder.decode(&bytes[..len]);
            assert!(got.is_err(), "{len} bytes gave {got:?}");
        }
        bytes.push(0);
        assert_eq!(decoder.decode(&bytes), Err(Reason::TrailingBytes));
    }

    #[test]
    fn schemas_that_are_none_of_ours_are_refused_at_start() {
        let mut decoder = decoder();
        assert!(matches!(
            decoder.add_writer_schema(1, NEWER),
            Err(SchemaError::IdTaken(1))
        ));
        let neither = r#"{"type":"record","name":"Click","fields":[]}"#;
        for bad in ["{", r#""string""#, neither] {
            let refused = decoder.add_writer_schema(7, bad).expect_err(bad);
            assert!(
                matches!(refused, SchemaError::Incompatible { id: 7, .. }),
                "{refused}"
            );
        }
    }
}

//! Report rows: the fields of `schemas/report_row.avsc`, read straight out of the payload and written the same way.

use std::sync::LazyLock;

use apache_avro::Schema;
use chrono::{Datelike as _, NaiveDate};
use chrono_tz::Tz;

use super::binary::{read_long, read_text, utf8, write_long, write_text};
use super::{HEADER_LEN, SchemaError};
use crate::currency::Currency;
use crate::event::{CampaignId, Platform, Reason};
use crate::report_row::{Definition, Origin, ReportRow, Values};
use crate::time::Timestamp;

/// The schema, as it stands in `schemas/report_row.avsc`.
pub const SCHEMA_JSON: &str = include_str!("../../schemas/report_row.avsc");

static SCHEMA: LazyLock<Result<Schema, String>> =
    LazyLock::new(|| Schema::parse_str(SCHEMA_JSON).map_err(|e| e.to_string()));

/// The schema, parsed once.
pub(super) fn schema() -> Result<&'static Schema, SchemaError> {
    SCHEMA.as_ref().map_err(|e| SchemaError::Invalid(e.clone()))
}

/// The fields that hold numbers, in the order of [`Values::numbers`].
pub(super) const NUMBERS: [&str; 5] = [
    "impressions",
    "clicks",
    "conversion_micros",
    "cost_micros",
    "revenue_micros",
];

/// What [`decode`] and [`encode`] are written for, in Parsing Canonical Form as `apache_avro` writes it.
pub(super) const LAYOUT: &str = concat!(
    r#"{"name":"adflux.ReportRow","type":"record","fields":["#,
    r#"{"name":"campaign_id","type":"string"},"#,
    r#"{"name":"campaign_name","type":"string"},"#,
    r#"{"name":"platform","type":{"name":"adflux.Platform","type":"enum","#,
    r#""symbols":["Meta","Google","LinkedIn","TikTok"]}},"#,
    r#"{"name":"account","type":"string"},"#,
    r#"{"name":"time_zone","type":"string"},"#,
    r#"{"name":"currency","type":"string"},"#,
    r#"{"name":"conversions_of","type":"string"},"#,
    r#"{"name":"revenue_of","type":"string"},"#,
    r#"{"name":"day","type":{"type":"int"}},"#,
    r#"{"name":"slice","type":"string"},"#,
    r#"{"name":"observed_at","type":{"type":"long"}},"#,
    r#"{"name":"impressions","type":["null","long"]},"#,
    r#"{"name":"clicks","type":["null","long"]},"#,
    r#"{"name":"conversion_micros","type":["null","long"]},"#,
    r#"{"name":"cost_micros","type":["null","long"]},"#,
    r#"{"name":"revenue_micros","type":["null","long"]},"#,
    r#"{"name":"file","type":["null",{"name":"adflux.Sha256","type":"fixed","size":32}]},"#,
    r#"{"name":"line","type":["null","long"]}]}"#,
);

/// Appends the framed encoding of a row to `out`.
pub fn encode(row: &ReportRow<'_>, schema_id: u32, out: &mut Vec<u8>) {
    out.reserve(HEADER_LEN + 160);
    out.push(0);
    out.extend_from_slice(&schema_id.to_be_bytes());
    let Definition {
        platform,
        account,
        time_zone,
        currency,
        conversions,
        revenue,
    } = row.definition;
    write_text(row.campaign_id.as_str(), out);
    write_text(row.campaign_name, out);
    write_long(platform.index().into(), out);
    for text in [
        account,
        time_zone.name(),
        currency.code(),
        conversions,
        revenue,
    ] {
        write_text(text, out);
    }
    write_long(days_since_1970(row.day), out);
    write_text(row.slice, out);
    write_long(row.observed_at.get(), out);
    for number in row.values.numbers() {
        write_optional(number, out);
    }
    match &row.origin.file {
        Some(hash) => {
            write_long(1, out);
            out.extend_from_slice(hash);
        }
        None => write_long(0, out),
    }
    write_optional(row.origin.line, out);
}

fn write_optional(number: Option<i64>, out: &mut Vec<u8>) {
    match number {
        Some(number) => {
            write_long(1, out);
            write_long(number, out);
        }
        None => write_long(0, out),
    }
}

/// Reads a datum. Its numbers are not judged here (see [`ReportRow::validate`]).
pub(super) fn decode(datum: &[u8]) -> Result<ReportRow<'_>, Reason> {
    let mut rest = datum;
    let rest = &mut rest;
    let campaign_id = read_text(rest)?;
    let campaign_name = read_text(rest)?;
    let platform = read_long(rest)?;
    let account = read_text(rest)?;
    let time_zone = read_text(rest)?;
    let currency = read_text(rest)?;
    let conversions = read_text(rest)?;
    let revenue = read_text(rest)?;
    let day = read_long(rest)?;
    let slice = read_text(rest)?;
    let observed_at = Timestamp::new(read_long(rest)?);
    let mut numbers = [None; 5];
    for number in &mut numbers {
        *number = read_optional(rest)?;
    }
    let file = read_hash(rest)?;
    let line = read_optional(rest)?;
    if !rest.is_empty() {
        return Err(Reason::TrailingBytes);
    }
    Ok(ReportRow {
        campaign_id: CampaignId::parse(utf8(campaign_id)?)?,
        campaign_name: utf8(campaign_name)?,
        definition: Definition {
            platform: Platform::from_index(platform).ok_or(Reason::UnknownPlatform)?,
            account: utf8(account)?,
            time_zone: zone(utf8(time_zone)?)?,
            currency: currency_of(utf8(currency)?)?,
            conversions: utf8(conversions)?,
            revenue: utf8(revenue)?,
        },
        day: day_of(day)?,
        slice: utf8(slice)?,
        observed_at,
        values: Values::of(numbers),
        origin: Origin { file, line },
    })
}

pub(super) fn read_optional(rest: &mut &[u8]) -> Result<Option<i64>, Reason> {
    match read_long(rest)? {
        0 => Ok(None),
        1 => read_long(rest).map(Some),
        _ => Err(Reason::MalformedAvro),
    }
}

pub(super) fn read_hash(rest: &mut &[u8]) -> Result<Option<[u8; 32]>, Reason> {
    match read_long(rest)? {
        0 => Ok(None),
        1 => {
            let (hash, tail) = rest.split_first_chunk().ok_or(Reason::Truncated)?;
            *rest = tail;
            Ok(Some(*hash))
        }
        _ => Err(Reason::MalformedAvro),
    }
}

pub(super) fn zone(name: &str) -> Result<Tz, Reason> {
    name.parse().map_err(|_| Reason::InvalidTimeZone)
}

pub(super) fn currency_of(code: &str) -> Result<Currency, Reason> {
    // The code as it is, and not what could be meant by it.
    let known = Currency::from_code(code).filter(|currency| currency.code() == code);
    known.ok_or(Reason::InvalidCurrency)
}

/// 1970-01-01, in days of the common era.
const EPOCH_DAY: i64 = 719_163;

fn days_since_1970(day: NaiveDate) -> i64 {
    i64::from(day.num_days_from_ce()).saturating_sub(EPOCH_DAY)
}

pub(super) fn day_of(days: i64) -> Result<NaiveDate, Reason> {
    let days = i32::try_from(days.saturating_add(EPOCH_DAY)).ok();
    days.and_then(NaiveDate::from_num_days_from_ce_opt)
        .ok_or(Reason::InvalidDay)
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
pub(super) mod tests {
    use apache_avro::reader::datum::GenericDatumReader;
    use apache_avro::types::Value;
    use apache_avro::writer::datum::GenericDatumWriter;
    use proptest::prelude::*;

    use super::super::{Decoder, SchemaIds};
    use super::*;

    pub fn row() -> ReportRow<'static> {
        ReportRow {
            campaign_id: CampaignId::parse("google:1:2").expect("valid"),
            campaign_name: "Été \u{1}",
            definition: Definition {
                platform: Platform::Google,
                account: "1",
                time_zone: chrono_tz::Europe::Berlin,
                currency: Currency::from_code("EUR").expect("known"),
                conversions: "purchase",
                revenue: "",
            },
            day: NaiveDate::from_ymd_opt(2024, 6, 3).expect("a day"),
            slice: "ad_group=7",
            observed_at: Timestamp::new(1_717_491_600_000_000),
            values: Values::of([Some(100), Some(5), Some(1_500_000), Some(7), None]),
            origin: Origin {
                file: Some([7; 32]),
                line: Some(3),
            },
        }
    }

    /// A row that owns its texts.
    #[derive(Clone, Debug)]
    pub struct Owned {
        campaign: String,
        texts: [String; 5],
        platform: Platform,
        time_zone: Tz,
        currency: Currency,
        day: i64,
        observed_at: i64,
        numbers: [Option<i64>; 5],
        origin: Origin,
    }

    impl Owned {
        pub fn row(&self) -> ReportRow<'_> {
            let [name, account, conversions, revenue, slice] = &self.texts;
            ReportRow {
                campaign_id: CampaignId::parse(&self.campaign).expect("valid"),
                campaign_name: name,
                definition: Definition {
                    platform: self.platform,
                    account,
                    time_zone: self.time_zone,
                    currency: self.currency,
                    conversions,
                    revenue,
                },
                day: day_of(self.day).expect("a day"),
                slice,
                observed_at: Timestamp::new(self.observed_at),
                values: Values::of(self.numbers),
                origin: self.origin,
            }
        }
    }

    prop_compose! {
        pub fn rows()(
            campaign in "[A-Za-z0-9_.:-]{1,64}",
            texts in any::<[String; 5]>(),
            platform in prop::sample::select(&Platform::ALL[..]),
            time_zone in prop::sample::select(&chrono_tz::TZ_VARIANTS[..]),
            code in prop::sample::select(&["EUR", "USD", "IDR", "JPY"][..]),
            day in -100_000_i64..100_000,
            observed_at in any::<i64>(),
            numbers in any::<[Option<i64>; 5]>(),
            file in any::<Option<[u8; 32]>>(),
            line in any::<Option<i64>>(),
        ) -> Owned {
            let currency = Currency::from_code(code).expect("known");
            let origin = Origin { file, line };
            Owned { campaign, texts, platform, time_zone, currency, day, observed_at, numbers, origin }
        }
    }

    /// The fields as `apache_avro` has them.
    pub fn fields(row: &ReportRow<'_>) -> Vec<(String, Value)> {
        let Definition {
            platform,
            account,
            time_zone,
            currency,
            conversions,
            revenue,
        } = row.definition;
        let text = |text: &str| Value::String(text.to_owned());
        let optional = |value: Option<Value>| match value {
            Some(value) => Value::Union(1, Box::new(value)),
            None => Value::Union(0, Box::new(Value::Null)),
        };
        let number = |number: Option<i64>| optional(number.map(Value::Long));
        let days = i32::try_from(days_since_1970(row.day)).expect("few");
        let hash = row.origin.file.map(|hash| Value::Fixed(32, hash.to_vec()));
        let mut fields = vec![
            ("campaign_id", text(row.campaign_id.as_str())),
            ("campaign_name", text(row.campaign_name)),
            (
                "platform",
                Value::Enum(platform.index().into(), platform.name().into()),
            ),
            ("account", text(account)),
            ("time_zone", text(time_zone.name())),
            ("currency", text(currency.code())),
            ("conversions_of", text(conversions)),
            ("revenue_of", text(revenue)),
            ("day", Value::Date(days)),
            ("slice", text(row.slice)),
            ("observed_at", Value::TimestampMicros(row.observed_at.get())),
        ];
        fields.extend(NUMBERS.into_iter().zip(row.values.numbers().map(number)));
        fields.push(("file", optional(hash)));
        fields.push(("line", number(row.origin.line)));
        let fields = fields.into_iter();
        fields
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    fn decoder() -> Decoder {
        Decoder::new(SchemaIds::OWN).expect("the compiled-in schema is the layout")
    }

    fn encoded(row: &ReportRow<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        encode(row, SchemaIds::OWN.report, &mut out);
        out
    }

    fn decoded<'a>(decoder: &'a mut Decoder, bytes: &'a [u8]) -> Result<ReportRow<'a>, Reason> {
        decoder
            .decode(bytes)
            .map(|message| message.report().expect("a report row"))
    }

    proptest! {
        #[test]
        fn round_trip_and_the_same_bytes_as_apache_avro(owned in rows()) {
            let row = owned.row();
            let bytes = encoded(&row);
            let writer = GenericDatumWriter::builder(schema().expect("schema")).build().expect("writer");
            let written = writer.write_value_to_vec(Value::Record(fields(&row))).expect("encodes");
            prop_assert_eq!(&bytes[..HEADER_LEN], &[0, 0, 0, 0, 2]);
            prop_assert_eq!(&bytes[HEADER_LEN..], &written[..]);
            let mut decoder = decoder();
            prop_assert_eq!(decoded(&mut decoder, &bytes), Ok(row));
        }

        #[test]
        fn every_truncation_is_truncated_and_every_tail_is_refused(owned in rows(), tail in any::<u8>()) {
            let mut bytes = encoded(&owned.row());
            let mut decoder = decoder();
            for len in HEADER_LEN..bytes.len() {
                prop_assert_eq!(decoder.decode(&bytes[..len]), Err(Reason::Truncated), "{} bytes", len);
            }
            bytes.push(tail);
            prop_assert_eq!(decoder.decode(&bytes), Err(Reason::TrailingBytes));
        }

        /// Whatever decodes means the same to the library; what it refuses, we refuse.
        #[test]
        fn mutated_rows_never_panic_and_agree_with_the_library(
            owned in rows(),
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        ) {
            let mut bytes = encoded(&owned.row());
            for (at, byte) in edits {
                let at = HEADER_LEN + at.index(bytes.len() - HEADER_LEN);
                bytes[at] = byte;
            }
            decoder().fields(&bytes);
            let mut first = decoder();
            if let Ok(row) = decoded(&mut first, &bytes) {
                let reader = GenericDatumReader::builder(schema().expect("schema")).build().expect("reader");
                let mut rest = &bytes[HEADER_LEN..];
                let value = reader.read_value(&mut rest);
                prop_assert_eq!(value.ok(), Some(Value::Record(fields(&row))));
                prop_assert!(rest.is_empty());
                let _ = row.validate(Timestamp::new(i64::MAX / 2));
                let _ = (row.key(), row.event_time(), row.grain());
                let (again, mut decoder) = (encoded(&row), decoder());
                prop_assert_eq!(decoded(&mut decoder, &again), Ok(row));
            }
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let framed = [&[0, 0, 0, 0, 2][..], &bytes].concat();
            let _ = decoder().decode(&framed);
            decoder().fields(&framed);
        }
    }

    #[test]
    fn each_fault_has_its_reason() {
        let good = encoded(&row());
        let with = |words: &[u8], others: &[u8]| {
            let at = good.windows(words.len()).position(|place| place == words);
            let at = at.expect("it has these bytes");
            [&good[..at], others, &good[at + words.len()..]].concat()
        };
        for (bytes, reason) in [
            (with(b"Berlin", b"Barlin"), Reason::InvalidTimeZone),
            (with(b"EUR", b"eur"), Reason::InvalidCurrency),
            (with(b"EUR", b"EU\0"), Reason::InvalidCurrency),
            (with(b"google:", b"google/"), Reason::InvalidCampaignId),
            (with(b"purchase", b"purch\xffse"), Reason::MalformedAvro),
            // The platform stands before the account, which is one character long.
            (with(&[2, 2, b'1'], &[8, 2, b'1']), Reason::UnknownPlatform),
            // A union has two branches.
            (with(&[2, 7, 7], &[4, 7, 7]), Reason::MalformedAvro),
        ] {
            assert_eq!(decoder().decode(&bytes), Err(reason), "{bytes:02x?}");
        }
        for days in [i64::MAX, i64::MIN, i64::from(i32::MAX), 100_000_000] {
            assert_eq!(day_of(days), Err(Reason::InvalidDay), "{days}");
        }
    }
}

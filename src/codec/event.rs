//! Events on the topic: version 1 of the schema `AdEvent`, read straight from a payload and written straight into one.

// Bytes from outside come through here.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::sync::LazyLock;

use apache_avro::Schema;
use uuid::Uuid;

use super::SchemaError;
use super::binary::{read_long, read_text, utf8, write_long, write_text};
use crate::event::{AdEvent, CampaignId, Conversions, Count, Counts, Money, Platform, Reason};
use crate::time::Timestamp;

/// The schema of version 1, as it stands in `schemas/ad_event.avsc`.
pub const SCHEMA_JSON: &str = include_str!("../../schemas/ad_event.avsc");

/// What `decode` and `encode` are written for, in Parsing Canonical Form as `apache_avro` writes it.
pub(super) const LAYOUT: &str = concat!(
    r#"{"name":"adflux.AdEvent","type":"record","fields":["#,
    r#"{"name":"event_id","type":{"type":"string"}},"#,
    r#"{"name":"campaign_id","type":"string"},"#,
    r#"{"name":"platform","type":{"name":"adflux.Platform","type":"enum","#,
    r#""symbols":["Meta","Google","LinkedIn","TikTok"]}},"#,
    r#"{"name":"event_time","type":{"type":"long"}},"#,
    r#"{"name":"impressions","type":"long"},"#,
    r#"{"name":"clicks","type":"long"},"#,
    r#"{"name":"conversions","type":"long"},"#,
    r#"{"name":"cost_micros","type":"long"},"#,
    r#"{"name":"revenue_micros","type":"long"}]}"#,
);

/// Version 1, parsed once.
static SCHEMA: LazyLock<Result<Schema, String>> =
    LazyLock::new(|| Schema::parse_str(SCHEMA_JSON).map_err(|e| e.to_string()));

/// Version 1 of the event's schema.
///
/// # Errors
/// [`SchemaError::Invalid`] if the file that was compiled in is not an Avro schema.
pub fn schema() -> Result<&'static Schema, SchemaError> {
    SCHEMA.as_ref().map_err(|e| SchemaError::Invalid(e.clone()))
}

/// Appends the framed encoding of `event` to `out`. Its conversions are whole: version 1 has no fractions.
pub fn encode(event: &AdEvent<'_>, schema_id: u32, out: &mut Vec<u8>) {
    out.push(0);
    out.extend_from_slice(&schema_id.to_be_bytes());
    let mut id = [0u8; uuid::fmt::Hyphenated::LENGTH];
    write_text(event.event_id.hyphenated().encode_lower(&mut id), out);
    write_text(event.campaign_id.as_str(), out);
    write_long(i64::from(event.platform.index()), out);
    write_long(event.event_time.get(), out);
    let (conversions, _) = event.counts.conversions.parts();
    let [impressions, clicks, _, cost, revenue] = event.counts.numbers();
    for number in [impressions, clicks, conversions, cost, revenue] {
        write_long(number, out);
    }
}

/// The fields of version 1 in order: this is what `decode` reads and `encode` writes.
pub(super) fn decode(datum: &[u8]) -> Result<AdEvent<'_>, Reason> {
    let mut rest = datum;
    let event_id = parse_event_id(read_text(&mut rest)?)?;
    // Checked after the numbers, so that a payload which ends too early is called truncated.
    let campaign_id = read_text(&mut rest)?;
    let platform = read_long(&mut rest)?;
    let event_time = Timestamp::new(read_long(&mut rest)?);
    let impressions = Count::new(read_long(&mut rest)?);
    let clicks = Count::new(read_long(&mut rest)?);
    let conversions = read_long(&mut rest)?;
    let cost_micros = Money::new(read_long(&mut rest)?);
    let revenue_micros = Money::new(read_long(&mut rest)?);
    if !rest.is_empty() {
        return Err(Reason::TrailingBytes);
    }
    Ok(AdEvent {
        event_id,
        campaign_id: CampaignId::parse(utf8(campaign_id)?)?,
        platform: Platform::from_index(platform).ok_or(Reason::UnknownPlatform)?,
        event_time,
        counts: Counts {
            impressions,
            clicks,
            conversions: whole_conversions(conversions)?,
            cost_micros,
            revenue_micros,
        },
    })
}

/// So many conversions. More than fit in millionths are far beyond what a sum may be.
pub(super) fn whole_conversions(number: i64) -> Result<Conversions, Reason> {
    Conversions::whole(number).ok_or(if number < 0 {
        Reason::NegativeValue
    } else {
        Reason::SumOverflow
    })
}

pub(super) fn parse_event_id(text: &[u8]) -> Result<Uuid, Reason> {
    // Only the 36-character form: the crate would also take braces, URNs and bare hex.
    if text.len() != uuid::fmt::Hyphenated::LENGTH {
        return Err(Reason::InvalidEventId);
    }
    Uuid::try_parse_ascii(text).map_err(|_| Reason::InvalidEventId)
}

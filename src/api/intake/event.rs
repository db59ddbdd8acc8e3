//! Events as they are sent to us: the fields of `schemas/ad_event.avsc`, in JSON.

use bytes::Bytes;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Form;
use super::checked::{Checking, Records};
use super::object::{Object, Otherwise};
use crate::api::openapi::schemas::{count, described, id, object, platform, time};
use crate::api::problem::Problem;
use crate::codec;
use crate::event::{AdEvent, Conversions, Counts, MAX_SUM, Reason};
use crate::reports::refusal::Refusal;
use crate::reports::row::Place;
use crate::time::Timestamp;

const COUNTS: [&str; 5] = [
    "impressions",
    "clicks",
    "conversions",
    "cost_micros",
    "revenue_micros",
];
const FIELDS: [&str; 9] = [
    "event_id",
    "campaign_id",
    "platform",
    "event_time",
    "impressions",
    "clicks",
    "conversions",
    "cost_micros",
    "revenue_micros",
];
const OTHERWISE: [Otherwise; 2] = [
    ("cost", "cost_micros, in millionths: 12.5 is 12500000"),
    ("revenue", "revenue_micros, in millionths: 12.5 is 12500000"),
];

/// One of them, in JSON Schema.
pub fn schema() -> Value {
    object(json!({
        "event_id": described(json!({ "type": "string", "format": "uuid" }), "Its identity, together with event_time: sent again, it counts once."),
        "campaign_id": id(),
        "platform": platform(),
        "event_time": time(),
        "impressions": count(),
        "clicks": count(),
        "conversions": count(),
        "cost_micros": described(count(), "In millionths of the currency unit."),
        "revenue_micros": described(count(), "In millionths of the currency unit."),
    }))
}

/// The events of a body, encoded, if all of them could be counted at `now`.
///
/// # Errors
/// A [`Problem`] that says which are refused.
pub fn check(body: &Bytes, form: Form, schema_id: u32, now: Timestamp) -> Result<Records, Problem> {
    Checking::all(body, form, |checking, place, text| {
        one(checking, place, text, schema_id, now)
    })
}

fn one(
    checking: &mut Checking,
    place: &Place,
    text: &str,
    schema_id: u32,
    now: Timestamp,
) -> Result<(), Refusal> {
    let object = Object::of(place, text, &FIELDS, &OTHERWISE)?;
    let event_id = object.required("event_id")?;
    // Its hyphenated form, as on the topic.
    let event_id = Some(event_id.as_ref())
        .filter(|text| text.len() == 36)
        .and_then(|text| Uuid::try_parse(text).ok())
        .ok_or_else(|| object.refused_as("event_id", Reason::InvalidEventId))?;
    let campaign = object.required("campaign_id")?;
    let campaign_id = object.campaign(&campaign)?;
    let mut numbers = [0; 5];
    for (number, name) in numbers.iter_mut().zip(COUNTS) {
        let value = object.whole(name)?;
        *number = value.ok_or_else(|| object.lacking(name).so("write 0 where there were none"))?;
    }
    let [_, _, conversions, ..] = &mut numbers;
    *conversions = Conversions::whole(*conversions)
        .ok_or_else(|| object.refused_as("conversions", Reason::SumOverflow))?
        .get();
    let event = AdEvent {
        event_id,
        campaign_id,
        platform: object.platform()?,
        event_time: object.instant("event_time")?,
        counts: Counts::of(numbers),
    };
    event
        .validate(now)
        .map_err(|reason| object.refused_as(at_fault(reason, &numbers), reason))?;
    let mut payload = Vec::new();
    codec::encode(&event, schema_id, &mut payload);
    checking.add(campaign_id, payload, place);
    Ok(())
}

/// The field for which a reason is given.
fn at_fault(reason: Reason, numbers: &[i64; 5]) -> &'static str {
    let first = |is: fn(&i64) -> bool| {
        let mut named = COUNTS.into_iter().zip(numbers);
        named.find(|(_, number)| is(number)).map(|(name, _)| name)
    };
    let found = match reason {
        Reason::NegativeValue => first(|number| *number < 0),
        Reason::SumOverflow => first(|number| *number > MAX_SUM),
        _ => None,
    };
    found.unwrap_or("event_time")
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
mod tests {
    use super::*;
    use crate::codec::{Decoder, SchemaIds};
    use crate::event::{CampaignId, MILLION, Platform};
    use crate::time::rfc3339_exact;
    use proptest::prelude::*;

    proptest! {
        /// What is sent on is what was sent.
        #[test]
        fn an_event_is_read_exactly(
            id in any::<u128>(),
            campaign in "[A-Za-z0-9_.:-]{1,64}",
            platform in prop::sample::select(Platform::ALL.to_vec()),
            time in 0_i64..4_000_000_000_000_000,
            numbers in prop::array::uniform5(0..=MAX_SUM / MILLION),
            in_lines in any::<bool>(),
        ) {
            let [impressions, clicks, conversions, cost, revenue] = numbers;
            let event = AdEvent {
                event_id: Uuid::from_u128(id),
                campaign_id: CampaignId::parse(&campaign).expect("valid"),
                platform,
                event_time: Timestamp::new(time),
                counts: Counts::of([impressions, clicks, conversions * MILLION, cost, revenue]),
            };
            let text = json!({
                "revenue_micros": revenue, "cost_micros": cost, "conversions": conversions, "clicks": clicks,
                "impressions": impressions, "event_time": rfc3339_exact(event.event_time.datetime().expect("in range")),
                "platform": platform.name(), "campaign_id": campaign, "event_id": event.event_id.to_string(),
            });
            let (body, form) = if in_lines {
                (format!("\n{text}\r\n\n"), Form::Lines)
            } else {
                (format!("[{text:#}]"), Form::Json)
            };
            let read = check(&body.into(), form, 1, Timestamp::new(time)).expect("good");
            prop_assert_eq!(&read.numbers, &[if in_lines { 2 } else { 1 }]);
            prop_assert_eq!(read.whole[0].key.as_deref(), Some(campaign.as_bytes()));
            let mut decoder = Decoder::new(SchemaIds::OWN).expect("schemas");
            let payload = read.whole[0].payload.clone().expect("a payload");
            prop_assert_eq!(decoder.decode(&payload).expect("decodes").event(), Some(event));
        }

        #[test]
        fn nothing_panics(body in prop::collection::vec(any::<u8>(), 0..200), text in r#"[\[\]{}",:a-z0-9 \n.-]{0,200}"#) {
            for body in [Bytes::from(body), Bytes::from(text)] {
                for form in [Form::Json, Form::Lines] {
                    let _ = check(&body, form, 1, Timestamp::EPOCH);
                    let _ = super::super::row::check(&body, form, 2, Timestamp::EPOCH);
                    let _ = super::super::row::are_rows(&body, form);
                }
            }
        }
    }
}

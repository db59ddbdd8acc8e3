//! Report rows as they are sent to us: the fields of `schemas/report_row.avsc`, in JSON, with decimal numbers in place of
//! millionths, as platforms have them.

use bytes::Bytes;
use chrono::NaiveDate;
use serde_json::{Value, json};

use super::Form;
use super::checked::{Checking, Records, pieces};
use super::object::{Object, Otherwise};
use crate::api::openapi::schemas::{count, described, id, nullable, object, platform, text, time};
use crate::api::problem::Problem;
use crate::codec;
use crate::currency::Currency;
use crate::event::Reason;
use crate::report_row::{Definition, Origin, ReportRow, Values};
use crate::reports::number::{Decimal, Fault, double_millionths, millionths};
use crate::reports::refusal::Refusal;
use crate::reports::row::Place;
use crate::time::Timestamp;

const FIELDS: [&str; 16] = [
    "campaign_id",
    "campaign_name",
    "platform",
    "account",
    "time_zone",
    "currency",
    "conversions_of",
    "revenue_of",
    "day",
    "slice",
    "observed_at",
    "impressions",
    "clicks",
    "conversions",
    "cost",
    "revenue",
];
const OTHERWISE: [Otherwise; 3] = [
    ("conversion_micros", "conversions, as a decimal number: 1.5"),
    ("cost_micros", "cost, as a decimal number: 12.5"),
    ("revenue_micros", "revenue, as a decimal number: 12.5"),
];

/// One of them, in JSON Schema.
pub fn schema() -> Value {
    let decimal = || {
        let exact = json!({ "type": "string", "pattern": "^-?[0-9]{1,13}(\\.[0-9]{1,6})?$" });
        nullable(json!({ "anyOf": [{ "type": "number" }, exact] }))
    };
    object(json!({
        "campaign_id": described(id(), "platform:account:campaign, so that two accounts never meet."),
        "campaign_name?": text(),
        "platform": platform(),
        "account": described(text(), "The platform's own id of it."),
        "time_zone": described(text(), "Whose days they are: Europe/Berlin."),
        "currency": described(text(), "ISO 4217: EUR."),
        "conversions_of?": described(text(), "What counts as a conversion, in the platform's own words."),
        "revenue_of?": described(text(), "What is revenue, likewise."),
        "day": { "type": "string", "format": "date" },
        "slice?": described(text(), "What part of the campaign, as ad_group=123,country=DE."),
        "observed_at": described(time(), "When the platform was asked: the newest counts."),
        "impressions?": described(nullable(count()), "Null, or left out: the platform does not say, which is not zero."),
        "clicks?": nullable(count()),
        "conversions?": described(decimal(), "A number, rounded to six decimals; as text, exactly."),
        "cost?": described(decimal(), "In units of the currency, likewise."),
        "revenue?": described(decimal(), "In units of the currency, likewise."),
    }))
}

/// Whether a body of JSON is report rows, and not what a platform has answered: by what its first record is made of.
pub fn are_rows(body: &Bytes, form: Form) -> bool {
    let Ok(pieces) = pieces(body, form) else {
        // Then that is what is told.
        return true;
    };
    let Some((_, first)) = pieces.first() else {
        return true;
    };
    let fields: Result<std::collections::BTreeMap<String, serde::de::IgnoredAny>, _> =
        serde_json::from_str(first);
    fields.map_or(true, |fields| {
        fields.contains_key("observed_at") || fields.contains_key("day")
    })
}

/// The rows of a body, encoded, if all of them could be counted at `now`.
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
    let campaign = object.required("campaign_id")?;
    let [campaign_name, conversions, revenue, slice] =
        ["campaign_name", "conversions_of", "revenue_of", "slice"].map(|name| object.text(name));
    let account = object.required("account")?;
    let time_zone = object.required("time_zone")?;
    let currency = object.required("currency")?;
    let day = object.required("day")?;
    let row = ReportRow {
        campaign_id: object.campaign(&campaign)?,
        campaign_name: &campaign_name?.unwrap_or_default(),
        definition: Definition {
            platform: object.platform()?,
            account: &account,
            time_zone: time_zone
                .parse()
                .map_err(|_| object.refused_as("time_zone", Reason::InvalidTimeZone))?,
            currency: Currency::from_code(&currency)
                .ok_or_else(|| object.refused_as("currency", Reason::InvalidCurrency))?,
            conversions: &conversions?.unwrap_or_default(),
            revenue: &revenue?.unwrap_or_default(),
        },
        day: day.parse::<NaiveDate>().map_err(|_| {
            let refusal = object.refusal("day", "not a date");
            refusal.so("write it as \"2026-01-31\"")
        })?,
        slice: &slice?.unwrap_or_default(),
        observed_at: object.instant("observed_at")?,
        values: Values::of([
            object.whole("impressions")?,
            object.whole("clicks")?,
            decimal(&object, "conversions")?,
            decimal(&object, "cost")?,
            decimal(&object, "revenue")?,
        ]),
        origin: Origin::default(),
    };
    row.validate(now)
        .map_err(|reason| object.refused_as(at_fault(reason, &row), reason))?;
    let mut payload = Vec::new();
    codec::report::encode(&row, schema_id, &mut payload);
    checking.add(row.campaign_id, payload, place);
    Ok(())
}

/// A number in millionths: as text exactly as it is written; as a number rounded, for programs add up doubles.
fn decimal(object: &Object<'_>, name: &str) -> Result<Option<i64>, Refusal> {
    let Some(raw) = object.raw(name) else {
        return Ok(None);
    };
    let read = if raw.starts_with('"') {
        let text = object.required(name)?;
        let is_plain = text
            .bytes()
            .all(|b| b.is_ascii_digit() || b == b'.' || b == b'-');
        if is_plain {
            millionths(&text, Decimal::Point)
        } else {
            Err(Fault::NotANumber)
        }
    } else {
        double_millionths(raw)
    };
    read.map(Some).map_err(|fault| {
        let refusal = object.refusal(name, fault.reason());
        refusal.so("write it as 12.5, or as \"12.5\"; null where it is not known")
    })
}

/// The field for which a reason is given.
fn at_fault(reason: Reason, row: &ReportRow<'_>) -> &'static str {
    let numbers = || Values::NAMES.into_iter().zip(row.values.numbers());
    let known = || numbers().filter_map(|(name, number)| Some((name, number?)));
    let texts = [
        ("campaign_name", row.campaign_name),
        ("slice", row.slice),
        ("conversions_of", row.definition.conversions),
        ("revenue_of", row.definition.revenue),
    ];
    let found = match reason {
        Reason::InvalidAccount => Some("account"),
        Reason::NulByte => texts.iter().find(|(_, t)| t.contains('\0')).map(|t| t.0),
        Reason::TextTooLong => texts.iter().max_by_key(|(_, t)| t.len()).map(|t| t.0),
        Reason::NegativeValue => {
            // Counts first: of them none is below zero.
            let counts = known().take(2).find(|(_, number)| *number < 0);
            counts.or(known().min_by_key(|(_, n)| *n)).map(|n| n.0)
        }
        Reason::SumOverflow => known().max_by_key(|(_, number)| *number).map(|n| n.0),
        Reason::InvalidDay => Some("day"),
        _ => None,
    };
    found.unwrap_or("observed_at")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Millionths;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Option<i64>, Refusal> {
        let place = Place::Record(1);
        let text = format!(r#"{{"cost": {text}}}"#);
        let object = Object::of(&place, &text, &FIELDS, &OTHERWISE)?;
        decimal(&object, "cost")
    }

    #[test]
    fn numbers_are_read_digit_by_digit() {
        for (text, millionths) in [
            ("12.5", 12_500_000),
            ("\"12.5\"", 12_500_000),
            ("9223372036854.775807", i64::MAX),
            ("\"9223372036854.775807\"", i64::MAX),
            // As programs add up doubles.
            ("42.849999999999994", 42_850_000),
            ("1e2", 100_000_000),
            ("-0.000001", -1),
        ] {
            assert_eq!(read(text), Ok(Some(millionths)), "{text}");
        }
        assert_eq!(read("null"), Ok(None));
        for text in [
            "\"\"",
            "\"1.0000001\"",
            "\"1e2\"",
            "\"1 000\"",
            "\"1,5\"",
            "\"€1\"",
            "[]",
            "1e99",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_number_and_its_text_are_the_same(millionths in any::<i64>()) {
            let text = Millionths(millionths.into()).to_string();
            prop_assert_eq!(read(&text), Ok(Some(millionths)));
            prop_assert_eq!(read(&format!("\"{text}\"")), Ok(Some(millionths)));
        }
    }
}

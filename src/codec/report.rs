//! Report rows: the fields of `schemas/report_row.avsc`, read straight out of the payload and written the same way.

use chrono::{Datelike as _, NaiveDate};
use chrono_tz::Tz;

use super::{HEADER_LEN, read_long, read_text, utf8, write_long, write_text};
use crate::currency::Currency;
use crate::event::{CampaignId, Platform, Reason};
use crate::report_row::{Definition, Origin, ReportRow, Values};
use crate::time::Timestamp;

/// The schema, as it stands in `schemas/report_row.avsc`.
pub const SCHEMA_JSON: &str = include_str!("../../schemas/report_row.avsc");

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
    let file = match read_long(rest)? {
        0 => None,
        1 => {
            let (hash, tail) = rest.split_first_chunk::<32>().ok_or(Reason::Truncated)?;
            *rest = tail;
            Some(*hash)
        }
        _ => return Err(Reason::MalformedAvro),
    };
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

fn read_optional(rest: &mut &[u8]) -> Result<Option<i64>, Reason> {
    match read_long(rest)? {
        0 => Ok(None),
        1 => read_long(rest).map(Some),
        _ => Err(Reason::MalformedAvro),
    }
}

fn zone(name: &str) -> Result<Tz, Reason> {
    name.parse().map_err(|_| Reason::InvalidTimeZone)
}

fn currency_of(code: &str) -> Result<Currency, Reason> {
    // The code as it is, and not what could be meant by it.
    let known = Currency::from_code(code).filter(|currency| currency.code() == code);
    known.ok_or(Reason::InvalidCurrency)
}

/// 1970-01-01, in days of the common era.
const EPOCH_DAY: i64 = 719_163;

fn days_since_1970(day: NaiveDate) -> i64 {
    i64::from(day.num_days_from_ce()).saturating_sub(EPOCH_DAY)
}

fn day_of(days: i64) -> Result<NaiveDate, Reason> {
    let days = i32::try_from(days.saturating_add(EPOCH_DAY)).ok();
    days.and_then(NaiveDate::from_num_days_from_ce_opt)
        .ok_or(Reason::InvalidDay)
}

/// The fields of a row as text, for a person.
pub(super) fn fields(row: &ReportRow<'_>) -> Vec<(&'static str, String)> {
    let Definition {
        platform,
        account,
        time_zone,
        currency,
        conversions,
        revenue,
    } = row.definition;
    let text = |text: &str| text.escape_debug().to_string();
    let mut fields = vec![
        ("campaign_id", row.campaign_id.to_string()),
        ("campaign_name", text(row.campaign_name)),
        ("platform", platform.to_string()),
        ("account", text(account)),
        ("time_zone", time_zone.name().to_owned()),
        ("currency", currency.to_string()),
        ("conversions_of", text(conversions)),
        ("revenue_of", text(revenue)),
        ("day", row.day.to_string()),
        ("slice", text(row.slice)),
        ("observed_at", row.observed_at.to_string()),
    ];
    let names = [
        "impressions",
        "clicks",
        "conversion_micros",
        "cost_micros",
        "revenue_micros",
    ];
    let number = |number: Option<i64>| number.map_or("unknown".to_owned(), |n| n.to_string());
    fields.extend(names.into_iter().zip(row.values.numbers().map(number)));
    let file = row
        .origin
        .file
        .map(|hash| data_encoding::HEXLOWER.encode(&hash));
    fields.push(("file", file.unwrap_or_else(|| "none".to_owned())));
    fields.push(("line", number(row.origin.line)));
    fields
}

//! A value that cannot be counted, as far as it can be read.

use data_encoding::HEXLOWER;

use super::binary::{read_long, read_text};
use super::report::{NUMBERS, day_of, read_hash, read_optional};
use crate::event::{Platform, Reason};
use crate::time::Timestamp;

type Fields = Vec<(&'static str, String)>;

/// The fields of an event of version 1 up to the first that cannot be read.
pub(super) fn event(datum: &[u8]) -> Fields {
    let (mut rest, mut fields) = (datum, Fields::new());
    // What stops it is told by the decoder.
    let _ = read_event(&mut rest, &mut fields);
    fields
}

/// Those of a report row.
pub(super) fn report(datum: &[u8]) -> Fields {
    let (mut rest, mut fields) = (datum, Fields::new());
    let _ = read_report(&mut rest, &mut fields);
    fields
}

fn read_event(rest: &mut &[u8], fields: &mut Fields) -> Result<(), Reason> {
    for name in ["event_id", "campaign_id"] {
        fields.push((name, text(rest)?));
    }
    fields.push(("platform", platform(rest)?));
    fields.push(("event_time", instant(rest)?));
    for name in [
        "impressions",
        "clicks",
        "conversions",
        "cost_micros",
        "revenue_micros",
    ] {
        fields.push((name, read_long(rest)?.to_string()));
    }
    Ok(())
}

fn read_report(rest: &mut &[u8], fields: &mut Fields) -> Result<(), Reason> {
    for name in ["campaign_id", "campaign_name"] {
        fields.push((name, text(rest)?));
    }
    fields.push(("platform", platform(rest)?));
    for name in [
        "account",
        "time_zone",
        "currency",
        "conversions_of",
        "revenue_of",
    ] {
        fields.push((name, text(rest)?));
    }
    let days = read_long(rest)?;
    let day = day_of(days).map(|day| day.to_string());
    fields.push((
        "day",
        day.unwrap_or_else(|_| format!("{days} days after 1970-01-01")),
    ));
    fields.push(("slice", text(rest)?));
    fields.push(("observed_at", instant(rest)?));
    for name in NUMBERS {
        let number = read_optional(rest)?.map(|number| number.to_string());
        fields.push((name, number.unwrap_or_else(|| "unknown".to_owned())));
    }
    let none = || "none".to_owned();
    let file = read_hash(rest)?.map(|hash| HEXLOWER.encode(&hash));
    fields.push(("file", file.unwrap_or_else(none)));
    let line = read_optional(rest)?.map(|line| line.to_string());
    fields.push(("line", line.unwrap_or_else(none)));
    Ok(())
}

fn text(rest: &mut &[u8]) -> Result<String, Reason> {
    let text = String::from_utf8_lossy(read_text(rest)?);
    Ok(text.escape_debug().to_string())
}

fn platform(rest: &mut &[u8]) -> Result<String, Reason> {
    let platform = read_long(rest)?;
    let name = Platform::from_index(platform).map(|p| p.name().to_owned());
    Ok(name.unwrap_or_else(|| format!("index {platform}")))
}

fn instant(rest: &mut &[u8]) -> Result<String, Reason> {
    Ok(Timestamp::new(read_long(rest)?).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{SchemaIds, encode, report};
    use crate::event::{AdEvent, CampaignId, Counts};

    /// Of what is cut, all fields before the cut are shown as they are.
    fn assert_cut(datum: &[u8], fields: fn(&[u8]) -> Fields, count: usize) -> Fields {
        let all = fields(datum);
        assert_eq!(all.len(), count);
        for len in 0..datum.len() {
            let some = fields(&datum[..len]);
            assert!(some.len() < count && all.starts_with(&some), "{len}");
        }
        all
    }

    #[test]
    fn a_truncated_event_is_read_as_far_as_it_goes() {
        let event = AdEvent {
            event_id: uuid::Uuid::nil(),
            campaign_id: CampaignId::parse("cmp-1").expect("valid"),
            platform: Platform::TikTok,
            event_time: Timestamp::EPOCH,
            counts: Counts::of([-7, 0, 0, 0, 0]),
        };
        let mut bytes = Vec::new();
        encode(&event, SchemaIds::OWN.event, &mut bytes);
        let all = assert_cut(&bytes[5..], super::event, 9);
        assert_eq!(all[1], ("campaign_id", "cmp-1".to_owned()));
        assert_eq!(all[2], ("platform", "TikTok".to_owned()));
        assert_eq!(all[3].1, "1970-01-01T00:00:00+00:00");
        assert_eq!(all[4], ("impressions", "-7".to_owned()));
    }

    #[test]
    fn a_truncated_report_row_is_read_as_far_as_it_goes() {
        let mut bytes = Vec::new();
        let row = report::tests::row();
        report::encode(&row, SchemaIds::OWN.report, &mut bytes);
        let all = assert_cut(&bytes[5..], super::report, 18);
        let of = |name: &str| {
            let field = all.iter().find(|(known, _)| *known == name);
            field.map(|(_, text)| text.as_str())
        };
        assert_eq!(of("campaign_name"), Some("Été \\u{1}"));
        assert_eq!(of("time_zone"), Some("Europe/Berlin"));
        assert_eq!(of("day"), Some("2024-06-03"));
        assert_eq!(of("observed_at"), Some("2024-06-04T09:00:00+00:00"));
        assert_eq!(of("conversion_micros"), Some("1500000"));
        assert_eq!(of("revenue_micros"), Some("unknown"));
        assert_eq!(of("file"), Some("07".repeat(32).as_str()));
        assert_eq!(of("line"), Some("3"));
        // What stops the decoder does not stop whoever looks.
        let at = bytes.windows(3).position(|b| b == b"EUR").expect("there");
        bytes[at] = b'?';
        assert_eq!(
            super::report(&bytes[5..])[5],
            ("currency", "?UR".to_owned())
        );
    }
}

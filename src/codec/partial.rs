//! A value that is no event, as far as it can be read.

use super::{read_long, read_text};
use crate::event::{Platform, Reason};
use crate::time::Timestamp;

/// The fields of version 1 up to the first that cannot be read.
pub(super) fn fields(datum: &[u8]) -> Vec<(&'static str, String)> {
    let mut rest = datum;
    let mut fields = Vec::new();
    // What stops it is told by the decoder.
    let _ = read(&mut rest, &mut fields);
    fields
}

fn read(rest: &mut &[u8], fields: &mut Vec<(&'static str, String)>) -> Result<(), Reason> {
    for name in ["event_id", "campaign_id"] {
        let text = String::from_utf8_lossy(read_text(rest)?);
        fields.push((name, text.escape_debug().to_string()));
    }
    let platform = read_long(rest)?;
    let name = Platform::from_index(platform).map(|p| p.name().to_owned());
    fields.push((
        "platform",
        name.unwrap_or_else(|| format!("index {platform}")),
    ));
    let time = Timestamp::new(read_long(rest)?);
    fields.push(("event_time", time.to_string()));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{SchemaIds, encode};
    use crate::event::{AdEvent, CampaignId, Counts};

    #[test]
    fn a_truncated_value_is_read_as_far_as_it_goes() {
        let event = AdEvent {
            event_id: uuid::Uuid::nil(),
            campaign_id: CampaignId::parse("cmp-1").expect("valid"),
            platform: Platform::TikTok,
            event_time: Timestamp::EPOCH,
            counts: Counts::of([-7, 0, 0, 0, 0]),
        };
        let mut bytes = Vec::new();
        encode(&event, SchemaIds::OWN.event, &mut bytes);
        let all = fields(&bytes[5..]);
        assert_eq!(all.len(), 9);
        assert_eq!(all[1], ("campaign_id", "cmp-1".to_owned()));
        assert_eq!(all[2], ("platform", "TikTok".to_owned()));
        assert_eq!(all[3].1, "1970-01-01T00:00:00+00:00");
        assert_eq!(all[4], ("impressions", "-7".to_owned()));
        for len in 0..bytes.len() - 5 {
            let some = fields(&bytes[5..5 + len]);
            assert!(some.len() < 9 && all.starts_with(&some), "{len}");
        }
    }
}

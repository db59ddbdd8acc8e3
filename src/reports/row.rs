//! A report row: what a platform says of one campaign and day.

use std::fmt;
use std::sync::Arc;

use chrono::NaiveDate;
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use crate::currency::Currency;
use crate::event::{CampaignId, Platform};
use crate::report_row::Values;

/// Where in its file something stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// A line of text, from 1.
    Line(u64),
    /// A row of a sheet, from 1, as spreadsheets number them.
    Sheet { name: Arc<str>, row: u64 },
    /// The so-manieth report of a JSON document, from 1.
    Item(u64),
    /// The so-manieth record of what is sent to the API, from 1.
    Record(u64),
}

impl Place {
    /// The number within its kind.
    pub fn number(&self) -> u64 {
        match self {
            Place::Line(number) | Place::Item(number) | Place::Record(number) => *number,
            Place::Sheet { row, .. } => *row,
        }
    }

    /// The same kind of place, with another number.
    pub fn with_number(&self, number: u64) -> Place {
        match self {
            Place::Line(_) => Place::Line(number),
            Place::Item(_) => Place::Item(number),
            Place::Record(_) => Place::Record(number),
            Place::Sheet { name, .. } => Place::Sheet {
                name: Arc::clone(name),
                row: number,
            },
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Line(line) => write!(f, "line {line}"),
            Place::Sheet { name, row } => write!(f, "{name}!{row}"),
            Place::Item(item) => write!(f, "report {item}"),
            Place::Record(record) => write!(f, "record {record}"),
        }
    }
}

/// What a platform says of one campaign, day and slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRow {
    pub platform: Platform,
    /// The platform's own id of the account.
    pub account: String,
    /// `platform:account:campaign`, checked by [`CampaignId::parse`].
    pub campaign_id: String,
    pub campaign_name: String,
    /// A day of the account's time zone.
    pub day: NaiveDate,
    /// What part of the campaign: `ad_group=123`, `country=DE`; empty for all of it.
    pub slice: String,
    pub currency: Currency,
    pub values: Values,
    pub place: Place,
}

/// An id as it stands in a campaign's: without what platforms put around it.
///
/// Google writes accounts as `123-456-7890`, Meta as `act_123`, LinkedIn as `urn:li:sponsoredAccount:123`.
pub fn own_id(platform: Platform, text: &str) -> String {
    let text = super::number::bare(text);
    match platform {
        Platform::Google => {
            let last = text.rsplit('/').next().unwrap_or(text);
            last.replace('-', "")
        }
        Platform::Meta => text.strip_prefix("act_").unwrap_or(text).to_owned(),
        Platform::LinkedIn if text.starts_with("urn:li:") => {
            text.rsplit(':').next().unwrap_or(text).to_owned()
        }
        Platform::LinkedIn | Platform::TikTok => text.to_owned(),
    }
}

/// The first half of the ids of an account's campaigns.
pub fn prefix(platform: Platform, account: &str) -> String {
    format!("{}:{account}:", platform.name().to_ascii_lowercase())
}

/// The id of a campaign that has one; none if it is no valid id.
pub fn id_of(platform: Platform, account: &str, campaign: &str) -> Option<String> {
    let id = format!("{}{campaign}", prefix(platform, account));
    (!campaign.is_empty() && CampaignId::parse(&id).is_ok()).then_some(id)
}

/// The id of a campaign that has only a name: the first 64 bits of the name's SHA-256. Another name is another campaign.
pub fn id_from_name(platform: Platform, account: &str, name: &str) -> Option<String> {
    let hash = Sha256::digest(name.as_bytes());
    let short = hash.get(..8).map(|bytes| HEXLOWER.encode(bytes))?;
    id_of(platform, account, &format!("n{short}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_name_platform_and_account() {
        assert_eq!(
            id_of(Platform::Google, "1234567890", "987").as_deref(),
            Some("google:1234567890:987")
        );
        assert_eq!(id_of(Platform::Google, "1", ""), None);
        assert_eq!(id_of(Platform::Google, "1", "a b"), None);
        assert_eq!(id_of(Platform::Google, "1", &"9".repeat(60)), None);
        assert_eq!(own_id(Platform::Google, " 123-456-7890 "), "1234567890");
        assert_eq!(own_id(Platform::Meta, "act_123"), "123");
        assert_eq!(
            own_id(Platform::LinkedIn, "urn:li:sponsoredCampaign:55"),
            "55"
        );
        assert_eq!(
            own_id(Platform::TikTok, "=\"1786543210987654321\""),
            "1786543210987654321"
        );
    }

    #[test]
    fn a_name_gives_the_same_id_each_time() {
        let id = |name| id_from_name(Platform::Meta, "1", name).expect("valid");
        assert_eq!(id("Été 🚀"), id("Été 🚀"));
        assert_ne!(id("a"), id("b"));
        assert!(CampaignId::parse(&id("Été 🚀")).is_ok());
    }

    #[test]
    fn places_are_named_as_their_files_count() {
        let sheet = Place::Sheet {
            name: "Raw Data".into(),
            row: 7,
        };
        assert_eq!(sheet.with_number(9).to_string(), "Raw Data!9");
        assert_eq!(Place::Line(3).to_string(), "line 3");
        assert_eq!(Place::Item(3).to_string(), "report 3");
    }
}

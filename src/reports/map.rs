//! A person's own map of a file that nobody knows: which column is what, in TOML.

use std::collections::BTreeMap;
use std::path::Path;

use chrono_tz::Tz;
use serde::Deserialize;

use crate::currency::Currency;
use crate::event::Platform;

use super::header::{Column, Field, Layout};

/// See the module.
#[derive(Clone, Debug)]
pub struct Map {
    pub platform: Platform,
    pub account: Option<String>,
    pub zone: Option<Tz>,
    pub currency: Option<Currency>,
    columns: Vec<(Field, String)>,
    slices: Vec<(String, String)>,
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    platform: String,
    account: Option<String>,
    time_zone: Option<String>,
    currency: Option<String>,
    columns: Columns,
    #[serde(default)]
    slices: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Columns {
    day: String,
    day_end: Option<String>,
    campaign_id: Option<String>,
    campaign_name: Option<String>,
    account_id: Option<String>,
    currency: Option<String>,
    impressions: Option<String>,
    clicks: Option<String>,
    cost: Option<String>,
    conversions: Option<String>,
    revenue: Option<String>,
}

impl Map {
    /// Reads a map.
    ///
    /// # Errors
    /// A message for the person who wrote it.
    pub fn parse(text: &str) -> Result<Map, String> {
        let written: Written = toml::from_str(text).map_err(|error| error.to_string())?;
        let platform = Platform::ALL
            .into_iter()
            .find(|p| p.name().eq_ignore_ascii_case(&written.platform))
            .ok_or_else(|| {
                format!(
                    "platform '{}' is none of {}",
                    written.platform,
                    Platform::NAMES.join(", ")
                )
            })?;
        let zone = written.time_zone.as_deref().map(zone).transpose()?;
        let currency = written.currency.as_deref().map(Currency::from_flag);
        let of = written.columns;
        if of.campaign_id.is_none() && of.campaign_name.is_none() {
            return Err("columns has neither campaign_id nor campaign_name".to_owned());
        }
        let columns: Vec<_> = [
            (Field::Day, Some(of.day)),
            (Field::DayEnd, of.day_end),
            (Field::CampaignId, of.campaign_id),
            (Field::CampaignName, of.campaign_name),
            (Field::AccountId, of.account_id),
            (Field::Currency, of.currency),
            (Field::Impressions, of.impressions),
            (Field::Clicks, of.clicks),
            (Field::Cost, of.cost),
            (Field::Conversions, of.conversions),
            (Field::Revenue, of.revenue),
        ]
        .into_iter()
        .filter_map(|(field, name)| name.map(|name| (field, name)))
        .collect();
        if !columns
            .iter()
            .any(|(field, _)| *field >= Field::Impressions)
        {
            return Err(
                "columns has none of impressions, clicks, cost, conversions, revenue".to_owned(),
            );
        }
        Ok(Map {
            platform,
            account: written.account,
            zone,
            currency: currency.transpose()?,
            columns,
            slices: written.slices.into_iter().collect(),
        })
    }

    /// Reads a file of `--map`.
    ///
    /// # Errors
    /// A message for the user.
    pub fn from_flag(path: &str) -> Result<Map, String> {
        let text = std::fs::read_to_string(Path::new(path)).map_err(|error| error.to_string())?;
        Map::parse(&text)
    }

    /// The layout of a header that has every column of the map; none if one is missing.
    pub fn layout(&self, cells: &[&str]) -> Option<Layout> {
        let find = |wanted: &String| {
            let index = cells.iter().position(|cell| cell.trim() == wanted.trim())?;
            let name = wanted.clone();
            Some(Column { index, name })
        };
        let mut fields = Vec::new();
        for (field, name) in &self.columns {
            fields.push((*field, find(name)?));
        }
        let mut slices = Vec::new();
        for (slice, name) in &self.slices {
            slices.push((slice.clone(), find(name)?));
        }
        let names = cells.iter().map(|cell| cell.trim().to_owned()).collect();
        Some(Layout::of(self.platform, fields, slices, names))
    }

    /// The columns it names, for the person whose file has them not.
    pub fn names(&self) -> String {
        let columns = self.columns.iter().map(|(_, name)| name.as_str());
        let slices = self.slices.iter().map(|(_, name)| name.as_str());
        columns.chain(slices).collect::<Vec<_>>().join(", ")
    }
}

/// Reads a time zone of the IANA database.
///
/// # Errors
/// A message for the user.
pub fn zone(text: &str) -> Result<Tz, String> {
    text.parse()
        .map_err(|_| format!("'{text}' is not a time zone such as Europe/Berlin"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_says_what_columns_are() {
        let map = Map::parse(
            "platform = 'google'\ntime_zone = 'Europe/Berlin'\ncurrency = 'EUR'\n\
             [columns]\nday = 'Datum'\ncampaign_id = 'Nr'\ncost = 'Geld'\n[slices]\nregion = 'Ort'\n",
        )
        .expect("a map");
        let layout = map
            .layout(&["Geld", " Datum ", "Nr", "Ort", "x"])
            .expect("all there");
        assert_eq!(layout.column(Field::Day).map(|c| c.index), Some(1));
        assert_eq!(layout.slices.len(), 1);
        assert!(map.layout(&["Geld", "Datum"]).is_none());
        for (text, said) in [
            ("platform = 'Bing'\n[columns]\nday = 'a'\n", "none of Meta"),
            (
                "platform = 'Meta'\n[columns]\nday = 'a'\ncost = 'c'\n",
                "neither campaign_id",
            ),
            (
                "platform = 'Meta'\n[columns]\nday = 'a'\ncampaign_id = 'b'\n",
                "none of impressions",
            ),
            (
                "platform = 'Meta'\ntime_zone = 'Mars'\n[columns]\nday = 'a'\ncampaign_id = 'b'\n",
                "not a time zone",
            ),
            ("x = 1", "unknown field"),
        ] {
            let refused = Map::parse(text).expect_err("no map");
            assert!(refused.contains(said), "{refused}");
        }
    }
}

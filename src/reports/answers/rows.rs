//! The rows of an answer, read as is planned.

use std::ops::ControlFlow;

use chrono::NaiveDate;

use super::shapes::recognised;
use super::{Action, Plan, actions, unwrapped};
use crate::event::{Conversions, Count, Money, Platform};
use crate::report_row::Values;
use crate::reports::day;
use crate::reports::facts::{Draft, add_slice};
use crate::reports::found::Found;
use crate::reports::json::{self, Flat, Item};
use crate::reports::number::{self, Fault};
use crate::reports::refusal::Refusal;
use crate::reports::row::{FileRow, Place};
use crate::reports::source::Source;

impl Plan {
    /// What is counted as a conversion and as revenue.
    pub fn counted(&self) -> [&str; 2] {
        self.counted.each_ref().map(String::as_str)
    }

    /// What the file was recognised as.
    pub fn shape(&self) -> String {
        let form = if self.is_singer { "Singer" } else { "JSON" };
        format!("{}, {form}", self.paths.name)
    }

    /// Hands over every row and refusal of the file.
    ///
    /// # Errors
    /// What is wrong with the file as a whole.
    pub fn for_each(
        &self,
        source: &Source,
        each: &mut dyn FnMut(Found, u64) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        json::for_each(source, &mut |item, number| {
            let Item::Report(text) = item else {
                return Ok(ControlFlow::Continue(()));
            };
            let place = Place::Item(number);
            let Some((flat, _)) = unwrapped(text)? else {
                return Ok(ControlFlow::Continue(()));
            };
            if self.is_singer && recognised(&flat).is_none() {
                return Ok(ControlFlow::Continue(()));
            }
            let found = match self.report(&flat, place) {
                Ok(row) => Found::Row(row),
                Err(refusal) => Found::Refused(refusal),
            };
            each(found, 0)?;
            Ok(ControlFlow::Continue(()))
        })
    }

    fn report(&self, flat: &Flat, place: Place) -> Result<FileRow, Refusal> {
        let paths = self.paths;
        let day = self.day(flat, &place)?;
        let values = self.values(flat, &place)?;
        let mut slice = String::new();
        let (mut has, mut bit) = (0_u64, 1_u64);
        for (name, at) in paths.slices {
            let value = flat.text(at);
            if !value.is_empty() {
                has |= bit;
                add_slice(&mut slice, name, &value);
            }
            bit = bit.wrapping_shl(1);
        }
        let mut campaign_id = flat.text(paths.campaign_id);
        if paths.platform == Platform::LinkedIn {
            let (campaign, rest) = pivots(flat);
            if campaign_id.is_empty() {
                campaign_id = campaign;
            }
            for (name, value) in rest {
                has |= bit;
                add_slice(&mut slice, &name, &value);
            }
            if campaign_id.is_empty() {
                return Err(Refusal::new("no campaign among its pivots")
                    .at(place)
                    .so("ask with pivot=CAMPAIGN"));
            }
        }
        self.facts.same_grain(&place, has)?;
        let (account, name) = (flat.text(paths.account), flat.text(paths.campaign_name));
        let currency = flat.text(paths.currency);
        self.facts.complete(Draft {
            place,
            account: &account,
            campaign_id: &campaign_id,
            campaign_name: &name,
            currency: &currency,
            day,
            slice,
            values,
        })
    }

    fn day(&self, flat: &Flat, place: &Place) -> Result<NaiveDate, Refusal> {
        let read = |text: &str, name: &str| {
            // Taps write days as instants of many precisions.
            let day = text.split(['T', ' ']).next().unwrap_or(text);
            day::in_order(day, None).ok_or_else(|| {
                Refusal::new("not a day")
                    .at(place.clone())
                    .of(name, text)
                    .so("ask for numbers by day")
            })
        };
        let range = |end: &str| {
            let part = |of: &str| flat.text(&[&format!("date_range.{end}.{of}")]);
            let (year, month, day) = (part("year"), part("month"), part("day"));
            (!year.is_empty()).then(|| format!("{year}/{month}/{day}"))
        };
        let start = range("start").unwrap_or_else(|| flat.text(self.paths.day));
        let name = self.paths.day.first().copied().unwrap_or("day");
        let day = read(&start, name)?;
        let end = range("end").unwrap_or_else(|| flat.text(self.paths.day_end));
        if !end.is_empty() {
            let end = read(&end, name)?;
            if end != day {
                return Err(Refusal::new(format!("the report sums up {day} to {end}"))
                    .at(place.clone())
                    .so("ask for numbers by day"));
            }
        }
        Ok(day)
    }

    fn values(&self, flat: &Flat, place: &Place) -> Result<Values, Refusal> {
        let paths = self.paths;
        let number = |at: &[&str], kind: Kind| number(&flat.text(at), at, kind, place);
        let text = |list: &[String], kind: Kind| {
            let at: Vec<&str> = list.iter().map(String::as_str).collect();
            number(&at, kind)
        };
        let cost = match number(paths.micros, Kind::Whole)? {
            Some(micros) => Some(micros),
            None => match number(paths.cost, Kind::Millionths)? {
                None if paths.platform == Platform::LinkedIn => {
                    number(&["cost_in_usd"], Kind::Millionths)?
                }
                cost => cost,
            },
        };
        let (conversions, revenue) = if paths.platform == Platform::Meta {
            self.actions(flat, place)?
        } else {
            let mut conversions = text(&self.conversions, Kind::Millionths)?;
            if paths.platform == Platform::LinkedIn && conversions.is_none() {
                let click = number(
                    &["external_website_post_click_conversions"],
                    Kind::Millionths,
                )?;
                let view = number(
                    &["external_website_post_view_conversions"],
                    Kind::Millionths,
                )?;
                conversions = click.zip(view).and_then(|(a, b)| a.checked_add(b));
            }
            (conversions, text(&self.revenue, Kind::Millionths)?)
        };
        Ok(Values {
            impressions: number(paths.impressions, Kind::Whole)?.map(Count::new),
            clicks: number(paths.clicks, Kind::Whole)?.map(Count::new),
            conversions: conversions.map(Conversions::new),
            cost: cost.map(Money::new),
            revenue: revenue.map(Money::new),
        })
    }

    /// Conversions and revenue of Meta's lists of actions. A list names only what happened: what it lacks is zero, if such lists
    /// were asked for.
    fn actions(&self, flat: &Flat, place: &Place) -> Result<(Option<i64>, Option<i64>), Refusal> {
        let of = |field: &str, action: &Option<Action>| {
            let Some(action) = action else {
                return Ok(None);
            };
            let found = actions(flat, field, &action.window)
                .into_iter()
                .find(|(kind, _)| *kind == action.kind);
            match found {
                Some((_, value)) => {
                    let value = value.unwrap_or_default();
                    number(&value, &[field], Kind::Millionths, place)
                        .map(|number| Some(number.unwrap_or(0)))
                }
                None => Ok(Some(0)),
            }
        };
        let conversions = of("actions", &self.action)?;
        let revenue = if self.has_values {
            of("action_values", &self.value)?
        } else {
            None
        };
        // Purchases without a value have one that is not known.
        let revenue = revenue.filter(|value| *value != 0 || conversions == Some(0));
        Ok((conversions, revenue))
    }
}

/// The campaign among LinkedIn's pivots, and the others as slices.
fn pivots(flat: &Flat) -> (String, Vec<(String, String)>) {
    let raw = flat.raw("pivot_values").unwrap_or("[]");
    let mut urns: Vec<String> = serde_json::from_str(raw).unwrap_or_default();
    urns.push(flat.text(&["pivot_value"]));
    let (mut campaign, mut others) = (String::new(), Vec::new());
    for urn in urns.iter().filter(|urn| !urn.is_empty()) {
        let mut parts = urn.rsplitn(2, ':');
        let id = parts.next().unwrap_or_default().to_owned();
        let kind = parts.next().and_then(|kind| kind.rsplit(':').next());
        match kind {
            Some("sponsoredCampaign") => campaign = id,
            kind => others.push((json::snake(kind.unwrap_or("pivot")), id)),
        }
    }
    others.sort();
    (campaign, others)
}

/// How a number is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Whole,
    Millionths,
}

/// Reads a number that a program wrote; none if it is not known.
fn number(text: &str, at: &[&str], kind: Kind, place: &Place) -> Result<Option<i64>, Refusal> {
    if number::is_unknown(text) {
        return Ok(None);
    }
    let name = at.first().copied().unwrap_or("number");
    let value = match kind {
        Kind::Millionths => number::double_millionths(text),
        Kind::Whole => text.parse().or_else(|_| number::double_whole(text)),
    };
    value.map(Some).map_err(|fault| {
        let reason = match fault {
            Fault::NotANumber => "not a number",
            fault => fault.reason(),
        };
        Refusal::new(reason)
            .at(place.clone())
            .of(name, text)
            .so("ask the platform again")
    })
}

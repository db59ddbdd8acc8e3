//! Answers of the platforms' APIs, and what Singer taps write of them.
//!
//! Each shape is a table of paths. A value may stand at several: Google's API nests what its tap has flat.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use chrono::{DateTime, NaiveDate, Utc};
use serde_json::value::RawValue;

use crate::event::{Conversions, Count, Money, Platform};
use crate::report_row::Values;
use crate::time::parse_rfc3339;

use super::day;
use super::facts::{self, Draft, Facts, OfFile, Options, add_slice};
use super::found::Found;
use super::header;
use super::json::{self, Flat, Item, plain};
use super::number::{self, Fault};
use super::refusal::Refusal;
use super::row::{FileRow, Place};
use super::source::Source;

/// Where a shape has what.
#[derive(Debug)]
struct Paths {
    platform: Platform,
    name: &'static str,
    day: &'static [&'static str],
    day_end: &'static [&'static str],
    campaign_id: &'static [&'static str],
    campaign_name: &'static [&'static str],
    account: &'static [&'static str],
    currency: &'static [&'static str],
    zone: &'static [&'static str],
    impressions: &'static [&'static str],
    clicks: &'static [&'static str],
    /// In millionths already.
    micros: &'static [&'static str],
    cost: &'static [&'static str],
    conversions: &'static [&'static str],
    revenue: &'static [&'static str],
    slices: &'static [(&'static str, &'static [&'static str])],
    /// Where the platform's other numbers are, for `--conversions` and `--revenue`.
    metrics: &'static [&'static str],
}

static GOOGLE: Paths = Paths {
    platform: Platform::Google,
    name: "Google Ads API",
    day: &["segments.date", "date"],
    day_end: &[],
    campaign_id: &["campaign.id", "campaign_id"],
    campaign_name: &["campaign.name", "campaign_name"],
    account: &["customer.id", "customer_id"],
    currency: &["customer.currency_code", "customer_currency_code"],
    zone: &["customer.time_zone", "customer_time_zone"],
    impressions: &["metrics.impressions", "impressions"],
    clicks: &["metrics.clicks", "clicks"],
    micros: &["metrics.cost_micros", "cost_micros"],
    cost: &[],
    conversions: &["metrics.conversions", "conversions"],
    revenue: &["metrics.conversions_value", "conversions_value"],
    slices: &[
        ("ad", &["ad_group_ad.ad.id", "ad_id"]),
        ("ad_group", &["ad_group.id", "ad_group_id"]),
        (
            "conversion_action",
            &["segments.conversion_action", "conversion_action"],
        ),
        ("device", &["segments.device", "device"]),
        ("hour", &["segments.hour", "hour"]),
        ("keyword", &["ad_group_criterion.criterion_id"]),
        ("network", &["segments.ad_network_type", "ad_network_type"]),
        ("slot", &["segments.slot"]),
    ],
    metrics: &["metrics.", ""],
};

static META: Paths = Paths {
    platform: Platform::Meta,
    name: "Meta insights",
    day: &["date_start"],
    day_end: &["date_stop"],
    campaign_id: &["campaign_id"],
    campaign_name: &["campaign_name"],
    account: &["account_id"],
    currency: &["account_currency"],
    zone: &[],
    impressions: &["impressions"],
    clicks: &["clicks"],
    micros: &[],
    cost: &["spend"],
    conversions: &[],
    revenue: &[],
    slices: &[
        ("ad", &["ad_id"]),
        ("ad_set", &["adset_id"]),
        ("age", &["age"]),
        ("country", &["country"]),
        ("device", &["impression_device"]),
        ("device_platform", &["device_platform"]),
        ("gender", &["gender"]),
        ("hour", &["hourly_stats_aggregated_by_advertiser_time_zone"]),
        ("placement", &["platform_position"]),
        ("publisher", &["publisher_platform"]),
        ("region", &["region"]),
    ],
    metrics: &[],
};

static TIKTOK: Paths = Paths {
    platform: Platform::TikTok,
    name: "TikTok reports",
    day: &["dimensions.stat_time_day", "stat_time_day"],
    day_end: &[],
    campaign_id: &[
        "dimensions.campaign_id",
        "metrics.campaign_id",
        "campaign_id",
    ],
    campaign_name: &["metrics.campaign_name", "campaign_name"],
    account: &[
        "dimensions.advertiser_id",
        "metrics.advertiser_id",
        "advertiser_id",
    ],
    currency: &["metrics.currency", "currency"],
    zone: &[],
    impressions: &["metrics.impressions", "impressions"],
    clicks: &["metrics.clicks", "clicks"],
    micros: &[],
    cost: &["metrics.spend", "spend"],
    conversions: &["metrics.conversion", "conversion"],
    // It is called a rate, and is an amount of money.
    revenue: &[
        "metrics.total_complete_payment_rate",
        "total_complete_payment_rate",
    ],
    slices: &[
        ("ad", &["dimensions.ad_id", "ad_id"]),
        ("ad_group", &["dimensions.adgroup_id", "adgroup_id"]),
        ("age", &["dimensions.age", "age"]),
        ("country", &["dimensions.country_code", "country_code"]),
        ("gender", &["dimensions.gender", "gender"]),
        ("placement", &["dimensions.placement", "placement"]),
        ("platform", &["dimensions.platform"]),
    ],
    metrics: &["metrics.", ""],
};

static LINKEDIN: Paths = Paths {
    platform: Platform::LinkedIn,
    name: "LinkedIn adAnalytics",
    day: &["start_at"],
    day_end: &["end_at"],
    campaign_id: &["campaign_id"],
    campaign_name: &["campaign_name", "campaign"],
    account: &["account_id"],
    currency: &[],
    zone: &[],
    impressions: &["impressions"],
    clicks: &["clicks"],
    micros: &[],
    cost: &["cost_in_local_currency"],
    conversions: &["external_website_conversions"],
    revenue: &["conversion_value_in_local_currency"],
    slices: &[("creative", &["creative_id"])],
    metrics: &[""],
};

/// Whose report it is, from what it has.
fn recognised(flat: &Flat) -> Option<&'static Paths> {
    let has = |path: &str| flat.raw(path).is_some();
    let begins = |start: &str| flat.paths().any(|path| path.starts_with(start));
    if begins("metrics.") && (begins("dimensions.") || has("stat_time_day")) {
        Some(&TIKTOK)
    } else if begins("metrics.") && (begins("campaign.") || begins("segments.")) {
        Some(&GOOGLE)
    } else if has("stat_time_day") {
        Some(&TIKTOK)
    } else if begins("date_range.start.") || has("cost_in_local_currency") {
        Some(&LINKEDIN)
    } else if has("date_start") && has("date_stop") {
        Some(&META)
    } else if has("date") && (has("cost_micros") || has("customer_id")) {
        Some(&GOOGLE)
    } else {
        None
    }
}

/// Which of Meta's action types are purchases, the widest first. One of them is taken: they are the same purchases.
const PURCHASES: [&str; 3] = [
    "omni_purchase",
    "purchase",
    "offsite_conversion.fb_pixel_purchase",
];

/// An action type, and the window in which it is attributed: `purchase`, `purchase@7d_click`.
#[derive(Clone, Debug)]
struct Action {
    kind: String,
    window: String,
}

impl Action {
    fn named(name: &str) -> Action {
        let (kind, window) = name.split_once('@').unwrap_or((name, "value"));
        Action {
            kind: kind.to_owned(),
            window: window.to_owned(),
        }
    }

    /// As it was named.
    fn name(&self) -> String {
        match self.window.as_str() {
            "value" => self.kind.clone(),
            window => format!("{}@{window}", self.kind),
        }
    }
}

/// How the reports of a file are read.
#[derive(Debug)]
pub struct Plan {
    pub facts: Facts,
    pub notes: Vec<String>,
    paths: &'static Paths,
    is_singer: bool,
    /// Meta's conversion, and where its value is.
    action: Option<Action>,
    value: Option<Action>,
    /// Whether reports of the file have amounts of actions, so that one without has none.
    has_values: bool,
    conversions: Vec<String>,
    revenue: Vec<String>,
    /// What is counted as a conversion and as revenue.
    counted: [String; 2],
}

/// What all reports of a file say together.
#[derive(Default)]
struct Seen {
    first: Option<&'static Paths>,
    is_singer: bool,
    zone: String,
    observed_at: Option<DateTime<Utc>>,
    actions: BTreeSet<String>,
    has_values: bool,
    paths: BTreeSet<String>,
    strange: u64,
    in_dollars: bool,
    more: bool,
    reports: u64,
}

/// A report without what Singer puts around it; none if it is one of Singer's other messages.
fn unwrapped(text: &str) -> Result<Option<(Flat, Singer)>, Refusal> {
    let kind = json::text_of(text, "type");
    let is_singer = ["RECORD", "SCHEMA", "STATE", "ACTIVATE_VERSION"].contains(&kind.as_str());
    if !is_singer {
        return Ok(Some((Flat::of(text)?, Singer::No)));
    }
    // A schema is nested deeper than any report: it is not looked into.
    if kind != "RECORD" {
        return Ok(None);
    }
    let flat = Flat::of(text)?;
    let time = flat.text(&["time_extracted"]);
    let time = parse_rfc3339(&time).ok();
    Ok(Some((flat.below("record"), Singer::Yes(time))))
}

/// Whether a report came from a tap, and when that got it.
enum Singer {
    No,
    Yes(Option<DateTime<Utc>>),
}

/// More names than any answer has.
const MOST_NAMES: usize = 2_000;

/// Finds out how the reports of a file are read.
///
/// # Errors
/// Why they cannot be.
pub fn plan(source: &Source, options: &Options) -> Result<Plan, Refusal> {
    let mut seen = Seen::default();
    json::for_each(source, &mut |item, number| {
        let Item::Report(text) = item else {
            seen.more = true;
            return Ok(ControlFlow::Continue(()));
        };
        let at = |refusal: Refusal| refusal.at(Place::Item(number));
        let Some((flat, singer)) = unwrapped(text).map_err(at)? else {
            seen.is_singer = true;
            return Ok(ControlFlow::Continue(()));
        };
        if let Singer::Yes(time) = singer {
            seen.is_singer = true;
            seen.observed_at = seen.observed_at.or(time);
        }
        look(&mut seen, &flat, number)?;
        Ok(ControlFlow::Continue(()))
    })?;
    let Some(paths) = seen.first else {
        return Err(if seen.reports == 0 && !seen.is_singer {
            Refusal::new("an answer without a report").so("is the range of days right?")
        } else {
            Refusal::new("no report that is known: of Google Ads, Meta, TikTok or LinkedIn")
                .so("ask for campaign, day and numbers, or export a table")
        });
    };
    let mut notes = Vec::new();
    if seen.more {
        notes.push("the answer says that there are more pages: is this all of them?".to_owned());
    }
    if seen.strange > 0 {
        notes.push(format!(
            "{} records of the tap are no reports, and were passed over",
            seen.strange
        ));
    }
    definitions(paths, &seen, options, &mut notes)
}

/// Takes in what a report says of the file.
fn look(seen: &mut Seen, flat: &Flat, number: u64) -> Result<(), Refusal> {
    seen.reports = seen.reports.saturating_add(1);
    let Some(paths) = recognised(flat) else {
        if seen.is_singer {
            seen.strange = seen.strange.saturating_add(1);
            return Ok(());
        }
        return Err(Refusal::new(
            "not a report that is known: of Google Ads, Meta, TikTok or LinkedIn",
        )
        .at(Place::Item(number))
        .so("ask for campaign, day and numbers, or export a table"));
    };
    let first = *seen.first.get_or_insert(paths);
    if first.platform != paths.platform {
        return Err(Refusal::new(format!(
            "a report of {} among those of {}",
            paths.name, first.name
        ))
        .at(Place::Item(number))
        .so("import one platform's at a time"));
    }
    let zone = flat.text(paths.zone);
    if seen.zone.is_empty() {
        seen.zone = zone;
    } else if !zone.is_empty() && zone != seen.zone {
        return Err(Refusal::new(format!(
            "a report in the time zone {zone} among those of {}",
            seen.zone
        ))
        .at(Place::Item(number))
        .so("import one account at a time"));
    }
    if paths.platform == Platform::LinkedIn {
        let local = flat.raw("cost_in_local_currency").is_some();
        seen.in_dollars |= !local && flat.raw("cost_in_usd").is_some();
    }
    for path in flat.paths() {
        if seen.paths.len() < MOST_NAMES && !seen.paths.contains(path) {
            seen.paths.insert(path.to_owned());
        }
    }
    seen.has_values |= flat.raw("action_values").is_some();
    for (kind, _) in actions(flat, "actions", "value") {
        if seen.actions.len() < MOST_NAMES {
            seen.actions.insert(kind);
        }
    }
    Ok(())
}

/// Meta's actions: their types, and their values in a window.
fn actions(flat: &Flat, field: &str, window: &str) -> Vec<(String, Option<String>)> {
    let raw = flat.raw(field).unwrap_or("[]");
    let list: Vec<BTreeMap<String, &RawValue>> = serde_json::from_str(raw).unwrap_or_default();
    list.iter()
        .filter_map(|action| {
            let text = |key: &str| action.get(key).map(|raw| plain(raw.get()));
            Some((text("action_type")?, text(window)))
        })
        .collect()
}

fn definitions(
    paths: &'static Paths,
    seen: &Seen,
    options: &Options,
    notes: &mut Vec<String>,
) -> Result<Plan, Refusal> {
    let zone = match paths.platform {
        Platform::LinkedIn => Some(chrono_tz::UTC),
        _ if seen.zone.is_empty() => None,
        _ => Some(super::map::zone(&seen.zone).map_err(Refusal::new)?),
    };
    let of_file = OfFile {
        zone,
        currency: seen
            .in_dollars
            .then(|| crate::currency::Currency::from_code("USD"))
            .flatten(),
        observed_at: seen.observed_at,
    };
    let remembered = options.remembered.as_ref();
    let usual = header::usual(paths.platform);
    let there = |wanted: &str| -> Vec<String> {
        let before = paths.metrics.iter();
        let paths = before.map(|before| format!("{before}{wanted}"));
        paths.filter(|path| seen.paths.contains(path)).collect()
    };
    let named = |flag: &Option<String>, name: &str, usual: &[&str]| {
        let Some(wanted) = flag else {
            return Ok(usual.iter().map(|path| (*path).to_owned()).collect());
        };
        let wanted = json::snake(wanted);
        let there = there(&wanted);
        if there.is_empty() {
            return Err(
                Refusal::new(format!("no report has '{wanted}', as {name} says"))
                    .so("ask the platform for it"),
            );
        }
        Ok(there)
    };
    let (mut action, mut value) = (None, None);
    let (mut conversions, mut revenue) = (Vec::new(), Vec::new());
    if paths.platform == Platform::Meta {
        let usual = PURCHASES.iter().find(|kind| seen.actions.contains(**kind));
        // On a day without any, no action is named: then there are none of what is remembered, if actions were asked for.
        let remembered = remembered.map(|known| Action::named(&known.conversions));
        let is_there = |action: &Action| seen.actions.contains(&action.kind) || usual.is_none();
        let remembered = remembered.filter(|action| !seen.actions.is_empty() && is_there(action));
        action = match (&options.conversions, remembered, usual) {
            (Some(name), ..) => Some(Action::named(name)),
            (None, Some(action), _) => Some(action),
            (None, None, Some(kind)) => Some(Action::named(kind)),
            (None, None, None) => {
                let kinds: Vec<_> = seen.actions.iter().take(10).map(String::as_str).collect();
                notes.push(format!(
                    "no purchases among the actions ({}): conversions are unknown; --conversions names what counts",
                    kinds.join(", ")
                ));
                None
            }
        };
        value = match (&options.revenue, options.remembered.as_ref()) {
            (Some(name), _) => Some(Action::named(name)),
            (None, Some(known)) if action.is_some() => Some(Action::named(&known.revenue)),
            (None, _) => action.clone(),
        };
        if let Some(action) = &action
            && !seen.actions.contains(&action.kind)
        {
            notes.push(format!("no report has an action '{}'", action.kind));
        }
    } else {
        conversions = named(&options.conversions, "--conversions", paths.conversions)?;
        revenue = named(&options.revenue, "--revenue", paths.revenue)?;
        let of_before = |flag: &Option<String>, known: Option<&String>| {
            let known = known.filter(|_| flag.is_none());
            known
                .map(|name| there(name))
                .filter(|there| !there.is_empty())
        };
        if let Some(there) = of_before(&options.conversions, remembered.map(|k| &k.conversions)) {
            conversions = there;
        }
        if let Some(there) = of_before(&options.revenue, remembered.map(|k| &k.revenue)) {
            revenue = there;
        }
    }
    let called = |action: &Option<Action>, at: &[String]| match action {
        Some(action) => Some(action.name()),
        None => {
            let path = at.iter().find(|path| seen.paths.contains(*path))?;
            let name = path.rsplit('.').next().unwrap_or(path);
            Some(name.to_owned())
        }
    };
    let [usual_conversions, usual_revenue] = usual;
    let mut counted = [
        (called(&action, &conversions), usual_conversions),
        (called(&value, &revenue), usual_revenue),
    ]
    .map(|(called, usual)| called.ok_or_else(|| usual.to_owned()));
    if let Some(known) = options.remembered.as_ref() {
        let of_before = [
            ("the conversion", &known.conversions),
            ("the revenue", &known.revenue),
        ];
        for (counted, (what, known_name)) in counted.iter_mut().zip(of_before) {
            match counted {
                Ok(name) => known.agrees(name, known_name, what, facts::named)?,
                Err(usual) => usual.clone_from(known_name),
            }
        }
    }
    let counted = counted.map(|name| name.unwrap_or_else(|usual| usual));
    Ok(Plan {
        facts: Facts::new(paths.platform, options, of_file)?,
        notes: std::mem::take(notes),
        paths,
        is_singer: seen.is_singer,
        action,
        value,
        has_values: seen.has_values,
        conversions,
        revenue,
        counted,
    })
}

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

//! Answers of the platforms' APIs, and what Singer taps write of them.
//!
//! Each shape is a table of paths. A value may stand at several: Google's API nests what its tap has flat.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;

use crate::event::Platform;
use crate::time::parse_rfc3339;

use super::facts::{self, Facts, OfFile, Options};
use super::header;
use super::json::{self, Flat, Item, plain};
use super::refusal::Refusal;
use super::row::Place;
use super::source::Source;

mod rows;
mod shapes;

use shapes::{Paths, recognised};

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

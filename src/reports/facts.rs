//! What a file says of its account, and what flags say where it says nothing: together they make rows complete.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;

use crate::currency::Currency;
use crate::event::Platform;
use crate::report_row::Values;

use super::number::Decimal;
use super::refusal::Refusal;
use super::row::{FileRow, Place, id_from_name, id_of, own_id};

/// What the person says.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub account: Option<String>,
    pub zone: Option<Tz>,
    pub currency: Option<Currency>,
    /// When the platform was asked.
    pub observed_at: Option<DateTime<Utc>>,
    /// Whether a campaign without an id is told by its name.
    pub id_from_name: bool,
    pub decimal: Option<Decimal>,
    /// The platform's own name of the column or action that is a conversion.
    pub conversions: Option<String>,
    /// The same of what is revenue.
    pub revenue: Option<String>,
    /// What the columns of a file that nobody knows mean.
    pub map: Option<super::map::Map>,
    /// What is known of the account.
    pub remembered: Option<Remembered>,
}

/// What an account's earlier reports have said: it holds where neither file nor person says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    pub account: String,
    pub zone: Tz,
    pub currency: Currency,
    pub conversions: String,
    pub revenue: String,
    /// Whether file and person may say otherwise: days move over then.
    pub may_differ: bool,
}

impl Remembered {
    /// Refuses what a file or a flag says otherwise.
    ///
    /// # Errors
    /// When it does.
    pub fn agrees<T: PartialEq>(
        &self,
        said: &T,
        known: &T,
        what: &str,
        shown: impl Fn(&T) -> String,
    ) -> Result<(), Refusal> {
        if self.may_differ || said == known {
            return Ok(());
        }
        Err(Refusal::new(format!(
            "{what} of account {} is {} in what was imported before, and {} here",
            self.account,
            shown(known),
            shown(said)
        ))
        .so("import it as before; or with --replace, and the days of this file move over"))
    }
}

/// A name as a person reads it; an empty one is of what the platform itself takes.
pub fn named(name: &String) -> String {
    if name.is_empty() {
        "the platform's own".to_owned()
    } else {
        format!("'{name}'")
    }
}

/// A row as its file has it.
#[derive(Debug)]
pub struct Draft<'a> {
    pub place: Place,
    /// Empty where the file does not say, as are all texts here.
    pub account: &'a str,
    pub campaign_id: &'a str,
    pub campaign_name: &'a str,
    pub currency: &'a str,
    pub day: NaiveDate,
    pub slice: String,
    pub values: Values,
}

/// What holds for all rows of a file.
#[derive(Debug)]
pub struct Facts {
    pub platform: Platform,
    pub zone: Option<Tz>,
    pub observed_at: Option<DateTime<Utc>>,
    /// In the platform's own writing, from the flag.
    account: Option<String>,
    /// From the flag, or the file as a whole.
    currency: Option<Currency>,
    remembered: Option<Remembered>,
    /// Whether the zone is the remembered one because nobody says another.
    is_zone_remembered: bool,
    id_from_name: bool,
    /// The last day that a row can be of.
    last_day: Option<NaiveDate>,
    /// The flags that would say what is not known.
    missing: RefCell<BTreeSet<&'static str>>,
    /// The first currency code and what it was read as: nearly all rows have the same.
    seen_currency: RefCell<Option<(String, Currency)>>,
    /// Where the first row is, and which slices it has.
    grain: Cell<Option<(u64, u64)>>,
}

/// What the file as a whole says; a flag that says otherwise is refused.
#[derive(Clone, Copy, Debug, Default)]
pub struct OfFile {
    pub zone: Option<Tz>,
    pub currency: Option<Currency>,
    pub observed_at: Option<DateTime<Utc>>,
}

/// What a flag and the file say, if they agree.
fn agreed<T: PartialEq + Clone>(
    flag: Option<&T>,
    file: Option<&T>,
    name: &str,
    shown: impl Fn(&T) -> String,
) -> Result<Option<T>, Refusal> {
    match (flag, file) {
        (Some(flag), Some(file)) if flag != file => Err(Refusal::new(format!(
            "{name} says {}, and the file says {}",
            shown(flag),
            shown(file)
        ))
        .so(format!("leave out {name}, or name another file"))),
        (flag, file) => Ok(flag.or(file).cloned()),
    }
}

impl Facts {
    /// Of a file of a platform.
    ///
    /// # Errors
    /// When a flag and the file contradict one another.
    pub fn new(platform: Platform, options: &Options, file: OfFile) -> Result<Facts, Refusal> {
        let zone = agreed(
            options.zone.as_ref(),
            file.zone.as_ref(),
            "--time-zone",
            |z| z.name().to_owned(),
        )?;
        let currency = agreed(
            options.currency.as_ref(),
            file.currency.as_ref(),
            "--currency",
            Currency::to_string,
        )?;
        // A person may know better when a file was made than its title, which has no seconds.
        let observed_at = options.observed_at.or(file.observed_at);
        let remembered = options.remembered.clone();
        if let (Some(known), Some(zone)) = (&remembered, &zone) {
            known.agrees(zone, &known.zone, "the time zone", |z| z.name().to_owned())?;
        }
        if let (Some(known), Some(currency)) = (&remembered, &currency) {
            known.agrees(
                currency,
                &known.currency,
                "the currency",
                Currency::to_string,
            )?;
        }
        let is_zone_remembered = zone.is_none() && remembered.is_some();
        let zone = zone.or(remembered.as_ref().map(|known| known.zone));
        let last_day = observed_at
            .zip(zone)
            .and_then(|(at, zone)| at.with_timezone(&zone).date_naive().succ_opt());
        let mut missing = BTreeSet::new();
        if zone.is_none() {
            missing.insert("--time-zone");
        }
        if observed_at.is_none() {
            missing.insert("--observed-at");
        }
        Ok(Facts {
            platform,
            zone,
            observed_at,
            account: options.account.as_deref().map(|id| own_id(platform, id)),
            currency,
            remembered,
            is_zone_remembered,
            id_from_name: options.id_from_name,
            last_day,
            missing: RefCell::new(missing),
            seen_currency: RefCell::new(None),
            grain: Cell::new(None),
        })
    }

    /// The flags that would say what neither the file nor the person said.
    pub fn missing(&self) -> Vec<&'static str> {
        self.missing.borrow().iter().copied().collect()
    }

    /// Refuses a row that has other slices than the first. `slices`: a bit for each that it has.
    ///
    /// # Errors
    /// When it is of another grain.
    pub fn same_grain(&self, place: &Place, slices: u64) -> Result<(), Refusal> {
        match self.grain.get() {
            None => {
                self.grain.set(Some((place.number(), slices)));
                Ok(())
            }
            Some((_, first)) if first == slices => Ok(()),
            Some((number, _)) => Err(Refusal::new(format!(
                "a row of another grain than {}",
                place.with_number(number)
            ))
            .at(place.clone())
            .so("export one level a file: campaigns, or ad groups, or ads")),
        }
    }

    /// What is remembered of a row's account.
    fn remembered(&self, account: &str) -> Option<&Remembered> {
        let remembered = self.remembered.as_ref();
        remembered.filter(|known| known.account == account)
    }

    fn currency(&self, draft: &Draft<'_>, account: &str) -> Result<Currency, Refusal> {
        let text = draft.currency.trim();
        let remembered = self.remembered(account);
        if text.is_empty() {
            let currency = self.currency.or(remembered.map(|known| known.currency));
            return Ok(currency.unwrap_or_else(|| {
                self.missing.borrow_mut().insert("--currency");
                Currency::UNKNOWN
            }));
        }
        let seen = self
            .seen_currency
            .borrow()
            .as_ref()
            .and_then(|(code, currency)| (code == text).then_some(*currency));
        let currency = match seen {
            Some(currency) => currency,
            None => {
                let currency = Currency::from_code(text).ok_or_else(|| {
                    Refusal::new("not a currency of ISO 4217")
                        .at(draft.place.clone())
                        .of("currency", text)
                        .so("currencies are written as EUR or USD")
                })?;
                *self.seen_currency.borrow_mut() = Some((text.to_owned(), currency));
                currency
            }
        };
        if let Some(known) = remembered {
            known
                .agrees(
                    &currency,
                    &known.currency,
                    "the currency",
                    Currency::to_string,
                )
                .map_err(|refusal| refusal.at(draft.place.clone()).of("currency", text))?;
        }
        match self.currency {
            Some(other) if other != currency => Err(Refusal::new(format!(
                "the row is in {currency}, and --currency or the header says {other}"
            ))
            .at(draft.place.clone())
            .of("currency", text)
            .so("leave out --currency, or name another file")),
            _ => Ok(currency),
        }
    }

    /// Makes a row of what the file has.
    ///
    /// # Errors
    /// What is wrong with the row.
    pub fn complete(&self, draft: Draft<'_>) -> Result<FileRow, Refusal> {
        let at = |refusal: Refusal| refusal.at(draft.place.clone());
        let of_row = own_id(self.platform, draft.account);
        let account = match &self.account {
            Some(flag) if of_row.is_empty() || of_row == *flag => flag.clone(),
            Some(flag) => {
                return Err(at(Refusal::new(format!(
                    "the row is of account {of_row}, and --account says {flag}"
                ))
                .so("leave out --account, or name another file")));
            }
            None if of_row.is_empty() => {
                self.missing.borrow_mut().insert("--account");
                "unknown".to_owned()
            }
            None => of_row,
        };
        if draft.campaign_name.contains('\0') || draft.slice.contains('\0') {
            return Err(at(Refusal::new("a NUL character in a name")
                .so("rename it in the platform, or ask again")));
        }
        if self.is_zone_remembered && self.remembered(&account).is_none() {
            return Err(at(Refusal::new(format!(
                "the row is of account {account}, and the time zone is remembered of another"
            ))
            .so("import one account at a time, or say --time-zone")));
        }
        let currency = self.currency(&draft, &account)?;
        let id = own_id(self.platform, draft.campaign_id);
        let name = draft.campaign_name.trim();
        let campaign_id = if !id.is_empty() {
            id_of(self.platform, &account, &id).ok_or_else(|| {
                at(Refusal::new(
                    "account and campaign are no id: up to 64 characters of A-Z a-z 0-9 _ . : - in all",
                )
                .of("campaign id", draft.campaign_id)
                .so("give --account and campaign ids as the platform has them"))
            })?
        } else if name.is_empty() {
            return Err(at(Refusal::new("neither id nor name of a campaign")
                .so("export with the column of the campaign's id")));
        } else {
            if !self.id_from_name {
                self.missing.borrow_mut().insert("--id-from-name");
            }
            id_from_name(self.platform, &account, name).ok_or_else(|| {
                at(
                    Refusal::new("an account's id of more than 40 characters, or odd ones")
                        .of("account", &account),
                )
            })?
        };
        if self.last_day.is_some_and(|last| draft.day > last) {
            let observed = self
                .observed_at
                .map(|at| at.to_rfc3339())
                .unwrap_or_default();
            return Err(at(Refusal::new(format!(
                "a day that had not begun when the platform was asked, {observed}"
            ))
            .of("day", &draft.day.to_string())
            .so("look at --observed-at, and at how days are written")));
        }
        for (name, count) in [
            ("impressions", draft.values.impressions),
            ("clicks", draft.values.clicks),
        ] {
            if count.is_some_and(|count| count.get() < 0) {
                let text = count.map(|c| c.to_string()).unwrap_or_default();
                return Err(at(Refusal::new("a count below zero").of(name, &text)));
            }
        }
        Ok(FileRow {
            platform: self.platform,
            account,
            campaign_id,
            campaign_name: name.to_owned(),
            day: draft.day,
            slice: draft.slice,
            currency,
            values: draft.values,
            place: draft.place,
        })
    }
}

/// Adds a slice to those that a row has: `ad_group=123,device=MOBILE`.
pub fn add_slice(slice: &mut String, name: &str, value: &str) {
    if !slice.is_empty() {
        slice.push(',');
    }
    slice.push_str(name);
    slice.push('=');
    for c in value.chars() {
        match c {
            '%' => slice.push_str("%25"),
            ',' => slice.push_str("%2C"),
            '=' => slice.push_str("%3D"),
            c => slice.push(c),
        }
    }
}

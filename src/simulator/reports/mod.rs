//! What platforms' exports look like, and what is in them: whole days that are restated from export to export, as files or as report
//! rows.
//!
//! Pure, as all of the simulator: the caller opens the files, or sends the rows. The same [`Settings`] give the same bytes.
//!
//! - `account`: who advertises, with which campaigns; renames, filters, pauses.
//! - `restatement`: how a day grows after it is over.
//! - `ledger`: what is in each file, and what is known when all are read.
//! - `sheet`: cells, separators, encodings and numbers.
//! - a file for each form: `google_ui`, `meta_ui`, `linkedin_ui`, `tiktok_ui`, `google_api`, `meta_api`, `tiktok_api`.
//!
//! Each export is of the same number of days, up to the evening on which it is made. A campaign-day of which there is
//! nothing to say has no row.

mod account;
mod google_api;
mod google_ui;
mod ledger;
mod linkedin_ui;
mod meta_api;
mod meta_ui;
mod restatement;
mod sheet;
mod tiktok_api;
mod tiktok_ui;

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use chrono::{DateTime, Datelike as _, Days, NaiveDate, NaiveTime, TimeDelta, TimeZone as _, Utc};

use crate::event::{CampaignId, Counts, Platform};
use crate::report_row::{Origin, ReportRow, Values};
use account::Account;
use ledger::Sums;

pub use ledger::Ledger;

/// What to write.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Everything follows from it.
    pub seed: u64,
    /// Each account's exports are written in all of these that are of its platform; none: as report rows, of every platform.
    pub forms: Vec<Form>,
    /// Accounts of each platform that a form is of.
    pub accounts: u32,
    /// Campaigns of each account.
    pub campaigns: u32,
    /// How many days each export is of, the day on which it is made included.
    pub days: u32,
    /// The first day of the first export.
    pub start: NaiveDate,
    /// How many exports are made of each account.
    pub exports: u32,
    /// How many days lie between two exports.
    pub every: u32,
}

/// The first day, if nobody says otherwise: a Thursday, and always the same, so that the same command writes the same.
pub const DEFAULT_START: NaiveDate = match NaiveDate::from_ymd_opt(2026, 1, 1) {
    Some(day) => day,
    None => NaiveDate::MAX,
};

macro_rules! forms {
    ($($(#[$doc:meta])* $form:ident $name:literal $platform:ident;)*) => {
        /// What a file looks like.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Form { $($(#[$doc])* $form,)* }

        impl Form {
            /// All there are.
            pub const ALL: &'static [Form] = &[$(Form::$form,)*];

            /// Its name on the command line and in the ledger.
            pub fn name(self) -> &'static str {
                match self { $(Form::$form => $name,)* }
            }

            /// Whose files they are.
            pub fn platform(self) -> Platform {
                match self { $(Form::$form => Platform::$platform,)* }
            }
        }
    };
}

forms! {
    /// Google Ads, downloaded as .csv.
    GoogleCsv "google-csv" Google;
    /// Google Ads, downloaded as "Excel .csv".
    GoogleExcel "google-excel" Google;
    /// Meta Ads Manager, by day.
    MetaCsv "meta-csv" Meta;
    /// LinkedIn Campaign Manager, daily.
    LinkedinCsv "linkedin-csv" LinkedIn;
    /// TikTok Ads Manager, by day.
    TiktokCsv "tiktok-csv" TikTok;
    /// What the Google Ads API's `searchStream` answers.
    GoogleApi "google-api" Google;
    /// What Meta's insights API answers.
    MetaApi "meta-api" Meta;
    /// What TikTok's integrated report answers.
    TiktokApi "tiktok-api" TikTok;
}

impl Form {
    /// How the name of such a file ends.
    fn extension(self) -> &'static str {
        match self {
            Form::GoogleApi | Form::MetaApi | Form::TiktokApi => "json",
            _ => "csv",
        }
    }

    /// One that writes to `out`.
    fn writer<'a>(self, about: About<'a>, out: &'a mut dyn Write) -> Box<dyn FileWriter + 'a> {
        match self {
            Form::GoogleCsv => Box::new(google_ui::File::csv(about, out)),
            Form::GoogleExcel => Box::new(google_ui::File::excel(about, out)),
            Form::MetaCsv => Box::new(meta_ui::File::new(about, out)),
            Form::LinkedinCsv => Box::new(linkedin_ui::File::new(about, out)),
            Form::TiktokCsv => Box::new(tiktok_ui::File::new(about, out)),
            Form::GoogleApi => Box::new(google_api::File::new(about, out)),
            Form::MetaApi => Box::new(meta_api::File::new(about, out)),
            Form::TiktokApi => Box::new(tiktok_api::File::new(about, out)),
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Form {
    type Err = String;

    fn from_str(text: &str) -> Result<Form, String> {
        let form = Form::ALL.iter().find(|form| form.name() == text);
        form.copied().ok_or_else(|| {
            let names: Vec<&str> = Form::ALL.iter().map(|form| form.name()).collect();
            format!("'{text}' is none of {}", names.join(", "))
        })
    }
}

/// When people make their exports, by the clock of the account's zone: the day itself is not over then.
const EVENING: TimeDelta = TimeDelta::hours(18);

/// One time at which an account is asked.
#[derive(Clone, Copy, Debug)]
struct Export {
    /// From 0.
    number: u32,
    /// The first day it is of, and how many there are.
    first: NaiveDate,
    days: u32,
}

impl Export {
    /// The last day it is of, on whose evening it is made.
    fn last(&self) -> NaiveDate {
        day_after(self.first, self.days.saturating_sub(1))
    }

    /// Which of its days this is, counted from 0; none if it is not of it.
    fn position(&self, day: NaiveDate) -> Option<u32> {
        let after = u32::try_from((day - self.first).num_days()).ok()?;
        (after < self.days).then_some(after)
    }

    /// When it is made.
    fn observed_at(&self, account: &Account) -> DateTime<Utc> {
        let evening = self.last().and_time(NaiveTime::MIN) + EVENING;
        let local = account.zone.from_local_datetime(&evening);
        // Clocks are changed at night, so there is one.
        local
            .earliest()
            .map_or(evening.and_utc(), |time| time.to_utc())
    }
}

/// What a file is of.
#[derive(Clone, Copy)]
struct About<'a> {
    account: &'a Account,
    export: Export,
}

/// A campaign's day as an export knows it.
#[derive(Clone, Debug)]
struct Row {
    campaign: u32,
    campaign_id: u64,
    campaign_name: String,
    day: NaiveDate,
    counts: Counts,
    /// Whether the account knows what a conversion brings.
    has_revenue: bool,
    /// Whether a platform that masks small numbers masks those of this day.
    is_masked: bool,
}

/// What a file does not say of a row although the platform knows it: a cell is empty or masked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct NotSaid {
    conversions: bool,
    revenue: bool,
}

/// Writes one file: `begin`, each row, `end`. `sums` are those of all rows.
trait FileWriter {
    fn begin(&mut self, sums: &Sums) -> io::Result<()>;
    fn row(&mut self, row: &Row) -> io::Result<NotSaid>;
    fn end(&mut self, sums: &Sums) -> io::Result<()>;
}

/// All accounts and their exports.
#[derive(Clone, Debug)]
pub struct World {
    settings: Settings,
    accounts: Vec<Account>,
}

/// One file of an account, to be written.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    world: &'a World,
    account: &'a Account,
    export: Export,
    form: Form,
}

/// One export of an account, as report rows.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    world: &'a World,
    account: &'a Account,
    export: Export,
}

/// What report rows are called where forms of files are named.
pub const RECORDS: &str = "records";

/// What was written, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// [`Form::name`], or [`RECORDS`].
    pub form: &'static str,
    /// The platform's own id of the account.
    pub account: String,
    /// ISO 4217.
    pub currency: &'static str,
    pub time_zone: &'static str,
    pub rows: u64,
}

impl Written {
    fn of(account: &Account, form: &'static str, sums: &Sums) -> Written {
        Written {
            form,
            account: account.id.to_string(),
            currency: account.currency.code,
            time_zone: account.zone.name(),
            rows: sums.rows,
        }
    }

    /// Whether both are of the same account and in the same form.
    pub fn is_same_series(&self, other: &Written) -> bool {
        self.form == other.form && self.account == other.account
    }
}

impl World {
    /// The world of these settings.
    pub fn new(settings: Settings) -> World {
        let mut forms = settings.forms.clone();
        forms.sort_unstable();
        forms.dedup();
        let has = |platform: &Platform| {
            forms.is_empty() || forms.iter().any(|form| form.platform() == *platform)
        };
        let accounts = Platform::ALL
            .into_iter()
            .filter(has)
            .flat_map(|platform| (0..settings.accounts).map(move |number| (platform, number)))
            .map(|of| Account::new(settings.seed, of, settings.campaigns, settings.every))
            .collect();
        World {
            settings: Settings { forms, ..settings },
            accounts,
        }
    }

    /// The day on which the last export is made.
    pub fn last_day(settings: &Settings) -> Option<NaiveDate> {
        let until_first = u64::from(settings.days.saturating_sub(1));
        let until_last = u64::from(settings.every) * u64::from(settings.exports.saturating_sub(1));
        let last = settings
            .start
            .checked_add_days(Days::new(until_first + until_last))?;
        // Years have four digits in files.
        (last.year() <= 9_999).then_some(last)
    }

    /// The files, account by account, each in the order in which it was exported.
    pub fn reports(&self) -> impl Iterator<Item = Report<'_>> {
        self.accounts.iter().flat_map(move |account| {
            let forms = self.settings.forms.iter().copied();
            forms
                .filter(|form| form.platform() == account.platform)
                .flat_map(move |form| {
                    self.exports().map(move |export| Report {
                        world: self,
                        account,
                        export,
                        form,
                    })
                })
        })
    }

    /// What platforms answer, in the order in which they are asked.
    pub fn answers(&self) -> impl Iterator<Item = Answer<'_>> {
        self.exports().flat_map(move |export| {
            self.accounts.iter().map(move |account| Answer {
                world: self,
                account,
                export,
            })
        })
    }

    /// How many rows all answers have.
    pub fn rows(&self) -> u64 {
        let rows = |answer: Answer<'_>| self.rows_of(answer.account, &answer.export).count() as u64;
        self.answers().map(rows).sum()
    }

    fn exports(&self) -> impl DoubleEndedIterator<Item = Export> {
        let Settings {
            start,
            days,
            exports,
            every,
            ..
        } = self.settings;
        (0..exports).map(move |number| Export {
            number,
            first: day_after(start, every.saturating_mul(number)),
            days,
        })
    }

    /// A campaign's day in an export; none if it has no row there.
    fn row(
        &self,
        account: &Account,
        export: &Export,
        campaign: u32,
        day: NaiveDate,
    ) -> Option<Row> {
        let position = export.position(day)?;
        if account.is_left_out(campaign, export.number, position, export.days) {
            return None;
        }
        let since_1970 = (day - DateTime::UNIX_EPOCH.date_naive()).num_days();
        let settled = account.settled(campaign, since_1970);
        let age = export.days.saturating_sub(1).saturating_sub(position);
        let counts = restatement::known(&settled, age);
        if counts == Counts::default() {
            return None;
        }
        Some(Row {
            campaign,
            campaign_id: account.campaign_id(campaign),
            campaign_name: account.campaign_name(campaign, export.number),
            day,
            counts,
            has_revenue: account.reports_revenue,
            is_masked: account.is_masked(&settled),
        })
    }

    /// The rows of an export, day by day.
    fn rows_of<'a>(
        &'a self,
        account: &'a Account,
        export: &'a Export,
    ) -> impl Iterator<Item = Row> + 'a {
        (0..export.days)
            .map(|n| day_after(export.first, n))
            .flat_map(move |day| {
                (0..account.campaigns())
                    .filter_map(move |campaign| self.row(account, export, campaign, day))
            })
    }

    /// What is known of an account when all its exports are read: of each campaign-day, the newest row. What a later
    /// export leaves out is still so.
    fn known(&self, account: &Account) -> Sums {
        let exports: Vec<Export> = self.exports().rev().collect();
        let mut sums = Sums::default();
        let last = Self::last_day(&self.settings).unwrap_or(NaiveDate::MAX);
        let days = self
            .settings
            .start
            .iter_days()
            .take_while(|&day| day <= last);
        for day in days {
            for campaign in 0..account.campaigns() {
                let mut rows = exports
                    .iter()
                    .filter_map(|export| self.row(account, export, campaign, day));
                if let Some(newest) = rows.next() {
                    sums.add(&newest);
                }
            }
        }
        sums
    }

    /// Begins the ledger.
    ///
    /// # Errors
    /// When `out` cannot be written to.
    pub fn ledger<W: Write>(&self, out: W) -> io::Result<Ledger<W>> {
        Ledger::begin(out, &self.settings)
    }

    /// Writes what is known when all files are read, and with that the end of the ledger.
    ///
    /// # Errors
    /// When it cannot be written to.
    pub fn finish<W: Write>(&self, ledger: Ledger<W>) -> io::Result<()> {
        let known = self
            .accounts
            .iter()
            .map(|a| (a.currency.code, self.known(a)));
        ledger.finish(known)
    }
}

impl Report<'_> {
    /// What to call the file: no two have the same name.
    pub fn file_name(&self) -> String {
        let (form, account) = (self.form, self.account.id);
        let (day, extension) = (self.export.last(), form.extension());
        format!("{form}-{account}-{day}.{extension}")
    }

    /// Writes the file to `out`, and what is in it to the ledger.
    ///
    /// # Errors
    /// When one of them cannot be written to.
    pub fn write<W: Write>(
        &self,
        out: &mut dyn Write,
        ledger: &mut Ledger<W>,
    ) -> io::Result<Written> {
        let (account, export) = (self.account, &self.export);
        // Once more, because a row of totals may be the first; a million rows are not kept.
        let mut sums = Sums::default();
        for row in self.world.rows_of(account, export) {
            sums.add(&row);
        }
        let about = About {
            account,
            export: self.export,
        };
        ledger.begin_file(&self.file_name(), self.form.name(), about)?;
        {
            let mut file = self.form.writer(about, &mut *out);
            file.begin(&sums)?;
            for row in self.world.rows_of(account, export) {
                let not_said = file.row(&row)?;
                ledger.row(&row, not_said)?;
            }
            file.end(&sums)?;
        }
        ledger.end_file(&sums)?;
        out.flush()?;
        Ok(Written::of(account, self.form.name(), &sums))
    }
}

impl Answer<'_> {
    /// Gives each row to `send`, and tells the ledger what they are.
    ///
    /// # Errors
    /// When the ledger cannot be written to, or `send` fails.
    pub fn tell<W: Write>(
        &self,
        ledger: &mut Ledger<W>,
        send: &mut dyn FnMut(&ReportRow<'_>) -> io::Result<()>,
    ) -> io::Result<Written> {
        let (account, export) = (self.account, self.export);
        let about = About { account, export };
        let name = format!("{RECORDS}-{}-{}", account.id, export.last());
        ledger.begin_file(&name, RECORDS, about)?;
        let id = account.id.to_string();
        let definition = account.definition(&id).ok_or(io::ErrorKind::InvalidData)?;
        let mut sums = Sums::default();
        for row in self.world.rows_of(account, &export) {
            let platform = account.platform.name().to_ascii_lowercase();
            let campaign_id = format!("{platform}:{id}:{}", row.campaign_id);
            let [impressions, clicks, conversions, cost, revenue] = row.counts.numbers().map(Some);
            let revenue = revenue.filter(|_| row.has_revenue);
            send(&ReportRow {
                campaign_id: CampaignId::parse(&campaign_id)
                    .map_err(|_| io::ErrorKind::InvalidData)?,
                campaign_name: &row.campaign_name,
                definition,
                day: row.day,
                slice: "",
                observed_at: export.observed_at(account).into(),
                values: Values::of([impressions, clicks, conversions, cost, revenue]),
                origin: Origin::default(),
            })?;
            sums.add(&row);
            ledger.row(&row, NotSaid::default())?;
        }
        ledger.end_file(&sums)?;
        Ok(Written::of(account, RECORDS, &sums))
    }
}

/// The day so many after another one.
fn day_after(day: NaiveDate, days: u32) -> NaiveDate {
    let after = day.checked_add_days(Days::new(days.into()));
    after.unwrap_or(NaiveDate::MAX)
}

#[cfg(test)]
mod tests;

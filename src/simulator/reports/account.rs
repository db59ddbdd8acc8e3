//! Who advertises: accounts with their currency and zone, and their campaigns' names and ids. All of them are invented.

use chrono_tz::Tz;

use super::restatement::Settled;
use crate::currency;
use crate::event::{MILLION, Platform};
use crate::report_row::Definition;
use crate::reports::header::usual;
use crate::simulator::campaign::Campaign;
use crate::simulator::chance::{Chance, mix, sixteen};
use crate::time::{Length, Timestamp};

/// What is derived from the seeds, each by a number of its own.
const ACCOUNTS: u64 = 1_000;
const ACCOUNT_ID: u64 = 1;
const CAMPAIGN_ID: u64 = 2;
const CAMPAIGNS: u64 = 3;
const RENAMED: u64 = 1 << 32;
const FILTERED: u64 = 2 << 32;
const FILTERED_DAYS: u64 = 3 << 32;
const DAY: u64 = 4;
const MASKED: u64 = 5;

/// Of so many campaigns, one is renamed before an export, though at most about once a week, and one is filtered out of it for some
/// days.
const ONE_IN: u32 = 16;

/// The days of a campaign, in a hundred, on which it is paused: nothing is shown, and half of them still have a conversion.
const PAUSED_PERCENT: u64 = 4;
/// Days whose conversions are credited in part, in a hundred: they are fractions then. 199 of 482 rows were; of these some
/// come out whole.
const SHARED_PERCENT: u64 = 44;
/// Days whose conversions are masked where they are few, in a hundred.
const MASKED_PERCENT: u64 = 5;

/// A currency, and how platforms write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Currency {
    /// ISO 4217.
    pub(super) code: &'static str,
    /// What a unit of the economics' currency is here.
    rate: i64,
    /// The smallest amount, in micros.
    pub(super) step: i64,
    /// Decimals in Google's files.
    pub(super) decimals: usize,
}

impl Currency {
    const fn new(code: &'static str, rate: i64, step: i64, decimals: usize) -> Currency {
        Currency {
            code,
            rate,
            step,
            decimals,
        }
    }

    /// Decimals where a platform writes none that say nothing.
    pub(super) fn needed_decimals(self) -> usize {
        if self.step < MILLION { 2 } else { 0 }
    }

    /// An amount of the economics in this currency, in micros.
    fn of(self, micros: i64) -> i64 {
        micros * self.rate / self.step * self.step
    }
}

/// Where an account is: in turn, so that few have all kinds. Rupiah make large numbers, yen have no decimals, and one
/// is read in German.
const PLACES: [Place; 5] = [
    Place::new(
        "Inc.",
        Currency::new("USD", 1, 10_000, 2),
        Tz::America__New_York,
    ),
    Place {
        german: true,
        ..Place::new(
            "GmbH",
            Currency::new("EUR", 1, 10_000, 2),
            Tz::Europe__Berlin,
        )
    },
    Place::new(
        "PT",
        Currency::new("IDR", 16_000, 1_000_000, 2),
        Tz::Asia__Jakarta,
    ),
    Place {
        reports_revenue: false,
        ..Place::new(
            "KK",
            Currency::new("JPY", 160, 1_000_000, 0),
            Tz::Asia__Tokyo,
        )
    },
    Place::new(
        "Ltd",
        Currency::new("GBP", 1, 10_000, 2),
        Tz::Europe__London,
    ),
];

#[derive(Clone, Copy, Debug)]
struct Place {
    company: &'static str,
    currency: Currency,
    zone: Tz,
    german: bool,
    reports_revenue: bool,
}

impl Place {
    const fn new(company: &'static str, currency: Currency, zone: Tz) -> Place {
        Place {
            company,
            currency,
            zone,
            german: false,
            reports_revenue: true,
        }
    }
}

/// What campaigns sell, and what they are for: with commas, quotes, letters beyond ASCII, and one that begins like a
/// row of totals.
const THINGS: [&str; 8] = [
    "Paper Aeroplanes",
    "Totally Normal Hats",
    "Square Wheels, spoked",
    "Invisible Ink",
    "Left-Handed Teapots",
    "Pocket Volcanoes",
    "Mondhonig für Bären",
    "“Quiet” Drums; loud",
];
const AIMS: [&str; 7] = [
    "Brand",
    "Prospecting",
    "Retargeting \"warm\"",
    "Été",
    "春のセール",
    "Everyone 18+",
    "Summer | Winter",
];

/// An advertiser's account.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) platform: Platform,
    /// The platform's own.
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) currency: Currency,
    pub(super) zone: Tz,
    /// Its people read German.
    pub(super) german: bool,
    pub(super) reports_revenue: bool,
    campaigns: u32,
    /// How many exports are made in a week, one at least.
    exports_a_week: u32,
    seed: u64,
}

impl Account {
    /// The account of this number on a platform, of which an export is made `every` so many days.
    pub(super) fn new(
        seed: u64,
        (platform, number): (Platform, u32),
        campaigns: u32,
        every: u32,
    ) -> Account {
        let place = PLACES[number as usize % PLACES.len()];
        let stream = (u64::from(platform.index()) << 32) | u64::from(number);
        let seed = mix(mix(seed, ACCOUNTS), stream);
        let (least, spread) = match platform {
            Platform::Google => (1_000_000_000, 8_000_000_000),
            Platform::Meta => (1_000_000_000_000_000, 8_000_000_000_000_000),
            Platform::LinkedIn => (500_000_000, 100_000_000),
            Platform::TikTok => (7_000_000_000_000_000_000, 400_000_000_000_000_000),
        };
        Account {
            platform,
            id: least + mix(seed, ACCOUNT_ID) % spread,
            name: format!("Invented Wares {} {}", number + 1, place.company),
            currency: place.currency,
            // LinkedIn reports in no other.
            zone: if platform == Platform::LinkedIn {
                Tz::UTC
            } else {
                place.zone
            },
            german: place.german,
            reports_revenue: place.reports_revenue,
            campaigns: campaigns.max(1),
            exports_a_week: 7_u32.checked_div(every).unwrap_or(7).max(1),
            seed,
        }
    }

    /// What its numbers mean; none if nobody knows its currency.
    pub(super) fn definition<'a>(&self, id: &'a str) -> Option<Definition<'a>> {
        // As its files say it, so that both are of one account.
        let [conversions, revenue] = usual(self.platform);
        Some(Definition {
            platform: self.platform,
            account: id,
            time_zone: self.zone,
            currency: currency::Currency::from_code(self.currency.code)?,
            conversions,
            revenue,
        })
    }

    /// How many campaigns there are, numbered from 0.
    pub(super) fn campaigns(&self) -> u32 {
        self.campaigns
    }

    /// The platform's own id of a campaign. Neighbours differ in the last digits alone, which a float would lose.
    pub(super) fn campaign_id(&self, campaign: u32) -> u64 {
        let (least, spread) = match self.platform {
            Platform::Google => (20_000_000_000, 2_000_000_000),
            Platform::Meta => (120_200_000_000_000_000, 90_000_000_000_000),
            Platform::LinkedIn => (300_000_000, 90_000_000),
            Platform::TikTok => (1_700_000_000_000_000_000, 90_000_000_000_000_000),
        };
        least + mix(self.seed, CAMPAIGN_ID) % spread + 17 * u64::from(campaign)
    }

    /// Its name at the time of an export, on all its days. Of each [`ONE_IN`], one shares it with its neighbour until one of
    /// them is renamed.
    pub(super) fn campaign_name(&self, campaign: u32, export: u32) -> String {
        let named = if campaign % ONE_IN == 5 {
            campaign - 1
        } else {
            campaign
        };
        let thing = THINGS[named as usize % THINGS.len()];
        let aim = AIMS[named as usize % AIMS.len()];
        match self.renames(campaign, export) {
            0 => format!("{thing} | {aim} {named}"),
            times => format!("{thing} | {aim} {named} (renamed {times})"),
        }
    }

    /// How often a campaign has been renamed by the time of an export.
    fn renames(&self, campaign: u32, export: u32) -> usize {
        (1..=export)
            .filter(|e| e.is_multiple_of(self.exports_a_week))
            .filter(|&e| self.is_chosen(campaign, RENAMED, e))
            .count()
    }

    /// Whether an export was made with a filter that leaves out this day of this campaign, which is `day` days after the first
    /// of the `days` it is of. The first export is whole.
    pub(super) fn is_left_out(&self, campaign: u32, export: u32, day: u32, days: u32) -> bool {
        if export == 0 || !self.is_chosen(campaign, FILTERED, export) {
            return false;
        }
        let bits = mix(self.seed, FILTERED_DAYS + u64::from(export));
        let first = (bits >> 32) as u32 % days.max(1);
        let length = 3 + (bits as u32) % 12;
        (first..first + length).contains(&day)
    }

    /// Whether the campaign is the one of each [`ONE_IN`] to which something happens before an export. There is always one.
    fn is_chosen(&self, campaign: u32, what: u64, export: u32) -> bool {
        let among = ONE_IN.min(self.campaigns);
        let chosen = mix(self.seed, what + u64::from(export)) % u64::from(among);
        u64::from(campaign % ONE_IN) == chosen
    }

    /// Whether a platform that masks small numbers does so on this day.
    pub(super) fn is_masked(&self, day: &Settled) -> bool {
        mix(day.seed, MASKED) % 100 < MASKED_PERCENT
    }

    /// A campaign's day, so many days after 1970-01-01, when nothing about it changes any more.
    pub(super) fn settled(&self, campaign: u32, day: i64) -> Settled {
        let economics = mix(self.seed, CAMPAIGNS);
        let of_campaign = mix(economics, (DAY << 32) | u64::from(campaign));
        let seed = mix(of_campaign, day.unsigned_abs());
        let mut chance = Chance::from_seed(seed);
        let midnight = Timestamp::EPOCH + Length::DAY.times(day);
        let mut d = Campaign::new(economics, campaign).day(self.platform, midnight, &mut chance);
        let bits = chance.bits();
        let percent = |n| (u64::from(sixteen(bits, n)) * 100) >> 16;
        if percent(0) < PAUSED_PERCENT {
            (d.impressions, d.clicks) = (0, 0);
            d.conversions = i64::from(bits as u8 & 1);
        }
        // Only Google spreads a conversion over the clicks that led to it.
        let is_shared = self.platform == Platform::Google && percent(1) < SHARED_PERCENT;
        let credit = if is_shared {
            50 + i64::from(sixteen(bits, 2)) * 101 / 65_536
        } else {
            100
        };
        let currency = self.currency;
        Settled {
            seed,
            impressions: d.impressions,
            clicks: d.clicks,
            cost: currency.of(d.clicks * d.cpc_micros),
            step: currency.step,
            conversions: d.conversions,
            credit,
            value: currency.of(d.aov_micros * credit / 100),
        }
    }
}

//! The economics of one campaign.
//!
//! Each platform is a [`Market`]; a campaign has its place, the same for all its reports, within
//! each of the market's ranges:
//!
//! | platform | CTR, % | CPC | conversion rate, % | order value | in a word |
//! |---|---|---|---|---|---|
//! | Meta | 0.8 – 2.0 | 0.40 – 1.60 | 1.5 – 5.0 | 25 – 90 | broad reach, impulse purchases |
//! | Google | 2.5 – 7.0 | 0.80 – 3.20 | 2.5 – 8.0 | 35 – 110 | people who search already want it |
//! | LinkedIn | 0.35 – 0.80 | 4.00 – 12.00 | 1.5 – 4.5 | 200 – 800 | dear clicks, contracts behind them |
//! | TikTok | 0.6 – 1.6 | 0.25 – 0.90 | 0.8 – 2.4 | 30 – 90 | cheap clicks that seldom buy |
//!
//! CPC and order value are in the account's currency unit. The numbers are ours: of the order of
//! magnitude that advertisers publish, and chosen so that most campaigns return one to six times
//! their spend (conversion rate × order value ÷ CPC) while about a fifth lose money.
//!
//! A campaign has a home platform, which sends 13 of 16 of its reports; the others send one each.
//! Sizes have a heavy tail: each time the typical number of impressions doubles (150 to 450 at
//! first, four times at most), half as many campaigns are left.

use super::chance::{Chance, mix, sixteen};
use crate::event::{Counts, MILLION, Platform};
use crate::time::{Length, Timestamp};

/// From `low` up to, but not including, `high`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    /// The smallest value.
    low: i64,
    /// One above the largest.
    high: i64,
}

impl Range {
    const fn new(low: i64, high: i64) -> Range {
        Range { low, high }
    }

    /// The value `place` / 65,536 of the way up.
    #[inline]
    fn at(self, place: u16) -> i64 {
        self.low + (((self.high - self.low) * i64::from(place)) >> 16)
    }
}

/// What advertising on a platform is like: the ranges its campaigns' averages lie in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Market {
    /// Clicks per million impressions.
    ctr_ppm: Range,
    /// Cost of a click, in micros.
    cpc_micros: Range,
    /// Conversions per million clicks.
    cvr_ppm: Range,
    /// Revenue of a conversion, in micros.
    aov_micros: Range,
}

/// By [`Platform::index`]; see the table above.
const MARKETS: [Market; Platform::ALL.len()] = [
    Market {
        ctr_ppm: Range::new(8_000, 20_000),
        cpc_micros: Range::new(400_000, 1_600_000),
        cvr_ppm: Range::new(15_000, 50_000),
        aov_micros: Range::new(25_000_000, 90_000_000),
    },
    Market {
        ctr_ppm: Range::new(25_000, 70_000),
        cpc_micros: Range::new(800_000, 3_200_000),
        cvr_ppm: Range::new(25_000, 80_000),
        aov_micros: Range::new(35_000_000, 110_000_000),
    },
    Market {
        ctr_ppm: Range::new(3_500, 8_000),
        cpc_micros: Range::new(4_000_000, 12_000_000),
        cvr_ppm: Range::new(15_000, 45_000),
        aov_micros: Range::new(200_000_000, 800_000_000),
    },
    Market {
        ctr_ppm: Range::new(6_000, 16_000),
        cpc_micros: Range::new(250_000, 900_000),
        cvr_ppm: Range::new(8_000, 24_000),
        aov_micros: Range::new(30_000_000, 90_000_000),
    },
];

impl Market {
    /// The market of `platform`.
    #[inline]
    fn of(platform: Platform) -> &'static Market {
        &MARKETS[usize::from(platform.index())]
    }
}

/// How the campaigns' homes are spread: 6 of 16 on Meta, 5 Google, 2 LinkedIn, 3 TikTok.
const HOMES: [Platform; 16] = {
    use Platform::{Google, LinkedIn, Meta, TikTok};
    [
        Meta, Meta, Meta, Meta, Meta, Meta, Google, Google, Google, Google, Google, LinkedIn,
        LinkedIn, TikTok, TikTok, TikTok,
    ]
};

/// Impressions of a typical report of the smallest campaigns.
const SMALLEST: Range = Range::new(150, 450);
/// The largest are two to this power times as big.
const MOST_DOUBLINGS: u32 = 4;

/// Impressions at each full hour of the UTC day, as a percentage of the daily average: asleep
/// before dawn, busiest at 20:00.
const HOURS: [i64; 24] = [
    70, 52, 40, 34, 34, 42, 56, 72, 88, 104, 110, 114, 114, 116, 116, 120, 118, 128, 144, 160, 168,
    160, 134, 106,
];
/// Impressions on each weekday from Monday on, as a percentage of the weekly average.
const WEEKDAYS: [i64; 7] = [100, 102, 102, 102, 100, 96, 98];
/// Monday is 0; the Unix epoch was a Thursday.
const EPOCH_WEEKDAY: i64 = 3;

/// Reports in a whole day, where a day is counted at once.
const REPORTS_A_DAY: i64 = 24;

/// What was shown, and what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delivery {
    pub(super) impressions: i64,
    pub(super) clicks: i64,
    /// Whole ones.
    pub(super) conversions: i64,
    /// Cost of a click, in micros.
    pub(super) cpc_micros: i64,
    /// Revenue of a conversion, in micros.
    pub(super) aov_micros: i64,
}

/// One campaign: its size and its place within each market.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Campaign {
    home: Platform,
    /// Impressions of a typical report.
    size: i64,
    ctr: u16,
    cpc: u16,
    cvr: u16,
    aov: u16,
}

impl Campaign {
    /// The campaign with this index among those of `seed`. Computed and not kept: two hashes are
    /// cheaper than a table of millions, most of it outside the processor's caches.
    #[inline]
    pub(super) fn new(seed: u64, index: u32) -> Campaign {
        let places = mix(seed, 2 * u64::from(index));
        let kind = mix(seed, 2 * u64::from(index) + 1);
        // The number of trailing zeros is k for one in 2^(k + 1) numbers.
        let doublings = kind.trailing_zeros().min(MOST_DOUBLINGS);
        Campaign {
            home: HOMES[usize::from(sixteen(kind, 3) >> 12)],
            size: SMALLEST.at(sixteen(kind, 1)) << doublings,
            ctr: sixteen(places, 0),
            cpc: sixteen(places, 1),
            cvr: sixteen(places, 2),
            aov: sixteen(places, 3),
        }
    }

    /// What one of the campaign's reports says at `event_time`, and which platform sends it.
    #[inline]
    pub(super) fn report(&self, event_time: Timestamp, chance: &mut Chance) -> (Platform, Counts) {
        let bits = chance.bits();
        let platform = self.sender(sixteen(bits, 0));
        let usual = self.size * rhythm(event_time) / PAR;
        let d = self.delivery(platform, usual, bits, chance);
        let counts = Counts::of([
            d.impressions,
            d.clicks,
            d.conversions * MILLION,
            d.clicks * d.cpc_micros,
            d.conversions * d.aov_micros,
        ]);
        (platform, counts)
    }

    /// What a whole day of the campaign on one platform comes to: as much as [`REPORTS_A_DAY`] reports.
    pub(super) fn day(
        &self,
        platform: Platform,
        midnight: Timestamp,
        chance: &mut Chance,
    ) -> Delivery {
        let usual = self.size * REPORTS_A_DAY * weekday_level(midnight) / 100;
        let bits = chance.bits();
        self.delivery(platform, usual, bits, chance)
    }

    #[inline]
    fn delivery(&self, platform: Platform, usual: i64, bits: u64, chance: &mut Chance) -> Delivery {
        let market = Market::of(platform);
        // Half to one and a half times the usual; then ± 20 % on a click, ± 30 % on an order.
        let impressions = vary(usual, 50, sixteen(bits, 1));
        let clicks = chance.successes(impressions, market.ctr_ppm.at(self.ctr));
        Delivery {
            impressions,
            clicks,
            conversions: chance.successes(clicks, market.cvr_ppm.at(self.cvr)),
            cpc_micros: vary(market.cpc_micros.at(self.cpc), 20, sixteen(bits, 2)),
            aov_micros: vary(market.aov_micros.at(self.aov), 30, sixteen(bits, 3)),
        }
    }

    #[inline]
    fn sender(&self, bits: u16) -> Platform {
        // 13, 14 and 15 of 16 are the three platforms after the home.
        let away = (bits & 15).saturating_sub(12);
        Platform::ALL[(usize::from(self.home.index()) + usize::from(away)) % Platform::ALL.len()]
    }
}

/// `value`, more or less by up to `percent`, evenly.
#[inline]
fn vary(value: i64, percent: i64, bits: u16) -> i64 {
    let swing = (2 * i64::from(bits) + 1 - 65_536) * percent;
    value + value * swing / (65_536 * 100)
}

/// What [`rhythm`] is on average.
const PAR: i64 = 60 * 100 * 100;

/// How busy people are at `event_time`: the hour's level, gliding to the next hour's minute by
/// minute, times the weekday's.
#[inline]
fn rhythm(event_time: Timestamp) -> i64 {
    let midnight = event_time.floor(Length::DAY);
    let in_day = event_time - midnight;
    let hour = (in_day / Length::HOUR) as usize;
    let minute = in_day / Length::MINUTE % 60;
    (HOURS[hour] * (60 - minute) + HOURS[(hour + 1) % 24] * minute) * weekday_level(midnight)
}

/// The weekday's level, as a percentage.
#[inline]
fn weekday_level(midnight: Timestamp) -> i64 {
    let day = (midnight - Timestamp::EPOCH) / Length::DAY;
    WEEKDAYS[(day + EPOCH_WEEKDAY).rem_euclid(7) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::totals::Totals;

    const SEED: u64 = 11;

    /// Sums of `reports` reports of `campaign`, a minute apart from an arbitrary Monday on.
    fn totals(campaign: &Campaign, reports: i64, chance: &mut Chance) -> [Totals; 4] {
        let mut sums = [Totals::default(); 4];
        for i in 0..reports {
            let (platform, counts) = campaign.report(MONDAY + Length::MINUTE.times(i), chance);
            let sum = &mut sums[usize::from(platform.index())];
            *sum = sum.checked_add(Totals::of(counts)).expect("small");
        }
        sums
    }

    /// 2024-01-01T00:00:00Z.
    const MONDAY: Timestamp = Timestamp::new(1_704_067_200_000_000);

    #[test]
    fn the_day_and_the_week_average_to_par() {
        let week = 7 * 24 * 60;
        let sum: i64 = (0..week)
            .map(|m| rhythm(MONDAY + Length::MINUTE.times(m)))
            .sum();
        assert_eq!(sum, week * PAR);
    }

    #[test]
    fn evenings_are_busiest_and_nights_are_quiet() {
        let at = |hour| rhythm(MONDAY + Length::HOUR.times(hour));
        assert!((0..24).all(|hour| at(hour) <= at(20)));
        assert!(at(20) > 4 * at(4));
        assert_eq!(
            rhythm(MONDAY) * 96,
            rhythm(MONDAY + Length::DAY.times(5)) * 100
        );
        // No jump from hour to hour or at midnight, and no time is out of range.
        for minute in 0..24 * 60 {
            let t = MONDAY + Length::MINUTE.times(minute);
            let step = rhythm(t + Length::MINUTE) - rhythm(t);
            assert!(step.abs() < PAR / 100, "minute {minute}");
        }
        assert!(rhythm(Timestamp::MIN) > 0 && rhythm(Timestamp::MAX) > 0);
    }

    #[test]
    fn each_platform_is_its_market() {
        let mut chance = Chance::from_seed(SEED);
        let mut sums = [Totals::default(); 4];
        for index in 0..2_000 {
            let of_one = totals(&Campaign::new(SEED, index), 200, &mut chance);
            for (sum, one) in sums.iter_mut().zip(of_one) {
                *sum = sum.checked_add(one).expect("small");
            }
        }
        for (platform, sum) in Platform::ALL.into_iter().zip(sums) {
            let market = Market::of(platform);
            for (what, found, range) in [
                ("CTR", sum.ctr().map(|r| r * 1e6), market.ctr_ppm),
                ("CPC", sum.cpc().map(|r| r * 1e6), market.cpc_micros),
                ("CVR", sum.cvr().map(|r| r * 1e6), market.cvr_ppm),
                ("AOV", sum.aov().map(|r| r * 1e6), market.aov_micros),
            ] {
                let found = found.expect("there were some");
                let middle = (range.low + range.high) as f64 / 2.0;
                assert!(
                    (found / middle - 1.0).abs() < 0.1,
                    "{platform} {what}: {found}, not around {middle}"
                );
            }
        }
    }

    #[test]
    fn most_campaigns_earn_and_about_a_fifth_lose() {
        let mut chance = Chance::from_seed(SEED);
        let campaigns = 1_000;
        let (mut losing, mut earning) = (0, 0);
        for index in 0..campaigns {
            let sum = totals(&Campaign::new(SEED, index), 2_000, &mut chance)
                .into_iter()
                .try_fold(Totals::default(), Totals::checked_add)
                .expect("small");
            let roas = sum.roas().expect("there was cost");
            losing += u32::from(roas < 1.0);
            earning += u32::from((1.0..6.0).contains(&roas));
        }
        let share = |n| f64::from(n) / f64::from(campaigns);
        assert!((0.15..0.25).contains(&share(losing)), "{losing} lose");
        assert!(share(earning) > 0.7, "{earning} earn");
    }

    #[test]
    fn most_reports_come_from_home() {
        let mut chance = Chance::from_seed(SEED);
        for index in 0..50 {
            let campaign = Campaign::new(SEED, index);
            for (platform, sum) in
                Platform::ALL
                    .into_iter()
                    .zip(totals(&campaign, 4_000, &mut chance))
            {
                let expected = if platform == campaign.home {
                    3_250
                } else {
                    250
                };
                assert!(
                    (sum.events.get() - expected).abs() < 150,
                    "{platform}: {sum:?}"
                );
            }
        }
    }

    #[test]
    fn a_few_campaigns_are_much_bigger() {
        let mut sizes: Vec<i64> = (0..10_000).map(|i| Campaign::new(SEED, i).size).collect();
        sizes.sort_unstable();
        assert!(*sizes.first().expect("some") >= 150);
        assert!(*sizes.last().expect("some") < 450 << 4);
        let (all, top): (i64, i64) = (sizes.iter().sum(), sizes[9_000..].iter().sum());
        assert!(top * 3 > all, "the biggest tenth: {top} of {all}");
    }

    #[test]
    fn neighbours_and_seeds_differ() {
        let one = Campaign::new(SEED, 1);
        assert_eq!(one, Campaign::new(SEED, 1));
        assert_ne!(one, Campaign::new(SEED, 2));
        assert_ne!(one, Campaign::new(SEED + 1, 1));
        Campaign::new(u64::MAX, u32::MAX);
    }
}

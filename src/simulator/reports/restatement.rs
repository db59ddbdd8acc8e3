//! How a day grows after it is over.
//!
//! A platform answers for a day with what it knows by now. What it knows of a day at an age is a pure function of that
//! day's seed, so all exports agree on what a day was when.
//!
//! | what | how it moves | why |
//! |---|---|---|
//! | impressions | [`BY_EVENING`] of them on the day itself, then all | exports are made at 18:00, and two fifths of a day come later |
//! | conversions | [`GROWTH`]: they grow × 3.7 from the day itself, × 2.1 from the day after, × 1.4 from two days, × 1.2 from ten, × 1.17 from nineteen, and stop at [`SETTLED`] days | people buy days after they clicked; the factors are those of an account's 22 snapshots of 302 days |
//! | conversions of one day in [`MOVED_ONE_IN`] | up or down by as much as [`EARLY_SWING`], later [`LATE_SWING`] | credit is moved to and from other days; changes go down as well as up |
//! | clicks and cost of one day in [`CORRECTED_ONE_IN`] | at first up to 1.5 % too high or 0.5 % too low, and right after [`CORRECTED_BY`] days | invalid clicks are found and paid back: cost moves too, by less |
//! | revenue | with the conversions | each has its value |

use crate::event::Counts;
use crate::simulator::chance::{mix, sixteen};

/// A million: shares here are in millionths.
const WHOLE: i64 = 1_000_000;

/// How much of a day's impressions, clicks and cost there is at 18:00, in thousandths: the share that the hours of
/// [`campaign`](crate::simulator) have before then.
pub(super) const BY_EVENING: i64 = 637;

/// The age from which on nothing changes any more, in days: the oldest day that was seen to change was of this age.
pub(super) const SETTLED: u32 = 73;

/// Age in days, and how many of a day's conversions are known then, in millionths; between two, a straight line.
pub(super) const GROWTH: [(u32, i64); 6] = [
    (0, 270_270),
    (1, 476_190),
    (2, 714_286),
    (10, 833_333),
    (19, 854_701),
    (SETTLED, WHOLE),
];

/// One day in so many has credit moved.
pub(super) const MOVED_ONE_IN: u64 = 3;
/// The ages at which credit is moved.
const MOVES: [u32; 10] = [1, 2, 4, 7, 11, 15, 20, 29, 41, SETTLED];
/// How far credit moves, at most, in millionths of the conversions.
const EARLY_SWING: i64 = 250_000;
/// The same from [`LATE`] on.
const LATE_SWING: i64 = 120_000;
/// When most that would be moved has been, in days.
const LATE: u32 = 15;

/// One day in so many has its clicks corrected.
pub(super) const CORRECTED_ONE_IN: u64 = 4;
/// From this age on, in days, how much of a wrong share of clicks is left, in tenths.
const CORRECTIONS: [(u32, i64); 5] = [(0, 10), (3, 6), (7, 3), (14, 1), (CORRECTED_BY, 0)];
/// By when the clicks are right, in days.
const CORRECTED_BY: u32 = 35;

/// What the numbers derived from a day's seed are for.
const THRESHOLD: u64 = 100;
const IS_MOVED: u64 = 101;
const IS_CORRECTED: u64 = 102;
const MOVE: u64 = 200;

/// A campaign's day as it will be when nothing changes any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settled {
    /// All chance of this day comes from it.
    pub(super) seed: u64,
    pub(super) impressions: i64,
    pub(super) clicks: i64,
    /// In micros.
    pub(super) cost: i64,
    /// The smallest amount the currency is accounted in, in micros.
    pub(super) step: i64,
    /// How many times somebody bought.
    pub(super) conversions: i64,
    /// How much of each the campaign is credited with, in hundredths; 100 where all credit goes to one.
    pub(super) credit: i64,
    /// Revenue of what each is credited with, in micros.
    pub(super) value: i64,
}

/// What is known of `day` when it is `age` days old; 0 is the evening of the day itself.
pub(super) fn known(day: &Settled, age: u32) -> Counts {
    let delivered = if age == 0 { BY_EVENING } else { 1_000 };
    let charged = WHOLE + overcharge(day.seed, age);
    let of_clicks = i128::from(delivered) * i128::from(charged);
    let clicks = share(day.clicks, of_clicks, 1_000 * WHOLE);
    let cost = share(day.cost, of_clicks, 1_000 * WHOLE) / day.step * day.step;

    let reported = i128::from(growth(age)) * i128::from(WHOLE + moved(day.seed, age));
    let all = i128::from(WHOLE) * i128::from(WHOLE);
    // Rounded up as often as the fraction says, and by the same threshold at all ages: a day has no other luck tomorrow.
    let threshold = (i128::from(mix(day.seed, THRESHOLD) >> 32) * all) >> 32;
    let conversions = ((i128::from(day.conversions) * reported + threshold) / all) as i64;
    Counts::of([
        share(day.impressions, delivered.into(), 1_000),
        clicks,
        conversions * day.credit * 10_000,
        cost,
        conversions * day.value,
    ])
}

/// `number × part ÷ whole`, rounded down.
fn share(number: i64, part: i128, whole: i64) -> i64 {
    (i128::from(number) * part / i128::from(whole)) as i64
}

/// The share of a day's conversions that is known at `age`, in millionths.
pub(super) fn growth(age: u32) -> i64 {
    let mut before = GROWTH[0];
    for point in GROWTH {
        if age < point.0 {
            let (from, to) = (before, point);
            let way = i64::from(age - from.0);
            return from.1 + (to.1 - from.1) * way / i64::from(to.0 - from.0);
        }
        before = point;
    }
    WHOLE
}

/// How many more conversions than usual, or fewer, a day has at `age`, in millionths. Zero on average.
fn moved(seed: u64, age: u32) -> i64 {
    if age >= SETTLED || !mix(seed, IS_MOVED).is_multiple_of(MOVED_ONE_IN) {
        return 0;
    }
    let moves = MOVES.into_iter().filter(|&from| age >= from).count() as u64;
    let bits = mix(seed, MOVE + moves);
    let triangle = i64::from(sixteen(bits, 0)) + i64::from(sixteen(bits, 1)) - 65_535;
    let swing = if age < LATE { EARLY_SWING } else { LATE_SWING };
    triangle * swing / 65_536
}

/// By how much clicks and cost are too high at `age`, in millionths.
fn overcharge(seed: u64, age: u32) -> i64 {
    let bits = mix(seed, IS_CORRECTED);
    if !bits.is_multiple_of(CORRECTED_ONE_IN) {
        return 0;
    }
    let left = CORRECTIONS.into_iter().rev().find(|&(from, _)| age >= from);
    let at_first = i64::from(sixteen(bits, 3)) * 20_000 / 65_536 - 5_000;
    left.map_or(0, |(_, tenths)| at_first * tenths / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Days as they are of a middling campaign, each of another seed.
    fn days() -> impl Iterator<Item = Settled> {
        (0..20_000).map(|n| Settled {
            seed: mix(5, n),
            impressions: 10_000,
            clicks: 400,
            cost: 800_000_000,
            step: 10_000,
            conversions: 3 + n as i64 % 20,
            credit: 100,
            value: 50_000_000,
        })
    }

    /// Sums of all days at an age.
    fn at(age: u32) -> [i64; 5] {
        days().fold([0; 5], |sums, day| {
            let counts = known(&day, age).numbers();
            std::array::from_fn(|n| sums[n] + counts[n])
        })
    }

    #[test]
    fn conversions_grow_by_the_factors_that_were_seen() {
        let settled = at(SETTLED);
        for (age, factor) in [
            (0, 3.7),
            (1, 2.1),
            (2, 1.4),
            (10, 1.2),
            (19, 1.17),
            (SETTLED, 1.0),
        ] {
            let known = at(age);
            for field in [2, 4] {
                let found = settled[field] as f64 / known[field] as f64;
                assert!((found / factor - 1.0).abs() < 0.02, "from {age}: × {found}");
            }
        }
        assert_eq!(settled, at(SETTLED + 1));
        assert_eq!(settled, at(u32::MAX));
    }

    #[test]
    fn on_average_nothing_but_cost_gets_less() {
        let mut before = at(0);
        for age in 1..=SETTLED {
            let now = at(age);
            assert!(now[0] >= before[0], "impressions at {age}");
            // Each age has credit moved by other numbers, so sums waver by a little.
            assert!(now[2] * 1_000 > before[2] * 995, "conversions at {age}");
            if age > 1 {
                let change = now[3] as f64 / before[3] as f64 - 1.0;
                assert!(change.abs() < 0.005, "cost at {age}: {change}");
            }
            before = now;
        }
    }

    #[test]
    fn changes_go_both_ways_and_reach_far_back() {
        let (mut ups, mut downs, mut late) = (0, 0, 0);
        let mut costs = 0;
        for day in days() {
            for age in 1..90 {
                let (before, now) = (known(&day, age - 1), known(&day, age));
                let change = now.conversions.get() - before.conversions.get();
                ups += u32::from(change > 0);
                downs += u32::from(change < 0);
                late += u32::from(change != 0 && age > 28);
                assert!(change == 0 || age <= SETTLED);
                costs += u32::from(age > 1 && now.cost_micros != before.cost_micros);
                assert!(now.clicks <= now.impressions);
                assert_eq!(
                    now.revenue_micros.get(),
                    now.conversions.get() * 50,
                    "each conversion has its value"
                );
            }
        }
        assert!(downs * 10 > ups && downs < ups, "{ups} up, {downs} down");
        assert!(late * 10 > ups + downs, "{late} of days older than 28 days");
        // One in four, up to four times.
        assert!((10_000..20_000).contains(&costs), "{costs} changes of cost");
    }

    #[test]
    fn the_day_itself_is_not_over() {
        for day in days().take(100) {
            let (evening, after) = (known(&day, 0), known(&day, 1));
            assert_eq!(evening.impressions.get(), 6_370);
            assert_eq!(after.impressions.get(), day.impressions);
            let share = evening.cost_micros.as_f64() / after.cost_micros.as_f64();
            assert!((share - 0.637).abs() < 0.001, "{share}");
        }
    }

    #[test]
    fn growth_is_a_line_between_its_points() {
        for (age, share) in GROWTH {
            assert_eq!(growth(age), share);
        }
        assert!((0..100).all(|age| growth(age) <= growth(age + 1)));
        assert_eq!(growth(6), (714_286 + 833_333) / 2);
    }
}

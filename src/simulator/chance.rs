//! The random bits of the stream, and how often something with a small chance happens.
//!
//! Only what is the same everywhere is used: ChaCha8's output is fixed by its definition, integer
//! arithmetic is exact, and of floating point only `+ - × ÷ √`, which IEEE 754 rounds in one way.
//! The distributions of the `rand` crate may change between its versions, and `exp` or `ln` differ
//! between platforms in the last bit.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// 2^64 divided by the golden ratio: steps that visit all 64-bit numbers, evenly spread.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64's finalizer (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators",
/// 2014): the `index`th of the numbers that belong to `seed`, without computing those before it.
#[inline]
pub(super) fn mix(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(GOLDEN));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The `n`th group of 16 bits, `n` in 0 to 3, the lowest first: a share of 65,536.
#[inline]
pub(super) fn sixteen(bits: u64, n: u32) -> u16 {
    (bits >> (16 * n)) as u16
}

/// A seeded stream of random bits.
#[derive(Clone, Debug)]
pub(super) struct Chance(ChaCha8Rng);

impl Chance {
    /// The stream that belongs to `seed`.
    pub(super) fn from_seed(seed: u64) -> Chance {
        // Not `seed_from_u64`: how that expands a seed is up to the crate.
        let mut key = [0; 32];
        for (i, word) in (0..).zip(key.chunks_exact_mut(8)) {
            word.copy_from_slice(&mix(seed, i).to_le_bytes());
        }
        Chance(ChaCha8Rng::from_seed(key))
    }

    /// The next 64 bits.
    #[inline]
    pub(super) fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// How many of `tries` succeed when each does so with a chance of `ppm` in a million.
    ///
    /// On average exactly the expected number; never more than `tries`. From six expected
    /// successes on, the variance is a Poisson distribution's, below it is somewhat smaller.
    #[inline]
    pub(super) fn successes(&mut self, tries: i64, ppm: i64) -> i64 {
        let bits = self.bits();
        let share = |n| (f64::from(sixteen(bits, n)) + 0.5) / 65_536.0;
        let expected = (tries * ppm) as f64 / 1e6;
        // The expected number times a factor around 1 with a triangular distribution: the sum of
        // two uniform variables varies by 1/6 and must vary by 1/expected. The factor may not
        // fall below 0, or cutting it off there would raise the average.
        let swing = if expected > 6.0 {
            (6.0 / expected).sqrt()
        } else {
            1.0
        };
        let drawn = expected * (1.0 + swing * (share(0) + share(1) - 1.0));
        // Rounded up as often as the fraction says, or small chances would never happen.
        ((drawn + share(2)) as i64).min(tries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The first outputs for seed 1234567, which many implementations test themselves against.
    #[test]
    fn mix_is_splitmix64() {
        let first: Vec<u64> = (0..3).map(|i| mix(1_234_567, i)).collect();
        assert_eq!(
            first,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    #[test]
    fn successes_have_the_mean_and_spread_of_a_count() {
        let mut chance = Chance::from_seed(1);
        for (tries, ppm) in [
            (100, 3_000),
            (100, 30_000),
            (1_000, 10_000),
            (5_000, 40_000),
        ] {
            let rounds = 40_000;
            let (mut sum, mut squares) = (0.0, 0.0);
            for _ in 0..rounds {
                let n = chance.successes(tries, ppm) as f64;
                sum += n;
                squares += n * n;
            }
            let expected = (tries * ppm) as f64 / 1e6;
            let mean = sum / f64::from(rounds);
            let variance = squares / f64::from(rounds) - mean * mean;
            assert!(
                (mean / expected - 1.0).abs() < 0.03,
                "{tries} × {ppm} ppm: {mean} instead of {expected}"
            );
            if expected > 6.0 {
                assert!(
                    (variance / expected - 1.0).abs() < 0.1,
                    "{tries} × {ppm} ppm: variance {variance}, mean {expected}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn successes_are_among_the_tries(
            seed: u64, tries in 0i64..1_000_000, ppm in 0i64..=1_000_000
        ) {
            let n = Chance::from_seed(seed).successes(tries, ppm);
            prop_assert!((0..=tries).contains(&n));
            prop_assert_eq!(Chance::from_seed(seed).successes(tries, 0), 0);
        }
    }
}

//! One of several databases: where one PostgreSQL is not enough, each has a range of the topic's partitions, and with it the
//! campaigns whose keys lead there. Pure.

// Settings and keys come through here.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::fmt;
use std::str::FromStr;

/// A range of the topic's partitions, as `0-59/120`: from the first to the last, of so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    first: i32,
    last: i32,
    of: i32,
}

/// The most partitions of a topic that is divided: the numbers of streams have room for so many.
const MOST: i32 = 20_000;
/// How many numbers of streams each partition leaves to its database, which are more than there are topics.
const STREAMS: i32 = 100_000;

impl Shard {
    /// A range of partitions; none if they are not in order, or not of so many.
    pub fn new(first: i32, last: i32, of: i32) -> Option<Shard> {
        let is_range = 0 <= first && first <= last && last < of && of <= MOST;
        is_range.then_some(Shard { first, last, of })
    }

    /// The first and the last partition.
    pub fn ends(self) -> (i32, i32) {
        (self.first, self.last)
    }

    /// How many partitions the topic has.
    pub fn of(self) -> i32 {
        self.of
    }

    /// A part of the range; none if it is not within.
    pub fn part(self, (first, last): (i32, i32)) -> Option<Shard> {
        let part = Shard::new(first, last, self.of)?;
        (self.has(first) && self.has(last)).then_some(part)
    }

    /// The consumer group of those who count the range: another range has another one.
    pub fn group(self, group: &str) -> String {
        format!("{group}-{}-{}", self.first, self.last)
    }

    /// Whether a partition is in the range.
    pub fn has(self, partition: i32) -> bool {
        (self.first..=self.last).contains(&partition)
    }

    /// The partition that a campaign's key leads to.
    pub fn partition(self, campaign: &str) -> i32 {
        partition(campaign.as_bytes(), self.of)
    }

    /// Whether a campaign is on one of its partitions.
    pub fn has_campaign(self, campaign: &str) -> bool {
        self.has(self.partition(campaign))
    }

    /// The first number that a stream of this database may have: those of two databases differ.
    pub fn first_stream(self) -> i32 {
        self.first.saturating_mul(STREAMS).saturating_add(1)
    }

    /// Whether a stream of this number is of this database.
    pub fn has_stream(self, number: i32) -> bool {
        let end = self.last.saturating_add(1).saturating_mul(STREAMS);
        (self.first_stream()..=end).contains(&number)
    }

    /// Checks that ranges are all partitions of one topic, each once.
    ///
    /// # Errors
    /// What is missing, or there twice, in words.
    pub fn tile(shards: &[Shard]) -> Result<(), String> {
        let mut sorted = shards.to_vec();
        sorted.sort_unstable_by_key(|shard| shard.first);
        let mut next = 0;
        for shard in &sorted {
            if let Some(other) = sorted.first().filter(|first| first.of != shard.of) {
                return Err(format!(
                    "{other} and {shard} are not of topics with the same number of partitions"
                ));
            }
            if shard.first > next {
                let last = shard.first.saturating_sub(1);
                return Err(format!("nobody has the partitions {next} to {last}"));
            }
            if shard.first < next {
                return Err(format!("partition {} is there twice", shard.first));
            }
            next = shard.last.saturating_add(1);
        }
        match sorted.first() {
            Some(shard) if next < shard.of => {
                let last = shard.of.saturating_sub(1);
                Err(format!("nobody has the partitions {next} to {last}"))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}/{}", self.first, self.last, self.of)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Shard, String> {
        let number = |text: &str| text.parse::<i32>().ok();
        let parse = || {
            let (range, of) = text.split_once('/')?;
            let (first, last) = range.split_once('-')?;
            Shard::new(number(first)?, number(last)?, number(of)?)
        };
        parse().ok_or_else(|| {
            format!(
                "'{text}' is no range of partitions: write first-last/number, such as 0-59/120 for the first half of a topic with 120 (at most {MOST})"
            )
        })
    }
}

/// The first and the last partition of `0-59`.
///
/// # Errors
/// Why the text is not that, in words.
pub fn ends(text: &str) -> Result<(i32, i32), String> {
    let parse = || {
        let (first, last) = text.split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()?))
    };
    let ends = parse().filter(|(first, last)| first <= last);
    ends.ok_or_else(|| {
        format!("'{text}' is no range of partitions: write first-last, such as 0-29")
    })
}

/// The partition that Kafka's own partitioner, and `murmur2_random` of librdkafka, choose for a key.
fn partition(key: &[u8], partitions: i32) -> i32 {
    let positive = (murmur2(key) & 0x7fff_ffff) as i32;
    positive.checked_rem(partitions).unwrap_or_default()
}

/// MurmurHash2 with the seed of Kafka's clients (`Utils.murmur2` there).
fn murmur2(key: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    const SEED: u32 = 0x9747_b28c;
    let mut hash = SEED ^ key.len() as u32;
    let (words, rest) = key.as_chunks::<4>();
    for word in words {
        let word = u32::from_le_bytes(*word).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ (word ^ (word >> 24)).wrapping_mul(M);
    }
    if !rest.is_empty() {
        let bytes = rest.iter().rev();
        let last = bytes.fold(0, |last: u32, byte| (last << 8) | u32::from(*byte));
        hash = (hash ^ last).wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shard(text: &str) -> Shard {
        text.parse().expect("a shard")
    }

    #[test]
    fn a_range_is_read_as_it_is_written() {
        assert_eq!(shard("0-59/120").to_string(), "0-59/120");
        for bad in [
            "",
            "0-59",
            "59-0/120",
            "0-120/120",
            "-1-2/3",
            "0-1/20001",
            "a-b/c",
        ] {
            let refused = bad.parse::<Shard>().expect_err(bad);
            assert!(refused.contains("0-59/120"), "{refused}");
        }
    }

    #[test]
    fn a_part_is_within_and_has_a_group_of_its_own() {
        let whole = shard("60-119/120");
        let part = |text| whole.part(ends(text).expect("a range"));
        assert_eq!(part("60-89"), Some(shard("60-89/120")));
        assert_eq!(part("60-119"), Some(whole));
        assert_eq!(part("59-60"), None);
        assert_eq!(part("119-120"), None);
        assert_eq!(whole.group("adflux"), "adflux-60-119");
        for bad in ["", "60", "90-60", "a-b", "-1--2"] {
            assert!(ends(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ranges_tile_a_topic_or_it_is_said_what_is_wrong() {
        let tile = |texts: &[&str]| {
            let shards: Vec<Shard> = texts.iter().map(|text| shard(text)).collect();
            Shard::tile(&shards)
        };
        assert_eq!(tile(&["60-119/120", "0-59/120"]), Ok(()));
        for (texts, wrong) in [
            (&["0-59/120"][..], "the partitions 60 to 119"),
            (&["0-9/30", "20-29/30"], "the partitions 10 to 19"),
            (&["0-9/20", "9-19/20"], "partition 9 is there twice"),
            (&["0-9/20", "10-29/30"], "the same number of partitions"),
        ] {
            let refused = tile(texts).expect_err(wrong);
            assert!(refused.contains(wrong), "{refused}");
        }
    }

    /// As the tests of Kafka's clients have them.
    #[test]
    fn the_hash_is_that_of_kafka() {
        for (key, hash) in [
            ("21", -973932308),
            ("foobar", -790332482),
            ("a-little-bit-long-string", -985981536),
            ("a-little-bit-longer-string", -1486304829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58897971,
            ),
            ("abc", 479470107),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
    }

    proptest! {
        #[test]
        fn each_campaign_is_in_one_database(id in "[A-Za-z0-9_.:-]{1,64}", cut in 1i32..120) {
            let halves = [Shard::new(0, cut.saturating_sub(1), 120), Shard::new(cut, 119, 120)].map(|s| s.expect("a shard"));
            prop_assert_eq!(Shard::tile(&halves), Ok(()));
            prop_assert_eq!(halves.iter().filter(|shard| shard.has_campaign(&id)).count(), 1);
        }

        #[test]
        fn no_stream_is_of_two_databases(number in 1i32.., cut in 1i32..120) {
            let halves = [Shard::new(0, cut.saturating_sub(1), 120), Shard::new(cut, 119, 120)].map(|s| s.expect("a shard"));
            prop_assert!(halves.iter().filter(|shard| shard.has_stream(number)).count() <= 1);
        }
    }
}

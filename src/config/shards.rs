//! The databases that each have a range of the topic's partitions, as `serve` and `import` are told of them.

use std::collections::BTreeMap;

use anyhow::Context as _;
use clap::Args;

use crate::shard::Shard;

/// Where the campaigns are, if not all in one database.
#[derive(Args, Clone)]
pub struct ShardsArgs {
    /// Databases that each have a range of the topic's partitions, as 0-59/120=URL, with blanks between them or the flag
    /// repeated: together they have all of them, and --database-url has what is of no campaign, such as keys, rates,
    /// receipts and files (default: it has everything)
    #[arg(
        long = "shard",
        env = "ADFLUX_SHARDS",
        hide_env_values = true,
        value_name = "PARTITIONS=URL",
        value_delimiter = ' '
    )]
    shards: Vec<String>,
}

impl ShardsArgs {
    /// The databases that have ranges of the topic's partitions, in the order of these.
    ///
    /// # Errors
    /// Which of them is not said as it must be, or what is wrong with the ranges. No part of a URL is quoted.
    pub fn read(&self) -> anyhow::Result<Vec<(Shard, String)>> {
        let given = self.shards.iter().map(|text| text.trim());
        let given = given.filter(|text| !text.is_empty());
        let shards = given.enumerate().map(|(n, text)| {
            let parse = || {
                let (range, url) = text.split_once('=')?;
                Some((range.parse::<Shard>().ok()?, url.to_owned()))
            };
            parse().with_context(|| {
                let number = n.saturating_add(1);
                format!("--shard: database {number} is not of the form 0-59/120=URL")
            })
        });
        let mut shards: Vec<(Shard, String)> = shards.collect::<anyhow::Result<_>>()?;
        let ranges: Vec<Shard> = shards.iter().map(|(shard, _)| *shard).collect();
        Shard::tile(&ranges).map_err(|why| anyhow::anyhow!("--shard: {why}"))?;
        shards.sort_unstable_by_key(|(shard, _)| shard.ends());
        let mut urls = BTreeMap::new();
        for (shard, url) in &shards {
            if let Some(other) = urls.insert(url, shard) {
                anyhow::bail!("--shard: {other} and {shard} are given the same database");
            }
        }
        Ok(shards)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(given: &[&str]) -> anyhow::Result<Vec<(Shard, String)>> {
        let shards = given.iter().map(|text| (*text).to_owned()).collect();
        ShardsArgs { shards }.read()
    }

    #[test]
    fn they_are_in_the_order_of_their_partitions() {
        let shards = read(&["2-5/6=postgres://b", "", "0-1/6=postgres://a?x=y"]).expect("shards");
        let shards: Vec<String> = shards
            .iter()
            .map(|(shard, url)| format!("{shard} {url}"))
            .collect();
        assert_eq!(shards, ["0-1/6 postgres://a?x=y", "2-5/6 postgres://b"]);
        assert!(read(&[]).expect("none").is_empty());
    }

    #[test]
    fn what_is_wrong_is_said_without_a_password() {
        for (given, words) in [
            (
                &["postgres://u:secret@a/b"][..],
                "database 1 is not of the form 0-59/120=URL",
            ),
            (
                &[
                    "0-5/6=postgres://u:secret@a/b",
                    "0-5=postgres://u:secret@a/b",
                ],
                "database 2 is not",
            ),
            (
                &["0-1/6=postgres://u:secret@a/b"],
                "nobody has the partitions 2 to 5",
            ),
            (
                &[
                    "0-1/6=postgres://u:secret@a/b",
                    "2-5/6=postgres://u:secret@a/b",
                ],
                "0-1/6 and 2-5/6 are given the same database",
            ),
        ] {
            let why = format!("{:#}", read(given).expect_err(words));
            assert!(why.contains(words), "{why}");
            assert!(!why.contains("secret"), "{why}");
        }
    }
}

//! The databases that know what was imported: usually one, which knows all of it; or several, each of which knows the campaigns of
//! its partitions, and one of them, or another, the files.

// Bytes from outside come through here.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::cmp::Reverse;

use anyhow::bail;
use diesel::PgConnection;

use super::remember;
use super::send::Topic;
use crate::event::Platform;
use crate::reports::facts::Remembered;
use crate::shard::Shard;
use crate::store::read::imports::{self, Rows, SaidRow};
use crate::store::read::reports;
use crate::store::{self, Limits, StoreError};

/// Where they are.
#[derive(Clone)]
pub struct Urls {
    /// Of the one with the files.
    pub home: String,
    /// Of those with campaigns; none: it is the same.
    pub shards: Vec<(Shard, String)>,
}

/// See the module.
pub struct Databases {
    /// None: it is the first.
    home: Option<PgConnection>,
    first: Part,
    others: Vec<Part>,
}

/// A database that knows campaigns.
pub struct Part {
    /// None: it knows all.
    pub shard: Option<Shard>,
    pub connection: PgConnection,
}

impl Part {
    /// Whether it counts a partition.
    pub fn has(&self, partition: i32) -> bool {
        self.shard.is_none_or(|shard| shard.has(partition))
    }

    /// Whether it counts a campaign.
    pub fn has_campaign(&self, campaign: &str) -> bool {
        self.shard.is_none_or(|shard| shard.has_campaign(campaign))
    }
}

impl Urls {
    /// Connects to all of them.
    ///
    /// # Errors
    /// When one does not answer, or is not as it must be.
    pub fn open(&self) -> anyhow::Result<Databases> {
        let part = |shard: Option<Shard>, url: &str| {
            let of = |error: anyhow::Error| match shard {
                Some(shard) => error.context(format!("the database of {shard}")),
                None => error,
            };
            let mut connection = open(url).map_err(of)?;
            let found = store::shard::read(&mut connection).map_err(|e| of(e.into()))?;
            store::shard::check(found, shard)?;
            Ok(Part { shard, connection })
        };
        let mut shards = self.shards.iter();
        let Some((shard, url)) = shards.next() else {
            return Ok(Databases {
                home: None,
                first: part(None, &self.home)?,
                others: Vec::new(),
            });
        };
        let is_first = *url == self.home;
        Ok(Databases {
            home: (!is_first).then(|| open(&self.home)).transpose()?,
            first: part(Some(*shard), url)?,
            others: shards
                .map(|(shard, url)| part(Some(*shard), url))
                .collect::<anyhow::Result<_>>()?,
        })
    }
}

fn open(url: &str) -> anyhow::Result<PgConnection> {
    let mut connection = store::open(url, Limits::PROCESSOR)?;
    if !reports::are_kept(&mut connection)? {
        bail!(
            "the database has no tables of reports: run `adflux migrate`, or start `adflux process`"
        );
    }
    Ok(connection)
}

impl Databases {
    /// The one with the files.
    pub fn home(&mut self) -> &mut PgConnection {
        match &mut self.home {
            Some(home) => home,
            None => &mut self.first.connection,
        }
    }

    /// Those that know campaigns.
    pub fn parts(&mut self) -> impl Iterator<Item = &mut Part> {
        std::iter::once(&mut self.first).chain(&mut self.others)
    }

    /// Whether there are several.
    pub fn are_several(&self) -> bool {
        self.home.is_some() || !self.others.is_empty()
    }

    /// What is remembered of an account; none if nothing was ever counted of it.
    ///
    /// # Errors
    /// When a database does not answer.
    pub fn remembered(
        &mut self,
        platform: Platform,
        account: &str,
        may_differ: bool,
    ) -> Result<Option<Remembered>, StoreError> {
        let known = self
            .parts()
            .map(|part| remember::meaning(&mut part.connection, platform, account));
        let known: Vec<_> = known.collect::<Result<_, _>>()?;
        Ok(remember::newest(known, may_differ))
    }

    /// How many rows are from each of these files, in their order, by their SHA-256.
    ///
    /// # Errors
    /// When a database does not answer.
    pub fn rows_of(&mut self, files: &[Vec<u8>]) -> Result<Vec<Rows>, StoreError> {
        let mut sums = vec![Rows::default(); files.len()];
        for part in self.parts() {
            let numbers = imports::numbers(&mut part.connection, Some(files))?;
            // No file has the number 0.
            let numbers = files.iter().map(|file| numbers.get(file).copied());
            let numbers: Vec<i32> = numbers.map(Option::unwrap_or_default).collect();
            let rows = imports::rows_of(&mut part.connection, &numbers)?;
            for (sum, rows) in sums.iter_mut().zip(rows) {
                *sum = sum.and(rows);
            }
        }
        Ok(sums)
    }

    /// The rows of a file that count, in its order; of one line all that are from it, the newest first.
    ///
    /// # Errors
    /// When a database does not answer.
    pub fn said(
        &mut self,
        file: &[u8],
        line: Option<i64>,
        limit: usize,
    ) -> anyhow::Result<Vec<SaidRow>> {
        let mut said = Vec::new();
        for part in self.parts() {
            let numbers = imports::numbers(&mut part.connection, Some(&[file.to_vec()]))?;
            if let Some(number) = numbers.get(file) {
                let most = i64::try_from(limit)?;
                said.extend(imports::said(&mut part.connection, *number, line, most)?);
            }
        }
        // Those of a database are in order.
        said.sort_by_key(|row| (row.line.unwrap_or(i64::MAX), Reverse(row.observed_at)));
        said.truncate(limit);
        Ok(said)
    }

    /// Checks that a topic is divided as they are: a campaign's partition depends on how many there are.
    ///
    /// # Errors
    /// When it has another number of partitions.
    pub fn check(&self, topic: &Topic) -> anyhow::Result<()> {
        match self.first.shard {
            Some(shard) if usize::try_from(shard.of()) != Ok(topic.partitions) => bail!(
                "topic '{}' has {} partitions, and --shard says {}; nothing was sent",
                topic.name,
                topic.partitions,
                shard.of()
            ),
            _ => Ok(()),
        }
    }
}

//! Chunks: a part's cells in the order of their campaigns, some at a time, as rows of packed columns.
//!
//! A campaign's cells are in one chunk, with others, unless they are too many: then they have chunks to themselves. So
//! all chunks that hold a campaign have the same `first_campaign`: the largest that is not behind it.

// Bytes that could be anybody's come through here.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::ops::Range;

use diesel::result::Error as DieselError;
use diesel::sql_types::{Array, BigInt, Bytea, Integer, Nullable, Text};
use diesel::{QueryableByName, RunQueryDsl as _};

use super::pack::{pack, unpack};
use crate::event::{Conversions, Count, Counts, Money};
use crate::store::columns::{Bigints, Integers, Strings};
use crate::store::prepared::prepared;
use crate::store::{CommitId, StoreError};
use crate::time::{Length, Timestamp};
use crate::totals::{Overflow, Totals};

/// The most cells of a chunk: in two to five kilobytes, so that what one campaign is read from is small.
pub const MOST_CELLS: usize = 128;

/// Of which events sums are, beyond what they add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// When the first and the last of them happened.
    pub first: Timestamp,
    pub last: Timestamp,
    /// The last transaction that counted one, and when it began to write.
    pub commit_id: CommitId,
    pub committed_at: Timestamp,
}

impl Facts {
    /// Of no events.
    pub const NONE: Facts = Facts {
        first: Timestamp::MAX,
        last: Timestamp::MIN,
        commit_id: CommitId::new(0),
        committed_at: Timestamp::MIN,
    };

    /// Of both together.
    pub fn and(self, other: Facts) -> Facts {
        Facts {
            first: self.first.min(other.first),
            last: self.last.max(other.last),
            commit_id: self.commit_id.max(other.commit_id),
            committed_at: self.committed_at.max(other.committed_at),
        }
    }
}

/// The sums of a campaign in an interval on a platform.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cell {
    /// When the interval begins.
    pub start: Timestamp,
    /// By index.
    pub platform: u8,
    pub totals: Totals,
    /// [`Facts::NONE`] where they are not kept: in what stands in a part of a longer grain too.
    pub facts: Facts,
}

impl Cell {
    /// The order of a campaign's cells.
    pub fn key(&self) -> (Timestamp, u8) {
        (self.start, self.platform)
    }

    /// Both together, of one key.
    pub fn plus(self, other: Cell) -> Result<Cell, Overflow> {
        Ok(Cell {
            totals: self.totals.checked_add(other.totals)?,
            facts: self.facts.and(other.facts),
            ..self
        })
    }
}

/// Adds up neighbours of one key.
pub fn coalesce(cells: &mut Vec<Cell>) -> Result<(), Overflow> {
    let mut sum: Option<Cell> = None;
    let mut kept = Vec::with_capacity(cells.len());
    for &cell in cells.iter() {
        sum = Some(match sum {
            Some(known) if known.key() == cell.key() => known.plus(cell)?,
            Some(known) => {
                kept.push(known);
                cell
            }
            None => cell,
        });
    }
    kept.extend(sum);
    *cells = kept;
    Ok(())
}

/// The columns of a [`ChunkRow`], of a `sum_chunks` that the statement calls `c`.
macro_rules! chunk_columns {
    () => {
        "c.first_campaign, c.chunk, c.names, c.cells, c.name, c.name_end, c.cell_end, c.minute, c.platform, c.events, \
         c.impressions, c.clicks, c.conversions, c.conversion_millionths, c.cost_micros, c.revenue_micros, \
         c.first_event_time, c.last_event_time, c.commit_id, c.committed_at"
    };
}
pub(in crate::store) use chunk_columns;

/// A chunk's row: what a statement that reads chunks selects.
#[derive(QueryableByName)]
pub struct ChunkRow {
    #[diesel(sql_type = Text)]
    pub first_campaign: String,
    #[diesel(sql_type = Integer)]
    pub chunk: i32,
    #[diesel(sql_type = Integer)]
    names: i32,
    #[diesel(sql_type = Integer)]
    cells: i32,
    #[diesel(sql_type = Bytea)]
    name: Vec<u8>,
    #[diesel(sql_type = Bytea)]
    name_end: Vec<u8>,
    #[diesel(sql_type = Bytea)]
    cell_end: Vec<u8>,
    #[diesel(sql_type = Bytea)]
    minute: Vec<u8>,
    #[diesel(sql_type = Bytea)]
    platform: Vec<u8>,
    #[diesel(sql_type = Bytea)]
    events: Vec<u8>,
    #[diesel(sql_type = Bytea)]
    impressions: Vec<u8>,
    #[diesel(sql_type = Bytea)]
    clicks: Vec<u8>,
    #[diesel(sql_type = Bytea)]
    conversions: Vec<u8>,
    #[diesel(sql_type = Nullable<Bytea>)]
    conversion_millionths: Option<Vec<u8>>,
    #[diesel(sql_type = Bytea)]
    cost_micros: Vec<u8>,
    #[diesel(sql_type = Bytea)]
    revenue_micros: Vec<u8>,
    #[diesel(sql_type = Nullable<Bytea>)]
    first_event_time: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Bytea>)]
    last_event_time: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Bytea>)]
    commit_id: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Bytea>)]
    committed_at: Option<Vec<u8>>,
}

/// Of a chunk's row, no more than says when its cells begin.
#[derive(QueryableByName)]
pub struct StartsRow {
    #[diesel(sql_type = Integer)]
    cells: i32,
    #[diesel(sql_type = Bytea)]
    minute: Vec<u8>,
}

impl StartsRow {
    /// When the interval of each of its cells begins.
    ///
    /// # Errors
    /// When it is none that was written here.
    pub fn starts(&self) -> Result<impl Iterator<Item = Timestamp>, StoreError> {
        let minutes = usize::try_from(self.cells)
            .ok()
            .and_then(|cells| unpack(&self.minute, cells));
        let minutes = minutes.ok_or_else(|| {
            StoreError::Query(DieselError::DeserializationError(
                "the minutes of a chunk of sums cannot be read".into(),
            ))
        })?;
        Ok(minutes.map(start_of))
    }
}

/// The beginning of an interval, of its minutes since 1970.
fn start_of(minute: i64) -> Timestamp {
    Timestamp::EPOCH + Length::MINUTE.times(minute)
}

/// A chunk as it is worked with.
#[derive(Debug, Default)]
pub struct Chunk {
    names: String,
    groups: Vec<(Range<usize>, Range<usize>)>,
    cells: Vec<Cell>,
}

impl ChunkRow {
    /// Whether its cells say of which events they are.
    pub(super) fn keeps_facts(&self) -> bool {
        self.commit_id.is_some()
    }

    /// Reads the columns.
    ///
    /// # Errors
    /// When they are not what a part writes.
    pub fn unpack(self) -> Result<Chunk, StoreError> {
        let (first, number) = (self.first_campaign.clone(), self.chunk);
        self.read().ok_or_else(|| {
            StoreError::Query(DieselError::DeserializationError(
                format!(
                    "chunk {number} of sums, which begins with campaign {first}, cannot be read"
                )
                .into(),
            ))
        })
    }

    fn read(self) -> Option<Chunk> {
        let (names, cells) = (
            usize::try_from(self.names).ok()?,
            usize::try_from(self.cells).ok()?,
        );
        let place = |end: i64| usize::try_from(end).ok();
        let mut groups = Vec::with_capacity(names);
        let (mut name, mut cell) = (0, 0);
        for (name_end, cell_end) in
            unpack(&self.name_end, names)?.zip(unpack(&self.cell_end, names)?)
        {
            let (name_end, cell_end) = (place(name_end)?, place(cell_end)?);
            groups.push((name..name_end, cell..cell_end));
            (name, cell) = (name_end, cell_end);
        }
        let facts = match (
            &self.first_event_time,
            &self.last_event_time,
            &self.commit_id,
            &self.committed_at,
        ) {
            (Some(first), Some(last), Some(commit), Some(at)) => {
                let times = unpack(first, cells)?.zip(unpack(last, cells)?);
                Some(times.zip(unpack(commit, cells)?.zip(unpack(at, cells)?)))
            }
            _ => None,
        };
        let mut facts = facts.into_iter().flatten();
        // Where there are none, all are whole.
        let beyond = match &self.conversion_millionths {
            Some(packed) => Some(unpack(packed, cells)?),
            None => None,
        };
        let mut beyond = beyond.into_iter().flatten();
        let mut is_sound = true;
        let keys = unpack(&self.minute, cells)?.zip(unpack(&self.platform, cells)?);
        let counted = unpack(&self.events, cells)?.zip(unpack(&self.impressions, cells)?);
        let counted =
            counted.zip(unpack(&self.clicks, cells)?.zip(unpack(&self.conversions, cells)?));
        let paid = unpack(&self.cost_micros, cells)?.zip(unpack(&self.revenue_micros, cells)?);
        let cells = keys
            .zip(counted.zip(paid))
            .map(|((minute, platform), (counted, paid))| {
                let ((events, impressions), (clicks, conversions)) = counted;
                let beyond = beyond.next().unwrap_or_default();
                let conversions = Conversions::of_parts(conversions, beyond);
                is_sound &= conversions.is_some();
                Cell {
                    start: start_of(minute),
                    platform: platform as u8,
                    totals: Totals {
                        events: Count::new(events),
                        counts: Counts {
                            impressions: Count::new(impressions),
                            clicks: Count::new(clicks),
                            conversions: conversions.unwrap_or_default(),
                            cost_micros: Money::new(paid.0),
                            revenue_micros: Money::new(paid.1),
                        },
                    },
                    facts: facts
                        .next()
                        .map_or(Facts::NONE, |((first, last), (commit, at))| Facts {
                            first: Timestamp::new(first),
                            last: Timestamp::new(last),
                            commit_id: CommitId::new(commit),
                            committed_at: Timestamp::new(at),
                        }),
                }
            });
        let chunk = Chunk {
            names: String::from_utf8(self.name).ok()?,
            groups,
            cells: cells.collect(),
        };
        let in_bounds = |(name, cells): &(Range<usize>, Range<usize>)| {
            chunk.names.get(name.clone()).is_some() && chunk.cells.get(cells.clone()).is_some()
        };
        (is_sound && chunk.groups.iter().all(in_bounds)).then_some(chunk)
    }
}

impl Chunk {
    /// Its campaigns, ascending, each with its cells.
    pub fn groups(&self) -> impl Iterator<Item = (&str, &[Cell])> {
        self.groups.iter().map(|(name, cells)| {
            let name = self.names.get(name.clone()).unwrap_or_default();
            (name, self.cells.get(cells.clone()).unwrap_or_default())
        })
    }

    /// How many campaigns it has.
    pub fn campaigns(&self) -> usize {
        self.groups.len()
    }

    /// The campaign at a place, with its cells.
    pub fn group(&self, place: usize) -> Option<(&str, &[Cell])> {
        let (name, cells) = self.groups.get(place)?;
        Some((
            self.names.get(name.clone())?,
            self.cells.get(cells.clone())?,
        ))
    }

    /// The cells of a campaign.
    pub fn of(&self, campaign: &str) -> &[Cell] {
        let name = |group: &(Range<usize>, Range<usize>)| {
            self.names.get(group.0.clone()).unwrap_or_default()
        };
        let found = self
            .groups
            .binary_search_by(|group| name(group).cmp(campaign));
        let group = found.ok().and_then(|at| self.groups.get(at));
        group
            .and_then(|(_, cells)| self.cells.get(cells.clone()))
            .unwrap_or_default()
    }
}

/// A chunk while it fills.
#[derive(Debug, Default)]
pub(super) struct Builder {
    name: String,
    name_end: Vec<i64>,
    cell_end: Vec<i64>,
    cells: Vec<Cell>,
    /// Where the last campaign's name begins.
    last_name: usize,
}

impl Builder {
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// Whether so many more cells have room.
    pub fn has_room(&self, cells: usize) -> bool {
        self.cells.len().saturating_add(cells) <= MOST_CELLS
    }

    /// Adds a campaign that comes after those before.
    pub fn push(&mut self, campaign: &str, cells: &[Cell]) {
        self.last_name = self.name.len();
        self.name.push_str(campaign);
        self.cells.extend_from_slice(cells);
        self.name_end.push(self.name.len() as i64);
        self.cell_end.push(self.cells.len() as i64);
    }

    fn first_campaign(&self) -> &str {
        let end = self
            .name_end
            .first()
            .and_then(|&end| usize::try_from(end).ok());
        self.name.get(..end.unwrap_or_default()).unwrap_or_default()
    }

    fn last_campaign(&self) -> &str {
        self.name.get(self.last_name..).unwrap_or_default()
    }

    /// Writes the row, and begins anew.
    pub fn write(&mut self, stream: i32, part: i64, chunk: i32, with_facts: bool, out: &mut Rows) {
        out.stream.push(stream);
        out.part.push(part);
        out.chunk.push(chunk);
        let text =
            |text: &str, of: &mut Strings| of.push(|out| out.extend_from_slice(text.as_bytes()));
        text(self.first_campaign(), &mut out.first_campaign);
        text(self.last_campaign(), &mut out.last_campaign);
        let newest = self.cells.iter().map(|c| c.facts.commit_id.get()).max();
        out.newest_commit_id.push(newest.unwrap_or_default());
        out.names.push(self.name_end.len() as i32);
        out.cells.push(self.cells.len() as i32);
        text(&self.name, &mut out.name);
        let ends = [&self.name_end, &self.cell_end];
        for (ends, of) in ends.into_iter().zip(&mut out.ends) {
            of.push(|out| pack(ends.iter().copied(), out));
        }
        let numbers: [fn(&Cell) -> i64; 8] = [
            |c| (c.start - Timestamp::EPOCH) / Length::MINUTE,
            |c| i64::from(c.platform),
            |c| c.totals.events.get(),
            |c| c.totals.counts.impressions.get(),
            |c| c.totals.counts.clicks.get(),
            |c| c.totals.counts.conversions.parts().0,
            |c| c.totals.counts.cost_micros.get(),
            |c| c.totals.counts.revenue_micros.get(),
        ];
        for (number, of) in numbers.into_iter().zip(&mut out.numbers) {
            of.push(|out| pack(self.cells.iter().map(number), out));
        }
        let conversions = |cell: &Cell| cell.totals.counts.conversions;
        if self.cells.iter().all(|cell| conversions(cell).is_whole()) {
            out.conversion_millionths.push_null();
        } else {
            let beyond = |cell: &Cell| i64::from(conversions(cell).parts().1);
            out.conversion_millionths
                .push(|out| pack(self.cells.iter().map(beyond), out));
        }
        let facts: [fn(&Cell) -> i64; 4] = [
            |c| c.facts.first.get(),
            |c| c.facts.last.get(),
            |c| c.facts.commit_id.get(),
            |c| c.facts.committed_at.get(),
        ];
        for (fact, of) in facts.into_iter().zip(&mut out.facts) {
            if with_facts {
                of.push(|out| pack(self.cells.iter().map(fact), out));
            } else {
                of.push_null();
            }
        }
        *self = Builder::default();
    }
}

/// Rows of chunks that are written together, by column.
#[derive(Debug, Default)]
pub(super) struct Rows {
    stream: Vec<i32>,
    part: Vec<i64>,
    first_campaign: Strings,
    chunk: Vec<i32>,
    last_campaign: Strings,
    newest_commit_id: Vec<i64>,
    names: Vec<i32>,
    cells: Vec<i32>,
    name: Strings,
    ends: [Strings; 2],
    numbers: [Strings; 8],
    /// Null where all conversions are whole.
    conversion_millionths: Strings,
    facts: [Strings; 4],
}

impl Rows {
    /// About how many bytes they are.
    pub fn size(&self) -> usize {
        let columns = self.ends.iter().chain(&self.numbers).chain(&self.facts);
        let others = [&self.name, &self.conversion_millionths];
        columns.chain(others).map(Strings::size).sum()
    }

    /// Writes them all, and begins anew. Not by `COPY`: while the server waits for more of its data, no limit on idle
    /// transactions holds, and were this process frozen then, the next owner of its partitions would wait for it.
    pub fn flush(&mut self, connection: &mut diesel::PgConnection) -> Result<(), StoreError> {
        if self.stream.is_empty() {
            return Ok(());
        }
        let rows = std::mem::take(self);
        let [name_end, cell_end] = &rows.ends;
        let [
            minute,
            platform,
            events,
            impressions,
            clicks,
            conversions,
            cost_micros,
            revenue_micros,
        ] = &rows.numbers;
        let [first_event_time, last_event_time, commit_id, committed_at] = &rows.facts;
        prepared(
            "INSERT INTO sum_chunks (stream_id, part_id, first_campaign, chunk, last_campaign, newest_commit_id, names, cells, name,
                 name_end, cell_end, minute, platform, events, impressions, clicks, conversions, cost_micros, revenue_micros,
                 first_event_time, last_event_time, commit_id, committed_at, conversion_millionths)
             SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21,
                 $22, $23, $24)",
        )
        .bind::<Array<Integer>, _>(Integers(&rows.stream))
        .bind::<Array<BigInt>, _>(Bigints(&rows.part))
        .bind::<Array<Text>, _>(&rows.first_campaign)
        .bind::<Array<Integer>, _>(Integers(&rows.chunk))
        .bind::<Array<Text>, _>(&rows.last_campaign)
        .bind::<Array<BigInt>, _>(Bigints(&rows.newest_commit_id))
        .bind::<Array<Integer>, _>(Integers(&rows.names))
        .bind::<Array<Integer>, _>(Integers(&rows.cells))
        .bind::<Array<Bytea>, _>(&rows.name)
        .bind::<Array<Bytea>, _>(name_end)
        .bind::<Array<Bytea>, _>(cell_end)
        .bind::<Array<Bytea>, _>(minute)
        .bind::<Array<Bytea>, _>(platform)
        .bind::<Array<Bytea>, _>(events)
        .bind::<Array<Bytea>, _>(impressions)
        .bind::<Array<Bytea>, _>(clicks)
        .bind::<Array<Bytea>, _>(conversions)
        .bind::<Array<Bytea>, _>(cost_micros)
        .bind::<Array<Bytea>, _>(revenue_micros)
        .bind::<Array<Bytea>, _>(first_event_time)
        .bind::<Array<Bytea>, _>(last_event_time)
        .bind::<Array<Bytea>, _>(commit_id)
        .bind::<Array<Bytea>, _>(committed_at)
        .bind::<Array<Bytea>, _>(&rows.conversion_millionths)
        .execute(connection)?;
        Ok(())
    }
}

//! Parts: how one is written, and its entry in the directory.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Integer, Nullable, SmallInt, Text, Timestamptz};

use super::chunk::{Builder, Cell, Facts, MOST_CELLS, Rows};
use super::{Grain, Reach};
use crate::event::Count;
use crate::store::columns::{Bigints, Integers, Shorts, Timestamps};
use crate::store::prepared::prepared;
use crate::store::{StoreError, StreamId};
use crate::time::Timestamp;

/// So many bytes of chunks are written at a time.
const FLUSH_BYTES: usize = 4 << 20;

/// Names a part, of a partition.
pub type PartId = i64;

/// What the directory says of a part.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    pub stream: StreamId,
    pub id: PartId,
    pub grain: Grain,
    pub reach: Reach,
    /// When the window begins that it covers; 1970 if it is all time, or none.
    pub window: Timestamp,
    /// From the beginning of its first interval to the end of its last; of all time, from its first event to its last.
    pub since: Timestamp,
    pub until: Timestamp,
    pub first_campaign: String,
    pub last_campaign: String,
    pub cells: Count,
    /// Of all its cells; [`Facts::NONE`] where they keep none.
    pub facts: Facts,
}

impl Part {
    /// One without cells.
    pub(super) fn empty(
        stream: StreamId,
        id: PartId,
        grain: Grain,
        reach: Reach,
        window: Timestamp,
    ) -> Part {
        Part {
            stream,
            id,
            grain,
            reach,
            window,
            since: Timestamp::MAX,
            until: Timestamp::MIN,
            first_campaign: String::new(),
            last_campaign: String::new(),
            cells: Count::ZERO,
            facts: Facts::NONE,
        }
    }

    /// Whether its cells say of which events they are.
    pub(super) fn keeps_facts(&self) -> bool {
        self.reach == Reach::Fresh || self.grain == Grain::AllTime
    }

    /// Says of itself what the cells of the next campaign add.
    pub(super) fn take_in(&mut self, campaign: &str, cells: &[Cell]) {
        if self.cells == Count::ZERO {
            self.first_campaign.push_str(campaign);
        }
        self.last_campaign.clear();
        self.last_campaign.push_str(campaign);
        self.cells += Count::of(cells.len());
        for cell in cells {
            self.facts = self.facts.and(cell.facts);
            let (since, until) = match self.grain.length() {
                Some(length) => (cell.start, cell.start + length),
                None => (cell.facts.first, cell.facts.last),
            };
            self.since = self.since.min(since);
            self.until = self.until.max(until);
        }
    }
}

/// A part that is being written, campaign by campaign.
#[derive(Debug)]
pub struct NewPart {
    part: Part,
    chunks: i32,
    filling: Builder,
}

/// Where parts write their chunks to.
#[derive(Debug, Default)]
pub struct Chunks(Rows);

impl Chunks {
    /// Adds one chunk of a part, of these campaigns; nothing where there are none.
    pub(super) fn write<'c>(
        &mut self,
        (stream, part): (StreamId, PartId),
        chunk: i32,
        with_facts: bool,
        campaigns: impl Iterator<Item = (&'c str, &'c [Cell])>,
    ) {
        let mut filling = Builder::default();
        for (campaign, cells) in campaigns {
            filling.push(campaign, cells);
        }
        if !filling.is_empty() {
            filling.write(stream.0, part, chunk, with_facts, &mut self.0);
        }
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// As the database does.
    pub fn flush(&mut self, connection: &mut PgConnection) -> Result<(), StoreError> {
        self.0.flush(connection)
    }

    /// Writes what there is, if it is much.
    ///
    /// # Errors
    /// As the database does.
    pub fn relieve(&mut self, connection: &mut PgConnection) -> Result<(), StoreError> {
        if self.0.size() < FLUSH_BYTES {
            return Ok(());
        }
        self.flush(connection)
    }
}

impl NewPart {
    /// An empty one.
    pub fn new(
        stream: StreamId,
        id: PartId,
        grain: Grain,
        reach: Reach,
        window: Timestamp,
    ) -> NewPart {
        NewPart {
            part: Part::empty(stream, id, grain, reach, window),
            chunks: 0,
            filling: Builder::default(),
        }
    }

    /// Adds the cells of the next campaign, in the order of their keys.
    pub fn push(&mut self, campaign: &str, cells: &[Cell], out: &mut Chunks) {
        self.part.take_in(campaign, cells);
        if !self.filling.has_room(cells.len()) {
            self.finish_chunk(out);
        }
        if cells.len() <= MOST_CELLS {
            self.filling.push(campaign, cells);
            return;
        }
        for some in cells.chunks(MOST_CELLS) {
            self.filling.push(campaign, some);
            self.finish_chunk(out);
        }
    }

    fn finish_chunk(&mut self, out: &mut Chunks) {
        if self.filling.is_empty() {
            return;
        }
        let facts = self.part.keeps_facts();
        let (stream, id) = (self.part.stream.0, self.part.id);
        self.filling
            .write(stream, id, self.chunks, facts, &mut out.0);
        self.chunks += 1;
    }

    /// What belongs into the directory; none if it has no cells.
    pub fn finish(mut self, out: &mut Chunks) -> Option<Part> {
        self.finish_chunk(out);
        if !self.part.keeps_facts() {
            self.part.facts = Facts::NONE;
        }
        (self.part.cells > Count::ZERO).then_some(self.part)
    }
}

/// A name for a part that is not a commit's.
///
/// # Errors
/// As the database does.
pub fn new_id(connection: &mut PgConnection) -> Result<PartId, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        id: PartId,
    }
    let row: Row = prepared("SELECT nextval('commit_ids') AS id").get_result(connection)?;
    Ok(row.id)
}

/// Enters parts into the directory. Their chunks are there.
///
/// # Errors
/// As the database does.
pub fn enter(connection: &mut PgConnection, table: &str, parts: &[Part]) -> Result<(), StoreError> {
    if parts.is_empty() {
        return Ok(());
    }
    fn column<T>(parts: &[Part], of: impl Fn(&Part) -> T) -> Vec<T> {
        parts.iter().map(of).collect()
    }
    let optional = |of: fn(&Part) -> Timestamp| -> Vec<Timestamp> {
        column(parts, |p| known(of(p)).unwrap_or(Timestamp::MIN))
    };
    let text = format!(
        "INSERT INTO {table} (stream_id, part_id, grain, reach, window_start, since, until, first_campaign, last_campaign,
             cells, first_event_time, last_event_time, commit_id, committed_at)
         SELECT stream_id, part_id, grain, reach, window_start, since, until, first_campaign, last_campaign, cells,
             NULLIF(first_event_time, '-infinity'), NULLIF(last_event_time, '-infinity'), commit_id,
             NULLIF(committed_at, '-infinity')
         FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
             AS p (stream_id, part_id, grain, reach, window_start, since, until, first_campaign, last_campaign, cells,
                   first_event_time, last_event_time, commit_id, committed_at)"
    );
    prepared(&text)
        .bind::<Array<Integer>, _>(Integers(&column(parts, |p| p.stream.0)))
        .bind::<Array<BigInt>, _>(Bigints(&column(parts, |p| p.id)))
        .bind::<Array<SmallInt>, _>(Shorts(&column(parts, |p| p.grain.number())))
        .bind::<Array<SmallInt>, _>(Shorts(&column(parts, |p| p.reach.number())))
        .bind::<Array<Timestamptz>, _>(Timestamps(&column(parts, |p| p.window)))
        .bind::<Array<Timestamptz>, _>(Timestamps(&column(parts, |p| p.since)))
        .bind::<Array<Timestamptz>, _>(Timestamps(&column(parts, |p| p.until)))
        .bind::<Array<Text>, _>(column(parts, |p| p.first_campaign.clone()))
        .bind::<Array<Text>, _>(column(parts, |p| p.last_campaign.clone()))
        .bind::<Array<BigInt>, _>(Bigints(&column(parts, |p| p.cells)))
        .bind::<Array<Timestamptz>, _>(Timestamps(&optional(|p| p.facts.first)))
        .bind::<Array<Timestamptz>, _>(Timestamps(&optional(|p| p.facts.last)))
        .bind::<Array<BigInt>, _>(Bigints(&column(parts, |p| p.facts.commit_id)))
        .bind::<Array<Timestamptz>, _>(Timestamps(&optional(|p| p.facts.committed_at)))
        .execute(connection)?;
    Ok(())
}

/// Facts that are not kept are null.
fn known(time: Timestamp) -> Option<Timestamp> {
    Some(time).filter(|time| *time != Timestamp::MIN && *time != Timestamp::MAX)
}

/// Says in the directory `table` what a part of it is by now.
pub(super) fn enter_anew(
    connection: &mut PgConnection,
    table: &str,
    part: &Part,
) -> Result<(), StoreError> {
    sql_query(format!(
        "UPDATE {table} SET since = $3, until = $4, first_campaign = $5, last_campaign = $6, cells = $7, first_event_time = $8,
             last_event_time = $9, commit_id = $10, committed_at = $11
         WHERE stream_id = $1 AND part_id = $2"
    ))
    .bind::<Integer, _>(part.stream.0)
    .bind::<BigInt, _>(part.id)
    .bind::<Timestamptz, _>(part.since)
    .bind::<Timestamptz, _>(part.until)
    .bind::<Text, _>(&part.first_campaign)
    .bind::<Text, _>(&part.last_campaign)
    .bind::<BigInt, _>(part.cells)
    .bind::<Nullable<Timestamptz>, _>(known(part.facts.first))
    .bind::<Nullable<Timestamptz>, _>(known(part.facts.last))
    .bind::<BigInt, _>(part.facts.commit_id)
    .bind::<Nullable<Timestamptz>, _>(known(part.facts.committed_at))
    .execute(connection)?;
    Ok(())
}

/// The columns of a [`PartRow`].
macro_rules! part_columns {
    () => {
        "stream_id, part_id, grain, reach, window_start, since, until, first_campaign, last_campaign, cells"
    };
}
pub(in crate::store) use part_columns;

/// A part as the directory is read.
#[derive(QueryableByName)]
pub struct PartRow {
    #[diesel(sql_type = Integer)]
    stream_id: i32,
    #[diesel(sql_type = BigInt)]
    part_id: PartId,
    #[diesel(sql_type = SmallInt)]
    grain: i16,
    #[diesel(sql_type = SmallInt)]
    reach: i16,
    #[diesel(sql_type = Timestamptz)]
    window_start: Timestamp,
    #[diesel(sql_type = Timestamptz)]
    since: Timestamp,
    #[diesel(sql_type = Timestamptz)]
    until: Timestamp,
    #[diesel(sql_type = Text)]
    first_campaign: String,
    #[diesel(sql_type = Text)]
    last_campaign: String,
    #[diesel(sql_type = BigInt)]
    cells: Count,
}

impl PartRow {
    /// The part, without its facts; none if a later version wrote it.
    pub fn part(self) -> Option<Part> {
        Some(Part {
            stream: StreamId(self.stream_id),
            id: self.part_id,
            grain: Grain::of(self.grain)?,
            reach: Reach::of(self.reach)?,
            window: self.window_start,
            since: self.since,
            until: self.until,
            first_campaign: self.first_campaign,
            last_campaign: self.last_campaign,
            cells: self.cells,
            facts: Facts::NONE,
        })
    }
}

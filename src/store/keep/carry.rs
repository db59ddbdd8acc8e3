//! Parts of the sums are carried to longer grains and merged, so that few of them are read.
//!
//! Each step is one transaction: it reads some parts of a partition in the order of their campaigns, adds up what is
//! of one key, writes the outcome as new parts, and takes the old ones out of the directory. A reader sees the parts
//! before or those after, and both say the same.
//!
//! - **Carry**: the oldest fresh parts of a grain become parts of windows, and one fresh part of the next grain.
//! - **Merge**: parts of one window become one, or, where it is long for what is in it by now, one of each shorter window.
//!
//! One session at a time works on a grain of a partition (an advisory lock of the transaction). Were there two all the same, they would
//! take the same parts out of the directory, and the one that finds fewer there than it has read rolls back.

use std::cmp::Ordering;
use std::collections::binary_heap::{BinaryHeap, PeekMut};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque, btree_map};
use std::ops::Range;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection as _;
use diesel::pg::PgRowByRowLoadingMode;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Integer, SmallInt, Text, Timestamptz};

use crate::crash;
use crate::event::Count;
use crate::store::columns::{Bigints, Integers};
use crate::store::locks;
use crate::store::prepared::prepared;
use crate::store::sums::backlog::MOST_WAITING;
use crate::store::sums::chunk::{
    self, Cell, Chunk, ChunkRow, MOST_CELLS, StartsRow, chunk_columns,
};
use crate::store::sums::part::{self, Chunks, NewPart, Part, PartId, PartRow, part_columns};
use crate::store::sums::{Grain, Reach};
use crate::store::{StoreError, StreamId};
use crate::time::{Length, Timestamp};

/// Which fresh parts are carried.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    /// Of these grains, the first and the last.
    grains: (Grain, Grain),
    /// From how many of a partition on: of minutes, one a commit; of each longer grain.
    minutes: i64,
    others: i64,
    /// Fewer too, if nothing was counted since into any of them: each is read by whoever asks for whatever time.
    idle: Duration,
}

impl Due {
    /// Few enough for readers, enough that cells of one key meet before they are written again.
    pub const USUAL: Due = Due {
        grains: (Grain::Minute, Grain::SixtyFourDays),
        minutes: 8,
        others: 6,
        idle: Duration::from_secs(60),
    };
    /// Minutes alone, and all but minutes: a long step of the others must not keep those of minutes waiting.
    pub const MINUTES: Due = Due {
        grains: (Grain::Minute, Grain::Minute),
        ..Due::USUAL
    };
    pub const OTHERS: Due = Due {
        grains: (Grain::Hour, Grain::SixtyFourDays),
        ..Due::USUAL
    };
    /// All there are.
    pub const AT_ONCE: Due = Due {
        minutes: 1,
        others: 1,
        ..Due::USUAL
    };
}

const BETWEEN_LOOKS: Duration = Duration::from_millis(20);
/// Whoever is at it for longer will not be done sooner because we wait.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// The most parts of one step.
const MOST_PARTS: i64 = 64;
/// A window is worth a part of its own from so many cells on, beyond the first few.
const CELLS_A_PART: usize = 2_048;
const FEW_WINDOWS: usize = 4;
/// Parts of one window are merged from so many on that are of about one size.
const MERGED: usize = 3;
/// So many numbers of parts that are gone may be among those that are looked over for fresh ones.
const LOOKED_OVER: i64 = 2_048;
/// Chunks of the parts of a step that are in memory at a time: about six megabytes.
const CHUNKS_AT_ONCE: usize = 512;

/// What a step did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Parts that are gone.
    pub parts: u64,
    /// Parts that they became.
    pub into: u64,
    pub cells: u64,
}

/// Carries the fresh parts of one partition and grain, if some are due. Returns what was done, none if there was nothing, or
/// somebody else was at it.
///
/// # Errors
/// When the database does not answer. Nothing is changed then.
pub fn carry_some(connection: &mut PgConnection, due: Due) -> Result<Option<Carried>, StoreError> {
    #[derive(QueryableByName)]
    struct Fresh {
        #[diesel(sql_type = Integer)]
        stream_id: i32,
        #[diesel(sql_type = SmallInt)]
        grain: i16,
    }
    let fresh: Vec<Fresh> = prepared(
        "SELECT stream_id, grain FROM sum_parts_latest WHERE reach = 0 AND grain BETWEEN $1 AND $2 GROUP BY stream_id, grain
         HAVING count(*) >= CASE grain WHEN 0 THEN $3 ELSE $4 END
             OR max(committed_at) < clock_timestamp() - interval '1 millisecond' * $5
         ORDER BY grain, count(*) DESC",
    )
    .bind::<SmallInt, _>(due.grains.0.number())
    .bind::<SmallInt, _>(due.grains.1.number())
    .bind::<BigInt, _>(due.minutes)
    .bind::<BigInt, _>(due.others)
    .bind::<BigInt, _>(i64::try_from(due.idle.as_millis()).unwrap_or(i64::MAX))
    .load(connection)?;
    for Fresh { stream_id, grain } in fresh {
        let (stream, Some(grain)) = (StreamId(stream_id), Grain::of(grain)) else {
            continue;
        };
        let carried = in_turn(connection, (stream, grain), |connection| {
            let found: Vec<PartRow> = prepared(
                concat!("SELECT ", part_columns!(), "
                 FROM sum_parts_latest WHERE stream_id = $1 AND grain = $2 AND reach = 0 ORDER BY part_id LIMIT $3"),
            )
            .bind::<Integer, _>(stream.0)
            .bind::<SmallInt, _>(grain.number())
            .bind::<BigInt, _>(MOST_PARTS)
            .load(connection)?;
            let parts: Vec<Part> = found.into_iter().filter_map(PartRow::part).collect();
            // Somebody else was quicker.
            if parts.is_empty() {
                return Ok(None);
            }
            rewrite(connection, parts, grain.next()).map(Some)
        })?;
        if carried.is_some() {
            return Ok(carried);
        }
    }
    Ok(None)
}

/// Sees to it that no more than [`MOST_WAITING`] parts of minutes wait to be carried in any of these partitions: carries some, or
/// waits for who is at it. Called by who adds to them, so that they do not pile up before readers.
///
/// # Errors
/// When the database does not answer.
pub fn keep_up(connection: &mut PgConnection, streams: &[StreamId]) -> Result<(), StoreError> {
    #[derive(QueryableByName)]
    struct Waiting {
        #[diesel(sql_type = BigInt)]
        parts: i64,
    }
    let streams: Vec<i32> = streams.iter().map(|stream| stream.0).collect();
    let began = Instant::now();
    while began.elapsed() < LONGEST_WAIT {
        let waiting: Waiting = prepared(
            "SELECT COALESCE(max(parts), 0) AS parts FROM (
                 SELECT count(*) AS parts FROM sum_parts_latest WHERE stream_id = ANY($1) AND grain = 0
                 GROUP BY stream_id) AS s",
        )
        .bind::<Array<Integer>, _>(Integers(&streams))
        .get_result(connection)?;
        if waiting.parts <= MOST_WAITING.get() {
            break;
        }
        if carry_some(connection, Due::MINUTES)?.is_none() {
            std::thread::sleep(BETWEEN_LOOKS);
        }
    }
    Ok(())
}

/// Merges the parts of one window, if some of about one size are there. Returns as [`carry_some`] does.
///
/// # Errors
/// When the database does not answer. Nothing is changed then.
pub fn merge_some(connection: &mut PgConnection) -> Result<Option<Carried>, StoreError> {
    #[derive(QueryableByName)]
    struct Window {
        #[diesel(sql_type = Integer)]
        stream_id: i32,
        #[diesel(sql_type = SmallInt)]
        grain: i16,
        #[diesel(sql_type = SmallInt)]
        reach: i16,
        #[diesel(sql_type = Timestamptz)]
        window_start: Timestamp,
    }
    let windows: Vec<Window> = prepared(
        "SELECT stream_id, grain, reach, window_start FROM sum_parts WHERE reach > 0
         GROUP BY stream_id, grain, reach, window_start HAVING count(*) >= $1 ORDER BY count(*) DESC, grain",
    )
    .bind::<BigInt, _>(MERGED as i64)
    .load(connection)?;
    for window in windows {
        let (stream, Some(grain), Some(reach)) = (
            StreamId(window.stream_id),
            Grain::of(window.grain),
            Reach::of(window.reach),
        ) else {
            continue;
        };
        let merged = in_turn(connection, (stream, grain), |connection| {
            let found: Vec<PartRow> = prepared(
                concat!("SELECT ", part_columns!(), "
                 FROM sum_parts WHERE stream_id = $1 AND grain = $2 AND reach = $3 AND window_start = $4
                 ORDER BY cells, part_id"),
            )
            .bind::<Integer, _>(stream.0)
            .bind::<SmallInt, _>(grain.number())
            .bind::<SmallInt, _>(reach.number())
            .bind::<Timestamptz, _>(window.window_start)
            .load(connection)?;
            let mut parts: Vec<Part> = found.into_iter().filter_map(PartRow::part).collect();
            let Some(some) = of_one_size(&parts) else {
                return Ok(None);
            };
            let parts = parts.drain(some).collect();
            rewrite(connection, parts, None).map(Some)
        })?;
        if merged.is_some() {
            return Ok(merged);
        }
    }
    Ok(None)
}

/// Which of these parts, smallest first, are merged: the first few of which each is at most twice as large as those before it
/// together. So a cell is written again about as often as what it is among has doubled.
fn of_one_size(parts: &[Part]) -> Option<Range<usize>> {
    (0..parts.len()).find_map(|from| {
        let mut cells = Count::ZERO;
        let fits = |part: &&Part| {
            let fits = cells == Count::ZERO || part.cells.get() / 2 <= cells.get();
            cells += part.cells;
            fits
        };
        let some = parts.iter().skip(from).take_while(fits).count();
        let some = some.min(MOST_PARTS as usize);
        (some >= MERGED).then(|| from..from + some)
    })
}

/// Runs a step on a partition and a grain, unless another session is at it.
fn in_turn<T>(
    connection: &mut PgConnection,
    (stream, grain): (StreamId, Grain),
    step: impl FnOnce(&mut PgConnection) -> Result<Option<T>, StoreError>,
) -> Result<Option<T>, StoreError> {
    let done = connection.transaction(|connection| {
        if !locks::try_take_sums(connection, stream, grain)? {
            return Ok(None);
        }
        // Nobody waits for it to be on the disk: were it lost, the parts that it replaces would be there again.
        connection.batch_execute("SET LOCAL synchronous_commit = off")?;
        crash::point("before-carry");
        let done = step(connection)?;
        crash::point("before-carry-commit");
        Ok::<_, StoreError>(done)
    })?;
    if done.is_some() {
        crash::point("after-carry");
    }
    Ok(done)
}

/// Puts other parts in the place of these, which are of one partition and grain: parts of windows and, if there is a `next`
/// grain, one of that.
fn rewrite(
    connection: &mut PgConnection,
    parts: Vec<Part>,
    next: Option<Grain>,
) -> Result<Carried, StoreError> {
    let Some(first) = parts.first() else {
        return Ok(Carried::default());
    };
    let (stream, grain) = (first.stream, first.grain);
    let ids: Vec<PartId> = parts.iter().map(|part| part.id).collect();
    let reach = reach(connection, &parts)?;
    let cells: Count = parts.iter().map(|part| part.cells).sum();
    let mut inputs = Inputs::new(connection, parts)?;
    let mut out = Chunks::default();
    let mut windows: BTreeMap<Timestamp, NewPart> = BTreeMap::new();
    let mut longer: Option<NewPart> = None;
    let (mut of_campaign, mut of_window, mut campaign) = (Vec::new(), Vec::new(), String::new());
    while inputs.next(connection, &mut campaign, &mut of_campaign)? {
        add_up(&mut of_campaign)?;
        for cells in of_campaign.chunk_by(|a, b| reach.window(a.start) == reach.window(b.start)) {
            let Some(cell) = cells.first() else { continue };
            let window = reach.window(cell.start);
            let part = match windows.entry(window) {
                btree_map::Entry::Occupied(known) => known.into_mut(),
                btree_map::Entry::Vacant(new) => {
                    let id = part::new_id(connection)?;
                    new.insert(NewPart::new(stream, id, grain, reach, window))
                }
            };
            part.push(&campaign, cells, &mut out);
        }
        if let Some(next) = next {
            of_window.clear();
            of_window.extend(of_campaign.iter().map(|cell| Cell {
                start: next.start(cell.start),
                ..*cell
            }));
            add_up(&mut of_window)?;
            let part = match &mut longer {
                Some(part) => part,
                None => {
                    let reach = if next == Grain::AllTime {
                        Reach::AllTime
                    } else {
                        Reach::Fresh
                    };
                    let id = part::new_id(connection)?;
                    longer.insert(NewPart::new(stream, id, next, reach, Timestamp::EPOCH))
                }
            };
            part.push(&campaign, &of_window, &mut out);
        }
        out.relieve(connection)?;
    }
    let made = windows.into_values().chain(longer);
    let made: Vec<Part> = made.filter_map(|part| part.finish(&mut out)).collect();
    out.flush(connection)?;
    crash::point("after-carry-chunks");
    let gone = prepared("DELETE FROM sum_parts WHERE stream_id = $1 AND part_id = ANY($2)")
        .bind::<Integer, _>(stream.0)
        .bind::<Array<BigInt>, _>(Bigints(&ids))
        .execute(connection)?;
    if gone != ids.len() {
        return Err(StoreError::Busy(
            "the parts that were read are not all there any more; nothing was merged",
        ));
    }
    crash::point("after-carry-directory");
    prepared("DELETE FROM sum_chunks WHERE stream_id = $1 AND part_id = ANY($2)")
        .bind::<Integer, _>(stream.0)
        .bind::<Array<BigInt>, _>(Bigints(&ids))
        .execute(connection)?;
    if next.is_some() {
        look_from(connection, (stream, grain), &ids)?;
    }
    crash::point("before-carry-entered");
    part::enter(connection, "sum_parts", &made)?;
    Ok(Carried {
        parts: ids.len() as u64,
        into: made.len() as u64,
        cells: cells.as_u64(),
    })
}

/// Fresh parts are looked for behind these, which were the oldest. Not after every step: a row that is updated often is itself
/// what readers walk over while somebody holds a snapshot.
fn look_from(
    connection: &mut PgConnection,
    (stream, grain): (StreamId, Grain),
    carried: &[PartId],
) -> Result<(), StoreError> {
    let behind = carried
        .iter()
        .max()
        .map_or(0, |last| last.saturating_add(1));
    prepared(
        "INSERT INTO sum_fresh_from AS f (stream_id, grain, part_id) VALUES ($1, $2, $3)
         ON CONFLICT (stream_id, grain) DO UPDATE SET part_id = excluded.part_id WHERE f.part_id + $4 <= excluded.part_id",
    )
    .bind::<Integer, _>(stream.0)
    .bind::<SmallInt, _>(grain.number())
    .bind::<BigInt, _>(behind)
    .bind::<BigInt, _>(LOOKED_OVER)
    .execute(connection)?;
    Ok(())
}

/// Puts cells in order, and those of one key together.
fn add_up(cells: &mut Vec<Cell>) -> Result<(), StoreError> {
    cells.sort_by_key(Cell::key);
    Ok(chunk::coalesce(cells)?)
}

/// The shortest windows that are worth parts of their own.
fn reach(connection: &mut PgConnection, parts: &[Part]) -> Result<Reach, StoreError> {
    let Some(first) = parts.first() else {
        return Ok(Reach::AllTime);
    };
    if first.grain == Grain::AllTime {
        return Ok(Reach::AllTime);
    }
    let cells: Count = parts.iter().map(|part| part.cells).sum();
    let most = FEW_WINDOWS + cells.get().unsigned_abs() as usize / CELLS_A_PART;
    let longest_input = parts
        .iter()
        .map(|part| part.reach)
        .filter(|reach| *reach != Reach::Fresh)
        .min();
    let starts = starts(connection, parts)?;
    let shortest = Reach::WINDOWS
        .into_iter()
        .filter(|reach| holds(*reach, first.grain));
    let found = shortest.into_iter().find(|reach| {
        let windows: BTreeSet<Timestamp> =
            starts.iter().map(|start| reach.window(*start)).collect();
        windows.len() <= most
    });
    let found = found.unwrap_or(Reach::AllTime);
    Ok(longest_input.map_or(found, |longest| found.min(longest)))
}

/// Whether a window holds intervals of a grain whole.
fn holds(reach: Reach, grain: Grain) -> bool {
    match (reach.length(), grain.length()) {
        (Some(window), Some(interval)) => {
            window > interval || window == interval && grain != Grain::Minute
        }
        (None, _) => reach == Reach::AllTime,
        (Some(_), None) => false,
    }
}

/// The hours in which cells of these parts begin.
fn starts(
    connection: &mut PgConnection,
    parts: &[Part],
) -> Result<BTreeSet<Timestamp>, StoreError> {
    let mut starts = BTreeSet::new();
    let hour = Reach::Hour;
    let (since, until) = parts
        .iter()
        .fold((Timestamp::MAX, Timestamp::MIN), |(since, until), part| {
            (since.min(part.since), until.max(part.until))
        });
    if until - since <= Length::HOUR {
        starts.insert(hour.window(since));
        starts.insert(hour.window(until - Length::MICROSECOND));
        return Ok(starts);
    }
    let Some(stream) = parts.first().map(|part| part.stream) else {
        return Ok(starts);
    };
    let ids: Vec<PartId> = parts.iter().map(|part| part.id).collect();
    // All of them are read once more when they are rewritten, so this takes no more than it needs.
    let rows =
        prepared("SELECT cells, minute FROM sum_chunks WHERE stream_id = $1 AND part_id = ANY($2)")
            .bind::<Integer, _>(stream.0)
            .bind::<Array<BigInt>, _>(Bigints(&ids))
            .load_iter::<StartsRow, PgRowByRowLoadingMode>(connection)?;
    for row in rows {
        let row = row?;
        let mut last = None;
        for start in row.starts()?.map(|start| hour.window(start)) {
            if last.replace(start) != Some(start) {
                starts.insert(start);
            }
        }
    }
    Ok(starts)
}

/// Parts as they are read together, in the order of their campaigns: the one whose campaign comes first is on top.
struct Inputs(BinaryHeap<Input>);

impl Inputs {
    fn new(connection: &mut PgConnection, parts: Vec<Part>) -> Result<Inputs, StoreError> {
        let (together, cells) = (
            parts.len(),
            parts.iter().map(|part| part.cells).sum::<Count>(),
        );
        let inputs = parts.into_iter().map(|part| Input::new(part, together));
        let mut inputs: Vec<Input> = inputs.collect();
        if cells <= Count::of(CHUNKS_AT_ONCE * MOST_CELLS) {
            fill_all(connection, &mut inputs)?;
        }
        for input in &mut inputs {
            input.fill(connection)?;
        }
        inputs.retain(|input| input.head().is_some());
        Ok(Inputs(inputs.into()))
    }

    /// Puts the next campaign and its cells of all parts in the place of what is there. Returns whether there is one.
    fn next(
        &mut self,
        connection: &mut PgConnection,
        campaign: &mut String,
        cells: &mut Vec<Cell>,
    ) -> Result<bool, StoreError> {
        campaign.clear();
        cells.clear();
        let Some(head) = self.0.peek().and_then(Input::head) else {
            return Ok(false);
        };
        campaign.push_str(head);
        while let Some(mut input) = self.0.peek_mut() {
            if input.head() != Some(campaign.as_str()) {
                break;
            }
            input.take(cells);
            input.fill(connection)?;
            if input.head().is_none() {
                PeekMut::pop(input);
            }
        }
        Ok(true)
    }
}

/// Reads parts of one partition to their ends, all at once: those that small commits leave are many, and have a few cells each.
fn fill_all(connection: &mut PgConnection, inputs: &mut [Input]) -> Result<(), StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        part_id: PartId,
        #[diesel(embed)]
        chunk: ChunkRow,
    }
    let Some(stream) = inputs.first().map(|input| input.part.stream) else {
        return Ok(());
    };
    let ids: Vec<PartId> = inputs.iter().map(|input| input.part.id).collect();
    let rows: Vec<Row> = prepared(concat!(
        "SELECT c.part_id, ",
        chunk_columns!(),
        "
         FROM sum_chunks AS c WHERE c.stream_id = $1 AND c.part_id = ANY($2)
         ORDER BY c.part_id, c.first_campaign, c.chunk"
    ))
    .bind::<Integer, _>(stream.0)
    .bind::<Array<BigInt>, _>(Bigints(&ids))
    .load(connection)?;
    let mut by_id: HashMap<PartId, &mut Input> = inputs
        .iter_mut()
        .map(|input| (input.part.id, input))
        .collect();
    for Row { part_id, chunk } in rows {
        if let Some(input) = by_id.get_mut(&part_id) {
            input.chunks.push_back(chunk.unpack()?);
        }
    }
    by_id.into_values().for_each(|input| input.at_end = true);
    Ok(())
}

/// A part as it is read, in the order of its campaigns.
struct Input {
    part: Part,
    chunks: VecDeque<Chunk>,
    /// Which campaign of the first chunk comes next.
    group: usize,
    /// How many chunks are read at a time.
    page: usize,
    /// The last chunk that was asked for.
    after: (String, i32),
    at_end: bool,
}

impl Input {
    /// One of so many.
    fn new(part: Part, together: usize) -> Input {
        Input {
            part,
            page: CHUNKS_AT_ONCE / together.clamp(8, MOST_PARTS as usize),
            chunks: VecDeque::new(),
            group: 0,
            after: (String::new(), -1),
            at_end: false,
        }
    }

    /// Reads on, if what was read is used up.
    fn fill(&mut self, connection: &mut PgConnection) -> Result<(), StoreError> {
        while self
            .chunks
            .front()
            .is_some_and(|chunk| chunk.campaigns() <= self.group)
        {
            self.chunks.pop_front();
            self.group = 0;
        }
        if !self.chunks.is_empty() || self.at_end {
            return Ok(());
        }
        let rows: Vec<ChunkRow> = prepared(
            concat!("SELECT ", chunk_columns!(), "
             FROM sum_chunks AS c WHERE c.stream_id = $1 AND c.part_id = $2 AND (c.first_campaign, c.chunk) > ($3, $4)
             ORDER BY c.first_campaign, c.chunk LIMIT $5"),
        )
        .bind::<Integer, _>(self.part.stream.0)
        .bind::<BigInt, _>(self.part.id)
        .bind::<Text, _>(self.after.0.clone())
        .bind::<Integer, _>(self.after.1)
        .bind::<BigInt, _>(self.page as i64)
        .load(connection)?;
        self.at_end = rows.len() < self.page;
        if let Some(last) = rows.last() {
            self.after = (last.first_campaign.clone(), last.chunk);
        }
        for row in rows {
            self.chunks.push_back(row.unpack()?);
        }
        Ok(())
    }

    /// The campaign that comes next.
    fn head(&self) -> Option<&str> {
        let (name, _) = self.chunks.front()?.group(self.group)?;
        Some(name)
    }

    /// Takes its cells.
    fn take(&mut self, cells: &mut Vec<Cell>) {
        let group = self
            .chunks
            .front()
            .and_then(|chunk| chunk.group(self.group));
        if let Some((_, more)) = group {
            cells.extend_from_slice(more);
        }
        self.group += 1;
    }
}

/// Of two, the greater is the one whose campaign comes first.
impl Ord for Input {
    fn cmp(&self, other: &Input) -> Ordering {
        other.head().cmp(&self.head())
    }
}

impl PartialOrd for Input {
    fn partial_cmp(&self, other: &Input) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Input {
    fn eq(&self, other: &Input) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Input {}

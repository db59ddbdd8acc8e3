//! What must hold over the rows of a file: one row a key, and sums that its own totals agree with.

use std::collections::{BTreeMap, BinaryHeap, HashSet};
use std::fs::File;
use std::hash::{BuildHasher as _, Hash};
use std::io::{self, BufReader, BufWriter, Read as _, Seek as _, SeekFrom};

use chrono::NaiveDate;
use foldhash::quality::FixedState;

use super::refusal::Refusal;
use super::row::FileRow;
use crate::currency::Currency;
use crate::report_row::Values;

/// Sums of the known values, in the order of [`Values::NAMES`], and how many rows did not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    pub known: [i128; 5],
    pub unknown: [u64; 5],
    pub rows: u64,
}

impl Sums {
    /// The sums of which a row says something. What none says is unknown, and not the zero that nothing adds up to.
    pub fn told(&self) -> [Option<i128>; 5] {
        let mut told = self.known.map(Some);
        for (sum, unknown) in told.iter_mut().zip(self.unknown) {
            if unknown == self.rows {
                *sum = None;
            }
        }
        told
    }

    /// Adds a row's values.
    pub fn add(&mut self, values: &Values) {
        self.rows = self.rows.saturating_add(1);
        let sums = self.known.iter_mut().zip(&mut self.unknown);
        for ((known, unknown), value) in sums.zip(values.numbers()) {
            match value {
                // So many rows of the largest number no file has.
                Some(value) => *known = known.saturating_add(value.into()),
                None => *unknown = unknown.saturating_add(1),
            }
        }
    }
}

/// A key as 128 bits of hashes.
pub fn hashed(key: &impl Hash) -> u128 {
    let hash = |seed| u128::from(FixedState::with_seed(seed).hash_one(key));
    (hash(1) << 64) | hash(2)
}

/// A row's key and values, as hashes: 32 bytes, however long its names are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Mark {
    key: u128,
    number: u64,
    values: u64,
}

impl Mark {
    const LENGTH: usize = 32;

    fn of(row: &FileRow) -> Mark {
        let key = (&row.campaign_id, row.day, &row.slice);
        Mark::new(&key, row.place.number(), &(row.values, row.currency))
    }

    fn new(key: &impl Hash, number: u64, values: &impl Hash) -> Mark {
        Mark {
            key: hashed(key),
            number,
            values: FixedState::with_seed(3).hash_one(values),
        }
    }

    fn write(self, out: &mut impl io::Write) -> io::Result<()> {
        out.write_all(&self.key.to_le_bytes())?;
        out.write_all(&self.number.to_le_bytes())?;
        out.write_all(&self.values.to_le_bytes())
    }

    fn read(from: &mut impl io::Read) -> io::Result<Mark> {
        let (mut key, mut number, mut values) = ([0; 16], [0; 8], [0; 8]);
        from.read_exact(&mut key)?;
        from.read_exact(&mut number)?;
        from.read_exact(&mut values)?;
        Ok(Mark {
            key: u128::from_le_bytes(key),
            number: u64::from_le_bytes(number),
            values: u64::from_le_bytes(values),
        })
    }
}

/// So many marks are held in memory, 16 MiB; then they are sorted and written to a temporary file.
const IN_MEMORY: usize = 1 << 19;

/// Which rows share a key. What is in memory does not grow with the file.
#[derive(Debug)]
pub struct Keys {
    marks: Vec<Mark>,
    spilled: Option<File>,
    /// Where each sorted run begins, in marks, and how many it has.
    runs: Vec<(u64, u64)>,
    written: u64,
    in_memory: usize,
}

/// Rows that share a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shared {
    /// Numbers of the rows that say what an earlier one said, sorted.
    pub repeated: Vec<u64>,
    /// Pairs of rows that contradict one another: the first few, and how many there are.
    pub contradicting: Vec<(u64, u64)>,
    pub contradictions: u64,
}

impl Default for Keys {
    fn default() -> Keys {
        Keys {
            marks: Vec::new(),
            spilled: None,
            runs: Vec::new(),
            written: 0,
            in_memory: IN_MEMORY,
        }
    }
}

fn no_room(error: &io::Error) -> Refusal {
    Refusal::new(format!(
        "no room to sort its keys in a temporary file: {error}"
    ))
}

impl Keys {
    /// Takes in a row.
    ///
    /// # Errors
    /// When there is no room for temporary files.
    pub fn add(&mut self, row: &FileRow) -> Result<(), Refusal> {
        self.push(Mark::of(row))
    }

    /// Takes in what says `values` of `key`, by its number.
    ///
    /// # Errors
    /// As [`Keys::add`].
    pub fn mark(
        &mut self,
        key: &impl Hash,
        number: u64,
        values: &impl Hash,
    ) -> Result<(), Refusal> {
        self.push(Mark::new(key, number, values))
    }

    fn push(&mut self, mark: Mark) -> Result<(), Refusal> {
        self.marks.push(mark);
        if self.marks.len() >= self.in_memory {
            self.spill().map_err(|error| no_room(&error))?;
        }
        Ok(())
    }

    fn spill(&mut self) -> io::Result<()> {
        self.marks.sort_unstable();
        let file = match self.spilled.take() {
            Some(file) => file,
            None => tempfile::tempfile()?,
        };
        let mut out = BufWriter::new(file);
        for mark in &self.marks {
            mark.write(&mut out)?;
        }
        let count = u64::try_from(self.marks.len()).unwrap_or(u64::MAX);
        self.runs.push((self.written, count));
        self.written = self.written.saturating_add(count);
        self.marks.clear();
        self.spilled = Some(out.into_inner().map_err(io::IntoInnerError::into_error)?);
        Ok(())
    }

    /// Which rows share a key.
    ///
    /// # Errors
    /// When temporary files cannot be read.
    pub fn finish(self) -> Result<Shared, Refusal> {
        let mut found = Found::default();
        self.in_order(&mut |mark| found.add(mark))?;
        found.shared.repeated.sort_unstable();
        Ok(found.shared)
    }

    /// What says something else than another of its key: pairs of numbers, the first few, and how many there are.
    ///
    /// # Errors
    /// As [`Keys::finish`].
    pub fn contradictions(self) -> Result<(Vec<(u64, u64)>, u64), Refusal> {
        let mut found = Found::default();
        self.in_order(&mut |mark| {
            found.add(mark);
            found.shared.repeated.clear();
        })?;
        Ok((found.shared.contradicting, found.shared.contradictions))
    }

    /// The keys of which nothing but this number, the largest of all, was taken in.
    ///
    /// # Errors
    /// As [`Keys::finish`].
    pub fn only(self, number: u64) -> Result<HashSet<u128>, Refusal> {
        let (mut last, mut only) = (None, HashSet::new());
        self.in_order(&mut |mark| {
            // Of one key, the smallest number comes first.
            if last != Some(mark.key) && mark.number == number {
                only.insert(mark.key);
            }
            last = Some(mark.key);
        })?;
        Ok(only)
    }

    fn in_order(mut self, each: &mut dyn FnMut(Mark)) -> Result<(), Refusal> {
        if self.runs.is_empty() {
            self.marks.sort_unstable();
            self.marks.into_iter().for_each(each);
            return Ok(());
        }
        self.spill()
            .and_then(|()| self.merge(each))
            .map_err(|error| no_room(&error))
    }

    /// Merges the sorted runs.
    fn merge(&self, each: &mut dyn FnMut(Mark)) -> io::Result<()> {
        let Some(file) = &self.spilled else {
            return Ok(());
        };
        // Little enough for hundreds of runs: a tenth of what the marks had.
        const READ_AHEAD: u64 = 1 << 13;
        let length = u64::try_from(Mark::LENGTH).unwrap_or(u64::MAX);
        let mut runs: Vec<Run> = Vec::new();
        let mut heap = BinaryHeap::new();
        for (index, &(start, count)) in self.runs.iter().enumerate() {
            let mut run = Run {
                next: start,
                end: start.saturating_add(count),
                buffer: BufReader::new(io::Cursor::new(Vec::new())),
            };
            if let Some(mark) = run.next(file, length, READ_AHEAD)? {
                heap.push(std::cmp::Reverse((mark, index)));
            }
            runs.push(run);
        }
        while let Some(std::cmp::Reverse((mark, index))) = heap.pop() {
            each(mark);
            if let Some(run) = runs.get_mut(index)
                && let Some(mark) = run.next(file, length, READ_AHEAD)?
            {
                heap.push(std::cmp::Reverse((mark, index)));
            }
        }
        Ok(())
    }
}

/// A sorted run, read some marks at a time.
struct Run {
    next: u64,
    end: u64,
    buffer: BufReader<io::Cursor<Vec<u8>>>,
}

impl Run {
    fn next(&mut self, mut file: &File, length: u64, ahead: u64) -> io::Result<Option<Mark>> {
        if let Ok(mark) = Mark::read(&mut self.buffer) {
            return Ok(Some(mark));
        }
        let marks = ahead
            .checked_div(length)
            .unwrap_or(1)
            .min(self.end.saturating_sub(self.next));
        if marks == 0 {
            return Ok(None);
        }
        file.seek(SeekFrom::Start(self.next.saturating_mul(length)))?;
        let mut bytes = Vec::new();
        file.take(marks.saturating_mul(length))
            .read_to_end(&mut bytes)?;
        self.next = self.next.saturating_add(marks);
        self.buffer = BufReader::new(io::Cursor::new(bytes));
        Mark::read(&mut self.buffer).map(Some)
    }
}

/// Marks in order.
#[derive(Default)]
struct Found {
    /// The first row of the key that came last.
    first: Option<Mark>,
    shared: Shared,
}

impl Found {
    /// So many contradictions are told.
    const TOLD: usize = 20;

    fn add(&mut self, mark: Mark) {
        match self.first {
            Some(first) if first.key == mark.key => {
                if first.values == mark.values {
                    self.shared.repeated.push(mark.number);
                } else {
                    self.shared.contradictions = self.shared.contradictions.saturating_add(1);
                    if self.shared.contradicting.len() < Found::TOLD {
                        let pair = (first.number, mark.number);
                        self.shared.contradicting.push(pair);
                    }
                }
            }
            _ => self.first = Some(mark),
        }
    }
}

/// What is known of all rows of a file.
#[derive(Debug, Default)]
pub struct Gathered {
    pub rows: u64,
    pub first_day: Option<NaiveDate>,
    pub last_day: Option<NaiveDate>,
    pub sums: BTreeMap<Currency, Sums>,
    campaigns: HashSet<u64, FixedState>,
}

impl Gathered {
    /// So many campaigns are told apart. There are accounts of a hundred thousand.
    pub const MOST_CAMPAIGNS: usize = 1_000_000;

    /// Takes in a row.
    pub fn add(&mut self, row: &FileRow) {
        self.rows = self.rows.saturating_add(1);
        self.first_day = Some(self.first_day.map_or(row.day, |day| day.min(row.day)));
        self.last_day = self.last_day.max(Some(row.day));
        self.sums.entry(row.currency).or_default().add(&row.values);
        if self.campaigns.len() < Gathered::MOST_CAMPAIGNS {
            let hash = FixedState::with_seed(4).hash_one(&row.campaign_id);
            self.campaigns.insert(hash);
        }
    }

    /// How many campaigns there are, up to [`Gathered::MOST_CAMPAIGNS`].
    pub fn campaigns(&self) -> usize {
        self.campaigns.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Count, Platform};
    use crate::reports::row::Place;
    use proptest::prelude::*;

    fn row(campaign: u32, clicks: i64, line: u64) -> FileRow {
        FileRow {
            platform: Platform::Google,
            account: "1".to_owned(),
            campaign_id: format!("google:1:{campaign}"),
            campaign_name: String::new(),
            day: NaiveDate::from_ymd_opt(2024, 6, 3).expect("a day"),
            slice: String::new(),
            currency: Currency::from_code("EUR").expect("known"),
            values: Values {
                clicks: Some(Count::new(clicks)),
                ..Values::default()
            },
            place: Place::Line(line),
        }
    }

    #[test]
    fn rows_of_one_key_are_equal_or_contradict() {
        let mut keys = Keys::default();
        for row in [row(1, 5, 1), row(2, 5, 2), row(1, 5, 3), row(2, 6, 4)] {
            keys.add(&row).expect("room");
        }
        let shared = keys.finish().expect("room");
        assert_eq!(shared.repeated, [3]);
        assert_eq!(shared.contradicting, [(2, 4)]);
        assert_eq!(shared.contradictions, 1);
    }

    proptest! {
        #[test]
        fn spilled_or_not_the_same_rows_share_a_key(rows in prop::collection::vec((0..20_u32, 0..2_i64), 0..200), in_memory in 1..50_usize) {
            let shared = |in_memory| {
                let mut keys = Keys { in_memory, ..Keys::default() };
                for (line, (campaign, clicks)) in (1..).zip(&rows) {
                    keys.add(&row(*campaign, *clicks, line)).expect("room");
                }
                keys.finish().expect("room")
            };
            prop_assert_eq!(shared(in_memory), shared(IN_MEMORY));
        }

        #[test]
        fn keys_that_nothing_else_has_are_found(
            some in prop::collection::hash_set(0..50_u32, 0..40),
            others in prop::collection::hash_set(0..50_u32, 0..40),
            in_memory in 1..50_usize,
        ) {
            let mut keys = Keys { in_memory, ..Keys::default() };
            for (set, number) in [(&others, 1), (&some, 0)] {
                for key in set {
                    keys.mark(key, number, &()).expect("room");
                }
            }
            let only: HashSet<u128> = others.difference(&some).map(hashed).collect();
            prop_assert_eq!(keys.only(1).expect("room"), only);
        }

        #[test]
        fn what_contradicts_an_earlier_one_is_told(says in prop::collection::vec((0..9_u8, 0..2_u8), 0..60)) {
            let mut keys = Keys::default();
            for (number, (key, says)) in (0..).zip(&says) {
                keys.mark(key, number, says).expect("room");
            }
            let (pairs, all) = keys.contradictions().expect("room");
            let first = |key: u8| says.iter().position(|(other, _)| *other == key).expect("there");
            let other = says.iter().enumerate().filter(|(_, (key, said))| says[first(*key)].1 != *said);
            prop_assert_eq!(all, other.count() as u64);
            for (one, another) in pairs {
                let (one, another) = (says[one as usize], says[another as usize]);
                prop_assert!(one.0 == another.0 && one.1 != another.1);
            }
        }
    }
}

//! What must hold over all files of a call: of one time, a campaign's day is said once, and by one definition.

// Bytes from outside come through here.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::report_row::ReportRow;
use crate::reports::check::Keys;
use crate::reports::refusal::Refusal;

/// The lines of a file are told apart by so many bits of a number, files by the others.
const BITS: u32 = 44;

/// What the files of a call say so far. In memory it does not grow with them.
#[derive(Default)]
pub struct Across {
    values: Keys,
    definitions: Keys,
}

/// A row: which file of the call, and the line in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Where {
    pub file: usize,
    pub line: u64,
}

impl Where {
    fn number(self) -> u64 {
        let file = u64::try_from(self.file).unwrap_or(0);
        file.wrapping_shl(BITS) | self.line
    }

    fn of(number: u64) -> Where {
        let file = number.wrapping_shr(BITS);
        Where {
            file: usize::try_from(file).unwrap_or(usize::MAX),
            line: number ^ file.wrapping_shl(BITS),
        }
    }
}

/// Rows of which both cannot be taken.
#[derive(Debug, PartialEq, Eq)]
pub struct Contradiction {
    pub first: Where,
    pub second: Where,
    pub reason: &'static str,
    pub remedy: &'static str,
}

impl Across {
    /// Takes in a row.
    ///
    /// # Errors
    /// When there is no room for temporary files.
    pub fn add(&mut self, row: &ReportRow<'_>, at: Where) -> Result<(), Refusal> {
        let (id, day) = (row.campaign_id, row.day);
        let key = (id, day, row.slice, row.observed_at.get());
        self.values.mark(&key, at.number(), &row.values)?;
        if !row.values.say_something() {
            return Ok(());
        }
        let meaning = (row.definition, row.grain());
        self.definitions.mark(&(id, day), at.number(), &meaning)
    }

    /// The first few contradictions.
    ///
    /// # Errors
    /// As [`Across::add`].
    pub fn contradictions(self) -> Result<Vec<Contradiction>, Refusal> {
        let (values, _) = self.values.contradictions()?;
        let (definitions, _) = self.definitions.contradictions()?;
        let values = values.into_iter().map(|pair| {
            let reason = "says something else of the same campaign, day and time";
            let remedy = "each export has a time of its own: import them one by one, each with its --observed-at";
            (pair, reason, remedy)
        });
        let definitions = definitions.into_iter().map(|pair| {
            let reason = "counts the same campaign and day in another way";
            let remedy = "account, time zone, currency, what counts, and grain must be the same: import one kind of file";
            (pair, reason, remedy)
        });
        let all = values.chain(definitions);
        Ok(all
            .map(|((first, second), reason, remedy)| Contradiction {
                first: Where::of(first),
                second: Where::of(second),
                reason,
                remedy,
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_found_again_by_its_number() {
        for (file, line) in [(0, 0), (0, 7), (3, 1), (200, (1 << BITS) - 1)] {
            let at = Where { file, line };
            assert_eq!(Where::of(at.number()), at);
        }
    }
}

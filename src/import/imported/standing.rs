//! Which answers count when files are taken back: the newest of those that stand. Pure.
//!
//! A revision stands if anybody whose answers count has said it: the file it is from, or one that said the same again. So whoever
//! takes files back, in whatever order, is left with what the others say.

use std::collections::HashMap;

use crate::report_row::revisions::Revision;
use crate::time::Timestamp;

/// The file that says something, by number, and the line in it.
pub type Origin = (Option<i32>, Option<i64>);

/// Files that were taken back, and when files of an account were asked for.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// What a file said up to then does not count.
    pub undone: HashMap<i32, Timestamp>,
    /// Which files say what the platform said at an instant.
    pub asked: HashMap<Timestamp, Vec<i32>>,
}

impl Standing {
    fn is_taken_back(&self, file: i32, instant: Timestamp) -> bool {
        self.undone
            .get(&file)
            .is_some_and(|until| instant <= *until)
    }

    /// Who says something as of an instant, of those who count; none if all who do were taken back.
    fn at(&self, instant: Timestamp) -> Option<Origin> {
        let Some(files) = self.asked.get(&instant) else {
            // It came another way, or before it was noted who asked when.
            return Some((None, None));
        };
        let mut files = files.iter();
        let file = files.find(|file| !self.is_taken_back(**file, instant))?;
        Some((Some(*file), None))
    }

    /// Who says what a revision says, of those who count; none if it does not stand.
    pub fn origin(&self, revision: &Revision) -> Option<Origin> {
        let (file, _) = revision.origin;
        let first = match file {
            Some(file) if self.is_taken_back(file, revision.observed_at) => None,
            Some(_) => Some(revision.origin),
            None => self.at(revision.observed_at),
        };
        first.or_else(|| {
            let mut again = revision.confirmed_at.iter().rev();
            again.find_map(|instant| self.at(*instant))
        })
    }
}

/// What becomes of what is known of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It counts on.
    Stands,
    /// An older revision counts again: the so-manieth of the key's, and who says so.
    Restored(usize, Origin),
    /// Nothing is known that could. `mixed`: but for numbers of another kind than the day's, which are not added up.
    Withdrawn { mixed: bool },
}

/// A key of a campaign's day.
#[derive(Clone, Debug)]
pub struct Key {
    pub newest: Revision,
    pub older: Vec<Revision>,
}

/// What becomes of the keys of one campaign's day.
pub fn fates(day: &[Key], standing: &Standing) -> Vec<Fate> {
    let mut of_day = None;
    let candidates: Vec<_> = day
        .iter()
        .map(|key| {
            if standing.origin(&key.newest).is_some() {
                if key.newest.values.say_something() {
                    of_day = Some(key.newest.definition);
                }
                return None;
            }
            let mut older: Vec<_> = key.older.iter().enumerate().collect();
            older.sort_by_key(|(_, revision)| std::cmp::Reverse(revision.observed_at));
            let mut older = older.into_iter();
            let newest = older.find_map(|(nth, revision)| {
                let origin = standing.origin(revision)?;
                Some((nth, revision, origin))
            });
            Some(newest.filter(|(_, revision, _)| revision.values.say_something()))
        })
        .collect();
    // Of a day that loses all its rows, the kind that was asked for last.
    let restored = candidates.iter().flatten().flatten();
    let newest = restored.max_by_key(|(_, revision, _)| revision.observed_at);
    let of_day = of_day.or(newest.map(|(_, revision, _)| revision.definition));
    let fates = day.iter().zip(candidates).map(|(key, candidate)| {
        let Some(candidate) = candidate else {
            return Fate::Stands;
        };
        match candidate {
            Some((_, older, _)) if Some(older.definition) != of_day => {
                Fate::Withdrawn { mixed: true }
            }
            Some((_, older, _))
                if (older.values, older.definition)
                    == (key.newest.values, key.newest.definition) =>
            {
                Fate::Stands
            }
            Some((nth, _, origin)) => Fate::Restored(nth, origin),
            None => Fate::Withdrawn { mixed: false },
        }
    });
    fates
        .zip(day)
        .map(|(fate, key)| match fate {
            // There is nothing left to withdraw.
            Fate::Withdrawn { .. } if !key.newest.values.say_something() => Fate::Stands,
            fate => fate,
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::report_row::Values;
    use crate::report_row::revisions::Revisions;
    use proptest::prelude::*;

    fn said(instant: i64, file: Option<i32>, clicks: Option<i64>, definition: i32) -> Revision {
        Revision {
            observed_at: Timestamp::new(instant),
            confirmed_at: Vec::new(),
            values: Values::of([None, clicks, None, None, None]),
            definition,
            event_time: Timestamp::new(instant),
            origin: (file, file.map(i64::from)),
            counted_at: None,
        }
    }

    fn say(revisions: &mut Revisions, revision: Revision) {
        revisions.say(revision, |at| at);
    }

    /// Takes a file back, as the command does, and says what counts then.
    fn undo(known: &mut Revisions, standing: &mut Standing, file: i32, instant: i64) -> Fate {
        standing.undone.insert(file, Timestamp::new(instant));
        let Some((newest, older)) = known.0.split_last() else {
            return Fate::Stands;
        };
        let key = Key {
            newest: newest.clone(),
            older: older.to_vec(),
        };
        let fate = fates(std::slice::from_ref(&key), standing).remove(0);
        match &fate {
            Fate::Stands => {}
            Fate::Restored(nth, origin) => {
                let values = key.older[*nth].values;
                let restored = Revision {
                    values,
                    origin: *origin,
                    ..said(instant, None, None, 1)
                };
                say(known, restored);
            }
            Fate::Withdrawn { .. } => say(known, said(instant, Some(file), None, 1)),
        }
        fate
    }

    proptest! {
        /// Whatever is taken back, in whatever order: what counts is what the newest of the others says.
        #[test]
        fn what_counts_is_the_newest_answer_that_was_not_taken_back(
            clicks in prop::collection::vec(0_i64..3, 1..8),
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
            undone in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let mut left: BTreeMap<i32, i64> = (1..).zip(clicks).collect();
            let mut standing = Standing::default();
            let mut known = Revisions::default();
            let files: Vec<i32> = left.keys().copied().collect();
            let shuffled = order.iter().map(|at| files[at.index(files.len())]);
            for file in shuffled.chain(files.iter().copied()) {
                let instant = i64::from(file) * 10;
                standing.asked.insert(Timestamp::new(instant), vec![file]);
                say(&mut known, said(instant, Some(file), Some(left[&file]), 1));
            }
            for (nth, at) in (0..).zip(&undone) {
                let file = files[at.index(files.len())];
                undo(&mut known, &mut standing, file, 1_000 + 2 * nth);
                left.remove(&file);
                let expected = left.last_key_value().map(|(_, clicks)| *clicks);
                let counts = known.values().clicks.map(crate::event::Count::get);
                prop_assert_eq!(counts, expected);
                // Again: it changes nothing.
                prop_assert_eq!(undo(&mut known, &mut standing, file, 1_001 + 2 * nth), Fate::Stands);
            }
        }
    }

    #[test]
    fn what_came_otherwise_than_by_a_file_stands() {
        let mut standing = Standing::default();
        standing.undone.insert(1, Timestamp::new(50));
        assert_eq!(
            standing.origin(&said(5, None, Some(1), 1)),
            Some((None, None))
        );
        // As it does if it says the same as a file that was taken back.
        let mut of_file = said(5, Some(1), Some(1), 1);
        assert_eq!(standing.origin(&of_file), None);
        of_file.confirmed_at.push(Timestamp::new(7));
        assert_eq!(standing.origin(&of_file), Some((None, None)));
        // What the file says later, it says anew.
        assert_eq!(
            standing.origin(&said(51, Some(1), Some(1), 1)),
            Some((Some(1), Some(1)))
        );
    }

    #[test]
    fn a_day_is_of_one_kind_afterwards() {
        let mut standing = Standing::default();
        standing.undone.insert(2, Timestamp::new(50));
        let moved = |older: Revision, newest: Revision| Key {
            newest,
            older: vec![older],
        };
        // Campaigns first, then ad groups in their place.
        let campaign = moved(said(5, Some(1), Some(9), 1), said(9, Some(2), None, 1));
        let group = Key {
            newest: said(10, Some(2), Some(4), 2),
            older: Vec::new(),
        };
        assert_eq!(
            fates(&[campaign.clone(), group.clone()], &standing),
            [
                Fate::Restored(0, (Some(1), Some(1))),
                Fate::Withdrawn { mixed: false }
            ]
        );
        // A third file has ad groups too: the day stays with them.
        let other = Key {
            newest: said(20, Some(3), Some(5), 2),
            older: Vec::new(),
        };
        assert_eq!(
            fates(&[campaign, group, other], &standing),
            [Fate::Stands, Fate::Withdrawn { mixed: false }, Fate::Stands]
        );
    }
}

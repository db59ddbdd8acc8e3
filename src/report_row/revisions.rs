//! What a platform has said of one key: its revisions, in the order in which it was asked.
//!
//! A revision begins when the platform first said something else than before, and lists when it was found to say the same
//! again. So any order in which answers arrive, with any of them repeated, makes the same history; the newest revision is what
//! counts.

use super::Values;
use crate::time::Timestamp;

/// So many instants are remembered at which a revision was confirmed; of more, the latest. What came before it was asked for so
/// often can be told apart from it no more.
pub const MOST_CONFIRMED: usize = 64;

/// What a platform said, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// When it was first said.
    pub observed_at: Timestamp,
    /// When it was said again, ascending.
    pub confirmed_at: Vec<Timestamp>,
    pub values: Values,
    /// What the numbers mean, by number.
    pub definition: i32,
    /// When what changed with it is taken to have happened.
    pub event_time: Timestamp,
    /// Which file it is from, by number, and the line in it.
    pub origin: (Option<i32>, Option<i64>),
    /// When it was counted; none: with the share that is being written.
    pub counted_at: Option<Timestamp>,
}

impl Revision {
    /// When it was last said.
    pub fn last(&self) -> Timestamp {
        self.confirmed_at
            .last()
            .copied()
            .unwrap_or(self.observed_at)
    }

    /// Whether an answer is newer than all that is known of a key of which this is the newest revision, and says something else:
    /// then [`Revisions::say`] calls it [`Said::Newest`].
    pub fn is_followed_by(&self, new: &Revision) -> bool {
        self.last() < new.observed_at && self.values != new.values
    }

    fn is_said_at(&self, instant: Timestamp) -> bool {
        self.observed_at == instant || self.confirmed_at.binary_search(&instant).is_ok()
    }

    fn confirm(&mut self, instant: Timestamp) {
        let place = self.confirmed_at.partition_point(|at| *at < instant);
        self.confirmed_at.insert(place, instant);
        if self.confirmed_at.len() > MOST_CONFIRMED {
            self.confirmed_at.remove(0);
        }
    }
}

/// What an answer of the platform is to what is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// Known: of this very instant.
    Before,
    /// Of this very instant, something else is known.
    Otherwise,
    /// Newer than what is known, and the same.
    Again,
    /// Newer than what is known, and something else.
    Newest,
    /// Older than what is known: it belongs in the history.
    Older,
}

/// The revisions of one key, by when each was first said; each says something else than the one before it.
///
/// Older ones need not be there unless [`Revisions::need_older`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revisions(pub Vec<Revision>);

impl Revisions {
    /// What counts.
    pub fn newest(&self) -> Option<&Revision> {
        self.0.last()
    }

    /// The newest values; of a key of which nothing was said, unknown ones.
    pub fn values(&self) -> Values {
        self.newest()
            .map_or_else(Values::default, |newest| newest.values)
    }

    /// Whether [`Revisions::say`] has to know of older revisions than the newest.
    pub fn need_older(&self, instant: Timestamp) -> bool {
        self.newest()
            .is_some_and(|newest| instant < newest.observed_at)
    }

    /// Takes in that the platform said `new`, which has not been confirmed yet. `event_time`: when what it said at an instant is
    /// taken to have happened.
    pub fn say(&mut self, new: Revision, event_time: impl Fn(Timestamp) -> Timestamp) -> Said {
        let instant = new.observed_at;
        let next = self.0.partition_point(|known| known.observed_at <= instant);
        let (before, after) = self.0.split_at_mut(next);
        let last = before.last_mut();
        if let Some(known) = last.as_ref().filter(|known| known.is_said_at(instant)) {
            return if known.values == new.values {
                Said::Before
            } else {
                Said::Otherwise
            };
        }
        let is_newest =
            after.is_empty() && last.as_ref().is_none_or(|known| known.last() < instant);
        match (last, after.first_mut()) {
            (Some(known), _) if known.values == new.values => {
                known.confirm(instant);
                return if is_newest { Said::Again } else { Said::Older };
            }
            (Some(known), _) if known.last() > instant => {
                // It was said before and after, and something else in between.
                let since = known.confirmed_at.partition_point(|at| *at < instant);
                let mut again = known.confirmed_at.split_off(since).into_iter();
                if let Some(observed_at) = again.next() {
                    let later = Revision {
                        observed_at,
                        confirmed_at: again.collect(),
                        event_time: event_time(observed_at),
                        // Which file said so then is not remembered.
                        origin: (None, None),
                        ..known.clone()
                    };
                    self.0.splice(next..next, [new, later]);
                }
            }
            (_, Some(following)) if following.values == new.values => {
                let said = following.observed_at;
                let mut confirmed_at = std::mem::take(&mut following.confirmed_at);
                confirmed_at.insert(0, said);
                *following = Revision {
                    confirmed_at,
                    ..new
                };
                if following.confirmed_at.len() > MOST_CONFIRMED {
                    following.confirmed_at.remove(0);
                }
            }
            _ => self.0.insert(next, new),
        }
        if is_newest { Said::Newest } else { Said::Older }
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn said(instant: i64, clicks: i64) -> Revision {
        Revision {
            observed_at: Timestamp::new(instant),
            confirmed_at: Vec::new(),
            values: Values::of([None, Some(clicks), None, None, None]),
            definition: 1,
            event_time: Timestamp::new(instant * 2),
            origin: (None, None),
            counted_at: None,
        }
    }

    fn all(answers: &[(i64, i64)]) -> (Revisions, Vec<Said>) {
        let mut revisions = Revisions::default();
        let said = answers.iter().map(|&(instant, clicks)| {
            revisions.say(said(instant, clicks), |at| Timestamp::new(at.get() * 2))
        });
        let said = said.collect();
        (revisions, said)
    }

    /// Without when the platform said the same again.
    fn changes(revisions: &Revisions) -> Vec<(i64, i64)> {
        let clicks = |r: &Revision| r.values.clicks.map_or(0, crate::event::Count::get);
        let changes = revisions.0.iter();
        changes.map(|r| (r.observed_at.get(), clicks(r))).collect()
    }

    #[test]
    fn each_answer_is_called_what_it_is() {
        let (revisions, said) = all(&[
            (10, 5),
            (10, 5),
            (10, 6),
            (20, 5),
            (30, 7),
            (15, 5),
            (12, 9),
            (5, 9),
            (12, 9),
            (20, 1),
        ]);
        use Said::{Again, Before, Newest, Older, Otherwise};
        assert_eq!(
            said,
            [
                Newest, Before, Otherwise, Again, Newest, Older, Older, Older, Before, Otherwise
            ]
        );
        let history = [(5, 9), (10, 5), (12, 9), (15, 5), (30, 7)];
        assert_eq!(changes(&revisions), history);
        assert_eq!(revisions.0[3].confirmed_at, [Timestamp::new(20)]);
    }

    #[test]
    fn what_is_remembered_of_a_revision_is_bounded() {
        let (revisions, _) = all(&(0..1_000).map(|at| (at, 5)).collect::<Vec<_>>());
        assert_eq!(revisions.0.len(), 1);
        let only = &revisions.0[0];
        assert_eq!(only.observed_at, Timestamp::new(0));
        assert_eq!(only.last(), Timestamp::new(999));
        assert_eq!(only.confirmed_at.len(), MOST_CONFIRMED);
    }

    proptest! {
        #[test]
        fn any_order_and_repetition_makes_the_same_history(
            values in prop::collection::vec(0_i64..3, 1..30),
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
        ) {
            let answers: Vec<_> = (0..).zip(values).collect();
            let (in_order, _) = all(&answers);
            // In any order, some more than once, then what is left.
            let mut shuffled: Vec<_> = order.iter().map(|at| answers[at.index(answers.len())]).collect();
            shuffled.extend(answers.iter().rev().copied());
            let (in_another, said) = all(&shuffled);
            prop_assert_eq!(&in_another, &in_order);
            prop_assert!(!said.contains(&Said::Otherwise));
            // What is told as newest adds up to what counts.
            let mut sum = 0;
            let mut revisions = Revisions::default();
            for &(instant, clicks) in &shuffled {
                let before = revisions.values();
                let new = said_at(instant, clicks);
                let follows = revisions.newest().is_none_or(|newest| newest.is_followed_by(&new));
                let said = revisions.say(new, |at| Timestamp::new(at.get() * 2));
                prop_assert_eq!(follows, said == Said::Newest);
                if said == Said::Newest {
                    sum += revisions.values().beyond(&before).clicks.get();
                } else {
                    prop_assert_eq!(revisions.values(), before);
                }
            }
            prop_assert_eq!(sum, answers.last().map_or(0, |(_, clicks)| *clicks));
        }

        /// As a processor has them, which reads older ones only where it must.
        #[test]
        fn what_is_newer_needs_no_older_ones(
            values in prop::collection::vec(0_i64..3, 1..20),
            more in prop::collection::vec((any::<prop::sample::Index>(), 0_i64..3), 1..20),
        ) {
            let (known, _) = all(&(0..).map(|at| at * 2).zip(values).collect::<Vec<_>>());
            for (at, clicks) in more {
                let instant = i64::try_from(at.index(45)).expect("small");
                let mut whole = known.clone();
                let mut part = Revisions(known.0.last().cloned().into_iter().collect());
                if part.need_older(Timestamp::new(instant)) {
                    continue;
                }
                let time = |at: Timestamp| Timestamp::new(at.get() * 2);
                prop_assert_eq!(whole.say(said_at(instant, clicks), time), part.say(said_at(instant, clicks), time));
                let older = known.0.len() - 1;
                prop_assert_eq!(&whole.0[older..], &part.0[..]);
            }
        }
    }

    fn said_at(instant: i64, clicks: i64) -> Revision {
        said(instant, clicks)
    }
}

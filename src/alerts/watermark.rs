//! Up to when all is counted. Rules are held against what was so by then, never against the clock alone: a
//! processor that is behind has not found out yet that a campaign is silent. Pure: reports and the time are passed in.

use std::collections::BTreeMap;

use super::evaluate::end_of_minute;
use super::rule::Minutes;
use crate::store::StreamId;
use crate::store::keep::alerts::counted::{Life, Partition};
use crate::time::{Length, Timestamp};

/// What was so longer ago is not decided any more.
pub const LATE: Minutes = Minutes(10);
/// A campaign of which an event was counted less than this ago may have more of that time to come.
const COMING_IN: Length = Length::MINUTE;
/// A partition of which nobody has reported for so long has been given up.
const GIVEN_UP_AFTER: Length = Length::DAY.times(7);

/// Up to when each partition has been counted.
#[derive(Clone, Debug, Default)]
pub struct Watermarks {
    now: Timestamp,
    streams: BTreeMap<StreamId, Stream>,
    /// Partitions that somebody reports, but nobody has ever counted.
    unclaimed: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Stream {
    counted_up_to: Option<Timestamp>,
    is_given_up: bool,
}

/// Partitions that are so late that nothing is decided about their campaigns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behind {
    pub partitions: usize,
    /// Of the one that is behind most; none: nothing of it has been counted.
    pub by: Option<Length>,
}

impl Watermarks {
    /// Takes in what is known at `now`. A watermark never goes back: what was counted stays counted.
    pub fn advance(&mut self, partitions: &[Partition], now: Timestamp) {
        self.now = now;
        self.unclaimed = 0;
        for partition in partitions {
            let is_given_up = partition
                .seen_at
                .is_none_or(|seen_at| now - seen_at > GIVEN_UP_AFTER);
            let Some(stream) = partition.stream else {
                self.unclaimed += usize::from(!is_given_up);
                continue;
            };
            let caught_up = partition.seen_at.filter(|_| partition.is_caught_up);
            // A producer's clock may be ahead of ours.
            let counted_up_to = partition
                .last_record_at
                .max(caught_up)
                .map(|time| time.min(now));
            let known = self.streams.entry(stream).or_default();
            known.counted_up_to = known.counted_up_to.max(counted_up_to);
            known.is_given_up = is_given_up;
        }
    }

    /// Up to when all events of a campaign are counted that have come in; none: that was too long ago for anything
    /// to be decided about it.
    pub fn of(&self, life: &Life) -> Option<Timestamp> {
        let owner = self.streams.get(&life.stream)?.counted_up_to;
        // One that has moved may come on any partition again.
        let others = self
            .streams
            .values()
            .filter(|stream| life.has_moved && !stream.is_given_up);
        let all = others.map(|stream| stream.counted_up_to).chain([owner]);
        let mut up_to = all.min().flatten()?;
        if self.now - life.counted_at < COMING_IN {
            up_to = up_to.min(life.last_event_time);
        }
        self.decides(up_to).then_some(up_to)
    }

    /// The minute that each partition has got to; none: nothing is decided about its campaigns.
    pub fn minutes(&self) -> BTreeMap<StreamId, Option<Timestamp>> {
        let minute = |stream: &Stream| {
            let up_to = stream.counted_up_to.filter(|time| self.decides(*time));
            up_to.map(end_of_minute)
        };
        self.streams
            .iter()
            .map(|(s, at)| (*s, minute(at)))
            .collect()
    }

    /// What is behind, if anything is that has not been given up.
    pub fn behind(&self) -> Option<Behind> {
        let late: Vec<Option<Timestamp>> = self
            .streams
            .values()
            .filter(|s| !s.is_given_up && !s.counted_up_to.is_some_and(|time| self.decides(time)))
            .map(|s| s.counted_up_to)
            .collect();
        let partitions = late.len() + self.unclaimed;
        let farthest = late.into_iter().min().flatten();
        (partitions > 0).then(|| Behind {
            partitions,
            by: farthest.map(|time| self.now - time),
        })
    }

    fn decides(&self, up_to: Timestamp) -> bool {
        self.now - up_to <= LATE.length()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp::new(1_769_860_800_000_000);

    fn ago(minutes: i64) -> Timestamp {
        NOW - Length::MINUTE.times(minutes)
    }

    fn partition(stream: i32, last_record: i64, seen: i64, is_caught_up: bool) -> Partition {
        Partition {
            stream: Some(StreamId(stream)),
            last_record_at: Some(ago(last_record)),
            seen_at: Some(ago(seen)),
            is_caught_up,
        }
    }

    fn life(stream: i32) -> Life {
        Life {
            first_event_time: ago(100_000),
            last_event_time: ago(300),
            counted_at: ago(300),
            stream: StreamId(stream),
            has_moved: false,
        }
    }

    fn marks(partitions: &[Partition]) -> Watermarks {
        let mut marks = Watermarks::default();
        marks.advance(partitions, NOW);
        marks
    }

    #[test]
    fn a_partition_is_counted_up_to_its_last_record_or_to_when_there_was_no_more() {
        let of = |partition| marks(&[partition]).of(&life(1));
        assert_eq!(of(partition(1, 500, 0, true)), Some(NOW), "idle");
        assert_eq!(of(partition(1, 2, 0, false)), Some(ago(2)), "counting");
        assert_eq!(of(partition(1, 500, 0, false)), None, "a backlog");
        assert_eq!(of(partition(1, 500, 9, true)), Some(ago(9)), "a restart");
        assert_eq!(of(partition(1, 500, 11, true)), None, "an outage");
        assert_eq!(of(partition(1, -60, 0, false)), Some(NOW), "a clock ahead");
        assert_eq!(of(partition(2, 0, 0, true)), None, "another partition");
    }

    #[test]
    fn while_events_of_the_past_come_in_it_is_that_time() {
        let idle = marks(&[partition(1, 0, 0, true)]);
        let of = |event: i64, counted: i64| {
            idle.of(&Life {
                last_event_time: ago(event),
                counted_at: ago(counted),
                ..life(1)
            })
        };
        assert_eq!(of(3, 0), Some(ago(3)));
        assert_eq!(of(7 * 1_440, 0), None, "a backfill");
        assert_eq!(of(7 * 1_440, 1), Some(NOW), "which is over");
        assert_eq!(of(-60, 0), Some(NOW), "an event ahead of the clock");
    }

    #[test]
    fn a_campaign_that_moved_waits_for_every_partition_that_somebody_counts() {
        let moved = Life {
            has_moved: true,
            ..life(1)
        };
        let others = |last_record, seen| {
            let all = [
                partition(1, 0, 0, true),
                partition(2, last_record, seen, false),
            ];
            marks(&all).of(&moved)
        };
        assert_eq!(others(4, 0), Some(ago(4)));
        assert_eq!(others(500, 0), None);
        assert_eq!(others(500, 8 * 1_440), Some(NOW), "given up");
    }

    #[test]
    fn what_is_behind_is_told_unless_it_was_given_up() {
        let behind = |partitions: &[Partition]| marks(partitions).behind();
        assert_eq!(behind(&[]), None);
        assert_eq!(
            behind(&[partition(1, 500, 0, true), partition(2, 9, 0, false)]),
            None
        );
        let late = |partitions, minutes: i64| {
            let by = Some(Length::MINUTE.times(minutes));
            Some(Behind { partitions, by })
        };
        let all = [partition(1, 60, 0, false), partition(2, 90, 20, true)];
        assert_eq!(behind(&all), late(2, 60));
        assert_eq!(behind(&[partition(1, 90_000, 8 * 1_440, true)]), None);
        let never_claimed = Partition {
            stream: None,
            last_record_at: None,
            ..partition(1, 0, 0, false)
        };
        let nothing_counted = Partition {
            last_record_at: None,
            ..partition(1, 0, 0, false)
        };
        for unknown in [never_claimed, nothing_counted] {
            let told = Some(Behind {
                partitions: 1,
                by: None,
            });
            assert_eq!(behind(&[unknown]), told);
        }
    }

    proptest! {
        /// Whatever is reported in whatever order: a watermark does not go back, and is never ahead of the clock; and
        /// a campaign is decided up to no later than any partition that it may come on.
        #[test]
        fn watermarks_only_rise(
            reports in prop::collection::vec(
                (0i32..3, prop::option::of(-20i64..40), prop::option::of(0i64..40), any::<bool>(), 0i64..3),
                0..40,
            ),
            has_moved: bool,
        ) {
            let mut marks = Watermarks::default();
            let mut now = NOW;
            for (stream, last_record, seen, is_caught_up, passed) in reports {
                now = now + Length::MINUTE.times(passed);
                let before = marks.clone();
                marks.advance(&[Partition {
                    stream: Some(StreamId(stream)),
                    last_record_at: last_record.map(ago),
                    seen_at: seen.map(ago),
                    is_caught_up,
                }], now);
                for (stream, mark) in &marks.streams {
                    let earlier = before.streams.get(stream).and_then(|s| s.counted_up_to);
                    prop_assert!(mark.counted_up_to >= earlier);
                    prop_assert!(mark.counted_up_to.is_none_or(|time| time <= now));
                }
                let life = Life { has_moved, ..life(stream) };
                if let Some(up_to) = marks.of(&life) {
                    prop_assert!(now - up_to <= LATE.length());
                    for (other, mark) in &marks.streams {
                        let concerns = *other == life.stream || has_moved && !mark.is_given_up;
                        prop_assert!(!concerns || mark.counted_up_to >= Some(up_to));
                    }
                }
            }
        }
    }
}

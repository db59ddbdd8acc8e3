//! The sums: parts, each a sorted table of cells that is written once and never changed.
//!
//! ```text
//! a commit ─▶ fresh minute part ─┬─▶ minute part of a window
//!                                └─▶ fresh hour part ─┬─▶ hour part of a window
//!                                                     └─▶ fresh day part ─▶ … ─▶ all time
//! ```
//!
//! - A **cell** is the sums of a campaign in an interval on a platform; its interval is a minute, an hour, a day, 8 days, 64
//!   days or all time: the part's **grain**.
//! - A part is **fresh** while its sums stand in no part of a longer grain. So the sums of a grain are those of its own
//!   parts and of all fresh parts of shorter ones, and each event is in them once.
//! - To **carry** fresh parts of a grain is to put in their place, in one transaction, parts of that grain that
//!   are not fresh, and one fresh part of the next. Parts that are not fresh cover a window, whose length is
//!   the part's **reach**; those of one window are merged now and then.
//!
//! `sum_parts` is the directory, `sum_chunks` holds the cells ([`chunk`]). What is not in the directory is not there.

pub mod backlog;
pub mod chunk;
mod pack;
pub mod part;
pub mod plan;
pub mod without;

use crate::time::{Length, Timestamp};

/// How long the interval of a cell is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grain {
    Minute,
    Hour,
    Day,
    EightDays,
    SixtyFourDays,
    AllTime,
}

impl Grain {
    /// Every grain, shortest first.
    pub const ALL: [Grain; 6] = [
        Grain::Minute,
        Grain::Hour,
        Grain::Day,
        Grain::EightDays,
        Grain::SixtyFourDays,
        Grain::AllTime,
    ];

    /// As the directory has it.
    pub fn number(self) -> i16 {
        self as i16
    }

    /// Of the directory's number.
    pub fn of(number: i16) -> Option<Grain> {
        Grain::ALL
            .into_iter()
            .find(|grain| grain.number() == number)
    }

    /// Its length; none: for ever.
    pub fn length(self) -> Option<Length> {
        match self {
            Grain::Minute => Some(Length::MINUTE),
            Grain::Hour => Some(Length::HOUR),
            Grain::Day => Some(Length::DAY),
            Grain::EightDays => Some(Length::DAY.times(8)),
            Grain::SixtyFourDays => Some(Length::DAY.times(64)),
            Grain::AllTime => None,
        }
    }

    /// When the interval begins that an instant is in.
    pub fn start(self, time: Timestamp) -> Timestamp {
        self.length()
            .map_or(Timestamp::EPOCH, |length| time.floor(length))
    }

    /// The next longer one.
    pub fn next(self) -> Option<Grain> {
        Grain::ALL.into_iter().find(|grain| *grain > self)
    }
}

/// How much time a part covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Whatever time its events are of.
    Fresh,
    Hour,
    Day,
    EightDays,
    SixtyFourDays,
    Years,
    AllTime,
}

impl Reach {
    /// Those of parts that are not fresh, shortest first.
    pub const WINDOWS: [Reach; 6] = [
        Reach::Hour,
        Reach::Day,
        Reach::EightDays,
        Reach::SixtyFourDays,
        Reach::Years,
        Reach::AllTime,
    ];

    /// As the directory has it.
    pub fn number(self) -> i16 {
        self as i16
    }

    /// Of the directory's number.
    pub fn of(number: i16) -> Option<Reach> {
        let all = [Reach::Fresh].into_iter().chain(Reach::WINDOWS);
        all.into_iter().find(|reach| reach.number() == number)
    }

    /// Its length; none: no bound.
    pub fn length(self) -> Option<Length> {
        match self {
            Reach::Hour => Some(Length::HOUR),
            Reach::Day => Some(Length::DAY),
            Reach::EightDays => Some(Length::DAY.times(8)),
            Reach::SixtyFourDays => Some(Length::DAY.times(64)),
            Reach::Years => Some(Length::DAY.times(512)),
            Reach::Fresh | Reach::AllTime => None,
        }
    }

    /// When the window begins that an instant is in.
    pub fn window(self, time: Timestamp) -> Timestamp {
        self.length()
            .map_or(Timestamp::EPOCH, |length| time.floor(length))
    }
}

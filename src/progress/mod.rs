//! What each partition of this process is doing, in one word. The processor says it; `/metrics`, `/readyz` and, through
//! the database, `/pipeline`, the page and `adflux doctor` show it.
//!
//! ```text
//! counting ◀──▶ catching_up      there is more to read, new or from a while ago
//!     ▲
//!     ▼
//!   idle                         all is counted
//!
//! waiting                        something is in the way, and may get out of it by itself
//! stopped                        something is in the way, and a person must see to it
//! ```
//!
//! No cause need be known: where there is more in the log than was counted and nothing moves, that is a standstill.
//!
//! - `partition`: what one partition is doing; pure.
//! - `board`: what all of this process are doing, for whoever asks.

use std::time::Duration;

use crate::offset::Offset;

mod board;
mod partition;

pub use board::{BOARD, Board};

/// Whoever waits for so long stands still, unless something else is said.
pub const STANDSTILL: Duration = Duration::from_secs(60);

/// What a partition is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    Idle,
    Counting,
    CatchingUp,
    Waiting,
    Stopped,
}

impl State {
    /// All of them.
    pub const ALL: [State; 5] = [
        State::Idle,
        State::Counting,
        State::CatchingUp,
        State::Waiting,
        State::Stopped,
    ];

    /// As it is shown and stored.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Idle => "idle",
            State::Counting => "counting",
            State::CatchingUp => "catching_up",
            State::Waiting => "waiting",
            State::Stopped => "stopped",
        }
    }
}

/// What is in the way of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// One word, to count and to look up: the constraint that failed, `postgresql`, `no_leader`, …
    pub word: String,
    /// What it is in full, and what to do.
    pub message: String,
}

impl Cause {
    /// A cause.
    pub fn new(word: impl Into<String>, message: impl Into<String>) -> Cause {
        let (word, message) = (word.into(), message.into());
        Cause { word, message }
    }
}

/// Where something is in the way. What is cleared on one side leaves the other as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// Between the log and us.
    Log,
    /// Between us and the database.
    Database,
    /// Between us and the schema registry.
    Schemas,
}

/// What a partition is doing, since when, and why.
#[derive(Clone, Debug)]
pub struct Standing {
    pub partition: i32,
    pub state: State,
    pub lasted: Duration,
    pub cause: Option<Cause>,
    /// Whether it stands still: it is not counted, and that is not about to pass.
    pub is_still: bool,
    /// Where the log ends.
    pub end: Option<Offset>,
}

//! What the processor may do: claim a partition, settle a share, commit a batch.
//!
//! **Promise.** A batch becomes true whole or not at all, in one transaction ([`commit`]): positions, events, sums and dead
//! letters. Only who made the last claim of a partition can move it on; everybody else's transaction changes nothing.
//!
//! **Locks**, in the order in which a transaction takes them, each until it ends:
//!
//! 1. The rows of `stream_positions`, the fence. Its first statement moves them on ([`positions`]). One that takes
//!    campaigns over locks those of the former owners and its own first, in the order of `stream_id`.
//! 2. Rows of `campaigns`: new ones in the order of their ids; those that move, under the positions of all concerned.
//! 3. New rows of `event_blocks` and `late_events`. Two shares with one late event meet at the key of the latter; one aborts.
//! 4. Rows of `report_rows`, `report_history` and `campaign_names`, all of campaigns of the partition.
//! 5. New rows of `sum_chunks`, `sum_parts` and `dead_letters`: nobody else wants them.
//!
//! So who waits at a step waits for somebody who is further on. Processors that write at the same time meet at step 3 if at
//! all. A claim is one statement, and waits for the commit under way.

use std::collections::{HashMap, HashSet};

pub mod append;
pub mod batch;
pub mod commit;
pub mod dead_letters;
pub mod ownership;
pub mod positions;
pub mod projections;
mod reports;
mod rights;
pub mod settle;
mod settled;

pub use rights::check_rights;

/// Hashed quickly, and with a seed of its own, for keys come from outside.
type FastMap<K, V> = HashMap<K, V, foldhash::fast::RandomState>;
type FastSet<T> = HashSet<T, foldhash::fast::RandomState>;

//! Questions of the API and of exports.
//!
//! **Promise.** An answer is of one instant: one statement, or one snapshot. Nothing is written, and no processor waits.
//!
//! **Locks.** Those of a plain SELECT (ACCESS SHARE), which only the swap of a rebuild conflicts with. A transaction with a
//! lasting snapshot takes those of the four projections first, before the snapshot (`sums::BEFORE_SNAPSHOT`): the swap
//! puts tables in their place that are empty to an older snapshot. So it waits for such a reader, and gives up soon, and
//! the reader never waits for long.
//!
//! [`as_of`] takes no lock, and waits for those who hold one: the transactions that were writing at its instant.

pub mod as_of;
pub mod changes;
pub mod cursor_key;
pub mod dead_letters;
pub mod export;
pub mod insights;
pub mod pipeline;
pub mod spans;

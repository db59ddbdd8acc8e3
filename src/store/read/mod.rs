//! Questions of the API and of exports.
//!
//! **Promise.** An answer is of one instant: one statement, or one snapshot. Nothing is written, and no processor waits.
//!
//! **Locks.** Those of a plain SELECT (ACCESS SHARE), which nothing here conflicts with.
//!
//! [`as_of`] takes no lock, and waits for those who hold one: the transactions that were writing at its instant.

pub mod as_of;
pub mod cells;
pub mod changes;
pub mod cursor_key;
pub mod dead_letters;
pub mod definitions;
pub mod descriptions;
pub mod export;
pub mod growth;
pub mod imports;
pub mod insights;
pub mod pipeline;
pub mod rates;
pub mod report_days;
pub mod reports;
pub mod restatements;
pub mod restored;

//! What the processor may do: claim a partition, settle a share, commit a batch.

pub mod append;
pub mod batch;
pub mod commit;
mod day_versions;
pub mod dead_letters;
pub mod ownership;
pub mod positions;
pub mod projections;
mod rights;

pub use rights::check_rights;

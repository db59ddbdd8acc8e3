//! What runs beside the pipeline.

pub mod alerts;
pub mod api_keys;
pub mod merge;
pub mod publications;
pub mod rebuild;
pub mod rebuild_as_of;
pub mod redrives;
pub mod spans;
pub mod summaries;
pub mod verify;

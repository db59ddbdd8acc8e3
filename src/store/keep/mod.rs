//! What runs beside the pipeline: merging, verifying, rebuilding, spans; alerts, keys, and what becomes of dead letters.
//!
//! **Promise.** The pipeline needs none of it. Each may be killed at any instant and leaves nothing half done, and two at
//! once do no harm. Processors wait for the swap of a rebuild, and for nothing else here.
//!
//! **Locks.** One session at a time holds an advisory lock (`store::locks`); only a rebuild holds two, and takes `Rebuild`
//! before `Merge`, which a merge holds for its transaction. Tables are locked in this order:
//!
//! 1. `spans` (SHARE UPDATE EXCLUSIVE): one maker of spans at a time.
//! 2. `stream_positions` (EXCLUSIVE), by the swap: processors in flight finish, new ones wait at their first statement, where
//!    they hold nothing yet.
//! 3. The views over the projections, then the projections (ACCESS EXCLUSIVE), by the swap. It tries for a moment, and lets
//!    everybody through before it tries again: it would hold up all readers behind the one it waits for.
//!
//! Makers of spans, [`verify`] and the measuring of alerts read from a lasting snapshot, and so as `store::read` says.
//! A merge deletes blocks that no processor writes to. Whoever changes a rule locks `alert_rules` (SHARE ROW EXCLUSIVE), and
//! attempts of deliveries are taken with SKIP LOCKED; neither holds another lock.

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

//! What runs beside the pipeline: migrating, carrying and merging, verifying, rebuilding, dropping what is old; alerts, keys,
//! receipts, and what becomes of dead letters.
//!
//! **Promise.** The pipeline needs none of it. Each may be killed at any instant and leaves nothing half done, and two at
//! once do no harm. Processors wait for the swap of a rebuild, the close of a period and an erasure, and for nothing else here.
//!
//! **Locks.** One session at a time holds an advisory lock (`store::locks`); only a rebuild, [`retain`] and an erasure hold several,
//! and take `Rebuild` before `Merge`, which a merge of blocks holds for its transaction, and that before `Redrive`. Its swap takes
//! those on rewriting the sums of each partition, which [`carry`] holds one of for a transaction, and then `stream_positions`
//! (EXCLUSIVE): processors in flight finish, new ones wait at their first statement, where they hold nothing yet. So does the close
//! of a period. An erasure takes the same of the partitions that it is about.
//!
//! Nothing of this holds up a reader but the drop of a period, for a moment: parts and blocks that are replaced stay for those who
//! began before. Whoever changes a
//! rule locks `alert_rules`, who imports rates `exchange_rates` (SHARE ROW EXCLUSIVE both), and attempts of deliveries are taken
//! with SKIP LOCKED; none of these holds another lock.

pub mod alerts;
pub mod api_keys;
pub mod carry;
pub mod erase;
pub mod imports;
pub mod merge;
pub mod migrate;
pub mod publications;
pub mod rates;
pub mod rebuild;
pub mod rebuild_as_of;
pub mod receipts;
pub mod redrives;
pub mod retain;
pub mod verify;

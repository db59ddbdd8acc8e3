//! The store against a real PostgreSQL.

mod as_of;
mod commit;
mod conversions;
mod database;
mod erase;
mod expected;
mod german;
mod log;
mod merge;
mod migration;
mod others;
mod parts;
mod rebuild;
mod reports;
mod retain;
mod shard;
#[path = "../support/mod.rs"]
mod support;
mod verify;

use support::{ending, server, wait};

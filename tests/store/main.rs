//! The store against a real PostgreSQL.

mod as_of;
mod commit;
mod database;
mod german;
mod log;
mod merge;
mod others;
mod rebuild;
mod spans;
#[path = "../support/mod.rs"]
mod support;
mod verify;

use support::{ending, server, wait};

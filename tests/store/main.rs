//! The store against a real PostgreSQL.

mod as_of;
mod commit;
mod database;
#[path = "../support/ending.rs"]
mod ending;
mod german;
mod log;
mod merge;
mod others;
mod rebuild;
mod server;
mod spans;
mod verify;
#[path = "../support/wait.rs"]
mod wait;

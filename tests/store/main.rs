//! The store against a real PostgreSQL.

mod database;
mod log;
mod verify;

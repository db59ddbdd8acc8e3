//! The API against real PostgreSQL and Redis: every answer, every refusal, and what happens when
//! a server behind it goes away.

mod alerts;
mod answers;
mod as_of;
mod caches;
#[path = "../support/ending.rs"]
mod ending;
mod export;
mod gate;
mod keys;
mod lists;
mod live;
mod load;
mod openapi;
mod questions;
mod refusals;
mod snapshots;
#[path = "../support/wait.rs"]
mod wait;
mod world;

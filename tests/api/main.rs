//! The API against real PostgreSQL and Redis: every answer, every refusal, and what happens when
//! a server behind it goes away.

mod alerts;
mod answers;
mod as_of;
mod caches;
mod conversions;
mod cursors;
mod divided;
mod divided_alerts;
mod divided_intake;
mod divided_letters;
mod divided_lists;
mod divided_live;
mod expected;
mod export;
mod gate;
mod intake;
mod keys;
mod lists;
mod live;
mod load;
mod openapi;
mod origins;
mod questions;
mod rates;
mod redis_servers;
mod refusals;
mod registry;
mod reported_alerts;
mod reports;
mod snapshots;
#[path = "../support/mod.rs"]
mod support;
mod world;

use support::{ending, wait};

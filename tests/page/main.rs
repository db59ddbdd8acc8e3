//! The dashboard in a real Chromium, before a real adflux that counts from a real Kafka.
//!
//! Screenshots are left in `target/page/`.

mod browser;
mod site;
mod webdriver;

#[allow(dead_code)]
#[path = "../pipeline/ledger.rs"]
mod ledger;
#[allow(dead_code)]
#[path = "../pipeline/process.rs"]
mod process;
#[allow(dead_code)]
#[path = "../pipeline/records.rs"]
mod records;
#[allow(dead_code)]
#[path = "../pipeline/world.rs"]
mod world;

mod access;
mod alerts;
mod below_a_path;
mod figures;
mod live;
mod looks;
mod many;
mod outside;
mod questions;
mod reports;
mod states;
#[path = "../support/mod.rs"]
mod support;

use support::{proxy, wait};

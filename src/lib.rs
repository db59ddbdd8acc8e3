// Once, in kafka::headers, where rdkafka's safe reader would panic.
#![deny(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod api;
pub mod cache;
pub mod codec;
pub mod config;
pub mod database;
pub mod demo;
pub mod dlq;
pub mod doctor;
pub mod event;
pub mod kafka;
pub mod metrics;
pub mod processor;
pub mod run;
pub mod simulate;
pub mod simulator;
pub mod store;
pub mod totals;

//! What several test targets share. Each uses its part of it.

#![allow(dead_code)]

pub mod balancer;
pub mod bucket;
pub mod certificates;
pub mod cluster;
pub mod ending;
pub mod kdc;
pub mod peak;
pub mod ports;
pub mod proxy;
pub mod redis;
pub mod registry;
pub mod segment;
pub mod server;
pub mod tokens;
pub mod wait;
pub mod workbook;

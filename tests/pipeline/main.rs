//! What the pipeline promises, held against real Kafka, PostgreSQL and Redis, with the real binary
//! as a process of its own that is killed, frozen, cut off and fed what it must refuse.
//!
//! Every test has a topic, a consumer group and a database of its own ([`world`]), so all of them
//! can run at once. `make test` starts the services; without them the tests fail.

mod ledger;
mod process;
mod receiver;
mod records;
mod world;

mod alerts;
mod bounds;
mod cli;
mod commands;
mod counting;
mod dead_letter_topic;
mod dead_letters;
mod duplicates;
mod erase;
mod failover;
mod group;
mod held_snapshot;
#[cfg(feature = "kerberos")]
mod kerberos;
mod lost_commits;
mod memory;
#[cfg(feature = "oidc")]
mod oidc;
mod outages;
mod partitions;
mod peers;
mod postgres_tls;
mod reading_standby;
mod redrive;
mod registry;
mod reports;
mod restored;
mod retain;
mod roles;
mod rolling;
mod security;
mod several_servers;
mod shards;
mod standing;
mod standstill;
#[path = "../support/mod.rs"]
mod support;
#[cfg(feature = "traces")]
mod traces;
mod unreadable;

use support::{cluster, proxy, segment, wait};

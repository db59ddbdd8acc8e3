//! A schema registry of the company's, with the API of Confluent's: schemas by their ids, and the ids of our own.
//!
//! - `client`: asks it, and says what is wrong in words that name the setting.
//! - `own`: the subjects of our own schemas, and their ids, looked up or registered.
//! - `learn`: what a value's schema is, for those who can wait; the processor, which cannot, has a thread for it.
//! - `command`: `adflux schemas register`.
//!
//! Those without one use what the API answers ([`crate::api::Registry`]). Format: Confluent's
//! [Schema Registry API reference][api].
//!
//! [api]: https://docs.confluent.io/platform/current/schema-registry/develop/api.html

// Bytes from outside come through here.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::path::PathBuf;

use reqwest::Url;

pub mod client;
pub mod command;
pub mod learn;
pub mod own;

pub use client::{Answer, Client, Failure, LAST_ID};
pub use learn::Learner;
pub use own::Subjects;

/// Where it is, and who asks. It has no `Debug`: a password is nobody's business.
#[derive(Clone)]
pub struct Settings {
    /// Servers of one registry; who does not answer is passed over. There is one at least.
    pub urls: Vec<Url>,
    pub credentials: Option<Credentials>,
    /// Certificates of authorities, in PEM, that are trusted beside those of the system.
    pub ca_file: Option<PathBuf>,
}

/// How the registry knows who asks.
#[derive(Clone)]
pub enum Credentials {
    Basic { user: String, password: String },
    Bearer(String),
}

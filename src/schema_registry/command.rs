//! `adflux schemas register`: our own schemas go to the registry.

use std::io::Write;

use super::own::{self, Subjects};
use super::{Client, Settings};

/// Registers our schemas under a topic's subjects, where they are not yet, and prints their ids.
///
/// # Errors
/// When the registry does not answer, or does not take one.
pub fn register(
    out: &mut impl Write,
    settings: &Settings,
    topic: &str,
    subjects: Subjects,
) -> anyhow::Result<()> {
    let client = Client::new(settings)?;
    for own in own::schemas(topic, subjects) {
        let (id, what) = match client.look_up(&own.subject, own.schema)? {
            Some(id) => (id, "was there"),
            None => (client.register(&own.subject, own.schema)?, "registered"),
        };
        writeln!(
            out,
            "{:<10} {:<40} id {id:<10} {what}",
            own.record, own.subject
        )?;
    }
    Ok(())
}

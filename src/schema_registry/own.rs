//! Our own schemas in the registry: their subjects, and their ids there.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::bail;

use super::{Client, Failure};
use crate::codec::{self, KnownIds, SchemaIds};
use crate::outage::Outage;
use crate::pause::{Backoff, pause};

/// How subjects are named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Subjects {
    /// As our own API has them: TOPIC-value for events, TOPIC-adflux.ReportRow for report rows
    #[default]
    Topic,
    /// TOPIC-adflux.AdEvent and TOPIC-adflux.ReportRow: what clients call TopicRecordNameStrategy
    TopicRecord,
}

/// A schema of ours and where it is.
pub struct Own {
    pub record: &'static str,
    pub subject: String,
    pub schema: &'static str,
}

/// Our schemas: the event's, and that of report rows.
pub fn schemas(topic: &str, subjects: Subjects) -> [Own; 2] {
    let events = match subjects {
        Subjects::Topic => format!("{topic}-value"),
        Subjects::TopicRecord => format!("{topic}-adflux.AdEvent"),
    };
    [
        Own {
            record: "AdEvent",
            subject: events,
            schema: codec::SCHEMA_JSON,
        },
        // One topic has values of two records, which cannot be versions of one subject.
        Own {
            record: "ReportRow",
            subject: format!("{topic}-adflux.ReportRow"),
            schema: codec::report::SCHEMA_JSON,
        },
    ]
}

/// How the ids of our schemas are found.
#[derive(Clone)]
pub struct Finding {
    pub topic: String,
    pub subjects: Subjects,
    /// Those that are not there are registered.
    pub register: bool,
    /// What is known without asking.
    pub known: KnownIds,
}

impl Finding {
    /// The ids.
    ///
    /// # Errors
    /// When the registry does not answer, or a schema is not there and not to be registered.
    pub fn ids(&self, client: &Client) -> Result<SchemaIds, Failure> {
        let [event, report] = schemas(&self.topic, self.subjects);
        Ok(SchemaIds {
            event: self.id(client, &event, self.known.event)?,
            report: self.id(client, &report, self.known.report)?,
        })
    }

    fn id(&self, client: &Client, own: &Own, known: Option<u32>) -> Result<u32, Failure> {
        if let Some(id) = known {
            return Ok(id);
        }
        let found = client.look_up(&own.subject, own.schema)?;
        match found {
            Some(id) => Ok(id),
            None if self.register => client.register(&own.subject, own.schema),
            None => Err(Failure::Refused(format!(
                "{} is not registered under the subject '{}': `adflux schemas register` does that, or add --register-schemas",
                own.record, own.subject
            ))),
        }
    }

    /// The same, but waits for a registry that is away. None if `stop` was set before it answered.
    ///
    /// # Errors
    /// When the registry refuses, or a schema is not there and not to be registered.
    pub fn await_ids(
        &self,
        client: &Client,
        stop: &AtomicBool,
    ) -> anyhow::Result<Option<SchemaIds>> {
        let outage = Outage::default();
        let mut failures = 0u32;
        while !stop.load(Ordering::Relaxed) {
            match self.ids(client) {
                Ok(ids) => {
                    outage.ended(format_args!("the schema registry answers"));
                    return Ok(Some(ids));
                }
                Err(Failure::Away(why)) => {
                    outage.failed(format_args!("{why}; waiting for it"));
                    pause(Backoff::SERVER.after(failures), stop);
                    failures = failures.saturating_add(1);
                }
                Err(refused @ Failure::Refused(_)) => bail!(refused),
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_those_of_our_own_api_or_of_topic_and_record() {
        let names = |subjects| schemas("ads", subjects).map(|own| own.subject);
        assert_eq!(
            names(Subjects::Topic),
            ["ads-value", "ads-adflux.ReportRow"]
        );
        assert_eq!(
            names(Subjects::TopicRecord),
            ["ads-adflux.AdEvent", "ads-adflux.ReportRow"]
        );
    }
}

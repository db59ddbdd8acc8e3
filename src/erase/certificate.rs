//! What was removed, by name, and what is beyond adflux's reach.

use std::io::{self, Write};

use chrono::{DateTime, Utc};
use data_encoding::HEXLOWER;
use serde_json::{Value, json};

use crate::event::Count;
use crate::import::Format;
use crate::store::keep::erase::{Erasure, Records, Removed, Subject};
use crate::time::rfc3339_exact;

/// A certificate, or what one would say.
pub(super) struct Certificate<'a> {
    subject: &'a Subject,
    removed: &'a Removed,
    campaigns: &'a [String],
    /// Schemas with what was known at an instant.
    copies: &'a [String],
    /// None: nothing was removed yet.
    done: Option<(&'a Erasure, DateTime<Utc>)>,
}

impl<'a> Certificate<'a> {
    /// What would be removed.
    pub fn planned(
        subject: &'a Subject,
        removed: &'a Removed,
        campaigns: &'a [String],
        copies: &'a [String],
    ) -> Certificate<'a> {
        Certificate {
            subject,
            removed,
            campaigns,
            copies,
            done: None,
        }
    }

    /// What was.
    pub fn of(
        subject: &'a Subject,
        erasure: &'a Erasure,
        finished_at: DateTime<Utc>,
        copies: &'a [String],
    ) -> Certificate<'a> {
        Certificate {
            subject,
            removed: &erasure.removed,
            campaigns: &erasure.campaigns,
            copies,
            done: Some((erasure, finished_at)),
        }
    }

    pub fn write(&self, out: &mut impl Write, format: Format) -> io::Result<()> {
        match format {
            Format::Json => writeln!(out, "{:#}", self.document()),
            Format::Text => self.text(out),
        }
    }

    fn counts(&self) -> [(&'static str, Count); 11] {
        let removed = self.removed;
        [
            ("campaigns", removed.campaigns),
            ("events", removed.events),
            ("sums", removed.sums),
            ("report_rows", removed.report_rows),
            ("report_history", removed.report_history),
            ("names", removed.names),
            ("dead_letters", removed.dead_letters),
            ("alerts", removed.alerts),
            ("alert_rules", removed.alert_rules),
            ("deliveries", removed.deliveries),
            ("imports", removed.imports),
        ]
    }

    fn document(&self) -> Value {
        let counts = self.counts().into_iter();
        // What follows from the rest is known when it is done.
        let known = counts.filter(|(what, _)| self.done.is_some() || !LATER.contains(what));
        let mut removed: serde_json::Map<String, Value> = known
            .map(|(what, count)| (what.to_owned(), count.get().into()))
            .collect();
        removed.insert("originals".to_owned(), json!(self.removed.originals));
        json!({
            "erasure": self.done.map(|(erasure, _)| erasure.number),
            "kind": self.subject.kind(),
            "name": self.subject.name(),
            "name_sha256": HEXLOWER.encode(&self.subject.sha256()),
            "asked_by": self.done.map(|(erasure, _)| &erasure.asked_by),
            "begun_at": self.done.map(|(erasure, _)| rfc3339_exact(erasure.begun_at)),
            "finished_at": self.done.map(|(_, at)| rfc3339_exact(at)),
            "campaigns": self.campaigns,
            "removed": removed,
            "records": self.removed.records,
            "still_held": self.still_held(),
        })
    }

    fn text(&self, out: &mut impl Write) -> io::Result<()> {
        let what = match self.subject {
            Subject::Campaign(id) => format!("campaign {id}"),
            Subject::Account { .. } => format!("account {}", self.subject.name()),
            Subject::DeadLettersBefore(before) => format!("dead letters from before {before}"),
        };
        match self.done {
            Some((erasure, finished_at)) => {
                let (number, who) = (erasure.number, &erasure.asked_by);
                writeln!(out, "erasure {number}: {what}, asked for by {who}")?;
                let begun_at = rfc3339_exact(erasure.begun_at);
                writeln!(
                    out,
                    "begun {begun_at}, finished {}",
                    rfc3339_exact(finished_at)
                )?;
            }
            None => writeln!(out, "would be removed: {what}")?,
        }
        for (what, count) in self.counts() {
            if count > Count::ZERO {
                writeln!(out, "  {:<18}{count}", what.replace('_', " "))?;
            }
        }
        let is_there = self.counts().iter().any(|(_, count)| *count > Count::ZERO);
        if self.done.is_none() && !is_there && self.removed.originals.is_empty() {
            writeln!(out, "  nothing is known of it in the database")?;
        }
        for sha256 in &self.removed.originals {
            writeln!(out, "  original          {sha256}")?;
        }
        if matches!(self.subject, Subject::Account { .. }) {
            for campaign in self.campaigns {
                writeln!(out, "  campaign          {campaign}")?;
            }
        }
        writeln!(out, "still held elsewhere:")?;
        for line in self.still_held() {
            writeln!(out, "  {line}")?;
        }
        Ok(())
    }

    /// Where it is still, or may be, that adflux does not reach.
    fn still_held(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.removed.records.iter().map(on_topic).collect();
        let dead = self
            .removed
            .records
            .iter()
            .filter(|r| r.dead_letters > Count::ZERO);
        let mut topics: Vec<&str> = dead.map(|records| records.topic.as_str()).collect();
        topics.dedup();
        lines.extend(topics.into_iter().map(|topic| {
            format!("the dead-letter topic of {topic} ({topic}.dlq unless named otherwise), if letters were published")
        }));
        lines.extend(self.copies.iter().map(|schema| {
            format!("schema {schema} of adflux rebuild --as-of: DROP SCHEMA \"{schema}\" CASCADE")
        }));
        lines.extend(
            [
                "backups of PostgreSQL and archived WAL from before; standbys have it until they have replayed this",
                "PostgreSQL's data files until VACUUM and reuse of the pages",
                "Redis, where REDIS_URL was not given, or a server wrote while this ran: ten minutes at most",
                "files that were imported, where they came from; versions and backups of where originals are kept",
                "files of alert rules; what webhooks were told; exports; logs",
            ]
            .map(str::to_owned),
        );
        lines.push(
            "records that are sent again, or are not counted yet, count: adflux keeps no list of what was erased".to_owned(),
        );
        lines
    }
}

/// What is counted as it is removed.
const LATER: [&str; 3] = ["sums", "deliveries", "imports"];

fn on_topic(records: &Records) -> String {
    let Records {
        cluster_id,
        topic,
        partition,
        events,
        dead_letters,
        first_offset,
        last_offset,
    } = records;
    format!(
        "topic {topic} of cluster {cluster_id}, partition {partition}: {events} events and {dead_letters} dead letters among offsets \
         {first_offset} to {last_offset}, until its retention or kafka-delete-records removes them"
    )
}

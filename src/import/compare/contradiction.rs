//! Why a row is not taken beside what is known: which file and line said so, and what.

// Bytes from outside come through here.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use data_encoding::HEXLOWER;

use super::{Comparing, Failure};
use crate::report_row::revisions::{Revision, Revisions};
use crate::reports::facts::named;
use crate::reports::refusal::Refusal;
use crate::store::read::reports::{self, Known};
use crate::time::{Timestamp, rfc3339_exact};

impl Comparing<'_> {
    /// Why something else of an instant is not taken.
    pub(super) fn contradiction(
        &mut self,
        revisions: &Revisions,
        observed_at: Timestamp,
    ) -> Result<Refusal, Failure> {
        let mut known = revisions.0.iter().rev();
        let of_then = known.find(|known| known.observed_at <= observed_at);
        let origin = of_then.map(|revision| self.origin(revision)).transpose()?;
        Ok(Refusal::new(format!(
            "something else was imported before of the same campaign and day, and of the same time, {} ({})",
            instant(observed_at),
            origin.unwrap_or_default()
        ))
        .so("each export has a time of its own: look at --observed-at"))
    }

    /// The file and line that said something first, for a person.
    pub(super) fn origin(&mut self, revision: &Revision) -> Result<String, Failure> {
        let (Some(file), line) = revision.origin else {
            return Ok("from elsewhere than a file".to_owned());
        };
        let mut hash = "of unknown content".to_owned();
        if let Some(connection) = &mut self.connection {
            let files = reports::files(connection, &[file])?;
            if let Some(short) = files.get(&file).and_then(|sha256| sha256.get(..6)) {
                hash = HEXLOWER.encode(short);
            }
        }
        Ok(match line {
            Some(line) => format!("file {hash}, line {line}"),
            None => format!("file {hash}"),
        })
    }

    /// Why a row of one definition is not taken beside what is known.
    pub(super) fn mixed(&mut self, known: &Known) -> Result<Refusal, Failure> {
        let origin = self.origin(&known.revision)?;
        let what = self
            .meanings
            .get(&known.revision.definition)
            .map_or_else(String::new, |m| {
                let by = if m.grain.is_empty() {
                    "campaign"
                } else {
                    &m.grain
                };
                let definition = &m.definition;
                format!(
                    "of account {}, days of {}, in {}, conversions {}, revenue {}, by {by}",
                    definition.account,
                    definition.time_zone,
                    definition.currency,
                    named(&definition.conversions),
                    named(&definition.revenue),
                )
            });
        Ok(Refusal::new(format!(
            "the campaign's day counts from numbers of another kind: {what} ({origin}); they are not added up"
        ))
        .so("import what was imported before; or with --replace, and the day moves over"))
    }
}

/// An instant, for a person.
pub(super) fn instant(at: Timestamp) -> String {
    at.datetime().map_or_else(String::new, rfc3339_exact)
}

//! Why something that is sent is not taken.

use std::fmt::{Display, Write as _};

use serde::Serialize;

use super::{Problem, shorten};
use crate::reports::refusal::Refusal;

/// What is refused of what was sent.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub(super) struct Refused {
    /// How many records.
    refused: u64,
    /// The first of them.
    refusals: Vec<Record>,
}

/// A record that is refused.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
struct Record {
    /// Where it is, in words; none: it is about the body as a whole.
    place: Option<String>,
    /// Its line or row, or its place in the array, from 1.
    number: Option<u64>,
    field: Option<String>,
    value: Option<String>,
    reason: String,
    what_to_do: Option<String>,
}

impl From<&Refusal> for Record {
    fn from(refusal: &Refusal) -> Record {
        Record {
            place: refusal.place.as_ref().map(ToString::to_string),
            number: refusal.place.as_ref().map(|place| place.number()),
            field: refusal.column.clone(),
            value: refusal.value.clone(),
            reason: refusal.reason.clone(),
            what_to_do: refusal.remedy.clone(),
        }
    }
}

impl Problem {
    /// 404: this server takes nothing in.
    pub fn no_brokers() -> Problem {
        let detail = "this server was not told where Kafka is, and takes nothing in: start it with --brokers (KAFKA_BROKERS)";
        Problem::new(404, "no-brokers", "Nothing is taken in here", detail)
    }

    /// 503: the schema registry has not said yet what values are framed with.
    pub fn no_schema_ids() -> Problem {
        let detail = "the ids of adflux's schemas are not known: the schema registry has not answered, or does not have them (see \
                      this server's log); nothing of this was sent";
        Problem::new(503, "unavailable", "Temporarily unavailable", detail).retry_after(5)
    }

    /// 415: a body of another kind.
    pub fn content_type(types: &[&str]) -> Problem {
        let detail = format!(
            "send one of {}, and say which in Content-Type",
            types.join(", ")
        );
        Problem::new(
            415,
            "unsupported-media-type",
            "Unsupported media type",
            detail,
        )
    }

    /// 415: a body that is packed for the way.
    pub fn content_encoding() -> Problem {
        let detail = "send the body as it is, without Content-Encoding";
        Problem::new(
            415,
            "unsupported-media-type",
            "Unsupported media type",
            detail,
        )
    }

    /// 408: a body that takes too long to arrive.
    pub fn upload_too_slow(seconds: u64) -> Problem {
        let detail = format!("the body had not arrived after {seconds} s; send less at a time");
        Problem::new(408, "upload-too-slow", "Upload too slow", detail)
    }

    /// 429: as much is being taken in as may be.
    pub fn intake_full() -> Problem {
        let detail = "as much is being taken in as this server holds; nothing of this was sent: try again as Retry-After says";
        Problem::new(429, "intake-full", "Intake full", detail).retry_after(1)
    }

    /// 413: more than is sent at once.
    pub fn too_many_records() -> Problem {
        let detail = "a request may have 100,000 records, and 120 MiB of them; nothing of this was sent: send them in parts";
        Problem::new(413, "too-many-records", "Too many records", detail)
    }

    /// 422: some records are not as they must be, so none was sent.
    pub fn refused_records(refused: u64, refusals: &[Refusal]) -> Problem {
        let mut detail = format!("nothing was sent, for {refused} refused:");
        if let Some(first) = refusals.first() {
            let parts = [
                first.place.as_ref().map(ToString::to_string),
                first.column.as_deref().map(shorten),
                first.value.as_deref().map(shorten),
            ];
            for part in parts.into_iter().flatten() {
                // Writing to a String cannot fail.
                let _ = write!(detail, " {part}:");
            }
            let _ = write!(detail, " {}", first.reason);
            if let Some(remedy) = &first.remedy {
                let _ = write!(detail, "; {remedy}");
            }
        }
        Problem {
            records: Some(Box::new(Refused {
                refused,
                refusals: refusals.iter().map(Record::from).collect(),
            })),
            ..Problem::new(422, "invalid-records", "Invalid records", detail)
        }
    }

    /// 503: a file could not be kept.
    pub fn not_kept(why: &anyhow::Error) -> Problem {
        log::warn!("a file that was sent could not be kept, and was not taken: {why:#}");
        let detail = "the file could not be kept as it is, so nothing of it was sent: try again, and see the server's log";
        Problem::new(503, "not-kept", "Not kept", detail).retry_after(5)
    }

    /// 503: what the broker has of it is not known.
    pub fn not_acknowledged(of: usize, sent: usize, why: &str) -> Problem {
        let detail = format!(
            "the broker has acknowledged {of} of {sent} records ({why}); whether it has the others is not known. Sending all of \
             them again is safe: none counts twice"
        );
        Problem::new(503, "not-acknowledged", "Not acknowledged", detail).retry_after(5)
    }

    /// 503: the broker has all of it, and there is no receipt.
    pub fn receipt_lost() -> Problem {
        let detail = "the broker has all records, and they will be counted; the receipt could not be kept. Sending all of them \
             again is safe, and gives one";
        Problem::new(503, "receipt-lost", "Receipt lost", detail).retry_after(5)
    }

    /// 503: this server may not keep receipts, so it takes nothing in.
    pub fn no_receipts(lacking: &str) -> Problem {
        let detail = format!(
            "the server's role in PostgreSQL lacks {lacking}; nothing was sent. Run `adflux migrate`, and then docs/roles.sql"
        );
        Problem::new(503, "no-receipts", "No receipts", detail).retry_after(60)
    }

    /// 404: no receipt of that id.
    pub fn unknown_receipt(id: &str) -> Problem {
        let detail = format!("there is no receipt '{}'", shorten(id));
        Problem::new(404, "unknown-receipt", "Unknown receipt", detail)
    }

    /// 503: this process could not do its part.
    pub fn failed(why: impl Display) -> Problem {
        log::error!("a request could not be worked on: {why}");
        Problem::too_busy("this could not be worked on; try again")
    }
}

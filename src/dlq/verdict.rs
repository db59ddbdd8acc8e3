//! Can a dead letter be counted by now, and if not, why not?

use crate::codec::{self, Decoder, Message};
use crate::event::{MAX_AHEAD, Reason};
use crate::store::StoreError;
use crate::store::read::dead_letters::Row;
use crate::time::Timestamp;

use super::known;

/// The header of a record that was sent back: the place where it was a dead letter first. A record
/// keeps it however often it is sent.
pub const ORIGIN: &str = "adflux.redriven.from";

/// The place in the header [`ORIGIN`], if the record was sent back before.
///
/// # Errors
/// As [`Row::headers`].
pub fn origin(row: &Row) -> Result<Option<String>, StoreError> {
    let header = row.headers()?.into_iter().find(|(key, _)| key == ORIGIN);
    let place = header.and_then(|(_, value)| value);
    Ok(place.map(|place| String::from_utf8_lossy(&place).into_owned()))
}

/// What can be said of a dead letter.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A processor that knows what we know would count it.
    Countable,
    /// A processor that knows what we know would, but one that did not has refused it before.
    CameBack(String),
    /// Not now; and why.
    Not(String),
}

/// Judges a letter as a processor would at `now`, as far as it can be judged without looking at what else was counted.
///
/// # Errors
/// As [`Row::headers`].
pub fn judge(row: &Row, decoder: &mut Decoder, now: Timestamp) -> Result<Verdict, StoreError> {
    let payload = row.payload.as_deref();
    Ok(match decoder.accept(row.key.as_deref(), payload, now) {
        Ok(_) => match known(&row.reason) {
            // Decided by what was counted before, which stays counted.
            Some(
                reason @ (Reason::SumOverflow
                | Reason::ConflictingDuplicate
                | Reason::TooOld
                | Reason::ConflictingReport),
            ) => Verdict::Not(format!("{}; it would be refused again", reason.explain())),
            Some(reason @ Reason::MixedReport) => {
                Verdict::CameBack(format!("{}; then --again sends this one", reason.explain()))
            }
            _ => match origin(row)? {
                Some(origin) => Verdict::CameBack(format!(
                    "it was sent back from {origin} before, and the processor refused it again. Where `adflux process` \
                     runs, give it what it lacks (its --writer-schema; its clock), then --again sends this one"
                )),
                None => Verdict::Countable,
            },
        },
        Err(reason) => Verdict::Not(why_not(reason, payload, decoder)),
    })
}

fn why_not(reason: Reason, payload: Option<&[u8]>, decoder: &mut Decoder) -> String {
    match (reason, payload) {
        (Reason::UnknownSchema, Some(payload)) => {
            // There is one: it was read, and found unknown.
            let id = codec::schema_id(payload).unwrap_or_default();
            format!(
                "its schema, id {id}, is not known: give --writer-schema {id}=FILE here and to `adflux process`, or register it"
            )
        }
        (Reason::FutureEventTime, Some(payload)) => {
            let from = decoder
                .decode(payload)
                .ok()
                .map(|message| match message {
                    Message::Event(event) => event.event_time,
                    Message::Report(row) => row.observed_at,
                })
                .map(|time| time - MAX_AHEAD)
                .filter(|from| from.datetime().is_some());
            match from {
                Some(from) => {
                    format!("its time is too far ahead; it can be counted from {from} on")
                }
                None => "its time is thousands of years ahead".to_owned(),
            }
        }
        (reason, _) => format!(
            "{}; have its producer send it again, corrected",
            reason.explain()
        ),
    }
}

//! Records that are checked, as they will be sent; and those that are refused.

use bytes::Bytes;
use serde_json::value::RawValue;

use super::Form;
use crate::api::problem::Problem;
use crate::event::CampaignId;
use crate::kafka::courier::Whole;
use crate::reports::TOLD;
use crate::reports::refusal::Refusal;
use crate::reports::row::Place;

/// The most records of a request.
pub const MOST: usize = 100_000;

/// What will be sent.
#[derive(Debug, Default)]
pub struct Records {
    pub whole: Vec<Whole>,
    /// Which of the request each is.
    pub numbers: Vec<i64>,
    /// Of keys, payloads and headers.
    pub bytes: usize,
}

impl Records {
    /// Has each of them carry these headers.
    pub fn carry(&mut self, headers: &[(String, Option<Vec<u8>>)]) {
        if headers.is_empty() {
            return;
        }
        let of = |value: &Option<Vec<u8>>| value.as_ref().map_or(0, Vec::len);
        let each = headers.iter().fold(0_usize, |sum, (name, value)| {
            sum.saturating_add(name.len()).saturating_add(of(value))
        });
        for record in &mut self.whole {
            record.headers.extend_from_slice(headers);
            self.bytes = self.bytes.saturating_add(each);
        }
    }
}

/// Gathers records until all are known to be good.
#[derive(Debug, Default)]
pub struct Checking {
    records: Records,
    refusals: Vec<Refusal>,
    refused: u64,
}

impl Checking {
    /// The records of a body of JSON, if all of them are good. `one` takes in one of them, or says why it is not.
    ///
    /// # Errors
    /// As [`pieces`] and [`Checking::finish`].
    pub fn all(
        body: &Bytes,
        form: Form,
        one: impl Fn(&mut Checking, &Place, &str) -> Result<(), Refusal>,
    ) -> Result<Records, Problem> {
        let mut checking = Checking::default();
        for (place, text) in pieces(body, form)? {
            if let Err(refusal) = one(&mut checking, &place, text) {
                checking.refuse(refusal);
            }
        }
        checking.finish()
    }

    /// Takes in a record that is good.
    pub fn add(&mut self, campaign: CampaignId<'_>, payload: Vec<u8>, place: &Place) {
        // What will not be sent is not held either.
        if self.refused > 0 {
            return;
        }
        let key = campaign.as_str().as_bytes().to_vec();
        let bytes = key.len().saturating_add(payload.len());
        self.records.bytes = self.records.bytes.saturating_add(bytes);
        self.records.whole.push(Whole {
            key: Some(key),
            payload: Some(payload),
            headers: Vec::new(),
        });
        let number = i64::try_from(place.number()).unwrap_or(i64::MAX);
        self.records.numbers.push(number);
    }

    /// Takes in why one is not.
    pub fn refuse(&mut self, refusal: Refusal) {
        self.refused = self.refused.saturating_add(1);
        if self.refusals.len() < TOLD {
            self.refusals.push(refusal);
        }
    }

    /// All of them, if all are good.
    ///
    /// # Errors
    /// 422 with those that are not; or there are none, or too many.
    pub fn finish(self) -> Result<Records, Problem> {
        if self.refused > 0 {
            return Err(Problem::refused_records(self.refused, &self.refusals));
        }
        if self.records.whole.is_empty() {
            let refusal = Refusal::new("there is no record in it").so("send one at least");
            return Err(Problem::refused_records(1, &[refusal]));
        }
        Ok(self.records)
    }
}

/// The records of a body of JSON, as they are written, each with where it stands.
///
/// # Errors
/// A [`Problem`] when the body is not what it says, or has too many.
pub fn pieces(body: &Bytes, form: Form) -> Result<Vec<(Place, &str)>, Problem> {
    let refused = |refusal: Refusal| Problem::refused_records(1, &[refusal]);
    let text = std::str::from_utf8(body)
        .map_err(|error| refused(Refusal::new(format!("not UTF-8: {error}"))))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let pieces: Vec<(Place, &str)> = if form == Form::Lines {
        let lines = (1..).zip(text.lines());
        let filled = lines.filter(|(_, line)| !line.trim().is_empty());
        filled
            .take(MOST.saturating_add(1))
            .map(|(number, line)| (Place::Line(number), line))
            .collect()
    } else if text.trim_start().starts_with('[') {
        let records: Vec<&RawValue> = serde_json::from_str(text)
            .map_err(|error| refused(Refusal::new(format!("not a JSON array: {error}"))))?;
        let records = (1..).zip(records);
        records
            .map(|(number, raw)| (Place::Record(number), raw.get()))
            .collect()
    } else {
        vec![(Place::Record(1), text)]
    };
    if pieces.len() > MOST {
        return Err(Problem::too_many_records());
    }
    Ok(pieces)
}

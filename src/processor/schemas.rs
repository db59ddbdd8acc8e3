//! Schemas that are not known yet: a partition waits before the record until the registry has said what its id stands for,
//! or until the record is a dead letter. Others go on.
//!
//! Anybody who may write to the topic can write any id. So that this stops no partition for long and floods no registry,
//! of ids that led to nothing within ten minutes (they are not there, or are no schema of an event or a report row) the
//! first few are asked for again and again for some seconds, the next ones once, and what comes then not at all: it is a
//! dead letter at once, and can be sent back. What led to nothing is remembered for a minute.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::seeker::{Asked, Seeker};
use crate::codec::Decoder;
use crate::event::Reason;
use crate::metrics;
use crate::outage::Outage;
use crate::schema_registry::{Answer, LAST_ID, Settings};

/// In this time, so many ids that lead to nothing are asked for, and so many of them patiently.
const WINDOW: Duration = Duration::from_secs(600);
const MOST_FRUITLESS: usize = 30;
const MOST_PATIENTLY: usize = 5;
/// What led to nothing is not asked for again before this has passed.
const REMEMBERED: Duration = Duration::from_secs(60);
/// So many of them are remembered, and so many schemas are known: each is memory. With the next one, the first is forgotten,
/// and asked for again when it comes: that is one question for as many as are known, so the order of use need not be known.
const MOST_REFUSED: usize = 1_000;
const MOST_LEARNED: usize = 1_000;

/// See the module.
pub struct Schemas {
    /// None: there is no registry.
    seeker: Option<Seeker>,
    /// What is asked for, and the partitions that wait for what.
    asked: BTreeSet<u32>,
    waiting: BTreeMap<i32, u32>,
    fruitless: Fruitless,
    /// Ids that are refused, and since when.
    refused: VecDeque<(Instant, u32)>,
    /// Ids that are known, the first first.
    learned: VecDeque<u32>,
    too_many: Outage,
}

/// When ids led to nothing.
#[derive(Default)]
struct Fruitless(VecDeque<Instant>);

impl Fruitless {
    fn note(&mut self, now: Instant) {
        self.0.push_back(now);
        while self.0.len() > MOST_FRUITLESS {
            self.0.pop_front();
        }
    }

    /// How the next id is asked for; none: not at all.
    fn patiently(&mut self, now: Instant) -> Option<bool> {
        while self
            .0
            .front()
            .is_some_and(|at| now.saturating_duration_since(*at) >= WINDOW)
        {
            self.0.pop_front();
        }
        (self.0.len() < MOST_FRUITLESS).then_some(self.0.len() < MOST_PATIENTLY)
    }
}

impl Schemas {
    /// Asks this registry, if there is one.
    ///
    /// # Errors
    /// As [`Seeker::start`].
    pub fn start(registry: Option<&Settings>) -> anyhow::Result<Schemas> {
        Ok(Schemas {
            seeker: registry.map(Seeker::start).transpose()?,
            asked: BTreeSet::new(),
            waiting: BTreeMap::new(),
            fruitless: Fruitless::default(),
            refused: VecDeque::new(),
            learned: VecDeque::new(),
            too_many: Outage::default(),
        })
    }

    /// The next record of a partition has a schema that is not known. Whether it waits for that; else the decoder has the
    /// reason why it is a dead letter.
    pub fn lacks(&mut self, partition: i32, id: u32, decoder: &mut Decoder) -> bool {
        let now = Instant::now();
        if id > LAST_ID {
            self.refuse(id, Reason::UnknownSchema, decoder, now);
            return false;
        }
        if !self.asked.contains(&id) {
            let (Some(seeker), Some(patiently)) = (&self.seeker, self.fruitless.patiently(now))
            else {
                self.too_many.failed(format_args!(
                    "{MOST_FRUITLESS} schema ids within ten minutes have led to nothing: until that is over, records of ids that \
                     are not known become dead letters, unknown_schema, without the registry being asked; the last one is {id}"
                ));
                self.refuse(id, Reason::UnknownSchema, decoder, now);
                return false;
            };
            self.too_many.ended(format_args!(
                "the registry is asked again for schema ids that are not known,"
            ));
            seeker.ask(Asked { id, patiently });
            self.asked.insert(id);
        }
        self.waiting.insert(partition, id);
        true
    }

    fn refuse(&mut self, id: u32, reason: Reason, decoder: &mut Decoder, now: Instant) {
        decoder.refuse(id, reason);
        self.refused.push_back((now, id));
        while self.refused.len() > MOST_REFUSED {
            self.forget_oldest(decoder);
        }
    }

    fn forget_oldest(&mut self, decoder: &mut Decoder) {
        if let Some((_, id)) = self.refused.pop_front() {
            decoder.forget(id);
        }
    }

    /// Takes what was found. The partitions that go on.
    pub fn take_found(&mut self, decoder: &mut Decoder) -> Vec<i32> {
        let now = Instant::now();
        let is_over = |since: Instant| now.saturating_duration_since(since) >= REMEMBERED;
        while self
            .refused
            .front()
            .is_some_and(|(since, _)| is_over(*since))
        {
            self.forget_oldest(decoder);
        }
        let mut go_on = Vec::new();
        while let Some((id, answer)) = self.seeker.as_ref().and_then(Seeker::found) {
            self.asked.remove(&id);
            if let Err((reason, why)) = self.learn(id, answer, decoder) {
                log::warn!(
                    "schema {id}: {why}. Its records become dead letters, {}",
                    reason.as_str()
                );
                self.fruitless.note(now);
                self.refuse(id, reason, decoder, now);
            }
            self.waiting.retain(|&partition, waits_for| {
                let is_found = *waits_for == id;
                go_on.extend(is_found.then_some(partition));
                !is_found
            });
        }
        go_on
    }

    fn learn(
        &mut self,
        id: u32,
        answer: Answer,
        decoder: &mut Decoder,
    ) -> Result<(), (Reason, String)> {
        let unusable = |why: String| (Reason::IncompatibleSchema, why);
        let schema = match answer {
            Answer::Nothing => {
                let why = "the registry does not know this id".to_owned();
                return Err((Reason::UnknownSchema, why));
            }
            Answer::Unusable(why) => return Err(unusable(why)),
            Answer::Schema(schema) => schema,
        };
        decoder
            .learn(id, &schema)
            .map_err(|error| unusable(error.to_string()))?;
        self.learned.push_back(id);
        while self.learned.len() > MOST_LEARNED {
            if let Some(first) = self.learned.pop_front() {
                decoder.forget(first);
            }
        }
        metrics::SCHEMAS_KNOWN.set(self.learned.len() as i64);
        log::info!("schema {id} is known from the registry");
        Ok(())
    }

    /// A partition is not read any more, or anew.
    pub fn leave(&mut self, partition: i32) {
        self.waiting.remove(&partition);
    }

    /// Whether a partition waits.
    pub fn awaited_by(&self, partition: i32) -> bool {
        !self.waiting.is_empty() && self.waiting.contains_key(&partition)
    }

    /// The partitions that wait, and for what.
    pub fn waiting(&self) -> impl Iterator<Item = (i32, String)> {
        let away = self.seeker.as_ref().and_then(Seeker::away);
        self.waiting.iter().map(move |(&partition, id)| {
            let why = away.as_deref().unwrap_or("the registry is being asked");
            let what = format!("the next record has schema {id}, which is not known yet: {why}");
            (partition, what)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{KnownIds, SCHEMA_JSON};

    #[test]
    fn with_one_schema_too_many_the_first_is_forgotten_and_lacked_again() {
        let mut schemas = Schemas::start(None).expect("there is no registry");
        let decoder = Decoder::new(KnownIds::default());
        let mut decoder = decoder.expect("the schemas are the layouts").learning();
        let last = MOST_LEARNED as u32 + 2;
        for id in 1..=last {
            let answer = Answer::Schema(SCHEMA_JSON.to_owned());
            schemas.learn(id, answer, &mut decoder).expect("it is ours");
        }
        let lacked = (1..=last).filter(|id| {
            let framed = [&[0][..], &id.to_be_bytes(), &[0]].concat();
            decoder.lacks(&framed).is_some()
        });
        assert_eq!(lacked.collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn ids_that_lead_to_nothing_are_asked_for_less_and_less_and_again_when_it_is_over() {
        let start = Instant::now();
        let mut fruitless = Fruitless::default();
        let mut said = Vec::new();
        for n in 0..MOST_FRUITLESS as u64 + 50 {
            let now = start + Duration::from_secs(n);
            let patiently = fruitless.patiently(now);
            said.push(patiently);
            if patiently.is_some() {
                fruitless.note(now);
            }
        }
        let count = |how| said.iter().filter(|said| **said == how).count();
        assert_eq!(count(Some(true)), MOST_PATIENTLY);
        assert_eq!(count(Some(false)), MOST_FRUITLESS - MOST_PATIENTLY);
        assert_eq!(count(None), 50);
        assert_eq!(fruitless.patiently(start + WINDOW), Some(false));
        let later = start + WINDOW + Duration::from_secs(30);
        assert_eq!(fruitless.patiently(later), Some(true));
    }
}

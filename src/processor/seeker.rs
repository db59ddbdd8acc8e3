//! Asks the schema registry for what ids stand for, on a thread of its own, one question at a time, so that polling never
//! waits and no registry is flooded.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::metrics;
use crate::outage::Outage;
use crate::pause::Backoff;
use crate::schema_registry::{Answer, Client, Failure, Settings};

/// How long after the first question, and after each further one, it is asked again for what is not there: its producer may
/// register it only now, and what was written to one server of a registry comes to the others a moment later.
const AGAIN: [Duration; 3] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];
/// Nothing is due for as long as this.
const IDLE: Duration = Duration::from_secs(3_600);

/// A question.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    pub id: u32,
    /// Whether it is asked again for what is not there.
    pub patiently: bool,
}

/// See the module.
pub struct Seeker {
    asked: Sender<Asked>,
    found: Receiver<(u32, Answer)>,
    away: Arc<Mutex<Option<String>>>,
}

impl Seeker {
    /// Starts one. Its thread ends by itself once it is dropped and what is under way is answered.
    ///
    /// # Errors
    /// When the settings are none, or the system gives us no thread.
    pub fn start(settings: &Settings) -> anyhow::Result<Seeker> {
        let client = Client::new(settings)?;
        let (asked, questions) = channel();
        let (answers, found) = channel();
        let away = Arc::new(Mutex::new(None));
        let mut seeking = Seeking {
            client,
            questions,
            answers,
            away: Arc::clone(&away),
            outage: Outage::default(),
            failures: 0,
            open: Vec::new(),
        };
        std::thread::Builder::new()
            .name("schemas".into())
            .spawn(move || while seeking.go_on() {})?;
        Ok(Seeker { asked, found, away })
    }

    /// Asks what an id stands for.
    pub fn ask(&self, asked: Asked) {
        // The thread ends after us.
        let _ = self.asked.send(asked);
    }

    /// What was found, if anything.
    pub fn found(&self) -> Option<(u32, Answer)> {
        self.found.try_recv().ok()
    }

    /// Why the registry does not answer, if it does not.
    pub fn away(&self) -> Option<String> {
        self.away
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// A question that has no answer yet.
struct Open {
    asked: Asked,
    /// How often nothing was there.
    nothing: usize,
    due: Instant,
}

/// What the thread has.
struct Seeking {
    client: Client,
    questions: Receiver<Asked>,
    answers: Sender<(u32, Answer)>,
    away: Arc<Mutex<Option<String>>>,
    outage: Outage,
    /// In a row.
    failures: u32,
    open: Vec<Open>,
}

impl Seeking {
    /// Asks what is due, or waits for it. `false` if nobody wants to know any more.
    fn go_on(&mut self) -> bool {
        let now = Instant::now();
        let next = self.open.iter().map(|open| open.due).min();
        let wait = next.map_or(IDLE, |due| due.saturating_duration_since(now));
        match self.questions.recv_timeout(wait) {
            Ok(asked) => self.open.push(Open {
                asked,
                nothing: 0,
                due: now,
            }),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return false,
        }
        let due = self.open.iter().position(|open| open.due <= Instant::now());
        match due {
            Some(at) => {
                let open = self.open.swap_remove(at);
                self.ask(open)
            }
            None => true,
        }
    }

    fn ask(&mut self, mut open: Open) -> bool {
        let id = open.asked.id;
        let answer = self.client.schema(id);
        let result = match &answer {
            Ok(Answer::Schema(_)) => "found",
            Ok(Answer::Unusable(_)) => "unusable",
            Ok(Answer::Nothing) => "unknown",
            Err(_) => "failed",
        };
        metrics::SCHEMA_LOOKUPS.with_label_values(&[result]).inc();
        let answer = match answer {
            Ok(answer) => answer,
            Err(Failure::Away(why) | Failure::Refused(why)) => {
                self.failed(&why);
                open.due = Instant::now() + Backoff::SERVER.after(self.failures);
                self.open.push(open);
                // Whoever is away is so for all of them.
                let pause = Instant::now() + Backoff::SERVER.after(self.failures);
                self.open
                    .iter_mut()
                    .for_each(|open| open.due = pause.max(open.due));
                return true;
            }
        };
        self.failures = 0;
        self.outage
            .ended(format_args!("the schema registry answers"));
        *self.away.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if answer == Answer::Nothing
            && open.asked.patiently
            && let Some(again) = AGAIN.get(open.nothing)
        {
            open.nothing += 1;
            open.due = Instant::now() + *again;
            self.open.push(open);
            return true;
        }
        self.answers.send((id, answer)).is_ok()
    }

    fn failed(&mut self, why: &str) {
        self.failures = self.failures.saturating_add(1);
        self.outage.failed(format_args!(
            "{why}. Partitions whose next record has a schema that is not known yet wait for it"
        ));
        *self.away.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.to_owned());
    }
}

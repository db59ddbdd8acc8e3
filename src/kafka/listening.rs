//! What librdkafka has to say while it is asked, or at work.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::{failure, log_librdkafka};

/// While brokers cannot be reached, librdkafka says why at least this often.
const AGAIN: Duration = Duration::from_secs(60);

/// Keeps the last thing that librdkafka complained of, and when: its errors have their reason only here.
#[derive(Default)]
pub(super) struct Listening(Mutex<Option<(String, Instant)>>);

impl Listening {
    pub(super) fn said(&self) -> Option<String> {
        let said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.as_ref().map(|(said, _)| said.clone())
    }

    /// The same, if it still is so: for who works for as long as the program runs.
    pub(super) fn said_lately(&self) -> Option<String> {
        let said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = said.as_ref().filter(|(_, at)| at.elapsed() < AGAIN);
        lately.map(|(said, _)| said.clone())
    }

    fn keep(&self, reason: &str) {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *said = Some((reason.to_owned(), Instant::now()));
    }
}

impl ClientContext for Listening {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_librdkafka(level, facility, message);
        // A broker that just hangs up is no error to librdkafka, though that may be all it says to who comes without TLS.
        if let Some(failure) = failure(facility, message)
            && self.said().is_none()
        {
            self.keep(&failure);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        log::debug!(target: "librdkafka", "{error}: {reason}");
        // It comes after what each of them has said.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            self.keep(reason);
        }
    }
}

impl ConsumerContext for Listening {}

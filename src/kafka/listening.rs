//! What librdkafka has to say while it is asked.

use std::sync::{Mutex, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;

use super::log_librdkafka;

/// Keeps the last thing that librdkafka complained of: its errors have their reason only here.
#[derive(Default)]
pub(super) struct Listening(Mutex<Option<String>>);

impl Listening {
    pub(super) fn said(&self) -> Option<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl ClientContext for Listening {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_librdkafka(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        log::debug!(target: "librdkafka", "{error}: {reason}");
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *said = Some(reason.to_owned());
    }
}

impl ConsumerContext for Listening {}

//! What librdkafka has to say while it is asked, or at work.

use std::sync::{Mutex, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

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

    fn keep(&self, reason: &str) {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *said = Some(reason.to_owned());
    }
}

impl ClientContext for Listening {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_librdkafka(level, facility, message);
        // A broker that just hangs up is no error to librdkafka, though that may be all it says to who comes without TLS.
        if facility == "FAIL" && self.said().is_none() {
            self.keep(message);
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

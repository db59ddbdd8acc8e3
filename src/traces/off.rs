//! What the rest of adflux calls, where it is built without traces: nothing.

use rdkafka::message::BorrowedMessage;
use warp::http::HeaderMap;

use crate::store::Epoch;
use crate::store::write::batch::Filled;
use crate::store::write::commit::ShareResult;

/// Would send what is left, when dropped.
pub struct Running;

/// Says that no traces are made, where somebody expects them.
///
/// # Errors
/// None.
pub fn start() -> anyhow::Result<Running> {
    if std::env::var_os("OTEL_EXPORTER_OTLP_ENDPOINT").is_some_and(|set| !set.is_empty()) {
        log::info!(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, and this adflux was built without the feature `traces`: it makes none"
        );
    }
    Ok(Running)
}

/// Would name the consumer group.
pub fn consuming(_group: &str) {}

/// Would be the traced records of a share.
#[derive(Clone, Debug, Default)]
pub struct Records(());

impl Records {
    #[inline(always)]
    pub fn begin(&mut self, _message: &BorrowedMessage<'_>, _epoch: Epoch) {}
}

/// Would be the writing of a batch.
pub struct Batch;

impl Batch {
    pub fn begin(_shares: &[Filled]) -> Batch {
        Batch
    }

    pub fn ended(&self, _shares: &[Filled], _results: &[ShareResult]) {}
}

/// Would be a step of it.
pub struct Step;

/// Begins nothing.
pub fn step(_name: &'static str) -> Step {
    Step
}

impl Step {
    pub fn done(self) {}
}

/// Would be who waits for the caches.
#[derive(Default)]
pub struct Following(());

/// Nobody does.
pub fn following() -> Following {
    Following(())
}

impl Following {
    pub fn join(&mut self, _others: Following) {}

    pub fn ended(&mut self, _outcome: Result<(), String>) {}
}

/// Would be the sending of records.
pub struct Sending;

impl Sending {
    pub fn request(_headers: &HeaderMap, _topic: &str) -> Sending {
        Sending
    }

    #[inline(always)]
    pub fn record(_topic: &str) -> Sending {
        Sending
    }

    #[inline(always)]
    pub fn headers(&self) -> Vec<(String, Option<Vec<u8>>)> {
        Vec::new()
    }

    #[inline(always)]
    pub fn sent(self, _records: usize) {}
}

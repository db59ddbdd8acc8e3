//! Records that are sent: what their headers carry.

use opentelemetry::trace::{SpanKind, Status, TraceContextExt as _};
use opentelemetry::{Context, KeyValue};
use warp::http::HeaderMap;

use super::carried;
use super::collector::{Tracing, tracing};
use super::records::messaging;

/// The sending of records that have a trace, or of others. What is dropped before it is [sent](Sending::sent) was not sent.
pub struct Sending(Option<Context>);

impl Sending {
    /// Of a request's records, which are in the trace that the request is in.
    pub fn request(headers: &HeaderMap, topic: &str) -> Sending {
        let Some(tracing) = tracing() else {
            return Sending(None);
        };
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let parent = text(carried::PARENT);
        let parent = parent.and_then(|parent| carried::read(parent, text(carried::STATE)));
        Sending::of(tracing, "send", parent, topic)
    }

    /// Of a record of this command.
    pub fn record(topic: &str) -> Sending {
        match tracing() {
            Some(tracing) if tracing.parent.is_some() => Sending(tracing.parent.clone()),
            Some(tracing) => Sending::of(tracing, "create", None, topic),
            None => Sending(None),
        }
    }

    fn of(
        tracing: &Tracing,
        operation: &'static str,
        parent: Option<Context>,
        topic: &str,
    ) -> Sending {
        if parent.is_none() && !tracing.begins {
            return Sending(None);
        }
        let begun = parent.is_none();
        let builder = messaging(operation, operation, topic).with_kind(SpanKind::Producer);
        let context = tracing.span(builder, &parent.unwrap_or_default());
        // Who sent it wants it known that it is not sampled; what nobody has begun, the processor may begin.
        let carries = !begun || context.span().span_context().is_sampled();
        Sending(carries.then_some(context))
    }

    /// The headers of each of the records.
    pub fn headers(&self) -> Vec<(String, Option<Vec<u8>>)> {
        self.0.as_ref().map(carried::write).unwrap_or_default()
    }

    /// So many were sent.
    pub fn sent(self, records: usize) {
        if let Some(context) = &self.0
            && context.span().is_recording()
        {
            let count = i64::try_from(records).unwrap_or(i64::MAX);
            let span = context.span();
            span.set_attribute(KeyValue::new("messaging.batch.message_count", count));
            span.end();
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if let Some(context) = &self.0
            && context.span().is_recording()
        {
            context.span().set_status(Status::error("not sent"));
            context.span().end();
        }
    }
}

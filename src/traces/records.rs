//! Records that are counted: the spans of a share, of the batch that it is written in, and of what follows the commit.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use opentelemetry::trace::{
    Link, SpanBuilder, SpanId, SpanKind, Status, TraceContextExt as _, TraceId,
};
use opentelemetry::{Context, KeyValue};
use rdkafka::message::{BorrowedMessage, Message as _};

use super::carried;
use super::collector::{group, tracing};
use crate::event::Reason;
use crate::kafka::headers::last_header;
use crate::offset::Offset;
use crate::store::Epoch;
use crate::store::write::batch::Filled;
use crate::store::write::commit::{Committed, Outcome, ShareResult};

/// So many records of a share have spans at most: a producer that samples all of them shall not make counting slow.
const MOST: usize = 500;
/// So many bytes of a record's key are told.
const KEY_BYTES: usize = 255;

/// A span as OpenTelemetry's semantic conventions for messaging name it.
pub(super) fn messaging(operation: &'static str, kind: &'static str, topic: &str) -> SpanBuilder {
    SpanBuilder::from_name(format!("{operation} {topic}")).with_attributes([
        KeyValue::new("messaging.system", "kafka"),
        KeyValue::new("messaging.operation.name", operation),
        KeyValue::new("messaging.operation.type", kind),
        KeyValue::new("messaging.destination.name", topic.to_owned()),
    ])
}

/// The records of a share that are traced.
#[derive(Clone, Debug, Default)]
pub struct Records(Vec<Arc<Record>>);

#[derive(Debug)]
struct Record {
    offset: Offset,
    context: Context,
}

impl Records {
    /// Begins the span of a record that was taken in, if it is traced.
    #[inline]
    pub fn begin(&mut self, message: &BorrowedMessage<'_>, epoch: Epoch) {
        let Some(tracing) = tracing() else { return };
        let parent = match last_header(message, c"traceparent") {
            Some(parent) => {
                let state = last_header(message, c"tracestate");
                let text = |bytes| std::str::from_utf8(bytes).ok();
                text(parent).and_then(|parent| carried::read(parent, state.and_then(text)))
            }
            None => None,
        };
        match parent {
            Some(parent) if !parent.span().span_context().is_sampled() => return,
            None if !tracing.begins => return,
            _ if self.0.len() >= MOST => return crate::metrics::UNTRACED.inc(),
            _ => {}
        }
        let context = tracing.span(processing(message, epoch), &parent.unwrap_or_default());
        if context.span().is_recording() {
            let offset = Offset::new(message.offset());
            self.0.push(Arc::new(Record { offset, context }));
        }
    }

    /// Ends the spans of a share that is committed.
    fn committed(&self, committed: &Committed) {
        if self.0.is_empty() {
            return;
        }
        let dead = committed
            .dead_at
            .iter()
            .copied()
            .zip(committed.dead.iter().copied());
        let dead: HashMap<Offset, Reason> = dead.collect();
        for record in &self.0 {
            let span = record.context.span();
            span.set_attribute(KeyValue::new("adflux.commit_id", committed.commit_id.get()));
            match dead.get(&record.offset) {
                None => span.set_attribute(KeyValue::new("adflux.outcome", "committed")),
                Some(reason) => {
                    span.set_attribute(KeyValue::new("adflux.outcome", "dead_letter"));
                    span.set_attribute(KeyValue::new("error.type", reason.as_str()));
                    span.set_status(Status::error(reason.to_string()));
                }
            }
            span.end();
        }
    }
}

fn processing(message: &BorrowedMessage<'_>, epoch: Epoch) -> SpanBuilder {
    let mut builder =
        messaging("process", "process", message.topic()).with_kind(SpanKind::Consumer);
    let attributes = builder.attributes.get_or_insert_default();
    attributes.extend([
        KeyValue::new(
            "messaging.destination.partition.id",
            message.partition().to_string(),
        ),
        KeyValue::new("messaging.kafka.offset", message.offset()),
        // Who takes a partition over, or reads it again, does so in another one.
        KeyValue::new("adflux.partition.epoch", epoch.get()),
    ]);
    if let Some(group) = group() {
        attributes.push(KeyValue::new("messaging.consumer.group.name", group));
    }
    if let Some(key) = message
        .key()
        .and_then(|key| key.get(..key.len().min(KEY_BYTES)))
    {
        let key = String::from_utf8_lossy(key).into_owned();
        attributes.push(KeyValue::new("messaging.kafka.message.key", key));
    }
    builder
}

impl Drop for Record {
    /// Whoever claims the partition next reads it again.
    fn drop(&mut self) {
        let span = self.context.span();
        if span.is_recording() {
            span.set_attribute(KeyValue::new("adflux.outcome", "given_up"));
            span.set_status(Status::error("not written here; it is read again"));
            span.end();
        }
    }
}

thread_local! {
    /// The spans of the batch that this thread writes: one a trace.
    static WRITES: RefCell<Vec<Context>> = const { RefCell::new(Vec::new()) };
}

/// The batch that this thread writes, for as long as this lives. What of it has not [ended](Batch::ended) is given up.
pub struct Batch(());

impl Batch {
    /// Begins a span for each trace that has records in it.
    pub fn begin(shares: &[Filled]) -> Batch {
        let Some(tracing) = tracing() else {
            return Batch(());
        };
        let mut traces: HashMap<TraceId, Vec<&Context>> = HashMap::new();
        for record in shares.iter().flat_map(|share| &share.traces.0) {
            let trace = record.context.span().span_context().trace_id();
            traces.entry(trace).or_default().push(&record.context);
        }
        let writes = traces.into_values().filter_map(|records| {
            let (first, others) = records.split_first()?;
            let links = others
                .iter()
                .map(|other| Link::with_context(other.span().span_context().clone()));
            let records = shares.iter().map(|share| share.records.get()).sum::<i64>();
            let builder = SpanBuilder::from_name("write")
                .with_links(links.collect())
                .with_attributes([
                    KeyValue::new("db.system.name", "postgresql"),
                    KeyValue::new("adflux.batch.records", records),
                ]);
            Some(tracing.span(builder, first))
        });
        WRITES.replace(writes.collect());
        Batch(())
    }

    /// Ends them, and those of the records that are committed.
    pub fn ended(&self, shares: &[Filled], results: &[ShareResult]) {
        for result in results {
            let share = shares.iter().find(|share| share.stream == result.stream);
            if let (Some(share), Outcome::Committed(committed)) = (share, &result.outcome) {
                share.traces.committed(committed);
            }
        }
        WRITES.with_borrow(|writes| writes.iter().for_each(|write| write.span().end()));
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        give_up(&WRITES.take(), "the batch was given up");
    }
}

fn give_up(spans: &[Context], why: &'static str) {
    for span in spans.iter().map(Context::span) {
        if span.is_recording() {
            span.set_status(Status::error(why));
            span.end();
        }
    }
}

/// A step of writing a batch. What is dropped before it is [done](Step::done) has failed.
pub struct Step(Vec<Context>);

/// Begins a step of the batch that this thread writes.
pub fn step(name: &'static str) -> Step {
    let steps = WRITES.with_borrow(|writes| {
        let spans = writes
            .iter()
            .filter_map(|write| Some(tracing()?.span(SpanBuilder::from_name(name), write)));
        spans.collect()
    });
    Step(steps)
}

impl Step {
    /// Ends it.
    pub fn done(self) {
        self.0.iter().for_each(|step| step.span().end());
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        give_up(&self.0, "it failed, or had to begin again");
    }
}

/// Batches whose commits the cache is to follow.
#[derive(Default)]
pub struct Following(Vec<(Context, SystemTime)>);

/// The batch that this thread writes.
pub fn following() -> Following {
    let now = SystemTime::now();
    Following(
        WRITES.with_borrow(|writes| writes.iter().map(|write| (write.clone(), now)).collect()),
    )
}

impl Following {
    /// Takes others in. Those of one batch come once for each of its partitions.
    pub fn join(&mut self, others: Following) {
        let id = |context: &Context| -> SpanId { context.span().span_context().span_id() };
        for other in others.0 {
            if self.0.len() < MOST && self.0.iter().all(|known| id(&known.0) != id(&other.0)) {
                self.0.push(other);
            }
        }
    }

    /// The cache has followed, or why it does not.
    pub fn ended(&mut self, outcome: Result<(), String>) {
        let Some(tracing) = tracing() else { return };
        for (write, since) in self.0.drain(..) {
            let builder = SpanBuilder::from_name("refresh")
                .with_kind(SpanKind::Client)
                .with_start_time(since)
                .with_attributes([KeyValue::new("db.system.name", "redis")]);
            let refresh = tracing.span(builder, &write);
            if let Err(why) = &outcome {
                refresh.span().set_status(Status::error(why.clone()));
            }
            refresh.span().end();
        }
    }
}

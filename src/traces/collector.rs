//! Where spans go: a collector, by OTLP over HTTP, as OpenTelemetry's own environment variables say.

use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, bail};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry::trace::{Span as _, SpanBuilder, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider, SpanData};

use super::carried;
use crate::metrics;
use crate::outage::Outage;

/// How long a process that stops waits for the collector.
const LAST_SPANS: Duration = Duration::from_secs(3);

static TRACING: OnceLock<Tracing> = OnceLock::new();

/// What all spans are made with.
pub(super) struct Tracing {
    tracer: SdkTracer,
    /// Whether traces are begun here, and not only carried on.
    pub begins: bool,
    /// Of the process that started this command.
    pub parent: Option<Context>,
}

/// What there is, if traces are made.
pub(super) fn tracing() -> Option<&'static Tracing> {
    TRACING.get()
}

impl Tracing {
    /// Begins a span, and the context to have it as a parent.
    pub fn span(&self, builder: SpanBuilder, parent: &Context) -> Context {
        let span = self.tracer.build_with_context(builder, parent);
        if span.is_recording() {
            metrics::SPANS.inc();
        }
        parent.with_span(span)
    }
}

static GROUP: OnceLock<String> = OnceLock::new();

/// Says as which group records are read.
pub fn consuming(group: &str) {
    let _ = GROUP.set(group.to_owned());
}

pub(super) fn group() -> Option<&'static str> {
    GROUP.get().map(String::as_str)
}

/// Sends what is left, when dropped.
pub struct Running(Option<SdkTracerProvider>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(provider) = self.0.take()
            && let Err(error) = provider.shutdown_with_timeout(LAST_SPANS)
        {
            log::warn!("the last traces were not taken: {error}");
        }
    }
}

/// A variable that is not empty.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Makes traces from now on, if the environment names a collector.
///
/// # Errors
/// When a variable does not say what it must.
pub fn start() -> anyhow::Result<Running> {
    let endpoints = [
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
    ];
    let is = |name, value| variable(name).is_some_and(|set| set.eq_ignore_ascii_case(value));
    if endpoints.iter().all(|name| variable(name).is_none())
        || is("OTEL_SDK_DISABLED", "true")
        || is("OTEL_TRACES_EXPORTER", "none")
    {
        return Ok(Running(None));
    }
    for name in [
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
    ] {
        if let Some(protocol) = variable(name).filter(|protocol| protocol != "http/protobuf") {
            bail!(
                "{name}={protocol}: traces are sent by http/protobuf only, to port 4318 of most collectors"
            );
        }
    }
    let begins = begins()?;
    let exporter = SpanExporter::builder().with_http().build();
    let exporter =
        exporter.with_context(|| format!("where traces go ({})", endpoints.join(", ")))?;
    let mut builder = SdkTracerProvider::builder()
        .with_batch_exporter(Telling {
            exporter,
            away: Outage::default(),
        })
        .with_resource(resource());
    if begins.is_none() {
        builder = builder.with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOff)));
    }
    let provider = builder.build();
    let parent = variable("TRACEPARENT");
    let parent =
        parent.and_then(|parent| carried::read(&parent, variable("TRACESTATE").as_deref()));
    let tracing = Tracing {
        tracer: provider.tracer("adflux"),
        begins: begins.unwrap_or(false),
        parent,
    };
    let _ = TRACING.set(tracing);
    for metric in [&metrics::SPANS, &metrics::SPANS_SENT, &metrics::UNTRACED] {
        std::sync::LazyLock::force(metric);
    }
    Ok(Running(Some(provider)))
}

/// Whether traces are begun here, if the environment says anything of it. The SDK would take what it does not know for always.
fn begins() -> anyhow::Result<Option<bool>> {
    const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
    const SHARE: &str = "OTEL_TRACES_SAMPLER_ARG";
    let Some(sampler) = variable(SAMPLER) else {
        return Ok(None);
    };
    match sampler.as_str() {
        "always_off" | "parentbased_always_off" => Ok(Some(false)),
        "always_on" | "parentbased_always_on" => Ok(Some(true)),
        "traceidratio" | "parentbased_traceidratio" => {
            let share = variable(SHARE).and_then(|share| share.parse::<f64>().ok());
            if share.is_none_or(|share| !(0.0..=1.0).contains(&share)) {
                bail!(
                    "{SHARE}: {SAMPLER}={sampler} needs a share of traces here, from 0 to 1, such as 0.0001"
                );
            }
            Ok(Some(true))
        }
        _ => bail!(
            "{SAMPLER}={sampler}: not one of always_on, always_off, traceidratio, parentbased_always_on, \
             parentbased_always_off and parentbased_traceidratio"
        ),
    }
}

/// Who makes the spans.
fn resource() -> Resource {
    let mut builder = Resource::builder();
    let others = variable("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
    let is_named = others
        .split(',')
        .any(|one| one.trim_start().starts_with("service.name="));
    if variable("OTEL_SERVICE_NAME").is_none() && !is_named {
        builder = builder.with_service_name("adflux");
    }
    builder
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build()
}

/// The exporter, and what becomes of what it is given.
struct Telling {
    exporter: SpanExporter,
    away: Outage,
}

impl std::fmt::Debug for Telling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.exporter.fmt(f)
    }
}

impl opentelemetry_sdk::trace::SpanExporter for Telling {
    async fn export(&self, spans: Vec<SpanData>) -> OTelSdkResult {
        let count = spans.len() as u64;
        let sent = self.exporter.export(spans).await;
        match &sent {
            Ok(()) => {
                metrics::SPANS_SENT.inc_by(count);
                self.away.ended(format_args!("traces are taken again"));
            }
            Err(error) => self.away.failed(format_args!(
                "traces are not taken ({error}); they are lost until they are, and nothing waits for it"
            )),
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn shutdown(&self) -> OTelSdkResult {
        self.exporter.shutdown()
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

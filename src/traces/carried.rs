//! W3C's trace context, as headers carry it.

use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::TraceContextExt as _;
use opentelemetry_sdk::propagation::TraceContextPropagator;

pub const PARENT: &str = "traceparent";
pub const STATE: &str = "tracestate";

struct Read<'a> {
    parent: &'a str,
    state: Option<&'a str>,
}

impl Extractor for Read<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            PARENT => Some(self.parent),
            STATE => self.state,
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec![PARENT, STATE]
    }
}

#[derive(Default)]
struct Written(Vec<(String, Option<Vec<u8>>)>);

impl Injector for Written {
    fn set(&mut self, key: &str, value: String) {
        if !value.is_empty() {
            self.0.push((key.to_owned(), Some(value.into_bytes())));
        }
    }
}

/// Whose child a span is to be; none where this is no trace context.
pub fn read(parent: &str, state: Option<&str>) -> Option<Context> {
    let context = TraceContextPropagator::new().extract(&Read { parent, state });
    let is_one = context.span().span_context().is_valid();
    is_one.then_some(context)
}

/// Headers that make others its children.
pub fn write(context: &Context) -> Vec<(String, Option<Vec<u8>>)> {
    let mut written = Written::default();
    TraceContextPropagator::new().inject_context(context, &mut written);
    written.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_context_is_carried_as_it_was() {
        let context = read(SAMPLED, Some("shop=1")).expect("a context");
        assert!(context.span().span_context().is_sampled());
        let header = |name: &str, value: &str| (name.to_owned(), Some(value.as_bytes().to_vec()));
        assert_eq!(
            write(&context),
            [header(PARENT, SAMPLED), header(STATE, "shop=1")]
        );
        let alone = read(SAMPLED, None).expect("a context");
        assert_eq!(write(&alone), [header(PARENT, SAMPLED)]);
    }

    #[test]
    fn what_is_no_context_is_none() {
        for parent in [
            "",
            "00",
            "nonsense",
            &SAMPLED[..52],
            &SAMPLED.replace('4', "é"),
        ] {
            assert!(read(parent, None).is_none(), "{parent}");
        }
        let nobody = "00-00000000000000000000000000000000-0000000000000000-01";
        assert!(read(nobody, Some("shop=1")).is_none());
        // What cannot be read of the state does not cost the trace.
        assert!(read(SAMPLED, Some("=,=,")).is_some());
    }
}

//! The documents of answers, in JSON Schema. Each is closed: a field that is not named here fails the
//! tests, which hold real answers against it.

use serde_json::{Map, Value, json};

use crate::event::{Platform, Reason};
use crate::totals::metric::{Kind, Metric};

/// Every schema by its name.
pub fn all() -> Value {
    json!({
        "Metrics": object(metrics(), &[]),
        "Comparison": comparison(),
        "Window": object([("since", nullable(time())), ("until", nullable(time()))], &["since", "until"]),
        "Paging": object([
            ("next_cursor", described(nullable(text()), "Hand it back as cursor for the next page; null on the last one.")),
            ("total", described(count(), "Rows on all pages together, where that is known.")),
        ], &["next_cursor"]),
        "Freshness": object([
            ("first_event_time", described(time(), "The earliest event, whatever the window.")),
            ("last_event_time", described(time(), "The latest event, whatever the window.")),
            ("counted_at", described(time(), "When the last event was counted.")),
            ("commit_id", described(count(), "The transaction that counted it.")),
            ("stale", described(json!({ "type": "boolean" }), "True when the database did not answer and this is what was known before.")),
            ("positions", described(list(object([
                ("topic", text()),
                ("partition", count()),
                ("next_offset", count()),
            ], &["topic", "partition", "next_offset"])), "Up to where each partition is counted.")),
        ], &["first_event_time", "last_event_time", "counted_at", "commit_id", "stale"]),
        "Insights": object([
            ("campaign_id", id()),
            ("as_of", described(time(), "The instant that was asked about.")),
            ("window", reference("Window")),
            ("previous_window", reference("Window")),
            ("time_zone", text()),
            ("freshness", nullable(reference("Freshness"))),
            ("totals", figures([], &[])),
            ("platforms", list(figures([("platform", platform())], &["platform"]))),
            ("data", list(figures([
                ("since", nullable(time())),
                ("until", nullable(time())),
                ("campaign_id", id()),
                ("platform", platform()),
            ], &["since", "until"]))),
            ("paging", reference("Paging")),
        ], &["window", "time_zone", "freshness", "totals", "platforms", "data", "paging"]),
        "Campaigns": object([
            ("window", reference("Window")),
            ("previous_window", reference("Window")),
            ("time_zone", text()),
            ("freshness", nullable(reference("Freshness"))),
            ("data", list(figures([("campaign_id", id())], &["campaign_id"]))),
            ("paging", reference("Paging")),
        ], &["window", "time_zone", "freshness", "data", "paging"]),
        "Events": object([
            ("campaign_id", id()),
            ("window", reference("Window")),
            ("data", list(event())),
            ("paging", reference("Paging")),
        ], &["campaign_id", "window", "data", "paging"]),
        "DeadLetters": object([
            ("window", reference("Window")),
            ("data", list(dead_letter())),
            ("paging", reference("Paging")),
        ], &["window", "data", "paging"]),
        "Alerts": object([
            ("data", list(reference("Alert"))),
            ("paging", reference("Paging")),
        ], &["data", "paging"]),
        "Alert": alert(),
        "Rules": object([("data", list(reference("Rule")))], &["data"]),
        "Rule": rule(),
        "RuleToWrite": object(rule_as_written(), &["when"]),
        "Pipeline": pipeline(),
        "Ready": object([
            ("status", text()),
            ("postgresql", text()),
            ("redis", text()),
        ], &["status", "postgresql"]),
        "Lives": object([("status", text())], &["status"]),
        "Anything": { "type": "object" },
        "Subjects": list(text()),
        "Versions": list(count()),
        "AvroSchema": object([("schema", text())], &["schema"]),
        "SubjectVersion": object([
            ("subject", text()),
            ("version", count()),
            ("id", count()),
            ("schema", text()),
        ], &["subject", "version", "id", "schema"]),
        "RegistryError": object([("error_code", count()), ("message", text())], &["error_code", "message"]),
        "Problem": problem(),
    })
}

/// The names of all metrics.
pub fn metric_names() -> Vec<&'static str> {
    Metric::ALL.iter().map(|metric| metric.name()).collect()
}

fn object<'a>(fields: impl IntoIterator<Item = (&'a str, Value)>, required: &[&str]) -> Value {
    let fields: Map<String, Value> = fields
        .into_iter()
        .map(|(name, schema)| (name.to_owned(), schema))
        .collect();
    json!({
        "type": "object",
        "properties": fields,
        "required": required,
        "additionalProperties": false,
    })
}

fn described(mut schema: Value, description: &str) -> Value {
    if let Some(object) = schema.as_object_mut() {
        object.insert("description".to_owned(), description.into());
    }
    schema
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn nullable(schema: Value) -> Value {
    json!({ "anyOf": [schema, { "type": "null" }] })
}

fn list(items: Value) -> Value {
    json!({ "type": "array", "items": items })
}

fn text() -> Value {
    json!({ "type": "string" })
}

fn time() -> Value {
    json!({ "type": "string", "format": "date-time" })
}

fn count() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

fn number() -> Value {
    json!({ "type": "number" })
}

fn id() -> Value {
    json!({ "type": "string", "pattern": "^[A-Za-z0-9_.:-]{1,64}$" })
}

fn platform() -> Value {
    let names: Vec<&str> = Platform::ALL
        .iter()
        .map(|platform| platform.name())
        .collect();
    json!({ "type": "string", "enum": names })
}

fn metrics() -> Vec<(&'static str, Value)> {
    let of = |metric: &Metric| {
        let schema = match metric.kind() {
            Kind::Count | Kind::Micros => json!({ "type": "integer" }),
            Kind::Money => number(),
            Kind::Ratio => json!({ "type": ["number", "null"] }),
        };
        (metric.name(), described(schema, metric.description()))
    };
    Metric::ALL.iter().map(of).collect()
}

/// The metrics that were asked for, and what more a row has.
fn figures<const N: usize>(more: [(&'static str, Value); N], required: &[&str]) -> Value {
    let mut fields = Vec::from(more);
    fields.extend(metrics());
    fields.push(("comparison", reference("Comparison")));
    object(fields, required)
}

fn comparison() -> Value {
    let changes = || {
        object(
            Metric::ALL
                .iter()
                .map(|metric| (metric.name(), json!({ "type": ["number", "null"] }))),
            &[],
        )
    };
    object(
        [
            (
                "previous",
                described(
                    nullable(reference("Metrics")),
                    "What the period before had.",
                ),
            ),
            (
                "absolute",
                described(
                    changes(),
                    "Now minus then; null where one of them has no value.",
                ),
            ),
            (
                "relative",
                described(
                    changes(),
                    "The absolute change by what it was: 0.1 is a tenth more; null where that was zero.",
                ),
            ),
        ],
        &["previous", "absolute", "relative"],
    )
}

fn event() -> Value {
    object(
        [
            ("event_id", json!({ "type": "string", "format": "uuid" })),
            ("platform", platform()),
            ("event_time", time()),
            ("impressions", count()),
            ("clicks", count()),
            ("conversions", count()),
            ("cost_micros", count()),
            ("revenue_micros", count()),
            ("cost", number()),
            ("revenue", number()),
            ("topic", text()),
            ("partition", count()),
            ("offset", count()),
            ("counted_at", time()),
        ],
        &["event_id", "platform", "event_time", "partition", "offset"],
    )
}

fn dead_letter() -> Value {
    object(
        [
            ("topic", text()),
            ("partition", count()),
            ("offset", count()),
            (
                "reason",
                described(text(), &format!("One of {}.", reasons().join(", "))),
            ),
            ("explanation", nullable(text())),
            ("created_at", time()),
            ("record_time", nullable(time())),
            (
                "key",
                described(nullable(text()), "The key, where it is text."),
            ),
            ("key_hex", nullable(text())),
            ("payload_hex", nullable(text())),
            ("payload_bytes", nullable(count())),
            ("headers", json!({})),
        ],
        &["topic", "partition", "offset", "reason", "created_at"],
    )
}

fn reasons() -> Vec<&'static str> {
    Reason::ALL.iter().map(|reason| reason.as_str()).collect()
}

fn alert() -> Value {
    let measured = || {
        let measured = object(
            [
                ("condition", text()),
                (
                    "value",
                    described(
                        nullable(number()),
                        "What it was measured at; null where it had no value.",
                    ),
                ),
                (
                    "threshold",
                    described(nullable(number()), "What that was compared with."),
                ),
            ],
            &["condition", "value", "threshold"],
        );
        nullable(list(measured))
    };
    object(
        [
            ("alert_id", json!({ "type": "string", "format": "uuid" })),
            ("rule", text()),
            ("campaign_id", id()),
            (
                "state",
                json!({ "type": "string", "enum": ["open", "resolved"] }),
            ),
            (
                "condition",
                described(text(), "The rule's when it opened, every window said."),
            ),
            ("opened_at", nullable(time())),
            ("resolved_at", nullable(time())),
            (
                "resolved_because",
                described(
                    nullable(text()),
                    "condition: it no longer held; rule: the rule is gone or no longer covers the campaign.",
                ),
            ),
            ("opened_values", measured()),
            ("resolved_values", measured()),
        ],
        &["alert_id", "rule", "campaign_id", "state", "condition"],
    )
}

/// A rule as it is sent to us.
fn rule_as_written() -> Vec<(&'static str, Value)> {
    let names = |description| described(list(text()), description);
    vec![
        (
            "name",
            described(text(), "1 to 64 characters of A-Z a-z 0-9 _ . -"),
        ),
        (
            "when",
            described(
                json!({ "type": "string", "examples": ["roas < 1 over 1h and cost > 50"] }),
                "The condition.",
            ),
        ),
        (
            "campaigns",
            names("Only these campaigns; a * at the end stands for any end. Empty: all."),
        ),
        (
            "platforms",
            described(
                list(platform()),
                "Sums are over these platforms. Empty: all.",
            ),
        ),
        (
            "for",
            described(
                nullable(text()),
                "How long the condition must hold before an alert opens, such as 10m.",
            ),
        ),
        ("to", names("The webhooks that are told, by name.")),
    ]
}

fn rule() -> Value {
    let mut fields = rule_as_written();
    fields.extend([
        (
            "understood_as",
            described(
                nullable(text()),
                "The condition with every window said; null if this version does not understand it.",
            ),
        ),
        (
            "source",
            described(
                json!({ "type": "string", "enum": ["file", "api"] }),
                "The file's are read-only here.",
            ),
        ),
        ("created_at", time()),
        ("updated_at", time()),
    ]);
    object(fields, &["name", "when", "source"])
}

fn pipeline() -> Value {
    let numbers = |names: &[&'static str]| -> Vec<(&'static str, Value)> {
        names.iter().map(|name| (*name, count())).collect()
    };
    let lag = || {
        described(
            nullable(count()),
            "Records of the log not yet counted; null where this process does not count.",
        )
    };
    let mut partition = numbers(&[
        "partition",
        "epoch",
        "start_offset",
        "next_offset",
        "records",
        "events",
        "duplicates",
        "dead_letters",
        "commit_id",
    ]);
    partition.extend([
        ("cluster_id", text()),
        ("topic", text()),
        ("owner", text()),
        ("lag", lag()),
        ("counted_at", nullable(time())),
    ]);
    let totals = [
        "records",
        "events",
        "duplicates",
        "dead_letters",
        "commit_id",
    ];
    object(
        [
            ("measured_at", time()),
            ("lag", lag()),
            ("counted_at", nullable(time())),
            ("seconds_since_commit", nullable(number())),
            (
                "events_per_second",
                described(number(), "Over the last minute."),
            ),
            (
                "delay_seconds",
                described(
                    nullable(number()),
                    "From an event's own time to its commit: half were quicker; null when there was none in the last minute.",
                ),
            ),
            ("totals", object(numbers(&totals), &totals)),
            (
                "batches",
                object(
                    [
                        (
                            "per_second",
                            described(
                                number(),
                                "Transactions that brought events, over the last minute.",
                            ),
                        ),
                        (
                            "mean_events",
                            described(nullable(number()), "Events of one, over the last minute."),
                        ),
                        (
                            "mean_seconds",
                            described(
                                nullable(number()),
                                "In PostgreSQL, since this process started; null where it does not count.",
                            ),
                        ),
                    ],
                    &["per_second", "mean_events", "mean_seconds"],
                ),
            ),
            (
                "dead_letters",
                list(object(
                    [
                        ("reason", text()),
                        ("count", count()),
                        ("newest_at", time()),
                    ],
                    &["reason", "count", "newest_at"],
                )),
            ),
            (
                "partitions",
                list(object(
                    partition,
                    &["topic", "partition", "next_offset", "lag"],
                )),
            ),
        ],
        &[
            "measured_at",
            "lag",
            "counted_at",
            "events_per_second",
            "delay_seconds",
            "totals",
            "batches",
            "dead_letters",
            "partitions",
        ],
    )
}

fn problem() -> Value {
    json!({
        "type": "object",
        "properties": {
            "type": described(text(), "urn:adflux:problem:… names the kind of problem."),
            "title": text(),
            "status": { "type": "integer" },
            "detail": described(text(), "For people."),
            "parameter": described(text(), "The parameter at fault."),
            "column": described(count(), "Where in it, in characters from 1."),
        },
        "required": ["type", "title", "status", "detail"],
        "additionalProperties": false,
    })
}

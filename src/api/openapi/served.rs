//! Every path that is answered, for the document.

use super::super::params::{Endpoint, Kind, Parameter};
use super::super::{alert_rules, live, pipeline};
use super::{Content, Operation, endpoints};

/// Groups of paths.
pub const TAGS: &[(&str, &str)] = &[
    ("insights", "What campaigns earned"),
    ("live", "Totals as they change"),
    ("alerts", "When somebody should look"),
    ("records", "What is behind the numbers"),
    ("operations", "How the system is doing"),
    (
        "schema",
        "The event's schema, in the form of Confluent's Schema Registry",
    ),
];

macro_rules! plain {
    ($name:ident, $path:literal, $summary:literal, $description:literal $(, $parameter:expr)*) => {
        static $name: Endpoint = Endpoint {
            path: $path,
            summary: $summary,
            description: $description,
            parameters: &[$($parameter),*],
            csv: false,
        };
    };
}

plain!(
    LIVEZ,
    "/livez",
    "Whether the process runs",
    "For orchestrators. Needs no key."
);
plain!(
    READYZ,
    "/readyz",
    "Whether requests can be answered",
    "Names each dependency. Redis is not needed. Needs no key."
);
plain!(
    METRICS,
    "/metrics",
    "Metrics for Prometheus",
    "Everything that is counted in this process, in Prometheus' text format."
);
plain!(
    OPENAPI,
    "/openapi.json",
    "This document",
    "The API in OpenAPI 3.1. Needs no key."
);
plain!(DOCS, "/docs", "This document, for people", "Needs no key.");
plain!(
    SUBJECTS,
    "/subjects",
    "The schema's subject",
    "One: the topic's values."
);
plain!(
    SCHEMA,
    "/schemas/ids/{id}",
    "The schema of an id",
    "The Avro schema that frames events with this id.",
    Parameter::path("id", Kind::Text { most: 20 }, "The schema's id.")
);
plain!(
    VERSIONS,
    "/subjects/{subject}/versions",
    "The versions of the subject",
    "One.",
    Parameter::path("subject", Kind::Text { most: 256 }, "The subject.")
);
plain!(
    VERSION,
    "/subjects/{subject}/versions/{version}",
    "A version of the subject",
    "The Avro schema and its id.",
    Parameter::path("subject", Kind::Text { most: 256 }, "The subject."),
    Parameter::path(
        "version",
        Kind::Text { most: 20 },
        "The version, or latest."
    )
);

fn operation(
    endpoint: &'static Endpoint,
    tag: &'static str,
    content: Content,
    statuses: &'static [u16],
    questions: &'static [(&'static str, &'static str)],
) -> Operation {
    Operation {
        endpoint,
        method: "get",
        tag,
        body: None,
        content,
        successes: &[200],
        statuses,
        questions,
    }
}

/// All of them, in the order in which people want them.
pub fn operations() -> Vec<Operation> {
    use Content::{Events, Health, Json, Nothing, Registry, Text};
    vec![
        operation(
            &endpoints::CAMPAIGNS,
            "insights",
            Json("Campaigns"),
            &[400],
            &[
                (
                    "Which Meta campaigns lost money yesterday, Berlin time?",
                    "/campaigns?platform=Meta&date_preset=yesterday&time_zone=Europe/Berlin&filter=profit<0&sort=profit&order=asc",
                ),
                (
                    "Which ten campaigns earned most this month?",
                    "/campaigns?date_preset=this_month&sort=profit&limit=10",
                ),
                (
                    "Which spent more than 100 in the last week without a conversion?",
                    "/campaigns?date_preset=last_7d&filter=cost>100&filter=conversions=0&sort=cost",
                ),
            ],
        ),
        operation(
            &endpoints::INSIGHTS,
            "insights",
            Json("Insights"),
            &[400],
            &[
                (
                    "How did all campaigns together do, day by day, in the last two weeks?",
                    "/insights?date_preset=last_14d&time_increment=day",
                ),
                (
                    "Which platform pays, against the week before?",
                    "/insights?date_preset=last_7d&breakdown=platform&compare=previous_period",
                ),
            ],
        ),
        operation(
            &endpoints::CAMPAIGN_INSIGHTS,
            "insights",
            Json("Insights"),
            &[400, 404],
            &[
                (
                    "What has a campaign earned, ever?",
                    "/campaign/cmp-42/insights",
                ),
                (
                    "How did it do today, hour by hour in New York, only ROAS and spend?",
                    "/campaign/cmp-42/insights?date_preset=today&time_zone=America/New_York&time_increment=hour&fields=roas,cost",
                ),
            ],
        ),
        operation(
            &endpoints::ALERTS,
            "alerts",
            Json("Alerts"),
            &[400],
            &[("What should somebody look at now?", "/alerts?state=open")],
        ),
        operation(
            &endpoints::RULES,
            "alerts",
            Json("Rules"),
            &[400],
            &[("When is somebody told, and who?", "/alerts/rules")],
        ),
        operation(
            &alert_rules::ADD,
            "alerts",
            Json("Rule"),
            &[400, 404, 409, 413, 415],
            &[],
        )
        .writes("post", Some("RuleToWrite"), &[201]),
        operation(&alert_rules::ONE, "alerts", Json("Rule"), &[400, 404], &[]),
        operation(
            &alert_rules::PUT,
            "alerts",
            Json("Rule"),
            &[400, 404, 409, 413, 415],
            &[],
        )
        .writes("put", Some("RuleToWrite"), &[200, 201]),
        operation(
            &alert_rules::DELETE,
            "alerts",
            Nothing,
            &[400, 404, 409],
            &[],
        )
        .writes("delete", None, &[204]),
        operation(
            &endpoints::EVENTS,
            "records",
            Json("Events"),
            &[400, 404],
            &[(
                "Which events are behind a campaign's numbers?",
                "/campaign/cmp-42/events?limit=20",
            )],
        ),
        operation(
            &endpoints::DEAD_LETTERS,
            "records",
            Json("DeadLetters"),
            &[400, 403],
            &[(
                "Which records could not be counted, and why?",
                "/dead-letters?limit=20",
            )],
        ),
        operation(
            &live::ALL,
            "live",
            Events,
            &[400],
            &[("What is changing right now?", "/live")],
        ),
        operation(
            &live::CAMPAIGN,
            "live",
            Events,
            &[400, 404],
            &[(
                "What does a campaign earn right now?",
                "/campaign/cmp-42/live",
            )],
        ),
        operation(
            &pipeline::ENDPOINT,
            "operations",
            Json("Pipeline"),
            &[400],
            &[("Is everything counted, and how quickly?", "/pipeline")],
        ),
        operation(&READYZ, "operations", Health("Ready"), &[], &[]),
        operation(&LIVEZ, "operations", Json("Lives"), &[], &[]),
        operation(&METRICS, "operations", Text("text/plain"), &[], &[]),
        operation(&OPENAPI, "operations", Json("Anything"), &[], &[]),
        operation(&DOCS, "operations", Text("text/html"), &[], &[]),
        operation(&SUBJECTS, "schema", Registry("Subjects"), &[], &[]),
        operation(&VERSIONS, "schema", Registry("Versions"), &[404], &[]),
        operation(&VERSION, "schema", Registry("SubjectVersion"), &[404], &[]),
        operation(&SCHEMA, "schema", Registry("AvroSchema"), &[404], &[]),
    ]
}

//! What schemas are made of, and those that several documents have. Each object is closed: a field that is not
//! named in it fails the tests, which hold real answers against it.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::alerts::rule::Severity;
use crate::api::endpoint::Schema;
use crate::api::parameters::ID_PATTERN;
use crate::event::Platform;
use crate::report_row::Values;
use crate::totals::metric::{Metric, Unit};

/// Schemas that others refer to.
pub static SHARED: &[Schema] = &[
    METRICS, COMPARISON, WINDOW, PAGING, FRESHNESS, ALERT, PROBLEM,
];

pub const METRICS: Schema = Schema {
    name: "Metrics",
    describe: || with_metrics(json!({}), Of::One),
};
pub const COMPARISON: Schema = Schema {
    name: "Comparison",
    describe: || {
        let changes = || {
            let change = |metric: &Metric| (format!("{}?", metric.name()), nullable(number()));
            object(Metric::ALL.iter().map(change).collect())
        };
        object(json!({
            "previous": described(nullable(with_metrics(json!({}), Of::Many)), "What the period before had."),
            "absolute": described(changes(), "Now minus then; null where one of them has no value."),
            "relative": described(changes(), "The absolute change by what it was: 0.1 is a tenth more; null where that was zero."),
        }))
    },
};
pub const WINDOW: Schema = Schema {
    name: "Window",
    describe: || object(json!({ "since": nullable(time()), "until": nullable(time()) })),
};
pub const PAGING: Schema = Schema {
    name: "Paging",
    describe: || {
        object(json!({
            "next_cursor": described(nullable(text()), "Hand it back as cursor for the next page; null on the last one."),
            "total?": described(count(), "Rows on all pages together, where that is known."),
        }))
    },
};
pub const FRESHNESS: Schema = Schema {
    name: "Freshness",
    describe: || {
        object(json!({
            "first_event_time": described(time(), "The earliest event, whatever the window."),
            "last_event_time": described(time(), "The latest event, whatever the window."),
            "counted_at": described(time(), "When the last event was counted."),
            "commit_id": described(count(), "The transaction that counted it."),
            "stale": described(json!({ "type": "boolean" }), "True when the database did not answer and this is what was known before."),
            "positions": described(
                list(object(json!({ "topic": text(), "partition": count(), "next_offset": count() }))),
                "Up to where each partition is counted."
            ),
        }))
    },
};
pub const ALERT: Schema = Schema {
    name: "Alert",
    describe: || {
        let each = || {
            list(object(json!({
                "condition": text(),
                "value": described(nullable(number()), "What it was measured at; null where it had no value."),
                "threshold": described(nullable(number()), "What that was compared with; null where it could not be compared."),
            })))
        };
        let measured = || nullable(each());
        object(json!({
            "alert_id": { "type": "string", "format": "uuid" },
            "rule": text(),
            "campaign_id": described(nullable(id()), "Null: it is about an account, or the pipeline."),
            "campaign_name": described(nullable(text()), "The campaign's newest name; null: none is known."),
            "platform": described(nullable(platform()), "The account's; null where no platform reports the campaign, and of the pipeline."),
            "account_id": described(nullable(text()), "The account that the campaign is of, or that it is about."),
            "currency": described(nullable(text()), "That of money in the values (ISO 4217), where it is known."),
            "state": { "type": "string", "enum": ["open", "resolved"] },
            "severity": described(severity(), "The rule's when it opened."),
            "condition": described(text(), "The rule's when it opened, every window said."),
            "opened_at": nullable(time()),
            "resolved_at": nullable(time()),
            "resolved_because": described(nullable(text()), "condition: it no longer held; rule: the rule is gone or no longer covers the campaign."),
            "opened_values": measured(),
            "resolved_values": measured(),
            "current_values?": described(each(), "With measure=now, of an open alert: what its rule is measured at now."),
            "acknowledged_at": described(nullable(time()), "When somebody said that they have seen it."),
            "acknowledged_by": described(nullable(text()), "The name of their API key, where keys are required."),
        }))
    },
};
pub const PROBLEM: Schema = Schema {
    name: "Problem",
    describe: || {
        object(json!({
            "type": described(text(), "urn:adflux:problem:… names the kind of problem."),
            "title": text(),
            "status": { "type": "integer" },
            "detail": described(text(), "For people."),
            "parameter?": described(text(), "The parameter at fault."),
            "column?": described(count(), "Where in it, in characters from 1."),
            "refused?": described(count(), "How many records are refused of what was sent; none was sent on."),
            "refusals?": described(list(object(json!({
                "place": described(nullable(text()), "Where it is, in words; null: it is about the body as a whole."),
                "number": described(nullable(count()), "Its line or row, or its place in the array, from 1."),
                "field": nullable(text()),
                "value": described(nullable(text()), "The beginning of what stands there."),
                "reason": text(),
                "what_to_do": nullable(text()),
            }))), "The first 20 of them."),
        }))
    },
};

/// An object of these fields and no others; one whose name ends in `?` may be left out.
pub fn object(fields: Value) -> Value {
    let Value::Object(fields) = fields else {
        return fields;
    };
    let is_required = |name: &&String| !name.ends_with('?');
    let required: Vec<&String> = fields.keys().filter(is_required).collect();
    let described = fields
        .iter()
        .map(|(name, schema)| (name.trim_end_matches('?'), schema));
    json!({
        "type": "object",
        "properties": described.collect::<HashMap<_, _>>(),
        "required": required,
        "additionalProperties": false,
    })
}

/// Of how many campaigns figures are: of several, money is null where it is of several currencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    One,
    Many,
}

/// The metrics that were asked for, and what more there is.
pub fn with_metrics(mut fields: Value, of: Of) -> Value {
    for metric in Metric::ALL {
        let schema = match metric.unit() {
            Unit::Micros if of == Of::Many => json!({ "type": ["integer", "null"] }),
            Unit::Money if of == Of::Many => json!({ "type": ["number", "null"] }),
            Unit::Count | Unit::Micros => integer(),
            Unit::Money | Unit::Conversions => number(),
            Unit::Ratio => json!({ "type": ["number", "null"] }),
        };
        if let Some(fields) = fields.as_object_mut() {
            fields.insert(
                format!("{}?", metric.name()),
                described(schema, metric.description()),
            );
        }
    }
    object(fields)
}

/// The same with their comparison, where it was asked for.
pub fn figures(mut fields: Value, of: Of) -> Value {
    if let Some(fields) = fields.as_object_mut() {
        fields.insert("comparison?".to_owned(), reference(&COMPARISON));
    }
    with_metrics(fields, of)
}

/// The same of all rows together, with whose claims are in them.
pub fn whole(mut fields: Value, of: Of) -> Value {
    if let Some(fields) = fields.as_object_mut() {
        let claimed_by = described(
            list(platform()),
            "The platforms whose claims are in conversions and revenue: each claims what it says that it brought about, and two may claim one purchase. Left out where no metric rests on them.",
        );
        fields.insert("claimed_by?".to_owned(), claimed_by);
        let partial = described(
            list(json!({ "type": "string", "enum": Values::NAMES })),
            "What is unknown of some of what is added up: the sum is that of the others. Left out where there is none. What is unknown of all is null.",
        );
        fields.insert("partial?".to_owned(), partial);
    }
    figures(fields, of)
}

/// The same for each currency.
pub fn by_currency() -> Value {
    let each = whole(json!({ "currency": currency() }), Of::One);
    described(
        list(each),
        "The totals of each currency, those of campaigns whose currency is not known last. Where there are several, money is null in totals: currencies are never added to each other.",
    )
}

/// What a campaign is called and whose it is; none of it need be there unless `name` leaves its mark out.
pub fn with_description(mut fields: Value, is_optional: bool) -> Value {
    let mark = if is_optional { "?" } else { "" };
    let about = [
        (
            "campaign_name",
            nullable(text()),
            "The campaign's newest name, as its platform reports it; null where none is known.",
        ),
        (
            "account_id",
            nullable(text()),
            "The platform's own id of its account, by the campaign's newest report; null where it has none.",
        ),
        (
            "currency",
            currency(),
            "That of the account; where a currency is asked for, that one.",
        ),
        (
            "account_time_zone",
            nullable(text()),
            "The time zone of the account, whose days its reports are of.",
        ),
    ];
    if let Some(fields) = fields.as_object_mut() {
        for (name, schema, description) in about {
            fields.insert(format!("{name}{mark}"), described(schema, description));
        }
        fields.insert(
            "account_currency?".to_owned(),
            described(
                currency(),
                "That of the account, where a currency is asked for.",
            ),
        );
    }
    fields
}

/// The currency that is asked for, and by what money is converted into it.
pub fn with_rates(mut fields: Value) -> Value {
    let rates = nullable(object(json!({
        "source": described(text(), "Who publishes the rates: ecb, the European Central Bank."),
        "base": described(currency(), "The currency that rates are for one of."),
        "first_day": described(date(), "The first day whose rate was used."),
        "last_day": described(date(), "The last one. Days after it were converted by it."),
    })));
    if let Some(fields) = fields.as_object_mut() {
        fields.insert("rates?".to_owned(), described(rates, "Where a currency is asked for, by what money was converted; null where all of it was of that currency."));
    }
    fields
}

pub fn date() -> Value {
    json!({ "type": "string", "format": "date" })
}

pub fn currency() -> Value {
    json!({ "type": ["string", "null"], "pattern": "^[A-Z]{3}$", "description": "ISO 4217; null where it is not known." })
}

/// A reference to a schema.
pub fn reference(schema: &Schema) -> Value {
    json!({ "$ref": format!("#/components/schemas/{}", schema.name) })
}

pub fn described(mut schema: Value, description: &str) -> Value {
    if let Some(object) = schema.as_object_mut() {
        object.insert("description".to_owned(), description.into());
    }
    schema
}

pub fn nullable(schema: Value) -> Value {
    json!({ "anyOf": [schema, { "type": "null" }] })
}

pub fn list(items: Value) -> Value {
    json!({ "type": "array", "items": items })
}

pub fn text() -> Value {
    json!({ "type": "string" })
}

pub fn time() -> Value {
    json!({ "type": "string", "format": "date-time" })
}

pub fn count() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

pub fn unchanged() -> Value {
    described(
        count(),
        "Report rows that were newer than what was known, and said the same.",
    )
}

pub fn superseded() -> Value {
    described(count(), "Report rows that were older than what was known.")
}

pub fn erased() -> Value {
    described(
        count(),
        "Records that were events or dead letters until they were erased.",
    )
}

pub fn integer() -> Value {
    json!({ "type": "integer" })
}

pub fn number() -> Value {
    json!({ "type": "number" })
}

pub fn id() -> Value {
    json!({ "type": "string", "pattern": ID_PATTERN })
}

pub fn severity() -> Value {
    json!({ "type": "string", "enum": Severity::NAMES })
}

pub fn platform() -> Value {
    json!({ "type": "string", "enum": Platform::NAMES })
}

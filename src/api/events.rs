//! `GET /campaign/{id}/events` and `GET /dead-letters`: what is behind the numbers, newest first.
//!
//! Both are read in the order of a key that never changes, so a page goes on exactly where the one
//! before ended; what is stored meanwhile comes before the first page.

use std::sync::Arc;

use chrono::Utc;
use serde_json::json;
use warp::reply::Response;

use super::answer::{self, Format};
use super::body::{EventRow, Events, LetterRow, Letters, Paging, Span};
use super::endpoint::{Content, Endpoint, Handler, Schema};
use super::limits::Cost;
use super::openapi::schemas::{
    self, count, described, id, list, nullable, number, object, platform, reference, text, time,
};
use super::parameters::{CURSOR, FORMAT, ID, LIMIT, PLATFORM, Parameter, ParameterType, WINDOW};
use super::problem::Problem;
use super::request::{Arguments, Request};
use super::{State, asked, cursor};
use crate::cache::Source;
use crate::event::Reason;
use crate::keys::Scope;
use crate::offset::Offset;
use crate::store::StreamId;
use crate::store::read::dead_letters::page::{self as letters, Letter};
use crate::store::read::insights::events::{self, Cursor, Stored};
use crate::time::{Timestamp, rfc3339};
use data_encoding::HEXLOWER;

/// `GET /campaign/{id}/events`
pub(super) static EVENTS: Endpoint = Endpoint {
    tag: Some("records"),
    summary: "The newest events of a campaign",
    description: "The events behind the numbers; those counted last come first.",
    parameters: &[&[ID], WINDOW, &[PLATFORM, LIMIT, CURSOR, FORMAT]],
    csv: true,
    failures: &[404],
    questions: &[(
        "Which events are behind a campaign's numbers?",
        "/campaign/cmp-42/events?limit=20",
    )],
    cost: Cost::Heavy,
    ..Endpoint::get(
        "/campaign/{id}/events",
        Content::Json(Schema {
            name: "Events",
            describe: || {
                object(json!({
                    "campaign_id": id(),
                    "window": reference(&schemas::WINDOW),
                    "data": list(object(json!({
                        "event_id": { "type": "string", "format": "uuid" },
                        "platform": platform(),
                        "event_time": time(),
                        "impressions": count(), "clicks": count(), "conversions": count(),
                        "cost_micros": count(), "revenue_micros": count(), "cost": number(), "revenue": number(),
                        "topic": text(), "partition": count(), "offset": count(),
                        "counted_at": time(),
                    }))),
                    "paging": reference(&schemas::PAGING),
                }))
            },
        }),
        Handler::With(|state, request| Box::pin(of_campaign(state, request))),
    )
};

static REASON: Parameter = Parameter::query(
    "reason",
    ParameterType::OneOf(Reason::NAMES),
    "Only dead letters with this reason.",
);
static TOPIC: Parameter = Parameter::query(
    "topic",
    ParameterType::Text { most: 249 },
    "Only records of this topic.",
);
static PARTITION: Parameter = Parameter::query(
    "partition",
    ParameterType::Integer {
        least: 0,
        most: i32::MAX as i64,
    },
    "Only records of this partition.",
);
static KEY: Parameter = Parameter::query(
    "key",
    ParameterType::Text { most: 64 },
    "Only records with this key.",
);

/// `GET /dead-letters`
pub(super) static DEAD_LETTERS: Endpoint = Endpoint {
    tag: Some("records"),
    summary: "Records that could not be counted",
    description: "Dead letters, newest first, each in full and with its reason.",
    parameters: &[
        &[REASON, TOPIC, PARTITION, KEY],
        WINDOW,
        &[LIMIT, CURSOR, FORMAT],
    ],
    csv: true,
    questions: &[(
        "Which records could not be counted, and why?",
        "/dead-letters?limit=20",
    )],
    cost: Cost::Heavy,
    scope: Some(Scope::Admin),
    ..Endpoint::get(
        "/dead-letters",
        Content::Json(Schema {
            name: "DeadLetters",
            describe: || {
                object(json!({
                    "window": reference(&schemas::WINDOW),
                    "data": list(object(json!({
                        "topic": text(), "partition": count(), "offset": count(),
                        "reason": { "type": "string", "enum": Reason::NAMES },
                        "explanation": nullable(text()),
                        "created_at": time(),
                        "record_time": nullable(time()),
                        "key": described(nullable(text()), "The key, where it is text."),
                        "key_hex": nullable(text()),
                        "payload_hex": nullable(text()),
                        "payload_bytes": nullable(count()),
                        "headers": {},
                    }))),
                    "paging": reference(&schemas::PAGING),
                }))
            },
        }),
        Handler::With(|state, request| Box::pin(dead_letters(state, request))),
    )
};

async fn of_campaign(state: Arc<State>, request: Request) -> Result<Response, Problem> {
    let given = &request.arguments;
    let id = given.in_path(&ID);
    let (asked, zone) = asked::window(given, Utc::now())?;
    let question = format!("{id}?{}", question(given));
    let from = given.get(&CURSOR).map(|text| {
        let [stream, before] = cursor::decode(&question, text)?;
        let stream = i32::try_from(stream).map_err(|_| Problem::cursor(cursor::NOT_OURS))?;
        Ok::<_, Problem>(Cursor {
            stream: StreamId(stream),
            before: Offset::new(before),
        })
    });
    let page = events::Page {
        campaign_id: id.to_owned(),
        window: asked.window,
        platforms: asked::platforms(given),
        from: from.transpose()?,
        limit: given.integer(&LIMIT),
    };
    let found = state
        .ask(request.cost, move |connection| {
            events::read(connection, &page)
        })
        .await?
        .ok_or_else(|| Problem::unknown_campaign(id))?;
    let next = found.next;
    let next_cursor = next.map(|p| cursor::encode(&question, &[p.stream.0.into(), p.before.get()]));
    let data = found.events.into_iter().map(event_row).collect();
    let response = if request.format() == Format::Csv {
        events_table(data, next_cursor.as_deref())
    } else {
        answer::json(&Events {
            campaign_id: id,
            window: Span::of(asked.window, zone),
            data,
            paging: Paging {
                next_cursor,
                total: None,
            },
        })
    };
    Ok(answer::from(response, Source::Database))
}

async fn dead_letters(state: Arc<State>, request: Request) -> Result<Response, Problem> {
    let given = &request.arguments;
    let (asked, zone) = asked::window(given, Utc::now())?;
    let question = question(given);
    let after = given.get(&CURSOR).map(|text| {
        let [created_at, stream, offset] = cursor::decode(&question, text)?;
        let stream_id = i32::try_from(stream).map_err(|_| Problem::cursor(cursor::NOT_OURS))?;
        let created_at = Timestamp::new(created_at);
        // PostgreSQL holds no more years than these.
        if !(Timestamp::EPOCH..=Timestamp::LAST_WRITTEN).contains(&created_at) {
            return Err(Problem::cursor(cursor::NOT_OURS));
        }
        Ok(letters::Cursor {
            created_at,
            stream_id,
            offset: Offset::new(offset),
        })
    });
    let limit: u32 = given.integer(&LIMIT);
    let text = |parameter| given.get(parameter).map(str::to_owned);
    let page = letters::Page {
        reason: text(&REASON),
        topic: text(&TOPIC),
        partition: given.get(&PARTITION).and_then(|p| p.parse().ok()),
        key: text(&KEY),
        window: asked.window,
        after: after.transpose()?,
        // One more than asked tells whether there is another page.
        limit: limit.saturating_add(1),
    };
    let mut found = state
        .ask(request.cost, move |connection| {
            letters::read(connection, &page)
        })
        .await?;
    let limit = limit as usize;
    let more = found.len() > limit;
    found.truncate(limit);
    let next_cursor = found.last().filter(|_| more).map(|last| {
        let place = last.cursor();
        cursor::encode(
            &question,
            &[
                place.created_at.get(),
                place.stream_id.into(),
                place.offset.get(),
            ],
        )
    });
    let data = found.into_iter().map(letter_row).collect();
    let response = if request.format() == Format::Csv {
        letters_table(data, next_cursor.as_deref())
    } else {
        answer::json(&Letters {
            window: Span::of(asked.window, zone),
            data,
            paging: Paging {
                next_cursor,
                total: None,
            },
        })
    };
    Ok(answer::from(response, Source::Database))
}

/// What a cursor belongs to.
fn question(given: &Arguments) -> String {
    given.question(&[&CURSOR, &LIMIT, &FORMAT])
}

fn event_row(event: Stored) -> EventRow {
    EventRow {
        event_id: event.event_id.to_string(),
        platform: event.platform,
        event_time: rfc3339(event.event_time),
        impressions: event.impressions,
        clicks: event.clicks,
        conversions: event.conversions,
        cost_micros: event.cost_micros,
        revenue_micros: event.revenue_micros,
        cost: event.cost_micros.in_units(),
        revenue: event.revenue_micros.in_units(),
        topic: event.topic,
        partition: event.partition,
        offset: event.offset,
        counted_at: rfc3339(event.counted_at),
    }
}

fn letter_row(letter: Letter) -> LetterRow {
    let reason = Reason::ALL.iter().find(|r| r.as_str() == letter.reason);
    LetterRow {
        explanation: reason.map(|r| r.explain()),
        topic: letter.topic,
        partition: letter.partition,
        offset: letter.offset,
        reason: letter.reason,
        created_at: rfc3339(letter.created_at),
        record_time: letter.record_time.map(rfc3339),
        key_hex: letter.key.as_deref().map(|bytes| HEXLOWER.encode(bytes)),
        key: letter.key.and_then(|key| String::from_utf8(key).ok()),
        payload_bytes: letter.payload.as_ref().map(Vec::len),
        payload_hex: letter
            .payload
            .as_deref()
            .map(|bytes| HEXLOWER.encode(bytes)),
        // PostgreSQL keeps nothing in this column that is not JSON.
        headers: serde_json::from_str(&letter.headers).unwrap_or_default(),
    }
}

fn events_table(rows: Vec<EventRow>, next_cursor: Option<&str>) -> Response {
    let head = "event_id,platform,event_time,impressions,clicks,conversions,cost_micros,revenue_micros,cost,revenue,topic,partition,offset,counted_at";
    let records = rows.into_iter().map(|e| {
        vec![
            e.event_id,
            e.platform,
            e.event_time,
            e.impressions.to_string(),
            e.clicks.to_string(),
            e.conversions.to_string(),
            e.cost_micros.to_string(),
            e.revenue_micros.to_string(),
            e.cost.to_string(),
            e.revenue.to_string(),
            e.topic,
            e.partition.to_string(),
            e.offset.to_string(),
            e.counted_at,
        ]
    });
    answer::csv(
        head.split(',').map(str::to_owned).collect(),
        records,
        next_cursor,
    )
}

fn letters_table(rows: Vec<LetterRow>, next_cursor: Option<&str>) -> Response {
    let head = "topic,partition,offset,reason,explanation,created_at,record_time,key,key_hex,payload_hex,payload_bytes,headers";
    let records = rows.into_iter().map(|l| {
        vec![
            l.topic,
            l.partition.to_string(),
            l.offset.to_string(),
            l.reason,
            l.explanation.unwrap_or_default().to_owned(),
            l.created_at,
            l.record_time.unwrap_or_default(),
            l.key.unwrap_or_default(),
            l.key_hex.unwrap_or_default(),
            l.payload_hex.unwrap_or_default(),
            l.payload_bytes.map_or_else(String::new, |n| n.to_string()),
            l.headers.to_string(),
        ]
    });
    answer::csv(
        head.split(',').map(str::to_owned).collect(),
        records,
        next_cursor,
    )
}

//! `GET /campaign/{id}/events`: what is behind the numbers, newest first.
//!
//! Read in the order of a key that never changes, so a page goes on exactly where the one
//! before ended; what is stored meanwhile comes before the first page.

use std::sync::Arc;

use serde_json::json;
use warp::reply::Response;

use super::answer::{self, Format};
use super::body::{EventRow, Events, Paging, Span};
use super::endpoint::{Content, Endpoint, Handler, Schema};
use super::limits::Cost;
use super::openapi::schemas::{
    self, count, described, id, integer, list, number, object, platform, reference, text, time,
};
use super::parameters::{CURSOR, FORMAT, ID, LIMIT, PLATFORM, WINDOW_OF_CAMPAIGN};
use super::problem::Problem;
use super::request::Request;
use super::{State, asked, cursor};
use crate::cache::Source;
use crate::offset::Offset;
use crate::store::StreamId;
use crate::store::read::insights::events::{self, Cursor, Stored};
use crate::time::rfc3339;

/// `GET /campaign/{id}/events`
pub(super) static EVENTS: Endpoint = Endpoint {
    tag: Some("records"),
    summary: "The newest events of a campaign",
    description: "The events behind the numbers, increments and restatements; those counted last come first.",
    parameters: &[
        &[ID],
        WINDOW_OF_CAMPAIGN,
        &[PLATFORM, LIMIT, CURSOR, FORMAT],
    ],
    csv: true,
    failures: &[404, 422],
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
                        "impressions": integer(), "clicks": integer(), "conversions": number(),
                        "cost_micros": integer(), "revenue_micros": integer(), "cost": number(), "revenue": number(),
                        "topic": text(), "partition": count(), "offset": count(),
                        "counted_at": time(),
                        "observed_at?": described(time(), "Of a restatement, when the platform was asked: the numbers are then the difference to what it had said before, which may be negative. An increment has none."),
                    }))),
                    "paging": reference(&schemas::PAGING),
                }))
            },
        }),
        Handler::With(|state, request| Box::pin(of_campaign(state, request))),
    )
};

async fn of_campaign(state: Arc<State>, request: Request) -> Result<Response, Problem> {
    let given = &request.arguments;
    let id = given.in_path(&ID);
    let zone = asked::zone_of_campaign(&state, id, given).await?;
    let asked = asked::window_in(given, zone, state.now())?;
    let question = format!("{id}?{}", given.question(&[&CURSOR, &LIMIT, &FORMAT]));
    let from = state.cursors.read(&question, given).await?;
    let from = from.map(|[stream, before]| {
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
        .ask_of(id, request.cost, move |connection| {
            events::read(connection, &page)
        })
        .await?
        .ok_or_else(|| Problem::unknown_campaign(id))?;
    let next = found.next;
    let next_cursor = match next {
        Some(p) => {
            let numbers = [p.stream.0.into(), p.before.get()];
            Some(state.cursors.give(&question, &numbers).await?)
        }
        None => None,
    };
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
        observed_at: event.observed_at.map(rfc3339),
    }
}

fn events_table(rows: Vec<EventRow>, next_cursor: Option<&str>) -> Response {
    let head = "event_id,platform,event_time,impressions,clicks,conversions,cost_micros,revenue_micros,cost,revenue,topic,partition,offset,counted_at,observed_at";
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
            e.observed_at.unwrap_or_default(),
        ]
    });
    answer::csv(
        head.split(',').map(str::to_owned).collect(),
        records,
        next_cursor,
    )
}

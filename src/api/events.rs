//! `GET /campaign/{id}/events` and `GET /dead-letters`: what is behind the numbers, newest first.
//!
//! Both are read in the order of a key that never changes, so a page goes on exactly where the one
//! before ended; what is stored meanwhile comes before the first page.

use chrono::Utc;
use warp::http::HeaderMap;
use warp::reply::Response;

use super::answer::{self, Format};
use super::body::{EventRow, Events, LetterRow, Letters, Paging, Span, rfc3339};
use super::params::Query;
use super::problem::Problem;
use super::{State, asked, cursor, endpoints};
use crate::cache::Source;
use crate::event::{CampaignId, Reason};
use crate::store::StreamId;
use crate::store::read::dead_letters::page::{self as letters, Letter};
use crate::store::read::insights::events::{self, Place, Stored};
use data_encoding::HEXLOWER;

/// The newest events of a campaign.
pub(super) async fn of_campaign(
    state: State,
    id: String,
    raw: String,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let campaign_id = CampaignId::parse(&id).map_err(|_| Problem::campaign_id(&id))?;
    let query = Query::parse(&raw, &endpoints::EVENTS)?;
    let (asked, zone) = asked::window(&query, Utc::now())?;
    let question = format!("{campaign_id}?{}", question(&query));
    let from = query.get(&endpoints::CURSOR).map(|text| {
        let [stream, before] = cursor::decode(&question, text)?;
        let stream = i32::try_from(stream).map_err(|_| Problem::cursor(cursor::NOT_OURS))?;
        Ok::<_, Problem>(Place {
            stream: StreamId(stream),
            before,
        })
    });
    let page = events::Page {
        campaign_id: id.clone(),
        window: asked.window,
        platforms: asked::platforms(&query),
        from: from.transpose()?,
        limit: usize::try_from(query.integer(&endpoints::LIMIT)).unwrap_or_default(),
    };
    let found = state
        .slowly(move |connection| events::read(connection, &page))
        .await?
        .ok_or_else(|| Problem::unknown_campaign(&id))?;
    let next = found.next;
    let next_cursor = next.map(|p| cursor::encode(&question, &[p.stream.0.into(), p.before]));
    let data = found.events.into_iter().map(event_row).collect();
    let response = if Format::of(&query, &headers) == Format::Csv {
        events_table(data, next_cursor.as_deref())
    } else {
        answer::json(&Events {
            campaign_id: &id,
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

/// The records that could not be counted.
pub(super) async fn dead_letters(
    state: State,
    raw: String,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let query = Query::parse(&raw, &endpoints::DEAD_LETTERS)?;
    let (asked, zone) = asked::window(&query, Utc::now())?;
    let question = question(&query);
    let after = query.get(&endpoints::CURSOR).map(|text| {
        let [created_at, stream, offset] = cursor::decode(&question, text)?;
        let stream_id = i32::try_from(stream).map_err(|_| Problem::cursor(cursor::NOT_OURS))?;
        // PostgreSQL holds no more years than these.
        if !(0..=253_402_300_799_999_999).contains(&created_at) {
            return Err(Problem::cursor(cursor::NOT_OURS));
        }
        Ok(letters::Place {
            created_at,
            stream_id,
            offset,
        })
    });
    let limit = query.integer(&endpoints::LIMIT);
    let text = |parameter| query.get(parameter).map(str::to_owned);
    let page = letters::Page {
        reason: text(&endpoints::REASON),
        topic: text(&endpoints::TOPIC),
        partition: query
            .get(&endpoints::PARTITION)
            .and_then(|p| p.parse().ok()),
        key: text(&endpoints::KEY),
        window: asked.window,
        after: after.transpose()?,
        // One more than asked tells whether there is another page.
        limit: limit.saturating_add(1),
    };
    let mut found = state
        .slowly(move |connection| letters::read(connection, &page))
        .await?;
    let limit = usize::try_from(limit).unwrap_or_default();
    let more = found.len() > limit;
    found.truncate(limit);
    let next_cursor = found.last().filter(|_| more).map(|last| {
        let place = last.place();
        cursor::encode(
            &question,
            &[place.created_at, place.stream_id.into(), place.offset],
        )
    });
    let data = found.into_iter().map(letter_row).collect();
    let response = if Format::of(&query, &headers) == Format::Csv {
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
fn question(query: &Query) -> String {
    query.question(&[&endpoints::CURSOR, &endpoints::LIMIT, &endpoints::FORMAT])
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
        cost: event.cost_micros as f64 / 1e6,
        revenue: event.revenue_micros as f64 / 1e6,
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
        headers: serde_json::from_str(&letter.headers).unwrap_or_default(),
    }
}

fn events_table(rows: Vec<EventRow>, next_cursor: Option<&str>) -> Response {
    let head = [
        "event_id",
        "platform",
        "event_time",
        "impressions",
        "clicks",
        "conversions",
        "cost_micros",
        "revenue_micros",
        "cost",
        "revenue",
        "topic",
        "partition",
        "offset",
        "counted_at",
    ];
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
    answer::csv(head.map(str::to_owned).to_vec(), records, next_cursor)
}

fn letters_table(rows: Vec<LetterRow>, next_cursor: Option<&str>) -> Response {
    let head = [
        "topic",
        "partition",
        "offset",
        "reason",
        "explanation",
        "created_at",
        "record_time",
        "key",
        "key_hex",
        "payload_hex",
        "payload_bytes",
        "headers",
    ];
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
    answer::csv(head.map(str::to_owned).to_vec(), records, next_cursor)
}

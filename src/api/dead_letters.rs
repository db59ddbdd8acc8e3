//! `GET /dead-letters`: the records that could not be counted, newest first, and one by itself.
//!
//! A producer may have sent anything in any amount, so an answer has a bounded part of each letter and says where the
//! rest is. Pages are in the order of a key that never changes: each goes on exactly where the one before ended, and what is
//! stored meanwhile comes before the first.

use std::cmp::Reverse;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use diesel::PgConnection;
use serde_json::json;
use warp::reply::Response;

use super::answer::{self, Format};
use super::body::{LetterRow, Letters, Paging, Span};
use super::endpoint::{Content, Endpoint, Handler, Schema};
use super::limits::Cost;
use super::openapi::schemas::{
    self, count, described, list, nullable, object, reference, text, time,
};
use super::parameters::{CURSOR, FORMAT, LIMIT, Parameter, ParameterType, WINDOW};
use super::problem::Problem;
use super::request::Request;
use super::{State, asked, cursor};
use crate::cache::Source;
use crate::event::Reason;
use crate::keys::Scope;
use crate::offset::Offset;
use crate::store::read::dead_letters::page::{self as letters, Cut, Letter};
use crate::time::{Timestamp, rfc3339};

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
const PARTITIONS: ParameterType = ParameterType::Integer {
    least: 0,
    most: i32::MAX as i64,
};
static PARTITION: Parameter =
    Parameter::query("partition", PARTITIONS, "Only records of this partition.");
static KEY: Parameter = Parameter::query(
    "key",
    ParameterType::Text { most: 64 },
    "Only records with this key.",
);

/// `GET /dead-letters`
pub(super) static DEAD_LETTERS: Endpoint = Endpoint {
    tag: Some("records"),
    summary: "Records that could not be counted",
    description: "Dead letters, newest first, each with its reason and the beginning of what it holds: up to 4,096 bytes of the payload, 1,024 of the key and 4,096 of headers. Where there is more, `more` leads to it.",
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
    scope: Some(Scope::DeadLetters),
    ..Endpoint::get(
        "/dead-letters",
        Content::Json(Schema {
            name: "DeadLetters",
            describe: || {
                object(json!({
                    "window": reference(&schemas::WINDOW),
                    "data": list(reference(&LETTER)),
                    "paging": reference(&schemas::PAGING),
                }))
            },
        }),
        Handler::With(|state, request| Box::pin(dead_letters(state, request))),
    )
};

static ITS_TOPIC: Parameter = Parameter::path(
    "topic",
    ParameterType::Text { most: 249 },
    "The topic it was on.",
);
static ITS_PARTITION: Parameter =
    Parameter::path("partition", PARTITIONS, "The partition it was on.");
static ITS_OFFSET: Parameter = Parameter::path(
    "offset",
    ParameterType::Integer {
        least: 0,
        most: i64::MAX,
    },
    "Its offset there.",
);
static PAYLOAD_FROM: Parameter = Parameter::query(
    "payload_from",
    ParameterType::Integer {
        least: 0,
        // PostgreSQL holds no larger ones.
        most: 1 << 30,
    },
    "The byte of the payload at which payload_hex begins.",
)
.or("0");

/// `GET /dead-letters/{topic}/{partition}/{offset}`
pub(super) static DEAD_LETTER: Endpoint = Endpoint {
    tag: Some("records"),
    summary: "A record that could not be counted",
    description: "One dead letter with up to 1 MiB of its payload, of its key and of its headers. Where the payload goes on, `more` leads to the next piece.",
    parameters: &[&[ITS_TOPIC, ITS_PARTITION, ITS_OFFSET, PAYLOAD_FROM]],
    failures: &[404],
    cost: Cost::Index,
    scope: Some(Scope::DeadLetters),
    ..Endpoint::get(
        "/dead-letters/{topic}/{partition}/{offset}",
        Content::Json(LETTER),
        Handler::With(|state, request| Box::pin(dead_letter(state, request))),
    )
};

static LETTER: Schema = Schema {
    name: "DeadLetter",
    describe: || {
        object(json!({
            "topic": text(), "partition": count(), "offset": count(),
            "reason": { "type": "string", "enum": Reason::NAMES },
            "explanation": nullable(text()),
            "created_at": time(),
            "record_time": nullable(time()),
            "key": described(nullable(text()), "The key, where it is text."),
            "key_hex": nullable(text()),
            "payload_hex": described(nullable(text()), "As much of the payload as an answer takes."),
            "payload_bytes": described(nullable(count()), "How many the payload has."),
            "headers": described(json!({}), "Null where there are too many for this answer."),
            "more": described(nullable(text()), "The path of an answer with more of it; null if this is all."),
        }))
    },
};

/// Of each letter on a page. 500 of them are then at most 8 MB.
const ON_A_PAGE: Cut = Cut {
    payload_from: 0,
    payload_bytes: 4_096,
    key_bytes: 1_024,
    headers_bytes: 4_096,
};

/// Of one by itself.
const ALONE: Cut = Cut {
    payload_from: 0,
    payload_bytes: 1 << 20,
    key_bytes: 1 << 20,
    // What a processor keeps of headers, as JSON.
    headers_bytes: 4 << 20,
};

async fn dead_letters(state: Arc<State>, request: Request) -> Result<Response, Problem> {
    let given = &request.arguments;
    let (asked, zone) = asked::window(given, state.now())?;
    let question = given.question(&[&CURSOR, &LIMIT, &FORMAT]);
    let after = state.cursors.read(&question, given).await?;
    let after = after.map(|[created_at, stream, offset]| {
        let stream_id = i32::try_from(stream).map_err(|_| Problem::cursor(cursor::NOT_OURS))?;
        Ok::<_, Problem>(letters::Cursor {
            created_at: Timestamp::new(created_at),
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
    let mut found = read(&state, page, request.cost).await?;
    let limit = limit as usize;
    let more = found.len() > limit;
    found.truncate(limit);
    let next_cursor = match found.last().filter(|_| more) {
        Some(last) => {
            let place = last.cursor();
            let numbers = [
                place.created_at.get(),
                place.stream_id.into(),
                place.offset.get(),
            ];
            Some(state.cursors.give(&question, &numbers).await?)
        }
        None => None,
    };
    let data = found
        .into_iter()
        .map(|letter| row(letter, ON_A_PAGE, &state.base))
        .collect();
    let response = if request.format() == Format::Csv {
        table(data, next_cursor.as_deref())
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

/// A page of the database that has the partition, or of all: streams have different numbers in different databases, so a place
/// in the order of one is a place in the order of all.
async fn read(state: &State, page: letters::Page, cost: Cost) -> Result<Vec<Letter>, Problem> {
    let limit = page.limit as usize;
    let partition = page.partition;
    let question = move |connection: &mut PgConnection| letters::read(connection, &page, ON_A_PAGE);
    if let Some(partition) = partition {
        let database = &state.shards.of_partition(partition).database;
        return state.ask(database, cost, question).await;
    }
    let pages = state.ask_each(cost, question).await?;
    let mut all: Vec<Letter> = pages.into_iter().flatten().collect();
    all.sort_by_key(|letter| Reverse(letter.cursor()));
    all.truncate(limit);
    Ok(all)
}

async fn dead_letter(state: Arc<State>, request: Request) -> Result<Response, Problem> {
    let given = &request.arguments;
    let topic = given.in_path(&ITS_TOPIC).to_owned();
    let partition = given.integer(&ITS_PARTITION);
    let offset = Offset::new(given.integer(&ITS_OFFSET));
    let cut = Cut {
        payload_from: given.integer(&PAYLOAD_FROM),
        ..ALONE
    };
    let database = &state.shards.of_partition(partition).database;
    let found = state
        .ask(database, request.cost, move |connection| {
            letters::one(connection, (&topic, partition, offset), cut)
        })
        .await?
        .ok_or_else(Problem::unknown_dead_letter)?;
    Ok(answer::from(
        answer::json(&row(found, cut, &state.base)),
        Source::Database,
    ))
}

/// A letter as it was read with this cut; `base` stands before paths.
fn row(letter: Letter, cut: Cut, base: &str) -> LetterRow {
    let reason = Reason::ALL.iter().find(|r| r.as_str() == letter.reason);
    let whole = format!(
        "{base}/dead-letters/{}/{}/{}",
        letter.topic, letter.partition, letter.offset
    );
    let shown = cut.payload_from.saturating_add(cut.payload_bytes);
    let goes_on = letter.payload_bytes.is_some_and(|all| all > shown);
    let is_cut = goes_on
        || letter.headers.is_none()
        || letter.key_bytes.is_some_and(|all| all > cut.key_bytes);
    let is_alone = cut.payload_bytes == ALONE.payload_bytes;
    let more = match (is_alone, goes_on, is_cut) {
        (true, true, _) => Some(format!("{whole}?payload_from={shown}")),
        (false, _, true) => Some(whole),
        _ => None,
    };
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
        payload_bytes: letter.payload_bytes,
        payload_hex: letter
            .payload
            .as_deref()
            .map(|bytes| HEXLOWER.encode(bytes)),
        // PostgreSQL keeps nothing in this column that is not JSON.
        headers: letter
            .headers
            .map(|headers| serde_json::from_str(&headers).unwrap_or_default()),
        more,
    }
}

fn table(rows: Vec<LetterRow>, next_cursor: Option<&str>) -> Response {
    let head = "topic,partition,offset,reason,explanation,created_at,record_time,key,key_hex,payload_hex,payload_bytes,headers,more";
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
            l.headers.map_or_else(String::new, |h| h.to_string()),
            l.more.unwrap_or_default(),
        ]
    });
    answer::csv(
        head.split(',').map(str::to_owned).collect(),
        records,
        next_cursor,
    )
}

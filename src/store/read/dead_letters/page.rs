//! Dead letters in pages, newest first, and one by itself; of each at most so many bytes, because a producer may have
//! sent any number of them.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, Text, Timestamptz};

use crate::offset::Offset;
use crate::store::StoreError;
use crate::store::read::insights::Window;
use crate::time::Timestamp;

/// The place of a dead letter in the order of a list, in which the greatest comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    pub created_at: Timestamp,
    pub stream_id: i32,
    pub offset: Offset,
}

/// Which dead letters are asked for.
#[derive(Clone, Debug, Default)]
pub struct Page {
    pub reason: Option<String>,
    pub topic: Option<String>,
    pub partition: Option<i32>,
    pub key: Option<String>,
    /// When they were stored.
    pub window: Option<Window>,
    /// Go on after this one.
    pub after: Option<Cursor>,
    pub limit: u32,
}

/// How much of each letter is read.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// The byte of the payload to begin at.
    pub payload_from: i32,
    pub payload_bytes: i32,
    pub key_bytes: i32,
    /// Headers with more bytes are left out.
    pub headers_bytes: i32,
}

/// A dead letter, or what [`Cut`] left of it.
#[derive(Debug, QueryableByName)]
pub struct Letter {
    #[diesel(sql_type = Text)]
    pub topic: String,
    #[diesel(sql_type = Integer)]
    pub partition: i32,
    #[diesel(sql_type = BigInt)]
    pub offset: Offset,
    #[diesel(sql_type = Text)]
    pub reason: String,
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub record_time: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Binary>)]
    pub key: Option<Vec<u8>>,
    /// How many the key has.
    #[diesel(sql_type = Nullable<Integer>)]
    pub key_bytes: Option<i32>,
    #[diesel(sql_type = Nullable<Binary>)]
    pub payload: Option<Vec<u8>>,
    /// How many the payload has.
    #[diesel(sql_type = Nullable<Integer>)]
    pub payload_bytes: Option<i32>,
    /// JSON: an array of `{"key": text, "value": hexadecimal text or null}`; none if it was left out.
    #[diesel(sql_type = Nullable<Text>)]
    pub headers: Option<String>,
    #[diesel(sql_type = Integer)]
    stream_id: i32,
}

impl Letter {
    /// Where the page after it begins.
    pub fn cursor(&self) -> Cursor {
        Cursor {
            created_at: self.created_at.into(),
            stream_id: self.stream_id,
            offset: self.offset,
        }
    }
}

/// A page of dead letters. Those that are stored while somebody pages come before the first page.
///
/// # Errors
/// When the database does not answer.
pub fn read(
    connection: &mut PgConnection,
    page: &Page,
    cut: Cut,
) -> Result<Vec<Letter>, StoreError> {
    let after = page.after;
    // dead_letters_created_at_idx, backwards, until the page is full. Cut afterwards, so that only those on the page are
    // read from where large values are.
    Ok(sql_query(
        r#"SELECT topic, partition, "offset", reason, created_at, record_time,
             substring(key FOR $12) AS key, octet_length(key) AS key_bytes,
             substring(payload FROM $13 + 1 FOR $14) AS payload, octet_length(payload) AS payload_bytes,
             CASE WHEN octet_length(headers::text) <= $15 THEN headers::text END AS headers, stream_id
         FROM (SELECT s.topic, s.partition, d."offset", d.reason, d.created_at, d.record_time, d.key, d.payload, d.headers,
                   d.stream_id
               FROM dead_letters AS d JOIN stream_positions AS s USING (stream_id)
               WHERE ($1 IS NULL OR d.reason = $1) AND ($2 IS NULL OR s.topic = $2) AND ($3 IS NULL OR s.partition = $3)
                   AND ($4 IS NULL OR d.key = convert_to($4, 'UTF8'))
                   AND ($5 IS NULL OR d.created_at >= $5) AND ($6 IS NULL OR d.created_at < $6)
                   AND ($7 OR (d.created_at, d.stream_id, d."offset") < ($8, $9, $10))
               ORDER BY d.created_at DESC, d.stream_id DESC, d."offset" DESC LIMIT $11) AS page
         ORDER BY created_at DESC, stream_id DESC, "offset" DESC"#,
    )
    .bind::<Nullable<Text>, _>(&page.reason)
    .bind::<Nullable<Text>, _>(&page.topic)
    .bind::<Nullable<Integer>, _>(page.partition)
    .bind::<Nullable<Text>, _>(&page.key)
    .bind::<Nullable<Timestamptz>, _>(page.window.map(Window::since))
    .bind::<Nullable<Timestamptz>, _>(page.window.map(Window::until))
    .bind::<Bool, _>(after.is_none())
    .bind::<Nullable<Timestamptz>, _>(after.map(|p| p.created_at))
    .bind::<Integer, _>(after.map_or(0, |p| p.stream_id))
    .bind::<BigInt, _>(after.map_or(Offset::default(), |p| p.offset))
    .bind::<BigInt, _>(i64::from(page.limit))
    .bind::<Integer, _>(cut.key_bytes)
    .bind::<Integer, _>(cut.payload_from)
    .bind::<Integer, _>(cut.payload_bytes)
    .bind::<Integer, _>(cut.headers_bytes)
    .load(connection)?)
}

/// The dead letter at a place; the newest, if several clusters have had the topic.
///
/// # Errors
/// When the database does not answer.
pub fn one(
    connection: &mut PgConnection,
    (topic, partition, offset): (&str, i32, Offset),
    cut: Cut,
) -> Result<Option<Letter>, StoreError> {
    // By primary key.
    Ok(sql_query(
        r#"SELECT s.topic, s.partition, d."offset", d.reason, d.created_at, d.record_time,
             substring(d.key FOR $4) AS key, octet_length(d.key) AS key_bytes,
             substring(d.payload FROM $5 + 1 FOR $6) AS payload, octet_length(d.payload) AS payload_bytes,
             CASE WHEN octet_length(d.headers::text) <= $7 THEN d.headers::text END AS headers, d.stream_id
         FROM dead_letters AS d JOIN stream_positions AS s USING (stream_id)
         WHERE s.topic = $1 AND s.partition = $2 AND d."offset" = $3
         ORDER BY d.created_at DESC LIMIT 1"#,
    )
    .bind::<Text, _>(topic)
    .bind::<Integer, _>(partition)
    .bind::<BigInt, _>(offset)
    .bind::<Integer, _>(cut.key_bytes)
    .bind::<Integer, _>(cut.payload_from)
    .bind::<Integer, _>(cut.payload_bytes)
    .bind::<Integer, _>(cut.headers_bytes)
    .get_result(connection)
    .optional()?)
}

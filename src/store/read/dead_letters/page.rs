//! Dead letters in pages, newest first.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, Text, Timestamptz};

use crate::offset::Offset;
use crate::store::StoreError;
use crate::store::read::insights::Window;
use crate::time::Timestamp;

/// The place of a dead letter in the order of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// A dead letter.
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
    #[diesel(sql_type = Nullable<Binary>)]
    pub payload: Option<Vec<u8>>,
    /// JSON: an array of `{"key": text, "value": hexadecimal text or null}`.
    #[diesel(sql_type = Text)]
    pub headers: String,
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
pub fn read(connection: &mut PgConnection, page: &Page) -> Result<Vec<Letter>, StoreError> {
    let after = page.after;
    // dead_letters_created_at_idx, backwards, until the page is full.
    Ok(sql_query(
        r#"SELECT s.topic, s.partition, d."offset", d.reason, d.created_at, d.record_time, d.key, d.payload,
             d.headers::text AS headers, d.stream_id
         FROM dead_letters AS d JOIN stream_positions AS s USING (stream_id)
         WHERE ($1 IS NULL OR d.reason = $1) AND ($2 IS NULL OR s.topic = $2) AND ($3 IS NULL OR s.partition = $3)
             AND ($4 IS NULL OR d.key = convert_to($4, 'UTF8'))
             AND ($5 IS NULL OR d.created_at >= $5) AND ($6 IS NULL OR d.created_at < $6)
             AND ($7 OR (d.created_at, d.stream_id, d."offset") < ($8, $9, $10))
         ORDER BY d.created_at DESC, d.stream_id DESC, d."offset" DESC LIMIT $11"#,
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
    .load(connection)?)
}

//! Dead letters as people look at them.

use data_encoding::HEXLOWER_PERMISSIVE;
use diesel::prelude::*;
use diesel::result::Error as DieselError;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, Text, Timestamptz};

use crate::event::Count;
use crate::offset::Offset;
use crate::store::StoreError;

pub mod page;

/// Which dead letters are meant: those that fit everything that is given.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// The stable name of the reason.
    pub reason: Option<String>,
    pub topic: Option<String>,
    pub partition: Option<i32>,
    pub offset: Option<Offset>,
    /// Also those that were sent back to the topic.
    pub redriven: bool,
}

impl Filter {
    /// Every dead letter there is.
    pub fn everything() -> Filter {
        Filter {
            redriven: true,
            ..Filter::default()
        }
    }
}

/// Binds what a [`Filter`] says to $1 to $5.
macro_rules! bind_filter {
    ($query:expr, $filter:expr) => {
        $query
            .bind::<Nullable<Text>, _>($filter.reason.as_deref())
            .bind::<Nullable<Text>, _>($filter.topic.as_deref())
            .bind::<Nullable<Integer>, _>($filter.partition)
            .bind::<Nullable<BigInt>, _>($filter.offset)
            .bind::<Bool, _>($filter.redriven)
    };
}

/// Name and value of each header of a record.
pub type Headers = Vec<(String, Option<Vec<u8>>)>;

/// One dead letter, whole.
#[derive(Debug, QueryableByName)]
pub struct Row {
    #[diesel(sql_type = Integer)]
    pub stream_id: i32,
    #[diesel(sql_type = Text)]
    pub cluster_id: String,
    #[diesel(sql_type = Text)]
    pub topic: String,
    #[diesel(sql_type = Integer)]
    pub partition: i32,
    #[diesel(sql_type = BigInt)]
    pub offset: Offset,
    #[diesel(sql_type = Text)]
    pub reason: String,
    #[diesel(sql_type = Timestamptz)]
    pub created_at: chrono::DateTime<chrono::Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub record_time: Option<chrono::DateTime<chrono::Utc>>,
    #[diesel(sql_type = Nullable<Binary>)]
    pub key: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Binary>)]
    pub payload: Option<Vec<u8>>,
    /// JSON: an array of `{"key": text, "value": hexadecimal text or null}`.
    #[diesel(sql_type = Text)]
    pub headers: String,
    /// When a redrive took it up.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub redrive_started_at: Option<chrono::DateTime<chrono::Utc>>,
    /// When it was on the topic again, and where.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub redriven_at: Option<chrono::DateTime<chrono::Utc>>,
    #[diesel(sql_type = Nullable<Integer>)]
    pub redriven_partition: Option<i32>,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub redriven_offset: Option<Offset>,
}

impl Row {
    /// Name and value of each header, as the record had them.
    ///
    /// # Errors
    /// When somebody else than `write::dead_letters` has written them.
    pub fn headers(&self) -> Result<Headers, StoreError> {
        #[derive(serde::Deserialize)]
        struct Header {
            key: String,
            value: Option<String>,
        }
        let malformed = |error: Box<dyn std::error::Error + Send + Sync>| {
            let error = format!("the headers of dead letter {}: {error}", self.place());
            StoreError::Query(DieselError::DeserializationError(error.into()))
        };
        let headers: Vec<Header> =
            serde_json::from_str(&self.headers).map_err(|e| malformed(e.into()))?;
        let bytes = |hex: String| HEXLOWER_PERMISSIVE.decode(hex.as_bytes());
        headers
            .into_iter()
            .map(|Header { key, value }| Ok((key, value.map(bytes).transpose()?)))
            .collect::<Result<_, data_encoding::DecodeError>>()
            .map_err(|e| malformed(e.into()))
    }

    /// `TOPIC:PARTITION:OFFSET`.
    pub fn place(&self) -> String {
        format!("{}:{}:{}", self.topic, self.partition, self.offset)
    }
}

/// One dead letter as a line of a list.
#[derive(Debug, QueryableByName)]
pub struct Listed {
    #[diesel(sql_type = Text)]
    pub topic: String,
    #[diesel(sql_type = Integer)]
    pub partition: i32,
    #[diesel(sql_type = BigInt)]
    pub offset: Offset,
    #[diesel(sql_type = Text)]
    pub reason: String,
    #[diesel(sql_type = Timestamptz)]
    pub created_at: chrono::DateTime<chrono::Utc>,
    /// The beginning of its key.
    #[diesel(sql_type = Nullable<Binary>)]
    pub key: Option<Vec<u8>>,
    #[diesel(sql_type = Integer)]
    pub payload_bytes: i32,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub redrive_started_at: Option<chrono::DateTime<chrono::Utc>>,
    #[diesel(sql_type = Nullable<Integer>)]
    pub redriven_partition: Option<i32>,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub redriven_offset: Option<Offset>,
}

/// The newest dead letters that fit, newest first.
///
/// # Errors
/// When the database does not answer.
pub fn list(
    connection: &mut PgConnection,
    filter: &Filter,
    limit: u32,
) -> Result<Vec<Listed>, StoreError> {
    let query = sql_query(
        r#"SELECT s.topic, s.partition, d."offset", d.reason, d.created_at, substring(d.key FOR 100) AS key,
             COALESCE(octet_length(d.payload), 0) AS payload_bytes, d.redrive_started_at, d.redriven_partition,
             d.redriven_offset
         FROM dead_letters AS d JOIN stream_positions AS s USING (stream_id)
         WHERE ($1 IS NULL OR d.reason = $1) AND ($2 IS NULL OR s.topic = $2)
             AND ($3 IS NULL OR s.partition = $3) AND ($4 IS NULL OR d."offset" = $4)
             AND ($5 OR d.redriven_at IS NULL)
         ORDER BY d.created_at DESC, s.partition, d."offset" DESC LIMIT $6"#,
    );
    Ok(bind_filter!(query, filter)
        .bind::<BigInt, _>(i64::from(limit))
        .load(connection)?)
}

/// How many that fit there are of each reason, the most first.
///
/// # Errors
/// When the database does not answer.
pub fn count_by_reason(
    connection: &mut PgConnection,
    filter: &Filter,
) -> Result<Vec<(String, Count)>, StoreError> {
    #[derive(QueryableByName)]
    struct OfReason {
        #[diesel(sql_type = Text)]
        reason: String,
        #[diesel(sql_type = BigInt)]
        letters: Count,
    }
    let query = sql_query(
        r#"SELECT d.reason, count(*) AS letters
         FROM dead_letters AS d JOIN stream_positions AS s USING (stream_id)
         WHERE ($1 IS NULL OR d.reason = $1) AND ($2 IS NULL OR s.topic = $2)
             AND ($3 IS NULL OR s.partition = $3) AND ($4 IS NULL OR d."offset" = $4)
             AND ($5 OR d.redriven_at IS NULL)
         GROUP BY d.reason ORDER BY letters DESC, d.reason"#,
    );
    let rows: Vec<OfReason> = bind_filter!(query, filter).load(connection)?;
    Ok(rows.into_iter().map(|r| (r.reason, r.letters)).collect())
}

/// The place of a dead letter among all: its stream and its offset.
pub type Key = (i32, Offset);

/// How many letters, and about how many bytes of them, are read at once.
pub(in crate::store) const PAGE_LETTERS: i64 = 200;
pub(in crate::store) const PAGE_BYTES: i64 = 4 << 20;

/// The next letters that fit, in the order of partition and offset: those after `after` that were
/// stored before `before`. A bounded number and, but for one letter, a bounded size; none at the end.
///
/// # Errors
/// When the database does not answer.
pub fn page(
    connection: &mut PgConnection,
    filter: &Filter,
    after: Key,
    before: chrono::DateTime<chrono::Utc>,
) -> Result<Vec<Row>, StoreError> {
    // On from a key, by primary key.
    let query = sql_query(
        r#"SELECT d.stream_id, s.cluster_id, s.topic, s.partition, d."offset", d.reason, d.created_at, d.record_time,
             d.key, d.payload, d.headers::text AS headers, d.redrive_started_at, d.redriven_at, d.redriven_partition,
             d.redriven_offset
         FROM dead_letters AS d JOIN stream_positions AS s USING (stream_id)
         JOIN (SELECT stream_id, "offset", sum(bytes) OVER (ORDER BY stream_id, "offset") - bytes AS bytes_before
               FROM (SELECT d.stream_id, d."offset", COALESCE(octet_length(d.key), 0) + COALESCE(octet_length(d.payload), 0)
                         + octet_length(d.headers::text) AS bytes
                     FROM dead_letters AS d JOIN stream_positions AS s USING (stream_id)
                     WHERE ($1 IS NULL OR d.reason = $1) AND ($2 IS NULL OR s.topic = $2)
                         AND ($3 IS NULL OR s.partition = $3) AND ($4 IS NULL OR d."offset" = $4)
                         AND ($5 OR d.redriven_at IS NULL)
                         AND (d.stream_id, d."offset") > ($6, $7) AND d.created_at < $8
                     ORDER BY d.stream_id, d."offset" LIMIT $9) AS sizes) AS chosen
             USING (stream_id, "offset")
         WHERE chosen.bytes_before < $10 ORDER BY d.stream_id, d."offset""#,
    );
    Ok(bind_filter!(query, filter)
        .bind::<Integer, _>(after.0)
        .bind::<BigInt, _>(after.1)
        .bind::<Timestamptz, _>(before)
        .bind::<BigInt, _>(PAGE_LETTERS)
        .bind::<BigInt, _>(PAGE_BYTES)
        .load(connection)?)
}

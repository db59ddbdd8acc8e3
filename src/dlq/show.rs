//! `adflux dlq show`: one dead letter in full.

use data_encoding::HEXLOWER;
use std::io::Write;
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use diesel::PgConnection;

use super::verdict::{Verdict, judge, origin};
use super::{explain, printable};
use crate::codec::{self, Decoder, KnownIds};
use crate::offset::Offset;
use crate::schema_registry::{self, Learner};
use crate::store::keep::redrives::{self, Fate};
use crate::store::read::dead_letters::{self, Filter, Key, Row};
use crate::store::{self, Limits};
use crate::time::Timestamp;

/// What is to be shown, and how it is read.
pub struct Viewed {
    pub place: Filter,
    pub schema_ids: KnownIds,
    pub writer_schemas: Vec<(u32, PathBuf)>,
    pub schema_registry: Option<schema_registry::Settings>,
}

/// Prints the dead letter at a place (one for each cluster that has had the topic). `false` if there
/// is none.
///
/// # Errors
/// When the database does not answer.
pub fn show(out: &mut impl Write, database_url: &str, viewed: &Viewed) -> anyhow::Result<bool> {
    let mut learner = Learner::new(
        viewed.schema_ids,
        &viewed.writer_schemas,
        viewed.schema_registry.as_ref(),
    )?;
    let mut connection = store::open(database_url, Limits::API)?;
    let filter = Filter {
        redriven: true,
        ..viewed.place.clone()
    };
    let now = store::clock(&mut connection)?;
    let mut after: Key = (0, Offset::BEFORE_ALL);
    let mut found = false;
    loop {
        let rows = dead_letters::page(&mut connection, &filter, after, now)?;
        let Some(last) = rows.last() else { break };
        after = (last.stream_id, last.offset);
        found = true;
        for row in &rows {
            let decoder = learner.of(row.payload.as_deref())?;
            print(out, row, decoder, &mut connection)?;
        }
    }
    if !found {
        writeln!(out, "there is no dead letter at this place")?;
    }
    Ok(found)
}

fn print(
    out: &mut impl Write,
    row: &Row,
    decoder: &mut Decoder,
    connection: &mut PgConnection,
) -> anyhow::Result<()> {
    let key = row.key.as_deref();
    let mut lines = vec![
        ("topic", row.topic.clone()),
        ("partition", row.partition.to_string()),
        ("offset", row.offset.to_string()),
        (
            "reason",
            format!("{}: {}", row.reason, explain(&row.reason)),
        ),
        (
            "sent",
            row.record_time.map_or_else(|| "unknown".to_owned(), shown),
        ),
        ("dead since", shown(row.created_at)),
    ];
    if let Some(origin) = origin(row)? {
        lines.push(("first dead at", origin));
    }
    lines.push(("what to do", what_to_do(row, decoder, connection)?));
    lines.push(("key", key.map_or_else(|| "none".to_owned(), printable)));
    for (name, value) in row.headers()? {
        let value = value.map_or_else(|| "null".to_owned(), |v| printable(&v));
        lines.push((
            "header",
            format!("{} = {value}", printable(name.as_bytes())),
        ));
    }
    if let Some(payload) = &row.payload {
        if let Some(id) = codec::schema_id(payload) {
            lines.push(("schema id", id.to_string()));
        }
        lines.extend(decoder.fields(payload));
        if let Err(reason) = decoder.decode(payload) {
            lines.push(("then", format!("cannot be read: {}", reason.explain())));
        }
    }
    let size = row.payload.as_ref().map(|p| format!("{} bytes", p.len()));
    lines.push(("payload", size.unwrap_or_else(|| "none".to_owned())));
    for (name, value) in lines {
        writeln!(out, "{name:<15} {value}")?;
    }
    for (row, bytes) in row.payload.iter().flat_map(|p| p.chunks(16)).enumerate() {
        let text: String = bytes
            .iter()
            .map(|&b| {
                if b.is_ascii_graphic() || b == b' ' {
                    char::from(b)
                } else {
                    '.'
                }
            })
            .collect();
        writeln!(
            out,
            "  {:06x}  {:<32}  {text}",
            row * 16,
            HEXLOWER.encode(bytes)
        )?;
    }
    Ok(())
}

fn shown(time: DateTime<Utc>) -> String {
    Timestamp::from(time).to_string()
}

/// What became of a letter that was sent back, or what can be done with one that was not.
fn what_to_do(
    row: &Row,
    decoder: &mut Decoder,
    connection: &mut PgConnection,
) -> anyhow::Result<String> {
    let place = row.place();
    if let (Some(at), Some(partition), Some(offset)) =
        (row.redriven_at, row.redriven_partition, row.redriven_offset)
    {
        let fate = redrives::fate(connection, &row.topic, (partition, offset))?;
        let became = match fate {
            Some(Fate::Counted) => "its event is counted: nothing".to_owned(),
            Some(Fate::DeadAgain(reason)) => format!("it is a dead letter there again, {reason}"),
            Some(Fate::Waiting) | None => "no processor has read it there yet".to_owned(),
        };
        return Ok(format!(
            "sent back to {}:{partition}:{offset} at {}; {became}",
            row.topic,
            shown(at)
        ));
    }
    let mut what = match judge(row, decoder, Timestamp::now())? {
        Verdict::Countable => format!("it can be counted now: adflux dlq redrive {place}"),
        Verdict::CameBack(why) | Verdict::Not(why) => why,
    };
    if let Some(at) = row.redrive_started_at {
        what.push_str(&format!(
            ". A redrive that began at {} was cut short and may have sent it; sent again, its event still counts once",
            shown(at)
        ));
    }
    Ok(what)
}

//! `adflux dlq`: the dead letters, for the person who asks why an event was not counted.

use std::io::Write;

use crate::codec::Decoder;
use crate::event::Reason;
use crate::store::dead_letters::{self, Row, hex};
use crate::store::{self, Limits};

/// Prints how many dead letters there are of each reason, and the newest ones.
///
/// # Errors
/// When the database does not answer.
pub fn list(
    out: &mut impl Write,
    database_url: &str,
    reason: Option<&str>,
    limit: i64,
) -> anyhow::Result<()> {
    let mut connection = store::connect(database_url, Limits::API)?;
    let counts = dead_letters::count_by_reason(&mut connection)?;
    if counts.is_empty() {
        writeln!(out, "no dead letters")?;
        return Ok(());
    }
    for (reason, letters) in &counts {
        writeln!(out, "{letters:>10}  {reason:<22} {}", explain(reason))?;
    }
    writeln!(out)?;
    for row in dead_letters::list(&mut connection, reason, limit)? {
        writeln!(
            out,
            "{}  {}:{}:{}  {:<22} key {}  {} bytes",
            row.created_at.format("%Y-%m-%d %H:%M:%S"),
            row.topic,
            row.partition,
            row.offset,
            row.reason,
            row.key
                .as_deref()
                .map_or_else(|| "none".to_owned(), printable),
            row.payload.as_ref().map_or(0, Vec::len),
        )?;
    }
    writeln!(
        out,
        "\nadflux dlq show TOPIC:PARTITION:OFFSET prints one in full"
    )?;
    Ok(())
}

/// Prints one dead letter in full; `place` is `TOPIC:PARTITION:OFFSET`. `false` if there is none.
///
/// # Errors
/// When `place` is not of that form, or the database does not answer.
pub fn show(
    out: &mut impl Write,
    database_url: &str,
    place: &str,
    schema_id: u32,
) -> anyhow::Result<bool> {
    let mut parts = place.rsplitn(3, ':');
    let numbers = (
        parts.next().map(str::parse),
        parts.next().map(str::parse),
        parts.next(),
    );
    let (Some(Ok(offset)), Some(Ok(partition)), Some(topic)) = numbers else {
        anyhow::bail!(
            "'{place}' is not of the form TOPIC:PARTITION:OFFSET, such as ad-events:0:1234"
        );
    };
    let mut connection = store::connect(database_url, Limits::API)?;
    let rows = dead_letters::at(&mut connection, topic, partition, offset)?;
    for row in &rows {
        print(out, row, schema_id)?;
    }
    if rows.is_empty() {
        writeln!(out, "there is no dead letter at {place}")?;
    }
    Ok(!rows.is_empty())
}

fn print(out: &mut impl Write, row: &Row, schema_id: u32) -> anyhow::Result<()> {
    writeln!(out, "topic           {}", row.topic)?;
    writeln!(out, "partition       {}", row.partition)?;
    writeln!(out, "offset          {}", row.offset)?;
    writeln!(
        out,
        "reason          {}: {}",
        row.reason,
        explain(&row.reason)
    )?;
    writeln!(
        out,
        "sent            {}",
        row.record_time
            .map_or_else(|| "unknown".to_owned(), |t| t.to_rfc3339())
    )?;
    writeln!(out, "dead since      {}", row.created_at.to_rfc3339())?;
    writeln!(
        out,
        "key             {}",
        row.key
            .as_deref()
            .map_or_else(|| "none".to_owned(), printable)
    )?;
    writeln!(out, "headers         {}", row.headers)?;
    let Some(payload) = &row.payload else {
        writeln!(out, "payload         none")?;
        return Ok(());
    };
    match Decoder::new(schema_id)?.decode(payload) {
        Ok(event) => {
            let c = &event.counts;
            let time = chrono::DateTime::<chrono::Utc>::from_timestamp_micros(event.event_time);
            writeln!(out, "event_id        {}", event.event_id)?;
            writeln!(out, "campaign_id     {}", event.campaign_id)?;
            writeln!(out, "platform        {}", event.platform)?;
            writeln!(
                out,
                "event_time      {}",
                time.map_or_else(|| event.event_time.to_string(), |t| t.to_rfc3339())
            )?;
            writeln!(
                out,
                "impressions     {}\nclicks          {}\nconversions     {}",
                c.impressions, c.clicks, c.conversions
            )?;
            writeln!(
                out,
                "cost_micros     {}\nrevenue_micros  {}",
                c.cost_micros, c.revenue_micros
            )?;
        }
        Err(reason) => writeln!(out, "decoded         no: {reason}")?,
    }
    writeln!(out, "payload         {} bytes", payload.len())?;
    for (row, bytes) in payload.chunks(16).enumerate() {
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
        writeln!(out, "  {:06x}  {:<32}  {text}", row * 16, hex(bytes))?;
    }
    Ok(())
}

fn explain(reason: &str) -> &'static str {
    Reason::ALL
        .iter()
        .find(|r| r.as_str() == reason)
        .map_or("a reason this version does not know", |r| r.explain())
}

/// Bytes as text where they are, else in hexadecimal.
fn printable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => format!("0x{}", hex(bytes)),
    }
}

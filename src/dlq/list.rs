//! `adflux dlq list`: how many there are of each reason, and the newest.

use std::io::Write;

use crate::dlq::{explain, printable};
use crate::store::read::dead_letters::{self, Filter};
use crate::store::{self, Limits};

/// Prints how many of the dead letters that fit there are of each reason, and the newest ones.
///
/// # Errors
/// When the database does not answer.
pub fn list(
    out: &mut impl Write,
    database_url: &str,
    filter: &Filter,
    limit: u32,
) -> anyhow::Result<()> {
    let mut connection = store::open(database_url, Limits::API)?;
    let counts = dead_letters::count_by_reason(&mut connection, filter)?;
    if counts.is_empty() {
        writeln!(out, "no dead letters")?;
        return Ok(());
    }
    for (reason, letters) in &counts {
        writeln!(out, "{letters:>10}  {reason:<22} {}", explain(reason))?;
    }
    writeln!(out)?;
    for row in dead_letters::list(&mut connection, filter, limit)? {
        let redriven = match (row.redriven_partition, row.redriven_offset) {
            (Some(partition), Some(offset)) => {
                format!("  sent back to {}:{partition}:{offset}", row.topic)
            }
            _ if row.redrive_started_at.is_some() => "  may have been sent back".to_owned(),
            _ => String::new(),
        };
        writeln!(
            out,
            "{}  {}  {:<22} key {}  {} bytes{redriven}",
            row.created_at.format("%Y-%m-%d %H:%M:%S"),
            format_args!("{}:{}:{}", row.topic, row.partition, row.offset),
            row.reason,
            row.key
                .as_deref()
                .map_or_else(|| "none".to_owned(), printable),
            row.payload_bytes,
        )?;
    }
    writeln!(
        out,
        "\nadflux dlq show TOPIC:PARTITION:OFFSET prints one in full; adflux dlq redrive --dry-run says which can be counted by now"
    )?;
    Ok(())
}

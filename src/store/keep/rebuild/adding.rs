//! Blocks added up into the new tables.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use diesel::prelude::*;

use super::tables::SUFFIX;
use crate::event::Count;
use crate::offset::Offset;
use crate::store::write::positions::Commit;
use crate::store::write::projections::{self, Fold};
use crate::store::{CommitId, StoreError, StreamId, blocks};
use crate::time::Timestamp;

/// How many events are added up before they are written.
const CHUNK_EVENTS: Count = Count::new(500_000);

/// How many blocks are looked at for that.
const CHUNK_KEYS: u32 = 100_000;

/// Events of a partition that were added to the new tables.
pub(super) struct Added {
    pub(super) stream: StreamId,
    /// The offset before which the partition's blocks are in them now.
    pub(super) until: Offset,
    pub(super) events: Count,
}

/// Adds a partition's blocks that begin at these offsets, chunk by chunk; `each` is told of every chunk.
pub(super) fn add_stream(
    connection: &mut PgConnection,
    stream: StreamId,
    offsets: Range<Offset>,
    each: &mut dyn FnMut(Added),
) -> Result<(), StoreError> {
    let (mut from, below) = (offsets.start, offsets.end);
    while from < below {
        let keys = blocks::keys_between(connection, stream, from, below, CHUNK_KEYS)?;
        let (chunk, rest) = blocks::split_after_events(&keys, CHUNK_EVENTS);
        let events = add_up(connection, chunk)?;
        from = match (rest.first(), chunk.last()) {
            (Some(next), _) => next.first_offset,
            (None, Some(last)) if keys.len() == CHUNK_KEYS as usize => last.first_offset.next(),
            (None, _) => below,
        };
        each(Added {
            stream,
            until: from,
            events,
        });
    }
    Ok(())
}

/// Adds the events of these blocks to the new tables. Returns how many there were.
fn add_up(connection: &mut PgConnection, keys: &[blocks::BlockKey]) -> Result<Count, StoreError> {
    let mut fold = Fold::default();
    let mut campaigns: Vec<Arc<str>> = Vec::new();
    let mut index: HashMap<Arc<str>, u32, foldhash::fast::RandomState> = HashMap::default();
    let mut events = Count::ZERO;
    blocks::for_each(connection, keys, |block| {
        let translated: Vec<u32> = block
            .campaigns
            .iter()
            .map(|name| match index.get(name.as_str()) {
                Some(&known) => known,
                None => {
                    let name: Arc<str> = Arc::from(name.as_str());
                    let new = campaigns.len() as u32;
                    campaigns.push(Arc::clone(&name));
                    index.insert(name, new);
                    new
                }
            })
            .collect();
        events += Count::of(block.events.len());
        fold.add(&block.events, |campaign| translated[campaign as usize])
            .map_err(|_| StoreError::SumOverflow)
    })?;
    // Settled by `keep_versions`.
    let commit = Commit {
        id: CommitId::default(),
        at: Timestamp::EPOCH,
    };
    connection.transaction(|connection| {
        projections::upsert(connection, SUFFIX, &fold, &campaigns, commit)
    })?;
    Ok(events)
}

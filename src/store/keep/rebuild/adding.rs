//! Blocks added up into new parts.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer};

use super::MADE;
use crate::event::Count;
use crate::offset::Offset;
use crate::store::prepared::prepared;
use crate::store::sums::part::{self, Chunks};
use crate::store::write::projections::Fold;
use crate::store::{StoreError, StreamId, blocks};

/// How many events are added up before they are written.
const CHUNK_EVENTS: Count = Count::new(500_000);

/// How many blocks are looked at for that.
const CHUNK_KEYS: u32 = 100_000;

/// Events of a partition that were added to the new parts.
pub(in crate::store::keep) struct Added {
    pub(super) stream: StreamId,
    /// The offset before which the partition's blocks are in them now.
    pub(super) until: Offset,
    pub(super) events: Count,
}

/// Adds a partition's blocks that begin at these offsets, chunk by chunk; `each` is told of every chunk.
pub(in crate::store::keep) fn add_stream(
    connection: &mut PgConnection,
    stream: StreamId,
    offsets: Range<Offset>,
    each: &mut dyn FnMut(Added),
) -> Result<(), StoreError> {
    let (mut from, below) = (offsets.start, offsets.end);
    while from < below {
        let keys = blocks::keys_between(connection, stream, from, below, CHUNK_KEYS)?;
        let (chunk, rest) = blocks::split_after_events(&keys, CHUNK_EVENTS);
        let next = match (rest.first(), chunk.last()) {
            (Some(next), _) => next.first_offset,
            (None, Some(last)) if keys.len() == CHUNK_KEYS as usize => last.first_offset.next(),
            (None, _) => below,
        };
        let events = add_up(connection, stream, chunk, next)?;
        from = next;
        each(Added {
            stream,
            until: from,
            events,
        });
    }
    Ok(())
}

/// Adds the events of these blocks, those before `until`, to the new parts, as one of them. Returns how many there were.
fn add_up(
    connection: &mut PgConnection,
    stream: StreamId,
    keys: &[blocks::BlockKey],
    until: Offset,
) -> Result<Count, StoreError> {
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
        let campaign_of = |campaign: u32| translated[campaign as usize];
        Ok(fold.add(&block.events, campaign_of, |row| block.commit(row))?)
    })?;
    connection.transaction(|connection| {
        let mut chunks = Chunks::default();
        let id = part::new_id(connection)?;
        let part = fold.part((stream, id), &campaigns, &mut chunks);
        chunks.flush(connection)?;
        part::enter(connection, MADE, part.as_slice())?;
        prepared(
            "INSERT INTO sum_parts_made_until AS u (stream_id, next_offset, events) VALUES ($1, $2, $3)
             ON CONFLICT (stream_id) DO UPDATE SET next_offset = excluded.next_offset, events = u.events + excluded.events",
        )
        .bind::<Integer, _>(stream.0)
        .bind::<BigInt, _>(until)
        .bind::<BigInt, _>(events)
        .execute(connection)?;
        Ok::<_, StoreError>(())
    })?;
    Ok(events)
}

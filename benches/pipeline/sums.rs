//! Sums as a year of counting leaves them, of events that nobody sent.

use std::time::{Duration, Instant};

use adflux::event::{AdEvent, CampaignId, Counts, Platform};
use adflux::offset::Offset;
use adflux::store::events::Columns;
use adflux::store::keep::carry::{Due, carry_some, merge_some};
use adflux::store::sums::part::{self, Chunks};
use adflux::store::write::projections::Fold;
use adflux::store::{StoreError, StreamId};
use adflux::time::Timestamp;
use diesel::sql_types::Integer;
use diesel::{Connection as _, PgConnection, QueryableByName, RunQueryDsl as _, sql_query};
use uuid::Uuid;

/// The partition that they are of: one that has been counted, for of no other is anything asked.
pub const STREAM: &str =
    "SELECT min(stream_id) AS stream_id FROM stream_positions WHERE events > 0";

/// Events of one day, say, that become one part, as those of a batch do.
pub struct Batch<'a> {
    campaigns: &'a [String],
    events: Columns,
}

impl<'a> Batch<'a> {
    pub fn new(campaigns: &'a [String]) -> Batch<'a> {
        Batch {
            campaigns,
            events: Columns::default(),
        }
    }

    /// An event of the campaign with this number, on each platform.
    pub fn push(&mut self, campaign: usize, event_time: Timestamp) {
        let n = campaign as i64;
        let id = CampaignId::parse(&self.campaigns[campaign]).expect("an id");
        for platform in Platform::ALL {
            let event = AdEvent {
                event_id: Uuid::nil(),
                campaign_id: id,
                platform,
                event_time,
                counts: Counts::of([100, 10, 1_000_000, 1_000_000 + n * 13, 2_000_000 + n * 7]),
            };
            self.events.push(Offset::default(), &event, campaign as u32);
        }
    }

    /// Adds it to the sums.
    pub fn write(self, connection: &mut PgConnection) -> anyhow::Result<()> {
        #[derive(QueryableByName)]
        struct Stream {
            #[diesel(sql_type = Integer)]
            stream_id: i32,
        }
        let stream: Stream = sql_query(STREAM).get_result(connection)?;
        connection.transaction(|connection| {
            let id = part::new_id(connection)?;
            let commit = adflux::store::CommitId::new(id);
            let mut fold = Fold::default();
            fold.add(
                &self.events,
                |campaign| campaign,
                |_| (commit, Timestamp::EPOCH),
            )
            .map_err(|_| StoreError::SumOverflow)?;
            let mut chunks = Chunks::default();
            let part = fold.part(
                (StreamId(stream.stream_id), id),
                self.campaigns,
                &mut chunks,
            );
            chunks.flush(connection)?;
            part::enter(connection, "sum_parts", part.as_slice())
        })?;
        Ok(())
    }
}

/// Carries and merges them until nothing is left to do, as is done within minutes beside counting. Returns how long that took.
pub fn settle(connection: &mut PgConnection) -> anyhow::Result<Duration> {
    let started = Instant::now();
    while carry_some(connection, Due::AT_ONCE)?.is_some() || merge_some(connection)?.is_some() {}
    Ok(started.elapsed())
}

//! What happened to alerts lately, for those who listen.

use std::collections::VecDeque;
use std::sync::Arc;

use diesel::PgConnection;

use super::event;
use crate::alerts::document::{self, Document};
use crate::store::keep::alerts::episodes;
use crate::store::{StoreError, TransitionId};

/// The most that are kept, and that are read at a time.
const MOST: u32 = 1_000;

/// One thing that happened to an alert.
#[derive(Debug)]
pub struct Happening {
    transition_id: TransitionId,
    pub campaign_id: String,
    /// The event that tells of it, written once for all clients.
    pub event: String,
}

/// The last things that happened, in order. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Happenings {
    kept: VecDeque<Arc<Happening>>,
    /// The last one there was, and the last one that is no longer kept.
    last: TransitionId,
    dropped: TransitionId,
}

impl Happenings {
    /// What there is to listen from: nothing yet, after what was before.
    ///
    /// # Errors
    /// When the database does not answer.
    pub fn begin(connection: &mut PgConnection) -> Result<Happenings, StoreError> {
        let last = episodes::last_transition(connection)?;
        Ok(Happenings {
            kept: VecDeque::new(),
            last,
            dropped: last,
        })
    }

    /// The same with what has happened since.
    ///
    /// # Errors
    /// When the database does not answer.
    pub fn go_on(mut self, connection: &mut PgConnection) -> Result<Happenings, StoreError> {
        let episodes = episodes::since(connection, self.last, MOST)?;
        let described = document::described(connection, episodes.iter())?;
        for episode in episodes {
            let Some(transition_id) = episode.transition_id else {
                continue;
            };
            self.last = transition_id;
            self.kept.push_back(Arc::new(Happening {
                transition_id,
                event: event("alert", None, &Document::of(&episode, &described)),
                campaign_id: episode.campaign_id,
            }));
        }
        while self.kept.len() > MOST as usize {
            let oldest = self.kept.pop_front();
            self.dropped = oldest.map_or(self.dropped, |oldest| oldest.transition_id);
        }
        Ok(self)
    }

    /// The last thing that happened: the place of who has been told everything.
    pub fn last(&self) -> TransitionId {
        self.last
    }

    /// What happened after a place; none if some of it is no longer kept.
    pub fn after(&self, place: TransitionId) -> Option<impl Iterator<Item = &Happening>> {
        let kept = self.kept.iter().map(Arc::as_ref);
        (place >= self.dropped).then(|| kept.filter(move |h| h.transition_id > place))
    }
}

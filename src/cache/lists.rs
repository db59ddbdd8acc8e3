//! Lists that are paged, in Redis: which campaigns a list has and in which order, so that whichever server is asked for
//! the next page goes on with it. The numbers are not here: each server has them from PostgreSQL.

use serde::{Deserialize, Serialize};

use super::InsightCache;
use crate::store::read::insights::Window;
use crate::time::Timestamp;

/// The most bytes of a list that is shared: some 300,000 campaigns.
const MOST_BYTES: usize = 4 << 20;

/// See the module.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedList {
    window: Option<(Timestamp, Timestamp)>,
    previous: Option<(Timestamp, Timestamp)>,
    /// Their ids, in the order of the list.
    pub campaigns: Vec<Box<str>>,
}

impl SharedList {
    /// A list over a window; `previous` is the one before it.
    pub fn new(
        window: Option<Window>,
        previous: Option<Window>,
        campaigns: Vec<Box<str>>,
    ) -> SharedList {
        let ends = |window: Window| (window.since(), window.until());
        SharedList {
            window: window.map(ends),
            previous: previous.map(ends),
            campaigns,
        }
    }

    /// The window, and the one before it; nothing if they are none.
    pub fn windows(&self) -> Option<(Option<Window>, Option<Window>)> {
        let window = |ends: Option<(Timestamp, Timestamp)>| match ends {
            Some((since, until)) => {
                since.datetime().and(until.datetime())?;
                Window::covering(since, until).map(Some)
            }
            None => Some(None),
        };
        Some((window(self.window)?, window(self.previous)?))
    }
}

impl InsightCache {
    /// Has other servers know a list by its number, for ten minutes. Without Redis, or if it takes too long or the list is
    /// too large, they don't.
    pub async fn share_list(&self, id: i64, list: &SharedList) {
        let Some((shared, names)) = self.shared() else {
            return;
        };
        match serde_json::to_string(list) {
            Ok(text) if text.len() <= MOST_BYTES => {
                shared.put_list(&names.list(id), text).await;
            }
            Ok(_) | Err(_) => log::debug!("a list is too large for other servers to go on with it"),
        }
    }

    /// The list that some server has shared under this number.
    pub async fn shared_list(&self, id: i64) -> Option<SharedList> {
        let (shared, names) = self.shared()?;
        let text = shared.get_list(&names.list(id)).await?;
        serde_json::from_str(&text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared_is_what_is_found_and_garbage_is_none() {
        let time = |minutes: i64| Timestamp::new(1_700_000_040_000_000 + minutes * 60_000_000);
        let window = Window::covering(time(1), time(3));
        let list = SharedList::new(window, None, vec!["b".into(), "a".into()]);
        let text = serde_json::to_string(&list).expect("JSON");
        let found: SharedList = serde_json::from_str(&text).expect("ours");
        assert_eq!(found, list);
        assert_eq!(found.windows(), Some((window, None)));
        for ends in [(time(3), time(1)), (time(1), Timestamp::new(i64::MAX))] {
            let list = SharedList {
                window: Some(ends),
                ..SharedList::new(None, None, Vec::new())
            };
            assert_eq!(list.windows(), None, "{ends:?}");
        }
    }
}

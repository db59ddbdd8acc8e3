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

    /// As it stands in Redis; none if it is too large for that.
    pub fn encode(&self) -> Option<String> {
        let text = serde_json::to_string(self).ok();
        text.filter(|text| text.len() <= MOST_BYTES)
    }

    /// Reads a list; none if it is not one of ours.
    pub fn decode(text: &str) -> Option<SharedList> {
        serde_json::from_str(text).ok()
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
    /// Whether other servers can know of lists: there is Redis.
    pub fn shares_lists(&self) -> bool {
        self.shared().is_some()
    }

    /// Has other servers know a list by its number, for ten minutes; unless Redis takes too long.
    pub async fn share_list(&self, id: i64, text: String) {
        if let Some((shared, names)) = self.shared() {
            shared.put_list(&names.list(id), text).await;
        }
    }

    /// The list that some server has shared under this number.
    pub async fn shared_list(&self, id: i64) -> Option<String> {
        let (shared, names) = self.shared()?;
        shared.get_list(&names.list(id)).await
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
        let text = list.encode().expect("small");
        let found = SharedList::decode(&text).expect("ours");
        assert_eq!(found, list);
        let many = vec![Box::from("a".repeat(64)); MOST_BYTES / 64];
        assert_eq!(SharedList::new(None, None, many).encode(), None);
        for garbage in ["", "{}", "[]", "{\"campaigns\":[1]}"] {
            assert_eq!(SharedList::decode(garbage), None, "{garbage}");
        }
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

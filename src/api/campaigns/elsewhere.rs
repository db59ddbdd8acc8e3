//! Lists that go on at another server than the one that began them. Which campaigns a list has, and in which order, is
//! what it was there; their numbers are this server's, as of when it is first asked for a page of the list.

use std::collections::HashSet;
use std::sync::Arc;

use super::sheets;
use super::together::Together;
use super::{CAMPAIGNS, List};
use crate::api::limits::Cost;
use crate::api::parameters::COMPARE;
use crate::api::problem::Problem;
use crate::api::request::Arguments;
use crate::api::window::Asked;
use crate::api::{State, asked, rates};
use crate::cache::lists::SharedList;

/// Has other servers know this list, by its number.
pub(super) async fn share(state: &State, id: i64, list: &Arc<List>) {
    if !state.shards.lists().shares_lists() {
        return;
    }
    let list = Arc::clone(list);
    let write = move || {
        let rows = &list.of.now.rows;
        let rows = list.order.iter().filter_map(|n| rows.get(*n as usize));
        let campaigns = rows.map(|row| row.campaign_id.clone()).collect();
        let Asked { window, previous } = list.of.asked;
        SharedList::new(window, previous, campaigns).encode()
    };
    if let Ok(Some(text)) = state.work(Cost::Memory, write).await {
        state.shards.lists().share_list(id, text).await;
    }
}

/// The list of this number that another server has begun; none: nobody has it any more.
///
/// # Errors
/// A [`Problem`] when its numbers cannot be read.
pub(super) async fn go_on(
    state: &State,
    given: &Arguments,
    question: &str,
    id: i64,
) -> Result<Option<List>, Problem> {
    let Some(text) = state.shards.lists().shared_list(id).await else {
        return Ok(None);
    };
    let read = move || {
        let shared = SharedList::decode(&text)?;
        let windows = shared.windows()?;
        Some((shared, windows))
    };
    let Some((shared, (window, previous))) = state.work(Cost::Memory, read).await? else {
        return Ok(None);
    };
    let of = sheets::read_for(state, given, Asked { window, previous }).await?;
    let (now, before, currency) = (Arc::clone(&of.now), of.before.clone(), of.currency);
    let find = move || {
        let place = |id: &str| {
            let found = now.rows.binary_search_by(|row| (*row.campaign_id).cmp(id));
            u32::try_from(found.ok()?).ok()
        };
        let ids = shared.campaigns.iter();
        // One is missing where a standby has not heard of it yet.
        let Some(order) = ids.map(|id| place(id)).collect::<Option<Vec<u32>>>() else {
            return Ok(None);
        };
        let ids: HashSet<&str> = shared.campaigns.iter().map(|id| &**id).collect();
        for sheet in [Some(&now), before.as_ref()].into_iter().flatten() {
            let left = sheet.converted.left.iter();
            rates::refuse(left.filter(|left| ids.contains(&*left.campaign_id)))?;
        }
        let rows = order.iter().filter_map(|n| now.rows.get(*n as usize));
        let together = Together::of(rows, &now, before.as_deref(), currency)?;
        Ok::<_, Problem>(Some((order, together)))
    };
    let found = state.work(CAMPAIGNS.cost, find).await??;
    Ok(found.map(|(order, together)| List {
        question: question.to_owned(),
        of,
        order,
        together,
        compare: given.has(&COMPARE),
        fields: asked::fields(given),
    }))
}

//! The sums of every campaign over a window: what lists are searched, filtered and sorted from.

use diesel::pg::PgRowByRowLoadingMode;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::Text;

use super::cover::{self, Cover};
use super::{Freshness, Window, freshness_of_all, in_one_snapshot};
use crate::event::Platform;
use crate::store::StoreError;
use crate::store::positions::{self, Position};
use crate::store::read::spans;
use crate::store::sums::SumRow;
use crate::totals::Totals;

/// The sums of every campaign that has events in the window, by campaign id.
#[derive(Clone, Debug, PartialEq)]
pub struct Sheet {
    pub rows: Vec<(Box<str>, Totals)>,
    /// None if there are no events at all.
    pub freshness: Option<Freshness>,
    /// What they rest on: every event on these partitions, up to these positions.
    pub positions: Vec<Position>,
}

impl Sheet {
    /// The sums of a campaign.
    pub fn get(&self, campaign_id: &str) -> Option<&Totals> {
        let place = self
            .rows
            .binary_search_by(|(id, _)| (**id).cmp(campaign_id));
        self.rows.get(place.ok()?).map(|(_, totals)| totals)
    }
}

#[derive(QueryableByName)]
struct SheetRow {
    #[diesel(sql_type = Text)]
    campaign_id: String,
    #[diesel(embed)]
    sums: SumRow,
}

/// Reads the sums of every campaign over a window, or over all time, on some platforms; none
/// named: on all.
///
/// # Errors
/// When the database does not answer.
pub fn read(
    connection: &mut PgConnection,
    window: Option<Window>,
    platforms: &[Platform],
) -> Result<Sheet, StoreError> {
    in_one_snapshot(connection, |connection| {
        let freshness = freshness_of_all(connection)?;
        let source = match (window, &freshness) {
            (_, None) => None,
            (None, Some(_)) => Some(cover::all_time(platforms)),
            (Some(window), Some(freshness)) => {
                let (from, until) = cover::range(window);
                let current = spans::current(connection, from, until)?;
                let first = freshness.first_event_time.into();
                let last = freshness.last_event_time.into();
                Cover::of(window, &current, (first, last)).sql(platforms)
            }
        };
        let mut rows = Vec::new();
        if let Some(source) = source {
            let query = sql_query(format!(
                "SELECT campaign_id, 0::smallint AS platform,
                     bigint_sum(events) AS events, bigint_sum(impressions) AS impressions, bigint_sum(clicks) AS clicks,
                     bigint_sum(conversions) AS conversions, bigint_sum(cost_micros) AS cost_micros,
                     bigint_sum(revenue_micros) AS revenue_micros
                 FROM ({source}) AS parts GROUP BY campaign_id
                 HAVING bigint_sum(events) <> 0"
            ));
            // One by one: a million at once, as libpq holds them, take several times the room of what is kept.
            for row in query.load_iter::<SheetRow, PgRowByRowLoadingMode>(connection)? {
                let row = row?;
                rows.push((row.campaign_id.into_boxed_str(), row.sums.totals()));
            }
            rows.shrink_to_fit();
        }
        rows.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(Sheet {
            rows,
            freshness,
            positions: positions::all(connection)?,
        })
    })
}

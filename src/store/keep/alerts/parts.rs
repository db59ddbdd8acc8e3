//! Which rows of the projections the windows of all rules are made of: each row once.
//!
//! Windows overlap: those of most rules end now, and a day holds the hour. So their ranges are cut
//! where any of them begins or ends. A row is in one part, however many rules there are, and each
//! window is some whole parts.

use std::collections::BTreeMap;

use crate::store::read::insights::Window;
use crate::store::sums::Grain;
use crate::time::Timestamp;

/// A stretch of a table without gaps, cut into parts: each from one cut up to the next.
#[derive(Debug, PartialEq, Eq)]
pub struct Run {
    pub grain: Grain,
    /// In order; at least two.
    pub cuts: Vec<Timestamp>,
}

/// What these windows are made of.
pub fn runs(windows: &[Window]) -> Vec<Run> {
    let mut runs = Vec::new();
    for grain in Grain::ALL {
        // At each cut, how many ranges more begin than end there.
        let mut ends: BTreeMap<Timestamp, i64> = BTreeMap::new();
        for (of, from, to) in windows.iter().flat_map(|w| w.ranges()) {
            if of == grain && from < to {
                *ends.entry(from).or_default() += 1;
                *ends.entry(to).or_default() -= 1;
            }
        }
        let mut covering = 0;
        let mut cuts = Vec::new();
        for (at, more) in ends {
            cuts.push(at);
            covering += more;
            if covering == 0 {
                let cuts = std::mem::take(&mut cuts);
                runs.push(Run { grain, cuts });
            }
        }
    }
    runs
}

impl Run {
    /// The sums by campaign, platform and part, numbered from 1, of the campaigns in `$1`; `number` is
    /// told back.
    pub fn sql(&self, number: usize) -> String {
        let (table, column) = (self.grain.table(), self.grain.column());
        // Whole minutes. Unlike an interval that is added, this is worked out once and not for each row.
        let times: Vec<String> = self
            .cuts
            .iter()
            .map(|cut| format!("to_timestamp({})", cut.get() / 1_000_000))
            .collect();
        let (first, last) = (
            times.first().map_or("NULL", String::as_str),
            times.last().map_or("NULL", String::as_str),
        );
        format!(
            "SELECT {number} AS run, width_bucket({column}, ARRAY[{}]) AS part, campaign_id, platform,
                 sum(events)::bigint AS events, sum(impressions)::bigint AS impressions, sum(clicks)::bigint AS clicks,
                 sum(conversions)::bigint AS conversions, sum(cost_micros)::bigint AS cost_micros,
                 sum(revenue_micros)::bigint AS revenue_micros
             FROM {table} WHERE campaign_id = ANY($1) AND {column} >= {first} AND {column} < {last}
             GROUP BY campaign_id, platform, part",
            times.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Length;
    use proptest::prelude::*;

    proptest! {
        /// Each range of each window lies in one run, from a cut to a cut; and no two runs of a table
        /// touch, so no row is read twice.
        #[test]
        fn windows_are_whole_parts(
            spans in prop::collection::vec((0i64..40_000, 1i64..20_000), 1..12),
        ) {
            let minutes = |n: i64| Timestamp::EPOCH + Length::MINUTE.times(n);
            let windows: Vec<Window> = spans
                .iter()
                .filter_map(|(since, length)| Window::covering(minutes(*since), minutes(since + length)))
                .collect();
            let runs = runs(&windows);
            let ranges = windows.iter().flat_map(|w| w.ranges());
            for (grain, from, to) in ranges.filter(|(_, from, to)| from < to) {
                let holds = |run: &&Run| {
                    run.grain == grain && run.cuts.contains(&from) && run.cuts.contains(&to)
                };
                prop_assert_eq!(runs.iter().filter(holds).count(), 1);
            }
            for pair in runs.windows(2) {
                let (a, b) = (&pair[0], &pair[1]);
                prop_assert!(a.grain != b.grain || a.cuts.last() < b.cuts.first());
            }
            for run in &runs {
                prop_assert!(run.cuts.len() > 1 && run.cuts.is_sorted());
            }
        }
    }
}

//! Of events that were dropped, is there what was to stay of them?

use super::minutes::{compare_sums, of_blocks, of_dropped};
use super::{Check, check};

const SUMS_LOST: &str = "The events are gone, and what stayed of them is not whole: somebody else has written to these tables, or rows were lost. \
     Do not run `adflux rebuild`, which would make the sums from it: the live ones may be right. Restore these tables from a backup.";
const PERIODS_BROKEN: &str = "Dropping the earlier period would drop events that came later. Look-ups and sums are right as long as it is there: do not run \
     `adflux retain`. An adflux of before there were periods may have merged blocks: run none any more.";

/// Of each key of a report, what of its restatements was dropped, as if it were one; the columns of
/// `super::reports`' restatements.
pub(super) const RESTATEMENTS: &str = "SELECT r.event_id, min(r.campaign_id) AS campaign_id, max(r.observed_at), sum(r.impressions),
         sum(r.clicks), sum(r.conversion_micros), sum(r.cost_micros), sum(r.revenue_micros)
     FROM retired_restatements AS r JOIN event_periods AS p USING (period) WHERE p.dropped_at IS NOT NULL GROUP BY r.event_id";

/// Whether what was made of a period is what its events say.
pub(super) fn of_period(period: i32) -> Check {
    check(
        "what stays of a period is the sum of its events",
        ("event store", "retired_cells"),
        "adflux made these sums of these events just now, and they differ: this is a bug. Keep the database as it is and report it.",
        compare_sums(
            &of_blocks(&format!("b.period = {period}")),
            &of_dropped(&format!("p.period = {period}")),
            "",
        ),
    )
}

/// The checks, each of which relies on those before it.
pub(super) fn checks() -> [Check; 2] {
    [
        check(
            "of as many events as were dropped the sums are kept",
            ("retired_streams", "retired_cells"),
            SUMS_LOST,
            "SELECT format('period %s, stream_id %s', period, stream_id) AS place, COALESCE(s.events, 0)::text AS one,
                     COALESCE(c.events, 0)::text AS other
                 FROM retired_streams AS s
                 FULL JOIN (SELECT p.period, stream_id, sum(c.events) AS events
                            FROM retired_cells AS c JOIN retired_parts AS p USING (stream_id, part_id)
                            GROUP BY 1, 2) AS c USING (period, stream_id)
                 WHERE COALESCE(s.events, 0) <> COALESCE(c.events, 0)
                 UNION ALL
                 SELECT format('period %s', p.period), p.events::text, COALESCE(sum(s.events), 0)::text
                 FROM event_periods AS p LEFT JOIN retired_streams AS s USING (period)
                 WHERE p.dropped_at IS NOT NULL
                 GROUP BY p.period HAVING p.events <> COALESCE(sum(s.events), 0)
                 ORDER BY 1 LIMIT 1",
        ),
        check(
            "periods follow each other in each partition",
            ("the period before ends at offset", "this one begins at"),
            PERIODS_BROKEN,
            "SELECT format('partition %s of topic %s (stream_id %s), period %s', s.partition, s.topic, s.stream_id, e.period) AS place,
                     e.ends::text AS one, e.first_offset::text AS other
                 FROM (SELECT stream_id, period, first_offset,
                           max(last_offset) OVER (PARTITION BY stream_id ORDER BY period
                               ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS ends
                       FROM (SELECT stream_id, period, min(first_offset) AS first_offset, max(last_offset) AS last_offset
                             FROM event_blocks GROUP BY stream_id, period
                             UNION ALL
                             SELECT stream_id, period, NULL, next_offset - 1 FROM retired_streams) AS b) AS e
                 JOIN stream_positions AS s USING (stream_id)
                 WHERE e.ends >= e.first_offset
                 ORDER BY e.stream_id, e.period LIMIT 1",
        ),
    ]
}

//! Are the projections the sums of the events, and is each found by its directory? Of events that were dropped, what stayed of them
//! (`super::retired`) is taken for them.

use super::minutes::{compare_sums, of_blocks, of_dropped};
use super::{Check, check};

const PROJECTION_WRONG: &str = "Insights of this campaign are wrong; the event store has the truth. `adflux rebuild` makes the projections anew. \
     Keep a copy of the row if you want to find out who changed it.";

/// The checks, each of which relies on those before it.
pub(super) fn checks() -> [Check; 8] {
    [
        check(
            "metrics_by_minute is the sum of the events",
            ("event store", "metrics_by_minute"),
            PROJECTION_WRONG,
            compare_sums(
                &format!(
                    "SELECT campaign_id, start, platform, sum(events) AS events, sum(impressions) AS impressions,
                         sum(clicks) AS clicks, trim_scale(sum(conversions)) AS conversions, sum(cost_micros) AS cost_micros,
                         sum(revenue_micros) AS revenue_micros
                     FROM ({} UNION ALL {}) AS e GROUP BY 1, 2, 3",
                    of_blocks("true"),
                    of_dropped("true")
                ),
                "SELECT campaign_id, minute AS start, platform, events, impressions, clicks, conversions, cost_micros,
                     revenue_micros
                 FROM metrics_by_minute",
                "",
            ),
        ),
        roll_up(
            ("metrics_by_hour", "hour"),
            "metrics_by_hour is the sum of metrics_by_minute",
        ),
        roll_up(("metrics_by_day", "day"), "metrics_by_day is the sum of metrics_by_minute"),
        check(
            "metrics_total is the sum of the events",
            ("event store", "metrics_total"),
            PROJECTION_WRONG,
            // The sums through the minutes, which are known to be right by now; the times from the
            // events.
            compare_sums(
                r#"SELECT m.campaign_id, timestamptz 'epoch' AS start, m.platform, m.events, m.impressions, m.clicks,
                     m.conversions, m.cost_micros, m.revenue_micros, t.min_event_time, t.max_event_time
                 FROM (SELECT campaign_id, platform, sum(events) AS events, sum(impressions) AS impressions,
                           sum(clicks) AS clicks, trim_scale(sum(conversions)) AS conversions, sum(cost_micros) AS cost_micros,
                           sum(revenue_micros) AS revenue_micros
                       FROM metrics_by_minute GROUP BY campaign_id, platform) AS m
                 JOIN (SELECT e.campaign_id COLLATE "C" AS campaign_id, e.platform, min(e.event_time) AS min_event_time,
                           max(e.event_time) AS max_event_time
                       FROM (SELECT e.campaign_id, e.platform, e.event_time
                             FROM event_blocks AS b
                             CROSS JOIN LATERAL unnest(b.campaign_id, b.platform, b.event_time)
                                 AS e (campaign_id, platform, event_time)
                             UNION ALL
                             SELECT c.campaign_id, c.platform, t.event_time FROM retired_cells AS c
                             CROSS JOIN LATERAL (VALUES (c.first_event_time), (c.last_event_time)) AS t (event_time)) AS e
                       GROUP BY 1, 2) AS t USING (campaign_id, platform)"#,
                "SELECT campaign_id, timestamptz 'epoch' AS start, platform, events, impressions, clicks, conversions,
                     cost_micros, revenue_micros, min_event_time, max_event_time
                 FROM metrics_total",
                ", min_event_time, max_event_time",
            ),
        ),
        of_days(3, 8),
        of_days(4, 64),
        check(
            "the directory says of a part what its chunks hold",
            ("sum_parts says", "sum_chunks hold"),
            PROJECTION_WRONG,
            "SELECT format('partition %s of topic %s (stream_id %s), part %s, %s',
                         s.partition, s.topic, s.stream_id, p.part_id, v.what) AS place,
                     v.says AS one, COALESCE(v.holds, 'nothing') AS other
                 FROM (SELECT stream_id, part_id, cells, first_campaign, last_campaign FROM sum_parts
                       UNION ALL SELECT stream_id, part_id, cells, first_campaign, last_campaign FROM retired_parts) AS p
                 JOIN stream_positions AS s USING (stream_id)
                 LEFT JOIN (SELECT stream_id, part_id, sum(cells) AS cells, min(first_campaign) AS first_campaign,
                                max(last_campaign) AS last_campaign
                            FROM sum_chunks GROUP BY stream_id, part_id) AS c USING (stream_id, part_id)
                 CROSS JOIN LATERAL (VALUES
                     (1, 'cells', p.cells::text, c.cells::text),
                     (2, 'first_campaign', p.first_campaign, c.first_campaign),
                     (3, 'last_campaign', p.last_campaign, c.last_campaign)
                 ) AS v (rank, what, says, holds)
                 WHERE v.says IS DISTINCT FROM v.holds
                 ORDER BY p.stream_id, p.part_id, v.rank LIMIT 1",
        ),
        check(
            "no fresh part is older than where they are looked for",
            ("sum_fresh_from says", "sum_parts has"),
            PROJECTION_WRONG,
            "SELECT format('partition %s of topic %s (stream_id %s), grain %s', s.partition, s.topic, s.stream_id, f.grain) AS place,
                     f.part_id::text AS one, min(p.part_id)::text AS other
                 FROM sum_fresh_from AS f
                 JOIN stream_positions AS s USING (stream_id)
                 JOIN sum_parts AS p ON p.stream_id = f.stream_id AND p.grain = f.grain AND p.reach = 0 AND p.part_id < f.part_id
                 GROUP BY s.stream_id, f.stream_id, f.grain ORDER BY s.stream_id, f.grain LIMIT 1",
        ),
    ]
}

/// A coarser grain against the minutes.
fn roll_up((table, column): (&'static str, &str), name: &'static str) -> Check {
    check(
        name,
        ("metrics_by_minute", table),
        PROJECTION_WRONG,
        compare_sums(
            &format!(
                "SELECT campaign_id, date_bin('1 {column}', minute, timestamptz 'epoch') AS start, platform,
                     sum(events) AS events, sum(impressions) AS impressions, sum(clicks) AS clicks,
                     trim_scale(sum(conversions)) AS conversions, sum(cost_micros) AS cost_micros,
                     sum(revenue_micros) AS revenue_micros
                 FROM metrics_by_minute GROUP BY 1, 2, 3"
            ),
            &format!(
                "SELECT campaign_id, {column} AS start, platform, events, impressions, clicks, conversions, cost_micros,
                     revenue_micros
                 FROM {table}"
            ),
            "",
        ),
    )
}

/// The sums of a grain of so many days against the days.
fn of_days(grain: i16, days: i32) -> Check {
    check(
        format!("sums of {days} days are the sums of metrics_by_day"),
        ("metrics_by_day", "sum_cells"),
        PROJECTION_WRONG,
        compare_sums(
            &format!(
                "SELECT campaign_id, date_bin('{days} days', day, timestamptz 'epoch') AS start, platform,
                     sum(events) AS events, sum(impressions) AS impressions, sum(clicks) AS clicks,
                     trim_scale(sum(conversions)) AS conversions, sum(cost_micros) AS cost_micros,
                     sum(revenue_micros) AS revenue_micros
                 FROM metrics_by_day GROUP BY 1, 2, 3"
            ),
            &format!(
                "SELECT campaign_id, date_bin('{days} days', start, timestamptz 'epoch') AS start, platform,
                     sum(events) AS events, sum(impressions) AS impressions, sum(clicks) AS clicks,
                     trim_scale(sum(conversions)) AS conversions, sum(cost_micros) AS cost_micros,
                     sum(revenue_micros) AS revenue_micros
                 FROM sum_cells WHERE grain = {grain} OR is_fresh AND grain < {grain} GROUP BY 1, 2, 3"
            ),
            "",
        ),
    )
}

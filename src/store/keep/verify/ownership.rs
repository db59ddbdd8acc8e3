//! Does every campaign have an owner, and is what its former ones stored looked up?

use super::{Check, check};

const OWNERSHIP_BROKEN: &str = "Duplicates of this campaign's events could be counted again. Stop the processors and repair the row of \
     campaigns: stream_id is the partition its events arrive on; a lookup_before of 'infinity' is always safe.";

/// The checks.
pub(super) fn checks() -> [Check; 2] {
    [
        check(
            "every campaign with an event has an owner",
            ("events of the campaign", "rows of campaigns"),
            OWNERSHIP_BROKEN,
            "SELECT 'campaign ' || m.campaign_id AS place, sum(m.events)::text AS one, '0' AS other
                 FROM metrics_total AS m
                 LEFT JOIN campaigns AS c USING (campaign_id)
                 WHERE c.campaign_id IS NULL
                 GROUP BY m.campaign_id ORDER BY m.campaign_id LIMIT 1",
        ),
        check(
            "what a campaign's former owners stored is looked up",
            ("latest event stored there", "campaigns.lookup_before"),
            OWNERSHIP_BROKEN,
            r#"SELECT format('campaign %s in partition %s of topic %s (stream_id %s)', c.campaign_id,
                         s.partition, s.topic, s.stream_id) AS place,
                     h.latest::text AS one, c.lookup_before::text AS other
                 FROM (SELECT b.stream_id, e.campaign_id COLLATE "C" AS campaign_id, max(e.event_time) AS latest
                       FROM event_blocks AS b
                       CROSS JOIN LATERAL unnest(b.campaign_id, b.event_time) AS e (campaign_id, event_time)
                       GROUP BY 1, 2) AS h
                 JOIN campaigns AS c ON c.campaign_id = h.campaign_id
                 JOIN stream_positions AS s ON s.stream_id = h.stream_id
                 WHERE c.stream_id <> h.stream_id AND h.latest >= c.lookup_before
                 ORDER BY c.campaign_id, h.stream_id LIMIT 1"#,
        ),
    ]
}

//! Is what was counted of reports what platforms said?
//!
//! What cannot be seen from here: whether a number that is zero was unknown, for both add nothing; what is said in a revision that
//! came when a newer one was known, for it was never counted.

use super::retired;
use super::{Check, check};
use crate::report_row::revisions::MOST_CONFIRMED;

const RESTATED_WRONG: &str = "What platforms said and what was counted of it are written in one transaction: somebody else has written to these \
     tables, or rows were lost. The sums are those of the event store. Keep a copy, and import the account's files again with a newer --observed-at.";

/// Every revision of every key.
const REVISIONS: &str = "SELECT campaign_id, day, slice, definition_id, event_id, observed_at, confirmed_at, impressions, clicks, \
         conversion_micros, cost_micros, revenue_micros, file_id, true AS is_newest FROM report_rows \
     UNION ALL SELECT campaign_id, day, slice, definition_id, event_id, observed_at, confirmed_at, impressions, clicks, \
         conversion_micros, cost_micros, revenue_micros, file_id, false FROM report_history";

/// Every restatement, a row each.
const RESTATEMENTS: &str = r#"SELECT e.event_id, e.campaign_id COLLATE "C" AS campaign_id, e.observed_at, e.impressions, e.clicks,
         e.conversions::numeric * 1000000 + COALESCE(e.conversion_millionths, 0) AS conversion_micros, e.cost_micros, e.revenue_micros
     FROM event_blocks AS b
     CROSS JOIN LATERAL unnest(b.event_id, b.campaign_id, b.observed_at, b.impressions, b.clicks, b.conversions,
             b.conversion_millionths, b.cost_micros, b.revenue_micros)
         AS e (event_id, campaign_id, observed_at, impressions, clicks, conversions, conversion_millionths, cost_micros,
               revenue_micros)
     WHERE b.observed_at IS NOT NULL AND e.observed_at IS NOT NULL"#;

/// Which campaign, day and slice `r` is of.
const PLACE: &str = "format('campaign %s, day %s%s', r.campaign_id, r.day, CASE r.slice WHEN '' THEN '' ELSE ', ' || r.slice END)";

/// What sums `t` of restatements and a revision `r` say, one number after the other.
const NUMBERS: &str = "CROSS JOIN LATERAL (VALUES
         (1, 'impressions', t.impressions, COALESCE(r.impressions, 0)),
         (2, 'clicks', t.clicks, COALESCE(r.clicks, 0)),
         (3, 'conversion_micros', t.conversion_micros, COALESCE(r.conversion_micros, 0)),
         (4, 'cost_micros', t.cost_micros, COALESCE(r.cost_micros, 0)),
         (5, 'revenue_micros', t.revenue_micros, COALESCE(r.revenue_micros, 0))
     ) AS v (rank, what, stored, says)";

/// The checks, each of which relies on those before it.
pub(super) fn checks() -> [Check; 4] {
    [
        check(
            "a report row is of the key and the definition that it names",
            ("the row has", "its parts make"),
            RESTATED_WRONG,
            // As `ReportRow::key`: UUID version 8 of SHA-256.
            format!(
                "SELECT {PLACE} || ', ' || v.what AS place, v.has AS one, COALESCE(v.makes, 'no such row') AS other
                 FROM ({REVISIONS}) AS r
                 LEFT JOIN report_definitions AS d USING (definition_id)
                 LEFT JOIN report_files AS f USING (file_id)
                 CROSS JOIN LATERAL (
                     SELECT sha256(string_agg(int8send(length(p.part)) || p.part, ''::bytea ORDER BY p.nth)) AS hash
                     FROM (VALUES (1, convert_to(platform_name(d.platform), 'UTF8')), (2, convert_to(d.account, 'UTF8')),
                         (3, convert_to(r.campaign_id, 'UTF8')), (4, int4send(r.day - date '0001-01-01' + 1)),
                         (5, convert_to(r.slice, 'UTF8'))) AS p (nth, part)) AS h
                 CROSS JOIN LATERAL (VALUES
                     (1, 'definition_id', r.definition_id::text, d.definition_id::text),
                     (2, 'file_id', r.file_id::text, f.file_id::text),
                     (3, 'event_id', r.event_id::text, encode(set_byte(set_byte(substring(h.hash FOR 16),
                         6, (get_byte(h.hash, 6) & 15) | 128), 8, (get_byte(h.hash, 8) & 63) | 128), 'hex')::uuid::text)
                 ) AS v (rank, what, has, makes)
                 WHERE v.has IS DISTINCT FROM v.makes ORDER BY 1, v.rank LIMIT 1"
            ),
        ),
        check(
            "what platforms said follows in time, and says something else each time",
            ("a revision was said last at", "the next one was said first at"),
            RESTATED_WRONG,
            format!(
                "SELECT {PLACE} AS place, r.said[cardinality(r.said)]::text AS one, COALESCE(r.next_at::text, 'no such row') AS other
                 FROM (SELECT q.*, lead(q.observed_at) OVER following AS next_at,
                           (q.impressions, q.clicks, q.conversion_micros, q.cost_micros, q.revenue_micros) IS NOT DISTINCT FROM
                           (lead(q.impressions) OVER following, lead(q.clicks) OVER following,
                            lead(q.conversion_micros) OVER following, lead(q.cost_micros) OVER following,
                            lead(q.revenue_micros) OVER following) AS is_repeated
                       FROM (SELECT *, observed_at || COALESCE(confirmed_at, '{{}}') AS said FROM ({REVISIONS}) AS a) AS q
                       WINDOW following AS (PARTITION BY q.campaign_id, q.day, q.slice ORDER BY q.observed_at, q.is_newest)) AS r
                 WHERE r.is_newest <> (r.next_at IS NULL) OR r.said[cardinality(r.said)] >= r.next_at
                     OR (r.is_repeated AND r.next_at IS NOT NULL)
                     OR (r.confirmed_at IS NOT NULL
                         AND r.said <> (SELECT array_agg(DISTINCT i.at ORDER BY i.at) FROM unnest(r.said) AS i (at)))
                 ORDER BY 1 LIMIT 1"
            ),
        ),
        check(
            "restatements add up to what platforms say",
            ("event store", "report_rows"),
            RESTATED_WRONG,
            format!(
                "SELECT CASE WHEN r.event_id IS NULL THEN 'campaign ' || t.campaign_id ELSE {PLACE} END || format(' (event_id %s), %s',
                     COALESCE(r.event_id, t.event_id), v.what) AS place,
                     COALESCE(v.stored::text, 'no restatement') AS one,
                     CASE WHEN r.event_id IS NULL THEN 'no such row' ELSE v.says::text END AS other
                 FROM (SELECT q.event_id, min(q.campaign_id) AS campaign_id, max(q.observed_at) AS observed_at,
                           sum(q.impressions) AS impressions, sum(q.clicks) AS clicks, sum(q.conversion_micros) AS conversion_micros,
                           sum(q.cost_micros) AS cost_micros, sum(q.revenue_micros) AS revenue_micros
                       FROM ({RESTATEMENTS} UNION ALL {}) AS q GROUP BY q.event_id) AS t
                 FULL JOIN report_rows AS r ON r.event_id = t.event_id
                 {NUMBERS}
                 WHERE v.stored IS DISTINCT FROM v.says OR r.event_id IS NULL
                     OR t.observed_at > GREATEST(r.observed_at, r.confirmed_at[cardinality(r.confirmed_at)])
                 ORDER BY 1, v.rank LIMIT 1",
                retired::RESTATEMENTS
            ),
        ),
        check(
            "restatements up to an instant add up to what was said then",
            ("event store", "report_rows and report_history"),
            RESTATED_WRONG,
            // The restatements of a key are counted in the order in which they were observed. What was said at the instant of one is
            // remembered, unless so much was confirmed that instants were forgotten.
            format!(
                "WITH said AS (SELECT r.*, unnest(r.observed_at || COALESCE(r.confirmed_at, '{{}}')) AS instant FROM ({REVISIONS}) AS r)
                 SELECT format('campaign %s (event_id %s) as of %s, %s', t.campaign_id, t.event_id, t.observed_at, v.what) AS place,
                     v.stored::text AS one, CASE WHEN r.event_id IS NULL THEN 'nothing' ELSE v.says::text END AS other
                 FROM (SELECT q.event_id, q.campaign_id, q.observed_at, sum(q.impressions) OVER until AS impressions,
                           sum(q.clicks) OVER until AS clicks, sum(q.conversion_micros) OVER until AS conversion_micros,
                           sum(q.cost_micros) OVER until AS cost_micros, sum(q.revenue_micros) OVER until AS revenue_micros
                       FROM ({RESTATEMENTS} UNION ALL {}) AS q
                       WINDOW until AS (PARTITION BY q.event_id ORDER BY q.observed_at ROWS UNBOUNDED PRECEDING)) AS t
                 LEFT JOIN said AS r ON r.event_id = t.event_id AND r.instant = t.observed_at
                 LEFT JOIN (SELECT event_id, count(*) AS instants FROM said GROUP BY event_id) AS k ON k.event_id = t.event_id
                 {NUMBERS}
                 WHERE CASE WHEN r.event_id IS NULL THEN k.instants <= {MOST_CONFIRMED} ELSE v.stored <> v.says END
                 ORDER BY 1, v.rank LIMIT 1",
                retired::RESTATEMENTS
            ),
        ),
    ]
}

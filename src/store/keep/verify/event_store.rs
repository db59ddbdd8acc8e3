//! Is every record accounted for, once, and found where it is looked for?

use super::{Check, check};

const POSITION_BROKEN: &str = "The position and what was stored under it are written in one transaction: somebody else has written to \
     these tables, or rows were lost. `adflux rebuild` cannot repair this: restore from a backup, or re-read the topic into an empty database.";
const BLOCKS_BROKEN: &str = "A block of the event store contradicts itself. Look-ups of duplicates rely on it: stop the processors and \
     restore the block from a backup.";
const COUNTED_TWICE: &str = "A record or an event was counted more than once. Sums that include it are too high. Keep the database as it is and \
     report this: it is the one thing that must never happen.";
const LETTERS_MISSED: &str = "Dead letters of this partition may be missing from the dead-letter topic; no sum is wrong. Delete the \
     partition's row of dead_letter_publications, and all of its letters are published again.";

/// The checks, each of which relies on those before it.
pub(super) fn checks() -> [Check; 9] {
    [
        check(
            "positions count what is stored",
            ("stream_positions", "the rows themselves"),
            POSITION_BROKEN,
            "SELECT format('partition %s of topic %s (stream_id %s), %s',
                         s.partition, s.topic, s.stream_id, v.what) AS place,
                     v.counted::text AS one, v.found::text AS other
                 FROM stream_positions AS s
                 LEFT JOIN (SELECT stream_id, sum(events) AS events
                            FROM (SELECT stream_id, event_count AS events FROM event_blocks
                                  UNION ALL SELECT stream_id, events FROM retired_streams) AS e
                            GROUP BY stream_id) AS b
                     USING (stream_id)
                 LEFT JOIN (SELECT stream_id, count(*) AS letters FROM dead_letters GROUP BY stream_id) AS d
                     USING (stream_id)
                 LEFT JOIN (SELECT stream_id, sum(next_offset - first_offset) AS offsets FROM skipped_offsets
                     GROUP BY stream_id) AS k USING (stream_id)
                 CROSS JOIN LATERAL (VALUES
                     (1, 'records = events + duplicates + dead_letters + unchanged + superseded + erased', s.records,
                         s.events + s.duplicates + s.dead_letters + s.unchanged + s.superseded + s.erased),
                     (2, 'events in event_blocks, and those that were dropped', s.events, COALESCE(b.events, 0)),
                     (3, 'rows of dead_letters', s.dead_letters, COALESCE(d.letters, 0)),
                     (4, 'offsets, for records and for what was given up', s.next_offset - s.start_offset,
                         GREATEST(s.next_offset - s.start_offset, s.records + COALESCE(k.offsets, 0)))
                 ) AS v (rank, what, counted, found)
                 WHERE v.counted <> v.found
                 ORDER BY s.stream_id, v.rank LIMIT 1",
        ),
        check(
            "nothing is stored outside of what was read",
            ("stream_positions says", "stored are"),
            POSITION_BROKEN,
            r#"SELECT format('partition %s of topic %s (stream_id %s), %s',
                         s.partition, s.topic, s.stream_id, r.what) AS place,
                     format('offsets %s to %s were read', s.start_offset, s.next_offset - 1) AS one,
                     format('offsets %s to %s', r.first_offset, r.last_offset) AS other
                 FROM stream_positions AS s
                 JOIN (SELECT 'a block' AS what, stream_id, first_offset, last_offset FROM event_blocks
                       UNION ALL
                       SELECT 'a dead letter', stream_id, "offset", "offset" FROM dead_letters
                       UNION ALL
                       SELECT 'given up', stream_id, first_offset, next_offset - 1 FROM skipped_offsets) AS r
                     USING (stream_id)
                 WHERE r.first_offset < s.start_offset OR r.last_offset >= s.next_offset
                 ORDER BY s.stream_id, r.first_offset LIMIT 1"#,
        ),
        check(
            "what was published are the dead letters up to an offset",
            ("dead_letter_publications", "dead_letters before that offset"),
            LETTERS_MISSED,
            r#"SELECT format('partition %s of topic %s (stream_id %s), up to offset %s',
                         s.partition, s.topic, s.stream_id, p.next_offset) AS place,
                     p.letters::text AS one, count(d."offset")::text AS other
                 FROM dead_letter_publications AS p
                 JOIN stream_positions AS s USING (stream_id)
                 LEFT JOIN dead_letters AS d ON d.stream_id = p.stream_id AND d."offset" < p.next_offset
                 GROUP BY s.stream_id, p.stream_id
                 HAVING p.letters <> count(d."offset")
                 ORDER BY s.stream_id LIMIT 1"#,
        ),
        check(
            "no two blocks of a partition overlap",
            ("the block before ends at offset", "this one begins at"),
            COUNTED_TWICE,
            "SELECT format('partition %s of topic %s (stream_id %s)', s.partition, s.topic, s.stream_id) AS place,
                     b.ends::text AS one, b.first_offset::text AS other
                 FROM (SELECT stream_id, first_offset,
                           max(last_offset) OVER (PARTITION BY stream_id ORDER BY first_offset
                               ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS ends
                       FROM event_blocks) AS b
                 JOIN stream_positions AS s USING (stream_id)
                 WHERE b.ends >= b.first_offset
                 ORDER BY b.stream_id, b.first_offset LIMIT 1",
        ),
        check(
            "a block says of itself what its arrays hold",
            ("the block says", "its arrays hold"),
            BLOCKS_BROKEN,
            // A block keeps its place when events are erased from it.
            "SELECT format('partition %s of topic %s (stream_id %s), block at offset %s, %s',
                         s.partition, s.topic, s.stream_id, b.first_offset, v.what) AS place,
                     v.says AS one, v.holds AS other
                 FROM event_blocks AS b
                 JOIN stream_positions AS s USING (stream_id)
                 CROSS JOIN LATERAL (SELECT count(*) AS events, min(t) AS earliest, max(t) AS latest
                     FROM unnest(b.event_time) AS t) AS e
                 CROSS JOIN LATERAL (SELECT b.first_offset + COALESCE(b.offset_delta[1], 0) AS first,
                     b.first_offset + COALESCE(b.offset_delta[b.event_count], b.event_count - 1) AS last) AS o
                 CROSS JOIN LATERAL (VALUES
                     (1, 'event_count', b.event_count::text, e.events::text),
                     (2, 'min_event_time', b.min_event_time::text, e.earliest::text),
                     (3, 'max_event_time', b.max_event_time::text, e.latest::text),
                     (4, 'first_offset', b.first_offset::text, CASE WHEN s.erased > 0 AND o.first > b.first_offset
                         THEN b.first_offset ELSE o.first END::text),
                     (5, 'last_offset', b.last_offset::text, CASE WHEN s.erased > 0 AND o.last < b.last_offset
                         THEN b.last_offset ELSE o.last END::text),
                     (6, 'offsets ascend', 'true', (b.offset_delta IS NULL OR b.offset_delta
                         = ARRAY(SELECT DISTINCT d FROM unnest(b.offset_delta) AS d ORDER BY d))::text),
                     (7, 'latest merged commit_id', b.commit_id::text, COALESCE(
                         (SELECT max(c) FROM unnest(b.merged_commit_id) AS c), b.commit_id)::text),
                     (8, 'latest merged committed_at', b.committed_at::text, COALESCE(
                         (SELECT max(c) FROM unnest(b.merged_committed_at) AS c), b.committed_at)::text)
                 ) AS v (rank, what, says, holds)
                 WHERE v.says IS DISTINCT FROM v.holds
                 ORDER BY b.stream_id, b.first_offset, v.rank LIMIT 1",
        ),
        check(
            "a record is an event or a dead letter, not both",
            ("event store", "dead_letters"),
            COUNTED_TWICE,
            // From the letters to the one block each could be in: the number of events does not matter.
            r#"SELECT format('partition %s of topic %s (stream_id %s), offset %s',
                         s.partition, s.topic, s.stream_id, d."offset") AS place,
                     'event ' || b.event_id[e.nth] AS one, d.reason AS other
                 FROM dead_letters AS d
                 JOIN stream_positions AS s ON s.stream_id = d.stream_id
                 CROSS JOIN LATERAL (SELECT * FROM event_blocks AS b
                     WHERE b.stream_id = d.stream_id AND b.first_offset <= d."offset"
                     ORDER BY b.first_offset DESC LIMIT 1) AS b
                 CROSS JOIN LATERAL (SELECT CASE
                     WHEN d."offset" > b.last_offset THEN NULL
                     WHEN b.offset_delta IS NULL THEN d."offset" - b.first_offset + 1
                     ELSE array_position(b.offset_delta, (d."offset" - b.first_offset)::integer) END AS nth) AS e
                 WHERE e.nth IS NOT NULL
                 ORDER BY d.stream_id, d."offset" LIMIT 1"#,
        ),
        check(
            "no event is stored twice",
            ("it is at", "and at"),
            COUNTED_TWICE,
            "WITH twice AS (
                     SELECT e.event_id, e.event_time
                     FROM event_blocks AS b
                     CROSS JOIN LATERAL unnest(b.event_id, b.event_time, b.observed_at) AS e (event_id, event_time, observed_at)
                     WHERE e.observed_at IS NULL
                     GROUP BY e.event_id, e.event_time HAVING count(*) > 1
                     ORDER BY e.event_id, e.event_time LIMIT 1)
                 SELECT format('event %s of %s', twice.event_id, twice.event_time) AS place,
                     COALESCE(min(at.place), '') AS one, COALESCE(max(at.place), '') AS other
                 FROM twice
                 CROSS JOIN LATERAL (
                     SELECT format('partition %s of topic %s (stream_id %s), offset %s', s.partition, s.topic, s.stream_id,
                         b.first_offset + COALESCE(e.offset_delta, e.position - 1)) AS place
                     FROM event_blocks AS b
                     JOIN stream_positions AS s USING (stream_id)
                     CROSS JOIN LATERAL unnest(b.event_id, b.event_time, b.offset_delta, b.observed_at) WITH ORDINALITY
                         AS e (event_id, event_time, offset_delta, observed_at, position)
                     WHERE e.event_id = twice.event_id AND e.event_time = twice.event_time AND e.observed_at IS NULL) AS at
                 GROUP BY twice.event_id, twice.event_time",
        ),
        check(
            "every event can be looked up by its time",
            ("event_time", "lookup_span of its block, and not in late_events"),
            BLOCKS_BROKEN,
            r#"SELECT format('partition %s of topic %s (stream_id %s), offset %s, event %s',
                         s.partition, s.topic, s.stream_id, o."offset", o.event_id) AS place,
                     o.event_time::text AS one, COALESCE(o.lookup_span::text, 'none') AS other
                 FROM (SELECT b.stream_id, b.first_offset + COALESCE(e.offset_delta, e.position - 1) AS "offset",
                           e.event_id, e.event_time, b.lookup_span
                       FROM event_blocks AS b
                       CROSS JOIN LATERAL unnest(b.event_id, b.event_time, b.offset_delta, b.observed_at) WITH ORDINALITY
                           AS e (event_id, event_time, offset_delta, observed_at, position)
                       WHERE e.observed_at IS NULL
                           AND (b.lookup_span IS NULL OR NOT b.lookup_span @> e.event_time)) AS o
                 LEFT JOIN late_events AS l ON l.event_id = o.event_id AND l.event_time = o.event_time
                     AND l.stream_id = o.stream_id AND l."offset" = o."offset"
                 JOIN stream_positions AS s ON s.stream_id = o.stream_id
                 WHERE l.event_id IS NULL
                 ORDER BY o.stream_id, o."offset" LIMIT 1"#,
        ),
        check(
            "late_events says where the late events are",
            ("late_events names event", "the event store has there"),
            BLOCKS_BROKEN,
            r#"SELECT format('partition %s of topic %s (stream_id %s), offset %s',
                         s.partition, s.topic, s.stream_id, l."offset") AS place,
                     format('%s of %s', l.event_id, l.event_time) AS one,
                     COALESCE(e.event_id || ' of ' || e.event_time, 'no event') AS other
                 FROM late_events AS l
                 LEFT JOIN (SELECT b.stream_id, b.first_offset + COALESCE(e.offset_delta, e.position - 1) AS "offset",
                                e.event_id, e.event_time
                            FROM event_blocks AS b
                            CROSS JOIN LATERAL unnest(b.event_id, b.event_time, b.offset_delta) WITH ORDINALITY
                                AS e (event_id, event_time, offset_delta, position)) AS e
                     ON e.stream_id = l.stream_id AND e."offset" = l."offset"
                 JOIN stream_positions AS s ON s.stream_id = l.stream_id
                 WHERE (e.event_id, e.event_time) IS DISTINCT FROM (l.event_id, l.event_time)
                     AND NOT EXISTS (SELECT FROM retired_streams AS r
                         WHERE r.stream_id = l.stream_id AND r.next_offset > l."offset")
                 ORDER BY l.stream_id, l."offset" LIMIT 1"#,
        ),
    ]
}

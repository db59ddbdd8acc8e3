//! Do the event store, the positions, the dead letters and the projections agree?
//!
//! Everything is asked of one snapshot, so that the answer is right while processors write, and in
//! SQL: it shares no code with what added the sums up. Each check is one statement that returns
//! the first place where two sides differ, or nothing.
//!
//! What cannot be seen from here: a position that is ahead without claiming any record (offsets may
//! have gaps), and what was never in the log.

use std::borrow::Cow;
use std::fmt;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::result::Error as DieselError;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Text};

use crate::event::{Count, Millionths};
use crate::store::StoreError;

mod reports;

/// What was found to agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    pub partitions: Count,
    /// Records read: events + duplicates + dead letters + unchanged + superseded.
    pub records: i128,
    pub events: i128,
    pub duplicates: i128,
    pub dead_letters: i128,
    /// Report rows that said what was known.
    pub unchanged: i128,
    /// Report rows that were older than what was known.
    pub superseded: i128,
    /// Campaigns with an event.
    pub campaigns: Count,
    pub impressions: i128,
    pub clicks: i128,
    /// In millionths.
    pub conversions: i128,
    /// Spend, in millionths of the currency unit.
    pub cost_micros: i128,
    /// Revenue, in millionths of the currency unit.
    pub revenue_micros: i128,
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} records of {} partitions = {} events + {} duplicates + {} dead letters + {} unchanged + {} superseded",
            self.records,
            self.partitions,
            self.events,
            self.duplicates,
            self.dead_letters,
            self.unchanged,
            self.superseded
        )?;
        write!(
            f,
            "{} campaigns: impressions {}, clicks {}, conversions {}, cost_micros {}, revenue_micros {}",
            self.campaigns,
            self.impressions,
            self.clicks,
            Millionths(self.conversions),
            self.cost_micros,
            self.revenue_micros
        )
    }
}

/// The first place where two sides differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Which check found it.
    pub check: Cow<'static, str>,
    /// Partition and offset, or campaign, platform and time; and which value.
    pub place: String,
    /// What is said in one place, and where that is.
    pub one: (&'static str, String),
    /// What is said in the other.
    pub other: (&'static str, String),
    /// What it means, and what can be done.
    pub meaning: &'static str,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: not so at {}", self.check, self.place)?;
        let width = self.one.0.len().max(self.other.0.len());
        for (who, says) in [&self.one, &self.other] {
            writeln!(f, "  {who:width$}  {says}")?;
        }
        write!(f, "{}", self.meaning)
    }
}

/// One question: SQL that returns the first difference as `place`, `one` and `other`.
struct Check {
    name: Cow<'static, str>,
    /// Who says `one`, and who `other`.
    sides: (&'static str, &'static str),
    meaning: &'static str,
    sql: Cow<'static, str>,
}

fn check(
    name: impl Into<Cow<'static, str>>,
    sides: (&'static str, &'static str),
    meaning: &'static str,
    sql: impl Into<Cow<'static, str>>,
) -> Check {
    Check {
        name: name.into(),
        sides,
        meaning,
        sql: sql.into(),
    }
}

const POSITION_BROKEN: &str = "The position and what was stored under it are written in one transaction: somebody else has written to \
     these tables, or rows were lost. `adflux rebuild` cannot repair this: restore from a backup, or re-read the topic into an empty database.";
const BLOCKS_BROKEN: &str = "A block of the event store contradicts itself. Look-ups of duplicates rely on it: stop the processors and \
     restore the block from a backup.";
const COUNTED_TWICE: &str = "A record or an event was counted more than once. Sums that include it are too high. Keep the database as it is and \
     report this: it is the one thing that must never happen.";
const PROJECTION_WRONG: &str = "Insights of this campaign are wrong; the event store has the truth. `adflux rebuild` makes the projections anew. \
     Keep a copy of the row if you want to find out who changed it.";
const LETTERS_MISSED: &str = "Dead letters of this partition may be missing from the dead-letter topic; no sum is wrong. Delete the \
     partition's row of dead_letter_publications, and all of its letters are published again.";
const OWNERSHIP_BROKEN: &str = "Duplicates of this campaign's events could be counted again. Stop the processors and repair the row of \
     campaigns: stream_id is the partition its events arrive on; a lookup_before of 'infinity' is always safe.";

/// Every check, cheapest first; later ones rely on what earlier ones established.
fn checks() -> Vec<Check> {
    let mut checks = vec![
        check(
            "positions count what is stored",
            ("stream_positions", "the rows themselves"),
            POSITION_BROKEN,
            "SELECT format('partition %s of topic %s (stream_id %s), %s',
                         s.partition, s.topic, s.stream_id, v.what) AS place,
                     v.counted::text AS one, v.found::text AS other
                 FROM stream_positions AS s
                 LEFT JOIN (SELECT stream_id, sum(event_count) AS events FROM event_blocks GROUP BY stream_id) AS b
                     USING (stream_id)
                 LEFT JOIN (SELECT stream_id, count(*) AS letters FROM dead_letters GROUP BY stream_id) AS d
                     USING (stream_id)
                 LEFT JOIN (SELECT stream_id, sum(next_offset - first_offset) AS offsets FROM skipped_offsets
                     GROUP BY stream_id) AS k USING (stream_id)
                 CROSS JOIN LATERAL (VALUES
                     (1, 'records = events + duplicates + dead_letters + unchanged + superseded', s.records,
                         s.events + s.duplicates + s.dead_letters + s.unchanged + s.superseded),
                     (2, 'events in event_blocks', s.events, COALESCE(b.events, 0)),
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
            "SELECT format('partition %s of topic %s (stream_id %s), block at offset %s, %s',
                         s.partition, s.topic, s.stream_id, b.first_offset, v.what) AS place,
                     v.says AS one, v.holds AS other
                 FROM event_blocks AS b
                 JOIN stream_positions AS s USING (stream_id)
                 CROSS JOIN LATERAL (SELECT count(*) AS events, min(t) AS earliest, max(t) AS latest
                     FROM unnest(b.event_time) AS t) AS e
                 CROSS JOIN LATERAL (VALUES
                     (1, 'event_count', b.event_count::text, e.events::text),
                     (2, 'min_event_time', b.min_event_time::text, e.earliest::text),
                     (3, 'max_event_time', b.max_event_time::text, e.latest::text),
                     (4, 'first_offset', b.first_offset::text, (b.first_offset + COALESCE(b.offset_delta[1], 0))::text),
                     (5, 'last_offset', b.last_offset::text,
                         (b.first_offset + COALESCE(b.offset_delta[b.event_count], b.event_count - 1))::text),
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
                 ORDER BY l.stream_id, l."offset" LIMIT 1"#,
        ),
    ];
    checks.extend(reports::checks());
    checks.extend([
        check(
            "metrics_by_minute is the sum of the events",
            ("event store", "metrics_by_minute"),
            PROJECTION_WRONG,
            compare_sums(
                r#"SELECT e.campaign_id COLLATE "C" AS campaign_id,
                     date_bin('1 minute', e.event_time, timestamptz 'epoch') AS start, e.platform,
                     count(*) AS events, sum(e.impressions) AS impressions, sum(e.clicks) AS clicks,
                     trim_scale(sum(e.conversions) + COALESCE(sum(e.conversion_millionths), 0) * 0.000001) AS conversions,
                     sum(e.cost_micros) AS cost_micros, sum(e.revenue_micros) AS revenue_micros
                 FROM event_blocks AS b
                 CROSS JOIN LATERAL unnest(b.campaign_id, b.event_time, b.platform, b.impressions, b.clicks, b.conversions,
                         b.conversion_millionths, b.cost_micros, b.revenue_micros)
                     AS e (campaign_id, event_time, platform, impressions, clicks, conversions, conversion_millionths,
                           cost_micros, revenue_micros)
                 GROUP BY 1, 2, 3"#,
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
                       FROM event_blocks AS b
                       CROSS JOIN LATERAL unnest(b.campaign_id, b.platform, b.event_time)
                           AS e (campaign_id, platform, event_time)
                       GROUP BY 1, 2) AS t USING (campaign_id, platform)"#,
                "SELECT campaign_id, timestamptz 'epoch' AS start, platform, events, impressions, clicks, conversions,
                     cost_micros, revenue_micros, min_event_time, max_event_time
                 FROM metrics_total",
                ", min_event_time, max_event_time",
            ),
        ),
    ]);
    checks.extend([(3, 8), (4, 64)].map(of_days));
    checks.push(check(
        "the directory says of a part what its chunks hold",
        ("sum_parts says", "sum_chunks hold"),
        PROJECTION_WRONG,
        "SELECT format('partition %s of topic %s (stream_id %s), part %s, %s',
                     s.partition, s.topic, s.stream_id, p.part_id, v.what) AS place,
                 v.says AS one, COALESCE(v.holds, 'nothing') AS other
             FROM sum_parts AS p
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
    ));
    checks.push(check(
        "no fresh part is older than where they are looked for",
        ("sum_fresh_from says", "sum_parts has"),
        PROJECTION_WRONG,
        "SELECT format('partition %s of topic %s (stream_id %s), grain %s', s.partition, s.topic, s.stream_id, f.grain) AS place,
                 f.part_id::text AS one, min(p.part_id)::text AS other
             FROM sum_fresh_from AS f
             JOIN stream_positions AS s USING (stream_id)
             JOIN sum_parts AS p ON p.stream_id = f.stream_id AND p.grain = f.grain AND p.reach = 0 AND p.part_id < f.part_id
             GROUP BY s.stream_id, f.stream_id, f.grain ORDER BY s.stream_id, f.grain LIMIT 1",
    ));
    checks.extend([
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
    ]);
    checks
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
fn of_days((grain, days): (i16, i32)) -> Check {
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

/// The first value in which two selections of sums by (campaign_id, start, platform) differ. `more`
/// are columns to compare besides the sums.
fn compare_sums(truth: &str, projection: &str, more: &str) -> String {
    let columns =
        format!("events, impressions, clicks, conversions, cost_micros, revenue_micros{more}");
    let list = |prefix: &str| -> Vec<String> {
        columns
            .split(", ")
            .map(|column| format!("{prefix}{column}"))
            .collect()
    };
    let values: Vec<String> = columns
        .split(", ")
        .enumerate()
        .map(|(rank, c)| format!("({rank}, '{c}', d.t_{c}::text, d.p_{c}::text)"))
        .collect();
    let pick = |side: &str, prefix: &str| -> String {
        let picked: Vec<String> = columns
            .split(", ")
            .map(|c| format!("{side}.{c} AS {prefix}{c}"))
            .collect();
        picked.join(", ")
    };
    format!(
        "SELECT format('campaign %s on %s%s, %s', d.campaign_id, platform_name(d.platform),
             CASE d.start WHEN timestamptz 'epoch' THEN '' ELSE ' at ' || d.start END, v.what) AS place,
             COALESCE(v.truth, 'no such row') AS one, COALESCE(v.projected, 'no such row') AS other
         FROM (SELECT COALESCE(t.campaign_id, p.campaign_id) AS campaign_id, COALESCE(t.start, p.start) AS start,
                   COALESCE(t.platform, p.platform) AS platform, {}, {}
               FROM ({truth}) AS t
               FULL JOIN ({projection}) AS p
                   ON p.campaign_id = t.campaign_id AND p.start = t.start AND p.platform = t.platform
               WHERE ({}) IS DISTINCT FROM ({})
               ORDER BY 1, 2, 3 LIMIT 1) AS d
         CROSS JOIN LATERAL (VALUES {}) AS v (rank, what, truth, projected)
         WHERE v.truth IS DISTINCT FROM v.projected
         ORDER BY v.rank LIMIT 1",
        pick("t", "t_"),
        pick("p", "p_"),
        list("t.").join(", "),
        list("p.").join(", "),
        values.join(", "),
    )
}

/// Checks that every record is accounted for (invariant 4) and that the projections equal the event
/// store (invariant 5), as of one instant. Calls `progress` with the name of each check before it
/// runs. Returns what agreed, or the first difference.
///
/// # Errors
/// When the database does not answer.
pub fn verify(
    connection: &mut PgConnection,
    progress: &dyn Fn(&str),
) -> Result<Result<Verified, Difference>, StoreError> {
    connection
        .build_transaction()
        .read_only()
        .repeatable_read()
        .run(|connection| {
            // The planner takes an unnested array for ten events, so it would loop where it must hash. The memory is per
            // step and worker, of which a check has several, and the server may have less than 1 GB: what is more goes
            // through temporary files.
            connection.batch_execute(
            "SET LOCAL work_mem = '32MB'; SET LOCAL hash_mem_multiplier = 1; SET LOCAL jit = off;
             SET LOCAL enable_nestloop = off;
             SET LOCAL statement_timeout = 0",
        )?;
            for check in checks() {
                progress(&check.name);
                if let Some(difference) = first_difference(connection, check)? {
                    return Ok(Err(difference));
                }
            }
            Ok(Ok(what_was_verified(connection)?))
        })
}

fn first_difference(
    connection: &mut PgConnection,
    check: Check,
) -> Result<Option<Difference>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        place: String,
        #[diesel(sql_type = Text)]
        one: String,
        #[diesel(sql_type = Text)]
        other: String,
    }
    let row: Option<Row> = sql_query(check.sql).get_result(connection).optional()?;
    Ok(row.map(|row| Difference {
        check: check.name,
        place: row.place,
        one: (check.sides.0, row.one),
        other: (check.sides.1, row.other),
        meaning: check.meaning,
    }))
}

fn what_was_verified(connection: &mut PgConnection) -> Result<Verified, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        partitions: Count,
        #[diesel(sql_type = BigInt)]
        campaigns: Count,
        // Sums over all campaigns may not fit a bigint.
        #[diesel(sql_type = Text)]
        sums: String,
    }
    let row: Row = sql_query(
        "SELECT p.partitions, m.campaigns, concat_ws(' ', p.records, p.events, p.duplicates, p.dead_letters, p.unchanged, p.superseded,
             m.impressions, m.clicks, m.conversions, m.cost_micros, m.revenue_micros) AS sums
         FROM (SELECT count(*) AS partitions, COALESCE(sum(records), 0) AS records, COALESCE(sum(events), 0) AS events,
                   COALESCE(sum(duplicates), 0) AS duplicates, COALESCE(sum(dead_letters), 0) AS dead_letters,
                   COALESCE(sum(unchanged), 0) AS unchanged, COALESCE(sum(superseded), 0) AS superseded
               FROM stream_positions) AS p
         CROSS JOIN (SELECT count(DISTINCT campaign_id) AS campaigns, COALESCE(sum(impressions), 0) AS impressions,
                         COALESCE(sum(clicks), 0) AS clicks,
                         trunc(COALESCE(sum(conversions), 0) * 1000000) AS conversions,
                         COALESCE(sum(cost_micros), 0) AS cost_micros, COALESCE(sum(revenue_micros), 0) AS revenue_micros
                     FROM metrics_total) AS m",
    )
    .get_result(connection)?;
    let sums: Vec<i128> = row
        .sums
        .split(' ')
        .map(str::parse)
        .collect::<Result<_, std::num::ParseIntError>>()
        .map_err(|e| DieselError::DeserializationError(Box::new(e)))?;
    let [
        records,
        events,
        duplicates,
        dead_letters,
        unchanged,
        superseded,
        impressions,
        clicks,
        conversions,
        cost_micros,
        revenue_micros,
    ] = sums[..]
    else {
        return Err(DieselError::NotFound.into());
    };
    Ok(Verified {
        partitions: row.partitions,
        records,
        events,
        duplicates,
        dead_letters,
        unchanged,
        superseded,
        campaigns: row.campaigns,
        impressions,
        clicks,
        conversions,
        cost_micros,
        revenue_micros,
    })
}

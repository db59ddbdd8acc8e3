-- As on the way up; and nobody stores a fraction after it was looked for.
LOCK TABLE stream_positions IN EXCLUSIVE MODE;

DO $$
BEGIN
    IF EXISTS (SELECT FROM event_blocks WHERE conversion_millionths IS NOT NULL)
        OR EXISTS (SELECT FROM sum_chunks WHERE conversion_millionths IS NOT NULL) THEN
        RAISE 'fractions of conversions are stored (event_blocks.conversion_millionths), which the version before cannot hold: there is no way back';
    END IF;
END
$$;

-- The views are made anew with the rights that they had.
SELECT set_config('adflux.grants', COALESCE(string_agg(format('GRANT %s ON %I TO %s%s', a.privilege_type, c.relname,
           CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END,
           CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END), '; '), ''), true)
FROM pg_class AS c CROSS JOIN LATERAL aclexplode(c.relacl) AS a
WHERE c.relnamespace = current_schema()::regnamespace AND a.grantee <> c.relowner
    AND c.relname IN ('ad_events', 'campaign_metrics', 'metrics_by_minute', 'metrics_by_hour', 'metrics_by_day',
        'metrics_total', 'sum_cells');

-- What somebody else made of them is theirs to make anew.
DO $$
DECLARE
    ours CONSTANT regclass[] := ARRAY['ad_events', 'campaign_metrics', 'metrics_by_minute', 'metrics_by_hour', 'metrics_by_day',
        'metrics_total', 'sum_cells']::regclass[];
    theirs text;
BEGIN
    SELECT string_agg(DISTINCT r.ev_class::regclass::text, ', ') INTO theirs
    FROM pg_depend AS d JOIN pg_rewrite AS r ON r.oid = d.objid
    WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
        AND d.refobjid = ANY (ours) AND r.ev_class <> ALL (ours);
    IF theirs IS NOT NULL THEN
        RAISE 'views of adflux are made anew, since conversions become numbers of another type again, and these read them: %. Drop them, migrate, and make them again', theirs;
    END IF;
END
$$;

DO $$
DECLARE
    most bigint;
BEGIN
    IF EXISTS (SELECT FROM stream_positions WHERE sum_bound > 9007199254740991) THEN
        SELECT max(GREATEST(impressions, clicks, conversions, cost_micros, revenue_micros)) INTO most FROM metrics_total;
        IF most > 9007199254740991 THEN
            RAISE 'a sum is %, and the version before can hold no more than 9007199254740991: there is no way back', most;
        END IF;
        UPDATE stream_positions SET sum_bound = LEAST(sum_bound, 9007199254740991);
    END IF;
END
$$;
ALTER TABLE stream_positions
    DROP CONSTRAINT stream_positions_sums_within_limit,
    ADD CONSTRAINT stream_positions_sums_within_limit CHECK (sum_bound <= 9007199254740991);

DROP VIEW campaign_metrics;
DROP VIEW metrics_by_minute, metrics_by_hour, metrics_by_day, metrics_total;
DROP VIEW sum_cells, ad_events;
DROP FUNCTION campaign_sums(text, timestamptz, timestamptz);

ALTER TABLE event_blocks DROP COLUMN conversion_millionths;
ALTER TABLE sum_chunks DROP COLUMN conversion_millionths;
COMMENT ON COLUMN event_blocks.conversions IS 'Conversions';
COMMENT ON COLUMN sum_chunks.conversions IS 'Sums of conversions';
-- sum_bound is too large for conversions now, and so it is still one.
COMMENT ON COLUMN stream_positions.sum_bound IS
    'No sum of a campaign on a platform is larger, over all time: each transaction adds what it counts, and where that would pass the limit, the largest of the sums is looked up';

CREATE VIEW ad_events AS
SELECT e.event_id,
       e.campaign_id,
       platform_name(e.platform) AS platform,
       e.event_time,
       e.impressions,
       e.clicks,
       e.conversions,
       e.cost_micros,
       e.revenue_micros,
       s.partition,
       b.first_offset + COALESCE(e.offset_delta, e.position - 1) AS "offset"
FROM event_blocks AS b
JOIN stream_positions AS s USING (stream_id)
CROSS JOIN LATERAL unnest(b.event_id, b.campaign_id, b.platform, b.event_time, b.impressions, b.clicks,
                          b.conversions, b.cost_micros, b.revenue_micros, b.offset_delta)
    WITH ORDINALITY AS e (event_id, campaign_id, platform, event_time, impressions, clicks,
                          conversions, cost_micros, revenue_micros, offset_delta, position);
COMMENT ON VIEW ad_events IS 'The event store, a row an event.';

CREATE VIEW sum_cells AS
SELECT p.stream_id, p.part_id, p.grain, p.reach = 0 AS is_fresh, k.campaign_id, v.start, v.platform, v.events, v.impressions, v.clicks,
       v.conversions, v.cost_micros, v.revenue_micros, v.first_event_time, v.last_event_time, v.commit_id, v.committed_at
FROM sum_parts AS p
JOIN sum_chunks AS c USING (stream_id, part_id)
CROSS JOIN LATERAL (
    SELECT sum_base(c.name_end) AS name_end, sum_base(c.cell_end) AS cell_end, sum_base(c.minute) AS minute, sum_base(c.platform) AS platform,
           sum_base(c.events) AS events, sum_base(c.impressions) AS impressions, sum_base(c.clicks) AS clicks,
           sum_base(c.conversions) AS conversions, sum_base(c.cost_micros) AS cost_micros, sum_base(c.revenue_micros) AS revenue_micros,
           sum_base(c.first_event_time) AS first_event_time, sum_base(c.last_event_time) AS last_event_time,
           sum_base(c.commit_id) AS commit_id, sum_base(c.committed_at) AS committed_at
    OFFSET 0) AS b
CROSS JOIN LATERAL (
    SELECT convert_from(substr(c.name, 1 + n.since, n.until - n.since), 'UTF8') COLLATE "C" AS campaign_id, n.first_cell, n.next_cell
    FROM (
        SELECT CASE WHEN i.n = 0 THEN 0 ELSE (b.name_end + sum_above(c.name_end, i.n - 1))::integer END AS since,
               (b.name_end + sum_above(c.name_end, i.n))::integer AS until,
               CASE WHEN i.n = 0 THEN 0 ELSE (b.cell_end + sum_above(c.cell_end, i.n - 1))::integer END AS first_cell,
               (b.cell_end + sum_above(c.cell_end, i.n))::integer AS next_cell
        FROM unnest(sum_places(0, c.names)) AS i (n)
        OFFSET 0) AS n
    OFFSET 0) AS k
CROSS JOIN LATERAL (
    SELECT timestamptz 'epoch' + interval '1 minute' * (b.minute + sum_above(c.minute, i.n)) AS start,
           (b.platform + sum_above(c.platform, i.n))::smallint AS platform,
           b.events + sum_above(c.events, i.n) AS events, b.impressions + sum_above(c.impressions, i.n) AS impressions,
           b.clicks + sum_above(c.clicks, i.n) AS clicks, b.conversions + sum_above(c.conversions, i.n) AS conversions,
           b.cost_micros + sum_above(c.cost_micros, i.n) AS cost_micros,
           b.revenue_micros + sum_above(c.revenue_micros, i.n) AS revenue_micros,
           timestamptz 'epoch' + interval '1 microsecond' * (b.first_event_time + sum_above(c.first_event_time, i.n)) AS first_event_time,
           timestamptz 'epoch' + interval '1 microsecond' * (b.last_event_time + sum_above(c.last_event_time, i.n)) AS last_event_time,
           b.commit_id + sum_above(c.commit_id, i.n) AS commit_id,
           timestamptz 'epoch' + interval '1 microsecond' * (b.committed_at + sum_above(c.committed_at, i.n)) AS committed_at
    FROM unnest(sum_places(k.first_cell, k.next_cell)) AS i (n)
    OFFSET 0) AS v;
COMMENT ON VIEW sum_cells IS
    'Every sum of every part. The sums of a grain are those of its parts and of all fresh parts of shorter grains, added up.';

CREATE FUNCTION campaign_sums(id text, since timestamptz, until timestamptz)
    RETURNS TABLE (minute timestamptz, platform text, events bigint, impressions bigint, clicks bigint, conversions bigint,
                   cost_micros bigint, revenue_micros bigint)
    LANGUAGE sql STABLE PARALLEL SAFE AS $$
SELECT v.start, platform_name(v.platform), sum(v.events)::bigint, sum(v.impressions)::bigint, sum(v.clicks)::bigint,
       sum(v.conversions)::bigint, sum(v.cost_micros)::bigint, sum(v.revenue_micros)::bigint
FROM sum_parts AS p
CROSS JOIN LATERAL (
    SELECT f.first_campaign FROM sum_chunks AS f
    WHERE f.stream_id = p.stream_id AND f.part_id = p.part_id AND f.first_campaign <= id
    ORDER BY f.first_campaign DESC LIMIT 1) AS f
JOIN sum_chunks AS c ON c.stream_id = p.stream_id AND c.part_id = p.part_id AND c.first_campaign = f.first_campaign
    AND c.last_campaign >= id
CROSS JOIN LATERAL (
    SELECT convert_from(substr(c.name, 1 + n.since, n.until - n.since), 'UTF8') COLLATE "C" AS campaign_id, n.first_cell, n.next_cell
    FROM (
        SELECT CASE WHEN i.n = 0 THEN 0 ELSE (sum_base(c.name_end) + sum_above(c.name_end, i.n - 1))::integer END AS since,
               (sum_base(c.name_end) + sum_above(c.name_end, i.n))::integer AS until,
               CASE WHEN i.n = 0 THEN 0 ELSE (sum_base(c.cell_end) + sum_above(c.cell_end, i.n - 1))::integer END AS first_cell,
               (sum_base(c.cell_end) + sum_above(c.cell_end, i.n))::integer AS next_cell
        FROM unnest(sum_places(0, c.names)) AS i (n)
        OFFSET 0) AS n
    OFFSET 0) AS k
CROSS JOIN LATERAL (
    SELECT timestamptz 'epoch' + interval '1 minute' * (sum_base(c.minute) + sum_above(c.minute, i.n)) AS start,
           (sum_base(c.platform) + sum_above(c.platform, i.n))::smallint AS platform,
           sum_base(c.events) + sum_above(c.events, i.n) AS events,
           sum_base(c.impressions) + sum_above(c.impressions, i.n) AS impressions,
           sum_base(c.clicks) + sum_above(c.clicks, i.n) AS clicks,
           sum_base(c.conversions) + sum_above(c.conversions, i.n) AS conversions,
           sum_base(c.cost_micros) + sum_above(c.cost_micros, i.n) AS cost_micros,
           sum_base(c.revenue_micros) + sum_above(c.revenue_micros, i.n) AS revenue_micros
    FROM unnest(sum_places(k.first_cell, k.next_cell)) AS i (n)
    OFFSET 0) AS v
WHERE p.grain = 0 AND p.since < campaign_sums.until AND p.until > campaign_sums.since
    AND p.first_campaign <= id AND p.last_campaign >= id AND k.campaign_id = id
    AND v.start >= campaign_sums.since AND v.start < campaign_sums.until
GROUP BY v.start, v.platform ORDER BY v.start, v.platform
$$;
COMMENT ON FUNCTION campaign_sums IS
    'Sums of a campaign by minute and platform, from since up to but not including until: what campaign_metrics shows of it, read from the few chunks that hold it';

CREATE VIEW metrics_by_minute AS
SELECT campaign_id, start AS minute, platform, sum(events)::bigint AS events, sum(impressions)::bigint AS impressions,
       sum(clicks)::bigint AS clicks, sum(conversions)::bigint AS conversions, sum(cost_micros)::bigint AS cost_micros,
       sum(revenue_micros)::bigint AS revenue_micros
FROM sum_cells WHERE grain = 0 GROUP BY 1, 2, 3;
COMMENT ON VIEW metrics_by_minute IS 'Sums of the events of a campaign on a platform in a minute (UTC).';

CREATE VIEW metrics_by_hour AS
SELECT campaign_id, date_bin('1 hour', start, timestamptz 'epoch') AS hour, platform, sum(events)::bigint AS events,
       sum(impressions)::bigint AS impressions, sum(clicks)::bigint AS clicks, sum(conversions)::bigint AS conversions,
       sum(cost_micros)::bigint AS cost_micros, sum(revenue_micros)::bigint AS revenue_micros
FROM sum_cells WHERE grain = 1 OR is_fresh AND grain < 1 GROUP BY 1, 2, 3;
COMMENT ON VIEW metrics_by_hour IS 'Sums of the events of a campaign on a platform in an hour (UTC).';

CREATE VIEW metrics_by_day AS
SELECT campaign_id, date_bin('1 day', start, timestamptz 'epoch') AS day, platform, sum(events)::bigint AS events,
       sum(impressions)::bigint AS impressions, sum(clicks)::bigint AS clicks, sum(conversions)::bigint AS conversions,
       sum(cost_micros)::bigint AS cost_micros, sum(revenue_micros)::bigint AS revenue_micros
FROM sum_cells WHERE grain = 2 OR is_fresh AND grain < 2 GROUP BY 1, 2, 3;
COMMENT ON VIEW metrics_by_day IS 'Sums of the events of a campaign on a platform in a day (UTC).';

CREATE VIEW metrics_total AS
SELECT campaign_id, platform, sum(events)::bigint AS events, sum(impressions)::bigint AS impressions,
       sum(clicks)::bigint AS clicks, sum(conversions)::bigint AS conversions, sum(cost_micros)::bigint AS cost_micros,
       sum(revenue_micros)::bigint AS revenue_micros, min(first_event_time) AS min_event_time,
       max(last_event_time) AS max_event_time, max(commit_id) AS commit_id, max(committed_at) AS committed_at
FROM sum_cells WHERE grain = 5 OR is_fresh GROUP BY 1, 2;
COMMENT ON VIEW metrics_total IS 'Sums of all events of a campaign on a platform.';

CREATE VIEW campaign_metrics AS
SELECT campaign_id,
       platform_name(platform) AS platform,
       impressions,
       clicks,
       conversions,
       round(cost_micros::numeric / 1000000, 6) AS cost,
       round(revenue_micros::numeric / 1000000, 6) AS revenue,
       round(clicks::numeric / NULLIF(impressions, 0), 6) AS ctr,
       round(revenue_micros::numeric / NULLIF(cost_micros, 0), 6) AS roas,
       minute AS "timestamp"
FROM metrics_by_minute;
COMMENT ON VIEW campaign_metrics IS
    'Performance of a campaign on a platform, minute by minute: cost and revenue in currency units, exact; ctr = clicks / impressions; roas = revenue / cost; null where the denominator is zero. Of one campaign, campaign_sums is much faster.';

DO $$
BEGIN
    IF current_setting('adflux.grants') <> '' THEN
        EXECUTE current_setting('adflux.grants');
    END IF;
END
$$;

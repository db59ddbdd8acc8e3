-- Conversions in millionths, as money is: platforms report fractions of them. Whole ones stay where they are, and a column beside
-- them has what is beyond; so nothing that is stored is written anew, and what is whole takes no more room than before.

-- Before tables that writers take after it: those in flight end first, and new ones wait at their first statement.
LOCK TABLE stream_positions IN EXCLUSIVE MODE;

-- A sum of conversions has its limit in millionths now. Where no number is large, which the packed columns tell at a glance, no
-- sum of them is.
DO $$
DECLARE
    most record;
BEGIN
    IF EXISTS (SELECT FROM sum_parts JOIN sum_chunks AS c USING (stream_id, part_id)
               WHERE (grain = 5 OR reach = 0) AND (get_byte(c.conversions, 0) > 3 OR sum_base(c.conversions) > 16777216)) THEN
        SELECT campaign_id, conversions INTO most FROM metrics_total ORDER BY conversions DESC LIMIT 1;
        IF most.conversions > 1152921504606 THEN
            RAISE 'campaign % has % conversions on a platform, and there can be no more than 1152921504606: the unit must be wrong',
                most.campaign_id, most.conversions;
        END IF;
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
        RAISE 'views of adflux are made anew, since conversions become numbers of another type, and these read them: %. Drop them, migrate, and make them again', theirs;
    END IF;
END
$$;

-- Before the tables behind them, which is the order in which readers take them.
DROP VIEW campaign_metrics;
DROP VIEW metrics_by_minute, metrics_by_hour, metrics_by_day, metrics_total;
DROP VIEW sum_cells, ad_events;
DROP FUNCTION campaign_sums(text, timestamptz, timestamptz);

-- Where the parts were made by this version, the columns are there already. What is stored has null in them, so it is not looked
-- through for what the constraint forbids.
ALTER TABLE event_blocks
    ADD COLUMN IF NOT EXISTS conversion_millionths integer[],
    ADD CONSTRAINT event_blocks_conversions_whole_and_beyond CHECK (
        conversion_millionths IS NULL
        OR (cardinality(conversion_millionths) = event_count AND array_position(conversion_millionths, NULL) IS NULL
            AND 0 <= ALL (conversion_millionths) AND 999999 >= ALL (conversion_millionths))
    ) NOT VALID;
COMMENT ON COLUMN event_blocks.conversions IS 'Conversions, the whole ones: the largest whole number that is not larger';
COMMENT ON COLUMN event_blocks.conversion_millionths IS
    'What is beyond the whole conversions, 0 to 999999 millionths; null where all are whole';

ALTER TABLE sum_chunks ADD COLUMN IF NOT EXISTS conversion_millionths bytea;
ALTER TABLE sum_chunks ALTER COLUMN conversion_millionths SET STORAGE MAIN;
COMMENT ON COLUMN sum_chunks.conversions IS 'Sums of conversions, the whole ones: the largest whole number that is not larger';
COMMENT ON COLUMN sum_chunks.conversion_millionths IS
    'What is beyond the whole conversions of each, 0 to 999999 millionths; null where all are whole';

-- With lz4 where the server has it.
DO $$
BEGIN
    ALTER TABLE event_blocks ALTER COLUMN conversion_millionths SET COMPRESSION lz4;
    ALTER TABLE sum_chunks ALTER COLUMN conversion_millionths SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
    NULL;
END
$$;

-- Of conversions, millionths. What would pass the limit is the limit: the largest of the sums is looked up then.
ALTER TABLE stream_positions
    DROP CONSTRAINT stream_positions_sums_within_limit,
    -- 2^60 - 1: sums of a few platforms fit 64 bits.
    ADD CONSTRAINT stream_positions_sums_within_limit CHECK (sum_bound <= 1152921504606846975);
UPDATE stream_positions
SET sum_bound = CASE WHEN sum_bound > 1152921504606846975 / 1000000 THEN 1152921504606846975 ELSE sum_bound * 1000000 END;
COMMENT ON COLUMN stream_positions.sum_bound IS
    'No sum of a campaign on a platform is larger, over all time, conversions and money in millionths: each transaction adds what it counts, and where that would pass the limit, the largest of the sums is looked up';

CREATE VIEW ad_events AS
SELECT e.event_id,
       e.campaign_id,
       platform_name(e.platform) AS platform,
       e.event_time,
       e.impressions,
       e.clicks,
       CASE WHEN e.conversion_millionths IS NULL THEN e.conversions::numeric
            ELSE trim_scale(e.conversions + e.conversion_millionths * 0.000001) END AS conversions,
       e.cost_micros,
       e.revenue_micros,
       s.partition,
       b.first_offset + COALESCE(e.offset_delta, e.position - 1) AS "offset"
FROM event_blocks AS b
JOIN stream_positions AS s USING (stream_id)
CROSS JOIN LATERAL unnest(b.event_id, b.campaign_id, b.platform, b.event_time, b.impressions, b.clicks,
                          b.conversions, b.conversion_millionths, b.cost_micros, b.revenue_micros, b.offset_delta)
    WITH ORDINALITY AS e (event_id, campaign_id, platform, event_time, impressions, clicks,
                          conversions, conversion_millionths, cost_micros, revenue_micros, offset_delta, position);
COMMENT ON VIEW ad_events IS 'The event store, a row an event.';

CREATE VIEW sum_cells AS
SELECT p.stream_id, p.part_id, p.grain, p.reach = 0 AS is_fresh, k.campaign_id, v.start, v.platform, v.events, v.impressions, v.clicks,
       v.conversions, v.cost_micros, v.revenue_micros, v.first_event_time, v.last_event_time, v.commit_id, v.committed_at
FROM sum_parts AS p
JOIN sum_chunks AS c USING (stream_id, part_id)
CROSS JOIN LATERAL (
    SELECT sum_base(c.name_end) AS name_end, sum_base(c.cell_end) AS cell_end, sum_base(c.minute) AS minute, sum_base(c.platform) AS platform,
           sum_base(c.events) AS events, sum_base(c.impressions) AS impressions, sum_base(c.clicks) AS clicks,
           sum_base(c.conversions) AS conversions, sum_base(c.conversion_millionths) AS conversion_millionths,
           sum_base(c.cost_micros) AS cost_micros, sum_base(c.revenue_micros) AS revenue_micros,
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
           b.clicks + sum_above(c.clicks, i.n) AS clicks,
           CASE WHEN c.conversion_millionths IS NULL THEN (b.conversions + sum_above(c.conversions, i.n))::numeric
                ELSE trim_scale(b.conversions + sum_above(c.conversions, i.n)
                    + (b.conversion_millionths + sum_above(c.conversion_millionths, i.n)) * 0.000001) END AS conversions,
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
    RETURNS TABLE (minute timestamptz, platform text, events bigint, impressions bigint, clicks bigint, conversions numeric,
                   cost_micros bigint, revenue_micros bigint)
    LANGUAGE sql STABLE PARALLEL SAFE AS $$
SELECT v.start, platform_name(v.platform), sum(v.events)::bigint, sum(v.impressions)::bigint, sum(v.clicks)::bigint,
       trim_scale(sum(v.conversions)), sum(v.cost_micros)::bigint, sum(v.revenue_micros)::bigint
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
           CASE WHEN c.conversion_millionths IS NULL THEN (sum_base(c.conversions) + sum_above(c.conversions, i.n))::numeric
                ELSE sum_base(c.conversions) + sum_above(c.conversions, i.n)
                    + (sum_base(c.conversion_millionths) + sum_above(c.conversion_millionths, i.n)) * 0.000001 END AS conversions,
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
       sum(clicks)::bigint AS clicks, trim_scale(sum(conversions)) AS conversions, sum(cost_micros)::bigint AS cost_micros,
       sum(revenue_micros)::bigint AS revenue_micros
FROM sum_cells WHERE grain = 0 GROUP BY 1, 2, 3;
COMMENT ON VIEW metrics_by_minute IS 'Sums of the events of a campaign on a platform in a minute (UTC).';

CREATE VIEW metrics_by_hour AS
SELECT campaign_id, date_bin('1 hour', start, timestamptz 'epoch') AS hour, platform, sum(events)::bigint AS events,
       sum(impressions)::bigint AS impressions, sum(clicks)::bigint AS clicks, trim_scale(sum(conversions)) AS conversions,
       sum(cost_micros)::bigint AS cost_micros, sum(revenue_micros)::bigint AS revenue_micros
FROM sum_cells WHERE grain = 1 OR is_fresh AND grain < 1 GROUP BY 1, 2, 3;
COMMENT ON VIEW metrics_by_hour IS 'Sums of the events of a campaign on a platform in an hour (UTC).';

CREATE VIEW metrics_by_day AS
SELECT campaign_id, date_bin('1 day', start, timestamptz 'epoch') AS day, platform, sum(events)::bigint AS events,
       sum(impressions)::bigint AS impressions, sum(clicks)::bigint AS clicks, trim_scale(sum(conversions)) AS conversions,
       sum(cost_micros)::bigint AS cost_micros, sum(revenue_micros)::bigint AS revenue_micros
FROM sum_cells WHERE grain = 2 OR is_fresh AND grain < 2 GROUP BY 1, 2, 3;
COMMENT ON VIEW metrics_by_day IS 'Sums of the events of a campaign on a platform in a day (UTC).';

CREATE VIEW metrics_total AS
SELECT campaign_id, platform, sum(events)::bigint AS events, sum(impressions)::bigint AS impressions,
       sum(clicks)::bigint AS clicks, trim_scale(sum(conversions)) AS conversions, sum(cost_micros)::bigint AS cost_micros,
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
       round(clicks::numeric / NULLIF(GREATEST(impressions, 0), 0), 6) AS ctr,
       round(revenue_micros::numeric / NULLIF(GREATEST(cost_micros, 0), 0), 6) AS roas,
       minute AS "timestamp"
FROM metrics_by_minute;
COMMENT ON VIEW campaign_metrics IS
    'Performance of a campaign on a platform, minute by minute: cost and revenue in currency units, exact; ctr = clicks / impressions; roas = revenue / cost; null where the denominator is not above zero. Of one campaign, campaign_sums is much faster.';

DO $$
BEGIN
    IF current_setting('adflux.grants') <> '' THEN
        EXECUTE current_setting('adflux.grants');
    END IF;
END
$$;

-- Sums as parts, each written once: an upsert costs the same whatever it adds, a part costs what it holds.

CREATE TABLE sum_parts (
    stream_id        integer     NOT NULL,
    part_id          bigint      NOT NULL,
    grain            smallint    NOT NULL,
    reach            smallint    NOT NULL,
    window_start     timestamptz NOT NULL,
    since            timestamptz NOT NULL,
    until            timestamptz NOT NULL,
    first_campaign   text        COLLATE "C" NOT NULL,
    last_campaign    text        COLLATE "C" NOT NULL,
    cells            bigint      NOT NULL,
    first_event_time timestamptz,
    last_event_time  timestamptz,
    commit_id        bigint      NOT NULL,
    committed_at     timestamptz,
    CONSTRAINT sum_parts_pkey PRIMARY KEY (stream_id, part_id),
    CONSTRAINT sum_parts_stream_id_fkey FOREIGN KEY (stream_id) REFERENCES stream_positions,
    CONSTRAINT sum_parts_grain_known CHECK (grain BETWEEN 0 AND 5),
    CONSTRAINT sum_parts_reach_known CHECK (reach BETWEEN 0 AND 6),
    CONSTRAINT sum_parts_has_cells CHECK (cells > 0 AND first_campaign <= last_campaign)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500, autovacuum_analyze_scale_factor = 0.2);
COMMENT ON TABLE sum_parts IS
    'The directory of the sums: which parts there are. A part holds sums by campaign, interval and platform, of events of one partition; it is written once, and merged into others in the background. What is not in here is not there. A projection: adflux rebuild makes it anew. Read it through the views metrics_by_minute, metrics_by_hour, metrics_by_day, metrics_total and campaign_metrics.';
COMMENT ON COLUMN sum_parts.stream_id IS 'The partition';
COMMENT ON COLUMN sum_parts.part_id IS 'Names the part, of its partition';
COMMENT ON COLUMN sum_parts.grain IS 'How long the intervals are: 0 a minute, 1 an hour, 2 a day, 3 8 days, 4 64 days, 5 all time';
COMMENT ON COLUMN sum_parts.reach IS 'What the part covers: 0 is fresh: any time, and its sums are in no part of a longer grain; else a window of 1 an hour, 2 a day, 3 8 days, 4 64 days, 5 512 days, 6 all time';
COMMENT ON COLUMN sum_parts.window_start IS 'Start of the window; 1970 if it is all time, or the part is fresh';
COMMENT ON COLUMN sum_parts.since IS 'Start of its first interval; of all time, its first event';
COMMENT ON COLUMN sum_parts.until IS 'End of its last interval; of all time, its last event';
COMMENT ON COLUMN sum_parts.first_campaign IS 'The first of its campaigns, in byte order';
COMMENT ON COLUMN sum_parts.last_campaign IS 'The last of them';
COMMENT ON COLUMN sum_parts.cells IS 'How many sums it holds';
COMMENT ON COLUMN sum_parts.first_event_time IS 'Its first event; null where a part of a longer grain says it';
COMMENT ON COLUMN sum_parts.last_event_time IS 'Its last event; null where a part of a longer grain says it';
COMMENT ON COLUMN sum_parts.commit_id IS 'The last transaction that counted one of its events; 0 where a part of a longer grain says it';
COMMENT ON COLUMN sum_parts.committed_at IS 'When that began to write; null where a part of a longer grain says it';
CREATE INDEX sum_parts_window_idx ON sum_parts (stream_id, grain, reach, window_start);

CREATE TABLE sum_parts_made (LIKE sum_parts INCLUDING ALL);
COMMENT ON TABLE sum_parts_made IS
    'While a rebuild runs, the directory of what it makes; then it becomes sum_parts. Empty otherwise.';

CREATE TABLE sum_parts_made_until (
    stream_id   integer NOT NULL,
    next_offset bigint  NOT NULL,
    events      bigint  NOT NULL,
    CONSTRAINT sum_parts_made_until_pkey PRIMARY KEY (stream_id)
);
COMMENT ON TABLE sum_parts_made_until IS
    'While a rebuild runs, what of each partition is in sum_parts_made, so that one that was cut off goes on. Empty otherwise.';
COMMENT ON COLUMN sum_parts_made_until.stream_id IS 'The partition';
COMMENT ON COLUMN sum_parts_made_until.next_offset IS 'Its blocks that begin before are added up';
COMMENT ON COLUMN sum_parts_made_until.events IS 'Events in those blocks';

CREATE TABLE sum_chunks (
    stream_id        integer  NOT NULL,
    part_id          bigint   NOT NULL,
    first_campaign   text     COLLATE "C" NOT NULL,
    chunk            integer  NOT NULL,
    last_campaign    text     COLLATE "C" NOT NULL,
    newest_commit_id bigint   NOT NULL,
    names            integer  NOT NULL,
    cells            integer  NOT NULL,
    name             bytea    NOT NULL,
    name_end         bytea    NOT NULL,
    cell_end         bytea    NOT NULL,
    minute           bytea    NOT NULL,
    platform         bytea    NOT NULL,
    events           bytea    NOT NULL,
    impressions      bytea    NOT NULL,
    clicks           bytea    NOT NULL,
    conversions      bytea    NOT NULL,
    cost_micros      bytea    NOT NULL,
    revenue_micros   bytea    NOT NULL,
    first_event_time bytea,
    last_event_time  bytea,
    commit_id        bytea,
    committed_at     bytea,
    CONSTRAINT sum_chunks_pkey PRIMARY KEY (stream_id, part_id, first_campaign, chunk)
) WITH (autovacuum_vacuum_scale_factor = 0.1, toast_tuple_target = 8160);
COMMENT ON TABLE sum_chunks IS
    'The sums themselves: a row holds those of some campaigns of a part, in the order of campaign, interval and platform, a column of numbers in one bytea each. A campaign''s sums are in one row with others, or have rows to themselves, all of them with the same first_campaign. Read them through the view sum_cells.';
COMMENT ON COLUMN sum_chunks.stream_id IS 'The partition';
COMMENT ON COLUMN sum_chunks.part_id IS 'The part';
COMMENT ON COLUMN sum_chunks.first_campaign IS 'The first campaign in it';
COMMENT ON COLUMN sum_chunks.chunk IS 'Numbers the chunks of a part';
COMMENT ON COLUMN sum_chunks.last_campaign IS 'The last campaign in it';
COMMENT ON COLUMN sum_chunks.newest_commit_id IS 'The largest commit_id in it; 0 where they are not kept';
COMMENT ON COLUMN sum_chunks.names IS 'How many campaigns are in it';
COMMENT ON COLUMN sum_chunks.cells IS 'How many sums are in it';
COMMENT ON COLUMN sum_chunks.name IS 'The ids of its campaigns, one after the other';
COMMENT ON COLUMN sum_chunks.name_end IS 'Of each campaign, the byte of name behind its id; read with sum_base and sum_above';
COMMENT ON COLUMN sum_chunks.cell_end IS 'Of each campaign, how many sums are before the end of its own';
COMMENT ON COLUMN sum_chunks.minute IS 'Of each sum, the start of its interval, in minutes since 1970; of all time, 0';
COMMENT ON COLUMN sum_chunks.platform IS 'Of each sum: 0 Meta, 1 Google, 2 LinkedIn, 3 TikTok';
COMMENT ON COLUMN sum_chunks.events IS 'How many events were added up';
COMMENT ON COLUMN sum_chunks.impressions IS 'Sums of impressions';
COMMENT ON COLUMN sum_chunks.clicks IS 'Sums of clicks';
COMMENT ON COLUMN sum_chunks.conversions IS 'Sums of conversions';
COMMENT ON COLUMN sum_chunks.cost_micros IS 'Sums of spend, millionths of the currency unit';
COMMENT ON COLUMN sum_chunks.revenue_micros IS 'Sums of revenue, millionths of the currency unit';
COMMENT ON COLUMN sum_chunks.first_event_time IS 'The first event of each, in microseconds since 1970; null where a part of a longer grain says it';
COMMENT ON COLUMN sum_chunks.last_event_time IS 'The last event of each, in microseconds since 1970; null where a part of a longer grain says it';
COMMENT ON COLUMN sum_chunks.commit_id IS 'The last transaction that counted an event of each; null where a part of a longer grain says it';
COMMENT ON COLUMN sum_chunks.committed_at IS 'When that began to write, in microseconds since 1970; null where a part of a longer grain says it';

-- In the row itself, and with lz4 where the server has it.
DO $$
DECLARE
    packed text;
BEGIN
    FOREACH packed IN ARRAY ARRAY['name', 'name_end', 'cell_end', 'minute', 'platform', 'events', 'impressions', 'clicks',
        'conversions', 'cost_micros', 'revenue_micros', 'first_event_time', 'last_event_time', 'commit_id', 'committed_at']
    LOOP
        EXECUTE format('ALTER TABLE sum_chunks ALTER COLUMN %I SET STORAGE MAIN', packed);
        BEGIN
            EXECUTE format('ALTER TABLE sum_chunks ALTER COLUMN %I SET COMPRESSION lz4', packed);
        EXCEPTION WHEN feature_not_supported THEN
            NULL;
        END;
    END LOOP;
END
$$;

ALTER TABLE stream_positions
    ADD COLUMN sum_bound bigint NOT NULL DEFAULT 0,
    -- 2^53 - 1: what every JSON reader keeps exactly.
    ADD CONSTRAINT stream_positions_sums_within_limit CHECK (sum_bound <= 9007199254740991);
COMMENT ON COLUMN stream_positions.sum_bound IS
    'No sum of a campaign on a platform is larger, over all time: each transaction adds what it counts, and where that would pass the limit, the largest of the sums is looked up';

-- A packed column's number n is the sum of these two. The first is the same for a whole chunk, and is read once of it.
CREATE FUNCTION sum_base(packed bytea) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ('x' || encode(substr(packed, 2, 8), 'hex'))::bit(64)::bigint;
COMMENT ON FUNCTION sum_base IS 'The smallest number of a packed column of sum_chunks: in eight bytes, after the width';

CREATE FUNCTION sum_above(packed bytea, n integer) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE get_byte(packed, 0)
        WHEN 0 THEN 0
        WHEN 1 THEN get_byte(packed, 9 + n)
        WHEN 2 THEN get_byte(packed, 9 + 2 * n) << 8 | get_byte(packed, 10 + 2 * n)
        WHEN 3 THEN (get_byte(packed, 9 + 3 * n) << 8 | get_byte(packed, 10 + 3 * n)) << 8 | get_byte(packed, 11 + 3 * n)
        WHEN 4 THEN ((get_byte(packed, 9 + 4 * n)::bigint << 8 | get_byte(packed, 10 + 4 * n)) << 8 | get_byte(packed, 11 + 4 * n)) << 8 | get_byte(packed, 12 + 4 * n)
        WHEN 5 THEN (((get_byte(packed, 9 + 5 * n)::bigint << 8 | get_byte(packed, 10 + 5 * n)) << 8 | get_byte(packed, 11 + 5 * n)) << 8 | get_byte(packed, 12 + 5 * n)) << 8 | get_byte(packed, 13 + 5 * n)
        WHEN 6 THEN ((((get_byte(packed, 9 + 6 * n)::bigint << 8 | get_byte(packed, 10 + 6 * n)) << 8 | get_byte(packed, 11 + 6 * n)) << 8 | get_byte(packed, 12 + 6 * n)) << 8 | get_byte(packed, 13 + 6 * n)) << 8 | get_byte(packed, 14 + 6 * n)
        WHEN 7 THEN (((((get_byte(packed, 9 + 7 * n)::bigint << 8 | get_byte(packed, 10 + 7 * n)) << 8 | get_byte(packed, 11 + 7 * n)) << 8 | get_byte(packed, 12 + 7 * n)) << 8 | get_byte(packed, 13 + 7 * n)) << 8 | get_byte(packed, 14 + 7 * n)) << 8 | get_byte(packed, 15 + 7 * n)
        WHEN 8 THEN ((((((get_byte(packed, 9 + 8 * n)::bigint << 8 | get_byte(packed, 10 + 8 * n)) << 8 | get_byte(packed, 11 + 8 * n)) << 8 | get_byte(packed, 12 + 8 * n)) << 8 | get_byte(packed, 13 + 8 * n)) << 8 | get_byte(packed, 14 + 8 * n)) << 8 | get_byte(packed, 15 + 8 * n)) << 8 | get_byte(packed, 16 + 8 * n)
    END;
COMMENT ON FUNCTION sum_above IS
    'By how much the number n, from 0, of a packed column of sum_chunks is larger than sum_base: in as many bytes as the first says';

-- Of a set of places that PostgreSQL guesses to be small: of generate_series it expects a thousand, which is worth compiling a query for.
CREATE FUNCTION sum_places(since integer, until integer) RETURNS integer[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (ARRAY[
        0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31,
        32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63,
        64, 65, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 77, 78, 79, 80, 81, 82, 83, 84, 85, 86, 87, 88, 89, 90, 91, 92, 93, 94, 95,
        96, 97, 98, 99, 100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 112, 113, 114, 115, 116, 117, 118, 119, 120, 121, 122, 123, 124, 125, 126, 127
    ])[since + 1:until];
COMMENT ON FUNCTION sum_places IS 'The places from since up to but not including until; a chunk has 128 at the most';

-- With OFFSET 0, what is inside is computed once of each chunk, campaign and sum, and not wherever it is used.
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

-- The event store, the positions that fence it, the projections derived from it, and what could
-- not be counted. One transaction of the processor touches them in this order:
-- stream_positions, campaigns, event_blocks, late_events, metrics_*, dead_letters.

CREATE TABLE store_identity (
    store_id uuid NOT NULL DEFAULT gen_random_uuid(),
    CONSTRAINT store_identity_pkey PRIMARY KEY (store_id)
);
COMMENT ON TABLE store_identity IS
    'One row: tells this database from every other, so that a shared cache never answers for another one.';
COMMENT ON COLUMN store_identity.store_id IS 'Chosen when the schema was made';
INSERT INTO store_identity DEFAULT VALUES;

CREATE SEQUENCE commit_ids;
COMMENT ON SEQUENCE commit_ids IS
    'Numbers the processor''s transactions. Taken while the position''s row is locked, so for one campaign a later commit has a larger id.';

CREATE TABLE stream_positions (
    stream_id       integer     GENERATED ALWAYS AS IDENTITY,
    cluster_id      text        NOT NULL,
    topic           text        NOT NULL,
    partition       integer     NOT NULL,
    epoch           bigint      NOT NULL DEFAULT 1,
    owner           text        NOT NULL,
    start_offset    bigint      NOT NULL,
    next_offset     bigint      NOT NULL,
    records         bigint      NOT NULL DEFAULT 0,
    events          bigint      NOT NULL DEFAULT 0,
    duplicates      bigint      NOT NULL DEFAULT 0,
    dead_letters    bigint      NOT NULL DEFAULT 0,
    campaigns_moved bigint      NOT NULL DEFAULT 0,
    commit_id       bigint      NOT NULL DEFAULT 0,
    committed_at    timestamptz,
    CONSTRAINT stream_positions_pkey PRIMARY KEY (stream_id),
    CONSTRAINT stream_positions_partition_key UNIQUE (cluster_id, topic, partition),
    CONSTRAINT stream_positions_offsets_ordered CHECK (start_offset >= 0 AND next_offset >= start_offset),
    CONSTRAINT stream_positions_every_record_accounted_for
        CHECK (records = events + duplicates + dead_letters),
    -- Offsets may have gaps (transaction markers, compaction), never the other way round.
    CONSTRAINT stream_positions_no_record_invented CHECK (records <= next_offset - start_offset)
) WITH (fillfactor = 50);
COMMENT ON TABLE stream_positions IS
    'How far each partition has been counted. The truth about consumption: Kafka''s committed offsets follow it.';
COMMENT ON COLUMN stream_positions.stream_id IS 'Short name of (cluster_id, topic, partition) in the other tables';
COMMENT ON COLUMN stream_positions.cluster_id IS 'The Kafka cluster''s own id: another or a re-created cluster is another log';
COMMENT ON COLUMN stream_positions.topic IS 'Topic';
COMMENT ON COLUMN stream_positions.partition IS 'Partition of the topic';
COMMENT ON COLUMN stream_positions.epoch IS 'Rises with every assignment; a writer with an older epoch can write nothing';
COMMENT ON COLUMN stream_positions.owner IS 'The process the partition was last assigned to, for people';
COMMENT ON COLUMN stream_positions.start_offset IS 'The first offset that was to be read';
COMMENT ON COLUMN stream_positions.next_offset IS 'The next offset to read';
COMMENT ON COLUMN stream_positions.records IS 'Records read: events + duplicates + dead_letters';
COMMENT ON COLUMN stream_positions.events IS 'Records in the event store';
COMMENT ON COLUMN stream_positions.duplicates IS 'Records whose event had been counted before';
COMMENT ON COLUMN stream_positions.dead_letters IS 'Records in dead_letters';
COMMENT ON COLUMN stream_positions.campaigns_moved IS 'Rises when another partition takes over a campaign of this one; part of the fence';
COMMENT ON COLUMN stream_positions.commit_id IS 'The last transaction that advanced the position';
COMMENT ON COLUMN stream_positions.committed_at IS 'When that was';

CREATE TABLE campaigns (
    campaign_id   text        COLLATE "C" NOT NULL,
    stream_id     integer     NOT NULL,
    lookup_before timestamptz NOT NULL DEFAULT '-infinity',
    CONSTRAINT campaigns_pkey PRIMARY KEY (campaign_id),
    CONSTRAINT campaigns_stream_id_fkey FOREIGN KEY (stream_id) REFERENCES stream_positions
);
COMMENT ON TABLE campaigns IS
    'Every campaign that has an event, and the partition whose processor may write it. Were a campaign''s events to arrive on two partitions, two memories of recent ids would have to agree; so one owns it.';
COMMENT ON COLUMN campaigns.campaign_id IS 'Campaign';
COMMENT ON COLUMN campaigns.stream_id IS 'The partition that owns the campaign';
COMMENT ON COLUMN campaigns.lookup_before IS 'Events before this time may be stored under an earlier owner: look them up in the event store';

CREATE TABLE event_blocks (
    stream_id      integer       NOT NULL,
    first_offset   bigint        NOT NULL,
    last_offset    bigint        NOT NULL,
    event_count    integer       NOT NULL,
    min_event_time timestamptz   NOT NULL,
    max_event_time timestamptz   NOT NULL,
    lookup_span    tstzrange,
    commit_id      bigint        NOT NULL,
    committed_at   timestamptz   NOT NULL DEFAULT clock_timestamp(),
    offset_delta   integer[],
    event_id       uuid[]        NOT NULL,
    campaign_id    text[]        NOT NULL,
    platform       smallint[]    NOT NULL,
    event_time     timestamptz[] NOT NULL,
    impressions    bigint[]      NOT NULL,
    clicks         bigint[]      NOT NULL,
    conversions    bigint[]      NOT NULL,
    cost_micros    bigint[]      NOT NULL,
    revenue_micros bigint[]      NOT NULL,
    CONSTRAINT event_blocks_pkey PRIMARY KEY (stream_id, first_offset),
    CONSTRAINT event_blocks_stream_id_fkey FOREIGN KEY (stream_id) REFERENCES stream_positions,
    CONSTRAINT event_blocks_offsets_ordered CHECK (last_offset - first_offset >= event_count - 1),
    CONSTRAINT event_blocks_times_ordered CHECK (max_event_time >= min_event_time),
    CONSTRAINT event_blocks_columns_same_length CHECK (
        event_count > 0
        AND cardinality(event_id) = event_count
        AND cardinality(campaign_id) = event_count
        AND cardinality(platform) = event_count
        AND cardinality(event_time) = event_count
        AND cardinality(impressions) = event_count
        AND cardinality(clicks) = event_count
        AND cardinality(conversions) = event_count
        AND cardinality(cost_micros) = event_count
        AND cardinality(revenue_micros) = event_count
        AND (offset_delta IS NULL OR cardinality(offset_delta) = event_count)
    )
);
COMMENT ON TABLE event_blocks IS
    'The event store: every counted event, in the order of its partition. A row holds the consecutive counted events of one partition in one commit, a column of theirs in one array. Append-only. Read it through the view ad_events.';
COMMENT ON COLUMN event_blocks.stream_id IS 'The partition';
COMMENT ON COLUMN event_blocks.first_offset IS 'Offset of the first event';
COMMENT ON COLUMN event_blocks.last_offset IS 'Offset of the last event';
COMMENT ON COLUMN event_blocks.event_count IS 'Length of every array';
COMMENT ON COLUMN event_blocks.min_event_time IS 'Earliest event_time';
COMMENT ON COLUMN event_blocks.max_event_time IS 'Latest event_time';
COMMENT ON COLUMN event_blocks.lookup_span IS 'Event times of the events that were not late when stored (null: all were); late ones are found through late_events, so that a few of them do not make every block a candidate in every look-up';
COMMENT ON COLUMN event_blocks.commit_id IS 'The transaction that stored it';
COMMENT ON COLUMN event_blocks.committed_at IS 'When it was stored';
COMMENT ON COLUMN event_blocks.offset_delta IS 'Each event''s offset minus first_offset; null when they are consecutive';
COMMENT ON COLUMN event_blocks.event_id IS 'Identity, together with event_time';
COMMENT ON COLUMN event_blocks.campaign_id IS 'Campaign';
COMMENT ON COLUMN event_blocks.platform IS '0 Meta, 1 Google, 2 LinkedIn, 3 TikTok';
COMMENT ON COLUMN event_blocks.event_time IS 'When it happened, as the platform says';
COMMENT ON COLUMN event_blocks.impressions IS 'Impressions';
COMMENT ON COLUMN event_blocks.clicks IS 'Clicks';
COMMENT ON COLUMN event_blocks.conversions IS 'Conversions';
COMMENT ON COLUMN event_blocks.cost_micros IS 'Spend, millionths of the currency unit';
COMMENT ON COLUMN event_blocks.revenue_micros IS 'Revenue, millionths of the currency unit';

CREATE INDEX event_blocks_lookup_span_idx ON event_blocks USING gist (lookup_span);
CREATE INDEX event_blocks_max_event_time_idx ON event_blocks (stream_id, max_event_time);

-- lz4 stores six times as fast as the default at 40 bytes an event. A server built without it
-- keeps the default.
DO $$
DECLARE
    column_name text;
BEGIN
    FOREACH column_name IN ARRAY ARRAY['offset_delta', 'event_id', 'campaign_id', 'platform', 'event_time',
        'impressions', 'clicks', 'conversions', 'cost_micros', 'revenue_micros']
    LOOP
        EXECUTE format('ALTER TABLE event_blocks ALTER COLUMN %I SET COMPRESSION lz4', column_name);
    END LOOP;
EXCEPTION WHEN feature_not_supported THEN
    RAISE NOTICE 'this PostgreSQL has no lz4: event_blocks keeps the default compression and stores more slowly';
END
$$;

CREATE TABLE late_events (
    event_id   uuid        NOT NULL,
    event_time timestamptz NOT NULL,
    stream_id  integer     NOT NULL,
    "offset"   bigint      NOT NULL,
    CONSTRAINT late_events_pkey PRIMARY KEY (event_id, event_time),
    CONSTRAINT late_events_stream_id_fkey FOREIGN KEY (stream_id) REFERENCES stream_positions
);
COMMENT ON TABLE late_events IS
    'Where the events that came late are in the event store: those older than the memory of recent ids when they were stored.';
COMMENT ON COLUMN late_events.event_id IS 'Identity, together with event_time';
COMMENT ON COLUMN late_events.event_time IS 'When it happened';
COMMENT ON COLUMN late_events.stream_id IS 'The partition that holds it';
COMMENT ON COLUMN late_events."offset" IS 'Its offset there';

CREATE TABLE dead_letters (
    stream_id   integer     NOT NULL,
    "offset"    bigint      NOT NULL,
    reason      text        NOT NULL,
    record_time timestamptz,
    key         bytea,
    payload     bytea,
    headers     jsonb       NOT NULL DEFAULT '[]',
    commit_id   bigint      NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT dead_letters_pkey PRIMARY KEY (stream_id, "offset"),
    CONSTRAINT dead_letters_stream_id_fkey FOREIGN KEY (stream_id) REFERENCES stream_positions,
    CONSTRAINT dead_letters_reason_not_empty CHECK (reason <> '')
);
COMMENT ON TABLE dead_letters IS 'Every record that could not be counted, whole, with the reason.';
COMMENT ON COLUMN dead_letters.stream_id IS 'The partition it was on';
COMMENT ON COLUMN dead_letters."offset" IS 'Its offset there';
COMMENT ON COLUMN dead_letters.reason IS 'Why it could not be counted';
COMMENT ON COLUMN dead_letters.record_time IS 'The Kafka record''s timestamp; null if it has none, or none between the years 1 and 9999';
COMMENT ON COLUMN dead_letters.key IS 'The record''s key';
COMMENT ON COLUMN dead_letters.payload IS 'The record''s value';
COMMENT ON COLUMN dead_letters.headers IS 'The record''s headers: an array of {"key": text, "value": hexadecimal text or null}';
COMMENT ON COLUMN dead_letters.commit_id IS 'The transaction that stored it';
COMMENT ON COLUMN dead_letters.created_at IS 'When it was stored';

CREATE INDEX dead_letters_created_at_idx ON dead_letters (created_at);

-- fillfactor: room in the page for the next version of a row, so that an upsert touches no index.
CREATE TABLE metrics_by_minute (
    campaign_id    text        COLLATE "C" NOT NULL,
    minute         timestamptz NOT NULL,
    platform       smallint    NOT NULL,
    events         bigint      NOT NULL,
    impressions    bigint      NOT NULL,
    clicks         bigint      NOT NULL,
    conversions    bigint      NOT NULL,
    cost_micros    bigint      NOT NULL,
    revenue_micros bigint      NOT NULL,
    CONSTRAINT metrics_by_minute_pkey PRIMARY KEY (campaign_id, minute, platform)
) WITH (fillfactor = 70);
COMMENT ON TABLE metrics_by_minute IS 'Sums of the events of a campaign on a platform in a minute (UTC). A projection: adflux rebuild makes it anew.';

CREATE TABLE metrics_by_hour (
    campaign_id    text        COLLATE "C" NOT NULL,
    hour           timestamptz NOT NULL,
    platform       smallint    NOT NULL,
    events         bigint      NOT NULL,
    impressions    bigint      NOT NULL,
    clicks         bigint      NOT NULL,
    conversions    bigint      NOT NULL,
    cost_micros    bigint      NOT NULL,
    revenue_micros bigint      NOT NULL,
    CONSTRAINT metrics_by_hour_pkey PRIMARY KEY (campaign_id, hour, platform)
) WITH (fillfactor = 70);
COMMENT ON TABLE metrics_by_hour IS 'Roll-up of metrics_by_minute by the hour (UTC).';

CREATE TABLE metrics_by_day (
    campaign_id    text        COLLATE "C" NOT NULL,
    day            timestamptz NOT NULL,
    platform       smallint    NOT NULL,
    events         bigint      NOT NULL,
    impressions    bigint      NOT NULL,
    clicks         bigint      NOT NULL,
    conversions    bigint      NOT NULL,
    cost_micros    bigint      NOT NULL,
    revenue_micros bigint      NOT NULL,
    CONSTRAINT metrics_by_day_pkey PRIMARY KEY (campaign_id, day, platform)
) WITH (fillfactor = 70);
COMMENT ON TABLE metrics_by_day IS 'Roll-up of metrics_by_minute by the day (UTC).';

CREATE TABLE metrics_total (
    campaign_id    text        COLLATE "C" NOT NULL,
    platform       smallint    NOT NULL,
    events         bigint      NOT NULL,
    impressions    bigint      NOT NULL,
    clicks         bigint      NOT NULL,
    conversions    bigint      NOT NULL,
    cost_micros    bigint      NOT NULL,
    revenue_micros bigint      NOT NULL,
    min_event_time timestamptz NOT NULL,
    max_event_time timestamptz NOT NULL,
    commit_id      bigint      NOT NULL,
    committed_at   timestamptz NOT NULL,
    CONSTRAINT metrics_total_pkey PRIMARY KEY (campaign_id, platform),
    -- 2^53 - 1: what every JSON reader keeps exactly. All other sums are parts of these.
    CONSTRAINT metrics_total_within_limit CHECK (
        impressions <= 9007199254740991 AND clicks <= 9007199254740991
        AND conversions <= 9007199254740991 AND cost_micros <= 9007199254740991
        AND revenue_micros <= 9007199254740991
    )
) WITH (fillfactor = 50);
COMMENT ON TABLE metrics_total IS 'Sums of all events of a campaign on a platform. A projection.';
COMMENT ON COLUMN metrics_total.min_event_time IS 'Earliest event';
COMMENT ON COLUMN metrics_total.max_event_time IS 'Latest event';
COMMENT ON COLUMN metrics_total.commit_id IS 'The last transaction that added to it: the version of what caches hold';
COMMENT ON COLUMN metrics_total.committed_at IS 'When that was';

-- The columns the four projections share mean the same in each.
DO $$
DECLARE
    projection text;
BEGIN
    FOREACH projection IN ARRAY ARRAY['metrics_by_minute', 'metrics_by_hour', 'metrics_by_day', 'metrics_total']
    LOOP
        EXECUTE format('COMMENT ON COLUMN %I.campaign_id IS ''Campaign''', projection);
        EXECUTE format('COMMENT ON COLUMN %I.platform IS ''0 Meta, 1 Google, 2 LinkedIn, 3 TikTok''', projection);
        EXECUTE format('COMMENT ON COLUMN %I.events IS ''How many events were added up''', projection);
        EXECUTE format('COMMENT ON COLUMN %I.impressions IS ''Sum of impressions''', projection);
        EXECUTE format('COMMENT ON COLUMN %I.clicks IS ''Sum of clicks''', projection);
        EXECUTE format('COMMENT ON COLUMN %I.conversions IS ''Sum of conversions''', projection);
        EXECUTE format('COMMENT ON COLUMN %I.cost_micros IS ''Sum of spend, millionths of the currency unit''', projection);
        EXECUTE format('COMMENT ON COLUMN %I.revenue_micros IS ''Sum of revenue, millionths of the currency unit''', projection);
    END LOOP;
END
$$;
COMMENT ON COLUMN metrics_by_minute.minute IS 'Start of the minute';
COMMENT ON COLUMN metrics_by_hour.hour IS 'Start of the hour';
COMMENT ON COLUMN metrics_by_day.day IS 'Start of the day, UTC';

CREATE FUNCTION platform_name(platform smallint) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (ARRAY['Meta', 'Google', 'LinkedIn', 'TikTok'])[platform + 1];
COMMENT ON FUNCTION platform_name IS 'The name of a platform by its index in the Avro enum';

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
    'Performance of a campaign on a platform, minute by minute: cost and revenue in currency units, exact; ctr = clicks / impressions; roas = revenue / cost; null where the denominator is zero.';

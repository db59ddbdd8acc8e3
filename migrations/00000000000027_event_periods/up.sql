-- The event store by periods, each a partition of its table, so that what is old can be dropped whole (adflux retain) while its sums
-- stay. The table that there is becomes the first period; none of its rows is written anew.

-- What was added without a look at what is stored is looked at now: a partition's constraints hold. Nobody waits for it.
ALTER TABLE event_blocks VALIDATE CONSTRAINT event_blocks_conversions_whole_and_beyond;
ALTER TABLE event_blocks VALIDATE CONSTRAINT event_blocks_observed_same_length;

-- Before tables that writers take after it: those in flight end first, and new ones wait at their first statement.
LOCK TABLE stream_positions IN EXCLUSIVE MODE;

-- Views that somebody else made of the table would go on reading the first period alone.
DO $$
DECLARE
    theirs text;
BEGIN
    SELECT string_agg(DISTINCT r.ev_class::regclass::text, ', ') INTO theirs
    FROM pg_depend AS d JOIN pg_rewrite AS r ON r.oid = d.objid
    WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
        AND d.refobjid = 'event_blocks'::regclass AND r.ev_class <> 'ad_events'::regclass;
    IF theirs IS NOT NULL THEN
        RAISE 'event_blocks becomes a table with partitions, and these read the one that there is: %. Drop them, migrate, and make them again', theirs;
    END IF;
END
$$;

CREATE TABLE event_periods (
    period         integer     NOT NULL,
    opened_at      timestamptz NOT NULL,
    closed_at      timestamptz,
    dropped_at     timestamptz,
    events         bigint,
    min_event_time timestamptz,
    max_event_time timestamptz,
    CONSTRAINT event_periods_pkey PRIMARY KEY (period),
    CONSTRAINT event_periods_closed_before_dropped CHECK (
        (closed_at IS NULL OR closed_at >= opened_at) AND (dropped_at IS NULL OR (closed_at IS NOT NULL AND events IS NOT NULL)))
);
COMMENT ON TABLE event_periods IS
    'The periods of the event store, each a partition of event_blocks. Events are stored in the one that is open; adflux retain opens the next one, and drops those that have been closed for long enough.';
COMMENT ON COLUMN event_periods.period IS 'Counts up from 1; events of a later period have larger offsets in their partition';
COMMENT ON COLUMN event_periods.opened_at IS 'Since when events were stored in it; of the first, when the first was';
COMMENT ON COLUMN event_periods.closed_at IS 'Until when; every transaction that stored in it had begun by then, and none that had stores in a later one. Null while it is open';
COMMENT ON COLUMN event_periods.dropped_at IS 'When its events were dropped; null while they are there';
COMMENT ON COLUMN event_periods.events IS 'How many events were dropped';
COMMENT ON COLUMN event_periods.min_event_time IS 'The earliest of them; null if there were none';
COMMENT ON COLUMN event_periods.max_event_time IS 'The latest of them: whether an event up to then was counted cannot be looked up any more';
CREATE UNIQUE INDEX event_periods_open_idx ON event_periods ((closed_at IS NULL)) WHERE closed_at IS NULL;
COMMENT ON INDEX event_periods_open_idx IS 'One is open';

INSERT INTO event_periods (period, opened_at)
SELECT 1, COALESCE(min(b.committed_at), clock_timestamp())
FROM stream_positions AS s
CROSS JOIN LATERAL (SELECT committed_at FROM event_blocks WHERE stream_id = s.stream_id ORDER BY first_offset LIMIT 1) AS b;

CREATE FUNCTION open_event_period() RETURNS integer
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN (SELECT period FROM event_periods WHERE closed_at IS NULL);
COMMENT ON FUNCTION open_event_period IS
    'The period that events are stored in. Asked when they are, by a transaction that holds its partition''s position: none opens meanwhile';

ALTER TABLE event_blocks RENAME TO event_blocks_1;
ALTER INDEX event_blocks_lookup_span_idx RENAME TO event_blocks_1_lookup_span_idx;
ALTER INDEX event_blocks_max_event_time_idx RENAME TO event_blocks_1_max_event_time_idx;
ALTER INDEX event_blocks_small_idx RENAME TO event_blocks_1_small_idx;
-- Nothing ever deletes a partition's position, and a period is dropped without a lock on it.
ALTER TABLE event_blocks_1
    DROP CONSTRAINT event_blocks_pkey,
    DROP CONSTRAINT event_blocks_stream_id_fkey,
    ADD COLUMN period integer NOT NULL DEFAULT 1,
    ADD CONSTRAINT event_blocks_of_period CHECK (period = 1);
COMMENT ON COLUMN event_blocks_1.period IS 'The period that it was stored in';

CREATE TABLE event_blocks (
    LIKE event_blocks_1 INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE INCLUDING COMPRESSION INCLUDING COMMENTS
) PARTITION BY LIST (period);
ALTER TABLE event_blocks
    DROP CONSTRAINT event_blocks_of_period,
    ALTER COLUMN period SET DEFAULT open_event_period(),
    ADD CONSTRAINT event_blocks_pkey PRIMARY KEY (stream_id, first_offset, period);
COMMENT ON TABLE event_blocks IS
    'The event store: every counted event, in the order of its partition, by periods. A row holds the consecutive counted events of one partition in one commit, a column of theirs in one array. Append-only, and dropped by the period. Read it through the view ad_events.';
COMMENT ON TABLE event_blocks_1 IS 'Events that were stored in a period.';
CREATE INDEX event_blocks_lookup_span_idx ON event_blocks USING gist (lookup_span);
CREATE INDEX event_blocks_max_event_time_idx ON event_blocks (stream_id, max_event_time);
CREATE INDEX event_blocks_small_idx ON event_blocks (stream_id, first_offset)
    INCLUDE (last_offset, event_count, committed_at, lookup_span) WHERE event_count < 8192;
COMMENT ON INDEX event_blocks_small_idx IS 'Where the blocks are that may be merged';
ALTER TABLE event_blocks ATTACH PARTITION event_blocks_1 FOR VALUES IN (1);
ALTER TABLE event_blocks_1 DROP CONSTRAINT event_blocks_of_period;

-- The view, of the table with the partitions; whoever reads it goes on.
DO $$
BEGIN
    EXECUTE 'CREATE OR REPLACE VIEW ad_events AS '
        || regexp_replace(pg_get_viewdef('ad_events'::regclass), '\mevent_blocks_1\M', 'event_blocks');
END
$$;

-- What stays of a period that was dropped.
CREATE TABLE retired_parts (
    LIKE sum_parts INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING COMMENTS,
    period integer NOT NULL,
    CONSTRAINT retired_parts_pkey PRIMARY KEY (stream_id, part_id),
    CONSTRAINT retired_parts_period_fkey FOREIGN KEY (period) REFERENCES event_periods
);
COMMENT ON TABLE retired_parts IS
    'The directory of the sums by minute of events that were dropped: they were made of these before. Never merged, and never changed: verify and rebuild take them for the events. Read them through the view retired_cells.';
COMMENT ON COLUMN retired_parts.period IS 'The period that was dropped';

CREATE TABLE retired_streams (
    period      integer NOT NULL,
    stream_id   integer NOT NULL,
    next_offset bigint  NOT NULL,
    events      bigint  NOT NULL,
    CONSTRAINT retired_streams_pkey PRIMARY KEY (period, stream_id),
    CONSTRAINT retired_streams_period_fkey FOREIGN KEY (period) REFERENCES event_periods
);
COMMENT ON TABLE retired_streams IS 'How many events of each partition were dropped.';
COMMENT ON COLUMN retired_streams.period IS 'The period';
COMMENT ON COLUMN retired_streams.stream_id IS 'The partition';
COMMENT ON COLUMN retired_streams.next_offset IS 'The offset after the last of them: what is stored of the partition begins there or after it';
COMMENT ON COLUMN retired_streams.events IS 'Events';

CREATE TABLE retired_restatements (
    period            integer     NOT NULL,
    event_id          uuid        NOT NULL,
    campaign_id       text        COLLATE "C" NOT NULL,
    platform          smallint    NOT NULL,
    event_time        timestamptz NOT NULL,
    events            bigint      NOT NULL,
    observed_at       timestamptz NOT NULL,
    impressions       bigint      NOT NULL,
    clicks            bigint      NOT NULL,
    conversion_micros bigint      NOT NULL,
    cost_micros       bigint      NOT NULL,
    revenue_micros    bigint      NOT NULL,
    CONSTRAINT retired_restatements_pkey PRIMARY KEY (period, event_id, event_time),
    CONSTRAINT retired_restatements_period_fkey FOREIGN KEY (period) REFERENCES event_periods
);
COMMENT ON TABLE retired_restatements IS
    'Of the events of a period that was dropped, those that were restatements, added up by the report row whose differences they are, and by when they happened. Of a period that was not, what a run of adflux retain that was cut off has left.';
COMMENT ON COLUMN retired_restatements.period IS 'The period';
COMMENT ON COLUMN retired_restatements.event_id IS 'The key of the report row';
COMMENT ON COLUMN retired_restatements.campaign_id IS 'Campaign';
COMMENT ON COLUMN retired_restatements.platform IS '0 Meta, 1 Google, 2 LinkedIn, 3 TikTok';
COMMENT ON COLUMN retired_restatements.event_time IS 'When they happened: while a day lasts, when the platform was asked';
COMMENT ON COLUMN retired_restatements.events IS 'How many restatements they were';
COMMENT ON COLUMN retired_restatements.observed_at IS 'When the platform was asked for the last of them';
COMMENT ON COLUMN retired_restatements.impressions IS 'Sum of impressions';
COMMENT ON COLUMN retired_restatements.clicks IS 'Sum of clicks';
COMMENT ON COLUMN retired_restatements.conversion_micros IS 'Sum of conversions, in millionths';
COMMENT ON COLUMN retired_restatements.cost_micros IS 'Sum of spend, millionths of the currency unit';
COMMENT ON COLUMN retired_restatements.revenue_micros IS 'Sum of revenue, millionths of the currency unit';
CREATE INDEX retired_restatements_campaign_id_idx ON retired_restatements (campaign_id);

-- As sum_cells, of the other directory.
DO $$
BEGIN
    EXECUTE 'CREATE VIEW retired_cells AS '
        || regexp_replace(pg_get_viewdef('sum_cells'::regclass), '\msum_parts\M', 'retired_parts');
END
$$;
COMMENT ON VIEW retired_cells IS 'The sums by minute of the events that were dropped. One campaign, minute and platform may be in it several times.';

-- What was in imported files is dropped by the same command.
ALTER TABLE report_files ADD COLUMN content_dropped_at timestamptz;
COMMENT ON COLUMN report_files.content_dropped_at IS
    'When its content was last removed from report_file_chunks, for its age; null: it never was';

-- Who may use the event store may go on, an earlier version among them: the table with the partitions is another one.
DO $$
DECLARE
    one record;
BEGIN
    FOR one IN
        SELECT a.privilege_type AS privilege, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END AS grantee,
            CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END AS may_grant
        FROM pg_class AS c CROSS JOIN LATERAL aclexplode(c.relacl) AS a
        WHERE c.oid = 'event_blocks_1'::regclass AND a.grantee <> c.relowner
    LOOP
        EXECUTE format('GRANT %s ON event_blocks TO %s%s', one.privilege, one.grantee, one.may_grant);
        EXECUTE format('GRANT SELECT ON event_periods, retired_parts, retired_streams, retired_restatements, retired_cells TO %s%s',
            one.grantee, one.may_grant);
    END LOOP;
END
$$;

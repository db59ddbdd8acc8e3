DO $$
BEGIN
    IF to_regclass('replaced_metrics_total') IS NULL THEN
        RAISE 'the tables that the parts replaced are dropped (adflux migrate --drop-replaced): there is no way back';
    END IF;
END
$$;

ALTER TABLE campaigns ADD CONSTRAINT campaigns_stream_id_fkey FOREIGN KEY (stream_id) REFERENCES stream_positions;
ALTER TABLE late_events ADD CONSTRAINT late_events_stream_id_fkey FOREIGN KEY (stream_id) REFERENCES stream_positions;

-- The tables as they were, with what the parts say by now.
CREATE AGGREGATE bigint_sum(bigint) (sfunc = int8pl, stype = bigint, combinefunc = int8pl, parallel = safe);
COMMENT ON AGGREGATE bigint_sum(bigint) IS 'The sum, as a bigint; null of no rows';

TRUNCATE replaced_metrics_by_minute, replaced_metrics_by_hour, replaced_metrics_by_day, replaced_metrics_total;
INSERT INTO replaced_metrics_by_minute (campaign_id, minute, platform, events, impressions, clicks, conversions, cost_micros, revenue_micros)
SELECT campaign_id, minute, platform, events, impressions, clicks, conversions, cost_micros, revenue_micros FROM metrics_by_minute;
INSERT INTO replaced_metrics_by_hour (campaign_id, hour, platform, events, impressions, clicks, conversions, cost_micros, revenue_micros)
SELECT campaign_id, hour, platform, events, impressions, clicks, conversions, cost_micros, revenue_micros FROM metrics_by_hour;
INSERT INTO replaced_metrics_by_day (campaign_id, day, platform, events, impressions, clicks, conversions, cost_micros, revenue_micros)
SELECT campaign_id, day, platform, events, impressions, clicks, conversions, cost_micros, revenue_micros FROM metrics_by_day;
INSERT INTO replaced_metrics_total (campaign_id, platform, events, impressions, clicks, conversions, cost_micros, revenue_micros,
    min_event_time, max_event_time, commit_id, committed_at)
SELECT campaign_id, platform, events, impressions, clicks, conversions, cost_micros, revenue_micros, min_event_time,
    max_event_time, commit_id, committed_at FROM metrics_total;

DROP VIEW campaign_metrics;
DROP VIEW metrics_by_minute, metrics_by_hour, metrics_by_day, metrics_total;
DELETE FROM sum_parts;
DELETE FROM sum_chunks;
ALTER TABLE replaced_metrics_by_minute RENAME TO metrics_by_minute;
ALTER TABLE replaced_metrics_by_hour RENAME TO metrics_by_hour;
ALTER TABLE replaced_metrics_by_day RENAME TO metrics_by_day;
ALTER TABLE replaced_metrics_total RENAME TO metrics_total;

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

CREATE TABLE day_versions (
    day          timestamptz NOT NULL,
    stream_id    integer     NOT NULL,
    version      bigint      NOT NULL,
    committed_at timestamptz NOT NULL,
    CONSTRAINT day_versions_pkey PRIMARY KEY (day, stream_id),
    CONSTRAINT day_versions_stream_id_fkey FOREIGN KEY (stream_id) REFERENCES stream_positions
) WITH (fillfactor = 50);
COMMENT ON TABLE day_versions IS
    'How many transactions have added to the sums of a day. Written with the sums, under the lock of a partition''s position, so nobody waits here.';
COMMENT ON COLUMN day_versions.day IS 'Start of the day, UTC';
COMMENT ON COLUMN day_versions.stream_id IS 'A partition that the transaction wrote';
COMMENT ON COLUMN day_versions.version IS 'Transactions that added to the day; only grows';
COMMENT ON COLUMN day_versions.committed_at IS 'When the last one began to write';
-- Spans are made of days that have a version, so what was counted before gets one. One row a day is enough. As these
-- days were just touched, no span is made for a while, in which an older version may still be counting: it raises none.
INSERT INTO day_versions (day, stream_id, version, committed_at)
SELECT d.day, p.stream_id, 0, clock_timestamp()
FROM (SELECT min(min_event_time) AS first, max(max_event_time) AS last FROM metrics_total) AS t
CROSS JOIN LATERAL generate_series(date_trunc('day', t.first, 'UTC'), t.last, interval '24 hours') AS d (day)
CROSS JOIN (SELECT stream_id FROM stream_positions ORDER BY stream_id LIMIT 1) AS p;

CREATE TABLE spans (
    days    integer     NOT NULL,
    start   timestamptz NOT NULL,
    version bigint      NOT NULL,
    CONSTRAINT spans_pkey PRIMARY KEY (days, start)
);
COMMENT ON TABLE spans IS 'Which spans have been added up. Disposable: deleting a row costs time and no answer.';
COMMENT ON COLUMN spans.days IS 'Length; a span begins at a multiple of it since 1970';
COMMENT ON COLUMN spans.start IS 'Start';
COMMENT ON COLUMN spans.version IS 'What the versions of its days in day_versions added up to when it was made';

-- The text comes last, because columns behind one of varying length are slower to reach.
CREATE TABLE metrics_by_span (
    start          timestamptz NOT NULL,
    events         bigint      NOT NULL,
    impressions    bigint      NOT NULL,
    clicks         bigint      NOT NULL,
    conversions    bigint      NOT NULL,
    cost_micros    bigint      NOT NULL,
    revenue_micros bigint      NOT NULL,
    days           integer     NOT NULL,
    platform       smallint,
    campaign_id    text        COLLATE "C" NOT NULL
);
CREATE INDEX metrics_by_span_days_start_platform_idx ON metrics_by_span (days, start, platform);
COMMENT ON TABLE metrics_by_span IS
    'Sums of the events of a campaign in a span, made in the background from metrics_by_day, long ones from short ones. Counts only where spans says that the span is current.';
COMMENT ON COLUMN metrics_by_span.start IS 'Start of the span';
COMMENT ON COLUMN metrics_by_span.events IS 'How many events were added up';
COMMENT ON COLUMN metrics_by_span.impressions IS 'Sum of impressions';
COMMENT ON COLUMN metrics_by_span.clicks IS 'Sum of clicks';
COMMENT ON COLUMN metrics_by_span.conversions IS 'Sum of conversions';
COMMENT ON COLUMN metrics_by_span.cost_micros IS 'Sum of spend, millionths of the currency unit';
COMMENT ON COLUMN metrics_by_span.revenue_micros IS 'Sum of revenue, millionths of the currency unit';
COMMENT ON COLUMN metrics_by_span.days IS 'Length of the span';
COMMENT ON COLUMN metrics_by_span.platform IS '0 Meta, 1 Google, 2 LinkedIn, 3 TikTok; null: all of them together';
COMMENT ON COLUMN metrics_by_span.campaign_id IS 'Campaign';

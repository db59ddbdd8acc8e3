-- The sums are read from parts.

-- The parts are made, or nothing was counted. The tables that they replace stay until `adflux migrate --drop-replaced`.
UPDATE stream_positions SET sum_bound = (
    SELECT COALESCE(max(GREATEST(impressions, clicks, conversions, cost_micros, revenue_micros)), 0) FROM metrics_total);

DROP VIEW campaign_metrics;
DROP TABLE metrics_by_span, spans, day_versions;
DROP AGGREGATE bigint_sum(bigint);
ALTER TABLE metrics_by_minute RENAME TO replaced_metrics_by_minute;
ALTER TABLE metrics_by_hour RENAME TO replaced_metrics_by_hour;
ALTER TABLE metrics_by_day RENAME TO replaced_metrics_by_day;
ALTER TABLE metrics_total RENAME TO replaced_metrics_total;

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

-- A row for each new campaign and each late event: to look up its partition every time is a third of what a commit of a
-- million campaigns costs. Their transaction holds the lock of the partition's row, which nothing ever deletes.
ALTER TABLE campaigns DROP CONSTRAINT campaigns_stream_id_fkey;
ALTER TABLE late_events DROP CONSTRAINT late_events_stream_id_fkey;

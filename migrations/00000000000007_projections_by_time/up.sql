-- Sums of all campaigns over a window read the rows of that window only. Rows come in about the order of
-- their time, so a summary of each few pages is enough; it costs an upsert next to nothing. Several ranges a
-- summary, so that a late row does not spoil its page.
CREATE INDEX metrics_by_minute_minute_idx ON metrics_by_minute
    USING brin (minute timestamptz_minmax_multi_ops) WITH (pages_per_range = 32, autosummarize = on);
CREATE INDEX metrics_by_hour_hour_idx ON metrics_by_hour
    USING brin (hour timestamptz_minmax_multi_ops) WITH (pages_per_range = 32, autosummarize = on);
CREATE INDEX metrics_by_day_day_idx ON metrics_by_day
    USING brin (day timestamptz_minmax_multi_ops) WITH (pages_per_range = 32, autosummarize = on);

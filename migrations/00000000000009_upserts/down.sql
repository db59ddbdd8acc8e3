ALTER INDEX metrics_by_minute_minute_idx SET (autosummarize = on);
ALTER INDEX metrics_by_hour_hour_idx SET (autosummarize = on);
ALTER INDEX metrics_by_day_day_idx SET (autosummarize = on);
ALTER TABLE metrics_by_hour SET (fillfactor = 70);
ALTER TABLE metrics_by_day SET (fillfactor = 70);

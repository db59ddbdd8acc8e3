-- A session that fills pages asked for each range by itself, of a list in PostgreSQL that is soon full: then
-- every request is a line in its log. Summarizing is part of the processor's maintenance instead, and of vacuum.
ALTER INDEX metrics_by_minute_minute_idx SET (autosummarize = off);
ALTER INDEX metrics_by_hour_hour_idx SET (autosummarize = off);
ALTER INDEX metrics_by_day_day_idx SET (autosummarize = off);

-- A batch of many campaigns updates every row of a page at once. With room for all of them none is put on
-- another page, and no index is touched.
ALTER TABLE metrics_by_hour SET (fillfactor = 50);
ALTER TABLE metrics_by_day SET (fillfactor = 50);

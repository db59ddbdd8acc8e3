DROP VIEW sum_parts_latest;
DROP INDEX sum_parts_window_idx;
CREATE INDEX sum_parts_window_idx ON sum_parts (stream_id, grain, reach, window_start);
DROP TABLE sum_fresh_from;

-- Where a session holds a snapshot for long (pg_dump, an export), the index entries of the parts that were carried meanwhile stay,
-- and each reader would walk over all of them to the few that are fresh.

CREATE TABLE sum_fresh_from (
    stream_id integer  NOT NULL,
    grain     smallint NOT NULL,
    part_id   bigint   NOT NULL,
    CONSTRAINT sum_fresh_from_pkey PRIMARY KEY (stream_id, grain),
    CONSTRAINT sum_fresh_from_stream_id_fkey FOREIGN KEY (stream_id) REFERENCES stream_positions
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
COMMENT ON TABLE sum_fresh_from IS
    'From which number on a partition''s fresh parts of a grain are looked for; from 0 where nothing is said. They are numbered in the order of their commits and carried in that order, so no fresh part comes to be below. A rebuild, whose parts have older numbers, empties it.';
COMMENT ON COLUMN sum_fresh_from.stream_id IS 'The partition';
COMMENT ON COLUMN sum_fresh_from.grain IS 'As in sum_parts';
COMMENT ON COLUMN sum_fresh_from.part_id IS 'No fresh part has a smaller number';

DROP INDEX sum_parts_window_idx;
CREATE INDEX sum_parts_window_idx ON sum_parts (stream_id, grain, reach, window_start, part_id);

CREATE VIEW sum_parts_latest AS
SELECT p.*
FROM stream_positions AS s
CROSS JOIN (VALUES (0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (5, 6)) AS k (grain, reach)
LEFT JOIN sum_fresh_from AS f ON f.stream_id = s.stream_id AND f.grain = k.grain
JOIN sum_parts AS p ON p.stream_id = s.stream_id AND p.grain = k.grain AND p.reach = k.reach
    AND (p.window_start, p.part_id) >= (timestamptz 'epoch', COALESCE(f.part_id, 0)) AND p.window_start <= timestamptz 'epoch';
COMMENT ON VIEW sum_parts_latest IS
    'The parts that say when their events were and were counted: the fresh ones, and those of all time. Every event is in exactly one of them.';

DROP VIEW sum_cells;
DROP FUNCTION campaign_sums(text, timestamptz, timestamptz);
DROP FUNCTION sum_places(integer, integer), sum_above(bytea, integer), sum_base(bytea);
DROP TABLE sum_chunks, sum_parts_made_until, sum_parts_made, sum_parts;
ALTER TABLE stream_positions DROP COLUMN sum_bound;

DROP TABLE metrics_by_span;
DROP TABLE spans;
DROP TABLE day_versions;
DROP AGGREGATE bigint_sum(bigint);

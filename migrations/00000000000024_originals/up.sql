-- What was imported, and the files themselves: a number can be followed to the line that said it, and a file can be taken back.

ALTER TABLE report_files
    ADD COLUMN size      bigint,
    ADD COLUMN undone_at timestamptz;
COMMENT ON COLUMN report_files.size IS 'Its length in bytes; null: adflux import has not seen it, only rows that are said to be from it';
COMMENT ON COLUMN report_files.undone_at IS
    'When it was taken back: what it said up to then does not count; null: it was not';

CREATE TABLE report_file_chunks (
    file_id integer NOT NULL,
    n       integer NOT NULL,
    bytes   bytea   NOT NULL,
    CONSTRAINT report_file_chunks_pkey PRIMARY KEY (file_id, n),
    CONSTRAINT report_file_chunks_n_from_zero CHECK (n >= 0)
);
COMMENT ON TABLE report_file_chunks IS 'The content of imported files, where it is kept in PostgreSQL: all of a file, or nothing.';
COMMENT ON COLUMN report_file_chunks.file_id IS 'report_files';
COMMENT ON COLUMN report_file_chunks.n IS 'Which piece it is, from 0';
COMMENT ON COLUMN report_file_chunks.bytes IS 'A piece of at most 1 MiB, as one frame of zstd';
-- What is compressed does not get smaller a second time.
ALTER TABLE report_file_chunks ALTER COLUMN bytes SET STORAGE EXTERNAL;

CREATE TABLE report_imports (
    file_id     integer     NOT NULL,
    observed_at timestamptz NOT NULL,
    imported_at timestamptz NOT NULL,
    name        text        NOT NULL,
    shape       text        NOT NULL,
    platform    smallint    NOT NULL,
    accounts    text[]      COLLATE "C" NOT NULL,
    rows        bigint      NOT NULL,
    first_day   date,
    last_day    date,
    options     jsonb       NOT NULL,
    CONSTRAINT report_imports_pkey PRIMARY KEY (file_id, observed_at)
);
COMMENT ON TABLE report_imports IS 'What adflux import has sent: which file, and as what the platform said at which instant.';
COMMENT ON COLUMN report_imports.file_id IS 'The file: report_files';
COMMENT ON COLUMN report_imports.observed_at IS 'When the platform was asked';
COMMENT ON COLUMN report_imports.imported_at IS 'When it was last imported as of that instant';
COMMENT ON COLUMN report_imports.name IS 'What it was called';
COMMENT ON COLUMN report_imports.shape IS 'What it was recognised as';
COMMENT ON COLUMN report_imports.platform IS '0 Meta, 1 Google, 2 LinkedIn, 3 TikTok';
COMMENT ON COLUMN report_imports.accounts IS 'The platform''s own ids of its accounts';
COMMENT ON COLUMN report_imports.rows IS 'Its rows, each key once';
COMMENT ON COLUMN report_imports.first_day IS 'The first day it has a row of; null: it has none';
COMMENT ON COLUMN report_imports.last_day IS 'The last';
COMMENT ON COLUMN report_imports.options IS 'How it was to be read and sent';

DO $$
BEGIN
    IF EXISTS (SELECT FROM report_imports) THEN
        RAISE 'files were imported, which the version before cannot keep: there is no way back';
    END IF;
END
$$;

DROP TABLE report_imports;
DROP TABLE report_file_chunks;
ALTER TABLE report_files DROP COLUMN size, DROP COLUMN undone_at;

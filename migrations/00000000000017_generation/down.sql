ALTER TABLE store_identity DROP COLUMN generation;

DROP TABLE dead_letter_publications;
ALTER TABLE dead_letters
    DROP CONSTRAINT dead_letters_redriven_to_a_place,
    DROP COLUMN redrive_started_at,
    DROP COLUMN redriven_at,
    DROP COLUMN redriven_partition,
    DROP COLUMN redriven_offset;

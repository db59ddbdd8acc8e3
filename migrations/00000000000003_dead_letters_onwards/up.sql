-- What becomes of a dead letter after it was stored: it is published for other tools, and it may be
-- sent back to be counted after all.

-- Columns without a default, and a constraint that the rows there are satisfy unseen: no row is read.
ALTER TABLE dead_letters
    ADD COLUMN redrive_started_at timestamptz,
    ADD COLUMN redriven_at        timestamptz,
    ADD COLUMN redriven_partition integer,
    ADD COLUMN redriven_offset    bigint,
    ADD CONSTRAINT dead_letters_redriven_to_a_place CHECK (
        num_nulls(redriven_at, redriven_partition, redriven_offset) = 3
        OR (num_nulls(redrive_started_at, redriven_at, redriven_partition, redriven_offset) = 0
            AND redriven_partition >= 0 AND redriven_offset >= 0)
    ) NOT VALID;
COMMENT ON COLUMN dead_letters.redrive_started_at IS
    'When it was taken up to be sent back to the topic, written before it is sent; from then on its event may also be in the event store. Null: never';
COMMENT ON COLUMN dead_letters.redriven_at IS
    'When Kafka had acknowledged it on the topic again. Null after redrive_started_at: cut short, and sent again by the next redrive';
COMMENT ON COLUMN dead_letters.redriven_partition IS 'The partition of the topic where it is again';
COMMENT ON COLUMN dead_letters.redriven_offset IS 'Its offset there';

CREATE TABLE dead_letter_publications (
    stream_id    integer     NOT NULL,
    next_offset  bigint      NOT NULL,
    letters      bigint      NOT NULL,
    published_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT dead_letter_publications_pkey PRIMARY KEY (stream_id),
    CONSTRAINT dead_letter_publications_stream_id_fkey FOREIGN KEY (stream_id) REFERENCES stream_positions,
    CONSTRAINT dead_letter_publications_counts_letters CHECK (letters > 0 AND next_offset >= letters)
);
COMMENT ON TABLE dead_letter_publications IS
    'How far the dead letters of each partition have been published to the dead-letter topic. Not in stream_positions, whose rows the processors lock.';
COMMENT ON COLUMN dead_letter_publications.stream_id IS 'The partition';
COMMENT ON COLUMN dead_letter_publications.next_offset IS 'Every dead letter before this offset has been published';
COMMENT ON COLUMN dead_letter_publications.letters IS 'How many these are';
COMMENT ON COLUMN dead_letter_publications.published_at IS 'When the last of them was';

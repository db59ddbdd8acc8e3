-- Exchange rates, which the user imports: what sums of several currencies are converted by.

CREATE TABLE rate_files (
    file_id     integer     GENERATED ALWAYS AS IDENTITY,
    source      text        COLLATE "C" NOT NULL,
    base        text        COLLATE "C" NOT NULL,
    sha256      bytea       NOT NULL,
    name        text        NOT NULL,
    imported_at timestamptz NOT NULL,
    CONSTRAINT rate_files_pkey PRIMARY KEY (file_id),
    CONSTRAINT rate_files_source_is_a_name CHECK (source ~ '^[a-z0-9-]{1,32}$'),
    CONSTRAINT rate_files_base_is_a_code CHECK (base ~ '^[A-Z]{3}$'),
    CONSTRAINT rate_files_sha256_is_one CHECK (length(sha256) = 32)
);
COMMENT ON TABLE rate_files IS 'The files that exchange rates are from: those that changed any. The newest tells whether rates have changed.';
COMMENT ON COLUMN rate_files.file_id IS 'Short name of it in exchange_rates; rises with each import';
COMMENT ON COLUMN rate_files.source IS 'Who publishes the rates: ecb, the European Central Bank';
COMMENT ON COLUMN rate_files.base IS 'The currency that rates are for one of (ISO 4217)';
COMMENT ON COLUMN rate_files.sha256 IS 'SHA-256 of its content, unpacked';
COMMENT ON COLUMN rate_files.name IS 'What it was called';
COMMENT ON COLUMN rate_files.imported_at IS 'When it was imported';

CREATE TABLE exchange_rates (
    source   text    COLLATE "C" NOT NULL,
    currency text    COLLATE "C" NOT NULL,
    day      date    NOT NULL,
    rate     numeric NOT NULL,
    file_id  integer NOT NULL,
    CONSTRAINT exchange_rates_pkey PRIMARY KEY (source, currency, day),
    CONSTRAINT exchange_rates_currency_is_a_code CHECK (currency ~ '^[A-Z]{3}$'),
    CONSTRAINT exchange_rates_rate_above_zero CHECK (rate > 0)
);
COMMENT ON TABLE exchange_rates IS 'What one of the base currency was worth on a day. Days without a rate have that of the last day before.';
COMMENT ON COLUMN exchange_rates.source IS 'Who publishes the rates, as in rate_files';
COMMENT ON COLUMN exchange_rates.currency IS 'ISO 4217';
COMMENT ON COLUMN exchange_rates.day IS 'The day it was published for';
COMMENT ON COLUMN exchange_rates.rate IS 'So many of the currency for one of the base, exactly as published';
COMMENT ON COLUMN exchange_rates.file_id IS 'The file that said so: rate_files';

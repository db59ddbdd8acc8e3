-- Reports: what platforms say a campaign's day was, and how that changed. An event of the event store is the difference between
-- two revisions; the revisions themselves are here.

LOCK TABLE stream_positions IN EXCLUSIVE MODE;

-- What is stored has null in it. Where the parts were made by this version, the column is there already.
ALTER TABLE event_blocks
    ADD COLUMN IF NOT EXISTS observed_at timestamptz[],
    ADD CONSTRAINT event_blocks_observed_same_length
        CHECK (observed_at IS NULL OR cardinality(observed_at) = event_count) NOT VALID;
COMMENT ON COLUMN event_blocks.event_id IS 'Identity, together with event_time; of a restatement, the key of the report row whose difference it is';
COMMENT ON COLUMN event_blocks.observed_at IS
    'Of a restatement, when the platform was asked; null for an increment, and for the whole block where all are';
DO $$
BEGIN
    ALTER TABLE event_blocks ALTER COLUMN observed_at SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
    NULL;
END
$$;

ALTER TABLE stream_positions
    ADD COLUMN unchanged bigint NOT NULL DEFAULT 0,
    ADD COLUMN superseded bigint NOT NULL DEFAULT 0,
    DROP CONSTRAINT stream_positions_every_record_accounted_for,
    ADD CONSTRAINT stream_positions_every_record_accounted_for
        CHECK (records = events + duplicates + dead_letters + unchanged + superseded);
COMMENT ON COLUMN stream_positions.records IS 'Records read: events + duplicates + dead_letters + unchanged + superseded';
COMMENT ON COLUMN stream_positions.unchanged IS 'Report rows that were newer than what was known, and said the same';
COMMENT ON COLUMN stream_positions.superseded IS 'Report rows that were older than what was known: they stand in report_history';

CREATE TABLE report_definitions (
    definition_id integer  GENERATED ALWAYS AS IDENTITY,
    platform      smallint NOT NULL,
    account       text     COLLATE "C" NOT NULL,
    time_zone     text     COLLATE "C" NOT NULL,
    currency      text     COLLATE "C" NOT NULL,
    conversions   text     COLLATE "C" NOT NULL,
    revenue       text     COLLATE "C" NOT NULL,
    grain         text     COLLATE "C" NOT NULL,
    CONSTRAINT report_definitions_pkey PRIMARY KEY (definition_id),
    CONSTRAINT report_definitions_key UNIQUE (platform, account, time_zone, currency, conversions, revenue, grain)
);
COMMENT ON TABLE report_definitions IS
    'What numbers of reports mean. Those of a campaign''s day have one definition, or they could not be added up.';
COMMENT ON COLUMN report_definitions.definition_id IS 'Short name of it in the other tables';
COMMENT ON COLUMN report_definitions.platform IS '0 Meta, 1 Google, 2 LinkedIn, 3 TikTok';
COMMENT ON COLUMN report_definitions.account IS 'The platform''s own id of the account';
COMMENT ON COLUMN report_definitions.time_zone IS 'Whose days they are, by its name in the IANA database';
COMMENT ON COLUMN report_definitions.currency IS 'ISO 4217';
COMMENT ON COLUMN report_definitions.conversions IS 'What counts as a conversion, in the platform''s own words; empty: what it counts itself';
COMMENT ON COLUMN report_definitions.revenue IS 'What is revenue, likewise';
COMMENT ON COLUMN report_definitions.grain IS 'The names of what the rows of a day are split by, such as ad_group,country; empty: not at all';

CREATE TABLE report_files (
    file_id integer GENERATED ALWAYS AS IDENTITY,
    sha256  bytea   NOT NULL,
    CONSTRAINT report_files_pkey PRIMARY KEY (file_id),
    CONSTRAINT report_files_sha256_key UNIQUE (sha256),
    CONSTRAINT report_files_sha256_is_one CHECK (length(sha256) = 32)
);
COMMENT ON TABLE report_files IS 'The files that report rows are from.';
COMMENT ON COLUMN report_files.file_id IS 'Short name of it in the other tables';
COMMENT ON COLUMN report_files.sha256 IS 'SHA-256 of its content';

CREATE TABLE report_rows (
    campaign_id       text        COLLATE "C" NOT NULL,
    day               date        NOT NULL,
    slice             text        COLLATE "C" NOT NULL,
    definition_id     integer     NOT NULL,
    event_id          uuid        NOT NULL,
    observed_at       timestamptz NOT NULL,
    confirmed_at      timestamptz[],
    event_time        timestamptz NOT NULL,
    impressions       bigint,
    clicks            bigint,
    conversion_micros bigint,
    cost_micros       bigint,
    revenue_micros    bigint,
    file_id           integer,
    line              bigint,
    counted_at        timestamptz NOT NULL,
    CONSTRAINT report_rows_pkey PRIMARY KEY (campaign_id, day, slice)
) WITH (fillfactor = 80);
COMMENT ON TABLE report_rows IS
    'What each platform says a campaign''s day was, by its newest answer: the sum of the restatements with its event_id. Written by the partition that owns the campaign.';
COMMENT ON COLUMN report_rows.campaign_id IS 'Campaign';
COMMENT ON COLUMN report_rows.day IS 'A day of the account''s time zone';
COMMENT ON COLUMN report_rows.slice IS 'What part of the campaign, as ad_group=123,country=DE; empty: all of it';
COMMENT ON COLUMN report_rows.definition_id IS 'What the numbers mean: report_definitions';
COMMENT ON COLUMN report_rows.event_id IS 'What its restatements have as event_id: made of platform, account, campaign, day and slice';
COMMENT ON COLUMN report_rows.observed_at IS 'When the platform was asked that said this first';
COMMENT ON COLUMN report_rows.confirmed_at IS 'When it was asked again and said the same, ascending; the latest 64';
COMMENT ON COLUMN report_rows.event_time IS 'When what changed with it is taken to have happened';
COMMENT ON COLUMN report_rows.impressions IS 'Impressions; null: the platform does not say, which is not zero';
COMMENT ON COLUMN report_rows.clicks IS 'Clicks, likewise';
COMMENT ON COLUMN report_rows.conversion_micros IS 'Conversions, in millionths, likewise';
COMMENT ON COLUMN report_rows.cost_micros IS 'Spend, millionths of the currency unit, likewise';
COMMENT ON COLUMN report_rows.revenue_micros IS 'Revenue, millionths of the currency unit, likewise';
COMMENT ON COLUMN report_rows.file_id IS 'The file that said so first: report_files; null: none, or not remembered';
COMMENT ON COLUMN report_rows.line IS 'The line in it, or the row of its sheet, or the so-manieth report, from 1';
COMMENT ON COLUMN report_rows.counted_at IS 'When that was counted';

CREATE TABLE report_history (
    LIKE report_rows INCLUDING COMMENTS,
    CONSTRAINT report_history_pkey PRIMARY KEY (campaign_id, day, slice, observed_at)
);
COMMENT ON TABLE report_history IS
    'What platforms said before what is in report_rows. Each says something else than the one before it.';

-- With lz4 where the server has it.
DO $$
BEGIN
    ALTER TABLE report_rows ALTER COLUMN confirmed_at SET COMPRESSION lz4;
    ALTER TABLE report_history ALTER COLUMN confirmed_at SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
    NULL;
END
$$;

CREATE VIEW report_changes AS
SELECT r.campaign_id, r.day, r.slice, d.platform, r.observed_at, r.event_time,
       COALESCE(r.impressions, 0) - COALESCE(lag(r.impressions) OVER said, 0) AS impressions,
       COALESCE(r.clicks, 0) - COALESCE(lag(r.clicks) OVER said, 0) AS clicks,
       COALESCE(r.conversion_micros, 0) - COALESCE(lag(r.conversion_micros) OVER said, 0) AS conversion_micros,
       COALESCE(r.cost_micros, 0) - COALESCE(lag(r.cost_micros) OVER said, 0) AS cost_micros,
       COALESCE(r.revenue_micros, 0) - COALESCE(lag(r.revenue_micros) OVER said, 0) AS revenue_micros,
       r.counted_at
FROM (SELECT campaign_id, day, slice, definition_id, observed_at, event_time, impressions, clicks, conversion_micros, cost_micros,
          revenue_micros, counted_at FROM report_rows
      UNION ALL
      SELECT campaign_id, day, slice, definition_id, observed_at, event_time, impressions, clicks, conversion_micros, cost_micros,
          revenue_micros, counted_at FROM report_history) AS r
JOIN report_definitions AS d USING (definition_id)
WINDOW said AS (PARTITION BY r.campaign_id, r.day, r.slice ORDER BY r.observed_at);
COMMENT ON VIEW report_changes IS
    'By how much each revision of a report row was more than the one before it, in the order in which platforms were asked. Up to an instant they add up to what platforms had said by then.';

ALTER TABLE campaigns
    ADD COLUMN name          text,
    ADD COLUMN definition_id integer,
    ADD COLUMN described_at  timestamptz;
COMMENT ON COLUMN campaigns.name IS 'Its newest name, as platforms report it; null: none is known';
COMMENT ON COLUMN campaigns.definition_id IS 'Account, time zone and currency, by its newest report row: report_definitions; null: it has none';
COMMENT ON COLUMN campaigns.described_at IS 'When the platform was asked that said so';

CREATE TABLE campaign_names (
    campaign_id       text        COLLATE "C" NOT NULL,
    name              text        NOT NULL,
    first_observed_at timestamptz NOT NULL,
    last_observed_at  timestamptz NOT NULL,
    CONSTRAINT campaign_names_pkey PRIMARY KEY (campaign_id, name),
    CONSTRAINT campaign_names_times_ordered CHECK (last_observed_at >= first_observed_at)
);
COMMENT ON TABLE campaign_names IS 'Every name that a campaign has had in reports.';
COMMENT ON COLUMN campaign_names.campaign_id IS 'Campaign';
COMMENT ON COLUMN campaign_names.name IS 'Name';
COMMENT ON COLUMN campaign_names.first_observed_at IS 'When a platform was asked that first said so';
COMMENT ON COLUMN campaign_names.last_observed_at IS 'And when one last did';

CREATE OR REPLACE VIEW ad_events AS
SELECT e.event_id,
       e.campaign_id,
       platform_name(e.platform) AS platform,
       e.event_time,
       e.impressions,
       e.clicks,
       CASE WHEN e.conversion_millionths IS NULL THEN e.conversions::numeric
            ELSE trim_scale(e.conversions + e.conversion_millionths * 0.000001) END AS conversions,
       e.cost_micros,
       e.revenue_micros,
       s.partition,
       b.first_offset + COALESCE(e.offset_delta, e.position - 1) AS "offset",
       e.observed_at
FROM event_blocks AS b
JOIN stream_positions AS s USING (stream_id)
CROSS JOIN LATERAL unnest(b.event_id, b.campaign_id, b.platform, b.event_time, b.impressions, b.clicks,
                          b.conversions, b.conversion_millionths, b.cost_micros, b.revenue_micros, b.offset_delta, b.observed_at)
    WITH ORDINALITY AS e (event_id, campaign_id, platform, event_time, impressions, clicks,
                          conversions, conversion_millionths, cost_micros, revenue_micros, offset_delta, observed_at, position);
COMMENT ON VIEW ad_events IS 'The event store, a row an event. One with observed_at is a restatement: the difference between what a platform said then and what it had said before.';

"""An embedded ClickHouse that counts the same events, for a benchmark to stand beside.

Each batch is one INSERT, and so one part of the events' table and one of the sums', which a materialized view
adds up by campaign, minute and platform. No Kafka, no duplicates looked for, no exactly once. Prints one JSON object.

    clickhouse.py EVENTS.parquet BATCH FOLDER
"""

import json
import statistics
import sys
import time

from chdb import session

NUMBERS = "impressions, clicks, conversions, cost_micros, revenue_micros"
SUMS = ", ".join(f"sum({n}) AS {n}" for n in ["events", *NUMBERS.split(", ")])


def main(parquet: str, batch: int, folder: str) -> None:
    db = session.Session(folder)
    run = db.query
    # A file has conversions as floating-point numbers; these are all whole.
    whole = "* REPLACE (toInt64(conversions) AS conversions)"
    run(f"CREATE TABLE source ENGINE = Memory AS SELECT {whole} FROM file('{parquet}', Parquet)")
    events = int(run("SELECT count() FROM source", "TabSeparated").bytes())
    batches = -(-events // batch)
    # As batches of their own, so that none is looked for while the time runs.
    for n in range(batches):
        run(f"CREATE TABLE batch_{n} ENGINE = Memory AS SELECT * FROM source LIMIT {batch} OFFSET {n * batch}")
    run("DROP TABLE source")
    run(
        "CREATE TABLE events (event_id UUID, campaign_id String, platform LowCardinality(String), event_time DateTime64(6, 'UTC'),"
        " impressions Int64, clicks Int64, conversions Int64, cost_micros Int64, revenue_micros Int64)"
        " ENGINE = MergeTree ORDER BY (campaign_id, event_time)"
    )
    run(
        "CREATE TABLE minutes (campaign_id String, minute DateTime('UTC'), platform LowCardinality(String), events Int64,"
        " impressions Int64, clicks Int64, conversions Int64, cost_micros Int64, revenue_micros Int64)"
        " ENGINE = SummingMergeTree ORDER BY (campaign_id, minute, platform)"
    )
    run(
        "CREATE MATERIALIZED VIEW to_minutes TO minutes AS"
        " SELECT campaign_id, toStartOfMinute(event_time) AS minute, platform, count() AS events,"
        + ", ".join(f" sum({n}) AS {n}" for n in NUMBERS.split(", "))
        + " FROM events GROUP BY campaign_id, minute, platform"
    )
    columns = f"event_id, campaign_id, platform, event_time, {NUMBERS}"
    started = time.perf_counter()
    for n in range(batches):
        run(
            f"INSERT INTO events SELECT toUUID(toString(event_id)), campaign_id, platform, event_time, {NUMBERS} FROM batch_{n}"
            " SETTINGS max_insert_threads = 1, min_insert_block_size_rows = 100000000, min_insert_block_size_bytes = 0,"
            " max_block_size = 100000000"
        )
    seconds = time.perf_counter() - started
    counted = int(run("SELECT sum(events) FROM minutes", "TabSeparated").bytes())
    assert counted == events, (counted, events)

    campaigns = run("SELECT DISTINCT campaign_id FROM minutes ORDER BY campaign_id LIMIT 20", "TabSeparated")
    campaigns = campaigns.bytes().decode().split()

    def asked(questions: list[str]) -> float:
        times = []
        for question in questions:
            began = time.perf_counter()
            run(question, "JSON").bytes()
            times.append((time.perf_counter() - began) * 1e3)
        return statistics.median(times)

    one = [f"SELECT {SUMS} FROM minutes WHERE campaign_id = '{c}'" for c in campaigns]
    many = f"SELECT campaign_id, {SUMS} FROM minutes GROUP BY campaign_id ORDER BY revenue_micros / cost_micros DESC LIMIT 50"
    days = f"SELECT toDate(minute) AS day, {SUMS} FROM minutes GROUP BY day ORDER BY day"
    print(
        json.dumps(
            {
                "events": events,
                "batches": batches,
                "seconds": seconds,
                "one_campaign_ms": asked(one),
                "list_ms": asked([many] * 9),
                "daily_ms": asked([days] * 9),
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])

"""How many processors, databases and brokers so many events a day take, from what a million of them took when it was measured.

    python3 scripts/capacity.py 1e9 1e10

The figures are those of docs/capacity.json, or of --figures FILE: `cargo bench ... -- --only capacity` writes such a file. The
model is the smallest that can be checked by hand: what a million events cost, times how many come at the peak, over what of a
machine may be used. Each assumption is an option.
"""

import argparse
import json
import math
import pathlib
import sys

FIGURES = pathlib.Path(__file__).resolve().parent.parent / "docs" / "capacity.json"


def options():
    parser = argparse.ArgumentParser(
        description="How many processors, databases and brokers so many events a day take."
    )
    parser.add_argument("events", nargs="+", type=float, metavar="EVENTS", help="a day, as 1e9")
    parser.add_argument("--figures", type=pathlib.Path, default=FIGURES, help="what was measured (%(default)s)")
    more = [
        ("--peak", 3.0, "the busiest second, beside the day's mean"),
        ("--use", 0.6, "of a core that may be busy at the peak"),
        ("--slower", 1.0, "how much slower a core is than the measured one"),
        ("--database-cores", 16, "of one PostgreSQL"),
        ("--database-disk", 8.0, "of one PostgreSQL, TB"),
        ("--database-wal", 150.0, "that one PostgreSQL writes and sends on, MB/s"),
        ("--keep", 400, "days of events"),
        ("--broker-cores", 8, "of one broker"),
        ("--broker-disk", 4.0, "of one broker, TB"),
        ("--log", 7, "days that the topic is kept"),
        ("--replication", 3, "of the topic"),
    ]
    for name, default, what in more:
        parser.add_argument(name, type=type(default), default=default, help=f"{what} (%(default)s)")
    return parser.parse_args()


def needed(figures, given, a_day):
    """The answer, by name, and what each count is the largest of."""
    costs = figures["a_million_events"]
    peak = a_day / 86_400 * given.peak / 1e6

    def cores(name):
        return peak * costs[name] * given.slower / given.use

    kept = a_day / 1e6 * given.keep * costs["stored_bytes"] / 1e12
    wal = peak * costs["wal_bytes"] / 1e6
    databases = {
        "cores": cores("postgresql_cpu_seconds") / given.database_cores,
        "disk": kept / given.database_disk,
        "WAL": wal / given.database_wal,
    }
    log = a_day / 1e6 * given.log * figures["topic_bytes"] * given.replication / 1e12
    brokers = {
        "cores": cores("kafka_cpu_seconds") * given.replication / given.broker_cores,
        "disk": log / given.broker_disk,
        "replication": float(given.replication),
    }
    # One polling thread a processor: no more than a core's worth of events.
    processors = math.ceil(cores("processor_cpu_seconds"))
    return {
        "events a second, at the peak": f"{peak * 1e6:,.0f}",
        "processors, a core each": f"{max(processors, 1):,}",
        "partitions, at the least": f"{max(processors, 1):,}",
        "memory of the processors": f"{max(processors, 1) * figures['processor_peak_mb'] / 1e3:,.1f} GB",
        "databases": most(databases),
        "cores of PostgreSQL": f"{cores('postgresql_cpu_seconds'):,.1f}",
        f"events kept for {given.keep} days": f"{kept:,.1f} TB",
        "WAL": f"{wal:,.1f} MB/s",
        "brokers": most(brokers),
        f"topic kept for {given.log} days": f"{log:,.1f} TB",
    }


def most(counts):
    """The largest of them, and which it is."""
    why = max(counts, key=counts.get)
    return f"{max(math.ceil(counts[why]), 1):,} ({why})"


def main():
    given = options()
    try:
        figures = json.loads(given.figures.read_text())
        answers = [needed(figures, given, a_day) for a_day in given.events]
    except (OSError, ValueError) as error:
        sys.exit(f"{given.figures}: {error}")
    except KeyError as error:
        sys.exit(f"{given.figures}: {error} is missing; the benchmark's case 'capacity' writes such a file")
    scale = figures["scale"]
    print(
        f"measured with {scale['events']:,} events, {scale['campaigns']:,} campaigns, {scale['partitions']} partitions "
        f"and {scale['processors']} processors on {figures['cores']} cores\n"
    )
    header = ["events a day"] + [f"{a_day:.0e}".replace("e+", "e") for a_day in given.events]
    rows = [[name] + [answer[name] for answer in answers] for name in answers[0]]
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    for row in [header, *rows]:
        first, *others = row
        print("  ".join([first.ljust(widths[0])] + [text.rjust(width) for text, width in zip(others, widths[1:])]))


if __name__ == "__main__":
    main()

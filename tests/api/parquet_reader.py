"""Prints the rows of a Parquet file as CSV, as another reader sees them.

Argument: the file.
"""

import datetime
import sys
import uuid

import pyarrow.parquet

table = pyarrow.parquet.read_table(sys.argv[1])


def text(value):
    if value is None:
        return ""
    if isinstance(value, datetime.datetime):
        assert value.utcoffset() == datetime.timedelta(0), value
        return value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if isinstance(value, bytes):
        return str(uuid.UUID(bytes=value))
    if isinstance(value, float):
        return f"{value:.6f}".rstrip("0").rstrip(".")
    return str(value)


print(",".join(table.column_names))
for row in table.to_pylist():
    print(",".join(text(value) for value in row.values()))

"""Another implementation of Avro, to agree with ours.

fastavro_peer.py write SCHEMA ID   JSON records in, framed values out (a line each, hexadecimal)
fastavro_peer.py read SCHEMA ID    the other way round

The framing is Confluent's: byte 0, the schema id in four bytes, most significant first, the datum. Bytes (the hash of a file)
are hexadecimal in JSON.
"""

import io
import json
import struct
import sys

import fastavro
from fastavro.schema import load_schema

FRAME = struct.Struct(">bI")


def plain(schema):
    """The schema without logical types: numbers and text are compared as they are written."""
    if isinstance(schema, dict):
        return {key: plain(value) for key, value in schema.items() if key != "logicalType"}
    if isinstance(schema, list):
        return [plain(part) for part in schema]
    return schema


def write(event, schema, schema_id):
    if isinstance(event.get("file"), str):
        event["file"] = bytes.fromhex(event["file"])
    out = io.BytesIO()
    out.write(FRAME.pack(0, schema_id))
    fastavro.schemaless_writer(out, schema, event, strict=True)
    return out.getvalue().hex()


def read(value, schema, schema_id):
    value = io.BytesIO(bytes.fromhex(value))
    assert FRAME.unpack(value.read(FRAME.size)) == (0, schema_id)
    event = fastavro.schemaless_reader(value, schema)
    assert value.read() == b"", "trailing bytes"
    return event


def main():
    direction, schema_file, schema_id = sys.argv[1:]
    load_schema(schema_file)  # it is valid with its logical types, too
    with open(schema_file, encoding="utf-8") as file:
        schema = fastavro.parse_schema(plain(json.load(file)))
    convert = {"write": write, "read": read}[direction]
    for line in sys.stdin:
        print(json.dumps(convert(json.loads(line), schema, int(schema_id)), default=bytes.hex))


main()

"""Confluent's Python client, with our API as its schema registry.

confluent_peer.py read REGISTRY VALUE     a record's value in hexadecimal, printed as JSON
confluent_peer.py write REGISTRY RECORD   a record of JSON, printed as a value in hexadecimal

Days are text in JSON, instants microseconds since 1970, bytes hexadecimal. What is written is a report row: its subject is
named by topic and record.
"""

import datetime
import json
import sys

from confluent_kafka.schema_registry import SchemaRegistryClient, topic_record_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)

direction, registry, argument = sys.argv[1:]
client = SchemaRegistryClient({"url": registry})
context = SerializationContext("ad-events", MessageField.VALUE)


def plain(field):
    if isinstance(field, datetime.datetime):
        return (field - EPOCH) // datetime.timedelta(microseconds=1)
    if isinstance(field, bytes):
        return field.hex()
    return field if field is None or isinstance(field, int) else str(field)


def rich(name, field):
    if name == "day":
        return datetime.date.fromisoformat(field)
    if name == "observed_at":
        return EPOCH + datetime.timedelta(microseconds=field)
    if name == "file" and field is not None:
        return bytes.fromhex(field)
    return field


if direction == "read":
    record = AvroDeserializer(client)(bytes.fromhex(argument), context)
    print(json.dumps({name: plain(field) for name, field in record.items()}))
else:
    schema = client.get_latest_version("ad-events-adflux.ReportRow").schema
    settings = {
        "auto.register.schemas": False,
        "use.latest.version": True,
        "subject.name.strategy": topic_record_subject_name_strategy,
    }
    serialize = AvroSerializer(client, schema, conf=settings)
    record = {name: rich(name, field) for name, field in json.loads(argument).items()}
    print(serialize(record, context).hex())

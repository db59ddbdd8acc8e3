"""Reads one event as a Python consumer would, and prints it as JSON.

Arguments: the URL of the schema registry; the record's value in hexadecimal.
"""

import datetime
import json
import sys

from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

registry, value = sys.argv[1:]
deserializer = AvroDeserializer(SchemaRegistryClient({"url": registry}))
event = deserializer(bytes.fromhex(value), SerializationContext("ad-events", MessageField.VALUE))


def plain(field):
    if isinstance(field, datetime.datetime):
        epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
        return (field - epoch) // datetime.timedelta(microseconds=1)
    return field if isinstance(field, int) else str(field)


print(json.dumps({name: plain(field) for name, field in event.items()}))

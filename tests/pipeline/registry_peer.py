"""Confluent's Python client as a producer that registers its schema by itself.

registry_peer.py BROKERS REGISTRY TOPIC SCHEMA_FILE     records of JSON, one a line, go to the topic by their campaign

Instants are microseconds since 1970, days text. The schema's id is printed.
"""

import datetime
import json
import sys

from confluent_kafka import Producer
from confluent_kafka.schema_registry import SchemaRegistryClient, topic_record_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)

brokers, registry, topic, schema_file = sys.argv[1:]
with open(schema_file) as file:
    schema = file.read()
client = SchemaRegistryClient({"url": registry})
# One topic has values of several records.
serialize = AvroSerializer(client, schema, conf={"subject.name.strategy": topic_record_subject_name_strategy})
producer = Producer({"bootstrap.servers": brokers, "partitioner": "murmur2_random", "acks": "all"})
failed = []
value = None


def rich(name, field):
    if name in ("event_time", "observed_at"):
        return EPOCH + datetime.timedelta(microseconds=field)
    return datetime.date.fromisoformat(field) if name == "day" else field


for line in sys.stdin:
    record = {name: rich(name, field) for name, field in json.loads(line).items()}
    value = serialize(record, SerializationContext(topic, MessageField.VALUE))
    producer.produce(
        topic,
        key=record["campaign_id"].encode(),
        value=value,
        on_delivery=lambda error, _: failed.append(error) if error else None,
    )
producer.flush()
if failed:
    sys.exit(f"not delivered: {failed}")
print(int.from_bytes(value[1:5], "big"))

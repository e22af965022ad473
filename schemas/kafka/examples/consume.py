#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""consume.py BROKERS GROUP TOPIC DATABASE: an example consumer. It keeps the latest state of each aggregate in SQLite, applies each event
once, and ignores an event_id that it has seen: after a redelivery, or an operator's `replay`."""
import sqlite3
import sys

from confluent_kafka import Consumer, KafkaException

TABLES = """CREATE TABLE IF NOT EXISTS seen (event_id TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS state (aggregate_id TEXT PRIMARY KEY, value TEXT);"""
# What comes later is newer: created_at does not order events. A dead letter that an operator retries comes late, which only a version in
# the payload could tell: where there is one, add its column, and WHERE excluded.version > state.version.
OVERWRITE = "INSERT INTO state VALUES (?, ?) ON CONFLICT (aggregate_id) DO UPDATE SET value = excluded.value"


def apply(database, message):
    headers = {name: value.decode() for name, value in message.headers()}
    with database:  # one transaction for the event_id and the change; only then is the offset stored
        if database.execute("INSERT OR IGNORE INTO seen VALUES (?)", [headers["event_id"]]).rowcount == 0:
            return f"seen before {headers['event_id']}"
        value = message.value()  # None: a tombstone
        database.execute(OVERWRITE, [headers["aggregate_id"], value and value.decode()])
        return f"applied {headers['event_type']} {headers['event_id']}"


def main(brokers, group, topic, path):
    database = sqlite3.connect(path)
    database.executescript(TABLES)
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": group, "isolation.level": "read_committed",
                         "auto.offset.reset": "earliest", "enable.auto.offset.store": False})
    consumer.subscribe([topic])
    while True:
        message = consumer.poll(1)
        if message is not None:
            if message.error():
                raise KafkaException(message.error())
            print(apply(database, message), flush=True)
            consumer.store_offsets(message)


if __name__ == "__main__":
    main(*sys.argv[1:])

# SPDX-License-Identifier: Apache-2.0
"""What the tests of the insert stage share: producing straight into Kafka, counting what arrived, group offsets."""
import http.client
import struct
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid

import confluent_kafka
from confluent_kafka.admin import AdminClient

from relaytools import kafka_groups
from relaytools.relay import wait_until
from servers.web import open_direct

DELETE_RECORDS = 21     # of Kafka's protocol
FAST = {"bootstrap.servers": None, "session.timeout.ms": "6000", "heartbeat.interval.ms": "500",
        "socket.timeout.ms": "4000"}


def inserting(place, name="relay", start=True, environment=None, **changes):
    """A relay with the insert stage alone, which sends as it does over a network."""
    changes.setdefault("publish", {})["enabled"] = "false"
    changes.setdefault("clickhouse", {}).setdefault("compression", "lz4")
    kafka = dict(FAST, **{"bootstrap.servers": place.servers.bootstrap})
    kafka.update(changes.get("kafka", {}))
    changes["kafka"] = kafka
    return place.relay(name, start=start, environment=environment, **changes)


def post(place):
    """The topic of the events that the tests send."""
    return f"{place.prefix}.post.events"


def event_headers(number, **changes):
    headers = {"event_id": str(uuid.UUID(int=number)), "event_type": "post.created", "aggregate_type": "post",
               "aggregate_id": str(number % 100), "created_at": "2026-03-01T12:34:56.123456Z", "seq": str(number)}
    headers.update(changes)
    return [(name, value.encode() if isinstance(value, str) else value) for name, value in headers.items() if value is not ...]


class Sender:
    """Counts what it sent, so that a test can ask for all of it."""

    def __init__(self, place, transactional=False, **settings):
        options = {"bootstrap.servers": place.servers.bootstrap, "linger.ms": 5, "queue.buffering.max.messages": 1000000,
                   "message.max.bytes": 4000000, "enable.idempotence": True, **settings}
        if transactional:
            options["transactional.id"] = f"{place.name}-sender"
        self.producer = confluent_kafka.Producer(options)
        if transactional:
            self.producer.init_transactions(30)
        self.sent = 0

    def event(self, topic, number=None, value=b'{"n": 1}', key=None, headers=None, partition=-1, timestamp=0):
        number = self.sent if number is None else number
        self.sent += 1
        while True:
            try:
                self.producer.produce(topic, value=value, key=key or str(number % 100),
                    headers=event_headers(number) if headers is None else headers, partition=partition, timestamp=timestamp)
                return
            except BufferError:
                self.producer.poll(0.1)

    def events(self, topic, count, **options):
        for _ in range(count):
            self.event(topic, **options)
            if self.sent % 1000 == 0:
                self.producer.poll(0)
        return self

    def flush(self):
        assert self.producer.flush(60) == 0
        return self


def counts(place, table="outbox_events"):
    """(rows, distinct places in Kafka)"""
    rows, distinct = place.clickhouse(
        f"SELECT count(), uniqExact(kafka_topic, kafka_partition, kafka_offset) FROM {{db}}.{table}").split()
    return int(rows), int(distinct)


def wait_counts(place, count, seconds=60, table="outbox_events"):
    """Waits for so many rows, then looks that none is doubled."""
    place.wait_inserted(count, seconds, table)
    assert counts(place, table) == (count, count)


def dead_letters(place, columns="reason, text"):
    text = place.clickhouse(f"SELECT {columns} FROM {{db}}.outbox_relay_dead_letters ORDER BY kafka_topic, kafka_partition, kafka_offset "
        "FORMAT TSVRaw")
    return [tuple(line.split("\t")) for line in text.splitlines()]


def admin(place):
    return AdminClient({"bootstrap.servers": place.servers.bootstrap})


def group_of(place):
    return place.sections()["insert"]["group_id"]


def expire(place, topic, partition, before):
    """DeleteRecords by Kafka's own protocol: the distribution's Python client has no call for it."""
    name = topic.encode()
    answer = kafka_groups.ask(place.servers.bootstrap.split(",")[0], DELETE_RECORDS, 1,
        struct.pack(">ih", 1, len(name)) + name + struct.pack(">iiqi", 1, partition, before, 10000))
    assert struct.unpack(">h", answer[-2:])[0] == 0, answer


def committed(place, topic, partitions):
    found = kafka_groups.committed_offsets(place.servers.bootstrap, group_of(place), [(topic, number) for number in range(partitions)])
    return {number: offset for (_, number), offset in found.items()}


def set_committed(place, topic, offsets):
    """Waits until no member is left: a killed one counts until its session ends."""
    def try_it():
        try:
            kafka_groups.commit_from_outside(place.servers.bootstrap, group_of(place),
                {(topic, number): offset for number, offset in offsets.items()})
            return committed(place, topic, len(offsets)) == offsets
        except confluent_kafka.KafkaException:
            return False
    wait_until(try_it, "the group's offsets set", every=0.5)


def delete_group(place):
    def try_it():
        try:
            return kafka_groups.delete_group(place.servers.bootstrap, group_of(place))
        except RuntimeError:
            return False  # a killed member counts until its session ends
    wait_until(try_it, "the group deleted", every=0.5)


def fnv(text):
    value = 2166136261
    for byte in text.encode():
        value = (value ^ byte) * 16777619 % 2 ** 32
    return value


def run_under(place, query_id, query, user=None):
    """Runs it under this id in ClickHouse, row by row. False: it was killed."""
    env = place.servers.env
    parameters = urllib.parse.urlencode({"query_id": query_id, "max_block_size": 1, "query": query})
    request = urllib.request.Request(f"{place.servers.clickhouse_url}/?{parameters}", headers={
        "X-ClickHouse-User": user or env["CLICKHOUSE_USER"], "X-ClickHouse-Key": env["CLICKHOUSE_PASSWORD"]})
    try:
        with open_direct(request, 120) as answer:
            return b"QUERY_WAS_CANCELLED" not in answer.read()
    except (urllib.error.HTTPError, http.client.HTTPException):
        return False


def paused(relay, table="outbox_events"):
    return relay.metric("insert_paused", table=table) == 1


def wait_pause_reason(relay, text, table="outbox_events"):
    relay.wait(lambda: text in relay.health()["checks"]["insert"]["instances"][table]["reason"], f"the pause's reason: {text}")


def wait_no_lag(relay, topic, partitions):
    """Each of so many partitions has its series, and it is 0: twice, because a series begins at 0 a second before its first figure."""
    for _ in range(2):
        wait_until(lambda: relay.series("consumer_lag", topic=topic) == [0.0] * partitions, "no lag")
        settle(1.5)


def settle(seconds=1.0):
    """Time in which something wrong would show; never a wait for something right."""
    time.sleep(seconds)

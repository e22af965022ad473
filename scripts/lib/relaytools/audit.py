# SPDX-License-Identifier: Apache-2.0
"""Holds Kafka (as a read_committed consumer sees it) and ClickHouse (as a SELECT sees it) against the journal of what
the writers committed: lost, doubled, out of order, strangers, altered. Nothing is sampled; every event is looked at."""
import collections
import json
import sys
import time
import urllib.parse
import urllib.request

import confluent_kafka
import confluent_kafka.admin
import psycopg2

from servers.web import open_direct

from . import receipts

KINDS = {
    "lost": "lost", "doubled": "doubled", "disordered": "out of order", "strangers": "never committed",
    "altered": "altered", "misplaced": "in a wrong place", "contradicted": "contradicted by receipts",
}


class Audit:
    """The result: `text()` for people, `ok(doubles_allowed)` for exit codes. `findings` holds every event concerned;
    text() shows the first of them.

    phantoms are events that PostgreSQL itself lost after others had seen them (synchronous_commit off and a crash): only
    counted, where it may have crashed."""

    def __init__(self):
        self.committed = self.published = self.inserted = self.dead_lettered = self.phantoms = 0
        self.set_aside = 0                      # of dead_lettered: those of the insert stage
        self.kafka = collections.Counter()      # counts by KINDS
        self.clickhouse = collections.Counter()
        self.findings = []

    def note(self, side, kind, text):
        self.kafka_or_clickhouse(side)[kind] += 1
        self.findings.append(f"{KINDS[kind]} in {side}: {text}")

    def kafka_or_clickhouse(self, side):
        return self.kafka if side == "Kafka" else self.clickhouse

    def ok(self, doubles_allowed=False):
        return not any(side[kind] for side in (self.kafka, self.clickhouse) for kind in KINDS
                       if not (kind == "doubled" and doubles_allowed))

    def text(self, examples=20):
        lines = [f"committed {self.committed}, published {self.published}, inserted {self.inserted}, "
                 f"dead-lettered {self.dead_lettered}" + (f", lost by PostgreSQL itself {self.phantoms}" if self.phantoms else "")]
        for name, side in (("Kafka", self.kafka), ("ClickHouse", self.clickhouse)):
            lines.append(f"{name}: " + ", ".join(f"{side[kind]} {words}" for kind, words in KINDS.items()))
        return "\n".join(lines + self.findings[:examples])


def journal(dsn):
    """event_id -> (aggregate, n, judged) of every event that was committed."""
    with psycopg2.connect(dsn) as connection, connection.cursor(name="journal") as cursor:
        cursor.itersize = 20000
        cursor.execute("SELECT event_id::text, aggregate::text, n, judged FROM workload.journal")
        # An aggregate's id stands in many rows: one string for all of them.
        rows = {event_id: (sys.intern(aggregate), n, judged) for event_id, aggregate, n, judged in cursor}
    connection.close()
    return rows


def dead_letters(dsn, table="public.outbox_dead_letters"):
    with psycopg2.connect(dsn) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT event_id::text FROM {table}")
        rows = {row[0] for row in cursor}
    connection.close()
    return rows


def read_topics(bootstrap, prefix, seconds=120):
    """Every visible record of the topics that start with `prefix`: (event_id, topic, partition, offset, value, headers, key)
    in partition order, read to the last stable offset that held when the call began. Fails when nothing has come for
    `seconds`."""
    consumer = confluent_kafka.Consumer({"bootstrap.servers": bootstrap, "group.id": "audit", "enable.auto.commit": False,
        "isolation.level": "read_committed", "auto.offset.reset": "earliest", "enable.partition.eof": True,
        "fetch.wait.max.ms": 10})
    try:
        topics = consumer.list_topics(timeout=20).topics
        # From 0, or where the log begins if that is later: to ask for the beginning makes the client wait for half a second.
        partitions = [confluent_kafka.TopicPartition(name, number, 0)
            for name, topic in topics.items() if name.startswith(prefix) for number in topic.partitions]
        if not partitions:
            return
        consumer.assign(partitions)
        open_partitions = {(p.topic, p.partition) for p in partitions}
        deadline = time.monotonic() + seconds
        while open_partitions:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the audit did not reach the end of {sorted(open_partitions)}: nothing came for {seconds} s")
            for message in consumer.consume(5000, 0.05):
                error = message.error()
                if error is None or error.code() == confluent_kafka.KafkaError._PARTITION_EOF:
                    deadline = time.monotonic() + seconds
                if error is not None:
                    if error.code() == confluent_kafka.KafkaError._PARTITION_EOF:
                        open_partitions.discard((message.topic(), message.partition()))
                    elif not error.retriable():
                        raise RuntimeError(f"the audit cannot read {message.topic()}: {error}")
                    continue
                headers = dict(message.headers() or [])
                event_id = headers.get("event_id", b"").decode("utf-8", "replace")
                yield event_id, message.topic(), message.partition(), message.offset(), message.value(), headers, message.key()
    finally:
        consumer.close()


def clickhouse_query(url, query, user="default", password="", timeout=120):
    with _ask(url, query, user, password, timeout) as response:
        return response.read().decode()


def _ask(url, query, user, password, timeout=120):
    request = urllib.request.Request(url.rstrip("/") + "/?" + urllib.parse.urlencode({"query": query}), method="POST",
        data=b"", headers={"X-ClickHouse-User": user, "X-ClickHouse-Key": password})
    try:
        return open_direct(request, timeout)
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"ClickHouse: {error.code} {error.read().decode('utf-8', 'replace')[:500]}") from error


def partition_of(key, partitions):
    """Where Kafka's Java clients put a key: murmur2 of it."""
    factor, bits, length = 0x5bd1e995, 0xffffffff, len(key)
    mixed = 0x9747b28c ^ length
    for at in range(0, length - length % 4, 4):
        word = int.from_bytes(key[at:at + 4], "little") * factor & bits
        mixed = (mixed * factor & bits) ^ ((word ^ word >> 24) * factor & bits)
    if length % 4:
        mixed = (mixed ^ int.from_bytes(key[length - length % 4:], "little")) * factor & bits
    mixed = (mixed ^ mixed >> 13) * factor & bits
    return ((mixed ^ mixed >> 15) & 0x7fffffff) % partitions


class _Partitions:
    """Where an aggregate may stand: in the partition of its key, by any number of partitions that its topic has had."""

    def __init__(self, made, bootstrap):
        topics = confluent_kafka.admin.AdminClient({"bootstrap.servers": bootstrap, "log_level": 4}).list_topics(timeout=20).topics
        self._numbers = {name: range(min(made, len(topic.partitions)), len(topic.partitions) + 1) for name, topic in topics.items()}
        self._known = {}

    def allow(self, aggregate, topic, partition):
        if (aggregate, topic) not in self._known:
            self._known[aggregate, topic] = {partition_of(aggregate.encode(), number) for number in self._numbers[topic]}
        return partition in self._known[aggregate, topic]


def _judge_kafka(result, committed, dead, records, partitions, set_aside, may_lose):
    """Returns event_id -> every position where it stands."""
    where = collections.defaultdict(list)
    last = {}
    phantoms = set()
    for event_id, topic, partition, offset, value, _, key in records:
        for letter in set_aside.get((topic, partition, offset), ()):
            if letter != (key or b"", value or b""):
                result.note("ClickHouse", "altered", f"the dead letter of {topic}[{partition}]@{offset} has {letter}, Kafka {(key, value)}")
        if event_id not in committed:
            if _durable(value) or not may_lose:
                result.note("Kafka", "strangers", f"{event_id} at {topic}[{partition}]@{offset}")
            else:
                phantoms.add(event_id)
            continue
        where[event_id].append((topic, partition, offset))
        aggregate, n, judged = committed[event_id]
        if len(where[event_id]) > 1:
            result.note("Kafka", "doubled", f"{event_id} n={n} of {aggregate} at {topic}[{partition}]@{offset}, first at "
                        + _position(where[event_id][0]))
            continue
        if payload_number(value) != (aggregate, n):
            result.note("Kafka", "altered", f"{event_id} at {topic}[{partition}]@{offset}: {value[:200]!r}")
        elif key != aggregate.encode():
            result.note("Kafka", "altered", f"{event_id} of {aggregate} at {topic}[{partition}]@{offset}: its key is {key!r}")
        elif not partitions.allow(aggregate, topic, partition):
            result.note("Kafka", "misplaced", f"{event_id} at {topic}[{partition}]@{offset}: the key {aggregate} belongs into another partition")
        if judged:
            # Within a partition: an aggregate moves to another one when partitions are added.
            before, before_id = last.get((aggregate, topic, partition), (-1, None))
            if n < before:
                result.note("Kafka", "disordered", f"{event_id} n={n} at {topic}[{partition}]@{offset} after {before_id} n={before} of {aggregate}")
            else:
                last[(aggregate, topic, partition)] = (n, event_id)
    result.published = len(where)
    result.phantoms = len(phantoms)
    for event_id, line in committed.items():
        if event_id not in where and event_id not in dead:
            result.note("Kafka", "lost", f"{event_id} {line}")
        elif event_id in where and event_id in dead:
            result.note("Kafka", "doubled", f"{event_id} is a dead letter and at {_position(where[event_id][0])}")
    return where


def _judge_clickhouse(result, committed, dead, where, rows, set_aside):
    seen = {}
    for event_id, topic, partition, offset, aggregate, n, durable in rows:
        position = (sys.intern(topic), int(partition), int(offset))
        if event_id not in committed:
            if durable == "1":
                result.note("ClickHouse", "strangers", f"{event_id} from {_position(position)}")
            continue
        if event_id in seen:
            result.note("ClickHouse", "doubled", f"{event_id} from {_position(position)}, first from {_position(seen[event_id])}")
            continue
        seen[event_id] = position
        if (aggregate, int(n)) != committed[event_id][:2]:
            result.note("ClickHouse", "altered", f"{event_id} from {_position(position)}: aggregate {aggregate}, n={n}")
        if position not in where.get(event_id, ()):
            result.note("ClickHouse", "misplaced", f"{event_id} says {_position(position)}, Kafka has it at "
                        f"{', '.join(map(_position, where.get(event_id, ()))) or 'no position'}")
        if position in set_aside:
            result.note("ClickHouse", "doubled", f"{event_id} is a row and a dead letter of {_position(position)}")
    result.inserted = len(seen)
    for position, letters in set_aside.items():
        if len(letters) > 1:
            result.note("ClickHouse", "doubled", f"{len(letters)} dead letters of {_position(position)}")
    for event_id in committed:
        if event_id not in seen and event_id not in dead and not any(p in set_aside for p in where.get(event_id, ())):
            result.note("ClickHouse", "lost", f"{event_id}, in Kafka at {', '.join(map(_position, where.get(event_id, ()))) or 'no position'}")


def _judge_view(result, view, rows):
    """rows: the positions where the view's table differs from the table, and how often each of the two has it."""
    for topic, partition, offset, stored, followed in rows:
        kind = "strangers" if stored == "0" else "lost" if followed == "0" else "doubled"
        result.note("ClickHouse", kind, f"{_position((topic, partition, offset))}: the table has it {stored} time(s), view {view} {followed}")


def _position(position):
    return f"{position[0]}[{position[1]}]@{position[2]}"


def _durable(value):
    return b'"durable": false' not in (value or b"")


def _judge_receipts(result, dsn, bootstrap, topic):
    with psycopg2.connect(dsn) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT ON (identity) identity::text, generation, number FROM outbox_relay.batch_numbers "
                       "ORDER BY identity, generation DESC, number DESC")
        numbers = {identity: (generation, number) for identity, generation, number in cursor}
    connection.close()
    # One without value shows where the partition ended when a term began.
    read = [receipts.decode(value) for _, _, _, _, value, _, _ in read_topics(bootstrap, topic) if value is not None]
    for text in receipts.judge(read, numbers):
        result.note("Kafka", "contradicted", text)


def audit(dsn, bootstrap, prefix, partitions, clickhouse_url=None, database="outbox_relay", table="outbox_events", user="default",
          password="", views=(), receipt_topic=None, may_lose=True):
    """One full audit. Call it when the pipeline is quiet: what is still on its way counts as lost. partitions: how
    many each topic was made with; what is added later moves the aggregates. views: tables that
    materialized views fill with a row for each row of the table; what they lack or have twice counts as ClickHouse's.
    receipt_topic: to be judged as well. may_lose: PostgreSQL has crashed, and lost what was not to be durable."""
    result = Audit()
    committed, dead = journal(dsn), dead_letters(dsn)
    result.committed = len(committed)
    result.dead_lettered = len(dead)
    set_aside = collections.defaultdict(list)
    if clickhouse_url is not None:
        for topic, partition, offset, key, value in _lines(clickhouse_url, user, password, "SELECT kafka_topic, kafka_partition, "
                f"kafka_offset, ifNull(hex(key), ''), ifNull(hex(value), '') FROM {database}.outbox_relay_dead_letters "
                f"WHERE target IN ('{table}', '{database}.{table}') FORMAT TSV"):
            set_aside[(topic, int(partition), int(offset))].append((bytes.fromhex(key), bytes.fromhex(value)))
    where = _judge_kafka(result, committed, dead, read_topics(bootstrap, prefix), _Partitions(partitions, bootstrap), set_aside, may_lose)
    if receipt_topic is not None:
        _judge_receipts(result, dsn, bootstrap, receipt_topic)
    if clickhouse_url is not None:
        result.set_aside = len(set_aside)
        result.dead_lettered += result.set_aside
        rows = _lines(clickhouse_url, user, password, "SELECT event_id, kafka_topic, kafka_partition, kafka_offset, "
            "aggregate_id, JSONExtractInt(payload, 'n'), NOT JSONHas(payload, 'durable') "
            f"FROM {database}.{table} FORMAT TSV")
        _judge_clickhouse(result, committed, dead, where, rows, set_aside)
        for view in views:
            places = "SELECT kafka_topic AS t, kafka_partition AS p, kafka_offset AS o,"
            _judge_view(result, view, _lines(clickhouse_url, user, password, "SELECT t, p, o, countIf(side = 0) AS stored, "
                f"countIf(side = 1) AS followed FROM ({places} 0 AS side FROM {database}.{table} UNION ALL {places} 1 AS side "
                f"FROM {database}.{view}) GROUP BY t, p, o HAVING stored = 0 OR followed != 1 ORDER BY t, p, o FORMAT TSV"))
    return result


def _lines(url, user, password, query):
    """The rows of a TSV answer, one by one: there may be millions. An answer that breaks off is an error."""
    with _ask(url, query, user, password) as response:
        for line in response:
            if line.startswith((b"Code: ", b"__exception__")):
                raise RuntimeError(f"ClickHouse: {line.decode('utf-8', 'replace')}")
            yield line.decode().rstrip("\n").split("\t")


def payload_number(value):
    """(aggregate, n) of a record's payload; Nones when it is not one of the workload's."""
    try:
        body = json.loads(value)
        return body["aggregate"], body["n"]
    except (ValueError, TypeError, KeyError):
        return None, None

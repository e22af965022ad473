# SPDX-License-Identifier: Apache-2.0
"""Holds Kafka (as a read_committed consumer sees it) and ClickHouse (as a SELECT sees it) against the journal of what
the writers committed: lost, doubled, out of order, strangers. Nothing is sampled; every event is looked at."""
import collections
import json
import time
import urllib.parse
import urllib.request

import confluent_kafka
import psycopg2


class Audit:
    """The result: `text()` for people, `ok(doubles_allowed)` for exit codes."""

    def __init__(self):
        self.committed = self.published = self.inserted = self.dead_lettered = 0
        self.kafka = collections.Counter()      # lost, doubled, strangers, disordered
        self.clickhouse = collections.Counter()
        self.examples = []

    def note(self, kind, text):
        if len(self.examples) < 20:
            self.examples.append(f"{kind}: {text}")

    def ok(self, doubles_allowed=False):
        bad = sum(side[what] for side in (self.kafka, self.clickhouse) for what in ("lost", "strangers", "disordered"))
        doubled = self.kafka["doubled"] + self.clickhouse["doubled"]
        return bad == 0 and (doubles_allowed or doubled == 0)

    def text(self):
        lines = [f"committed {self.committed}, published {self.published}, inserted {self.inserted}, "
                 f"dead-lettered {self.dead_lettered}"]
        for name, side in (("Kafka", self.kafka), ("ClickHouse", self.clickhouse)):
            lines.append(f"{name}: {side['lost']} lost, {side['doubled']} doubled, {side['disordered']} out of order, "
                         f"{side['strangers']} never committed")
        return "\n".join(lines + self.examples)


def journal(dsn):
    """event_id -> (aggregate, n, judged) of every event that was committed."""
    with psycopg2.connect(dsn) as connection, connection.cursor(name="journal") as cursor:
        cursor.itersize = 20000
        cursor.execute("SELECT event_id::text, aggregate::text, n, judged FROM workload.journal")
        rows = {row[0]: row[1:] for row in cursor}
    connection.close()
    return rows


def dead_letters(dsn, table="public.outbox_dead_letters"):
    with psycopg2.connect(dsn) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT event_id FROM {table}")
        rows = {row[0] for row in cursor}
    connection.close()
    return rows


def read_topics(bootstrap, prefix, seconds=120):
    """Every visible record of the topics that start with `prefix`: (event_id, topic, partition, offset, value, headers)
    in partition order, read to the last stable offset that held when the call began."""
    consumer = confluent_kafka.Consumer({"bootstrap.servers": bootstrap, "group.id": "audit", "enable.auto.commit": False,
        "isolation.level": "read_committed", "auto.offset.reset": "earliest", "enable.partition.eof": True,
        "fetch.wait.max.ms": 10})
    try:
        topics = consumer.list_topics(timeout=20).topics
        partitions = [confluent_kafka.TopicPartition(name, number, confluent_kafka.OFFSET_BEGINNING)
            for name, topic in topics.items() if name.startswith(prefix) for number in topic.partitions]
        if not partitions:
            return
        consumer.assign(partitions)
        open_partitions = {(p.topic, p.partition) for p in partitions}
        deadline = time.monotonic() + seconds
        while open_partitions:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the audit did not reach the end of {sorted(open_partitions)} within {seconds} s")
            for message in consumer.consume(5000, 0.5):
                error = message.error()
                if error is not None:
                    if error.code() == confluent_kafka.KafkaError._PARTITION_EOF:
                        open_partitions.discard((message.topic(), message.partition()))
                    elif not error.retriable():
                        raise RuntimeError(f"the audit cannot read {message.topic()}: {error}")
                    continue
                headers = dict(message.headers() or [])
                event_id = headers.get("event_id", b"").decode("utf-8", "replace")
                yield event_id, message.topic(), message.partition(), message.offset(), message.value(), headers
    finally:
        consumer.close()


def clickhouse_query(url, query, user="default", password="", timeout=120):
    request = urllib.request.Request(url.rstrip("/") + "/?" + urllib.parse.urlencode({"query": query}), method="POST",
        data=b"", headers={"X-ClickHouse-User": user, "X-ClickHouse-Key": password})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return response.read().decode()
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"ClickHouse: {error.code} {error.read().decode('utf-8', 'replace')[:500]}") from error


def _judge_kafka(result, committed, dead, records):
    seen = collections.Counter()
    last = {}
    where = {}
    for event_id, topic, partition, offset, _, _ in records:
        seen[event_id] += 1
        where.setdefault(event_id, (topic, partition, offset))
        if event_id not in committed:
            result.kafka["strangers"] += 1
            result.note("Kafka holds an event that was never committed", f"{event_id} at {topic}[{partition}]@{offset}")
            continue
        aggregate, n, judged = committed[event_id]
        if seen[event_id] > 1:
            result.kafka["doubled"] += 1
            result.note("doubled in Kafka", f"{event_id} at {topic}[{partition}]@{offset}, first at {where[event_id]}")
        elif judged:
            before = last.get((aggregate, topic), -1)
            if n < before:
                result.kafka["disordered"] += 1
                result.note("out of order in Kafka", f"{event_id} n={n} after n={before} of {aggregate} in {topic}")
            last[(aggregate, topic)] = max(before, n)
    result.published = len(seen)
    for event_id in committed:
        if event_id not in seen and event_id not in dead:
            result.kafka["lost"] += 1
            result.note("lost before Kafka", f"{event_id} {committed[event_id]}")
    return where


def _judge_clickhouse(result, committed, dead, where, rows, set_aside):
    seen = collections.Counter()
    for event_id, topic, partition, offset in rows:
        seen[event_id] += 1
        if event_id not in committed:
            result.clickhouse["strangers"] += 1
            result.note("ClickHouse holds an event that was never committed", event_id)
        elif seen[event_id] > 1:
            result.clickhouse["doubled"] += 1
            result.note("doubled in ClickHouse", f"{event_id} from {topic}[{partition}]@{offset}")
    result.inserted = len(seen)
    for event_id in committed:
        if event_id not in seen and event_id not in dead and where.get(event_id) not in set_aside:
            result.clickhouse["lost"] += 1
            result.note("lost before ClickHouse", f"{event_id} at {where.get(event_id)}")


def audit(dsn, bootstrap, prefix, clickhouse_url=None, database="outbox_relay", table="outbox_events", user="default",
          password=""):
    """One full audit. Call it when the pipeline is quiet (see wait_until_quiet)."""
    result = Audit()
    committed, dead = journal(dsn), dead_letters(dsn)
    result.committed = len(committed)
    result.dead_lettered = len(dead)
    where = _judge_kafka(result, committed, dead, read_topics(bootstrap, prefix))
    if clickhouse_url is not None:
        set_aside = {(t, int(p), int(o)) for t, p, o in _lines(clickhouse_url, user, password,
            f"SELECT kafka_topic, kafka_partition, kafka_offset FROM {database}.outbox_relay_dead_letters FORMAT TSV")}
        result.dead_lettered += len(set_aside)
        rows = _lines(clickhouse_url, user, password,
            f"SELECT event_id, kafka_topic, kafka_partition, kafka_offset FROM {database}.{table} FORMAT TSV")
        _judge_clickhouse(result, committed, dead, where, rows, set_aside)
    return result


def _lines(url, user, password, query):
    return [tuple(line.split("\t")) for line in clickhouse_query(url, query, user, password).splitlines()]


def payload_number(value):
    """aggregate and n of a record's payload (for tests that judge without a journal)."""
    body = json.loads(value)
    return body["aggregate"], body["n"]

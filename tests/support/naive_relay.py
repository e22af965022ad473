#!/usr/bin/env -S /usr/bin/python3 -B
# SPDX-License-Identifier: Apache-2.0
"""A relay as it is often written at home: publish, then delete; insert, then commit the offset. It works while nothing
goes wrong and doubles events when something does. The torture bench has to find that, or it cannot see what it looks
for (tests/scripts/test_torture_bench.py). Without the safeguard "hole_sweep" it also reads only what is above the last number
it has seen, and so misses what commits late. Takes the commands, the test hooks and the configuration of outbox-relay
that the bench uses."""
import collections
import configparser
import glob
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
import uuid

import confluent_kafka
import psycopg2

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path.insert(0, os.path.join(ROOT, "scripts/lib"))

from servers.web import open_direct  # noqa: E402

ERRORS = (psycopg2.Error, confluent_kafka.KafkaException, OSError, RuntimeError)
stopping = threading.Event()
TEST_POINTS = ("publish.owned_with_rows", "publish.before_flush", "publish.after_flush", "publish.after_commit", "insert.before_insert",
               "insert.after_insert", "insert.never")
passed = collections.Counter()


def crash_point(name):
    wanted, _, nth = os.environ.get("OUTBOX_RELAY_CRASH_AT", "").partition(":")
    passed[name] += 1
    if wanted == name and passed[name] == int(nth or 1):
        os.kill(os.getpid(), signal.SIGKILL)


def clickhouse(config, query, body=b""):
    section = config["clickhouse"]
    request = urllib.request.Request(section["url"] + "/?" + urllib.parse.urlencode({"database": section["database"], "query": query}), data=body,
        method="POST", headers={"X-ClickHouse-User": section["user"], "X-ClickHouse-Key": section["password"]})
    with open_direct(request, 5) as answer:
        text = answer.read().decode()
    if text.startswith("Code:"):
        raise RuntimeError(text)
    return text


def migrate(config, target):
    for path in sorted(glob.glob(os.path.join(ROOT, f"schemas/{target}/0*.up.sql"))):
        with open(path, encoding="utf-8") as file:
            text = file.read()
        if target == "postgres":
            alone = text.startswith("-- relay:no-transaction")
            subprocess.run(["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", *([] if alone else ["-1"]), "-f", path, config["postgres"]["dsn"]],
                           timeout=60, check=True, stdout=subprocess.DEVNULL)
        else:
            for statement in "\n".join(line for line in text.splitlines() if not line.startswith("--")).split(";"):
                if statement.strip():
                    clickhouse(config, statement)


def publish(config, table):
    while not stopping.is_set():
        try:
            connection = psycopg2.connect(config["postgres"]["dsn"], connect_timeout=2)
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_try_advisory_lock(%s::regclass::oid::int, 1)", (table,))
                owned = cursor.fetchone()[0]
            connection.commit()
            if owned:
                publish_as_owner(config, connection, table)
            connection.close()
        except ERRORS as error:
            print(f"publish: {error}", flush=True)
        stopping.wait(0.3)


def publish_as_owner(config, connection, table):
    producer = confluent_kafka.Producer(client_settings(config, **{"enable.idempotence": True, "linger.ms": 2, "partitioner": "murmur2_random"}))
    watermark, first = 0, True
    while not stopping.is_set():
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT seq, id::text, aggregate_id::text, event_type, payload::text FROM {table} WHERE seq > %s ORDER BY seq LIMIT 200",
                           (watermark,))
            rows = cursor.fetchall()
            if rows and os.environ.get("OUTBOX_RELAY_DISABLE_SAFEGUARD") == "hole_sweep":
                watermark = rows[-1][0]
            if rows and first:
                crash_point("publish.owned_with_rows")
            first = False
            for _, event_id, aggregate, event_type, payload in rows:
                producer.produce(f"{config['publish']['prefix']}.{event_type.split('.')[0]}.events", payload, aggregate,
                                 headers={"event_id": event_id, "event_type": event_type, "aggregate_id": aggregate})
            if rows:
                crash_point("publish.before_flush")
            if producer.flush(8) > 0:
                raise RuntimeError("Kafka did not take the batch")
            if rows:
                crash_point("publish.after_flush")
            cursor.execute(f"DELETE FROM {table} WHERE seq = ANY(%s)", ([row[0] for row in rows],))
        connection.commit()
        if rows:
            crash_point("publish.after_commit")
        else:
            stopping.wait(0.02)


def client_settings(config, **more):
    names = ("bootstrap.servers", "client.id", "socket.timeout.ms", "topic.metadata.refresh.interval.ms")
    return dict({name: config["kafka"][name] for name in names if name in config["kafka"]}, **more)


def insert(config):
    while not stopping.is_set():
        consumer = confluent_kafka.Consumer(client_settings(config, **{"group.id": config["insert"]["group_id"], "enable.auto.commit": False,
            "session.timeout.ms": int(os.environ.get("NAIVE_SESSION_MS", "6000")), "auto.offset.reset": "earliest", "isolation.level": "read_committed",
            "partition.assignment.strategy": "cooperative-sticky"}))
        try:
            consumer.subscribe([f"^{config['publish']['prefix']}\\..*\\.events$"])
            while not stopping.is_set():
                messages = some_messages(consumer)
                if messages:
                    crash_point("insert.before_insert")
                    clickhouse(config, "INSERT INTO outbox_events FORMAT JSONEachRow", "\n".join(map(row, messages)).encode())
                    crash_point("insert.after_insert")
                    consumer.commit(asynchronous=False)
        except ERRORS as error:
            print(f"insert: {error}", flush=True)
        finally:
            consumer.close()
        stopping.wait(0.2)


def some_messages(consumer):
    """One by one: librdkafka 2.0's consume() drops messages that a rebalance overtakes, and stores their offsets."""
    messages = []
    deadline = time.monotonic() + 0.1
    while len(messages) < 1000 and time.monotonic() < deadline:
        message = consumer.poll(0.02)
        if message is not None and message.error() is None:
            messages.append(message)
    return messages


def row(message):
    headers = {name: value.decode() for name, value in message.headers() or []}
    return json.dumps({"event_id": headers.get("event_id", str(uuid.UUID(int=0))), "event_type": headers.get("event_type", ""),
        "aggregate_id": headers.get("aggregate_id", ""), "payload": (message.value() or b"").decode(), "kafka_topic": message.topic(),
        "kafka_partition": message.partition(), "kafka_offset": message.offset()})


class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


def run(config):
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ready)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"event": "http.listening", "address": f"127.0.0.1:{server.server_port}"}, separators=(",", ":")), flush=True)
    tables = [config[name]["table"] for name in config.sections() if name.split()[0] == "outbox"]
    threads = [threading.Thread(target=publish, args=(config, table)) for table in tables] + [threading.Thread(target=insert, args=(config,))]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            time.sleep(0.05)


def main():
    if sys.argv[1] == "test-points":
        print("\n".join(TEST_POINTS))
        return
    config = configparser.ConfigParser(interpolation=None, delimiters=("=",))
    config.read(sys.argv[sys.argv.index("--config") + 1])
    if sys.argv[1] == "migrate":
        migrate(config, sys.argv[2])
    else:
        run(config)


if __name__ == "__main__":
    main()

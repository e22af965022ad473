# SPDX-License-Identifier: Apache-2.0
"""What the tests of the publish stage share."""
import collections
import os
import signal
import subprocess
import time

import confluent_kafka
import psycopg2
import pytest

from relaytools import audit
from relaytools.relay import wait_until
from relaytools.servers import ROOT
from relaytools.sessions import execute_each


def publishing(place, name="relay", start=True, environment=None, **changes):
    """A relay with the publish stage alone."""
    changes.setdefault("insert", {})["enabled"] = "false"
    return place.relay(name, start=start, environment=environment, **changes)


def backlog(place, count, event_type="post.created", aggregate=None):
    """The ids of so many events, in the order of their numbers; each of an aggregate of its own, or all of this one."""
    return [row[0] for row in place.execute(
        "WITH made AS (INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload) "
        "SELECT 'post', coalesce(%s::uuid, gen_random_uuid()), %s, '{}' FROM generate_series(1, %s) RETURNING id::text, seq) "
        "SELECT id FROM made ORDER BY seq", aggregate, event_type, count)]


def ids(place):
    """event_id of every visible record, in the order of the audit's reading."""
    return [record[0] for record in place.records()]


def repeat_last_receipt(place, seconds):
    """As if the relay had published its last batch so much later than it did."""
    topic, partition, value, key = [(topic, partition, value, key) for _, topic, partition, _, value, _, key in
        audit.read_topics(place.servers.bootstrap, f"{place.name}-receipts") if value is not None][-1]
    producer = confluent_kafka.Producer({"bootstrap.servers": place.servers.bootstrap})
    producer.produce(topic, value, key, partition, timestamp=int((time.time() + seconds) * 1000))
    assert producer.flush(60) == 0


def wait_ids(place, wanted, seconds=60):
    """Waits for these events in Kafka; returns all that are there, so that the caller sees doubles."""
    def arrived():
        found = ids(place)
        return found if set(wanted) <= set(found) else None
    return wait_until(arrived, f"{len(wanted)} events in Kafka", seconds, every=0.2)


def assert_ids(place, wanted):
    """These events are in Kafka, as often as they are wanted, and no others. They may come a moment after PostgreSQL's COMMIT: Kafka
    answers when the end of a transaction is decided, and shows it when each partition has its marker."""
    wanted = sorted(wanted)
    wait_until(lambda: not collections.Counter(wanted) - collections.Counter(ids(place)), f"{len(wanted)} events in Kafka", 60, every=0.2)
    assert sorted(ids(place)) == wanted


def assert_order(place, wanted):
    """These events, of one aggregate, are in Kafka once each and in this order, and none of them by the sweep's look at what was forgotten."""
    wait_until(lambda: set(wanted) <= set(ids(place)), f"{len(wanted)} events in Kafka", 60, every=0.2)
    assert [one for one in ids(place) if one in set(wanted)] == wanted
    assert not any(relay.events("publish.swept") for relay in place.relays)


def assert_kafka_is_right(result):
    """Of an audit: whatever it looks for in Kafka is not there. What ClickHouse has is not the publish stage's."""
    assert not any(result.kafka.values()), result.text()


def use_test_points(relay):
    """The relay runs a build with test hooks from its next start on: RELAY_HOOKS_BINARY, or its own if it has them, or build-hooks.
    Without one the test is skipped."""
    named = os.environ.get("RELAY_HOOKS_BINARY")
    for binary in [named] if named else [relay.binary, os.path.join(ROOT, "build-hooks/outbox-relay")]:
        done = os.path.exists(binary) and subprocess.run([binary, "test-points"], capture_output=True, text=True, timeout=20, check=False)
        if done and done.returncode == 0 and done.stdout.split():
            relay.binary = binary
            return
    pytest.skip("built without -Dtest_hooks=true")


def crash_at(relay, point):
    """Runs the relay until it kills itself there."""
    relay.environment["OUTBOX_RELAY_CRASH_AT"] = point
    relay.start(ready=False)
    wait_until(lambda: relay.process.poll() is not None, f"a crash at {point}", 60)
    assert relay.process.returncode == -signal.SIGKILL, relay.log_tail()
    del relay.environment["OUTBOX_RELAY_CRASH_AT"]


def as_admin(place, *statements):
    return execute_each(place.admin_dsn, *statements)


def least_privileged(place):
    """A connection string of a role that has only what roles.sql gives to outbox_relay."""
    role = place.name + "_login"
    with open(os.path.join(ROOT, "schemas/postgres/roles.sql"), encoding="utf-8") as file:
        as_admin(place, file.read(), f"CREATE ROLE {role} LOGIN PASSWORD 'hush' IN ROLE outbox_relay")
    return psycopg2.extensions.make_dsn(place.dsn, user=role, password="hush")


def dead_letters(place):
    """{event_id: (code, text)}"""
    return {row[0]: (row[1], row[2]) for row in
            place.execute("SELECT event_id, reason_code, reason_text FROM public.outbox_dead_letters")}


def owner_pids(place, table="public.outbox_events"):
    """Backends that own the outbox, slot 0 and 1."""
    return [row[0] for row in place.execute(
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = %s::regclass::oid AND objid IN (1, 2) "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY objid", table)]


class Transaction:
    """A transaction that stays open until the test ends it."""

    def __init__(self, place):
        self.connection = psycopg2.connect(place.dsn)

    def begin(self, isolation="READ COMMITTED"):
        with self.connection.cursor() as cursor:
            cursor.execute(f"SET TRANSACTION ISOLATION LEVEL {isolation}")
            cursor.execute("SELECT 1")

    def insert(self, event_type="post.created", aggregate="11111111-1111-1111-1111-111111111111", payload="{}"):
        with self.connection.cursor() as cursor:
            cursor.execute("INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload) "
                           "VALUES ('post', %s, %s, %s) RETURNING id::text", (aggregate, event_type, payload))
            return cursor.fetchone()[0]

    def end(self, commit=True):
        self.connection.commit() if commit else self.connection.rollback()
        self.connection.close()

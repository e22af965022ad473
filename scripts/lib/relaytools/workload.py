# SPDX-License-Identifier: Apache-2.0
"""Writers that behave like an application: each transaction locks an aggregate, changes it, writes events into the
outbox and a line for each into a journal. The journal is what the auditor believes: a row in it was committed.

Every event carries `aggregate` and `n`, the aggregate's own running number, in its payload. Because the aggregate is
locked while n is drawn, n is the order that the relay has to keep. A share of the events can be written without the
lock (`unlocked`): they have no order and are marked as not judged.
"""
import json
import random
import threading
import time
import uuid

import psycopg2
import psycopg2.extras

psycopg2.extras.register_uuid()

TABLES = """
CREATE SCHEMA IF NOT EXISTS workload;
CREATE TABLE IF NOT EXISTS workload.aggregates (id uuid PRIMARY KEY, n bigint NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS workload.journal (
    event_id uuid NOT NULL, outbox text NOT NULL, aggregate uuid NOT NULL, n bigint NOT NULL, judged boolean NOT NULL);
"""
EVENT_TYPES = ("post.created", "post.liked", "comment.created", "follow.created", "message.sent")


def prepare(dsn, aggregates=200, seed=1):
    """Creates the workload's own tables and aggregates. Returns the aggregates' ids."""
    rng = random.Random(seed)
    ids = [uuid.UUID(int=rng.getrandbits(128), version=4) for _ in range(aggregates)]
    with psycopg2.connect(dsn) as connection, connection.cursor() as cursor:
        cursor.execute(TABLES)
        psycopg2.extras.execute_values(cursor,
            "INSERT INTO workload.aggregates (id) VALUES %s ON CONFLICT DO NOTHING", [(i,) for i in ids])
    connection.close()
    return ids


class Workload:
    """`writers` threads that write until `events` are committed (None: until stop()). `rate`: events a second over
    all writers, None for as fast as they can. A writer that loses its connection reconnects and goes on; what it does
    not know to be committed is decided by the journal alone."""

    def __init__(self, dsn, aggregates, writers=8, events=None, rate=None, seed=1, tables=("public.outbox_events",),
                 events_per_transaction=(1, 8), payload_bytes=250, rollback_share=0.02, unlocked_share=0.0,
                 event_types=EVENT_TYPES):
        self.dsn, self.aggregates, self.tables = dsn, aggregates, tables
        self.writers, self.events, self.rate, self.seed = writers, events, rate, seed
        self.events_per_transaction, self.payload_bytes = events_per_transaction, payload_bytes
        self.rollback_share, self.unlocked_share, self.event_types = rollback_share, unlocked_share, event_types
        self.committed = 0
        self.errors = []
        self._lock = threading.Lock()
        self._reserved = 0
        self._stop = threading.Event()
        self._threads = []
        self._started = None

    def start(self):
        self._started = time.monotonic()
        for number in range(self.writers):
            thread = threading.Thread(target=self._write, args=(number,), daemon=True, name=f"writer-{number}")
            thread.start()
            self._threads.append(thread)
        return self

    def stop(self):
        self._stop.set()
        self.join(60)

    def join(self, seconds):
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                raise TimeoutError(f"{thread.name} did not finish within {seconds} s; {self.committed} events committed, "
                                   f"last errors: {self.errors[-3:]}")

    def running(self):
        return any(thread.is_alive() for thread in self._threads)

    def _reserve(self, wanted):
        with self._lock:
            if self.events is not None:
                wanted = min(wanted, self.events - self._reserved)
            self._reserved += max(wanted, 0)
            return wanted

    def _give_back(self, count):
        with self._lock:
            self._reserved -= count

    def _pace(self):
        if self.rate is not None:
            ahead = self._reserved / self.rate - (time.monotonic() - self._started)
            if ahead > 0:
                self._stop.wait(ahead)

    def _write(self, number):
        rng = random.Random(f"{self.seed}/{number}")
        connection = None
        while not self._stop.is_set():
            count = self._reserve(rng.randint(*self.events_per_transaction))
            if count <= 0:
                break
            try:
                if connection is None:
                    connection = psycopg2.connect(self.dsn, connect_timeout=5)
                if self._transaction(connection, rng, count):
                    with self._lock:
                        self.committed += count
                else:
                    self._give_back(count)
            except psycopg2.Error as error:
                self.errors.append(str(error).strip())
                self._give_back(count)
                connection = self._close(connection)
                self._stop.wait(0.05)
            self._pace()
        self._close(connection)

    @staticmethod
    def _close(connection):
        if connection is not None:
            try:
                connection.close()
            except psycopg2.Error:
                pass
        return None

    def _transaction(self, connection, rng, count):
        aggregate = rng.choice(self.aggregates)
        table = rng.choice(self.tables)
        judged = rng.random() >= self.unlocked_share
        with connection.cursor() as cursor:
            if judged:
                cursor.execute("UPDATE workload.aggregates SET n = n + %s WHERE id = %s RETURNING n", (count, aggregate))
                first = cursor.fetchone()[0] - count + 1
            else:
                first = rng.getrandbits(40)
            events, lines = [], []
            for n in range(first, first + count):
                event_id = uuid.UUID(int=rng.getrandbits(128), version=4)
                events.append(self._event(rng, event_id, aggregate, n, judged))
                lines.append((event_id, table, aggregate, n, judged))
            psycopg2.extras.execute_values(cursor,
                f"INSERT INTO {table} (id, aggregate_type, aggregate_id, event_type, payload, metadata) VALUES %s",
                events)
            psycopg2.extras.execute_values(cursor,
                "INSERT INTO workload.journal (event_id, outbox, aggregate, n, judged) VALUES %s", lines)
        if rng.random() < self.rollback_share:
            connection.rollback()
            return False
        connection.commit()
        return True

    def _event(self, rng, event_id, aggregate, n, judged):
        event_type = rng.choice(self.event_types)
        body = {"aggregate": str(aggregate), "n": n, "judged": judged, "user_id": rng.getrandbits(31),
                "score": rng.randint(0, 100) / 10, "text": "x" * rng.randint(0, self.payload_bytes)}
        metadata = json.dumps({"correlation_id": str(event_id)[:8]}) if rng.random() < 0.7 else None
        return (event_id, event_type.split(".")[0], aggregate, event_type, json.dumps(body), metadata)

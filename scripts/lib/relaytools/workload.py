# SPDX-License-Identifier: Apache-2.0
"""Writers that behave like an application: each transaction locks an aggregate, changes it, writes events into the
outbox and a line for each into a journal. The journal is what the auditor believes: a row in it was committed.

Every event carries `aggregate` and `n`, the aggregate's own running number, in its payload. Because the aggregate is
locked while n is drawn, n is the order that the relay has to keep. A share of the events can be written without the
lock (`unlocked`): they have no order and are marked as not judged. `Habits` adds what applications also do.

An aggregate always writes into the same outbox table, since two outboxes have no order between them.
"""
import dataclasses
import io
import json
import random
import threading
import time
import uuid

import psycopg2
import psycopg2.errors
import psycopg2.extras

psycopg2.extras.register_uuid()

TABLES = """
CREATE SCHEMA IF NOT EXISTS workload;
CREATE TABLE IF NOT EXISTS workload.aggregates (id uuid PRIMARY KEY, n bigint NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS workload.journal (
    event_id uuid NOT NULL, outbox text NOT NULL, aggregate uuid NOT NULL, n bigint NOT NULL, judged boolean NOT NULL);
"""
APPLICATION = "workload"    # application_name of the writers' sessions
EVENT_TYPES = ("post.created", "post.liked", "comment.created", "follow.created", "message.sent")
EVENTS_PER_TRANSACTION = (1, 8)
PAYLOAD_BYTES = 250         # of text, at most


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


@dataclasses.dataclass
class Habits:
    """Shares of the transactions that do more than insert and commit; all off by default.

    no_sync transactions run with synchronous_commit off. PostgreSQL may lose them in a crash, together with their
    journal lines, after others have already seen them; their events say `"durable": false`."""
    savepoint: float = 0.0      # a part of the transaction is rolled back to a savepoint
    copy: float = 0.0           # COPY instead of INSERT
    two_phase: float = 0.0      # PREPARE TRANSACTION, some time, COMMIT PREPARED (or ROLLBACK PREPARED)
    long: float = 0.0           # stays open for long_seconds after its inserts
    burst: float = 0.0          # burst_events in one transaction
    no_sync: float = 0.0
    long_seconds: tuple = (0.5, 6.0)
    burst_events: tuple = (200, 800)


TORTURE = Habits(savepoint=0.06, copy=0.06, two_phase=0.01, long=0.006, burst=0.003, no_sync=0.04)


class Workload:
    """`writers` threads that write until `events` are committed (None: until stop()). `rate`: events a second over
    all writers, None for as fast as they can. A writer that loses its connection reconnects and goes on; what it does
    not know to be committed is decided by the journal alone."""

    def __init__(self, dsn, aggregates, writers=8, events=None, rate=None, seed=1, tables=("public.outbox_events",),
                 rollback_share=0.02, unlocked_share=0.0, habits=None):
        self.habits = habits or Habits()
        self.counts = dict.fromkeys(("committed", "rolled back", "savepoint", "copy", "two-phase", "long", "burst", "no sync"), 0)
        self.dsn, self.aggregates, self.tables = dsn, aggregates, tables
        self.writers, self.events, self.rate, self.seed = writers, events, rate, seed
        self.rollback_share, self.unlocked_share = rollback_share, unlocked_share
        self.committed = 0
        self.errors = []
        self._lock = threading.Lock()
        self._reserved = 0
        self._stop = threading.Event()
        self._threads = []
        self._started = None
        self._flow = threading.Event()
        self._flow.set()

    def start(self):
        self._started = time.monotonic()
        for number in range(self.writers):
            thread = threading.Thread(target=self._write, args=(number,), daemon=True, name=f"writer-{number}")
            thread.start()
            self._threads.append(thread)
        return self

    def stop(self):
        self.abandon()
        self.join(60)

    def abandon(self):
        """Ends the writers without waiting for them."""
        self._stop.set()
        self._flow.set()

    def hold(self):
        """The writers begin no further transaction until resume()."""
        self._flow.clear()

    def resume(self):
        """They go on at their rate, without making up for what they did not write meanwhile."""
        if not self._flow.is_set():
            with self._lock:
                if self.rate is not None:
                    self._started = time.monotonic() - self._reserved / self.rate
            self._flow.set()

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

    def _pace(self):
        if self.rate is not None:
            ahead = self._reserved / self.rate - (time.monotonic() - self._started)
            if ahead > 0:
                self._stop.wait(ahead)

    def _write(self, number):
        writer = _Writer(self, number)
        while not self._stop.is_set():
            self._flow.wait()
            count = self._reserve(writer.wanted())
            if count <= 0:
                break
            committed = 0
            try:
                committed = writer.transaction(count)
            except psycopg2.Error as error:
                self.errors = self.errors[-99:] + [str(error).strip()]
                writer.failed(error)
                self._stop.wait(0.05)
            with self._lock:
                self.committed += committed
                self._reserved -= count - committed
            self._pace()
        writer.close()

    def count(self, what):
        with self._lock:
            self.counts[what] += 1

    def wait(self, seconds):
        """Waits, or less when the workload is to stop."""
        self._stop.wait(seconds)

    def event(self, rng, event_id, aggregate, n, judged, durable=True):
        event_type = rng.choice(EVENT_TYPES)
        body = {"aggregate": str(aggregate), "n": n, "judged": judged, "user_id": rng.getrandbits(31),
                "score": rng.randint(0, 100) / 10, "text": "x" * rng.randint(0, PAYLOAD_BYTES)}
        if not durable:
            body["durable"] = False
        metadata = json.dumps({"correlation_id": str(event_id)[:8]}) if rng.random() < 0.7 else None
        return (event_id, event_type.split(".")[0], aggregate, event_type, json.dumps(body), metadata)


class _Writer:
    """One thread's connection and its transactions."""

    def __init__(self, workload, number):
        self.workload, self.habits = workload, workload.habits
        self.rng = random.Random(f"{workload.seed}/{number}")
        self.name = f"workload-{workload.seed}-{number}-{uuid.uuid4().hex[:8]}"
        self.connection = None
        self.prepared = []      # names of prepared transactions whose end is not known
        self.drawn = 0

    def wanted(self):
        if self.rng.random() < self.habits.burst:
            self.workload.count("burst")
            return self.rng.randint(*self.habits.burst_events)
        return self.rng.randint(*EVENTS_PER_TRANSACTION)

    def failed(self, error):
        """After an error: a lock that was not granted costs the transaction, anything else the connection."""
        if isinstance(error, psycopg2.errors.LockNotAvailable) and self.connection is not None:
            try:
                self.connection.rollback()
                return
            except psycopg2.Error:
                pass
        self.close()

    def close(self):
        if self.connection is not None:
            try:
                self.connection.close()
            except psycopg2.Error:
                pass
        self.connection = None

    def _connect(self):
        self.connection = psycopg2.connect(self.workload.dsn, connect_timeout=5,
            application_name=APPLICATION,
            options="-c lock_timeout=5s -c statement_timeout=60s")
        if self.prepared:
            settle_prepared(self.connection, self.prepared, self.rng)
            self.prepared = []

    def transaction(self, count):
        """Returns how many events it is known to have committed."""
        if self.connection is None:
            self._connect()
        rng, habits = self.rng, self.habits
        aggregate = rng.choice(self.workload.aggregates)
        table = self.workload.tables[aggregate.int % len(self.workload.tables)]
        judged = rng.random() >= self.workload.unlocked_share
        durable = rng.random() >= habits.no_sync
        two_phase = rng.random() < habits.two_phase
        with self.connection.cursor() as cursor:
            if not durable:
                self.workload.count("no sync")
                cursor.execute("SET LOCAL synchronous_commit = off")
            if two_phase:
                cursor.execute("SET LOCAL outbox_relay.notify = 'off'")
            if judged:
                cursor.execute("UPDATE workload.aggregates SET n = n + %s WHERE id = %s RETURNING n", (count, aggregate))
                first = cursor.fetchone()[0] - count + 1
            else:
                first = rng.getrandbits(40)
            kept = self._insert(cursor, table, aggregate, range(first, first + count), judged, durable)
        if rng.random() < habits.long:
            self.workload.count("long")
            self.workload.wait(rng.uniform(*habits.long_seconds))
        commits = rng.random() >= self.workload.rollback_share
        if two_phase:
            self._two_phase(commits)
        elif commits:
            self.connection.commit()
        else:
            self.connection.rollback()
        self.workload.count("committed" if commits else "rolled back")
        return kept if commits else 0

    def _insert(self, cursor, table, aggregate, numbers, judged, durable):
        """Writes the events, some of them twice over: a part may be rolled back to a savepoint. Returns how many stay."""
        if self.rng.random() >= self.habits.savepoint:
            self._write_events(cursor, table, aggregate, numbers, judged, durable)
            return len(numbers)
        self.workload.count("savepoint")
        one, two = sorted((self.rng.randint(0, len(numbers)), self.rng.randint(0, len(numbers))))
        self._write_events(cursor, table, aggregate, numbers[:one], judged, durable)
        cursor.execute("SAVEPOINT part")
        self._write_events(cursor, table, aggregate, numbers[one:two], judged, durable)
        cursor.execute("ROLLBACK TO SAVEPOINT part")
        self._write_events(cursor, table, aggregate, numbers[two:], judged, durable)
        return one + len(numbers) - two

    def _write_events(self, cursor, table, aggregate, numbers, judged, durable):
        if not numbers:
            return
        events, lines = [], []
        for n in numbers:
            event_id = uuid.UUID(int=self.rng.getrandbits(128) ^ self._salt(), version=4)
            events.append(self.workload.event(self.rng, event_id, aggregate, n, judged, durable))
            lines.append((event_id, table, aggregate, n, judged))
        columns = "id, aggregate_type, aggregate_id, event_type, payload, metadata"
        if self.rng.random() < self.habits.copy:
            self.workload.count("copy")
            text = "".join("\t".join("\\N" if field is None else _copy_text(field) for field in event) + "\n" for event in events)
            cursor.copy_expert(f"COPY {table} ({columns}) FROM STDIN", io.StringIO(text))
        else:
            psycopg2.extras.execute_values(cursor, f"INSERT INTO {table} ({columns}) VALUES %s", events, page_size=500)
        psycopg2.extras.execute_values(cursor,
            "INSERT INTO workload.journal (event_id, outbox, aggregate, n, judged) VALUES %s", lines, page_size=500)

    def _salt(self):
        """Two workloads with one seed on one database must not draw the same ids."""
        return int.from_bytes(self.name[-8:].encode(), "big")

    def _two_phase(self, commits):
        self.workload.count("two-phase")
        self.drawn += 1
        name = f"{self.name}-{self.drawn}"
        self.prepared.append(name)
        with self.connection.cursor() as cursor:
            cursor.execute(f"PREPARE TRANSACTION '{name}'")
            self.connection.rollback()  # Tells psycopg2 that no transaction is open; the prepared one is not touched.
            self.workload.wait(self.rng.choice((0.0, 0.0, 0.1, 1.5)))
            self.connection.autocommit = True
            cursor.execute(f"{'COMMIT' if commits else 'ROLLBACK'} PREPARED '{name}'")
            self.connection.autocommit = False
        self.prepared.remove(name)


def _copy_text(field):
    return str(field).replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")


def settle_prepared(connection, names, rng):
    """Ends prepared transactions that a crash left behind, one way or the other; the journal tells which."""
    connection.rollback()
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("SELECT gid FROM pg_prepared_xacts WHERE gid = ANY(%s) AND database = current_database()", (list(names),))
        for name, in cursor.fetchall():
            cursor.execute(f"{rng.choice(('COMMIT', 'ROLLBACK'))} PREPARED '{name}'")
    connection.autocommit = False


def settle_all_prepared(dsn, seed=0):
    """The same for every prepared transaction of a workload in this database. Call it when no writer runs."""
    connection = psycopg2.connect(dsn)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT gid FROM pg_prepared_xacts WHERE gid LIKE 'workload-%' AND database = current_database()")
            names = [row[0] for row in cursor.fetchall()]
        settle_prepared(connection, names, random.Random(seed))
        return len(names)
    finally:
        connection.close()

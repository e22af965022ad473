# SPDX-License-Identifier: Apache-2.0
"""Where the measuring takes place: one set of real servers, a database and topics for each row, the programs of
tests/bench, and the relay. Everything that is not to be measured (filling tables, vacuum, checkpoints, warm-up) happens
in here, between the measurements."""
import dataclasses
import json
import math
import os
import re
import statistics
import subprocess
import time

import confluent_kafka
import confluent_kafka.admin
import psycopg2

from relaytools import kafka_ends
from relaytools.place import Place
from relaytools.relay import wait_until, write_config
from relaytools.servers import ROOT
from relaytools.sessions import execute_each

from . import machine

# Events of 260 bytes of payload make outbox rows of about 450 bytes.
PAYLOAD = 260
# A JSON document of 13 members, most of which a typed route reads.
DOCUMENT = 754
PARTITIONS = 8
COLUMNS = "id, aggregate_type, aggregate_id, event_type, payload, metadata, created_at"
WARM_DRAINS = 8   # pairs, at most
POSTGRES_SETTINGS = {"shared_buffers": "1GB", "max_wal_size": "8GB", "checkpoint_timeout": "30min"}


@dataclasses.dataclass
class Sizes:
    name: str
    rows: int                # of a backlog
    rounds: int              # alternating rounds; medians over them
    writer_seconds: float
    latency_seconds: float
    gap_seconds: float       # of silence before an idle wake-up
    gap_events: int
    insert_rows: int
    idle_seconds: float
    backlog_rows: int        # of the row about large backlogs
    starts: int
    warm_rows: int           # drained at a time until the broker is warm


QUICK = Sizes("quick", rows=100_000, rounds=3, writer_seconds=3, latency_seconds=4, gap_seconds=2, gap_events=5, insert_rows=200_000,
              idle_seconds=10, backlog_rows=500_000, starts=3, warm_rows=100_000)
DEFAULT = Sizes("default", rows=1_000_000, rounds=5, writer_seconds=10, latency_seconds=20, gap_seconds=10, gap_events=7,
                insert_rows=2_000_000, idle_seconds=60, backlog_rows=3_000_000, starts=7, warm_rows=500_000)
FULL = dataclasses.replace(DEFAULT, name="full", backlog_rows=10_000_000)


class Lab:
    def __init__(self, servers, sizes, say):
        self.servers, self.sizes, self.say = servers, sizes, say
        self.programs = os.environ.get("RELAY_BENCH_PROGRAMS") or os.path.join(ROOT, "build/tests/bench")
        self.binary = os.environ.get("RELAY_BINARY") or os.path.join(ROOT, "build/outbox-relay")
        self.epoch = int(time.time() * 1e6) - 3_600_000_000
        self.next_number = 1 << 40   # of events written one by one: never a number that a filled table has
        self.places = 0

    # Servers

    def start(self):
        self.servers.start()
        execute_each(self.servers.admin_dsn, *(f"ALTER SYSTEM SET {name} = '{value}'" for name, value in POSTGRES_SETTINGS.items()))
        self.servers.restart("postgres")
        self._warm_up()

    def use_logical_wal(self):
        """Peers that read the WAL need it; it costs the writers a little, so it is not the rule."""
        execute_each(self.servers.admin_dsn, "ALTER SYSTEM SET wal_level = 'logical'")
        self.servers.restart("postgres")

    def _warm_up(self):
        """The broker's JVM compiles while it works: a cold one takes four times the CPU for an event. It is warm when what it takes
        for two drains has not fallen twice."""
        self.say("warming up")
        with self.place("warm") as place:
            # Many small ones: what costs the broker most before it is compiled is a transaction, not its rows.
            self.produce(place, 300_000, transactional_id="bench-warm", batch=500)
            least, still = math.inf, 0
            for _ in range(WARM_DRAINS):
                cost = sum(self._warm_drain(place, guarantee) for guarantee in ("at_least_once", "exactly_once"))
                self.say(f"  the broker takes {cost:.1f} us for an event drained in each way")
                still = still + 1 if cost > 0.9 * least else 0
                least = min(least, cost)
                if still == 2:
                    break

    def _warm_drain(self, place, guarantee):
        self.fill(place, self.sizes.warm_rows)
        return self.drain(place, guarantee)["cpu"]["kafka"] / self.sizes.warm_rows * 1e6

    def place(self, name, partitions=PARTITIONS, topics=("order",)):
        self.places += 1
        return BenchPlace(self, f"bench{self.places}{name}", partitions, topics)

    def pids(self):
        """{name: (pid, whole tree)} of the servers."""
        def first(path):
            return int(machine.read(path).split()[0])
        env = self.servers.env
        return {"postgres": (first(env["POSTGRES_PID_FILE"]), True), "kafka": (first(env["KAFKA_1_PID_FILE"]), False),
                "clickhouse": (first(env["CLICKHOUSE_PID_FILE"]), False)}

    def conditions(self):
        version, fsync, synchronous, buffers, wal = execute_each(self.servers.admin_dsn,
            "SELECT current_setting('server_version'), current_setting('fsync'), current_setting('synchronous_commit'), "
            "current_setting('shared_buffers'), current_setting('max_wal_size')")[0]
        pins = dict(re.findall(r"^(\w+)=(\S+)", machine.read(os.path.join(ROOT, "scripts/pins")), re.M))
        commit = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
        return {"cpu": machine.cpu_model(), "cores": os.cpu_count(), "memory_gib": round(machine.memory_gib(), 1),
                "kernel": os.uname().release, "load_before": round(machine.load(), 2), "revision": commit.stdout.strip(),
                "postgres": f"{version.split()[0]} (fsync {fsync}, synchronous_commit {synchronous}, shared_buffers {buffers}, max_wal_size {wal})",
                "kafka": f"{pins.get('KAFKA_VERSION', '?')}, one node, Java {machine.java_version()}",
                "clickhouse": self.servers.env["CLICKHOUSE_VERSION"], "librdkafka": pins.get("LIBRDKAFKA_VERSION", "?"),
                "sizes": dataclasses.asdict(self.sizes)}

    # Programs

    def program(self, name, place, *arguments, seconds=1800):
        """Runs a program of tests/bench; returns the JSON object that it prints."""
        command = [os.path.join(self.programs, name), "--config", place.config, *[str(word) for word in arguments]]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{name} failed: {done.stderr.strip()[-800:]}")
        return json.loads(done.stdout)

    def shape(self, payload, aggregates=10_000, topics=1):
        return ["--payload", payload, "--aggregates", aggregates, "--topics", topics, "--epoch", self.epoch]

    def produce(self, place, rows, transactional_id=None, batch=2000, payload=PAYLOAD, chunk=None, **shape):
        words = ["--transactional-id", transactional_id, "--batch", batch] if transactional_id else []
        words += ["--chunk", chunk] if chunk else []
        return self.program("produce_events", place, "--prefix", place.prefix, "--rows", rows, *words, *self.shape(payload, **shape))

    def discard(self, place, table="public.outbox_events", batch=2000):
        return self.program("discard_outbox", place, "--table", table, "--batch", batch)

    def latency(self, place, mode, rate, events, skip=0, writers=4, transactional_id=None, watch=None, payload=PAYLOAD, patience=10,
                table="public.outbox_events"):
        first, self.next_number = self.next_number, self.next_number + events
        words = ["--transactional-id", transactional_id] if transactional_id else []
        words += ["--watch", watch] if watch else []
        return self.program("measure_latency", place, "--mode", mode, "--prefix", place.prefix, "--rate", rate, "--events", events,
                            "--skip", skip, "--first", first, "--writers", writers, "--patience", patience, "--table", table, *words, *self.shape(payload))

    # Tables

    def fill(self, place, rows, table="public.outbox_events", payload=PAYLOAD, settle=True, **shape):
        """Empties the table and puts `rows` events into it; afterwards nothing of that is left to be written or vacuumed."""
        template = self._template(place, rows, payload, **shape)
        place.execute(f"TRUNCATE {table}")
        place.execute(f"INSERT INTO {table} ({COLUMNS}) SELECT {COLUMNS} FROM {template} LIMIT %s", rows)
        if settle:
            self.settle(place, table)

    def settle(self, place, table):
        execute_each(place.admin_dsn, f"VACUUM (ANALYZE) {table}", "CHECKPOINT")

    def _template(self, place, rows, payload, **shape):
        """The events as a plain table, made once: copying it is faster than making it again."""
        name = "bench_template_" + "_".join([str(payload)] + [f"{key}{value}" for key, value in sorted(shape.items())])
        if place.templates.get(name, 0) < rows:
            place.execute(f"DROP TABLE IF EXISTS {name}")
            place.execute(f"CREATE UNLOGGED TABLE {name} AS SELECT {COLUMNS} FROM public.outbox_events WHERE false")
            self.program("fill_outbox", place, "--table", name, "--rows", rows, *self.shape(payload, **shape))
            place.templates[name] = rows
        return name

    # The relay

    def relay(self, place, guarantee="exactly_once", stages=("publish",), start=True, ready=True, **changes):
        sections = {"publish": {"guarantee": guarantee, "enabled": str("publish" in stages).lower()},
                    "insert": {"guarantee": guarantee, "enabled": str("insert" in stages).lower()}}
        for name, keys in changes.items():
            sections.setdefault(name, {}).update(keys)
        place.started += 1
        relay = place.relay(f"relay-{place.started}", start=False, **sections)
        if start:
            relay.start(ready=ready)
        return relay

    def drain(self, place, guarantee="exactly_once", tables=("public.outbox_events",), seconds=1800, **changes):
        """Starts the relay on what is in the tables and waits until all of it is published and committed.

        `seconds` counts from the broker's time of the first event to the moment at which the last row was gone: the start
        of the process is a row of its own. Returns rows, seconds, start (exec to first event), cpu, peak memory."""
        last, rows = {}, 0
        for table in tables:
            count, last[table] = place.execute(f"SELECT count(*), max(seq) FROM {table} WHERE published_at IS NULL")[0]
            rows += count
        offsets = place.ends()
        connection = psycopg2.connect(place.dsn)
        connection.autocommit = True
        relay = self.relay(place, guarantee, start=False, ready=False, **changes)
        use = None
        began = time.time()
        try:
            relay.start(ready=False)
            use = machine.Use({"relay": (relay.process.pid, False)} | self.pids())
            with connection.cursor() as cursor:
                relay.wait(lambda: self._gone(cursor, last), f"{rows} rows published", seconds)
            ended = time.time()
            used = use.seconds()
            peak = machine.memory_mib(relay.process.pid)
        finally:
            connection.close()
            relay.stop()
        first = place.first_append(offsets)
        left = sum(place.outbox_rows(table) for table in tables)
        if left:
            raise RuntimeError(f"{left} rows are left though the last one is gone")
        return {"rows": rows, "seconds": ended - first, "start": first - began, "whole": ended - began, "rate": rows / (ended - first),
                "cpu_us": used["relay"] / rows * 1e6, "cpu": used, "peak_mib": peak}

    @staticmethod
    def _gone(cursor, last):
        for table, seq in list(last.items()):
            cursor.execute(f"SELECT 1 FROM {table} WHERE seq = %s AND published_at IS NULL", (seq,))
            if cursor.fetchone():
                return False
            del last[table]
        return not last


class BenchPlace(Place):
    """A database and topics for one row; gone with the `with` block, so that rows do not load each other."""

    def __init__(self, lab, name, partitions, topics):
        self.templates, self.started, self.groups = {}, 0, 0
        super().__init__(lab.servers, name, topics=[], binary=lab.binary)
        self.topics = [f"{self.prefix}.{topic}.events" for topic in topics]
        if self.topics:
            # The broker's own clock tells when an event came in; created_at may lie long back, so nothing expires.
            lab.servers.create_topics(self.topics, partitions, {"message.timestamp.type": "LogAppendTime", "retention.ms": "-1"})
            kafka_ends.ends(lab.servers.bootstrap, [(topic, number) for topic in self.topics for number in range(partitions)], 60)
        self.config = None
        self.write_program_config({})

    def write_program_config(self, changes):
        """The configuration that the programs of tests/bench read: the relay's own, so that both use the same settings."""
        self.config = write_config(os.path.join(self.folder, "programs.ini"), self.sections(**changes))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
        client = confluent_kafka.admin.AdminClient({"bootstrap.servers": self.servers.bootstrap, "log_level": 4})
        for future in client.delete_topics(self.topics, operation_timeout=30).values() if self.topics else []:
            try:
                future.result(60)
            except confluent_kafka.KafkaException:
                pass  # the next row does not depend on it
        execute_each(self.servers.admin_dsn, f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)")
        self.servers.clickhouse(f"DROP DATABASE IF EXISTS {self.name}")

    def _consumer(self):
        return confluent_kafka.Consumer({"bootstrap.servers": self.servers.bootstrap, "group.id": f"{self.name}-look", "log_level": 4,
                                         "enable.auto.commit": False, "isolation.level": "read_committed", "fetch.wait.max.ms": 20})

    def ends(self):
        """The end of every partition of the topics."""
        found = kafka_ends.ends(self.servers.bootstrap, kafka_ends.partitions(self.servers.bootstrap, self.topics))
        return [confluent_kafka.TopicPartition(*each, end) for each, end in found.items()]

    def first_append(self, offsets, seconds=30):
        return self.append_span(offsets, seconds, last=False)[0]

    def append_span(self, offsets, seconds=30, last=True):
        """The broker's time (seconds) of the first event that came in after these offsets, and of the last one."""
        consumer = self._consumer()
        first = latest = None
        ends = {(one.topic, one.partition): one.offset for one in self.ends()}
        # Of many partitions some are enough: the first batch has events for most of them.
        grown = [one for one in offsets if ends[(one.topic, one.partition)] > one.offset]
        for one in grown[::max(1, len(grown) // 16)]:
            consumer.assign([one])
            message = wait_until(lambda: consumer.poll(0.2), "an event", seconds, every=0)
            stamp = message.timestamp()[1] / 1000
            first = stamp if first is None else min(first, stamp)
            if last:
                stamp = self._last_stamp(consumer, one, ends[(one.topic, one.partition)], seconds)
                latest = stamp if latest is None else max(latest, stamp)
        consumer.close()
        if first is None:
            raise RuntimeError("no event came into the topics")
        return first, latest

    @staticmethod
    def _last_stamp(consumer, one, end, seconds):
        """The end of a log may be a transaction's marker, which no consumer gets: begin a little before it."""
        consumer.assign([confluent_kafka.TopicPartition(one.topic, one.partition, max(one.offset, end - 50))])
        message = wait_until(lambda: consumer.poll(0.2), "an event", seconds, every=0)
        while message is not None:
            stamp = message.timestamp()[1] / 1000
            message = consumer.poll(0.2)
        return stamp


def median(values):
    return statistics.median(values)

# SPDX-License-Identifier: Apache-2.0
"""What the torture bench stands on: servers behind proxies, replicas of the relay that a supervisor keeps running,
several outboxes, writers, a canary that measures recovery, and the quiet end at which everything is audited.

Timeouts of the relay are set short (`sections`), so that a fault of some seconds lies beyond all of them."""
import collections
import contextlib
import glob
import os
import re
import signal
import threading
import time
import uuid

import psycopg2
from psycopg2.extensions import make_dsn

from servers.namespaces import Network

from .misfits import Misfits
from .place import Place
from .proxy import Proxy
from .relay import wait_until
from .servers import Servers
from .sessions import autocommitting
from .standby import Standby
from .view import View
from .workload import APPLICATION, TORTURE, settle_all_prepared

SANITIZER = re.compile(r"ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error: |Assertion .* failed")
# Of sanitizers; and of the relay itself when a part of it hung for longer than any fault lasts, or found its configuration wrong.
FAULTY_EXITS = (66, 99, 70, 78)
# Longer than every timeout in sections(): a fault that lasts so long finds each of them expired.
BEYOND_TIMEOUTS = 13.0


class BenchError(Exception):
    """The run has failed; the text says why."""


class Replica:
    """One relay process with proxies of its own to PostgreSQL and ClickHouse; Kafka knows it by its client.id."""

    def __init__(self, bench, number):
        self.bench, self.number, self.name = bench, number, f"relay-{number}"
        self.postgres = Proxy(bench.primary_address, name=f"postgres-{number}")
        self.clickhouse = Proxy(("127.0.0.1", int(bench.servers.clickhouse_url.rsplit(":", 1)[1])), "http", f"clickhouse-{number}")
        self.wanted = False         # whether the supervisor restarts it
        self.lock = threading.RLock()
        self.relay = bench.place.relay(self.name, start=False, binary=bench.binary, environment=bench.environment(number),
                                       **bench.sections(self))

    def start(self, environment=None):
        with self.lock:
            if environment is not None:
                self.relay.environment = dict(os.environ, **environment)
            if not self.running():
                self.relay.start(ready=False)
            self.wanted = True

    def running(self):
        return self.relay.process is not None and self.relay.process.poll() is None

    def kill(self):
        """SIGKILL; stays away until start(). Returns whether it ran."""
        with self.lock:
            ran = self.running()
            self.wanted = False
            self.relay.kill()
            self.bench.kills += ran
            return ran

    def begin_stop(self):
        """SIGTERM; stays away until start(). Returns whether it ran."""
        with self.lock:
            self.wanted = False
            if not self.running():
                return False
            self.relay.begin_stop()
            return True

    def end_stop(self, seconds=30):
        """After begin_stop(): a stop that takes too long or fails is a complaint."""
        with self.lock:
            try:
                code = self.relay.stop(seconds)
            except TimeoutError as error:
                self.bench.complain(str(error).splitlines()[0])
                return
        if code != 0:
            self.bench.complain(f"{self.name} ended with {code} after SIGTERM: {self.last_line()}")

    def stop(self):
        """Returns whether it ran."""
        ran = self.begin_stop()
        if ran:
            self.end_stop()
        return ran

    def last_line(self):
        return (self.relay.log() or [""])[-1][:300]

    def signal(self, number):
        """Returns whether it ran."""
        with self.lock:
            if self.running():
                self.relay.signal(number)
                return True
            return False

    def supervise(self, began):
        with self.lock:
            if self.wanted and not self.running():
                code = self.relay.process.returncode
                self.bench.ended[code] += 1
                if code < 0 or code in FAULTY_EXITS:
                    self.bench.complain(f"{self.name} ended with {code} after {time.monotonic() - began:.1f} s: {self.last_line()}")
                self.relay.start(ready=False)

    def close(self):
        with self.lock:
            self.wanted = False
            self.relay.kill()
        self.postgres.close()
        self.clickhouse.close()


class Bench:
    def __init__(self, seed=1, outboxes=1, replicas=2, kafka_nodes=1, guarantee="exactly_once", rate=1000, writers=8,
                 binary=None, folder=None, faketime=None, say=print, standby=False,
                 kafka_namespaces=False, own_disks=False):
        self.seed, self.outboxes, self.kafka_nodes, self.guarantee = seed, outboxes, kafka_nodes, guarantee
        self.replica_count, self.rate, self.writers, self.binary, self.faketime, self.say = replicas, rate, writers, binary, faketime, say
        self.servers = Servers(folder)
        self.with_standby, self.standby = standby, None
        self.own_disks = own_disks
        self.kafka_namespaces, self.kafka_network = kafka_namespaces, None
        self.kafka = []
        self.replicas, self.extra = [], []
        self.place = self.workload = self.view = self.misfits = None
        self.tables = ["public.outbox_events"] + [f"public.outbox_{chr(ord('a') + n)}" for n in range(1, outboxes)]
        self.kills = 0                          # SIGKILLs of relays
        self.complaints = []                    # what processes did wrong: findings, not reasons to stop the run
        self.rows_refused = False               # by a fault, although they are no poison: they may be dead letters
        self.postgres_killed = False            # so that it may have lost what was not to be durable
        self.ended = collections.Counter()      # ends of relays that nobody asked for, by exit code
        self.aborts = 0                         # ends of ClickHouse that nobody asked for
        self.began = None
        self._stop = threading.Event()
        self._supervisor = None

    # Setting up and taking down

    def start_servers(self):
        self.kafka = [Proxy(kind="kafka", name=f"kafka-{n + 1}") for n in range(self.kafka_nodes)]
        self.servers.start(kafka_nodes=self.kafka_nodes, kafka_proxy_ports=[proxy.port for proxy in self.kafka], kafka_short_lived=True,
                           kafka_namespaces=self.kafka_namespaces, own_disks=self.own_disks)
        if self.kafka_namespaces:
            self.kafka_network = Network(int(self.servers.env["KAFKA_NETWORK"]), self.kafka_nodes)
        for proxy, target in zip(self.kafka, self.servers.env["KAFKA_PROXIED_TARGETS"].split(",")):
            host, port = target.split(":")
            proxy.target = (host, int(port))
        if self.with_standby:
            self.standby = Standby(self.servers)
            self.standby.start()
            self.standby.make_synchronous()
            for name in ("POSTGRES_DSN", "POSTGRES_ADMIN_DSN"):     # a frozen server is passed over
                self.servers.kept[name] = self.servers.env[name] = make_dsn(self.servers.env[name], connect_timeout=5)
        return self

    @property
    def primary_address(self):
        return "127.0.0.1", self.standby.primary.port if self.standby else int(self.servers.env["PGPORT"])

    def aim_at_primary(self):
        """The relays' next connections to PostgreSQL reach whoever is the primary."""
        for replica in self.replicas + self.extra:
            replica.postgres.target = self.primary_address

    def act(self, action, service):
        """kill, start, restart, pause or resume, of a server; PostgreSQL's is the primary."""
        if service == "postgres" and self.standby:
            getattr(self.standby.primary, action)()
        else:
            getattr(self.servers, action)(service)

    def prepare(self, name="torture", view=False, misfits=False):
        """A place of its own with its outboxes, and a view on its table, or events that do not fit it; no relay runs yet."""
        self.place = Place(self.servers, name, partitions=4, binary=self.binary)
        self.view = View(self.place) if view else None
        self.misfits = Misfits(self.place) if misfits else None
        for table in self.tables[1:]:
            self.place.execute("SELECT outbox_relay.create_outbox(%s)", table)
        self.servers.create_topics([f"{self.place.name}-foreign"], 1)
        self.replicas = [Replica(self, number + 1) for number in range(self.replica_count)]
        return self

    def start(self, supervised=True):
        self.began = time.monotonic()
        for replica in self.replicas:
            replica.start()
        for replica in self.replicas:
            replica.relay.wait(lambda asked=replica.relay: asked.get("/ready")[0] == 200, f"{replica.name} ready", 60)
        if supervised:
            self._supervisor = threading.Thread(target=self._supervise, daemon=True, name="supervisor")
            self._supervisor.start()
        return self

    def audit(self):
        receipts = f"{self.place.name}-receipts" if self.guarantee == "exactly_once" else None
        return self.place.audit(receipt_topic=receipts, may_lose=self.postgres_killed)

    def write(self, events=None, rate=None, seed=None):
        self.workload = self.place.workload(writers=self.writers, events=events, rate=rate or self.rate, seed=seed or self.seed,
            tables=tuple(self.tables), rollback_share=0.03, unlocked_share=0.05, aggregate_count=300, habits=TORTURE).start()

    def _supervise(self):
        while not self._stop.wait(0.3):
            for replica in self.replicas + self.extra:
                replica.supervise(self.began)

    def end_place(self):
        """Everything of this place but its servers."""
        self._stop.set()
        if self._supervisor is not None:
            self._supervisor.join(10)
        for replica in self.replicas + self.extra:
            replica.close()
        self.replicas, self.extra, self._supervisor = [], [], None
        self._stop = threading.Event()

    def close(self):
        self.end_place()
        if self.workload is not None:
            self.workload.abandon()
        for proxy in self.kafka:
            proxy.close()

    def environment(self, number):
        environment = {}
        if self.faketime and number == 1:
            self.set_clock(0)
            # The monotonic clock goes on: it is the wall clock that jumps.
            environment = {"LD_PRELOAD": self.faketime, "FAKETIME_TIMESTAMP_FILE": self.clock_file, "FAKETIME_CACHE_DURATION": "1",
                           "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}
        return environment

    @property
    def clock_file(self):
        return os.path.join(self.place.folder, "clock")

    def set_clock(self, seconds):
        with open(self.clock_file + ".new", "w", encoding="ascii") as file:
            file.write(f"{seconds:+d}s\n")
        os.rename(self.clock_file + ".new", self.clock_file)

    def sections(self, replica):
        sections = {
            "postgres": {"dsn": make_dsn(self.place.dsn, host="127.0.0.1", port=replica.postgres.port),
                         "connect_timeout": "2s", "statement_timeout": "5s"},
            # Small ones: an outbox that is behind puts several batches into one transaction.
            "outbox": {"table": self.tables[0], "batch_rows": 40},
            "kafka": {"bootstrap.servers": self.servers.env["KAFKA_PROXIED_BOOTSTRAP"], "client.id": replica.name,
                      "session.timeout.ms": 6000, "heartbeat.interval.ms": 1000, "socket.timeout.ms": 4000,
                      "transaction.timeout.ms": 12000, "message.timeout.ms": 7000, "topic.metadata.refresh.interval.ms": 2000},
            "publish": {"guarantee": self.guarantee},
            "insert": {"guarantee": self.guarantee, "linger": "100ms", "batch_rows": 2000},
            # One sends its rows compressed and the next one as they are; a batch may pass from either to the other.
            "clickhouse": {"url": f"http://127.0.0.1:{replica.clickhouse.port}", "connect_timeout": "1s", "request_timeout": "4s",
                           "compression": ("none", "lz4")[replica.number % 2]},
            "breaker": {"open": "1s"},
            "run": {"lease": "3s", "drain_timeout": "15s"},
        }
        for number, table in enumerate(self.tables[1:], 2):
            sections[f"outbox__o{number}"] = {"table": table, "batch_rows": (200, 20, 5000)[number % 3]}
        for section, keys in self.misfits.sections().items() if self.misfits else ():
            sections.setdefault(section, {}).update(keys)
        return sections

    def add_replica(self):
        replica = Replica(self, len(self.replicas) + len(self.extra) + 1)
        self.extra.append(replica)
        replica.start()
        return replica

    def remove_replica(self, replica):
        replica.stop()
        self.extra.remove(replica)
        replica.close()

    def revive(self):
        self.aborts += self.servers.revive()

    # Recovery

    def canary(self, seconds):
        """Writes an event into each outbox and waits until ClickHouse has all of them; returns how long that took. Fails
        when nothing at all has moved for `seconds`. After a quarter of that the writers are held: on a slow machine the
        pipeline would never come through what they go on to write."""
        began = time.monotonic()
        ids = self._until_deadline(self.write_canaries, began + seconds, "writing a canary event")
        listed = ", ".join(f"'{event_id}'" for event_id in ids)
        def arrived():
            self.revive()
            return int(self.place.clickhouse(
                f"SELECT uniqExact(event_id) FROM {{db}}.outbox_events WHERE event_id IN ({listed})")) == len(ids)
        what = f"the canary events {listed} in ClickHouse"
        try:
            self._until_deadline(arrived, began + seconds / 4, what)
        except BenchError:
            self._outwait(arrived, seconds, what)
        return time.monotonic() - began

    def _outwait(self, arrived, stall, what):
        if self.workload is not None:
            self.workload.hold()
        try:
            seen, deadline = None, time.monotonic() + stall
            while True:
                try:
                    moved = self._waiting(), self._inserted()
                except (psycopg2.Error, RuntimeError, OSError):
                    moved = seen
                if moved != seen:
                    seen, deadline = moved, time.monotonic() + stall
                try:
                    return self._until_deadline(arrived, min(deadline, time.monotonic() + min(2, stall / 4)), what)
                except BenchError:
                    if time.monotonic() >= deadline:
                        raise
        finally:
            if self.workload is not None:
                self.workload.resume()

    def write_canaries(self, dsn=None):
        """An event in each outbox; returns their ids."""
        with self.canaries(dsn) as commit:
            return commit()

    def departed(self, ids, dsn=None):
        """How many of these canaries have left their outboxes."""
        waiting = " UNION ALL ".join(f"SELECT id FROM {table} WHERE published_at IS NULL" for table in self.tables)
        with autocommitting(dsn or self.place.dsn) as cursor:
            cursor.execute(f"SELECT count(*) FROM ({waiting}) AS waiting WHERE id = ANY(%s::uuid[])", (ids,))
            return len(ids) - cursor.fetchone()[0]

    @contextlib.contextmanager
    def canaries(self, dsn=None):
        """An event in each outbox, written and not committed: what it gives commits them and returns their ids."""
        ids = [str(uuid.uuid4()) for _ in self.tables]
        connection = psycopg2.connect(dsn or self.place.dsn, connect_timeout=5, application_name=APPLICATION,
                                      options="-c statement_timeout=10s -c lock_timeout=10s")
        def commit():
            connection.commit()
            return ids
        try:
            with connection.cursor() as cursor:
                for event_id, table in zip(ids, self.tables):
                    aggregate = str(uuid.uuid4())
                    cursor.execute(f"INSERT INTO {table} (id, aggregate_type, aggregate_id, event_type, payload) VALUES (%s, 'post', %s, "
                        "'post.canary', jsonb_build_object('aggregate', %s, 'n', 1))", (event_id, aggregate, aggregate))
                    cursor.execute("INSERT INTO workload.journal (event_id, outbox, aggregate, n, judged) VALUES (%s, %s, %s, 1, true)",
                                   (event_id, table, aggregate))
            yield commit
        finally:
            connection.close()

    @staticmethod
    def _until_deadline(action, deadline, what):
        error = None
        while time.monotonic() < deadline:
            try:
                value = action()
                if value:
                    return value
            except (psycopg2.Error, RuntimeError, OSError) as caught:
                error = caught
            time.sleep(0.05)
        raise BenchError(f"{what}: not before the deadline" + (f"; last error: {error}" if error else ""))

    def diagnosis(self):
        """What an engineer would look at first when nothing moves."""
        lines = []
        for replica in self.replicas + self.extra:
            state = "runs" if replica.running() else f"ended with {replica.relay.process.returncode if replica.relay.process else 'no process'}"
            lines.append(f"{replica.name} {state}; health: {replica.relay.get('/health', 2)[1][:1500]}")
            lines += ["    | " + line[:300] for line in replica.relay.log()[-12:]]
        for what, ask in (("outbox rows", lambda: {table: self.place.outbox_rows(table) for table in self.tables}),
                          ("events in ClickHouse", self._inserted), ("INSERTs at work", lambda: self.place.clickhouse(
                              "SELECT query_id, elapsed FROM system.processes WHERE query ILIKE 'INSERT%'").split())):
            try:
                lines.append(f"{what}: {ask()}")
            except (psycopg2.Error, RuntimeError, OSError) as error:
                lines.append(f"{what}: {error}")
        return "\n".join(lines)

    # The quiet end

    def heal_all(self):
        for proxy in self.kafka + [p for r in self.replicas + self.extra for p in (r.postgres, r.clickhouse)]:
            proxy.lift_all()
            proxy.accept()
        self.aim_at_primary()
        if self.kafka_network:
            self.kafka_network.mend()
        for replica in self.replicas:
            replica.signal(signal.SIGCONT)
            replica.start()

    def quiesce(self, stall=40, limit=600):
        """Ends the writers, waits until all that they committed is in ClickHouse, or until nothing has moved for `stall`
        seconds, then stops the relays: nothing can come late. What has not arrived is the audit's to find. Returns in
        words what did not come to rest, or None."""
        self.heal_all()
        self.revive()
        if self.workload is not None:
            self.workload.stop()
        settle_all_prepared(self.place.dsn)
        missing = self._come_to_rest(stall, limit)
        self._stop.set()
        self.stop_replicas()
        wait_until(lambda: int(self.place.clickhouse(
            f"SELECT count() FROM system.processes WHERE query ILIKE 'INSERT%{self.place.name}%'")) == 0, "no INSERT at work in ClickHouse", 60)
        return missing

    def stop_replicas(self):
        """All are told before one is waited for: one that stops alone hands its outboxes to a standby, whose new term may
        publish what the pipeline had left behind, between the verdict on it and the audit."""
        for replica in [one for one in self.replicas + self.extra if one.begin_stop()]:
            replica.end_stop()

    def _come_to_rest(self, stall, limit):
        end = time.monotonic() + limit
        seen, since = None, time.monotonic()
        while True:
            left = self.left()
            if not any(left):
                return None
            if left != seen:
                seen, since = left, time.monotonic()
            if time.monotonic() - since > stall or time.monotonic() > end:
                return (f"the pipeline did not come to rest: {left[0]} rows in the outboxes, {left[1]} events not in ClickHouse, "
                        f"{left[2]} not in its view, and nothing moved for {time.monotonic() - since:.0f} s")
            time.sleep(0.2)

    def left(self):
        """Rows in the outboxes, committed events that ClickHouse has not, rows that the view has not."""
        waiting, inserted = self._waiting(), self._inserted()
        expected = self.place.execute("SELECT count(*) FROM workload.journal")[0][0]
        return waiting, max(0, expected - inserted), max(0, self.view.behind()) if self.view else 0

    def _waiting(self):
        return sum(self.place.outbox_rows(table) for table in self.tables)

    def _inserted(self):
        """Different events in ClickHouse, dead letters of it included, and those that PostgreSQL set aside."""
        rows = int(self.place.clickhouse("SELECT uniqExact(event_id) FROM {db}.outbox_events WHERE NOT JSONHas(payload, 'durable')"))
        aside = int(self.place.clickhouse("SELECT uniqExact(kafka_topic, kafka_partition, kafka_offset) FROM {db}.outbox_relay_dead_letters"))
        weak = self.place.clickhouse("SELECT toString(event_id) FROM {db}.outbox_events WHERE JSONHas(payload, 'durable') GROUP BY event_id FORMAT TSV").split()
        kept = self.place.execute("SELECT count(*) FROM workload.journal WHERE event_id = ANY(%s::uuid[])", weak)[0][0] if weak else 0
        return rows + aside + kept + self.place.execute("SELECT count(*) FROM public.outbox_dead_letters")[0][0]

    def complain(self, text):
        self.complaints.append(text)

    def read_logs(self):
        """Adds what sanitizers and assertions wrote to the logs."""
        for path in sorted(glob.glob(os.path.join(self.place.folder, "*.log"))):
            with open(path, encoding="utf-8", errors="replace") as file:
                for line in [line for line in file if SANITIZER.search(line)][:5]:
                    self.complain(f"{os.path.basename(path)}: {line.strip()[:300]}")

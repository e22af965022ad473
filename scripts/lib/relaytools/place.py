# SPDX-License-Identifier: Apache-2.0
"""A place of its own on shared servers: a PostgreSQL database, a ClickHouse database and a topic prefix that nobody
else uses, with both schemas migrated. Makes tests independent of each other at a second's cost each."""
import contextlib
import os
import re
import tempfile

import psycopg2
from psycopg2.extensions import make_dsn, parse_dsn

from . import audit as audit_module
from .relay import Relay, command, sections_for, wait_until, write_config
from .sessions import execute_each
from .workload import EVENT_TYPES, Workload, prepare


UNPUBLISHED = "SELECT count(*) FROM {} WHERE published_at IS NULL"
_migrated = {}  # by server: a database that holds what `migrate` makes, and that nobody else uses


class Place:
    """copied: PostgreSQL's schema is copied from a place before it on the same server, instead of being migrated once more, which is
    most of what a place costs. For tests of many places; `migrate` has tests of its own."""

    def __init__(self, servers, name, topics=None, partitions=4, binary=None, copied=False):
        self.binary = binary
        self.partitions = partitions
        self.servers, self.name = servers, re.sub(r"[^a-z0-9]", "", name.lower())
        self.prefix = self.name
        self.folder = tempfile.mkdtemp(prefix=f"{self.name}-", dir=servers.folder)
        self.relays = []
        self.writing = []   # what writes beside a test, with an abandon(): it ends with the place at the latest
        self.views = []     # tables of ClickHouse that materialized views on outbox_events fill, to be audited too
        self._create_databases(copied)
        self.topics = [f"{self.prefix}.{kind}.events" for kind in
                       (topics if topics is not None else sorted({t.split(".")[0] for t in EVENT_TYPES}))]
        if self.topics:
            servers.create_topics(self.topics, partitions)
        if copied:
            self._migrate("clickhouse", self.sections())
        else:
            self.migrate()

    def _create_databases(self, copied):
        template = f" TEMPLATE {self._migrated_database()}" if copied else ""
        self._create_database(self.name, template)
        if copied:  # two outboxes of one identity are the original and a copy
            execute_each(self.admin_dsn, "SELECT outbox_relay.renew_identity('public.outbox_events')")
        self.servers.clickhouse(f"DROP DATABASE IF EXISTS {self.name}")
        self.servers.clickhouse(f"CREATE DATABASE {self.name}")

    def _create_database(self, name, template=""):
        execute_each(self.servers.admin_dsn, f"DROP DATABASE IF EXISTS {name}",
            f"CREATE DATABASE {name} OWNER {self.servers.env['POSTGRES_USER']}{template}")

    def _migrated_database(self):
        server = self.servers.admin_dsn
        if server not in _migrated:
            name = "migrated"
            self._create_database(name)
            self._migrate("postgres", dict(self.sections(), postgres={"dsn": make_dsn(**dict(parse_dsn(self.servers.dsn), dbname=name))}))
            _migrated[server] = name
        return _migrated[server]

    @property
    def dsn(self):
        return self._in_database(self.servers.dsn)

    @property
    def admin_dsn(self):
        return self._in_database(self.servers.admin_dsn)

    def _in_database(self, dsn):
        return make_dsn(**dict(parse_dsn(dsn), dbname=self.name))

    def sections(self, **changes):
        sections = sections_for(self.servers, self.prefix)
        sections["postgres"]["dsn"] = self.dsn
        sections["clickhouse"]["database"] = self.name
        # Names of their own in Kafka, so that tests on one cluster do not meet.
        sections["publish"]["receipt_topic"] = f"{self.name}-receipts"
        sections["publish"]["transactional_id"] = self.name
        for section, keys in changes.items():
            sections.setdefault(section.replace("__", " "), {}).update(keys)
        return sections

    def migrate(self):
        for target in ("postgres", "clickhouse"):
            self._migrate(target, self.sections())

    def _migrate(self, target, sections):
        config = write_config(os.path.join(self.folder, "migrate.ini"), sections)
        result = command("migrate", target, "up", config=config, binary=self.binary)
        if result.returncode != 0:
            raise RuntimeError(f"migrate {target}: {result.stdout}{result.stderr}")

    def relay(self, name="relay", binary=None, environment=None, start=True, **changes):
        relay = Relay(self.folder, self.sections(**changes), name, binary or self.binary, environment)
        self.relays.append(relay)
        return relay.start() if start else relay

    def close(self):
        for writer in self.writing:
            writer.abandon()
        for relay in self.relays:
            relay.kill()

    # PostgreSQL

    def connect(self):
        return psycopg2.connect(self.dsn)

    def execute(self, query, *parameters):
        """One statement in its own transaction; its rows, if it has any."""
        connection = self.connect()
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(query, parameters or None)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def insert_event(self, event_type="post.created", payload='{"n": 1}', aggregate=None, table="public.outbox_events",
                     metadata=None):
        """Writes one event; returns its id."""
        return self.execute(f"INSERT INTO {table} (aggregate_type, aggregate_id, event_type, payload, metadata) VALUES "
            "('post', coalesce(%s::uuid, gen_random_uuid()), %s, %s, %s) RETURNING id::text",
            aggregate, event_type, payload, metadata)[0][0]

    def workload(self, **options):
        aggregates = prepare(self.dsn, options.pop("aggregate_count", 200))
        workload = Workload(self.dsn, aggregates, **options)
        self.writing.append(workload)
        return workload

    def outbox_rows(self, table="public.outbox_events"):
        return self.execute(UNPUBLISHED.format(table))[0][0]

    def postgres_log(self, text):
        """The lines of the server's log that have this text."""
        with open(self.servers.env["POSTGRES_LOG"], encoding="utf-8", errors="replace") as file:
            return [line for line in file if text in line]

    # Kafka and ClickHouse

    def records(self):
        """Every visible record of this place's topics."""
        return list(audit_module.read_topics(self.servers.bootstrap, self.prefix + "."))

    def clickhouse(self, query):
        return self.servers.clickhouse(query.replace("{db}", self.name))

    def clickhouse_rows(self, table="outbox_events"):
        return int(self.clickhouse(f"SELECT count() FROM {{db}}.{table}"))

    def wait_published(self, seconds=60):
        """By one session, as a new one costs ten times the question."""
        with contextlib.closing(self.connect()) as connection, connection.cursor() as cursor:
            connection.autocommit = True

            def empty():
                cursor.execute(UNPUBLISHED.format("public.outbox_events"))
                return cursor.fetchone() == (0,)
            wait_until(empty, "the outbox empty", seconds)

    def wait_inserted(self, count, seconds=60, table="outbox_events"):
        """Waits for at least so many rows in ClickHouse; the caller judges whether there are too many."""
        def enough():
            return self.clickhouse_rows(table) >= count
        try:
            wait_until(enough, f"{count} rows in {table}", seconds, every=0.1)
        except TimeoutError as error:
            tail = self.relays[-1].log_tail() if self.relays else ""
            raise TimeoutError(f"{error}; there are {self.clickhouse_rows(table)}\n{tail}") from None

    def audit(self, **options):
        """See audit.audit() for the options."""
        env = self.servers.env
        return audit_module.audit(self.dsn, self.servers.bootstrap, self.prefix + ".", self.partitions,
            self.servers.clickhouse_url, self.name, user=env["CLICKHOUSE_USER"], password=env["CLICKHOUSE_PASSWORD"], views=self.views, **options)

# SPDX-License-Identifier: Apache-2.0
"""Debezium's PostgreSQL connector with its outbox event router, in Kafka Connect standalone, on the same table and broker."""
import os
import signal
import subprocess
import time

import psycopg2
from psycopg2.extensions import parse_dsn

from relaytools.relay import wait_until
from relaytools.servers import ROOT
from relaytools.sessions import autocommitting
from servers.ports import free_port

WORKER = """bootstrap.servers={bootstrap}
key.converter=org.apache.kafka.connect.storage.StringConverter
value.converter=org.apache.kafka.connect.storage.StringConverter
offset.storage.file.filename={folder}/offsets
connector.client.config.override.policy=All
listeners=http://127.0.0.1:{port}
{worker}"""
CONNECTOR = """name={name}
connector.class=io.debezium.connector.postgresql.PostgresConnector
tasks.max=1
database.hostname={host}
database.port={pgport}
database.user={user}
database.password={password}
database.dbname={dbname}
topic.prefix={name}
plugin.name=pgoutput
slot.name={name}
slot.drop.on.stop=false
publication.name={name}
publication.autocreate.mode=filtered
table.include.list={table}
snapshot.mode=no_data
tombstones.on.delete=false
transforms=outbox
transforms.outbox.type=io.debezium.transforms.outbox.EventRouter
transforms.outbox.table.field.event.id=id
transforms.outbox.table.field.event.key=aggregate_id
transforms.outbox.table.field.event.type=event_type
transforms.outbox.table.field.event.payload=payload
transforms.outbox.table.fields.additional.placement=event_type:header,aggregate_type:header,seq:header
transforms.outbox.route.by.field=aggregate_type
transforms.outbox.route.topic.replacement={topic}
producer.override.compression.type=lz4
producer.override.acks=all
{connector}"""
# What its own documentation names for throughput and latency.
TUNED = {"worker": "offset.flush.interval.ms=1000\n", "connector": "poll.interval.ms=10\nmax.batch.size=8192\nmax.queue.size=32768\n"}
AS_IT_COMES = {"worker": "", "connector": ""}


class Debezium:
    """One Connect process. Its slot and offsets stay over stop() and start()."""

    def __init__(self, lab, place, table, settings):
        self.place, self.table = place, table
        self.name = place.name
        self.folder = os.path.join(place.folder, "debezium")
        os.makedirs(self.folder, exist_ok=True)
        self.jars = subprocess.run([os.path.join(ROOT, "scripts/fetch"), "debezium"], check=True, capture_output=True, text=True).stdout.strip()
        self.process = None
        words = parse_dsn(place.admin_dsn)
        values = dict(settings, bootstrap=lab.servers.bootstrap, folder=self.folder, port=free_port(self.folder), name=self.name, host=words["host"], pgport=words["port"],
                      user=words["user"], password=words["password"], dbname=words["dbname"], table=table, topic=place.topics[0])
        for file, template in (("worker", WORKER), ("connector", CONNECTOR)):
            with open(os.open(self._path(file), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:
                out.write(template.format(**values))

    def _path(self, file):
        return os.path.join(self.folder, f"{file}.properties")

    @property
    def pid(self):
        return self.process.pid

    def start(self):
        with open(os.path.join(self.folder, "log"), "ab") as log:
            self.process = subprocess.Popen(["java", "-Xmx1g", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{self.jars}/libs/*",
                                             "org.apache.kafka.connect.cli.ConnectStandalone", self._path("worker"), self._path("connector")],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder)
        return self

    def wait_streaming(self, seconds=120):
        wait_until(self._streams, "Debezium streaming" + self._log_tail(), seconds, every=0.2)
        return self

    def _streams(self):
        if self.process.poll() is not None:
            raise RuntimeError("Debezium ended:" + self._log_tail())
        connection = psycopg2.connect(self.place.admin_dsn)
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT active FROM pg_replication_slots WHERE slot_name = %s", (self.name,))
                found = cursor.fetchone()
                return bool(found and found[0])
        finally:
            connection.close()

    def _log_tail(self):
        try:
            with open(os.path.join(self.folder, "log"), encoding="utf-8", errors="replace") as file:
                return "\n" + "".join(file.readlines()[-15:])
        except OSError:
            return ""

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(20)

    def close(self):
        """The slot would keep WAL for ever, and the database from being dropped."""
        self.stop()
        deadline = time.monotonic() + 30
        with autocommitting(self.place.admin_dsn) as cursor:
            while True:
                try:
                    cursor.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s", (self.name,))
                    break
                except psycopg2.Error:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.2)

# SPDX-License-Identifier: Apache-2.0
"""One folder of real servers, driven through scripts/services."""
import contextlib
import copy
import http.client
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import confluent_kafka.admin

from servers import process
from servers.web import open_direct

from .audit import clickhouse_query
from .last_will import last_will
from .sessions import execute_each

SILENCE = 10.0    # seconds for which a ClickHouse that does not answer may be about to end
REVIVAL = 30.0    # seconds in which a ClickHouse that ends again at once is started again
ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))


class Servers:
    def __init__(self, folder=None, quiet=True):
        self.folder = folder or tempfile.mkdtemp(prefix="outbox-relay-")
        self.quiet = quiet
        self.env = {}
        self.kept = {}      # variables that stand whatever DIR/env says

    def command(self, *arguments, seconds=300):
        """Runs scripts/services; raises with its own words when it fails."""
        # By the Python that runs this: to look for another one, as `env` may do by a script of its own, costs more than all the rest.
        result = subprocess.run([sys.executable, os.path.join(ROOT, "scripts/services"), *arguments, "--dir", self.folder],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE if self.quiet else None, text=True, timeout=seconds)
        if result.returncode != 0:
            raise RuntimeError(f"scripts/services {' '.join(arguments)} failed: {result.stderr or result.stdout}")
        return result.stdout

    def start(self, *services, kafka_nodes=None, kafka_proxy_ports=None, kafka_acls=False, kafka_short_lived=False, kafka_namespaces=False, own_disks=False,
              clickhouse_roles=(), pg_version=None):
        options = ["--kafka-nodes", str(kafka_nodes)] if kafka_nodes else []
        options += ["--pg-version", pg_version] if pg_version else []
        options += ["--kafka-acls"] if kafka_acls else []
        options += ["--kafka-namespaces"] if kafka_namespaces else []
        options += ["--own-disks"] if own_disks else []
        options += ["--kafka-short-lived"] if kafka_short_lived else []
        options += ["--clickhouse-roles", ",".join(clickhouse_roles)] if clickhouse_roles else []
        options += ["--kafka-proxy-ports", ",".join(str(port) for port in kafka_proxy_ports)] if kafka_proxy_ports else []
        self.command("start", *services, *options)
        self._read_env()
        return self

    def _read_env(self):
        for line in self.command("env").splitlines():
            for word in shlex.split(line):
                name, equals, value = word.partition("=")
                if equals:
                    self.env[name] = value
        self.env.update(self.kept)

    def with_postgres_of(self, other):
        """These servers, but PostgreSQL is the other's; neither of the two is changed."""
        mixed = copy.copy(self)
        mixed.env = dict(self.env, **{name: value for name, value in other.env.items() if name.startswith(("PG", "POSTGRES_"))})
        return mixed

    def runs(self, service):
        """Whether a server of one process (postgres, clickhouse) is there."""
        try:
            with open(self.env[f"{service.upper()}_PID_FILE"], encoding="ascii") as file:
                os.kill(int(file.read().split()[0]), 0)
        except (OSError, ValueError, IndexError):
            return False
        return True

    def revive(self):
        """Starts ClickHouse again where it has ended by itself, as an init system would: the library that serves it here aborts
        now and then when a body is cut that input() reads. It may take seconds to go, so one that is silent is given some time.
        Returns whether it was gone."""
        deadline = time.monotonic() + SILENCE
        while self.runs("clickhouse"):
            if self._clickhouse_answers() or time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        # The next cut body may end it again before it is up.
        deadline = time.monotonic() + REVIVAL
        while True:
            try:
                self.start("clickhouse")
                return True
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise

    def recover(self, *services):
        """Has these servers running whatever a test that failed left of them: dead ones are started, paused ones go on."""
        self.start(*services)
        self.command("resume", *services)

    def _clickhouse_answers(self):
        try:
            with open_direct(self.clickhouse_url + "/ping", 1):
                return True
        except (OSError, http.client.HTTPException):
            return False

    def kill(self, service):
        self.command("kill", service)

    def kill_at_once(self, service):
        """As kill(), of a server of one process (postgres, clickhouse), without a tool that has to start first."""
        with open(self.env[f"{service.upper()}_PID_FILE"], encoding="ascii") as file:
            members = process.tree(int(file.read().split()[0]))
        process.send(members, signal.SIGKILL)
        if not process.wait_gone(members, 60):
            raise RuntimeError(f"{service} does not go away even by SIGKILL")

    def restart(self, service):
        self.command("restart", service)

    def pause(self, service):
        self.command("pause", service)

    def resume(self, service):
        self.command("resume", service)

    def reset(self):
        self.command("reset")

    def remove(self):
        """Nothing of them is left, their folder included."""
        self.reset()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def dsn(self):
        return self.env["POSTGRES_DSN"]

    @property
    def admin_dsn(self):
        return self.env["POSTGRES_ADMIN_DSN"]

    @property
    def bootstrap(self):
        return self.env["KAFKA_BOOTSTRAP"]

    @property
    def clickhouse_url(self):
        return self.env["CLICKHOUSE_URL"]

    @property
    def clickhouse_database(self):
        return self.env["CLICKHOUSE_DATABASE"]

    def clickhouse(self, query, timeout=60):
        return clickhouse_query(self.clickhouse_url, query, self.env["CLICKHOUSE_USER"], self.env["CLICKHOUSE_PASSWORD"],
            timeout)

    def create_topics(self, names, partitions=4, config=None):
        """Creates topics and waits until the cluster has them; those that exist are left as they are."""
        admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 4})
        replicas = min(3, int(self.env.get("KAFKA_NODES", "1")))
        wanted = [confluent_kafka.admin.NewTopic(name, partitions, replicas, config=config or {}) for name in names]
        for name, future in admin.create_topics(wanted, operation_timeout=30).items():
            try:
                future.result(60)
            except confluent_kafka.KafkaException as error:
                if error.args[0].code() != confluent_kafka.KafkaError.TOPIC_ALREADY_EXISTS:
                    raise RuntimeError(f"cannot create topic {name}: {error}") from error


_temporary = []


@contextlib.contextmanager
def temporary_servers(*services, **options):
    """Servers for as long as the `with` block; nothing of them is left behind, but for their folder where somebody wants to look."""
    servers = Servers()
    with last_will(servers.folder, "stop" if _kept() else "reset"):
        _temporary.append(servers)
        try:
            servers.start(*services, kafka_short_lived=True, **options)
            if not services or "postgres" in services:
                # It would look at each of hundreds of databases of tests that have ended, several a second.
                execute_each(servers.admin_dsn, "ALTER SYSTEM SET autovacuum_naptime = '10min'", "SELECT pg_reload_conf()")
            yield servers
        finally:
            _temporary.remove(servers)
            _end(servers)


def _kept():
    """What scripts/test --keep sets."""
    return bool(os.environ.get("RELAY_TEST_KEEP"))


def _end(servers):
    if _kept():
        servers.command("stop")
    else:
        servers.remove()


def reset_temporary_servers():
    """For a process that ends at once: what the `with` blocks would have done."""
    for servers in _temporary:
        _end(servers)

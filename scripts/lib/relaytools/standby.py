# SPDX-License-Identifier: Apache-2.0
"""A streaming standby of one set's PostgreSQL, beside it in the same folder: follows it, is cut off, is promoted."""
import os
import shutil
import signal

import psycopg2
from psycopg2.extensions import make_dsn, parse_dsn

from servers import process

from .relay import wait_until
from .sessions import execute_each

NAME = "standby"    # its application_name at the primary, and of its processes' files


class Standby:
    """`servers`: whose POSTGRES_* variables name the primary. start() lets them name both servers from then on, for whichever
    is the primary, so that everything that reads them follows a failover."""

    def __init__(self, servers):
        self.servers = servers
        self.folder = os.path.join(servers.folder, NAME)
        self.data = os.path.join(self.folder, "data")
        self.primary_dsn = servers.admin_dsn
        self.port = process.free_port({int(servers.env["PGPORT"])})
        self.dsn = make_dsn(self.primary_dsn, port=self.port)
        self.process = process.Process(os.path.join(servers.folder, "run"), os.path.join(servers.folder, "log"), NAME)
        self.primary_process = process.Process(os.path.join(servers.folder, "run"), os.path.join(servers.folder, "log"), "postgres")

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def start(self):
        os.makedirs(self.folder)
        process.give_to(process.unprivileged(), self.folder)
        process.run("pg_basebackup", [self._binary("pg_basebackup"), "-D", self.data, "-R", "-X", "stream", "-c", "fast", "--no-sync",
            "-d", make_dsn(self.primary_dsn, application_name=NAME)], self.process.log, 120, process.unprivileged(), self._environment(),
            self.folder)
        self.run()
        for name in ("POSTGRES_DSN", "POSTGRES_ADMIN_DSN"):
            self.servers.env[name] = self.with_both(self.servers.env[name])
        return self

    def run(self):
        """Also again, after stop()."""
        self.process.launch([self._binary("postgres"), "-D", self.data, "-p", str(self.port)], user=process.unprivileged(),
            env=self._environment(), cwd=self.folder)
        self.process.wait_ready(self._probe, 90, "the standby")

    def stop(self):
        self.process.stop(signal.SIGINT, 30)

    def with_both(self, dsn):
        """The dsn of whichever of the two is the primary; the old primary is the first that it names."""
        host, port = parse_dsn(dsn)["host"], parse_dsn(dsn)["port"]
        return make_dsn(dsn, host=f"{host},{host}", port=f"{port},{self.port}", target_session_attrs="read-write")

    def _binary(self, name):
        return os.path.join(self.servers.env["POSTGRES_BIN"], name)

    def _environment(self):
        return {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC", "HOME": self.folder}

    def _probe(self):
        try:
            self.execute("SELECT 1")
            return None
        except psycopg2.OperationalError as error:
            return str(error)

    def execute(self, *statements, dsn=None):
        """On the standby, as the superuser, outside of a transaction; the rows of the last statement."""
        return execute_each(dsn or self.dsn, *statements)

    def on_primary(self, *statements):
        return self.execute(*statements, dsn=self.primary_dsn)

    def make_synchronous(self):
        """From now on no COMMIT at the primary returns before the standby has it."""
        self.on_primary(f"ALTER SYSTEM SET synchronous_standby_names = '{NAME}'", "SELECT pg_reload_conf()")
        wait_until(lambda: self.on_primary("SELECT sync_state FROM pg_stat_replication") == [("sync",)], "a synchronous standby")

    def wait_caught_up(self):
        """Until it has what the primary has at this moment."""
        position = self.on_primary("SELECT pg_current_wal_flush_lsn()")[0][0]
        wait_until(lambda: self.execute(f"SELECT pg_last_wal_replay_lsn() >= '{position}'") == [(True,)], "the standby caught up", 60)

    def cut_off(self):
        """It receives nothing more: what the primary commits from here on is not on it."""
        self.execute("ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()")
        wait_until(lambda: self.execute("SELECT count(*) FROM pg_stat_wal_receiver") == [(0,)], "no replication")

    def kill_primary(self):
        """SIGKILL to the primary's whole process tree."""
        self.primary_process.kill()

    def promote(self):
        if self.execute("SELECT pg_promote(true, 60)") != [(True,)]:
            raise RuntimeError(f"the standby was not promoted; the end of {self.process.log}:\n{process.tail(self.process.log)}")

    def remove(self):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

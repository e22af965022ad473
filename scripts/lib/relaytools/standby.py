# SPDX-License-Identifier: Apache-2.0
"""A streaming standby of one set's PostgreSQL, beside it in the same folder: follows it, is cut off, is promoted, and changes
places with it."""
import os
import shutil
import signal

import psycopg2
from psycopg2.extensions import make_dsn, parse_dsn

from servers import process
from servers.ports import free_port
from servers.postgres import clear_remains, environment

from .relay import wait_until
from .sessions import execute_each

NAME = "standby"    # its application_name at the primary, and of its processes' files


class Seat:
    """Where one of the two servers lives, whichever of them is the primary."""

    def __init__(self, servers, name, port):
        self.folder = os.path.join(servers.folder, name)
        self.data = os.path.join(self.folder, "data")
        self.port = port
        self.dsn = make_dsn(servers.admin_dsn, port=port)
        self.process = process.Process(os.path.join(servers.folder, "run"), os.path.join(servers.folder, "log"), name)
        self._binaries = servers.env["POSTGRES_BIN"]

    def copy_of(self, other):
        """Its data is now a base backup of the other, which it follows once it runs."""
        shutil.rmtree(self.data, ignore_errors=True)
        os.makedirs(self.folder, exist_ok=True)
        process.give_to(process.unprivileged(), self.folder)
        process.run("pg_basebackup", [os.path.join(self._binaries, "pg_basebackup"), "-D", self.data, "-R", "-X", "stream", "-c", "fast",
            "--no-sync", "-d", make_dsn(other.dsn, application_name=NAME)], self.process.log, 120, process.unprivileged(),
            environment(self.folder), self.folder)
        with open(os.path.join(self.data, "postgresql.auto.conf"), "a", encoding="utf-8") as file:
            # Promoted, it waits for no standby before it has one; it soon asks again for a primary that was away; and it does not have all
            # that was copied written to the disk first: what is killed here leaves the page cache.
            file.write("synchronous_standby_names = ''\nwal_retrieve_retry_interval = '300ms'\nfsync = off\n")

    def start(self):
        clear_remains(self.data)
        self.process.launch([os.path.join(self._binaries, "postgres"), "-D", self.data, "-p", str(self.port)], user=process.unprivileged(),
            env=environment(self.folder), cwd=self.folder)
        self.process.wait_ready(self._probe, 90, f"PostgreSQL in {self.folder}")

    def _probe(self):
        try:
            execute_each(self.dsn, "SELECT 1")
            return None
        except psycopg2.OperationalError as error:
            return str(error)

    def stop(self):
        self.process.stop(signal.SIGINT, 30)

    def restart(self):
        self.stop()
        self.start()

    def kill(self):
        """SIGKILL to its whole process tree."""
        self.process.kill()

    def pause(self):
        self.process.pause()

    def resume(self):
        self.process.resume()


class Standby:
    """`servers`: whose POSTGRES_* variables name the primary. start() lets them name both servers from then on, for whichever
    is the primary, so that everything that reads them follows a failover."""

    def __init__(self, servers):
        self.servers = servers
        port = int(servers.env["PGPORT"])
        self.primary = Seat(servers, "postgres", port)
        self.own = Seat(servers, NAME, free_port(servers.folder))

    @property
    def dsn(self):
        return self.own.dsn

    @property
    def primary_dsn(self):
        return self.primary.dsn

    @property
    def port(self):
        return self.own.port

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def start(self):
        self.own.copy_of(self.primary)
        self.run()
        for name in ("POSTGRES_DSN", "POSTGRES_ADMIN_DSN"):
            self.servers.kept[name] = self.servers.env[name] = self.with_both(self.servers.env[name])
        return self

    def run(self):
        """Also again, after stop()."""
        self.own.start()

    def stop(self):
        self.own.stop()

    def with_both(self, dsn):
        """The dsn of whichever of the two is the primary; the old primary is the first that it names."""
        host, port = parse_dsn(dsn)["host"], parse_dsn(dsn)["port"]
        return make_dsn(dsn, host=f"{host},{host}", port=f"{port},{self.port}", target_session_attrs="read-write")

    def execute(self, *statements, dsn=None):
        """On the standby, as the superuser, outside of a transaction; the rows of the last statement."""
        return execute_each(dsn or self.dsn, *statements)

    def on_primary(self, *statements):
        return self.execute(*statements, dsn=self.primary_dsn)

    def make_synchronous(self):
        """From now on no COMMIT at the primary returns before the standby has it."""
        self.on_primary(f"ALTER SYSTEM SET synchronous_standby_names = '{NAME}'", "SELECT pg_reload_conf()")
        self.wait_synchronous()

    def wait_synchronous(self):
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
        self.primary.kill()

    def promote(self):
        if self.execute("SELECT pg_promote(true, 60)") != [(True,)]:
            log = self.own.process.log
            raise RuntimeError(f"the standby was not promoted; the end of {log}:\n{process.tail(log)}")

    def change_places(self):
        """After promote(), when the old primary has ended: this is the standby of the one that was promoted, where the old one was."""
        self.own, self.primary = self.primary, self.own
        self.own.copy_of(self.primary)
        self.run()

    def remove(self):
        self.stop()
        shutil.rmtree(self.own.folder, ignore_errors=True)

# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL: the distribution's by default, or a pinned one of another major version from the cache.

initdb refuses root, so as root everything runs as the system user postgres (or nobody). Listens on TCP only,
scram-sha-256 for everybody; a superuser `postgres`, and a role `relay` without privileges of its own that
owns the database `outbox_relay`.
"""

import glob
import os
import secrets
import shutil
import signal
import subprocess

from . import process
from .ports import free_port

SETTINGS = """
# Written by scripts/services at the first start.
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
password_encryption = 'scram-sha-256'
max_connections = 200
max_prepared_transactions = 50
shared_buffers = '128MB'
max_wal_size = '2GB'
fsync = on
synchronous_commit = on
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] %u@%d/%a '
log_lock_waits = on
"""


def environment(folder):
    """What a server of PostgreSQL and its tools find around them."""
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC", "HOME": folder}


def clear_remains(data):
    """After a crash: the lock file names a process that is gone but perhaps not yet reaped, which PostgreSQL
    takes for alive. Remove it only when nothing works in the data folder any more."""
    left = process.working_in(os.path.realpath(data))
    if not process.wait_gone(left, 10):
        raise process.ServerError(f"processes of an earlier PostgreSQL still work in {data}: {', '.join(str(pid) for pid, _ in left)}; end them first")
    try:
        os.unlink(os.path.join(data, "postmaster.pid"))
    except FileNotFoundError:
        pass


def distribution_bin():
    """The newest /usr/lib/postgresql/N/bin with a server in it, or None."""
    found = [path for path in glob.glob("/usr/lib/postgresql/*/bin") if os.path.exists(os.path.join(path, "postgres"))]
    return max(found, key=lambda path: int(path.split("/")[4])) if found else None


class Postgres:
    name = "postgres"

    def __init__(self, instance):
        self.instance = instance
        self.folder = os.path.join(instance.folder, "postgres")
        self.data = os.path.join(self.folder, "data")
        self.process = instance.process("postgres")
        self.processes = [self.process]

    def configure(self, options):
        settings = self.instance.settings(self.name)
        wanted = options.pg_version
        if not settings:
            settings.update(port=free_port(self.instance.folder), version=wanted or "distribution", superuser_password=secrets.token_hex(12),
                            password=secrets.token_hex(12))
        elif wanted and wanted != settings["version"] and os.path.exists(self.data):
            raise process.ServerError(f"{self.folder} holds data of PostgreSQL {settings['version']}; `scripts/services reset` before starting {wanted}, or use another --dir")

    def prepare(self):
        """The folder of the binaries, fetched when it must be."""
        settings = self.instance.settings(self.name)
        version, here = settings["version"], distribution_bin()
        if version != "distribution" and not (here and here.split("/")[4] == version):
            fetched = os.path.join(self.instance.fetch("postgres-" + version), "bin")
            settings["bin"] = self._reachable(fetched)
        elif here:
            settings["bin"] = here
        else:
            raise process.ServerError("PostgreSQL is not installed: run scripts/setup, or give --pg-version 13 to 18")

    def _reachable(self, binaries):
        """The binaries in the cache, or a copy beside the data when the server's user cannot reach root's cache."""
        user = process.unprivileged()
        if user is None or self._allowed(user, os.path.join(binaries, "postgres")):
            return binaries
        copy = os.path.join(self.instance.folder, "postgres-binaries")
        if not os.path.exists(copy):
            shutil.copytree(os.path.dirname(binaries), copy + ".part", symlinks=True)
            os.rename(copy + ".part", copy)
        return os.path.join(copy, "bin")

    @staticmethod
    def _allowed(user, path):
        return subprocess.run(["test", "-x", path], check=False, cwd="/", **process.as_user(user)).returncode == 0

    def start(self):
        settings, user = self.instance.settings(self.name), process.unprivileged()
        os.makedirs(self.folder, exist_ok=True)
        process.give_to(user, self.folder)
        if user and not self._allowed(user, self.folder):
            raise process.ServerError(f"PostgreSQL runs as user {user.pw_name}, who cannot enter {self.folder}; give a --dir whose parent folders others may enter (chmod o+x)")
        first = not os.path.exists(os.path.join(self.data, "PG_VERSION"))
        if first:
            self._initdb(settings, user)
        clear_remains(self.data)
        self.process.launch([os.path.join(settings["bin"], "postgres"), "-D", self.data, "-p", str(settings["port"])],
                            user=user, env=environment(self.folder), cwd=self.folder)
        self.process.wait_ready(self._probe, 90, "PostgreSQL")
        if first or not settings.get("created"):
            self._create_role(settings)
            settings["created"] = True

    def _initdb(self, settings, user):
        shutil.rmtree(self.data, ignore_errors=True)
        password_file = os.path.join(self.folder, "superuser-password")
        with open(os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
            file.write(settings["superuser_password"] + "\n")
        process.give_to(user, password_file)
        process.run("initdb", [os.path.join(settings["bin"], "initdb"), "-D", self.data, "-U", "postgres", "--pwfile", password_file,
                               "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"],
                    self.process.log, 120, user, environment(self.folder), self.folder)
        os.unlink(password_file)
        with open(os.path.join(self.data, "postgresql.conf"), "a", encoding="utf-8") as file:
            file.write(SETTINGS)

    def psql(self, sql, database="postgres", seconds=30):
        """Run SQL as the superuser; (exit code, output)."""
        settings = self.instance.settings(self.name)
        environment = dict(os.environ, PGPASSWORD=settings["superuser_password"], PGCONNECT_TIMEOUT="2")
        try:
            done = subprocess.run(["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(settings["port"]),
                                   "-U", "postgres", "-d", database], input=sql, env=environment, text=True, capture_output=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired:
            return 1, f"no answer within {seconds} s"
        return done.returncode, (done.stdout + done.stderr).strip()

    def _probe(self):
        code, text = self.psql("SELECT 1", seconds=5)
        return None if code == 0 else text or "no answer"

    def _create_role(self, settings):
        code, text = self.psql("DROP DATABASE IF EXISTS outbox_relay; DROP ROLE IF EXISTS relay;\n"
                               f"CREATE ROLE relay LOGIN PASSWORD '{settings['password']}';\nCREATE DATABASE outbox_relay OWNER relay;")
        if code != 0:
            raise process.ServerError(f"PostgreSQL runs, but making the role and database failed: {text}")

    def stop(self, process_=None):
        return (process_ or self.process).stop(signal.SIGINT, 30)

    def discard(self, process_):
        # Killed, it would leave its shared memory behind; immediate shutdown writes no checkpoint either.
        return process_.stop(signal.SIGQUIT, 30)

    def describe(self):
        settings = self.instance.settings(self.name)
        return {"postgres": f"127.0.0.1:{settings['port']}"}

    def env(self):
        s = self.instance.settings(self.name)
        target = f"host=127.0.0.1 port={s['port']} dbname=outbox_relay"
        return {
            "PGHOST": "127.0.0.1", "PGPORT": s["port"], "PGDATABASE": "outbox_relay",
            "POSTGRES_USER": "relay", "POSTGRES_PASSWORD": s["password"],
            "POSTGRES_DSN": f"{target} user=relay password={s['password']}",
            "POSTGRES_ADMIN_USER": "postgres", "POSTGRES_ADMIN_PASSWORD": s["superuser_password"],
            "POSTGRES_ADMIN_DSN": f"{target} user=postgres password={s['superuser_password']}",
            "POSTGRES_BIN": s["bin"], "POSTGRES_PID_FILE": self.process.pid_file, "POSTGRES_LOG": self.process.log,
        }

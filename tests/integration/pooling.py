# SPDX-License-Identifier: Apache-2.0
"""A pgbouncer of its own before the PostgreSQL of a place."""
import contextlib
import os
import shutil
import subprocess

import psycopg2
import pytest

from relaytools.relay import wait_until
from servers import process
from servers.ports import free_port

BINARY = shutil.which("pgbouncer", path=os.environ["PATH"] + ":/usr/sbin")
needs_pgbouncer = pytest.mark.skipif(BINARY is None, reason="pgbouncer is not installed")


@contextlib.contextmanager
def pooler(place, mode, entry=None, **settings):
    """The dsn of the place through it. entry: another name for its database there."""
    env = place.servers.env
    port = free_port(place.folder)
    with open(os.path.join(place.folder, "users"), "w", encoding="utf-8") as file:
        file.write(f'"{env["POSTGRES_USER"]}" "{env["POSTGRES_PASSWORD"]}"\n')
    config = os.path.join(place.folder, "pgbouncer.ini")
    with open(config, "w", encoding="utf-8") as file:
        own = f"{entry} = host=127.0.0.1 port={env['PGPORT']} dbname={place.name}\n" if entry else ""
        file.write(f"[databases]\n{own}* = host=127.0.0.1 port={env['PGPORT']}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n"
                   f"unix_socket_dir =\nauth_type = plain\nauth_file = {place.folder}/users\npool_mode = {mode}\n"
                   "ignore_startup_parameters = extra_float_digits,options\n" + "".join(f"{key} = {value}\n" for key, value in settings.items()))
    user = ["-u", "postgres"] if os.getuid() == 0 else []
    if user:
        for path in (place.folder, os.path.dirname(place.folder)):
            os.chmod(path, 0o755)
    log = os.path.join(place.folder, "pgbouncer.log")
    with open(log, "wb") as output:
        running = subprocess.Popen([BINARY, *user, config], stdout=output, stderr=output)
    try:
        dsn = psycopg2.extensions.make_dsn(place.dsn, host="127.0.0.1", port=port)

        def answers():
            try:
                psycopg2.connect(dsn).close()
                return True
            except psycopg2.OperationalError:
                return False
        try:
            wait_until(answers, "pgbouncer answers")
        except TimeoutError as error:
            raise TimeoutError(f"{error}; its log:\n{process.tail(log)}") from None
        yield dsn
    finally:
        running.terminate()
        running.wait(60)


def left_in_sessions(dsn):
    """What the next client of the pool finds in the sessions that were used before: settings that are not the defaults, and locks."""
    connection = psycopg2.connect(dsn)
    connection.autocommit = True
    found = set()
    try:
        with connection.cursor() as cursor:
            for _ in range(8):   # a pool of several may hand out one after another
                cursor.execute("SELECT name, setting FROM pg_settings WHERE source = 'session' AND name NOT IN ('application_name', 'client_encoding') "
                               "UNION ALL SELECT 'advisory lock', pid::text FROM pg_locks WHERE locktype = 'advisory' "
                               "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())")
                found.update(cursor.fetchall())
    finally:
        connection.close()
    return sorted(found)

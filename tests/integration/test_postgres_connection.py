# SPDX-License-Identifier: Apache-2.0
"""Connections with deadlines, in C, against the real PostgreSQL."""
import os
import subprocess

from psycopg2.extensions import parse_dsn

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))


def test_connections_and_their_deadlines(servers):
    build = os.path.dirname(os.environ.get("RELAY_BINARY") or os.path.join(ROOT, "build/outbox-relay"))
    subprocess.run(["ninja", "-C", build, "tests/integration/postgres_connection"], check=True, stdout=subprocess.DEVNULL)
    parts = parse_dsn(servers.admin_dsn)
    environment = dict(os.environ, POSTGRES_DSN=servers.admin_dsn, PGHOST=parts["host"], PGPORT=str(parts["port"]),
                       PGUSER=parts["user"], PGDATABASE=parts["dbname"],
                       PGPASSWORD=parts["password"])
    result = subprocess.run([os.path.join(build, "tests/integration/postgres_connection")], env=environment,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    assert result.returncode == 0, result.stdout
    assert "Failing: 0" in result.stdout and "Passing: 0" not in result.stdout, result.stdout

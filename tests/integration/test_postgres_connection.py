# SPDX-License-Identifier: Apache-2.0
"""Connections with deadlines, in C, against the real PostgreSQL."""
import contextlib
import os

import pytest
from psycopg2.extensions import make_dsn, parse_dsn

from c_tests import run_c_tests
from relaytools.proxy import TO_SERVER, Proxy, Rule
from relaytools.relay import command, write_config


@pytest.mark.postgres_versions
def test_connections_and_their_deadlines(place):
    parts = parse_dsn(place.admin_dsn)
    run_c_tests("postgres_connection", {"POSTGRES_DSN": place.admin_dsn, "PGHOST": parts["host"], "PGPORT": parts["port"],
                                        "PGUSER": parts["user"], "PGDATABASE": parts["dbname"], "PGPASSWORD": parts["password"]})


def test_a_server_that_cannot_tell_whether_a_client_is_gone(place):
    """As on Windows, where client_connection_check_interval can only be 0: here another value is refused, with the same SQLSTATE."""
    parts = parse_dsn(place.dsn)
    with contextlib.closing(Proxy((parts["host"], int(parts["port"])))) as proxy:
        rule = Rule(directions=(TO_SERVER,), replace=(b"client_connection_check_interval = 5000", b"client_connection_check_interval = -500"))
        proxy.add(rule)
        dsn = make_dsn(place.dsn, host="127.0.0.1", port=proxy.port, sslmode="disable")
        config = write_config(os.path.join(place.folder, "windows.ini"), place.sections(postgres={"dsn": dsn}))
        result = command("dead-letters", "list", "--stage", "publish", config=config, binary=place.binary)
    assert rule.hits and result.returncode == 0, result.stdout + result.stderr

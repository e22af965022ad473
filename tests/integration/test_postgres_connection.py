# SPDX-License-Identifier: Apache-2.0
"""Connections with deadlines, in C, against the real PostgreSQL."""
import pytest
from psycopg2.extensions import parse_dsn

from c_tests import run_c_tests


@pytest.mark.postgres_versions
def test_connections_and_their_deadlines(place):
    parts = parse_dsn(place.admin_dsn)
    run_c_tests("postgres_connection", {"POSTGRES_DSN": place.admin_dsn, "PGHOST": parts["host"], "PGPORT": parts["port"],
                                        "PGUSER": parts["user"], "PGDATABASE": parts["dbname"], "PGPASSWORD": parts["password"]})

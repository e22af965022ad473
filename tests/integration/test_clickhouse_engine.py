# SPDX-License-Identifier: Apache-2.0
"""The ClickHouse client, schema reader and encoder, in C, against the real engine."""
from c_tests import run_c_tests


def test_client_schema_and_every_type(servers):
    run_c_tests("clickhouse_engine", {f"CLICKHOUSE_{name}": servers.env[f"CLICKHOUSE_{name}"] for name in ("URL", "USER", "PASSWORD", "ODD_USER", "NARROW_USER")})

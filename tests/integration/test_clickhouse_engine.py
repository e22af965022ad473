# SPDX-License-Identifier: Apache-2.0
"""The ClickHouse client, schema reader and encoder, in C, against the real engine."""
from c_tests import run_c_tests


def of_clickhouse(servers, *names):
    return {f"CLICKHOUSE_{name}": servers.env[f"CLICKHOUSE_{name}"] for name in names}


def test_client_schema_and_every_type(servers):
    run_c_tests("clickhouse_engine", of_clickhouse(servers, "URL", "USER", "PASSWORD", "ODD_USER", "NARROW_USER"))


def test_values_are_those_of_json_each_row(servers):
    run_c_tests("clickhouse_json", of_clickhouse(servers, "URL", "USER", "PASSWORD"))

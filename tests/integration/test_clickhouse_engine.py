# SPDX-License-Identifier: Apache-2.0
"""The ClickHouse client, schema reader and encoder, in C, against the real engine."""
import os
import subprocess

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))


def test_client_schema_and_every_type(servers):
    build = os.path.dirname(os.environ.get("RELAY_BINARY") or os.path.join(ROOT, "build/outbox-relay"))
    subprocess.run(["ninja", "-C", build, "tests/integration/clickhouse_engine"], check=True, stdout=subprocess.DEVNULL)
    names = ("CLICKHOUSE_URL", "CLICKHOUSE_USER", "CLICKHOUSE_PASSWORD")
    environment = dict(os.environ, **{name: servers.env[name] for name in names})
    result = subprocess.run([os.path.join(build, "tests/integration/clickhouse_engine")], env=environment,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
    assert result.returncode == 0, result.stdout
    assert "Failing: 0" in result.stdout and "Passing: 0" not in result.stdout, result.stdout

# SPDX-License-Identifier: Apache-2.0
"""migrate clickhouse: tables that were dropped, and that files on record have made."""
import os

import pytest

from migrating import own_schemas, run, states


def test_a_clickhouse_table_that_was_dropped_is_made_again(place):
    """What check and the daemon say of a missing table. The files are on record all the same."""
    before = place.clickhouse("SELECT name, type FROM system.columns WHERE database = '{db}' AND table = 'outbox_relay_dead_letters'")
    place.clickhouse("DROP TABLE {db}.outbox_relay_dead_letters")
    assert states(run(place, "clickhouse", "status").stdout)[-3:] == ["applied", "MISSING", "MISSING"]
    would = run(place, "clickhouse", "--dry-run").stdout
    assert "would run 002" in would and "would run 003" in would and "would run 001" not in would, would
    done = run(place, "clickhouse")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "table outbox_relay_dead_letters is not there" in done.stderr and "UNDROP TABLE outbox_relay_dead_letters" in done.stderr, done.stderr
    assert before == place.clickhouse("SELECT name, type FROM system.columns WHERE database = '{db}' AND table = 'outbox_relay_dead_letters'")
    assert "nothing to do" in run(place, "clickhouse").stdout
    place.clickhouse("DROP TABLE {db}.outbox_events")
    assert run(place, "clickhouse", "--to", "1").returncode == 0
    assert place.clickhouse("EXISTS TABLE {db}.outbox_events").strip() == "1"
    assert states(run(place, "clickhouse", "status").stdout) == ["applied", "applied", "applied"]


def test_a_clickhouse_table_that_nothing_fills_may_be_gone(place):
    place.clickhouse("DROP TABLE {db}.outbox_events")
    place.clickhouse("RENAME TABLE {db}.outbox_relay_dead_letters TO {db}.letters")
    section = {"route default": {"enabled": "false"}, "insert": {"dead_letter_table": "letters"},
               "route own": {"table": "own", "topics": "own", "column.i": "header.seq"}}
    done = run(place, "clickhouse", **section)
    assert done.returncode == 0 and "nothing to do" in done.stdout, done.stdout + done.stderr
    assert states(run(place, "clickhouse", "status", **section).stdout) == ["applied", "applied", "applied"]
    assert place.clickhouse("SHOW TABLES FROM {db}").split() == ["letters", "outbox_relay_migrations"]


def test_a_file_that_would_not_do_the_same_again_is_left_to_the_operator(place):
    folder = own_schemas(place)
    own = os.path.join(folder, "clickhouse/004_own.up.sql")
    text = "CREATE TABLE IF NOT EXISTS `own` (i Int64) ENGINE = MergeTree ORDER BY i;\nINSERT INTO other VALUES (1);\n"
    section = {"route own": {"table": place.name + ".own", "topics": "own", "column.i": "header.seq"}}

    def up():
        return run(place, "clickhouse", "--schemas", folder, **section)
    place.clickhouse("CREATE TABLE {db}.other (i Int64) ENGINE = MergeTree ORDER BY i")
    with open(own, "w", encoding="utf-8") as file:
        file.write(text)
    assert up().returncode == 0
    place.clickhouse("DROP TABLE {db}.own")
    told = up()
    assert told.returncode == 1 and "004_own.up.sql, line 2" in told.stderr and "by hand" in told.stderr, told.stderr
    with open(own, "w", encoding="utf-8") as file:
        file.write(text.split("INSERT")[0])
    told = up()
    assert told.returncode == 1 and "has changed since" in told.stderr and "by hand" in told.stderr, told.stderr
    assert place.clickhouse("SELECT count() FROM {db}.other").strip() == "1"
    place.clickhouse("CREATE TABLE {db}.own (i Int64) ENGINE = MergeTree ORDER BY i")
    assert "nothing to do" in up().stdout


@pytest.mark.parametrize("beside", [
    "CREATE OR REPLACE TABLE other (i Int64) ENGINE = MergeTree ORDER BY i",
    "ALTER TABLE other UPDATE j = j * 100 WHERE 1",
    "CREATE VIEW own_view AS SELECT 1"], ids=["replace", "alter", "view"])
def test_a_file_that_would_touch_what_is_there_is_left_to_the_operator(place, beside):
    """Beside the lost table it makes or alters others, which are there and full."""
    folder = own_schemas(place)
    with open(os.path.join(folder, "clickhouse/004_own.up.sql"), "w", encoding="utf-8") as file:
        file.write(f"CREATE TABLE own (i Int64) ENGINE = MergeTree ORDER BY i;\n{beside};\n")
    with open(os.path.join(folder, "clickhouse/005_later.up.sql"), "w", encoding="utf-8") as file:
        file.write("CREATE TABLE later (i Int64) ENGINE = MergeTree ORDER BY i;\n")
    section = {"route own": {"table": "own", "topics": "own", "column.i": "header.seq"}}

    def up(*arguments):
        return run(place, "clickhouse", "--schemas", folder, *arguments, **section)
    place.clickhouse("CREATE TABLE {db}.other (i Int64, j Int64) ENGINE = MergeTree ORDER BY i")
    assert up("--to", "4").returncode == 0
    place.clickhouse("CREATE OR REPLACE TABLE {db}.other (i Int64, j Int64) ENGINE = MergeTree ORDER BY i")
    place.clickhouse("INSERT INTO {db}.other VALUES (1, 1)")
    place.clickhouse("DROP TABLE {db}.own")
    told = up()
    assert told.returncode == 1 and "004_own.up.sql, line 2" in told.stderr and "by hand" in told.stderr, told.stdout + told.stderr
    assert place.clickhouse("SELECT sum(j) FROM {db}.other").strip() == "1"
    place.clickhouse("CREATE TABLE {db}.own (i Int64) ENGINE = MergeTree ORDER BY i")
    done = up()
    assert done.returncode == 0 and "up   005_later" in done.stdout and "004_own" not in done.stdout, done.stdout + done.stderr

# SPDX-License-Identifier: Apache-2.0
"""Users of ClickHouse that may do what schemas/clickhouse/roles.sql grants, and nothing else, on a server that asks for grants as a
packaged one does."""
import concurrent.futures
import json
import os
import re

import pytest

from inserting import Sender, committed, counts, dead_letters, fnv, group_of, inserting, paused, post, run_under, wait_counts
from relaytools.audit import clickhouse_query
from relaytools.place import Place
from relaytools.relay import command, wait_until, write_config
from relaytools.servers import ROOT, temporary_servers

DATABASES = ("rightsdaemon", "rightscommands", "rightsmigrate")  # the rights are given before there are places


@pytest.fixture(scope="module")
def ruled_servers():
    with temporary_servers(clickhouse_roles=DATABASES) as servers:
        yield servers


@pytest.fixture
def place(request, ruled_servers):
    place = Place(ruled_servers, request.param)
    yield place
    place.close()


def of(name):
    """In the place of that name, which has the rights."""
    return pytest.mark.parametrize("place", [name], indirect=True)


def run(place, role, *arguments):
    config = write_config(os.path.join(place.folder, f"{role}.ini"), place.sections(clickhouse={"user": role}))
    return command(*arguments, config=config, binary=place.binary)


def done(place, role, *arguments):
    result = run(place, role, *arguments)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def refused(place, role, *arguments):
    result = run(place, role, *arguments)
    told = result.stdout + result.stderr
    assert result.returncode == 1 and "Not enough privileges" in told, told
    return told


def all_committed(place, count):
    wait_until(lambda: sum(max(0, offset) for offset in committed(place, post(place), 4).values()) == count, "all committed")


@of("rightsdaemon")
def test_the_daemon_does_all_it_does_as_outbox_daemon(place):
    """Rows, dead letters, the read-back that ends a former owner's INSERT, the view that it has left behind."""
    place.clickhouse("CREATE TABLE {db}.switch (x UInt8) ENGINE = TinyLog")
    place.clickhouse("CREATE TABLE {db}.seen (seq UInt64, zero UInt8) ENGINE = MergeTree ORDER BY seq "
                     "SETTINGS non_replicated_deduplication_window = 1000")
    place.clickhouse("CREATE MATERIALIZED VIEW {db}.seen_view TO {db}.seen AS SELECT seq, "
                     "throwIf(seq = 7 AND (SELECT count() FROM {db}.switch) = 0, 'a view of the user fails') AS zero FROM {db}.outbox_events")
    relay = inserting(place, clickhouse={"user": "outbox_daemon", "request_timeout": "5s"},
        insert={"batch_rows": "200", "linger": "15s"})    # one INSERT, which goes when all its rows are there
    sender = Sender(place).events(post(place), 200).flush()
    relay.wait(lambda: paused(relay), "the table paused for its view", 60)
    relay.kill()
    assert counts(place) == (200, 200)
    place.clickhouse("INSERT INTO {db}.switch VALUES (1)")
    former = f"outbox-relay-{fnv(group_of(place)):08x}-{fnv(place.name + '.outbox_events'):08x}-former-owner"
    with concurrent.futures.ThreadPoolExecutor(1) as background:
        query = background.submit(run_under, place, former, "SELECT sleepEachRow(0.5) FROM numbers(200)", "outbox_daemon")
        wait_until(lambda: place.clickhouse(f"SELECT count() FROM system.processes WHERE query_id = '{former}'") == "1\n", "the query runs")
        relay.start()
        assert not query.result(60), "it was killed"
    wait_until(lambda: place.clickhouse("SELECT count(), uniqExact(seq) FROM {db}.seen") == "200\t200\n", "the view whole", 60)
    relay.wait(lambda: relay.events("insert.views_completed"), "it is told")
    sender.event(post(place), headers=[])
    sender.flush()
    wait_until(lambda: len(dead_letters(place)) == 1, "the dead letter")
    all_committed(place, 201)
    wait_counts(place, 200)
    assert relay.stop() == 0


@of("rightscommands")
def test_the_commands_need_what_their_roles_have(place):
    relay = place.relay(clickhouse={"user": "outbox_daemon"})
    for _ in range(20):
        place.insert_event()
    place.wait_published()
    place.wait_inserted(20)
    sender = Sender(place)
    sender.event(post(place), headers=[])
    sender.flush()
    wait_until(lambda: len(dead_letters(place)) == 1, "a dead letter")
    assert relay.stop() == 0  # commits what it has inserted: replay reads up to there
    told = done(place, "outbox_daemon", "check")
    assert "privileges" not in told and "can be filled exactly once" in told, told
    status = json.loads(run(place, "outbox_daemon", "status", "--json").stdout)
    assert {"table": "outbox_events", "rows": 20} in status["tables"], status
    assert [one["events"] for one in status["dead_letters"] if one["stage"] == "insert"] == [1]
    place.clickhouse("TRUNCATE TABLE {db}.outbox_events")
    done(place, "outbox_daemon", "replay", "--into", "outbox_events", "--since", "1h", "--event-type", "post.created")
    assert counts(place) == (20, 20)
    place.clickhouse("INSERT INTO {db}.outbox_relay_dead_letters (target, kafka_topic, kafka_partition, kafka_offset, key, value, headers, "
        f"reason, code, text) VALUES ('outbox_events', '{post(place)}', 0, 1000000, 'k', '{{}}', [('event_id', "
        "'6f1c0a52-8f0e-4f1e-9d1f-2a8f3b6c7d10'), ('event_type', 'post.created'), ('aggregate_type', 'post'), ('aggregate_id', '1'), "
        "('created_at', '2026-03-01T12:34:56.123456Z'), ('seq', '1')], 'out_of_range', '', 'x')")
    letters = json.loads(done(place, "outbox_daemon", "dead-letters", "list", "--json"))["dead_letters"]
    fits, = [one["id"] for one in letters if one["id"].endswith(":1000000")]
    assert len(letters) == 2
    cure = "user outbox_daemon may not delete dead letters; GRANT outbox_operator"
    assert cure in refused(place, "outbox_daemon", "dead-letters", "drop", "--yes", "--all")
    told = refused(place, "outbox_daemon", "dead-letters", "retry", "--id", fits)
    assert cure in told and "the rows are in their tables" in told, told
    assert "1 were there already" in done(place, "outbox_operator", "dead-letters", "retry", "--id", fits)
    assert "1 dropped" in done(place, "outbox_operator", "dead-letters", "drop", "--yes", "--all")
    assert place.clickhouse_rows("outbox_relay_dead_letters") == 0 and place.clickhouse_rows() == 21


@of("rightsdaemon")
def test_a_view_of_others_that_the_daemon_may_not_see(place):
    """Of a database where it has no rights, with its definer's rights. ClickHouse tells that it hangs on the table, and no more."""
    others = f"{place.name}_reports"
    for statement in (f"CREATE DATABASE {others}", f"CREATE TABLE {others}.daily (seq UInt64) ENGINE = MergeTree ORDER BY seq",
                      f"CREATE MATERIALIZED VIEW {others}.seen TO {others}.daily DEFINER = relay SQL SECURITY DEFINER AS SELECT seq FROM {{db}}.outbox_events"):
        place.clickhouse(statement)
    try:
        told = done(place, "outbox_daemon", "check")
        assert f"view {others}.seen hangs on the table" in told and f"GRANT SHOW TABLES ON {others}.*" in told, told
        assert "outbox_events (MergeTree" not in told
    finally:
        place.clickhouse(f"DROP DATABASE {others}")


@of("rightsmigrate")
def test_the_migrator_makes_the_tables_and_the_others_may_not(place):
    place.clickhouse("DROP DATABASE {db}")
    refused(place, "outbox_operator", "migrate", "clickhouse", "up")
    done(place, "outbox_migrator", "migrate", "clickhouse", "up")
    done(place, "outbox_migrator", "migrate", "clickhouse", "status")
    refused(place, "outbox_operator", "migrate", "clickhouse", "down")
    done(place, "outbox_migrator", "migrate", "clickhouse", "down", "--to", "0")
    done(place, "outbox_migrator", "migrate", "clickhouse", "up")
    assert "can be filled exactly once" in done(place, "outbox_daemon", "check")
    env = place.servers.env
    for role, query in (("outbox_daemon", "DROP TABLE {db}.outbox_events"), ("outbox_operator", "ALTER TABLE {db}.outbox_events DELETE WHERE 1"),
                        ("outbox_migrator", "SELECT count() FROM system.processes")):
        with pytest.raises(RuntimeError, match="Not enough privileges"):
            clickhouse_query(place.servers.clickhouse_url, query.replace("{db}", place.name), role, env["CLICKHOUSE_PASSWORD"])


@of("rightsmigrate")
def test_each_statement_of_the_file_is_one_to_the_server(place):
    """The library that serves here has no store for roles, so it cannot run them."""
    with open(os.path.join(ROOT, "schemas/clickhouse/roles.sql"), encoding="utf-8") as file:
        statements = [one.strip() for one in re.sub(r"--.*", "", file.read()).split(";") if one.strip()]
    assert len(statements) > 10
    assert "GRANT CREATE TEMPORARY TABLE ON *.* TO outbox_daemon" in statements  # for input() before 26.5, while the tests run on a newer one
    for statement in statements:
        assert "Query" in place.clickhouse(f"EXPLAIN AST {statement}"), statement

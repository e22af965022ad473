# SPDX-License-Identifier: Apache-2.0
"""check: what is as it must be, and each thing that is not, with what to do."""
import contextlib
import http.server
import itertools
import os
import re
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
import uuid

import confluent_kafka.admin
import psycopg2
import pytest

from checking import fails, findings, run, warns
from inserting import Sender, set_committed
from pooling import left_in_sessions, needs_pgbouncer, pooler
from relaytools.proxy import Proxy, Rule
from relaytools.relay import command, program, wait_until, write_config
from relaytools.servers import ROOT
from relaytools.sessions import another_owner, autocommitting, execute_each
from servers.web import open_direct


@pytest.mark.postgres_versions
def test_nothing_fails_where_all_is_as_it_should_be_and_no_secret_is_shown(place):
    place.servers.create_topics([f"{place.name}-receipts"], 1, {"cleanup.policy": "compact", "segment.bytes": "67108864"})
    place.insert_event("post.created")
    result = run(place)
    assert result.returncode == 0, result.stdout
    for line in ("ok    config", "ok    postgres: PostgreSQL", "connected directly", "schema files are applied", "ok    outbox default",
                 "events wait, 1 topics", "is compacted", "ok    clickhouse", "can be filled exactly once", "ok    dead letters clickhouse"):
        assert line in result.stdout, result.stdout
    assert "FAIL" not in result.stdout and "\033" not in result.stdout
    for secret in (place.servers.env["POSTGRES_PASSWORD"], place.servers.env["CLICKHOUSE_PASSWORD"]):
        assert secret not in result.stdout + result.stderr


def test_too_few_connections_of_postgresql_are_warned_of(place):
    code, texts = findings(place, "ok")
    assert any("left for the relay" in text and "enough for 1 outboxes and" in text for text in texts), texts
    execute_each(place.admin_dsn, f"ALTER DATABASE {place.name} CONNECTION LIMIT 3")
    assert warns(place, "3 are left for the relay") == 0
    warns(place, "1 outboxes need 4, and 2 more for each further replica")


def test_fsync_off_is_warned_of_unless_the_service_keeps_the_log_elsewhere(place):
    def told(level):
        return [text for text in findings(place, level)[1] if "fsync" in text]
    execute_each(place.servers.admin_dsn, "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
    try:
        wait_until(lambda: told("warn"), "it is off")
        assert "fsync is off" in told("warn")[0] and not told("ok")
        execute_each(place.admin_dsn, f"ALTER DATABASE {place.name} SET neon.tenant_id = '0123456789abcdef'")   # as Neon's servers have it
        assert not told("warn") and "the service keeps the log elsewhere" in told("ok")[0]
    finally:
        execute_each(place.servers.admin_dsn, "ALTER SYSTEM RESET fsync", "SELECT pg_reload_conf()")
    wait_until(lambda: execute_each(place.admin_dsn, "SHOW fsync") == [("on",)], "it is as before")


def test_encodings_that_have_bytes_without_utf8_are_warned_of(place):
    assert not any("encoding" in text for text in findings(place)[1]), "UTF8"
    for encoding, told in (("SQL_ASCII", True), ("LATIN1", False)):
        execute_each(place.servers.admin_dsn, f"DROP DATABASE {place.name}",
                     f"CREATE DATABASE {place.name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
        assert [f"encoding is {encoding}" in text for text in findings(place, "warn")[1] if "encoding" in text] == [True] * told


def test_a_postgresql_too_far_away_for_the_health_watch_is_warned_of(place):
    target = psycopg2.extensions.parse_dsn(place.dsn)
    proxy = Proxy((target["host"], int(target["port"])))
    try:
        proxy.add(Rule(delay=0.1))      # seven round trips and more
        far = {"dsn": psycopg2.extensions.make_dsn(place.dsn, host="127.0.0.1", port=proxy.port), "acquire_timeout": "1s", "connect_timeout": "30s"}
        assert warns(place, "the health watch and `status` would get no connection", postgres=far) == 0
        assert not any("would get no connection" in text for text in findings(place, postgres=dict(far, acquire_timeout="1m"))[1])
    finally:
        proxy.close()


def test_the_trial_of_the_health_watchs_connection_has_all_of_its_round_trips(place):
    """The daemon also asks what server it is. Here that is not answered in time."""
    target = psycopg2.extensions.parse_dsn(place.dsn)
    proxy = Proxy((target["host"], int(target["port"])))
    try:
        rule = proxy.add(Rule(hold_texts=(b"SELECT system_identifier FROM pg_catalog.pg_control_system()",)))
        far = {"dsn": psycopg2.extensions.make_dsn(place.dsn, host="127.0.0.1", port=proxy.port, sslmode="disable"), "connect_timeout": "30s"}
        assert warns(place, "the health watch and `status` would get no connection", postgres=far) == 0
        assert rule.hits
    finally:
        proxy.close()


def test_every_server_is_looked_at_when_all_are_down(place):
    code, texts = findings(place, "FAIL", postgres={"dsn": "host=127.0.0.1 port=1 dbname=x user=y", "connect_timeout": "2s"},
                           kafka={"bootstrap.servers": "127.0.0.1:1", "retries": "0"}, clickhouse={"url": "http://127.0.0.1:1"},
                           alert={"webhook_url": "http://127.0.0.1:1/secret", "alertmanager_url": "http://127.0.0.1:1"})
    assert code == 1
    for what in ("postgres", "kafka", "clickhouse", "alert webhook", "alert alertmanager"):
        assert any(text.startswith(what + ":") and "127.0.0.1:1" in text for text in texts), (what, texts)
    assert any(text.startswith("kafka: publish stage: [kafka]: `retries`") for text in texts), texts
    assert not any("secret" in text for text in texts)


def test_an_outbox_that_is_not_as_it_must_be(place):
    place.execute("ALTER TABLE outbox_events DISABLE TRIGGER outbox_relay_wakeup")
    assert warns(place, "wake-up trigger is disabled") == 0
    place.execute("ALTER TABLE outbox_events ALTER COLUMN seq SET CACHE 20")
    fails(place, "is cached")
    place.execute("ALTER TABLE outbox_events ALTER COLUMN seq SET CACHE 1 SET CYCLE")
    fails(place, "does not rise by one")
    place.execute("DROP INDEX outbox_events_unpublished_seq_idx")
    add_open = "CREATE UNIQUE INDEX CONCURRENTLY ON public.outbox_events (seq) WHERE published_at IS NULL"
    fails(place, add_open)
    place.execute("CREATE UNIQUE INDEX sent ON outbox_events (seq) WHERE last_error IS NULL")
    fails(place, "that the relay can use (one has another predicate): every batch would scan the table; " + add_open)
    place.execute("DROP INDEX sent; CREATE UNIQUE INDEX every ON outbox_events (seq)")
    warns(place, "if any are kept, each start and each sweep reads them all; " + add_open)
    fails(place, "each start and each sweep reads all that are kept", outbox={"disposition": "mark"})
    place.execute("CREATE INDEX open ON outbox_events (seq) WHERE published_at IS NULL")
    for disposition in ("delete", "mark"):
        assert not any("index on seq" in text for text in findings(place, outbox={"disposition": disposition})[1])
    place.execute("DROP INDEX every, open")
    place.execute('ALTER TABLE outbox_events RENAME seq TO "Seq"; ALTER TABLE outbox_events DROP COLUMN published_at CASCADE; '
                  "UPDATE outbox_relay.outboxes SET seq_column = 'Seq'")
    texts = fails(place, "had a column published_at when it was attached", outbox={"column.seq": "Seq", "disposition": "mark"})
    assert not any("INDEX" in text or "ADD COLUMN" in text for text in texts), texts
    place.execute(re.search(r"SELECT outbox_relay.accept_unmarked\('.*?'\)", "".join(texts)).group(0))
    _, texts = findings(place, "FAIL", outbox={"column.seq": "Seq"})
    assert any('outbox_events ("Seq")' in text for text in texts) and not any("WHERE published_at" in text for text in texts), texts
    place.execute('ALTER TABLE outbox_events RENAME "Seq" TO seq; UPDATE outbox_relay.outboxes SET seq_column = DEFAULT')
    with autocommitting(place.admin_dsn) as cursor:
        cursor.execute("CREATE SUBSCRIPTION elsewhere CONNECTION 'host=nowhere.invalid' PUBLICATION p WITH (connect = false)")
        cursor.execute("INSERT INTO pg_subscription_rel (srsubid, srrelid, srsubstate) SELECT oid, 'public.outbox_events'::regclass, 'i' "
                       "FROM pg_subscription WHERE subname = 'elsewhere'")
        fails(place, "by logical replication")
        cursor.execute("ALTER SUBSCRIPTION elsewhere SET (slot_name = NONE); DROP SUBSCRIPTION elsewhere")
    fails(place, "column last_error is of type text", outbox={"column.created_at": "last_error"})
    place.execute("ALTER TABLE outbox_events ADD COLUMN born timestamp")
    warns(place, "column born has no time zone and is read as UTC", outbox={"column.created_at": "born"})
    warns(place, "registered with time column created_at, the configuration names born: health and outbox_status take", outbox={"column.created_at": "born"})
    place.execute("UPDATE outbox_relay.outboxes SET created_at_column = 'made'")
    warns(place, "registered with time column made, the configuration names created_at: health and outbox_status know no ages; outbox-relay migrate")
    place.execute("UPDATE outbox_relay.outboxes SET created_at_column = DEFAULT; ALTER TABLE outbox_events ADD COLUMN published_at timestamptz")
    warns(place, "has a column published_at and had none when it was attached")
    place.execute("ALTER TABLE outbox_events DROP COLUMN published_at")
    place.execute("ALTER TABLE outbox_events DROP COLUMN metadata")
    fails(place, "no column metadata")
    fails(place, "no column nothing, which `additional` names", publish={"additional": "nothing:header"})
    place.execute("UPDATE outbox_relay.outboxes SET system_identifier = 1")
    fails(place, "registered on another server")
    fails(place, "as the login that runs `migrate`: SELECT outbox_relay.accept_system('public.outbox_events')")
    place.execute("DELETE FROM outbox_relay.outboxes")
    fails(place, "has no identity yet")
    fails(place, "the table does not exist", outbox={"table": "public.elsewhere"})


def test_a_timeline_that_is_not_told(place):
    """Without it no outbox is owned. Of Aurora alone it is known that there is none."""
    def in_catalog(statement):
        with autocommitting(place.admin_dsn) as cursor:
            cursor.execute("SET allow_system_table_mods = on")
            cursor.execute(statement)
    in_catalog("REVOKE EXECUTE ON FUNCTION pg_walfile_name(pg_lsn) FROM PUBLIC")
    fails(place, "permission denied for function pg_walfile_name")
    in_catalog("GRANT EXECUTE ON FUNCTION pg_walfile_name(pg_lsn) TO PUBLIC")
    for function, returned, state in (("pg_walfile_name(pg_lsn)", "text", "0A000"), ("pg_current_wal_insert_lsn()", "pg_lsn", "55000")):
        in_catalog(f"ALTER FUNCTION pg_catalog.{function} RENAME TO not_aurora")   # replaced, it would be called all the same
        in_catalog(f"CREATE FUNCTION pg_catalog.{function} RETURNS {returned} LANGUAGE plpgsql AS "
                   f"$$ BEGIN RAISE EXCEPTION 'not here' USING ERRCODE = '{state}'; END $$")
        fails(place, "the timeline of PostgreSQL: ")
    in_catalog("CREATE FUNCTION pg_catalog.aurora_version() RETURNS text LANGUAGE sql AS $$ SELECT '17.7.2' $$")
    assert warns(place, "Amazon Aurora, on which the relay is untested") == 0
    relay = place.relay(start=False, insert={"enabled": "false"}).start(ready=False)
    place.insert_event()
    place.wait_published(180)
    assert [one["level"] for one in relay.events("publish.no_timeline")] == ["warning"]


def test_numbers_that_have_gone_back(place):
    relay = place.relay(insert={"enabled": "false"})
    for _ in range(3):
        place.insert_event()
    place.wait_published()
    wait_until(lambda: place.execute("SELECT settled_seq FROM outbox_relay.progress") == [(3,)], "progress is noted")
    relay.stop()
    assert findings(place, "FAIL")[0] == 0
    # As after a move by logical replication, which carries no sequence along.
    place.execute("ALTER TABLE outbox_events ALTER COLUMN seq RESTART WITH 1")
    for last in (0, 1):
        fails(place, f"numbers have gone back to {last}, though those up to 3 are published")
        fails(place, "as the table's owner: SELECT setval('public.outbox_events_seq_seq', 1003)")
        place.insert_event()
    relay.start()
    place.wait_published()
    relay.wait(lambda: "numbers have gone back to 2" in relay.get("/health")[1], "health says so")
    place.execute("SELECT setval('public.outbox_events_seq_seq', 1003)")
    assert findings(place, "FAIL")[0] == 0


def test_numbers_that_have_gone_back_from_the_last_ones(place):
    place.execute("INSERT INTO outbox_relay.progress (identity, settled_seq) SELECT identity, 9223372036854774807 FROM outbox_relay.outboxes")
    fails(place, "as the table's owner: SELECT setval('public.outbox_events_seq_seq', 9223372036854775807)")
    place.execute("UPDATE outbox_relay.progress SET settled_seq = 9223372036854774808")
    fails(place, "though those up to 9223372036854774808 are published: whoever takes them for versions, as routes with header.seq do, drops new events; "
          "no number is left above it")


def test_numbers_of_a_sequence_that_the_functions_may_not_read(place):
    relay = place.relay(insert={"enabled": "false"})
    place.insert_event()
    place.wait_published()
    wait_until(lambda: place.execute("SELECT settled_seq FROM outbox_relay.progress") == [(1,)], "progress is noted")
    relay.stop()
    place.execute("ALTER TABLE outbox_events ALTER COLUMN seq RESTART WITH 1")
    with another_owner(place.admin_dsn, place.servers.env["POSTGRES_USER"], f"{place.name}_owner") as grant:
        assert warns(place, f"whether numbers have gone back cannot be told: the owner of outbox_relay.numbers_gone_back() may not read the sequence; {grant}") == 0
        execute_each(place.admin_dsn, grant)
        assert not any("cannot be told" in text for text in fails(place, "numbers have gone back to 0"))


@pytest.mark.postgres_versions
def test_a_number_column_that_was_dropped_comes_back_as_the_document_says(place):
    with open(os.path.join(ROOT, "docs/schema.md"), encoding="utf-8") as file:
        before, _, text = file.read().partition("If `seq` was dropped")
    heading = re.findall("^### (.*)$", before, re.M)[-1]
    adopt, index, finish = (statement.strip() for statement in re.search(r"```sql\n(.*?)```", text, re.S).group(1).split(";")[:3])
    place.execute("INSERT INTO outbox_relay.progress (identity, settled_seq) SELECT identity, 1000000 FROM outbox_relay.outboxes")
    place.insert_event()
    identity = place.execute("SELECT identity FROM outbox_relay.outboxes")
    place.execute("ALTER TABLE outbox_events DROP COLUMN seq")
    place.insert_event()
    fails(place, f"no column seq; if it was dropped: {adopt} numbers the rows anew; then the index and finish_adoption(), as in docs/schema.md, "
                 f'"{heading}"')
    execute_each(place.admin_dsn, adopt, index, finish)
    assert place.execute("SELECT array_agg(seq ORDER BY created_at) FROM outbox_events") == [([1, 2],)]
    assert place.execute("SELECT identity FROM outbox_relay.outboxes") == identity
    text, = findings(place, "FAIL")[1]
    assert "numbers have gone back to " in text, text
    place.execute(re.search(r"SELECT setval\(.*?\)", text).group(0))
    assert not findings(place, "FAIL")[1]
    place.execute("ALTER TABLE outbox_events DROP COLUMN seq, DROP COLUMN published_at CASCADE")
    assert any("name the right one with column.seq, or add it" in text for text in fails(place, "no column seq"))


@pytest.mark.postgres_versions
def test_a_payload_that_is_the_number_of_a_large_object(place):
    def named():
        code, texts = findings(place, "FAIL")
        return [text for text in texts if "large objects" in text]
    assert not named()
    for kind in ("oid", "lo"):
        place.execute("CREATE DOMAIN public.lo AS oid; ALTER TABLE outbox_events DROP COLUMN payload; "
                      f"ALTER TABLE outbox_events ADD COLUMN payload {kind} NOT NULL" + "; DROP DOMAIN public.lo" * (kind == "oid"))
        text, = named()
        assert "column payload has the numbers of large objects" in text, text
    place.execute("INSERT INTO outbox_events (aggregate_type, aggregate_id, event_type, payload) VALUES ('post', gen_random_uuid(), 'post.created', "
                  "lo_from_bytea(0, '{\"n\": 1}'))")
    place.execute(re.search("ALTER TABLE .* 'UTF8'\\)", text).group(0))
    assert place.execute("SELECT payload FROM outbox_events") == [('{"n": 1}',)]
    assert not named()


@pytest.mark.postgres_versions
def test_unlogged_tables_and_partitions(place):
    def named(**changes):
        return [text for text in findings(place, "FAIL", **changes)[1] if "is unlogged" in text]
    assert not named()
    place.execute("ALTER TABLE outbox_events SET UNLOGGED")
    text, = named()
    assert "public.outbox_events is unlogged" in text and "ALTER TABLE public.outbox_events SET LOGGED" in text, text
    place.execute("ALTER TABLE outbox_events SET LOGGED")
    assert not named()
    with autocommitting(place.admin_dsn) as cursor:
        cursor.execute("CREATE TABLE public.parted (LIKE outbox_events INCLUDING DEFAULTS, UNIQUE (seq)) PARTITION BY RANGE (seq)")
        cursor.execute("ALTER TABLE public.parted ALTER seq ADD GENERATED ALWAYS AS IDENTITY; "
                       "CREATE TABLE public.\"Part\" PARTITION OF public.parted FOR VALUES FROM (0) TO (1000); "
                       "CREATE TABLE public.parted_2 PARTITION OF public.parted FOR VALUES FROM (1000) TO (2000)")
        cursor.execute("SELECT outbox_relay.attach_outbox('public.parted')")
        cursor.execute("ALTER TABLE public.\"Part\" SET UNLOGGED")     # attach_outbox refuses one that is
    text, = named(outbox={"table": "public.parted"})
    assert 'public."Part" is unlogged' in text, text


def test_debeziums_table_after_the_change_that_the_document_describes(place):
    place.execute("CREATE SCHEMA inventory; CREATE TABLE inventory.outboxevent (id uuid PRIMARY KEY, aggregatetype varchar(255) NOT NULL, "
                  "aggregateid varchar(255) NOT NULL, type varchar(255) NOT NULL, payload jsonb)")
    place.execute("INSERT INTO inventory.outboxevent SELECT gen_random_uuid(), 'order', '1', 'OrderCreated', '{}'")
    with open(os.path.join(ROOT, "docs/events.md"), encoding="utf-8") as document:
        section = re.search(r"### Changing over(.*?)\n### ", document.read(), re.S).group(1)
    mark, change = re.findall(r"```sql\n(.*?)```", section, re.S)
    with autocommitting(place.dsn) as cursor:
        cursor.execute(mark)
        cursor.execute("SELECT aggregatetype FROM inventory.outboxevent ORDER BY aggregatetype")
        assert cursor.fetchall() == [("changeover",), ("order",)]
        cursor.execute(change)
    table = {"outbox": {"table": "inventory.outboxevent", "layout": "debezium"}}
    config = write_config(os.path.join(place.folder, "migrate.ini"), place.sections(**table))
    done = command("migrate", "postgres", "up", config=config, binary=place.binary)
    assert done.returncode == 0 and "inventory.outboxevent attached" in done.stdout, done.stdout + done.stderr
    warns(place, "no column.created_at in outbox default: the route takes header.created_at, and without it each event becomes a dead letter "
          "(missing_header)", **table)
    assert not [text for text in findings(place, "FAIL", **table)[1] if "outbox default" in text]


def test_outboxes_whose_events_the_default_route_cannot_take(place):
    none = {"outbox": {"column.aggregate_type": "none"}}
    warns(place, "route default: no column.aggregate_type in outbox default: the route takes header.aggregate_type", **none)
    of_its_own = {"topics": "x", "table": "outbox_events", "event_id": "header.event_id"}
    assert not any("missing_header" in text for text in findings(place, "warn", route__default=of_its_own, **none)[1])
    place.execute("CREATE TABLE orders (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, seq bigint GENERATED ALWAYS AS IDENTITY UNIQUE, "
                  "aggregate_type text NOT NULL, aggregate_id bigint NOT NULL, event_type text NOT NULL, payload jsonb, metadata jsonb, "
                  "created_at timestamptz NOT NULL DEFAULT now())")
    place.execute("SELECT outbox_relay.attach_outbox('public.orders')")
    table = {"outbox": {"table": "public.orders"}}
    warns(place, "route default: ids of outbox default are bigint, column event_id of table outbox_events takes UUIDs only", **table)
    place.execute("ALTER TABLE orders ADD COLUMN code text")
    assert not any("UUIDs" in text for text in findings(place, "warn", outbox={"table": "public.orders", "column.id": "code"})[1])
    # As docs/schema.md describes it.
    with open(os.path.join(ROOT, "schemas/clickhouse/001_outbox_events.up.sql"), encoding="utf-8") as file:
        made = re.sub(r"\bUUID\b", "String", file.read()).replace("EXISTS outbox_events", "EXISTS {db}.outbox_events")
    place.clickhouse("DROP TABLE {db}.outbox_events")
    place.clickhouse(made)
    place.migrate()
    assert not any("UUIDs" in text for text in findings(place, "warn", **table)[1])
    place.relay(**table)
    place.execute("INSERT INTO orders (id, aggregate_type, aggregate_id, event_type, payload) VALUES (4711, 'post', 1, 'post.created', '{}')")
    place.wait_inserted(1)
    assert place.clickhouse("SELECT event_id FROM {db}.outbox_events").strip() == "4711"


def test_rows_that_another_publisher_has_given_up(place):
    def named():
        return [text for text in findings(place, "warn")[1] if "another publisher has tried them" in text]

    for _ in range(3):
        place.insert_event()
    assert not named()
    place.execute("UPDATE outbox_events SET retry_count = 5 WHERE seq IN (SELECT seq FROM outbox_events ORDER BY seq LIMIT 2)")
    text, = named()
    assert "2 of the first 10000 waiting rows have retry_count > 0" in text, text
    assert "UPDATE public.outbox_events SET published_at = now() WHERE published_at IS NULL AND retry_count > 0" in text, text
    place.execute("ALTER TABLE outbox_events RENAME retry_count TO attempts")
    assert "attempts > 0" in named()[0]
    place.execute("UPDATE outbox_events SET published_at = now() WHERE published_at IS NULL AND attempts > 0")
    assert not named()


def test_publications_that_send_tables_of_the_relay(place):
    def named():
        return [text for text in findings(place, "warn")[1] if "Every thing" in text]

    with autocommitting(place.admin_dsn) as cursor:
        for tables in ("ALL TABLES", "TABLES IN SCHEMA outbox_relay", "TABLES IN SCHEMA public"):
            cursor.execute(f'CREATE PUBLICATION "Every thing" FOR {tables}')
            assert warns(place, 'tables of the relay are in publication "Every thing": a subscriber that lacks one of them') == 0
            cursor.execute('DROP PUBLICATION "Every thing"')
        cursor.execute('CREATE SCHEMA other; CREATE PUBLICATION "Every thing" FOR TABLES IN SCHEMA other, TABLE outbox_events')
        assert not named(), "what is published by name was chosen"
        cursor.execute("ALTER TABLE outbox_events RENAME seq TO n")
        assert len(named()) == 1, "the column that adoption adds is sent as well"
        cursor.execute('ALTER PUBLICATION "Every thing" SET TABLE outbox_events (id, payload)')
        assert not named()


def test_migrations_that_are_missing(place):
    place.execute("DELETE FROM outbox_relay.schema_migrations WHERE name = '009_health'")
    fails(place, "1 of ")
    place.execute("UPDATE outbox_relay.schema_migrations SET checksum = 'x' WHERE name = '002_wakeup'")
    warns(place, "1 applied schema files differ")
    for gone in "TRUNCATE outbox_relay.schema_migrations", "DROP TABLE outbox_relay.schema_migrations":
        place.execute(gone)
        warns(place, "no file is on record: applied by another tool than migrate, or brought by a dump without rows; its version is not known; "
              "outbox-relay migrate postgres up --baseline records what is there")


def test_schemas_that_cannot_be_compared_are_told_of_each_server(place):
    """ClickHouse's also where nobody looks at PostgreSQL."""
    said = "whether everything is migrated cannot be told: no schema files"
    for servers, sections in ((("postgres", "clickhouse"), {}), (("clickhouse",), {"publish": {"enabled": "false"}})):
        lines = run(place, "--schemas", "/nowhere", **sections).stdout.splitlines()
        told = [line for line in lines if said in line]
        assert [line.split(said)[0] for line in told] == [f"warn  schema {server}: " for server in servers], lines


def test_schema_files_of_clickhouse_that_are_missing_or_differ(place):
    columns = "{db}.outbox_relay_migrations (name, checksum, applied, by, at)"
    assert "schema clickhouse: all 3 schema files are applied" in run(place).stdout
    place.clickhouse(f"INSERT INTO {columns} VALUES ('002_dead_letters', 'x', 1, 'test', now64(3) + 60)")
    warns(place, "schema clickhouse: 1 applied schema files differ from those of this version; outbox-relay migrate clickhouse status")
    place.clickhouse(f"INSERT INTO {columns} VALUES ('003_dead_letter_timestamp', 'x', 0, 'test', now64(3) + 60)")
    fails(place, "schema clickhouse: 1 of 3 schema files are not applied; outbox-relay migrate clickhouse up")
    warns(place, "schema clickhouse: 1 applied schema files differ")


def test_topics_that_are_missing_or_set_up_wrongly(place):
    place.insert_event("nobody.listens")
    fails(place, f"{place.prefix}.nobody.events")
    warns(place, f"{place.name}-receipts does not exist yet, or is not visible to us; create it with replication factor 3")
    place.servers.create_topics([f"{place.name}-receipts"], 1)
    fails(place, "cleanup.policy=delete")
    place.servers.create_topics([f"{place.name}-both"], 1, {"cleanup.policy": "compact,delete"})
    warns(place, "has segment.bytes=1073741824")
    # The first outbox needs no receipts, so it has not told of the topic that both name.
    fails(place, "also deletes by age", publish={"receipt_topic": f"{place.name}-both"}, outbox={"guarantee": "at_least_once"},
          outbox__exact={"table": "public.exact", "guarantee": "exactly_once"})
    place.insert_event("post.created")
    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": place.servers.bootstrap})
    resource = confluent_kafka.admin.ConfigResource("topic", f"{place.prefix}.post.events", set_config={"max.message.bytes": "1000"})
    for future in admin.alter_configs([resource]).values():
        future.result(30)
    wait_until(lambda: any("takes 1000 bytes" in text for text in findings(place, "warn")[1]), "the limit is seen")
    warns(place, "allow.auto.create.topics is true", kafka={"allow.auto.create.topics": "1"})
    warns(place, "queue.buffering.max.kbytes has room for 512000 bytes", kafka={"queue.buffering.max.kbytes": "500"})
    warns(place, "topic absent does not exist yet", route__orders={"topics": "absent", "table": "outbox_events"})


def test_topics_that_a_route_takes_and_the_group_has_not_read(place):
    ours, theirs, empty = (f"{place.prefix}.event.{kind}" for kind in ("ours", "theirs", "empty"))
    place.servers.create_topics([ours, theirs, empty], 1)
    sender = Sender(place)
    sender.event(ours)
    sender.event(theirs, headers=[("id", b"of another publisher")])
    sender.flush()
    publish = {"topic": "{prefix}.event.{aggregate_type}"}

    def unread(**changes):
        code, texts = findings(place, "warn", publish=publish, **changes)
        assert code == 0
        return [text for text in texts if "no committed offsets" in text]
    takes = [text for text in findings(place, "ok", publish=publish)[1] if "takes 3 topics: " in text]
    assert len(takes) == 1 and takes[0].startswith("route default: ^") and all(topic in takes[0] for topic in (ours, theirs, empty)), takes
    found = unread()
    assert len(found) == 1 and "2 topics have messages and no committed offsets" in found[0] and empty not in found[0], found
    assert ours in found[0] and theirs in found[0] and "dead letters" in found[0], found
    set_committed(place, ours, {0: 1})
    found = unread()
    assert len(found) == 1 and "route default: 1 topic has messages" in found[0] and ours not in found[0] and theirs in found[0], found
    assert not unread(route__default={"topics": f"{ours}, {empty}"})
    assert theirs in unread(route__default={"topics": f"{ours}, {theirs}"})[0]
    # Of two routes into one table the second never gets it.
    route = {"table": "outbox_events", "topics": theirs, "event_id": "header.id"}
    assert [text.split(":")[0] for text in unread(route__late=route)] == ["route default"]
    assert [text.split(":")[0] for text in unread(route__default={"topics": ours}, route__late=route)] == ["route late"]
    set_committed(place, theirs, {0: 0})
    assert not unread()


def test_compacted_topics_that_a_route_takes(place):
    place.servers.create_topics([f"{place.prefix}.kept.events"], 1, {"cleanup.policy": "compact", "min.compaction.lag.ms": "86400000"})
    place.servers.create_topics([f"{place.prefix}.{kind}.events" for kind in ("first", "second")], 1, {"cleanup.policy": "compact,delete"})

    def compacted(**changes):
        return [text for text in findings(place, "warn", **changes)[1] if "compacted" in text]
    found = compacted()
    assert len(found) == 1 and "route default: 2 topics are compacted" in found[0] and "min.compaction.lag.ms" in found[0], found
    assert all((f"{place.prefix}.{kind}.events" in found[0]) == (kind != "kept") for kind in ("first", "second", "kept")), found
    assert not compacted(route__default={"topics": f"{place.prefix}.kept.events"})
    assert not compacted(insert={"enabled": "false"})


def test_topics_by_every_column_of_their_template(place):
    topics = {"topic": "{prefix}.{event_type:1}.{aggregate_type}.{aggregate_id}"}
    place.execute("INSERT INTO outbox_events (aggregate_type, aggregate_id, event_type, payload) SELECT kind, "
                  "('00000000-0000-0000-0000-00000000000' || n)::uuid, 'post.created', '{}' FROM unnest('{first,second}'::text[]) k(kind), "
                  "generate_series(1, 2) n, generate_series(1, 3)")
    absent = [text for text in fails(place, "post", publish=topics) if "waits for topic" in text]
    names = [f"{place.prefix}.post.{kind}.00000000-0000-0000-0000-00000000000{n}" for kind in ("first", "second") for n in (1, 2)]
    assert len(absent) == 4 and all(any(f"topic {name}," in text for text in absent) for name in names), absent
    place.servers.create_topics(names, 1)
    code, texts = findings(place, publish=topics)
    assert code == 0 and any("events wait, 4 topics for them found" in text for text in texts), texts
    assert not any("a part was looked at" in text for text in texts), texts
    place.execute("ALTER TABLE outbox_events ALTER COLUMN aggregate_type TYPE bytea USING convert_to(aggregate_type, 'UTF8')")
    code, texts = findings(place, publish=topics)
    assert code == 0 and any("events wait, 4 topics for them found" in text for text in texts), texts
    place.execute("INSERT INTO outbox_events (aggregate_type, aggregate_id, event_type, payload) SELECT 'first', gen_random_uuid(), "
                  "'post.created', '{}' FROM generate_series(1, 200)")
    code, texts = findings(place, publish=topics)
    assert code == 1 and any("a part was looked at" in text for text in texts), texts
    place.execute("ALTER TABLE outbox_events ALTER COLUMN aggregate_type DROP NOT NULL; UPDATE outbox_events SET aggregate_type = NULL")
    assert warns(place, "aggregate_type is NULL", publish=topics) == 0


def test_the_receipt_topic_is_looked_at_before_topics_of_events(place):
    place.servers.create_topics([f"{place.name}-receipts"], 1)
    place.servers.create_topics([f"{place.prefix}.t{n}.events" for n in range(200)], 1)
    place.execute("INSERT INTO outbox_events (aggregate_type, aggregate_id, event_type, payload) SELECT 'post', gen_random_uuid(), "
                  "format('t%s.made', n), '{}' FROM generate_series(0, 199) n")
    assert len(fails(place, "cleanup.policy=delete")) == 1
    assert any("the settings of 200 topics were looked at: there are more" in text for text in findings(place, "ok")[1])


def test_tables_of_clickhouse(place):
    place.clickhouse("CREATE TABLE {db}.plain (n Int32) ENGINE = MergeTree ORDER BY n")
    route = {"route__plain": {"topics": "plain", "table": "plain", "n": "$.n"}}
    warns(place, "ADD COLUMN IF NOT EXISTS kafka_topic", **route)
    warns(place, "MODIFY SETTING non_replicated_deduplication_window = 100000", **route)
    warns(place, "route second: it never gets the messages of orders: [route plain] stands before it",
          route__plain=route["route__plain"] | {"topics": "^ord"}, route__second={"topics": "orders", "table": "plain", "n": "$.m"})
    fails(place, "route wrong", route__wrong={"topics": "plain", "table": "plain", "n": "$.n", "m": "$.m"})
    fails(place, "table nowhere", route__gone={"topics": "plain", "table": "nowhere", "n": "$.n"})
    url = place.servers.clickhouse_url
    fails(place, "is not replicated", clickhouse={"url": url + "," + url.replace("127.0.0.1", "localhost")})
    place.clickhouse("DROP TABLE {db}.outbox_relay_dead_letters")
    fails(place, "table outbox_relay_dead_letters")
    fails(place, "migrate clickhouse up", clickhouse={"database": "no_such_database"})


def test_an_insert_that_the_server_would_refuse(place):
    """By rights and by constraints of the user's profile, which system tables do not tell."""
    table = f"outbox_relay.{place.name}"
    place.clickhouse(f"CREATE TABLE {table} (n Int32, kafka_topic String, kafka_partition Int32, kafka_offset Int64, INDEX i kafka_offset TYPE minmax) "
                     "ENGINE = MergeTree ORDER BY n SETTINGS non_replicated_deduplication_window = 100")
    route = {"route__small": {"topics": "small", "table": table, "n": "$.n"}}
    for compression in ("lz4", "none"):
        _, texts = findings(place, "ok", clickhouse={"compression": compression}, **route)
        assert f"route small: {table} (MergeTree, 0 views) can be filled exactly once; " in texts, texts
    assert place.clickhouse(f"SELECT count() FROM system.parts WHERE database || '.' || table = '{table}'") == "0\n"
    reader = {"user": "reader", "database": "outbox_relay"}
    texts = fails(place, f"grant INSERT(n, kafka_topic, kafka_partition, kafka_offset) ON {table}", clickhouse=reader | {"request_timeout": "20s"}, **route)
    assert any("docs/schema.md, ClickHouse grants" in text for text in texts), texts
    texts = fails(place, "route small: an INSERT without rows, as a trial: ", clickhouse=reader, **route)
    assert any("max_execution_time" in text and "whose constraints allow this" in text for text in texts), texts
    place.clickhouse(f"DROP TABLE {table}")


class Balancer(http.server.BaseHTTPRequestHandler):
    """ClickHouse as it is, but that every second connection says that it is another server."""
    protocol_version = "HTTP/1.1"
    connections = itertools.count()
    target = None
    asked = b""

    def setup(self):
        super().setup()
        self.name = f"replica-{next(self.connections) % 2}"

    def path_on(self):
        return self.path

    def do_POST(self):
        self.asked = body = b"".join(iter(self.chunk, b""))
        if body.startswith(b"SELECT hostName()"):
            return self.answer(200, f"{self.name}\t{uuid.UUID(int=1)}\n".encode())
        headers = {name: value for name, value in self.headers.items() if name.startswith("X-ClickHouse")}
        try:
            with open_direct(urllib.request.Request(self.target + self.path_on(), data=body, headers=headers), 20) as answer:
                return self.answer(answer.status, answer.read())
        except urllib.error.HTTPError as error:
            return self.answer(error.code, error.read())

    def chunk(self):
        piece = self.rfile.read(int(self.rfile.readline(), 16))
        self.rfile.readline()
        return piece

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving(handler):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_servers_that_share_a_url_are_noticed(place):
    Balancer.target = place.servers.clickhouse_url
    with serving(Balancer) as url:
        warns(place, f"{url}: several servers answer there, replica-", clickhouse={"url": url})
    _, texts = findings(place, "warn")
    assert not any("several servers" in text for text in texts), texts


class Purifier(Balancer):
    """A proxy with query ids of its own, as chproxy, or one that drops settings, or both."""
    new_id = drops = False

    def path_on(self):
        url = urllib.parse.urlsplit(self.path)
        sent = urllib.parse.parse_qsl(url.query)
        kept = ("query", "database", "default_format", "query_id") if self.drops else [name for name, _ in sent]
        parameters = [(name, "another" if name == "query_id" and self.new_id else value) for name, value in sent if name in kept]
        return f"{url.path}?{urllib.parse.urlencode(parameters)}"


def test_a_proxy_that_changes_requests_is_noticed(place):
    Balancer.target = place.servers.clickhouse_url
    for Purifier.new_id, Purifier.drops, words in ((True, True, "query ids and settings do"), (True, False, "query ids do"), (False, True, "settings do"),
                                                   (False, False, None)):
        with serving(Purifier) as url:
            _, texts = findings(place, "FAIL", clickhouse={"url": url})
        told = [text for text in texts if "not arrive at the server as sent" in text]
        assert len(told) == (words is not None) and all(f"{url}: {words} not arrive" in text for text in told), texts


class Replica(Balancer):
    """ClickHouse as it is, but that it says that its tables are replicated, and refuses INSERTs where it lacks them, or who may not SELECT."""
    path_in_keeper = "/one"
    lacks = hides = False

    def answer(self, status, body):
        if self.lacks and "query=INSERT" in self.path:
            status, body = 404, b"Code: 60. DB::Exception: Unknown table. (UNKNOWN_TABLE)"
        elif self.hides and b" FROM `" in self.asked:
            status, body = 403, b"Code: 497. DB::Exception: relay: Not enough privileges. (ACCESS_DENIED)"
        elif self.asked.startswith(b"SYSTEM SYNC REPLICA"):
            status, body = 200, b""
        elif self.asked.startswith(b"SELECT zookeeper_path"):
            body = self.path_in_keeper.encode() + b"\n"
        elif b" FROM system.tables" in self.asked:
            body = body.replace(b"MergeTree", b"ReplicatedMergeTree")
        super().answer(status, body)


def test_each_url_is_asked_for_the_tables(place):
    class Elsewhere(Replica):
        path_in_keeper = "/two"

    class Lacking(Replica):
        lacks = True

    class Hiding(Replica):
        hides = True
    Balancer.target = place.servers.clickhouse_url
    with serving(Hiding) as hiding:
        texts = fails(place, f"what the table has could not be read back: reading back offsets: {hiding}: ", clickhouse={"url": hiding})
        assert any("docs/schema.md, ClickHouse grants" in text for text in texts), texts
        _, texts = findings(place, clickhouse={"url": hiding}, insert={"guarantee": "at_least_once"})
        assert not any("could not be read back" in text for text in texts), texts     # nor does the daemon ask
    with serving(Replica) as first, serving(Replica) as twin, serving(Elsewhere) as elsewhere, serving(Lacking) as lacking:
        _, texts = findings(place, clickhouse={"url": f"{first},{twin}"})
        assert any("can be filled exactly once" in text for text in texts), texts
        assert not any("replicas of one table" in text or "as a trial" in text for text in texts), texts
        texts = fails(place, f"its path in Keeper is /one at {first}, and /two at {elsewhere}", clickhouse={"url": f"{first},{elsewhere}"})
        assert any(text.startswith("dead letters clickhouse: the urls have no replicas of one table") for text in texts), texts
        texts = fails(place, f"an INSERT without rows, as a trial: {lacking}: ", clickhouse={"url": f"{first},{lacking}"})
        assert not any("replicas of one table" in text for text in texts), texts


class Manager(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/am/api/v2/status" else 404)
        self.end_headers()

    def log_message(self, *_):
        pass


def test_an_alertmanager_is_asked_for_its_status_and_no_target_for_more(place):
    with serving(Manager) as url:
        code, texts = findings(place, "ok", alert={"alertmanager_url": url + "/am", "webhook_url": url + "/hook/secret"})
        assert any("is an Alertmanager" in text for text in texts) and any("no message was sent" in text for text in texts), (code, texts)
        assert not any("secret" in text for text in texts)
        fails(place, "answers /api/v2/status with 404", alert={"alertmanager_url": url})


@needs_pgbouncer
@pytest.mark.parametrize("mode, settings, level, words", [
    ("transaction", {}, "FAIL", "transaction mode"), ("transaction", {"default_pool_size": 1}, "FAIL", "transaction mode"),
    ("transaction", {"server_round_robin": 1, "min_pool_size": 4}, "FAIL", "transaction mode"), ("session", {}, "warn", "a PAUSE of the relay's entry waits"),
    ("session", {"default_pool_size": 1}, "FAIL", "gives no second session")])
def test_a_pooler_is_noticed_and_left_as_it_was(place, mode, settings, level, words):
    with pooler(place, mode, **settings) as dsn:
        _, texts = findings(place, level, postgres={"dsn": dsn})
        assert any(words in text for text in texts), findings(place, None, postgres={"dsn": dsn})
        assert left_in_sessions(dsn) == []


def test_options_are_told_where_they_belong(no_place):
    before = subprocess.run([program(no_place.binary), "--config", "x.ini", "check"], capture_output=True, text=True, check=False)
    assert before.returncode == 2 and "options come behind the command" in before.stderr
    unknown = subprocess.run([program(no_place.binary), "check", "--nonsense"], capture_output=True, text=True, check=False)
    assert unknown.returncode == 2 and unknown.stderr.startswith("outbox-relay check: "), unknown.stderr


def test_bad_usage_and_bad_configuration(no_place):
    assert run(no_place, "everything").returncode == 2
    result = run(no_place, publish={"guarantee": "maybe"})
    assert result.returncode == 78 and "guarantee" in result.stderr
